"""Flask: its signed cookie, and Flask-Session."""

from collections.abc import Callable
from typing import Any

from cachelib.file import FileSystemCache
from flask import Flask, session
from flask.sessions import SecureCookieSession, SessionInterface
from flask_session import Session  # type: ignore[import-untyped]
from redis import Redis

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, SECRET, Build, Place, ours
from coatcheck.web.flask import CoatcheckSessionInterface

__all__ = ["APPS"]


def _app(**settings: Any) -> Flask:
    app = Flask("benchmarks", static_folder=None)
    app.config.update(SECRET_KEY=SECRET, **settings)
    for name, act in ACTS.items():
        app.add_url_rule(f"/{name}", name, _view(act))
    app.add_url_rule("/untouched", "untouched", lambda: OK)
    return app


def _view(act: Act) -> Callable[[], str]:
    return lambda: act(session)


class _NoSession(SessionInterface):
    """The least that Flask asks for."""

    def open_session(self, app: Flask, request: Any) -> SecureCookieSession:
        return SecureCookieSession()

    def save_session(self, app: Flask, session: Any, response: Any) -> None:
        pass


def _with_interface(interface: SessionInterface) -> Flask:
    app = _app()
    app.session_interface = interface
    return app


def _redis(place: Place) -> Flask:
    app = _app(SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(place.redis))
    Session(app)
    return app


def _files(place: Place) -> Flask:
    files = FileSystemCache(f"{place.folder}/flask-session", threshold=5000)
    app = _app(SESSION_TYPE="cachelib", SESSION_CACHELIB=files)
    Session(app)
    return app


APPS: dict[str, Build] = {
    "bare": lambda place: _with_interface(_NoSession()),
    "signed cookie": lambda place: _app(),
    "Flask-Session, files": _files,
    "Flask-Session, Redis": _redis,
    **ours(lambda sessions: _with_interface(CoatcheckSessionInterface(sessions))),
}
