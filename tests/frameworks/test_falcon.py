"""The Falcon adapter, under WSGI and ASGI: what it adds to the laws seen from outside."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from io import BytesIO
from typing import Any

import anyio
import falcon
import falcon.asgi
import pytest
from falcon import testing

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Contention,
    Cookie,
    Session,
    SessionClosed,
    Sessions,
    StoreUnavailable,
    current,
)
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web import asgi, wsgi
from coatcheck.web.falcon import (
    AsyncCSRFMiddleware,
    AsyncLoginMiddleware,
    AsyncSessionMiddleware,
    CSRFMiddleware,
    LoginMiddleware,
    SessionMiddleware,
    async_handle_outage,
    async_login_required,
    handle_outage,
    login_required,
)
from tests.frameworks.distant import DistantStore
from tests.outside import PATIENCE, asgi_scope, wsgi_call, wsgi_environ
from tests.test_asgi import played
from tests.test_laws import Flaky

Act = Callable[[Any, Any], object]
Hook = Callable[[Any, Any], object]
PAGE = {"Accept": "text/html"}
OUTAGES = (StoreUnavailable, Contention)


class Site:
    """A Falcon app of either kind, whose one page does this to the request and the response."""

    def __init__(self, kind: str, act: Act, store: MemoryStore | None = None) -> None:
        self.is_async = kind == "asgi"
        self.store = store or MemoryStore()
        self.clock = Clock()
        made: Any = AsyncSessions if self.is_async else Sessions
        self.sessions = made(self.inner(), clock=self.clock)
        self.inside = Sessions(self.store, clock=self.clock)
        self.act = act
        self.middleware: list[object] = [self.session_middleware()]

    def inner(self) -> Any:
        return AsyncMemoryStore(self.store) if self.is_async else self.store

    def session_middleware(self, **options: Any) -> Any:
        kind: Any = AsyncSessionMiddleware if self.is_async else SessionMiddleware
        return kind(self.sessions, **{"sweep": None, **options})

    def app(self, **options: Any) -> Any:
        kind: Any = falcon.asgi.App if self.is_async else falcon.App
        app = kind(middleware=self.middleware, **options)
        app.add_route("/", resource(self.is_async, self.act))
        return app

    def client(self, **options: Any) -> testing.TestClient:
        return testing.TestClient(self.app(**options))

    def ask(self, **options: Any) -> Any:
        return self.client().simulate_get("/", **options)

    def logged_in(self, **values: Any) -> dict[str, str]:
        """The cookies of a session that is user:42's."""
        session = self.inside.open(None)
        session.login("user:42")
        session.update(values)
        name, _, value = self.inside.commit(session)[0].partition(";")[0].partition("=")
        return {name: value}

    def stored(self, cookies: dict[str, str]) -> dict[str, Any]:
        return dict(self.inside.open("; ".join(f"{k}={v}" for k, v in cookies.items())))


def resource(is_async: bool, act: Act) -> object:
    class Page:
        def on_get(self, req: Any, resp: Any) -> None:
            act(req, resp)

    class AsyncPage:
        async def on_get(self, req: Any, resp: Any) -> None:
            act(req, resp)

    return AsyncPage() if is_async else Page()


def component(is_async: bool, before: Hook | None = None, after: Hook | None = None) -> object:
    """A middleware of the app's own."""

    class Component:
        def process_request(self, req: Any, resp: Any) -> None:
            (before or nothing)(req, resp)

        def process_response(self, req: Any, resp: Any, resource: Any, succeeded: bool) -> None:
            (after or nothing)(req, resp)

    class AsyncComponent:
        async def process_request(self, req: Any, resp: Any) -> None:
            (before or nothing)(req, resp)

        async def process_response(self, req: Any, resp: Any, resource: Any, ok: bool) -> None:
            (after or nothing)(req, resp)

    return AsyncComponent() if is_async else Component()


def nothing(req: Any, resp: Any) -> None:
    pass


def put(key: str, value: Any) -> Act:
    return lambda req, resp: req.context.session.__setitem__(key, value)


def fail(req: Any, resp: Any) -> None:
    raise RuntimeError("a hook that fails")


Make = Callable[..., Site]


@pytest.fixture(params=["wsgi", "asgi"])
def make(request: pytest.FixtureRequest) -> Make:
    """A site of either kind."""
    return lambda *args, **options: Site(request.param, *args, **options)


