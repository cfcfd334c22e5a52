"""A gate that asks for a level, behind every framework: who misses it is sent to the
page that asks for more, and comes back.

Each framework's site of `outside` gets its gate in the framework's own way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from django.test import override_settings  # type: ignore[import-untyped]
from litestar.middleware.base import DefineMiddleware
from starlette.middleware import Middleware

from coatcheck import AsyncSessions, Session, Sessions
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.web import aiohttp, asgi, falcon, flask, quart, sanic, tornado, wsgi
from tests.outside import FRAMEWORKS, Answer, Reply
from tests.outside.frameworks import django as django_sites
from tests.outside.frameworks import falcon as falcon_sites
from tests.outside.frameworks import litestar as litestar_sites
from tests.outside.frameworks import pyramid as pyramid_sites
from tests.outside.frameworks import tornado as tornado_sites
from tests.outside.sockets import about_to_read

GATE = LoginGate(level=2, step_up="/confirm")
HTMX = [("HX-Request", "true"), ("HX-Current-URL", "https://site.example/account?a=1")]
PAGE = [("Sec-Fetch-Mode", "navigate")]

Build = Callable[[str, Any, Any], Any]


def with_gate(add: Callable[[Any], Any]) -> Build:
    def build(name: str, sessions: Any, view: Any) -> Any:
        app = FRAMEWORKS[name].build(sessions, view)
        add(app)
        return app

    return build


def within(middleware: Any) -> Build:
    """A middleware of the protocol's, around what the sessions are around."""
    return with_gate(lambda app: setattr(app, "app", middleware(app.app, GATE)))


@web.middleware
async def asking(request: web.Request, handler: Any) -> Any:
    about_to_read()  # else the driver waits for a view that does not run
    return await handler(request)


def of_django(name: str, sessions: Any, view: Any) -> Any:
    build: Any = django_sites.FRAMEWORKS[name].build
    with override_settings(COATCHECK_GATE=f"{__name__}.GATE"):
        return build(sessions, view, ["coatcheck.web.django.LoginMiddleware"])


def of_falcon_asgi(name: str, sessions: Any, view: Any) -> Any:
    app = falcon_sites.asgi_app(sessions, view)
    app.add_middleware(falcon.AsyncLoginMiddleware(GATE))
    return falcon_sites.with_a_slow_body(app)


def of_litestar(name: str, sessions: Any, view: Any) -> Any:
    gate: Any = DefineMiddleware(asgi.LoginMiddleware, gate=GATE)  # type: ignore[arg-type]
    return litestar_sites.app_of(sessions, view, middleware=[gate])


def of_pyramid(name: str, sessions: Any, view: Any) -> Any:
    return pyramid_sites.pyramid(sessions, view, GATE)


def of_tornado(name: str, sessions: Any, view: Any) -> Any:
    return tornado_sites.build(sessions, view, type("Mixin", (tornado.LoginMixin,), {"gate": GATE}))


starlette = with_gate(
    lambda app: app.user_middleware.append(Middleware(asgi.LoginMiddleware, gate=GATE))
)
GATES: dict[str, Build] = {
    "asgi": within(asgi.LoginMiddleware),
    "starlette": starlette,
    "fastapi": starlette,
    "wsgi": within(wsgi.LoginMiddleware),
    "bottle": within(wsgi.LoginMiddleware),
    "django": of_django,
    "django-async": of_django,
    "pyramid": of_pyramid,
    "flask": with_gate(lambda app: app.before_request(flask.require_login(GATE))),
    "quart": with_gate(lambda app: app.before_request(quart.require_login(GATE))),
    "aiohttp": with_gate(
        lambda app: app.middlewares.extend([asking, aiohttp.login_middleware(GATE)])
    ),
    "falcon": with_gate(lambda app: app.add_middleware(falcon.LoginMiddleware(GATE))),
    "falcon-asgi": of_falcon_asgi,
    "litestar": of_litestar,
    "sanic": with_gate(lambda app: sanic.setup_gate(app, GATE)),
    "tornado": of_tornado,
}


@contextmanager
def site(framework: str, sessions: Sessions, store: MemoryStore) -> Iterator[Any]:
    """What it answers to these headers."""
    chosen = FRAMEWORKS[framework]
    made: Any = AsyncSessions(AsyncMemoryStore(store)) if chosen.is_async else sessions
    driver = chosen.driver(GATES[framework](framework, made, view))

    def post(*headers: tuple[str, str]) -> Answer:
        return driver.begin(b"x", list(headers), lambda head: None).end()

    yield post
    driver.close()


def view(session: Session, body: bytes) -> Reply:
    return Reply(body=b"level %d" % (session.level or 0))


def logged_in(sessions: Sessions, level: int) -> tuple[str, str]:
    session = sessions.open(None)
    session.login("user:42", level=level)
    return "Cookie", sessions.commit(session)[0].partition(";")[0]


@pytest.mark.parametrize("framework", GATES)
def test_a_level_is_asked_for(framework: str) -> None:
    """A page is redirected, and a fragment is told with the way back; a higher level passes."""
    store = MemoryStore()
    sessions = Sessions(store)
    low, high = (logged_in(sessions, level) for level in (1, 2))
    with site(framework, sessions, store) as post:
        page, fragment, passed = post(low, *PAGE), post(low, *HTMX), post(high, *PAGE)

    assert (303, "/confirm") == (page.status, urlsplit(page["location"]).path)
    assert (401, "/confirm?next=/account%3Fa%3D1") == (fragment.status, fragment["hx-redirect"])
    assert 'acr_values="2"' in (fragment["www-authenticate"] or "")
    assert (200, b"level 2") == (passed.status, passed.body)


def test_every_framework_has_a_gate() -> None:
    """The second ways of some to be served are no frameworks of their own."""
    others = {"flask-propagating", "quart-propagating", "litestar-raising"}

    assert set(GATES) | others == set(FRAMEWORKS)
