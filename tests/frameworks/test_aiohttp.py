"""aiohttp: what its adapter adds to the laws, which `test_outside_laws` runs through it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from aiohttp import ClientPayloadError, CookieJar, FormData, WSMsgType, WSServerHandshakeError, web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from multidict import CIMultiDictProxy

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Cookie,
    SessionClosed,
    Sessions,
    current,
)
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web.aiohttp import (
    csrf_middleware,
    get_session,
    get_user,
    login_middleware,
    login_required,
    session_middleware,
    setup,
)
from tests.frameworks.distant import DistantStore
from tests.outside import PATIENCE
from tests.test_laws import Flaky

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE = {"Accept": "text/html"}


class Got(NamedTuple):
    status: int
    text: str
    headers: "CIMultiDictProxy[str]"


class Browser:
    """aiohttp's test client on a loop in debug mode; it takes http://127.0.0.1 for safe."""

    def __init__(self, app: web.Application) -> None:
        self.runner = asyncio.Runner(debug=True)
        self.client: Any = self.runner.run(self._start(app))

    async def _start(self, app: web.Application) -> Any:
        server = TestServer(app)
        await server.start_server()
        jar = CookieJar(unsafe=True, treat_as_secure_origin=server.make_url("/").origin())
        return TestClient(server, cookie_jar=jar)

    def run(self, talk: Callable[[Any], Awaitable[Any]]) -> Any:
        return self.runner.run(asyncio.wait_for(talk(self.client), PATIENCE))

    def ask(self, method: str, path: str, **options: Any) -> Got:
        async def talk(client: Any) -> Got:
            options.setdefault("allow_redirects", False)
            async with client.request(method, path, **options) as answer:
                return Got(answer.status, await answer.text(), answer.headers)

        got: Got = self.run(talk)
        return got

    def get(self, path: str = "/", **options: Any) -> Got:
        return self.ask("GET", path, **options)

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()


@pytest.fixture
def browse() -> Iterator[Callable[[web.Application], Browser]]:
    opened: list[Browser] = []

    def make(app: web.Application) -> Browser:
        opened.append(Browser(app))
        return opened[-1]

    yield make
    for browser in opened:
        browser.close()


Browse = Callable[[web.Application], Browser]


@pytest.fixture
def store() -> Flaky:
    return Flaky()


@pytest.fixture
def sessions(store: Flaky) -> AsyncSessions:
    return AsyncSessions(DistantStore(store), clock=Clock())


def site(sessions: AsyncSessions, handler: Handler, **options: Any) -> web.Application:
    """An app whose every path has this handler, and one that says who is there."""

    async def who(request: web.Request) -> web.Response:
        session = get_session(request)
        return web.json_response([session.subject, dict(session)])

    app = web.Application()
    setup(app, sessions, **{"sweep": None, **options})
    app.router.add_get("/who", who)
    app.router.add_route("*", "/{path:.*}", handler)
    return app


async def enter(request: web.Request) -> web.Response:
    get_session(request).login("user:42")
    return web.Response(text="welcome")