class TestThePlace:
    def test_the_session_is_in_the_context(self, make: Make) -> None:
        """The very one that `current()` gives."""
        found: list[bool] = []
        make(lambda req, resp: found.append(req.context.session is current())).ask()

        assert [True] == found

    def test_named_ones_are_beside_it(self, make: Make) -> None:
        """Each with a cookie of its own."""
        site = make(lambda req, resp: req.context.sessions["prefs"].update(theme="dark"))
        prefs = type(site.sessions)(site.inner(), cookie=Cookie("prefs"), clock=site.clock)
        site.middleware = [site.session_middleware(named={"prefs": prefs})]
        answer = site.ask()

        assert ["__Host-prefs"] == list(answer.cookies)

    def test_where_it_is_skipped_nothing_is_opened(self, make: Make) -> None:
        """Neither in the context, nor as `current()`."""

        def look(req: Any, resp: Any) -> None:
            assert not hasattr(req.context, "session")
            with pytest.raises(LookupError):
                current()
            resp.text = "looked"

        site = make(look)
        site.middleware = [site.session_middleware(skip=["/"])]

        assert "looked" == site.ask().text

    def test_after_the_request_there_is_none(self) -> None:
        """In the same thread, which goes on to serve others."""
        Site("wsgi", put("a", 1)).ask()

        with pytest.raises(LookupError):
            current()

    @pytest.mark.parametrize("place", ["here", "in a context of its own"])
    def test_an_app_may_be_asked_by_another(self, place: str) -> None:
        """In the same thread; afterwards `current()` is the asking one's again."""
        inner = Site("wsgi", lambda req, resp: setattr(resp, "text", str(current().subject)))
        client, cookies = inner.client(), inner.logged_in()
        found: list[object] = []

        def ask(req: Any, resp: Any) -> None:
            inside = copy_context() if place != "here" else None
            run = inside.run if inside else lambda call, *args, **options: call(*args, **options)
            found.append(run(client.simulate_get, "/", cookies=cookies).text)
            found.append(current() is req.context.session)

        Site("wsgi", ask).ask()

        assert ["user:42", True] == found

    def test_an_app_may_be_mounted_in_another(self) -> None:
        """With the same environ; each commits its own."""
        inner = Site("wsgi", put("inner", 1))
        outer = Site("wsgi", nothing)
        mounted, got = inner.app(), list[Any]()

        def mount(req: Any, resp: Any) -> None:
            current()["outer"] = 1
            resp.data = b"".join(mounted(req.env, lambda *head: got.extend(head[1])))

        outer.act = mount
        answer = outer.ask()

        assert ["__Host-session"] == list(answer.cookies)
        assert 1 == len(inner.store._records)

    def test_by_default_the_client_is_the_peer(self, make: Make) -> None:
        """Whatever `Forwarded` headers say."""
        site = make(lambda req, resp: req.context.session.login("user:42"))
        site.ask(headers={"User-Agent": "curl", "X-Forwarded-For": "1.2.3.4"})
        (info,) = site.inside.list_for("user:42")

        assert Client("127.0.0.1", "curl") == info.client

    def test_a_function_of_the_request_may_say_it(self, make: Make) -> None:
        """It gets Falcon's own request."""
        site = make(lambda req, resp: req.context.session.login("user:42"))

        def client(req: Any) -> Client:
            return Client(req.get_header("X-Real-Ip"), req.method)

        site.middleware = [site.session_middleware(client=client)]
        site.ask(headers={"X-Real-Ip": "192.0.2.7"})
        (info,) = site.inside.list_for("user:42")

        assert Client("192.0.2.7", "GET") == info.client

    def test_cookies_in_several_headers_are_read(self) -> None:
        """As HTTP/2 may send them; Falcon alone would fold them into one that is none."""
        found: list[str | None] = []
        site = Site("asgi", lambda req, resp: found.append(req.context.session.subject))
        ((name, value),) = site.logged_in().items()
        headers = [("Cookie", "theme=dark"), ("Cookie", f"{name}={value}"), ("Cookie", "b=2")]
        raw = [(k.lower().encode(), v.encode()) for k, v in headers]
        sent = asyncio.run(played(site.app(), asgi_scope(headers=raw), [{"type": "http.request"}]))

        assert (["user:42"], 200) == (found, sent[0]["status"])

    @pytest.mark.parametrize(
        ("middleware", "sessions", "words"),
        [
            (SessionMiddleware, AsyncSessions(AsyncMemoryStore()), "SessionMiddleware: expected S"),
            (AsyncSessionMiddleware, Sessions(MemoryStore()), "AsyncSessionMiddleware: expected A"),
        ],
    )
    def test_the_other_kind_of_sessions_is_refused(
        self, middleware: Any, sessions: Any, words: str
    ) -> None:
        """By the name of the class that was given them."""
        with pytest.raises(ConfigurationError, match=words):
            middleware(sessions)


class TestOrder:
    def test_a_middleware_listed_later_may_change_the_session(self, make: Make) -> None:
        """Before the responder and after it."""
        site = make(put("page", 1))
        site.middleware.append(component(site.is_async, put("before", 1), put("after", 1)))
        cookies = {k: v.value for k, v in site.ask().cookies.items()}

        assert {"before": 1, "page": 1, "after": 1} == site.stored(cookies)

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_one_listed_later_that_fails_drops_the_edits(self, make: Make, place: str) -> None:
        """Falcon makes a 500 of it before the commit."""
        site = make(put("page", 1))
        site.middleware.append(component(site.is_async, **{place: fail}))
        answer = site.ask()

        assert (500, {}) == (answer.status_code, answer.cookies)

    def test_one_listed_earlier_comes_too_late(self, make: Make) -> None:
        """Its change is told, and what was committed stays."""
        found: list[type[Exception]] = []

        def late(req: Any, resp: Any) -> None:
            with pytest.raises(SessionClosed):
                req.context.session["after"] = 1
            found.append(SessionClosed)

        site = make(put("page", 1))
        site.middleware.insert(0, component(site.is_async, after=late))
        cookies = {k: v.value for k, v in site.ask().cookies.items()}

        assert ({"page": 1}, [SessionClosed]) == (site.stored(cookies), found)

    def test_one_listed_earlier_may_answer(self, make: Make) -> None:
        """Then nothing is opened."""

        def answer(req: Any, resp: Any) -> None:
            resp.complete = True

        site = make(fail)
        site.middleware.insert(0, component(site.is_async, answer))

        assert 200 == site.ask(cookies=site.logged_in()).status_code

    def test_dependent_middleware_works_too(self, make: Make) -> None:
        """Where an earlier one fails, ours is not asked for anything."""
        site = make(put("page", 1))
        answer = site.client(independent_middleware=False).simulate_get("/")
        assert ["__Host-session"] == list(answer.cookies)
        site.middleware.insert(0, component(site.is_async, fail))

        assert 500 == site.client(independent_middleware=False).simulate_get("/").status_code


