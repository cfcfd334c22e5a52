"""What other sites send, behind every framework: refused before the view runs, and without a trace.

Each framework's site of `outside` gets its check in the framework's own way. It stands inside the
sessions, where a token can be asked for too.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from litestar.middleware.base import DefineMiddleware
from starlette.middleware import Middleware

from coatcheck import AsyncSessions, Session, Sessions
from coatcheck.csrf import CrossOriginProtection
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from coatcheck.web import aiohttp, asgi, falcon, flask, quart, sanic, tornado, wsgi
from tests.outside import FRAMEWORKS, Answer, Reply
from tests.outside.frameworks import falcon as falcon_sites
from tests.outside.frameworks import litestar as litestar_sites
from tests.outside.frameworks import tornado as tornado_sites
from tests.outside.sockets import about_to_read

CROSS = [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")]
SAME = [("Sec-Fetch-Site", "same-origin")]
FORM = ("Content-Type", "application/x-www-form-urlencoded")

Guard = Callable[[str, Any, Any, CrossOriginProtection], Any]


def within(middleware: Any) -> Guard:
    """A middleware of the protocol's, around what the sessions are around."""

    def guard(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
        app = FRAMEWORKS[name].build(sessions, view)
        app.app = middleware(app.app, rule)
        return app

    return guard


def around(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    return wsgi.CSRFMiddleware(FRAMEWORKS[name].build(sessions, view), rule)


def of_starlette(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    app = FRAMEWORKS[name].build(sessions, view)
    app.user_middleware.append(Middleware(asgi.CSRFMiddleware, protection=rule))
    return app


def set_up(setup: Any) -> Guard:
    def guard(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
        app = FRAMEWORKS[name].build(sessions, view)
        setup(app, rule)
        return app

    return guard


def of_aiohttp(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    @web.middleware
    async def asking(request: web.Request, handler: Any) -> Any:
        about_to_read()  # as the check may, too
        return await handler(request)

    app = FRAMEWORKS[name].build(sessions, view)
    app.middlewares.extend([asking, aiohttp.csrf_middleware(rule)])
    return app


def of_django(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    build: Any = FRAMEWORKS[name].build
    assert not rule.tokens
    return build(sessions, view, ["coatcheck.web.django.CSRFMiddleware"])


def of_falcon(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    app = falcon_sites.falcon_wsgi(sessions, view)
    app.add_middleware(falcon.CSRFMiddleware(rule))
    return app


def of_falcon_asgi(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    app = falcon_sites.asgi_app(sessions, view)
    app.add_middleware(falcon.AsyncCSRFMiddleware(rule))
    return falcon_sites.with_a_slow_body(app)


def of_litestar(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    check: Any = DefineMiddleware(asgi.CSRFMiddleware, protection=rule)  # type: ignore[arg-type]
    return litestar_sites.app_of(sessions, view, middleware=[check])


def of_tornado(name: str, sessions: Any, view: Any, rule: CrossOriginProtection) -> Any:
    mixin = type("Mixin", (tornado.CSRFMixin,), {"protection": rule})
    return tornado_sites.build(sessions, view, mixin)


GUARDS: dict[str, Guard] = {
    "asgi": within(asgi.CSRFMiddleware),
    "starlette": of_starlette,
    "fastapi": of_starlette,
    "wsgi": within(wsgi.CSRFMiddleware),
    "bottle": within(wsgi.CSRFMiddleware),
    "pyramid": around,
    "flask": set_up(flask.setup_csrf),
    "quart": set_up(quart.setup_csrf),
    "aiohttp": of_aiohttp,
    "django": of_django,
    "django-async": of_django,
    "falcon": of_falcon,
    "falcon-asgi": of_falcon_asgi,
    "litestar": of_litestar,
    "sanic": set_up(sanic.setup_csrf),
    "tornado": of_tornado,
}
WITH_TOKENS = sorted(set(GUARDS) - {"pyramid", "django", "django-async"})
"""Pyramid and Django check tokens themselves."""
WITH_FORMS = sorted(set(WITH_TOKENS) - {"sanic", "tornado"})
"""In these two a body that the app reads as it comes, as this site's does, is not parsed."""


class Site:
    """A guarded site whose view counts in its session."""

    def __init__(self, framework: str, rule: CrossOriginProtection) -> None:
        chosen = FRAMEWORKS[framework]
        self.store, clock = MemoryStore(), Clock()
        self.inside = Sessions(self.store, clock=clock)
        session = self.inside.open(None)
        session.login("user:42")
        self.cookie = self.inside.commit(session)[0].partition(";")[0]
        sessions: Any = self.inside
        if chosen.is_async:
            sessions = AsyncSessions(AsyncMemoryStore(self.store), clock=clock)
        self.ran = 0
        self.driver = chosen.driver(GUARDS[framework](framework, sessions, self.view, rule))

    def view(self, session: Session, body: bytes) -> Reply:
        self.ran += 1
        session["n"] = session.get("n", 0) + 1
        return Reply()

    def post(self, *headers: tuple[str, str], body: bytes = b"x") -> Answer:
        sent = [("Cookie", self.cookie), *headers]
        return self.driver.begin(body, sent, lambda head: None).end()

    @property
    def token(self) -> str:
        return self.inside.open(self.cookie).csrf_token


@pytest.fixture
def make() -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(framework: str, **options: Any) -> Site:
        made.append(Site(framework, CrossOriginProtection(**options)))
        return made[-1]

    yield make
    for site in made:
        site.driver.close()


def test_every_framework_has_a_guard() -> None:
    """But for the second ways of some to be served."""
    others = {"flask-propagating", "quart-propagating", "litestar-raising"}

    assert set(GUARDS) | others == set(FRAMEWORKS)


@pytest.mark.parametrize("framework", GUARDS)
def test_another_sites_post_changes_nothing(framework: str, make: Callable[..., Site]) -> None:
    """403: the view does not run, no cookie is set, the store is as it was. This site's own may."""
    site = make(framework)
    before = site.store.page("", 10, 0)
    refused = site.post(*CROSS)

    assert (403, 0, []) == (refused.status, site.ran, refused.cookies)
    assert before == site.store.page("", 10, 0)
    assert "no-store" == refused["cache-control"]
    assert {"sec-fetch-site", "origin"} <= members(refused["vary"])
    assert "cookie" not in members(refused["vary"])
    assert (200, 1) == (site.post(*SAME).status, site.inside.open(site.cookie)["n"])


def members(vary: str | None) -> set[str]:
    return {member.strip().lower() for member in (vary or "").split(",")}


@pytest.mark.parametrize("framework", [name for name in GUARDS if FRAMEWORKS[name].is_async])
def test_repeated_headers_are_not_believed(framework: str, make: Callable[..., Site]) -> None:
    """No browser sends them, and nobody knows which one counts. WSGI servers join them."""
    site = make(framework)

    assert (403, 0) == (site.post(*SAME, *CROSS).status, site.ran)


@pytest.mark.parametrize("framework", WITH_TOKENS)
def test_a_token_in_the_header(framework: str, make: Callable[..., Site]) -> None:
    """Where the rule asks for one, a request without it, or with another's, is refused."""
    site = make(framework, tokens=True)
    good = ("X-CSRF-Token", site.token)
    answers = [
        site.post(*SAME),
        site.post(*SAME, ("X-CSRF-Token", "x")),
        site.post(*CROSS, good),
        site.post(*SAME, good),
    ]

    assert [403, 403, 403, 200] == [answer.status for answer in answers]
    assert 1 == site.ran


@pytest.mark.parametrize("framework", WITH_FORMS)
def test_a_token_in_a_form(framework: str, make: Callable[..., Site]) -> None:
    """In the field of that name."""
    site = make(framework, tokens=True)
    bodies = [b"csrf_token=x", f"a=1&csrf_token={site.token}".encode()]

    assert [403, 200] == [site.post(*SAME, FORM, body=body).status for body in bodies]
    assert 1 == site.ran


PART = b'--b\r\nContent-Disposition: form-data; name="csrf_token"\r\n'
MULTIPART = "multipart/form-data; boundary=b"
NO_FORMS = [
    ("multipart/form-data", b"x"),
    (MULTIPART, b"x"),
    (MULTIPART, PART + b"\r\nx"),
    (MULTIPART, PART + b"Content-Transfer-Encoding: none such\r\n\r\nx\r\n--b--\r\n"),
    (MULTIPART, PART + b"Content-Encoding: gzip\r\n\r\nx\r\n--b--\r\n"),
    (MULTIPART, PART + b"Content-Type: text/plain; charset=none\r\n\r\n\xff\r\n--b--\r\n"),
    (MULTIPART, PART + b"\r\n\xff\r\n--b--\r\n"),
    (f"{MULTIPART}; charset=undefined", PART + b"\r\nx\r\n--b--\r\n"),
    (f"{FORM[1]}; charset=undefined", b"csrf_token=%ff"),
]


@pytest.mark.parametrize("framework", WITH_TOKENS)
def test_a_body_that_is_no_form_holds_no_token(framework: str, make: Callable[..., Site]) -> None:
    """It is refused, and nobody's error."""
    site = make(framework, tokens=True)
    sent = [site.post(*SAME, ("Content-Type", kind), body=body).status for kind, body in NO_FORMS]

    assert {400, 403} >= set(sent), sent
    assert 0 == site.ran