def test_the_session_is_there_twice(browse: Browse, sessions: AsyncSessions) -> None:
    """By the request, and by `current()`, which works below the middleware only."""
    found: list[object] = []

    async def handler(request: web.Request) -> web.Response:
        found.append(get_session(request) is current())
        return web.Response()

    @web.middleware
    async def outside(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        with pytest.raises(LookupError):
            current()
        found.append(get_session(request).subject)
        return answer

    app = site(sessions, handler)
    app.middlewares.insert(0, outside)
    browse(app).get()

    assert [True, None] == found


def test_the_cookie_has_exactly_our_attributes(browse: Browse, sessions: AsyncSessions) -> None:
    """It does not go through a `SimpleCookie`."""
    cookie = browse(site(sessions, enter)).get().headers["Set-Cookie"]
    expected = ["Max-Age=86400", "Path=/", "HttpOnly", "SameSite=Lax", "Secure"]

    assert sorted(expected) == sorted(cookie.split("; ")[1:])


class TestWholeResponses:
    def test_a_middleware_outside_may_replace_it(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """The cookie goes with whatever goes out."""

        @web.middleware
        async def redress(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = await handler(request)
            return answer if request.path == "/who" else web.Response(text="another")

        app = site(sessions, enter)
        app.middlewares.insert(0, redress)
        browser = browse(app)

        assert "another" == browser.get("/enter").text
        assert '["user:42", {}]' == browser.get("/who").text

    def test_an_error_after_a_logout_takes_the_cookie_along(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """aiohttp's own 500 deletes it."""

        async def leave(request: web.Request) -> web.Response:
            get_session(request).logout()
            raise RuntimeError("after the logout")

        browser = browse(site(sessions, leave))
        login(browser.client, sessions, "user:42")
        answer = browser.get("/leave")

        assert (500, "no-store") == (answer.status, answer.headers["Cache-Control"])
        assert "Max-Age=0" in answer.headers["Set-Cookie"]

    def test_a_handler_that_returns_nothing_failed(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """aiohttp answers 500, so nothing is kept."""

        async def forgetful(request: web.Request) -> Any:
            get_session(request).login("user:42")

        answer = browse(site(sessions, forgetful)).get()

        assert (500, False) == (answer.status, "Set-Cookie" in answer.headers)
        assert {} == store._records

    def test_a_returned_file_is_committed(
        self, browse: Browse, sessions: AsyncSessions, tmp_path: Path
    ) -> None:
        """Though aiohttp finds its status only when it is sent."""
        (tmp_path / "tea.txt").write_text("tea")

        async def file(request: web.Request) -> web.StreamResponse:
            get_session(request)["seen"] = True
            return web.FileResponse(tmp_path / request.match_info["path"])

        browser = browse(site(sessions, file))
        answers = [browser.get(f"/{name}.txt") for name in ("tea", "coffee")]

        assert [200, 404] == [answer.status for answer in answers]
        assert '[null, {"seen": true}]' == browser.get("/who").text

    def test_static_files_leave_the_session_alone(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky, tmp_path: Path
    ) -> None:
        """No cookie, no `Vary`, no write."""
        (tmp_path / "tea.txt").write_text("tea")
        app = web.Application()
        setup(app, sessions, sweep=None)
        app.router.add_static("/static", tmp_path)
        browser = browse(app)
        login(browser.client, sessions, "user:42")
        store.calls.clear()
        answer = browser.get("/static/tea.txt")

        assert ("tea", ["load"]) == (answer.text, store.calls)
        assert set() == {"Set-Cookie", "Vary", "Cache-Control"} & set(answer.headers)


def streaming(
    before: Callable[[web.Request], object] = lambda request: None,
    after: Callable[[web.Request], object] = lambda request: None,
    *,
    compressed: bool = False,
    stubborn: bool = False,
) -> Handler:
    """A stream; what is done to the session before and after its head."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Vary": "Accept"})
        if compressed:
            response.enable_compression(web.ContentCoding.gzip)
        before(request)
        try:
            await response.prepare(request)
        except Exception:
            if not stubborn:
                raise
            return response
        after(request)
        await response.write(b"one, ")
        await response.write(b"two")
        await response.write_eof()
        return response

    return handler


class TestStreams:
    def test_what_came_before_the_head_is_kept(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """It is in the store when the head is out, and the cookie is in the head."""
        stored: list[int] = []

        def enter(request: web.Request) -> None:
            get_session(request).login("user:42")

        handler = streaming(enter, lambda request: stored.append(len(store._records)))
        browser = browse(site(sessions, handler))
        answer = browser.get("/stream")

        assert ("one, two", "Accept, Cookie", [1]) == (answer.text, answer.headers["Vary"], stored)
        assert '["user:42", {}]' == browser.get("/who").text

    def test_one_that_does_not_use_its_session_leaves_no_trace(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """Its own headers are as they were."""
        answer = browse(site(sessions, streaming())).get("/stream")

        assert "Accept" == answer.headers["Vary"]
        assert "Set-Cookie" not in answer.headers

    def test_a_change_after_the_head_raises(self, browse: Browse, sessions: AsyncSessions) -> None:
        """On the line that makes it."""
        raised: list[bool] = []

        def change(request: web.Request) -> None:
            with pytest.raises(SessionClosed):
                get_session(request)["late"] = True
            raised.append(True)

        browser = browse(site(sessions, streaming(after=change)))

        assert ("one, two", [True]) == (browser.get("/stream").text, raised)

    def test_a_change_in_place_after_the_head_raises_at_the_end(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The response is out by then, so aiohttp logs it."""

        def change(request: web.Request) -> None:
            get_session(request)["cart"].append("tea")

        def put(request: web.Request) -> None:
            get_session(request)["cart"] = []

        browse(site(sessions, streaming(put, change))).get("/stream")

        assert [SessionClosed] == logged(caplog)

    @pytest.mark.parametrize("compressed", [False, True])
    def test_one_that_cannot_be_committed_is_a_500(
        self,
        browse: Browse,
        sessions: AsyncSessions,
        caplog: pytest.LogCaptureFixture,
        compressed: bool,
    ) -> None:
        """A whole one, whatever the stream had in mind for its body."""

        def fill(request: web.Request) -> None:
            get_session(request)["x"] = "x" * 70_000

        answer = browse(site(sessions, streaming(fill, compressed=compressed))).get("/stream")

        assert (500, False) == (answer.status, "Set-Cookie" in answer.headers)
        assert "500 Internal Server Error" in answer.text
        assert ["SessionTooLarge"] == [kind.__name__ for kind in logged(caplog)]

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("stubborn", [False, True])
    def test_an_outage_is_a_503(
        self,
        browse: Browse,
        sessions: AsyncSessions,
        store: Flaky,
        compressed: bool,
        stubborn: bool,
    ) -> None:
        """Even where the handler does not let go."""

        def put(request: web.Request) -> None:
            get_session(request)["a"] = 1

        browser = browse(site(sessions, streaming(put, compressed=compressed, stubborn=stubborn)))
        store.down = {"create"}
        answer = browser.get("/stream")

        assert (503, "503\n", "5") == (answer.status, answer.text, answer.headers["Retry-After"])
        assert "Set-Cookie" not in answer.headers


class TestGeneratedBodies:
    """Of a response that was returned, whose body is made while it goes out."""

    @staticmethod
    def made(act: Callable[[Any], object]) -> Handler:
        async def chunks() -> AsyncIterator[bytes]:
            yield str(act(current())).encode()

        async def handler(request: web.Request) -> web.Response:
            get_session(request)["cart"] = []
            return web.Response(body=chunks())

        return handler

    def test_current_is_at_hand(self, browse: Browse, sessions: AsyncSessions) -> None:
        """As what was committed."""
        handler = self.made(lambda session: session["cart"])

        assert "[]" == browse(site(sessions, handler)).get().text

    def test_a_late_change_in_place_is_told_at_the_end(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The body breaks off, and aiohttp logs why."""
        handler = self.made(lambda session: session["cart"].append("tea"))
        with pytest.raises(ClientPayloadError):
            browse(site(sessions, handler)).get()

        assert [SessionClosed] == logged(caplog)


def logged(caplog: pytest.LogCaptureFixture) -> list[type]:
    """The errors that were logged, by their kind."""
    infos = [record.exc_info for record in caplog.records if record.levelno >= logging.ERROR]
    return [info[0] for info in infos if info and info[0]]


class TestWebSockets:
    def test_the_handshake_carries_the_cookie(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """What was changed before it is kept; afterwards the session is read-only."""

        async def chat(request: web.Request) -> web.WebSocketResponse:
            get_session(request).login("user:42")
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            with pytest.raises(SessionClosed):
                get_session(request)["late"] = True
            await socket.send_str(f"hello {current().subject}")
            await socket.close()
            return socket

        browser = browse(site(sessions, chat))

        async def talk(client: Any) -> Any:
            async with client.ws_connect("/chat") as socket:
                return await socket.receive()

        assert (WSMsgType.TEXT, "hello user:42") == browser.run(talk)[:2]
        assert '["user:42", {}]' == browser.get("/who").text

    def test_a_refused_handshake_is_an_answer_like_any_other(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """A 400 commits."""

        async def chat(request: web.Request) -> web.WebSocketResponse:
            get_session(request)["tried"] = True
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            return socket

        browser = browse(site(sessions, chat))

        assert 400 == browser.get("/chat").status
        assert '[null, {"tried": true}]' == browser.get("/who").text

    def test_an_outage_refuses_the_handshake(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """With a 503."""

        async def chat(request: web.Request) -> web.WebSocketResponse:
            get_session(request)["tried"] = True
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            return socket

        browser = browse(site(sessions, chat))
        store.down = {"create"}

        async def talk(client: Any) -> int:
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect("/chat")
            return refused.value.status

        assert 503 == browser.run(talk)


class TestCancellation:
    @pytest.mark.parametrize("waits", [True, False])
    def test_a_cancelled_request_keeps_a_logout(
        self, browse: Browse, sessions: AsyncSessions, waits: bool
    ) -> None:
        """Whether the handler is cancelled, or its commit; nothing else is kept."""
        scopes: list[anyio.CancelScope] = []

        async def leave(request: web.Request) -> web.Response:
            get_session(request).logout()
            get_session(request)["a"] = 1
            asyncio.get_running_loop().call_soon(scopes[-1].cancel)
            return await asyncio.Event().wait() if waits else web.Response()  # type: ignore[return-value]

        @web.middleware
        async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                return await handler(request)
            return web.Response(status=504)

        app = site(sessions, leave)
        app.middlewares.insert(0, limited)
        browser = browse(app)
        login(browser.client, sessions, "user:42")

        assert 504 == browser.get("/leave").status
        assert "[null, {}]" == browser.get("/who").text


class TestApps:
    def test_a_sub_app_may_have_sessions_of_its_own(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """Inside it they are the request's, outside the app's are; both kinds are committed."""
        inner = AsyncSessions(AsyncMemoryStore(), cookie=Cookie("inner"))
        admin = web.Application()
        found: list[bool] = []

        @web.middleware
        async def outside(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = await handler(request)
            found.append(get_session(request) is current())
            return answer

        setup(admin, inner, sweep=None)

        async def put(request: web.Request) -> web.Response:
            get_session(request)["inside"] = True
            return web.Response()

        admin.router.add_get("/put", put)
        root = web.Application(middlewares=[session_middleware(sessions), outside])
        root.add_subapp("/admin", admin)
        root.router.add_get("/", enter)
        browser = browse(root)
        cookies = [browser.get(path).headers.getall("Set-Cookie") for path in ("/admin/put", "/")]

        assert [["__Host-inner"], ["__Host-session"]] == [
            [cookie.partition("=")[0] for cookie in each] for each in cookies
        ]
        assert [True, True] == found

    def test_a_cloned_request_has_the_session_too(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """And a stream that is prepared with it carries the cookie."""

        async def handler(request: web.Request) -> web.StreamResponse:
            return await streaming(lambda it: get_session(it).login("user:42"))(request.clone())

        browser = browse(site(sessions, handler))
        browser.get("/stream")

        assert '["user:42", {}]' == browser.get("/who").text

    def test_named_sessions(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Each under its name, with a cookie of its own."""
        prefs = AsyncSessions(AsyncMemoryStore(), cookie=Cookie("prefs"))

        async def dark(request: web.Request) -> web.Response:
            get_session(request, "prefs")["dark"] = current("prefs") is not get_session(request)
            return web.Response()

        browser = browse(site(sessions, dark, named={"prefs": prefs}))
        cookies = browser.get("/dark").headers.getall("Set-Cookie")

        assert ["__Host-prefs"] == [cookie.partition("=")[0] for cookie in cookies]

    def test_skipped_paths_open_nothing(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """There is no session there, and asking for one says what to do."""

        async def health(request: web.Request) -> web.Response:
            with pytest.raises(LookupError, match=r"skip="):
                get_session(request)
            return web.Response()

        browser = browse(site(sessions, health, skip=["/health"]))
        login(browser.client, sessions, "user:42")
        store.calls.clear()

        assert (200, []) == (browser.get("/health").status, store.calls)

    def test_a_name_that_is_not_there(self, browse: Browse, sessions: AsyncSessions) -> None:
        """It says which are."""

        async def handler(request: web.Request) -> web.Response:
            with pytest.raises(LookupError, match=r"one of \[\], got 'prefs'; add it to named="):
                get_session(request, "prefs")
            return web.Response()

        assert 200 == browse(site(sessions, handler)).get().status

    def test_without_the_middleware_there_is_none(self) -> None:
        """It says what to add."""
        with pytest.raises(LookupError, match=r"setup\(app, sessions\)"):
            get_session(make_mocked_request("GET", "/"))

    def test_client_makes_what_lists_show(self, browse: Browse, sessions: AsyncSessions) -> None:
        """By default the peer and its User-Agent."""
        browser = browse(site(sessions, enter))
        browser.get("/enter", headers={"User-Agent": "Tea/1.0"})
        browse(site(sessions, enter, client=lambda request: Client(request.path, "x"))).get("/x")

        async def clients(_: Any) -> set[Client]:
            return {info.client for info in await sessions.list_for("user:42")}

        assert {("127.0.0.1", "Tea/1.0"), ("/x", "x")} == browser.run(clients)

    def test_an_outage_is_503_in_debug_mode_too(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """Where aiohttp shows tracebacks."""

        async def fail(request: web.Request) -> web.Response:
            if request.path == "/session":
                get_session(request)
                store.down = {"load"}
                await sessions.ping()
            raise RuntimeError

        browser = browse(site(sessions, fail))
        assert "Traceback" in browser.get("/other").text

        assert (503, "503\n") == browser.get("/session")[:2]


class TestOptions:
    @pytest.mark.parametrize("add", [setup, lambda app, given: session_middleware(given)])
    def test_synchronous_sessions_are_refused(self, add: Any) -> None:
        """With what to make instead."""
        with pytest.raises(ConfigurationError, match=r"AsyncSessions\(store\)"):
            add(web.Application(), Sessions(MemoryStore()))

    def test_a_wrong_interval_is_refused(self, sessions: AsyncSessions) -> None:
        """On the line that gives it."""
        with pytest.raises(ConfigurationError, match="sweep"):
            setup(web.Application(), sessions, sweep=0)

    def test_what_expired_is_swept_while_the_app_runs(self) -> None:
        """And nothing goes on afterwards."""

        class Swept(MemoryStore):
            def __init__(self) -> None:
                super().__init__()
                self.event = asyncio.Event()

            def sweep(self, limit: int, now: int) -> int:
                self.event.set()
                return super().sweep(limit, now)

        async def main() -> list[str]:
            store = Swept()
            app = web.Application()
            setup(app, AsyncSessions(AsyncMemoryStore(store)), sweep=0.001)
            runner = web.AppRunner(app)
            await runner.setup()
            await asyncio.wait_for(store.event.wait(), PATIENCE)
            await runner.cleanup()
            return [task.get_name() for task in asyncio.all_tasks() if "sweep" in task.get_name()]

        assert [] == asyncio.run(main())


async def load(subject: str) -> str | None:
    return {"user:42": "Ann"}.get(subject)


class TestGate:
    def test_it_closes_the_whole_app(self, browse: Browse, sessions: AsyncSessions) -> None:
        """But for what is public; people are sent to the login page, scripts get 401."""
        app = site(sessions, enter)
        app.middlewares.append(login_middleware(LoginGate(public=["/open/*"])))
        browser = browse(app)
        answers = [browser.get("/a?b=c", headers=PAGE), browser.get("/a"), browser.get("/open/a")]

        assert [303, 401, 200] == [answer.status for answer in answers]
        assert "/login?next=/a%3Fb%3Dc" == answers[0].headers["Location"]
        assert 200 == browser.get("/a").status

    def test_an_encoded_slash_opens_nothing(self, browse: Browse, sessions: AsyncSessions) -> None:
        """aiohttp's routes take `/open%2Fa` for one part, so the gate does not see `/open/a`."""
        app = site(sessions, enter)
        app.middlewares.append(login_middleware(LoginGate(public=["/open/*", "/caf\u00e9/*"])))
        browser = browse(app)

        assert [401, 200] == [browser.get(path).status for path in ("/open%2Fa", "/caf%C3%A9/a")]

    def test_it_loads_the_user(self, browse: Browse, sessions: AsyncSessions) -> None:
        """For `get_user`; where there is none the session ends."""

        async def hello(request: web.Request) -> web.Response:
            return web.Response(text=str(get_user(request)))

        app = site(sessions, hello)
        app.middlewares.append(login_middleware(LoginGate(user=load)))
        browser = browse(app)
        login(browser.client, sessions, "user:42")
        assert "Ann" == browser.get("/hello").text
        login(browser.client, sessions, "user:7")
        gone = browser.get("/hello")

        assert (401, True) == (gone.status, "Max-Age=0" in gone.headers["Set-Cookie"])

    def test_single_handlers(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Functions, methods, and the methods of a `web.View`."""
        guard = login_required(LoginGate(user=load, public=["/*"]))

        @guard
        async def function(request: web.Request) -> web.Response:
            return web.Response(text=get_user(request))

        class Pages:
            @guard
            async def method(self, request: web.Request) -> web.Response:
                return web.Response(text=get_user(request))

        class View(web.View):
            @guard
            async def get(self) -> web.Response:
                return web.Response(text=get_user(self.request))

        app = web.Application()
        setup(app, sessions, sweep=None)
        app.router.add_get("/function", function)
        app.router.add_get("/method", Pages().method)
        app.router.add_view("/view", View)
        browser = browse(app)
        paths = ["/function", "/method", "/view"]
        assert [401, 401, 401] == [browser.get(path).status for path in paths]
        login(browser.client, sessions, "user:42")

        assert ["Ann", "Ann", "Ann"] == [browser.get(path).text for path in paths]

    def test_without_sessions_it_says_so(self, browse: Browse) -> None:
        """The gate outside the sessions is a mistake, and closed."""
        app = web.Application(middlewares=[login_middleware(LoginGate())])

        assert 500 == browse(app).get().status


class TestLogin:
    def test_over_plain_http(self, sessions: AsyncSessions) -> None:
        """With a test client as it comes, inside its event loop."""

        async def main() -> str:
            async with TestClient(TestServer(site(sessions, enter))) as client:
                login(client, sessions, "user:42", values={"cart": ["tea"]})
                return await (await client.get("/who")).text()

        assert '["user:42", {"cart": ["tea"]}]' == asyncio.run(main())

    def test_the_site_may_change_the_token_afterwards(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """A client that takes the address for safe follows."""

        async def rotate(request: web.Request) -> web.Response:
            get_session(request).rotate()
            return web.Response()

        browser = browse(site(sessions, rotate))
        login(browser.client, sessions, "user:42")
        browser.get("/rotate")

        assert '["user:42", {}]' == browser.get("/who").text


class TestCSRF:
    """What `test_outside_csrf` does not see."""

    def test_it_may_come_before_the_sessions(
        self, browse: Browse, store: Flaky, sessions: AsyncSessions
    ) -> None:
        """Then another site's request does not even open one."""
        app = site(sessions, post)
        app.middlewares.insert(0, csrf_middleware(CrossOriginProtection()))
        browser = browse(app)
        browser.get("/fill")
        store.calls.clear()
        refused = browser.ask("POST", "/", headers={"Sec-Fetch-Site": "cross-site"})

        assert (403, []) == (refused.status, store.calls)
        assert (200, ["load"]) == (browser.ask("POST", "/").status, store.calls)

    def test_a_form_with_a_file_is_one_too(self, browse: Browse, sessions: AsyncSessions) -> None:
        """A file of the field's name is no token."""
        app = site(sessions, post)
        app.middlewares.append(csrf_middleware(CrossOriginProtection(tokens=True)))
        browser = browse(app)
        token = browser.get("/token").text

        def sent(**fields: Any) -> int:
            form = FormData()
            for name, value in fields.items():
                form.add_field(name, value, filename="f" if isinstance(value, bytes) else None)
            return browser.ask("POST", "/", data=form).status

        assert [200, 403, 403] == [
            sent(csrf_token=token, f=b"x"),
            sent(csrf_token=token.encode(), f=b"x"),
            sent(f=b"x"),
        ]

    def test_another_sites_page_gets_no_socket(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """This site's own does, without a token."""

        async def chat(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.close()
            return socket

        app = site(sessions, chat)
        app.middlewares.append(csrf_middleware(CrossOriginProtection(tokens=True)))

        async def talk(client: Any) -> list[int]:
            own = str(client.make_url("/")).rstrip("/")
            async with client.ws_connect("/chat", origin=own) as socket:
                accepted = socket._response.status
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect("/chat", origin="https://evil.example")
            return [accepted, refused.value.status]

        assert [101, 403] == browse(app).run(talk)


async def post(request: web.Request) -> web.Response:
    session = get_session(request)
    if request.path == "/fill":
        session["a"] = 1
    token = session.csrf_token if request.path == "/token" else ""
    return web.Response(text=f"{token}{session.get('b', '')}")