class TestCancellation:
    """Under ASGI."""

    @pytest.mark.parametrize("waits", [True, False])
    def test_a_cancelled_request_keeps_a_logout(self, waits: bool) -> None:
        """Whether the responder is cancelled, or its commit; nothing else is kept."""
        site = Site("asgi", nothing)
        site.sessions = AsyncSessions(DistantStore(site.store), clock=site.clock)
        site.middleware = [site.session_middleware()]
        scopes: list[anyio.CancelScope] = []

        class Leave:
            async def on_get(self, req: Any, resp: Any) -> None:
                req.context.session.logout()
                req.context.session["a"] = 1
                asyncio.get_running_loop().call_soon(scopes[0].cancel)
                if waits:
                    await asyncio.Event().wait()

        app = site.app()
        app.add_route("/leave", Leave())
        self.cut(site, app, asgi_scope(path="/leave", headers=shown(site.logged_in())), scopes)

    def test_a_cancelled_handshake_keeps_a_logout(self) -> None:
        """Before its socket is accepted."""
        site = Site("asgi", nothing)
        scopes: list[anyio.CancelScope] = []

        class Leave:
            async def on_websocket(self, req: Any, ws: Any) -> None:
                req.context.session.logout()
                scopes[0].cancel()
                await asyncio.Event().wait()

        app = site.app()
        app.add_route("/leave", Leave())
        headers = shown(site.logged_in())
        facts = asgi_scope(type="websocket", scheme="wss", path="/leave", headers=headers)
        self.cut(site, app, facts, scopes)

    @staticmethod
    def cut(site: Site, app: Any, facts: Any, scopes: list[anyio.CancelScope]) -> None:
        """The app's task is cancelled, and what it was to store is stored."""
        opening = {"http": "http.request", "websocket": "websocket.connect"}[facts["type"]]

        async def ask() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await played(app, facts, [{"type": opening}])

        async def main() -> None:
            await asyncio.create_task(ask())
            while site.inside.list_for("user:42"):
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert 0 == len(site.store._records)


