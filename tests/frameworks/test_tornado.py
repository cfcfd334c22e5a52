"""Tornado: what its adapter adds to the laws, which `test_outside_laws` runs through it."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tornado import gen, testing
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler, StaticFileHandler, authenticated
from tornado.websocket import WebSocketHandler, websocket_connect

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Cookie,
    Session,
    SessionClosed,
    Sessions,
    SessionTooLarge,
    current,
)
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web.tornado import CSRFMixin, LoginMixin, SessionMixin, login_required, setup
from tests.frameworks.distant import DistantStore
from tests.outside import PATIENCE
from tests.test_laws import Flaky

PAGE = {"Accept": "text/html"}


class Browser:
    """Tornado's client, to which a cookie is given, on a loop with the application's server."""

    def __init__(self, app: Application) -> None:
        self.runner = asyncio.Runner()
        self.headers: dict[str, str] = {}
        self.client, self.server, self.port = self.runner.run(self._start(app))

    async def _start(self, app: Application) -> tuple[AsyncHTTPClient, HTTPServer, int]:
        sock, port = testing.bind_unused_port()
        server = HTTPServer(app)
        server.add_sockets([sock])
        return AsyncHTTPClient(force_instance=True), server, port

    def run(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        async def soon() -> Any:
            return await asyncio.wait_for(call(*arguments, **options), PATIENCE)

        return self.runner.run(soon())

    def ask(self, method: str, path: str, **options: Any) -> HTTPResponse:
        headers = {**self.headers, **options.pop("headers", {})}
        request = HTTPRequest(
            f"http://127.0.0.1:{self.port}{path}",
            method,
            headers,
            follow_redirects=False,
            **options,
        )
        answer: HTTPResponse = self.run(self.client.fetch, request, raise_error=False)
        for cookie in answer.headers.get_list("Set-Cookie"):
            self.headers["Cookie"] = cookie.partition(";")[0]
        return answer

    def get(self, path: str = "/", **options: Any) -> HTTPResponse:
        return self.ask("GET", path, **options)

    def seen(self) -> str:
        """What the next request sees."""
        return self.get("/who").body.decode()

    def close(self) -> None:
        self.client.close()
        self.server.stop()
        self.runner.run(self.server.close_all_connections())
        self.runner.close()


Browse = Callable[[Application], Browser]


@pytest.fixture
def browse() -> Iterator[Browse]:
    opened: list[Browser] = []

    def make(app: Application) -> Browser:
        opened.append(Browser(app))
        return opened[-1]

    yield make
    for browser in opened:
        browser.close()


@pytest.fixture
def store() -> Flaky:
    return Flaky()


@pytest.fixture
def sessions(store: Flaky) -> AsyncSessions:
    return AsyncSessions(DistantStore(store), clock=Clock())


class Who(SessionMixin, RequestHandler):
    """It says who is there."""

    def get(self) -> None:
        self.finish(f"{self.session.subject} {dict(self.session)}")


def site(
    sessions: AsyncSessions, handler: Any, *, settings: dict[str, Any] | None = None, **options: Any
) -> Application:
    """An application of this handler, and one that says who is there."""
    app = Application([("/who", Who), ("/(.*)", handler)], **(settings or {}))
    setup(app, sessions, **{"sweep": None, **options})
    return app


def doing(act: Callable[[Any], object], *bases: type) -> Any:
    """A handler that does this on GET."""

    class Doing(SessionMixin, *(bases or (RequestHandler,))):  # type: ignore[misc]
        async def get(self, *args: str) -> None:
            result = act(self)
            if result is not None:
                await result  # type: ignore[misc]

    return Doing


def enter(handler: Any) -> None:
    handler.session.login("user:42")


def put(handler: Any) -> None:
    handler.session["a"] = 1


def fill(handler: Any) -> None:
    handler.session["x"] = "x" * 70_000


def logged(caplog: pytest.LogCaptureFixture) -> list[type]:
    """The errors that were logged, by their kind."""
    infos = [record.exc_info for record in caplog.records if record.levelno >= logging.ERROR]
    return [info[0] for info in infos if info and info[0]]


class TestFinish:
    @pytest.mark.parametrize(
        ("leave", "status"),
        [
            (lambda handler: None, 200),
            (lambda handler: handler.finish({"a": "json"}), 200),
            (lambda handler: handler.redirect("/elsewhere"), 302),
            (lambda handler: handler.send_error(404), 404),
        ],
    )
    def test_however_it_ends_it_commits(
        self, browse: Browse, sessions: AsyncSessions, leave: Callable[[Any], Any], status: int
    ) -> None:
        """By itself, with a value, with a redirect, with an error below 500."""

        def act(handler: Any) -> Any:
            enter(handler)
            return leave(handler)

        browser = browse(site(sessions, doing(act)))

        assert status == browser.get("/enter").code
        assert "user:42 {}" == browser.seen()

    def test_a_coroutine_of_tornados_own_kind(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """`gen.coroutine`, which came before `async`."""

        @gen.coroutine
        def act(handler: Any) -> Any:
            yield gen.moment
            handler.session.login("user:42")

        browser = browse(site(sessions, doing(act)))
        browser.get("/enter")

        assert "user:42 {}" == browser.seen()

    def test_awaited_it_is_out(self, browse: Browse, sessions: AsyncSessions, store: Flaky) -> None:
        """The store has it, and the session is closed."""
        found: list[int] = []

        async def act(handler: Any) -> None:
            enter(handler)
            await handler.finish("welcome")
            found.append(len(store._records))
            with pytest.raises(SessionClosed):
                put(handler)

        browser = browse(site(sessions, doing(act)))
        answer = browser.get("/enter")

        assert (b"welcome", [1]) == (answer.body, found)
        assert "user:42 {}" == browser.seen()

    def test_the_handler_is_finished_at_once(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Though the response waits for the commit: nothing can be written to it any more."""
        raised: list[str] = []

        def act(handler: Any) -> None:
            put(handler)
            handler.finish("whole")
            for method in (handler.write, handler.finish):
                with pytest.raises(RuntimeError) as error:
                    method("more")
                raised.append(str(error.value))

        answer = browse(site(sessions, doing(act))).get("/")

        assert (200, b"whole") == (answer.code, answer.body)
        assert ["Cannot write() after finish()", "finish() called twice"] == raised

    def test_an_error_after_it_is_logged(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The response is what was finished."""

        def act(handler: Any) -> None:
            put(handler)
            handler.redirect("/elsewhere")
            raise LookupError

        browser = browse(site(sessions, doing(act)))

        assert (302, [LookupError]) == (browser.get("/").code, logged(caplog))
        assert "None {'a': 1}" == browser.seen()

    def test_a_body_where_none_may_be_is_an_error(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As without a session."""

        def act(handler: Any) -> None:
            put(handler)
            handler.set_status(204)
            handler.finish("body")

        assert 500 == browse(site(sessions, doing(act))).get("/").code
        assert 1 == len(logged(caplog))

    def test_a_prepare_that_finishes_ends_the_request(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """The method does not run."""

        class Moved(SessionMixin, RequestHandler):
            async def prepare(self) -> None:
                await super().prepare()
                put(self)
                self.redirect("/elsewhere")

            def get(self, path: str) -> None:
                raise AssertionError

        browser = browse(site(sessions, Moved))

        assert 302 == browser.get("/").code
        assert "None {'a': 1}" == browser.seen()

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_the_prepare_of_the_next_base_runs_too(
        self, browse: Browse, sessions: AsyncSessions, asynchronous: bool
    ) -> None:
        """When the session is open."""

        class Counting(RequestHandler):
            def prepare(self) -> Any:
                return self.count() if asynchronous else put(self)

            async def count(self) -> None:
                put(self)

        browser = browse(site(sessions, doing(lambda handler: None, Counting)))
        browser.get("/")

        assert "None {'a': 1}" == browser.seen()

    def test_a_page_that_is_not_modified_varies_too(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """Tornado makes a 304 of it when it is finished."""
        browser = browse(site(sessions, doing(lambda it: it.finish(str(it.session.subject)))))
        etag = browser.get("/").headers["Etag"]
        answer = browser.get("/", headers={"If-None-Match": etag})

        assert (304, "Cookie") == (answer.code, answer.headers["Vary"])

    def test_compression_adds_to_what_varies(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Tornado's transforms see our header."""

        def act(handler: Any) -> None:
            put(handler)
            handler.finish("tea " * 1000)

        app = site(sessions, doing(act), settings={"compress_response": True})
        answer = browse(app).get("/", decompress_response=True)

        assert "Cookie, Accept-Encoding" == answer.headers["Vary"]
        assert b"tea " * 1000 == answer.body

    def test_tornados_own_cookies_are_untouched(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """Signed ones, and the one against forged requests."""

        def act(handler: Any) -> None:
            put(handler)
            handler.set_signed_cookie("theme", "dark")
            handler.finish(handler.xsrf_token)

        app = site(sessions, doing(act), settings={"cookie_secret": "s" * 32})
        cookies = browse(app).get("/").headers.get_list("Set-Cookie")

        assert {"__Host-session", "theme", "_xsrf"} == {c.partition("=")[0] for c in cookies}


class TestErrors:
    def test_a_commit_that_fails_gets_the_applications_page(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """By `write_error`, which may still read the session; and it is finished once."""
        finished: list[int] = []

        class Page(SessionMixin, RequestHandler):
            def get(self, path: str) -> None:
                fill(self)
                self.set_header("X-Tea", "green")
                self.finish("all is well")

            def write_error(self, status_code: int, **options: Any) -> None:
                self.finish(f"{status_code} for {self.session.subject}")

            def on_finish(self) -> None:
                finished.append(self.get_status())

        answer = browse(site(sessions, Page)).get("/")

        assert (500, b"500 for None") == (answer.code, answer.body)
        assert ([SessionTooLarge], [500]) == (logged(caplog), finished)
        assert "X-Tea" not in answer.headers

    def test_an_outage_is_503_in_debug_mode_too(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """Where Tornado shows tracebacks."""

        async def act(handler: Any) -> None:
            store.down = {"load"}
            handler.set_header("X-Tea", "green")
            await sessions.ping()

        app = site(sessions, doing(act), settings={"serve_traceback": True})
        answer = browse(app).get("/")

        assert (503, b"503\n", "5") == (answer.code, answer.body, answer.headers["Retry-After"])
        assert "X-Tea" not in answer.headers

    def test_a_request_that_is_refused_before_prepare(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """No session is opened, and the application's error page has no user."""

        class Page(SessionMixin, RequestHandler):
            def write_error(self, status_code: int, **options: Any) -> None:
                self.finish(f"{status_code} for {self.current_user}")

        app = site(sessions, Page, settings={"xsrf_cookies": True})
        answer = browse(app).ask("POST", "/", body=b"")

        assert (403, b"403 for None", []) == (answer.code, answer.body, store.calls)

    def test_a_prepare_without_super_is_told(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With what to write there."""

        class Page(SessionMixin, RequestHandler):
            async def prepare(self) -> None:
                """It does not ask its bases."""

            def get(self, path: str) -> None:
                put(self)

        assert 500 == browse(site(sessions, Page)).get("/").code
        assert "await super().prepare()" in caplog.text

    def test_an_application_without_sessions_is_told(
        self, browse: Browse, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With what to call."""
        assert 500 == browse(Application([("/", Who)])).get("/").code
        assert "setup(app, sessions)" in caplog.text


def streaming(
    before: Callable[[Any], object],
    after: Callable[[Any], object] = lambda handler: None,
    *,
    awaited: bool = True,
) -> Any:
    """A handler that sends its body in parts."""

    async def act(handler: Any) -> None:
        before(handler)
        handler.write("one, ")
        flushed = handler.flush()
        if awaited:
            await flushed
        after(handler)
        handler.write("two")

    return doing(act)


class TestStreams:
    @pytest.mark.parametrize("awaited", [True, False])
    def test_what_came_before_the_first_flush_is_kept(
        self, browse: Browse, sessions: AsyncSessions, awaited: bool
    ) -> None:
        """Awaited or not, it is committed once, and the cookie is in the head."""
        browser = browse(site(sessions, streaming(enter, awaited=awaited)))
        answer = browser.get("/stream")

        assert (b"one, two", 1) == (answer.body, len(answer.headers.get_list("Set-Cookie")))
        assert "user:42 {}" == browser.seen()

    def test_it_is_stored_when_the_head_is_out(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """So that an impatient browser finds it."""
        stored: list[int] = []
        handler = streaming(enter, lambda handler: stored.append(len(store._records)))
        browse(site(sessions, handler)).get("/stream")

        assert [1] == stored

    def test_a_change_after_the_head_raises(self, browse: Browse, sessions: AsyncSessions) -> None:
        """On the line that makes it."""
        raised: list[bool] = []

        def change(handler: Any) -> None:
            with pytest.raises(SessionClosed):
                put(handler)
            raised.append(True)

        browser = browse(site(sessions, streaming(lambda handler: None, change)))

        assert (b"one, two", [True]) == (browser.get("/stream").body, raised)
        assert "None {}" == browser.seen()

    def test_a_change_in_place_after_the_head_is_told(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The response is out by then, so Tornado logs it."""
        handler = streaming(
            lambda handler: handler.session.__setitem__("cart", []),
            lambda handler: handler.session["cart"].append("tea"),
        )
        browse(site(sessions, handler)).get("/stream")

        assert [SessionClosed] == logged(caplog)

    def test_one_that_cannot_be_committed_is_a_500(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The handler ends where it flushes."""
        reached: list[object] = []
        answer = browse(site(sessions, streaming(fill, reached.append))).get("/stream")

        assert (500, [], [SessionTooLarge]) == (answer.code, reached, logged(caplog))
        assert b"one" not in answer.body

    def test_not_awaited_neither(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The handler was done before the commit began."""
        answer = browse(site(sessions, streaming(fill, awaited=False))).get("/stream")

        assert (500, [SessionTooLarge]) == (answer.code, logged(caplog))

    def test_an_outage_is_a_503(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """The handler ends where it flushes."""
        reached: list[object] = []
        browser = browse(site(sessions, streaming(put, reached.append)))
        store.down = {"create"}
        answer = browser.get("/stream")

        assert (503, b"503\n", []) == (answer.code, answer.body, reached)

    def test_static_files_leave_the_session_alone(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky, tmp_path: Path
    ) -> None:
        """No cookie, no `Vary`, no write."""
        (tmp_path / "tea.txt").write_text("tea")

        class Files(SessionMixin, StaticFileHandler):
            """Files for those who have a session."""

        app = Application([("/(.*)", Files, {"path": str(tmp_path)})])
        setup(app, sessions, sweep=None)
        browser = browse(app)
        login(browser.headers, sessions, "user:42")
        store.calls.clear()
        answer = browser.get("/tea.txt")

        assert (b"tea", ["load"]) == (answer.body, store.calls)
        assert set() == {"Set-Cookie", "Vary"} & set(answer.headers)


class Chat(SessionMixin, WebSocketHandler):
    """It greets, and says who is there when it is asked."""

    async def prepare(self) -> None:
        await super().prepare()
        self.session["joined"] = True

    def open(self, *args: str) -> None:
        self.write_message(f"hello {self.session.subject}")

    def on_message(self, message: str | bytes) -> None:
        try:
            put(self)
        except SessionClosed:
            self.write_message(f"{current() is self.session}")


class TestWebSockets:
    def connect(self, browser: Browser, **headers: str) -> Any:
        url = f"ws://127.0.0.1:{browser.port}/chat"
        return websocket_connect(HTTPRequest(url, headers={**browser.headers, **headers}))

    def test_the_handshake_carries_the_cookie(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """What was changed before it is kept; afterwards the session is read-only."""
        browser = browse(site(sessions, Chat))

        async def talk() -> tuple[Any, Any, list[str]]:
            socket = await self.connect(browser)
            first = await socket.read_message()
            await socket.write_message("?")
            second = await socket.read_message()
            socket.close()
            return first, second, socket.headers.get_list("Set-Cookie")

        first, second, (cookie,) = browser.run(talk)
        browser.headers["Cookie"] = cookie.partition(";")[0]

        assert ("hello None", "True") == (first, second)
        assert "None {'joined': True}" == browser.seen()

    def test_a_change_in_place_is_told_at_the_end(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When the socket is closed."""
        ended = asyncio.Event()

        class Cart(SessionMixin, WebSocketHandler):
            async def get(self, *args: str) -> None:
                self.session["cart"] = []
                try:
                    await super().get(*args)
                finally:
                    ended.set()

            def open(self, *args: str) -> None:
                self.session["cart"].append("tea")
                self.close()

        browser = browse(site(sessions, Cart))

        async def talk() -> None:
            socket = await self.connect(browser)
            await ended.wait()
            socket.close()

        browser.run(talk)
        assert [SessionClosed] == logged(caplog)

    @pytest.mark.parametrize(
        ("down", "origin", "status"),
        [(set(), "http://evil.example", 403), ({"create"}, "http://evil.example", 503)],
    )
    def test_a_refused_handshake_is_an_answer_like_any_other(
        self,
        browse: Browse,
        sessions: AsyncSessions,
        store: Flaky,
        down: set[str],
        origin: str,
        status: int,
    ) -> None:
        """It commits, or is a 503 in an outage."""
        browser = browse(site(sessions, Chat))
        store.down = down

        async def talk() -> int:
            with pytest.raises(HTTPClientError) as refused:
                await self.connect(browser, Origin=origin)
            return refused.value.code

        assert status == browser.run(talk)
        assert (0 if down else 1) == len(store._records)

    def test_the_mixin_comes_first(self) -> None:
        """Or the handshake would be out before the commit."""
        with pytest.raises(ConfigurationError, match=r"class Late\(SessionMixin, …\)"):

            class Late(WebSocketHandler, SessionMixin):
                """Bases the wrong way round."""


class TestCSRF:
    """What `test_outside_csrf` does not see."""

    protection = CrossOriginProtection(tokens=True)

    def site(self, sessions: AsyncSessions) -> Application:
        class Page(CSRFMixin, RequestHandler):
            protection = TestCSRF.protection

            def get(self, *args: str) -> None:
                self.finish(self.xsrf_form_html())

            def post(self, *args: str) -> None:
                put(self)

        return site(sessions, Page)

    def test_a_form_has_the_sessions_token(self, browse: Browse, sessions: AsyncSessions) -> None:
        """By Tornado's own helper."""
        browser = browse(self.site(sessions))
        field = re.fullmatch(
            '<input type="hidden" name="(.+)" value="(.+)"/>', browser.get().body.decode()
        )
        assert field is not None
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        bodies = [f"{field[1]}={field[2]}", f"{field[1]}=x", ""]
        answers = [browser.ask("POST", "/", body=body, headers=kind) for body in bodies]

        assert [200, 403, 403] == [answer.code for answer in answers]
        assert b"403 Forbidden: CSRF token\n" == answers[1].body

    def test_another_sites_request_opens_no_session(
        self, browse: Browse, store: Flaky, sessions: AsyncSessions
    ) -> None:
        """It is refused before, and before the login gate."""

        class Page(CSRFMixin, LoginMixin, RequestHandler):
            protection = CrossOriginProtection()
            gate = LoginGate()

            def post(self, *args: str) -> None:
                """Nothing is to be done."""

        class Filled(SessionMixin, RequestHandler):
            def get(self) -> None:
                put(self)

        app = Application([("/fill", Filled), ("/", Page)])
        setup(app, sessions, sweep=None)
        browser = browse(app)
        browser.get("/fill")
        store.calls.clear()
        cross = {"Sec-Fetch-Site": "cross-site"}

        assert (403, []) == (browser.ask("POST", "/", body="", headers=cross).code, store.calls)
        assert (401, ["load"]) == (browser.ask("POST", "/", body="").code, store.calls[:1])

    def test_without_tokens_tornados_own_helper_stays(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """Its cookie is its own."""

        class Page(CSRFMixin, RequestHandler):
            protection = CrossOriginProtection()

            def get(self, *args: str) -> None:
                self.finish(self.xsrf_form_html())

        assert b'name="_xsrf"' in browse(site(sessions, Page)).get().body

    def test_another_sites_page_gets_no_socket(
        self, browse: Browse, sessions: AsyncSessions
    ) -> None:
        """Where the handler's own check lets it pass; this site's own does, without a token."""

        class Open(CSRFMixin, WebSocketHandler):
            protection = TestCSRF.protection

            def check_origin(self, origin: str) -> bool:
                return True

        browser = browse(site(sessions, Open))

        async def talk(origin: str) -> int:
            url = f"ws://127.0.0.1:{browser.port}/chat"
            try:
                socket = await websocket_connect(HTTPRequest(url, headers={"Origin": origin}))
            except HTTPClientError as refused:
                return refused.code
            socket.close()
            return 101

        origins = [f"http://127.0.0.1:{browser.port}", "https://evil.example"]
        assert [101, 403] == [browser.run(talk, origin) for origin in origins]


class TestSetup:
    def test_named_sessions(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Each under its name, with a cookie of its own."""
        prefs = AsyncSessions(AsyncMemoryStore(), cookie=Cookie("prefs"))

        def act(handler: Any) -> None:
            handler.sessions["prefs"]["dark"] = current("prefs") is handler.sessions["prefs"]

        browser = browse(site(sessions, doing(act), named={"prefs": prefs}))
        cookies = browser.get("/").headers.get_list("Set-Cookie")

        assert ["__Host-prefs"] == [cookie.partition("=")[0] for cookie in cookies]

    def test_current_is_this_requests_only(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Each is there in its own task, and nowhere else."""
        found: list[Session] = []

        def act(handler: Any) -> None:
            found.extend([current(), handler.session])

        browser = browse(site(sessions, doing(act)))
        browser.get("/")
        browser.get("/")

        assert [True, False, True] == [a is b for a, b in pairwise(found)]
        with pytest.raises(LookupError):
            current()

    def test_skipped_paths_open_nothing(
        self, browse: Browse, sessions: AsyncSessions, store: Flaky
    ) -> None:
        """There is nobody, and asking for a session says why."""

        def act(handler: Any) -> None:
            assert handler.current_user is None
            with pytest.raises(LookupError, match="skip="):
                _ = handler.session

        browser = browse(site(sessions, doing(act), skip=["/caf\u00e9/*"]))
        login(browser.headers, sessions, "user:42")
        store.calls.clear()

        assert (200, []) == (browser.get("/caf%C3%A9/a").code, store.calls)

    def test_client_makes_what_lists_show(self, browse: Browse, sessions: AsyncSessions) -> None:
        """By default the peer and its User-Agent."""
        browser = browse(site(sessions, doing(enter)))
        browser.get("/", headers={"User-Agent": "Tea/1.0"})
        browse(site(sessions, doing(enter), client=lambda it: Client(it.path, "x"))).get("/x")
        listed = browser.run(sessions.list_for, "user:42")

        assert {("127.0.0.1", "Tea/1.0"), ("/x", "x")} == {info.client for info in listed}

    def test_synchronous_sessions_are_refused(self) -> None:
        """With what to make instead."""
        wrong: Any = Sessions(MemoryStore())
        with pytest.raises(ConfigurationError, match=r"setup: .*AsyncSessions\(store\)"):
            setup(Application(), wrong)

    def test_a_wrong_interval_is_refused(self, sessions: AsyncSessions) -> None:
        """On the line that gives it."""
        with pytest.raises(ConfigurationError, match="sweep"):
            setup(Application(), sessions, sweep=0)

    def test_what_expired_is_swept_from_the_first_request_on(self, browse: Browse) -> None:
        """In each event loop that serves the application."""

        class Swept(MemoryStore):
            def __init__(self) -> None:
                super().__init__()
                self.event = asyncio.Event()

            def sweep(self, limit: int, now: int) -> int:
                self.event.set()
                return super().sweep(limit, now)

        store = Swept()
        app = site(AsyncSessions(AsyncMemoryStore(store)), Who, sweep=0.001)
        for _ in range(2):
            store.event = asyncio.Event()
            browser = browse(app)
            browser.get("/who")
            browser.run(store.event.wait)

    def test_a_loop_that_is_closed_untold_leaves_no_task(self, sessions: AsyncSessions) -> None:
        """Tornado's own way to start is to run a loop, and nobody ends its tasks."""
        app = site(sessions, Who, sweep=600)

        async def main() -> None:
            sock, port = testing.bind_unused_port()
            server = HTTPServer(app)
            server.add_sockets([sock])
            client = AsyncHTTPClient(force_instance=True)
            await client.fetch(f"http://127.0.0.1:{port}/who")
            client.close()
            server.stop()
            await server.close_all_connections()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
        left = {task.get_name() for task in asyncio.all_tasks(loop)}
        loop.close()

        assert set() == {name for name in left if "coatcheck" in name}


class Ann:
    """A user as an application has them."""

    name = "Ann"


async def load(subject: str) -> Ann | None:
    return {"user:42": Ann()}.get(subject)


class TestUsers:
    def test_tornados_decorator_works(self, browse: Browse, sessions: AsyncSessions) -> None:
        """`current_user` is the subject."""

        class Page(SessionMixin, RequestHandler):
            @authenticated
            def get(self, path: str) -> None:
                self.finish(f"hello {self.current_user}")

        browser = browse(site(sessions, Page, settings={"login_url": "/login"}))
        refused = browser.get("/a")
        login(browser.headers, sessions, "user:42")

        assert (302, "/login?next=%2Fa") == (refused.code, refused.headers["Location"])
        assert b"hello user:42" == browser.get("/a").body

    def test_a_gate_closes_handlers(self, browse: Browse, sessions: AsyncSessions) -> None:
        """But for public paths; people are sent to the login page, scripts get 401."""
        prepared: list[str] = []

        class Page(LoginMixin, RequestHandler):
            gate = LoginGate(public=["/open/*"])

            async def prepare(self) -> None:
                await super().prepare()
                prepared.append(self.request.path)

            def get(self, path: str) -> None:
                self.finish(f"hello {self.current_user}")

        browser = browse(site(sessions, Page))
        answers = [browser.get("/a?b=c", headers=PAGE), browser.get("/a"), browser.get("/open/a")]
        login(browser.headers, sessions, "user:42")
        bodies = [browser.get(path).body for path in ("/open/a", "/a")]

        assert [303, 401, 200] == [answer.code for answer in answers]
        assert "/login?next=/a%3Fb%3Dc" == answers[0].headers["Location"]
        assert [b"hello user:42"] * 2 == bodies
        assert ["/open/a", "/open/a", "/a"] == prepared

    def test_an_encoded_slash_opens_nothing(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Tornado's routes take `/open%2Fa` for one part, so the gate does not see `/open/a`."""

        class Page(LoginMixin, RequestHandler):
            gate = LoginGate(public=["/open/*", "/caf\u00e9/*"])

            def get(self, path: str) -> None:
                """It may be seen."""

        browser = browse(site(sessions, Page))
        paths = ["/open%2fa", "/open/%252e", "/caf%C3%A9/a"]

        assert [401, 401, 200] == [browser.get(path).code for path in paths]

    @pytest.mark.parametrize("path", ["/%6fpen/a", "/%6cogin", "/open/%61"])
    def test_another_spelling_is_another_path(
        self, browse: Browse, sessions: AsyncSessions, path: str
    ) -> None:
        """Tornado routes what came, and a route for all paths has this one too."""

        class Page(LoginMixin, RequestHandler):
            gate = LoginGate(public=["/open/*"])

            def get(self, path: str) -> None:
                """It may not be seen."""

        assert 401 == browse(site(sessions, Page)).get(path).code

    def test_a_gate_loads_the_user(self, browse: Browse, sessions: AsyncSessions) -> None:
        """`current_user` is a user or None, never a subject; where there is none it ends."""

        class Page(LoginMixin, RequestHandler):
            gate = LoginGate(public=["/open"], user=load)

            def get(self, path: str) -> None:
                self.finish(f"hello {self.current_user and self.current_user.name}")

        browser = browse(site(sessions, Page))
        login(browser.headers, sessions, "user:42")
        assert [b"hello None", b"hello Ann"] == [browser.get(p).body for p in ("/open", "/a")]
        login(browser.headers, sessions, "user:7")
        gone = browser.get("/a")

        assert (401, True) == (gone.code, "Max-Age=0" in gone.headers["Set-Cookie"])

    def test_single_methods(self, browse: Browse, sessions: AsyncSessions) -> None:
        """Plain or asynchronous; the gate's `public=` does not count."""

        class Page(SessionMixin, RequestHandler):
            @login_required(LoginGate(user=load, public=["/*"]))
            def get(self, path: str) -> None:
                self.finish(self.current_user.name)

            @login_required(LoginGate(user=load, public=["/*"]))
            async def post(self, path: str) -> None:
                await self.finish(self.current_user.name)

        browser = browse(site(sessions, Page))
        refused = [browser.get("/").code, browser.ask("POST", "/", body=b"").code]
        login(browser.headers, sessions, "user:42")
        bodies = [browser.get("/").body, browser.ask("POST", "/", body=b"").body]

        assert ([401, 401], [b"Ann", b"Ann"]) == (refused, bodies)

    def test_a_mixin_without_a_gate_is_closed(
        self, browse: Browse, sessions: AsyncSessions, caplog: pytest.LogCaptureFixture
    ) -> None:
        """And says what is missing."""

        class Page(LoginMixin, RequestHandler):
            """It forgot its gate."""

        assert 500 == browse(site(sessions, Page)).get("/").code
        assert "gate" in caplog.text


def test_the_login_for_tornados_test_case() -> None:
    """Its client keeps no cookies, so the headers do."""
    sessions = AsyncSessions(AsyncMemoryStore())

    class Case(testing.AsyncHTTPTestCase):
        def get_app(self) -> Application:
            return site(sessions, Who)

        def runTest(self) -> None:
            headers: dict[str, str] = {}
            login(headers, sessions, "user:42", values={"cart": ["tea"]})
            self.body = self.fetch("/who", headers=headers).body

    case = Case()
    result = case.run()

    assert result is not None
    assert result.wasSuccessful()
    assert b"user:42 {'cart': ['tea']}" == case.body
