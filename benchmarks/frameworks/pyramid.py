"""Pyramid: its signed cookie, and pyramid-session-redis."""

from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator  # type: ignore[import-untyped]
from pyramid.response import Response  # type: ignore[import-untyped]
from pyramid.session import SignedCookieSessionFactory  # type: ignore[import-untyped]
from pyramid_session_redis import RedisSessionFactory

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, SECRET, Build, Place, ours
from coatcheck import Sessions

__all__ = ["APPS"]


def _view(act: Act) -> Callable[[Any], Any]:
    return lambda request: Response(act(request.session), content_type="text/plain")


def _configured(factory: Any = None) -> Any:
    config = Configurator(session_factory=factory)
    views = {name: _view(act) for name, act in ACTS.items()}
    views["untouched"] = lambda request: Response(OK, content_type="text/plain")
    for name, view in views.items():
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name)
    return config


def _app(factory: Any = None) -> Any:
    return _configured(factory).make_wsgi_app()


def _redis(place: Place) -> Any:
    return _app(RedisSessionFactory(secret=SECRET, redis_url=place.redis))


def _coatcheck(sessions: Sessions) -> Any:
    config = _configured()
    config.include("coatcheck.web.pyramid")
    config.set_coatcheck_sessions(sessions)
    return config.make_wsgi_app()


APPS: dict[str, Build] = {
    "bare": lambda place: _app(),
    "signed cookie": lambda place: _app(SignedCookieSessionFactory(SECRET)),
    "pyramid-session-redis": _redis,
    **ours(_coatcheck),
}