def shown(cookies: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", f"{name}={value}".encode()) for name, value in cookies.items()]


class TestErrors:
    def test_what_cannot_be_rendered_drops_the_edits(self, make: Make) -> None:
        """Falcon renders `resp.media` last of all; an error there is the request's too."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = 2
            resp.media = object()

        site = make(act)
        cookies = site.logged_in(a=1)

        assert 500 == site.ask(cookies=cookies).status_code
        assert {"a": 1} == site.stored(cookies)

    def test_what_cannot_be_rendered_keeps_a_logout(self, make: Make) -> None:
        """And the 500 that Falcon makes of it deletes the cookie."""

        def act(req: Any, resp: Any) -> None:
            req.context.session.logout()
            resp.media = object()

        site = make(act)
        answer = site.ask(cookies=site.logged_in())

        assert (500, 0) == (answer.status_code, answer.cookies["__Host-session"].max_age)
        assert [] == site.inside.list_for("user:42")

    def test_an_error_that_the_app_answers_commits(self, make: Make) -> None:
        """By its status, as an answer."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = 2
            raise KeyError("a")

        def handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            resp.status = 400

        async def async_handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            resp.status = 400

        site = make(act)
        cookies = site.logged_in(a=1)
        app = site.app()
        app.add_error_handler(KeyError, async_handle if site.is_async else handle)
        answer = testing.TestClient(app).simulate_get("/", cookies=cookies)

        assert (400, {"a": 2}) == (answer.status_code, site.stored(cookies))

    def test_a_refused_commit_ends_the_stream(self, make: Make) -> None:
        """The 500 has a body of its own."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = "x" * 70_000
            resp.stream = parts(site.is_async)
            resp.content_type = "text/plain"

        site = make(act)
        answer = site.ask()

        assert (500, "500 Internal Server Error") == (answer.status_code, answer.json["title"])

    def test_a_refused_commit_ends_the_events(self) -> None:
        """Falcon would prefer them to the body of the 500."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = "x" * 70_000
            resp.sse = events()

        answer = Site("asgi", act).ask()

        assert (500, "500 Internal Server Error") == (answer.status_code, answer.json["title"])

    def test_an_error_that_a_handler_raises_again_goes_past_falcon(self, make: Make) -> None:
        """And past its middleware: nothing is kept."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = 2
            raise RuntimeError("a view that fails")

        def handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            raise error

        async def async_handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            raise error

        site = make(act)
        cookies = site.logged_in(a=1)
        app = site.app()
        app.add_error_handler(Exception, async_handle if site.is_async else handle)
        ask = testing.TestClient(app).simulate_get
        with pytest.raises(RuntimeError, match="a view that fails"):
            copy_context().run(ask, "/", cookies=cookies)

        assert {"a": 1} == site.stored(cookies)

    def test_what_such_an_error_left_is_not_the_next_requests(self) -> None:
        """In the same thread, on a path that is skipped."""

        def act(req: Any, resp: Any) -> None:
            raise RuntimeError("a view that fails")

        def handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            raise error

        def look(req: Any, resp: Any) -> None:
            with pytest.raises(LookupError):
                current()
            resp.text = "looked"

        site = Site("wsgi", act)
        site.middleware = [site.session_middleware(skip=["/skipped"])]
        app = site.app()
        app.add_error_handler(RuntimeError, handle)
        app.add_route("/skipped", resource(False, look))
        client = testing.TestClient(app)

        def thread() -> str:
            with pytest.raises(RuntimeError):
                client.simulate_get("/")
            return client.simulate_get("/skipped").text

        assert "looked" == copy_context().run(thread)


def again(error: Exception) -> None:
    raise error


def as_500(error: Exception) -> None:
    raise falcon.HTTPInternalServerError from error


def as_another(error: Exception) -> None:
    raise RuntimeError("a handler that fails") from error


def asgi_or_wsgi(site: Site, app: Any, sessions: Any) -> Any:
    """The app with the middleware around it."""
    if site.is_async:
        return asgi.SessionMiddleware(app, sessions, sweep=None)
    whole = wsgi.SessionMiddleware(app, sessions, sweep=None)

    def served(environ: Any, start_response: Any) -> Any:
        environ["wsgi.multiprocess"] = False  # Falcon's client says that there are several
        return whole(environ, start_response)

    return served


class TestHandlersThatRaise:
    """The app's own, for `Exception`."""

    def handled(self, site: Site, raises: Callable[[Exception], None]) -> Any:
        def handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            raises(error)

        async def async_handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            raises(error)

        app = site.app()
        app.add_error_handler(Exception, async_handle if site.is_async else handle)
        return app

    def around(self, site: Site, app: Any) -> Any:
        """As the documentation has it for apps with such handlers."""
        return asgi_or_wsgi(site, app, site.sessions)

    def ask(self, app: Any, cookies: dict[str, str]) -> Any:
        """In a context of its own: an error leaves what it was."""
        return copy_context().run(testing.TestClient(app).simulate_get, "/", cookies=cookies)

    @staticmethod
    def is_out_of_reach(answer: Any) -> bool:
        """The cookie is not touched."""
        return (503, "5", {}) == (
            answer.status_code,
            answer.headers.get("retry-after"),
            answer.cookies,
        )

    def test_a_500_of_an_outage_is_a_503(self, make: Make) -> None:
        """Where the session met it."""
        site = make(put("a", 2), flaky := Flaky())
        cookies = site.logged_in(a=1)
        flaky.down = {"load"}

        assert self.is_out_of_reach(self.ask(self.handled(site, as_500), cookies))

    def test_the_handler_of_outages_comes_first(self, make: Make) -> None:
        """Falcon asks the one of the nearer class."""
        site = make(put("a", 2), flaky := Flaky())
        cookies = site.logged_in(a=1)
        app = self.handled(site, again)
        app.add_error_handler(OUTAGES, async_handle_outage if site.is_async else handle_outage)
        flaky.down = {"load"}

        assert self.is_out_of_reach(self.ask(app, cookies))

    @pytest.mark.parametrize("raises", [again, as_another])
    def test_an_outage_goes_past_falcon(
        self, make: Make, raises: Callable[[Exception], None]
    ) -> None:
        """The server answers, and knows of no cookie."""
        site = make(put("a", 2), flaky := Flaky())
        cookies = site.logged_in(a=1)
        flaky.down = {"load"}
        with pytest.raises((StoreUnavailable, RuntimeError)):
            self.ask(self.handled(site, raises), cookies)
        flaky.down = set()

        assert {"a": 1} == site.stored(cookies)

    @pytest.mark.parametrize("raises", [again, as_another])
    @pytest.mark.parametrize("met", ["in the session", "elsewhere"])
    def test_the_middleware_around_the_app_makes_a_503_of_it(
        self, make: Make, met: str, raises: Callable[[Exception], None]
    ) -> None:
        """Whatever met it, and whatever was raised from it."""

        def act(req: Any, resp: Any) -> None:
            if met == "in the session":
                req.context.session["a"] = 2
            site.inside.ping()

        site = make(act, flaky := Flaky())
        cookies = site.logged_in(a=1)
        flaky.down = {"load"}
        app = self.around(site, self.handled(site, raises))

        assert self.is_out_of_reach(self.ask(app, cookies))

    def leaving(self, make: Make) -> Site:
        def act(req: Any, resp: Any) -> None:
            req.context.session.logout()
            req.context.session["a"] = 2
            raise KeyError("a view that fails")

        return make(act)

    def test_a_500_keeps_a_logout(self, make: Make) -> None:
        """And nothing else; the cookie is deleted."""
        site = self.leaving(make)
        answer = self.ask(self.handled(site, as_500), site.logged_in(a=1))

        assert (500, 0) == (answer.status_code, answer.cookies["__Host-session"].max_age)
        assert 0 == len(site.store._records)

    @pytest.mark.parametrize("raises", [again, as_another])
    def test_the_middleware_around_the_app_keeps_a_logout(
        self, make: Make, raises: Callable[[Exception], None]
    ) -> None:
        """And nothing else; the error goes on to the server."""
        site = self.leaving(make)
        app = self.around(site, self.handled(site, raises))
        with pytest.raises((KeyError, RuntimeError)):
            self.ask(app, site.logged_in(a=1))

        assert 0 == len(site.store._records)

    def test_without_it_wsgi_loses_the_logout(self) -> None:
        """Falcon tells nobody of the error, as the documentation says."""
        site = self.leaving(partial(Site, "wsgi"))
        with pytest.raises(RuntimeError):
            self.ask(self.handled(site, as_another), site.logged_in(a=1))

        assert 1 == len(site.inside.list_for("user:42"))

    def test_without_it_asgi_keeps_the_logout_when_the_task_ends(self) -> None:
        """And nothing else."""
        site = self.leaving(partial(Site, "asgi"))
        app = self.handled(site, as_another)
        scope = asgi_scope(path="/", headers=shown(site.logged_in(a=1)))

        async def main() -> None:
            task = asyncio.create_task(played(app, scope, [{"type": "http.request"}]))
            (message,) = await task
            assert isinstance(message["error"], RuntimeError)
            while site.store._records:
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(main(), PATIENCE))

    def test_what_is_around_commits_once(self, make: Make) -> None:
        """What it opened is in the context, and `current()`; ours does no more."""
        flaky = Flaky()

        def act(req: Any, resp: Any) -> None:
            assert req.context.session is current()
            assert {} == req.context.sessions
            req.context.session["a"] = 2

        site = make(act, flaky)
        cookies = site.logged_in(a=1)
        flaky.calls.clear()
        answer = self.ask(self.around(site, site.app()), cookies)

        assert (200, ["load", "save"]) == (answer.status_code, flaky.calls)
        assert {"a": 2} == site.stored(cookies)

    def test_what_other_sessions_opened_is_not_ours(self, make: Make) -> None:
        """Then each commits its own."""
        site = make(put("a", 1))
        made: Any = type(site.sessions)
        others = made(site.inner(), cookie=Cookie("other"), clock=site.clock)
        answer = self.ask(asgi_or_wsgi(site, site.app(), others), {})

        assert ["__Host-session"] == list(answer.cookies)

    def test_the_gate_takes_what_is_around(self, make: Make) -> None:
        """Where ours is listed before it, as ever."""
        site = make(nothing)
        kind: Any = AsyncLoginMiddleware if site.is_async else LoginMiddleware
        site.middleware.append(kind(LoginGate()))
        app = self.around(site, site.app())

        assert [401, 200] == [
            self.ask(app, cookies).status_code for cookies in ({}, site.logged_in())
        ]


def parts(is_async: bool) -> Any:
    """A body that is computed as it goes out."""

    def body() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    async def async_body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    return async_body() if is_async else body()


class TestOutages:
    @pytest.fixture
    def flaky(self) -> Flaky:
        return Flaky()

    def test_the_503_has_nothing_of_the_apps(self, make: Make, flaky: Flaky) -> None:
        """Neither its body nor its headers nor its cookies."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = 1
            resp.set_cookie("theme", "dark")
            resp.append_header("Set-Cookie", "other=1")
            resp.set_header("ETag", '"1"')
            resp.media = {"logged": "in"}

        site = make(act, flaky)
        flaky.down = {"create"}
        answer = site.ask()
        headers = {k: v for k, v in answer.headers.items() if k != "content-length"}

        assert (503, "503\n") == (answer.status_code, answer.text)
        assert {
            "content-type": "text/plain; charset=utf-8",
            "cache-control": "no-store",
            "retry-after": "5",
            "vary": "Cookie",
        } == headers

    @pytest.mark.parametrize("body", ["text", "data", "media", "stream"])
    def test_whatever_the_body_was(self, make: Make, flaky: Flaky, body: str) -> None:
        """It does not go out."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = 1
            bodies = {"text": "x", "data": b"x", "media": "x", "stream": parts(site.is_async)}
            setattr(resp, body, bodies[body])

        site = make(act, flaky)
        flaky.down = {"create"}

        assert (503, "503\n") == ((answer := site.ask()).status_code, answer.text)

    def test_events_do_not_go_out(self, flaky: Flaky) -> None:
        """`resp.sse`."""

        def act(req: Any, resp: Any) -> None:
            req.context.session["a"] = 1
            resp.sse = events()

        site = Site("asgi", act, flaky)
        flaky.down = {"create"}

        assert (503, "503\n") == ((answer := site.ask()).status_code, answer.text)

    def test_an_app_that_handles_it_is_left_alone(self, make: Make, flaky: Flaky) -> None:
        """Its own page, its own status."""

        def handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            resp.status, resp.text = 200, "without you, then"

        async def async_handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
            handle(req, resp, error, params)

        site = make(put("a", 1), flaky)
        cookies = site.logged_in()
        app = site.app()
        app.add_error_handler(StoreUnavailable, async_handle if site.is_async else handle)
        flaky.down = {"load"}
        answer = testing.TestClient(app).simulate_get("/", cookies=cookies)

        assert (200, "without you, then") == (answer.status_code, answer.text)

    @pytest.mark.parametrize("handled", [True, False])
    def test_met_elsewhere_it_takes_the_handler(
        self, make: Make, flaky: Flaky, handled: bool
    ) -> None:
        """Falcon keeps the error to itself; without the handler its 500 stays, and no cookie."""

        def act(req: Any, resp: Any) -> None:
            req.context.session.login("user:42")
            site.inside.ping()

        site = make(act, flaky)
        app = site.app()
        if handled:
            app.add_error_handler(OUTAGES, async_handle_outage if site.is_async else handle_outage)
        flaky.down = {"load"}
        answer = testing.TestClient(app).simulate_get("/")

        assert (503 if handled else 500, {}) == (answer.status_code, answer.cookies)
        assert ("5" if handled else None) == answer.headers.get("retry-after")


async def events() -> AsyncIterator[falcon.asgi.SSEvent]:
    yield falcon.asgi.SSEvent(text="hello")


Change = Callable[[Any], object]


class TestStreams:
    def streaming(self, make: Make, change: Change) -> Site:
        """It does this to its session after its first part."""

        def body(session: Session) -> Iterator[bytes]:
            yield b"a"
            change(session)
            yield b"b"

        async def async_body(session: Session) -> AsyncIterator[bytes]:
            for part in body(session):
                yield part

        def act(req: Any, resp: Any) -> None:
            session = req.context.session
            session["seen"] = True
            resp.stream = (async_body if site.is_async else body)(session)

        site = make(act)
        return site

    def test_what_was_changed_before_is_stored_while_it_streams(self, make: Make) -> None:
        """Durable before visible."""
        found: list[bool] = []
        site = self.streaming(make, lambda session: found.append(site.stored(cookies)["seen"]))
        cookies = site.logged_in()

        assert ("ab", [True]) == (site.ask(cookies=cookies).text, found)

    def test_a_late_change_raises_on_its_line(self, make: Make) -> None:
        """The head is out."""
        site = self.streaming(make, lambda session: session.update(late=1))

        with pytest.raises(SessionClosed):
            site.ask()

    def test_a_late_change_in_place_raises_at_the_end(self, make: Make) -> None:
        """It is lost, so say so."""
        site = self.streaming(make, lambda session: session["cart"].append("tea"))

        with pytest.raises(SessionClosed, match="'cart'"):
            site.ask(cookies=site.logged_in(cart=[]))

    def test_current_is_at_hand(self, make: Make) -> None:
        """In the body, and not after it."""
        found: list[bool] = []
        site = self.streaming(make, lambda session: found.append(session is current()))
        site.ask()

        assert [True] == found
        with pytest.raises(LookupError):
            current()

    def test_a_body_is_closed(self, make: Make) -> None:
        """By Falcon or by the server, through us."""
        closed: list[str] = []

        class Body:
            def __iter__(self) -> Iterator[bytes]:
                return iter([b"a"])

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"a"

            def close(self) -> Any:
                return self.closed() if site.is_async else self.told()

            async def closed(self) -> None:
                self.told()

            def told(self) -> None:
                closed.append(current().subject or "nobody")

        site = make(lambda req, resp: setattr(resp, "stream", Body()))

        assert ("a", ["user:42"]) == (site.ask(cookies=site.logged_in()).text, closed)

    def test_a_file_is_handed_on_as_it_is(self) -> None:
        """So that the server's `wsgi.file_wrapper` still gets it."""
        file = BytesIO(b"a file")
        wrapped: list[object] = []

        def wrapper(found: BytesIO, size: int) -> list[bytes]:
            wrapped.append(found)
            return [found.read()]

        app = Site("wsgi", lambda req, resp: setattr(resp, "stream", file)).app()
        answer = wsgi_call(app, wsgi_environ(**{"wsgi.file_wrapper": wrapper}))

        assert (b"a file", [file]) == (answer.body, wrapped)

    def test_a_late_change_in_events_raises(self) -> None:
        """On its line, as in a body."""

        async def late(session: Session) -> AsyncIterator[falcon.asgi.SSEvent]:
            yield falcon.asgi.SSEvent(text=str(session is current()))
            session["late"] = 1

        def act(req: Any, resp: Any) -> None:
            resp.sse = late(req.context.session)

        with pytest.raises(SessionClosed):
            Site("asgi", act).ask()

    def test_an_answer_to_head_has_the_cookie_too(self, make: Make) -> None:
        """And no body."""
        site = make(put("a", 1))
        app = site.app()
        app.add_route("/head", HeadPage() if not site.is_async else AsyncHeadPage())
        answer = testing.TestClient(app).simulate_head("/head")

        assert ("", ["__Host-session"]) == (answer.text, list(answer.cookies))


class HeadPage:
    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.session["a"] = 1
        resp.text = "not sent"


class AsyncHeadPage:
    async def on_head(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        req.context.session["a"] = 1
        resp.text = "not sent"


class TestWebSockets:
    def connect(
        self, act: Act, site: Site, cookies: dict[str, str] | None = None
    ) -> tuple[list[tuple[str, str]], int | None]:
        """The headers of the handshake, and the code of the close."""
        return asyncio.run(self.connected(act, site, cookies or {}))

    async def connected(
        self, act: Act, site: Site, cookies: dict[str, str]
    ) -> tuple[list[tuple[str, str]], int | None]:
        class Page:
            async def on_websocket(self, req: Any, ws: Any) -> None:
                done: Any = act(req, ws)
                await done

        app = site.app()
        app.add_route("/ws", Page())
        headers: list[tuple[str, str]] = []
        async with testing.ASGIConductor(app) as conductor:
            shown = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
            simulator: Any = conductor.simulate_ws("/ws", headers=shown)
            socket = simulator._ws
            with suppress(falcon.WebSocketDisconnected):
                async with simulator:
                    raw = socket.headers or []
                    headers = [(k.decode(), v.decode()) for k, v in raw]
                    while True:
                        await socket.receive_text()
        return headers, socket.close_code

    def test_the_cookie_comes_with_the_accept(self) -> None:
        """Stored by then, and the app's own headers stay."""

        async def act(req: Any, ws: Any) -> None:
            assert req.context.session is current()
            req.context.session.login("user:42")
            await ws.accept(headers=[("x-app", "1")])
            assert len(site.inside.list_for("user:42")) == 1

        site = Site("asgi", nothing)
        headers, code = self.connect(act, site)

        assert ["x-app", "vary", "cache-control", "set-cookie"] == [name for name, _ in headers]
        assert 1000 == code

    def test_an_untouched_session_adds_no_header(self) -> None:
        """The handshake is Falcon's alone."""

        async def act(req: Any, ws: Any) -> None:
            await ws.accept()

        site = Site("asgi", nothing)

        assert ([], 1000) == self.connect(act, site, site.logged_in())

    def test_a_change_after_the_accept_raises(self) -> None:
        """Falcon closes with its code for errors."""
        found: list[type[Exception]] = []

        async def act(req: Any, ws: Any) -> None:
            await ws.accept()
            with pytest.raises(SessionClosed):
                req.context.session["a"] = 1
            found.append(SessionClosed)

        assert ([], 1000) == self.connect(act, Site("asgi", nothing))
        assert [SessionClosed] == found

    def test_a_change_in_place_after_the_accept_is_told_at_the_end(self) -> None:
        """Falcon logs it, and closes with its code for errors."""

        async def act(req: Any, ws: Any) -> None:
            await ws.accept()
            req.context.session["cart"].append("tea")

        site = Site("asgi", nothing)
        cookies = site.logged_in(cart=[])
        _, code = self.connect(act, site, cookies)

        assert (1011, {"cart": []}) == (code, site.stored(cookies))

    def test_a_refused_handshake_drops_the_edits_and_keeps_a_logout(self) -> None:
        """It can set no cookie."""

        async def edit(req: Any, ws: Any) -> None:
            req.context.session["a"] = 2
            await ws.close(4000)

        async def leave(req: Any, ws: Any) -> None:
            req.context.session.logout()
            await ws.close(4000)

        site = Site("asgi", nothing)
        cookies = site.logged_in(a=1)
        assert 3403 == self.connect(edit, site, cookies)[1]
        assert {"a": 1} == site.stored(cookies)
        self.connect(leave, site, cookies)

        assert [] == site.inside.list_for("user:42")

    def test_an_error_before_the_accept_drops_the_edits(self) -> None:
        """Falcon closes the handshake."""

        async def act(req: Any, ws: Any) -> None:
            req.context.session["a"] = 2
            raise RuntimeError("a view that fails")

        site = Site("asgi", nothing)
        cookies = site.logged_in(a=1)

        assert 1011 == self.connect(act, site, cookies)[1]
        assert {"a": 1} == site.stored(cookies)

    def test_on_a_skipped_path_nothing_is_opened(self) -> None:
        """As for a page."""

        async def act(req: Any, ws: Any) -> None:
            assert not hasattr(req.context, "session")
            await ws.accept()

        site = Site("asgi", nothing)
        site.middleware = [site.session_middleware(skip=["/ws"])]

        assert ([], 1000) == self.connect(act, site)

    def test_the_gate_closes_it(self) -> None:
        """Before the responder; who is logged in passes."""

        async def act(req: Any, ws: Any) -> None:
            await ws.accept()

        site = Site("asgi", nothing)
        site.middleware.append(AsyncLoginMiddleware(LoginGate()))

        assert 3401 == self.connect(act, site)[1]
        assert 1000 == self.connect(act, site, site.logged_in())[1]


class TestGate:
    @staticmethod
    def hook(site: Site, gate: LoginGate) -> Any:
        return async_login_required(gate) if site.is_async else login_required(gate)

    @staticmethod
    def gated(site: Site, gate: LoginGate) -> Site:
        kind: Any = AsyncLoginMiddleware if site.is_async else LoginMiddleware
        site.middleware.append(kind(gate))
        return site

    def test_the_middleware_closes_every_path(self, make: Make) -> None:
        """A page leads to the login, a script gets 401, and who is logged in passes."""
        site = self.gated(make(nothing), LoginGate())
        page, script = site.ask(headers=PAGE), site.ask()
        inside = site.ask(cookies=site.logged_in())

        assert (303, "/login?next=/") == (page.status_code, page.headers["location"])
        assert (401, "no-store") == (script.status_code, script.headers["cache-control"])
        assert "401 Unauthorized" == script.json["title"]
        assert 200 == inside.status_code

    def test_it_knows_paths_that_no_route_has(self, make: Make) -> None:
        """Closed by default."""
        site = self.gated(make(nothing), LoginGate(public=["/about"]))
        statuses = [site.client().simulate_get(p).status_code for p in ("/none", "/about")]

        assert [401, 404] == statuses

    def test_it_judges_the_path_that_falcon_routes(self, make: Make) -> None:
        """Which a middleware may have changed."""

        def rewrite(req: Any, resp: Any) -> None:
            req.path = "/"

        site = make(nothing)
        site.middleware.append(component(site.is_async, rewrite))
        self.gated(site, LoginGate(public=["/about"]))

        assert 401 == site.client().simulate_get("/about").status_code

    def test_a_root_stands_once_in_the_way_back(self, make: Make) -> None:
        """Under ASGI the path has it already, and Falcon routes it so."""
        site = self.gated(make(nothing), LoginGate(public=["/about"]))
        path, login = ("/api/a", "/login") if site.is_async else ("/a", "/api/login")
        answer = site.client().simulate_get(path, root_path="/api", headers=PAGE)

        assert f"{login}?next=/api/a" == answer.headers["location"]

    def test_the_hook_guards_a_responder(self, make: Make) -> None:
        """Whatever `public=` says."""
        site = make(nothing)
        guard = falcon.before(self.hook(site, LoginGate(public=["/*"])))

        class Guarded:
            @guard
            def on_get(self, req: Any, resp: Any) -> None:
                resp.text = "inside"

        class AsyncGuarded:
            @guard
            async def on_get(self, req: Any, resp: Any) -> None:
                resp.text = "inside"

        app = site.app()
        app.add_route("/guarded", AsyncGuarded() if site.is_async else Guarded())
        client = testing.TestClient(app)
        refused = client.simulate_get("/guarded", headers=PAGE)
        passed = client.simulate_get("/guarded", cookies=site.logged_in())

        assert "/login?next=/guarded" == refused.headers["location"]
        assert "inside" == passed.text

    def test_the_loaded_user_is_in_the_context(self, make: Make) -> None:
        """As `req.context.user`."""
        found: list[str] = []
        site = make(lambda req, resp: found.append(req.context.user))
        self.gated(site, LoginGate(user=lambda subject: subject.upper()))
        site.ask(cookies=site.logged_in())

        assert ["USER:42"] == found

    def test_without_a_user_the_session_ends(self, make: Make) -> None:
        """In the store, and in the browser."""
        site = self.gated(make(nothing), LoginGate(user=lambda subject: None))
        answer = site.ask(cookies=site.logged_in())

        assert (401, 0) == (answer.status_code, answer.cookies["__Host-session"].max_age)
        assert [] == site.inside.list_for("user:42")

    def test_it_belongs_after_the_sessions(self, make: Make) -> None:
        """Falcon logs the message; nobody is let through."""
        site = make(nothing)
        self.gated(site, LoginGate())
        site.middleware.reverse()

        assert 500 == site.ask(cookies=site.logged_in()).status_code


class TestTestClients:
    def test_a_login_is_shown_with_each_request(self, make: Make) -> None:
        """Falcon's client keeps no cookies, so it is given a header."""
        found: list[tuple[str | None, Any]] = []

        def act(req: Any, resp: Any) -> None:
            found.append((current().subject, current().get("a")))

        site = make(act)
        client = testing.TestClient(site.app(), headers={"X-Mine": "1"})
        session_id = login(client, site.sessions, "user:7", values={"a": 1})
        client.simulate_get("/", headers={"X-Other": "1"})
        client.simulate_get("/")

        assert [("user:7", 1)] * 2 == found
        assert [session_id] == [info.id for info in site.inside.list_for("user:7")]

    def test_logins_of_several_sessions_stand_side_by_side(self, make: Make) -> None:
        """With the other cookies that the client shows; each login replaces its own only."""
        found: list[tuple[str | None, str | None, Any]] = []

        def act(req: Any, resp: Any) -> None:
            found.append((current().subject, current("staff").subject, req.cookies["theme"]))

        site = make(act)
        staff = type(site.sessions)(site.inner(), cookie=Cookie("staff"), clock=site.clock)
        site.middleware = [site.session_middleware(named={"staff": staff})]
        client = testing.TestClient(site.app(), headers={"Cookie": "theme=dark"})
        login(client, site.sessions, "user:7")
        login(client, staff, "staff:1")
        login(client, site.sessions, "user:8")
        client.simulate_get("/")

        assert [("user:8", "staff:1", "dark")] == found

    def test_a_conductor_is_a_client_too(self) -> None:
        """In its own loop."""
        found: list[str | None] = []
        site = Site("asgi", lambda req, resp: found.append(current().subject))

        async def ask() -> None:
            async with testing.ASGIConductor(site.app()) as conductor:
                login(conductor, site.sessions, "user:7")
                await conductor.simulate_get("/")

        asyncio.run(ask())
        assert ["user:7"] == found


class TestSweeping:
    def test_wsgi_sweeps_in_a_thread_from_the_first_request_on(self) -> None:
        """What expired goes."""
        store = Sweepable()
        site = Site("wsgi", nothing, store)
        site.middleware = [site.session_middleware(sweep=0.001)]
        site.ask()

        assert store.swept.wait(PATIENCE)

    def test_asgi_sweeps_while_the_lifespan_lasts(self) -> None:
        """And not beyond."""
        store = Sweepable()
        site = Site("asgi", nothing, store)
        site.middleware = [site.session_middleware(sweep=0.001)]

        async def live() -> set[str]:
            async with testing.ASGIConductor(site.app()):
                while not store.swept.is_set():
                    await asyncio.sleep(0)
            return {task.get_name() for task in asyncio.all_tasks()}

        assert "coatcheck sweeper" not in asyncio.run(asyncio.wait_for(live(), PATIENCE))


class Sweepable(MemoryStore):
    """It says when it was swept."""

    def __init__(self) -> None:
        super().__init__()
        self.swept = threading.Event()

    def sweep(self, limit: int, now: int) -> int:
        self.swept.set()
        return super().sweep(limit, now)


class TestCSRF:
    """What `test_outside_csrf` does not see."""

    @staticmethod
    def guard(site: Site, protection: CrossOriginProtection) -> Any:
        kind: Any = AsyncCSRFMiddleware if site.is_async else CSRFMiddleware
        return kind(protection)

    def test_it_may_come_before_the_sessions(self, make: Make) -> None:
        """Then another site's request does not even open one."""
        site = make(nothing, store := Flaky())
        site.middleware.insert(0, self.guard(site, CrossOriginProtection()))
        cookies, client = site.logged_in(), site.client()
        store.calls.clear()
        headers = {"Sec-Fetch-Site": "cross-site"}
        answer = client.simulate_post("/", headers=headers, cookies=cookies)

        assert (403, "Forbidden: cross-origin request") == (
            answer.status_code,
            answer.json["description"],
        )
        assert [] == store.calls
        client.simulate_get("/", cookies=cookies)
        assert ["load"] == store.calls

    def test_the_responder_gets_the_form(self, make: Make) -> None:
        """A form is parsed once; a multipart one takes the header."""
        found: list[Any] = []

        class Page:
            def on_post(self, req: Any, resp: Any) -> None:
                found.append(req.get_media())

        class AsyncPage:
            async def on_post(self, req: Any, resp: Any) -> None:
                found.append(await req.get_media())

        site = make(nothing)
        site.middleware.append(self.guard(site, CrossOriginProtection(tokens=True)))
        app, cookies = site.app(), site.logged_in()
        app.add_route("/post", AsyncPage() if site.is_async else Page())
        token = site.inside.open("; ".join(f"{k}={v}" for k, v in cookies.items())).csrf_token
        body, client = f"a=1&csrf_token={token}", testing.TestClient(app)
        statuses = [
            client.simulate_post(
                "/post", body=body, cookies=cookies, headers={"Content-Type": kind}
            ).status_code
            for kind in (falcon.MEDIA_URLENCODED, "multipart/form-data; boundary=b")
        ]

        assert [200, 403] == statuses
        assert [{"a": "1", "csrf_token": token}] == found

    def test_another_sites_page_gets_no_socket(self) -> None:
        """This site's own does, without a token, and with no header but its origin."""

        class Chat:
            async def on_websocket(self, req: Any, ws: Any) -> None:
                await ws.accept()

        async def connect(origin: str) -> str:
            site = Site("asgi", nothing)
            site.middleware.append(self.guard(site, CrossOriginProtection(tokens=True)))
            app = site.app()
            app.add_route("/ws", Chat())
            headers = [(b"host", b"site.example"), (b"origin", origin.encode())]
            scope = asgi_scope(type="websocket", path="/ws", headers=headers, subprotocols=[])
            sent = await played(app, scope, [{"type": "websocket.connect"}])
            return str(sent[0]["type"])

        origins = ["https://site.example", "https://evil.example"]
        assert ["websocket.accept", "websocket.close"] == [
            asyncio.run(connect(origin)) for origin in origins
        ]
