"""The Sanic adapter, under ASGI and on its own server: what it adds to the laws."""

import asyncio
import socket
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from sanic import HTTPResponse, Sanic, text
from sanic.application.constants import Mode
from sanic.exceptions import NotFound, SanicException
from sanic.response import file_stream
from sanic.views import HTTPMethodView
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Cookie,
    SessionClosed,
    Sessions,
    StoreUnavailable,
    current,
)
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web.sanic import login_required, setup, setup_csrf, setup_gate
from tests.frameworks.test_watched_sockets import on_sanics_server, uvicorned
from tests.outside import PATIENCE, Answer, asgi_scope
from tests.outside.frameworks.sanic import begin_lifespan, new_app
from tests.test_asgi import Message, as_answer, played
from tests.test_laws import Flaky

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    from sanic_testing.reusable import ReusableClient  # type: ignore[import-untyped]

PAGE = {"accept": "text/html"}


class Site:
    """A Sanic app with sessions over a store that can be looked into past it."""

    def __init__(self, store: MemoryStore | None = None, **options: Any) -> None:
        self.store = store or MemoryStore()
        self.clock = Clock()
        self.sessions = AsyncSessions(AsyncMemoryStore(self.store), clock=self.clock)
        self.inside = Sessions(self.store, clock=self.clock)
        self.app = new_app()
        self.begun = False
        setup(self.app, self.sessions, **{"sweep": None, **options})

    def get(self, view: Callable[..., Any], path: str = "/") -> "Site":
        """A view of this path."""
        self.app.add_route(
            view, path, name=f"view{len(self.app.router.routes_all)}{path.strip('/')}"
        )
        return self

    def ask(self, path: str = "/", cookie: str | None = None, **headers: str) -> Answer:
        return as_answer(self.played(path, cookie, **headers))

    def played(self, path: str = "/", cookie: str | None = None, **headers: str) -> list[Message]:
        shown = headers if cookie is None else {**headers, "cookie": cookie}
        raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in shown.items()]
        scope = asgi_scope(path=path, raw_path=path.encode(), headers=raw)
        return self.run(scope, [{"type": "http.request"}])

    def run(self, scope: Any, incoming: list[Message]) -> list[Message]:
        async def run() -> list[Message]:
            if not self.begun:
                await begin_lifespan(self.app)
                self.begun = True
            return await played(self.app, scope, incoming)

        return asyncio.run(run())

    def logged_in(self, **values: Any) -> str:
        """The cookie of a session that is user:42's."""
        session = self.inside.open(None)
        session.login("user:42")
        session.update(values)
        return self.inside.commit(session)[0].partition(";")[0]

    def stored(self, cookie: str) -> dict[str, Any]:
        return dict(self.inside.open(cookie))


def cookies_of(answer: Answer) -> list[str]:
    return [cookie.partition("=")[0] for cookie in answer.cookies]


async def ok(request: Any) -> HTTPResponse:
    return text("ok")


async def put(request: Any) -> HTTPResponse:
    request.ctx.session["a"] = 2
    return text("put")


async def fail(request: Any) -> HTTPResponse:
    raise RuntimeError("a view that fails")


class TestThePlace:
    def test_the_session_is_in_the_context(self) -> None:
        """The very one that `current()` gives, in a thread of its own too."""

        async def view(request: Any) -> HTTPResponse:
            session = request.ctx.session
            return text(str([session is current(), session is await asyncio.to_thread(current)]))

        assert b"[True, True]" == Site().get(view).ask().body

    def test_named_ones_are_beside_it(self) -> None:
        """Each with a cookie of its own."""
        prefs = AsyncSessions(AsyncMemoryStore(), cookie=Cookie("prefs"))

        async def view(request: Any) -> HTTPResponse:
            request.ctx.sessions["prefs"]["theme"] = "dark"
            return text(str(request.ctx.sessions["prefs"] is current("prefs")))

        answer = Site(named={"prefs": prefs}).get(view).ask()

        assert (b"True", ["__Host-prefs"]) == (answer.body, cookies_of(answer))

    def test_where_it_is_skipped_nothing_is_opened(self) -> None:
        """Neither in the context, nor as `current()`."""

        async def view(request: Any) -> HTTPResponse:
            assert not hasattr(request.ctx, "session")
            with pytest.raises(LookupError):
                current()
            return text("looked")

        assert b"looked" == Site(skip=["/"]).get(view).ask().body

    def test_an_error_page_has_it(self) -> None:
        """For paths that no route has, too."""
        site = Site()

        @site.app.exception(NotFound)  # type: ignore[untyped-decorator]
        async def missing(request: Any, error: Exception) -> HTTPResponse:
            return text(str(request.ctx.session.subject), 404)

        answer = site.get(ok).ask("/missing", site.logged_in())

        assert (404, b"user:42", "Cookie") == (answer.status, answer.body, answer["vary"])

    def test_by_default_the_client_is_the_peer(self) -> None:
        """Whatever `X-Forwarded-For` says."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session.login("user:42")
            return text("in")

        site = Site().get(view)
        site.ask(user_agent="curl", x_forwarded_for="1.2.3.4")
        (info,) = site.inside.list_for("user:42")

        assert Client("203.0.113.9", "curl") == info.client

    def test_a_function_of_the_request_may_say_it(self) -> None:
        """It gets Sanic's own request."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session.login("user:42")
            return text("in")

        site = Site(client=lambda request: Client(request.headers["x-real-ip"], request.path))
        site.get(view).ask(x_real_ip="192.0.2.7")
        (info,) = site.inside.list_for("user:42")

        assert Client("192.0.2.7", "/") == info.client

    def test_synchronous_sessions_are_refused(self) -> None:
        """Where they are given."""
        made: Any = Sessions(MemoryStore())
        with pytest.raises(ConfigurationError, match="setup: expected AsyncSessions, got Sessions"):
            setup(new_app(), made)


class TestMiddleware:
    def test_the_apps_own_may_change_the_session(self) -> None:
        """Before the view and after it, whichever is attached first."""
        site = Site().get(put)
        site.app.on_request(lambda request: request.ctx.session.update(before=1))
        site.app.on_response(lambda request, response: request.ctx.session.update(after=1))
        cookie = site.ask().cookies[0].partition(";")[0]

        assert {"before": 1, "a": 2, "after": 1} == site.stored(cookie)

    def test_one_that_answers_in_the_views_place_commits(self) -> None:
        """Sanic ends the chain there."""
        site = Site().get(put)
        site.app.on_response(lambda request, response: text("replaced", headers={"Vary": "Accept"}))
        answer = site.ask()

        assert (b"replaced", ["__Host-session"]) == (answer.body, cookies_of(answer))
        assert "Accept, Cookie" == answer["vary"]

    def test_one_that_fails_is_logged_and_commits(self) -> None:
        """As Sanic sends the response all the same."""
        site = Site().get(put)
        site.app.on_response(lambda request, response: 1 / 0)
        answer = site.ask()

        assert (200, ["__Host-session"]) == (answer.status, cookies_of(answer))

    def test_one_that_answers_in_the_views_place_meets_the_outage(self) -> None:
        """The 503 takes its place."""
        site = Site(flaky := Flaky()).get(put)
        site.app.on_response(lambda request, response: text("replaced"))
        flaky.down = {"create"}
        answer = site.ask()

        assert (503, b"503\n", []) == (answer.status, answer.body, answer.cookies)
        assert ("5", "no-store") == (answer["retry-after"], answer["cache-control"])

    def test_one_that_answers_in_the_views_place_may_not_be_committed(self) -> None:
        """Then Sanic makes a response of the error."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = "x" * 70_000
            return text("ok")

        site = Site().get(view)
        site.app.on_response(lambda request, response: text("replaced"))
        answer = site.ask()

        assert (500, []) == (answer.status, answer.cookies)

    def test_one_that_answers_the_request_commits(self) -> None:
        """The view is not asked."""
        site = Site().get(fail)

        async def answer(request: Any) -> HTTPResponse:
            return await put(request)

        site.app.on_request(answer)

        assert ["__Host-session"] == cookies_of(site.ask())


class TestErrors:
    def test_a_handler_of_the_app_commits_below_500(self) -> None:
        """By the status of its answer."""
        site = Site()

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = 2
            raise KeyError("a")

        @site.app.exception(KeyError)  # type: ignore[untyped-decorator]
        async def handle(request: Any, error: Exception) -> HTTPResponse:
            return text("no such thing", 404)

        site.get(view).ask(cookie=(cookie := site.logged_in(a=1)))

        assert {"a": 2} == site.stored(cookie)

    def test_in_debug_mode_it_is_the_same(self) -> None:
        """The page shows the traceback; the edits are dropped."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = 2
            raise RuntimeError("a view that fails")

        site = Site().get(view)
        site.app.state.mode = Mode.DEBUG
        answer = site.ask(cookie=(cookie := site.logged_in(a=1)))

        assert (500, {"a": 1}) == (answer.status, site.stored(cookie))

    def test_a_refused_commit_is_the_error_that_the_apps_handler_gets(self) -> None:
        """Though Sanic itself only logs what a response middleware raises."""
        site = Site()

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = "x" * 70_000
            return text("ok")

        @site.app.exception(Exception)  # type: ignore[untyped-decorator]
        async def handle(request: Any, error: Exception) -> HTTPResponse:
            return text(type(error).__name__, 500)

        answer = site.get(view).ask()
        assert (500, b"SessionTooLarge", []) == (answer.status, answer.body, answer.cookies)

    def test_a_refused_commit_of_an_error_page_is_a_500(self) -> None:
        """Of 404s too."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = "x" * 70_000
            raise SanicException("gone", 404)

        answer = Site().get(view).ask()
        assert (500, []) == (answer.status, answer.cookies)

    def test_such_a_500_keeps_a_logout(self) -> None:
        """And deletes the cookie, though Sanic runs the request middleware once more for it."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session.logout()
            request.ctx.session["a"] = "x" * 70_000
            raise SanicException("gone", 404)

        site = Site().get(view)
        answer = site.ask(cookie=site.logged_in())

        assert (500, ["__Host-session"]) == (answer.status, cookies_of(answer))
        assert [] == site.inside.list_for("user:42")


class TestOutages:
    def test_the_503_has_nothing_of_the_apps(self) -> None:
        """Neither its body nor its headers nor its cookies."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = 1
            response = text("in", headers={"ETag": '"1"'})
            response.add_cookie("theme", "dark")
            return response

        site = Site(flaky := Flaky()).get(view)
        flaky.down = {"create"}
        answer = site.ask()

        assert (503, b"503\n") == (answer.status, answer.body)
        assert {
            "retry-after": "5",
            "cache-control": "no-store",
            "vary": "Cookie",
            "content-type": "text/plain; charset=utf-8",
        } == {k.lower(): v for k, v in answer.headers}

    def test_an_app_that_handles_it_is_left_alone(self) -> None:
        """Its own page, its own status."""
        site = Site(flaky := Flaky()).get(put)

        @site.app.exception(StoreUnavailable)  # type: ignore[untyped-decorator]
        async def handle(request: Any, error: Exception) -> HTTPResponse:
            return text("come back later", 503)

        cookie = site.logged_in()
        flaky.down = {"load"}
        answer = site.ask(cookie=cookie)

        assert (503, b"come back later") == (answer.status, answer.body)

    def test_one_met_between_the_response_and_its_first_part_is_a_503_too(self) -> None:
        """Nothing has gone out yet."""

        async def view(request: Any) -> None:
            response = await request.respond()
            await response.send(str(request.ctx.session.subject))

        site = Site(flaky := Flaky()).get(view)
        cookie = site.logged_in()
        flaky.down = {"load"}
        answer = site.ask(cookie=cookie)

        assert (503, b"503\n", "5") == (answer.status, answer.body, answer["retry-after"])

    def test_what_a_streaming_view_still_sends_is_dropped(self) -> None:
        """The 503 goes out whole, and once."""

        async def view(request: Any) -> None:
            request.ctx.session["a"] = 1
            response = await request.respond()
            await response.send("a")
            await response.send("b")
            await response.eof()

        site = Site(flaky := Flaky()).get(view)
        flaky.down = {"create"}
        answer = site.ask()

        assert (503, b"503\n", None) == (answer.status, answer.body, answer.error)


class TestStreams:
    @staticmethod
    def streaming(change: Callable[[Any], object], **options: Any) -> Site:
        """It does this to its session after its first part."""

        async def view(request: Any) -> None:
            session = request.ctx.session
            session["seen"] = True
            response = await request.respond(content_type="text/plain")
            await response.send("a")
            change(session)
            await response.send("b")
            await response.eof()

        return Site(**options).get(view)

    def test_what_was_changed_before_is_stored_while_it_streams(self) -> None:
        """Durable before visible."""
        found: list[bool] = []
        site = self.streaming(lambda session: found.append(site.stored(cookie)["seen"]))
        cookie = site.logged_in()

        assert (b"ab", [True]) == (site.ask(cookie=cookie).body, found)

    def test_the_cookie_goes_with_the_head(self) -> None:
        """Once."""
        assert ["__Host-session"] == cookies_of(self.streaming(lambda session: None).ask())

    def test_a_late_change_raises_on_its_line(self) -> None:
        """Sanic logs it, and the body is cut."""
        found: list[type[Exception]] = []

        def change(session: Any) -> None:
            with pytest.raises(SessionClosed):
                session["late"] = 1
            found.append(SessionClosed)

        assert b"ab" == self.streaming(change).ask().body
        assert [SessionClosed] == found

    def test_a_late_change_in_place_is_told_at_the_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Sanic logs it."""
        site = self.streaming(lambda session: session["cart"].append("tea"))
        site.ask(cookie=site.logged_in(cart=[]))

        assert "SessionClosed" in caplog.text
        assert "'cart'" in caplog.text

    def test_a_change_in_place_before_the_first_part_is_told_once(self) -> None:
        """The commit is in `respond()`; nothing is sent yet, so Sanic answers for the error."""

        async def view(request: Any) -> None:
            await request.respond(text("ok"))
            request.ctx.session["cart"].append("tea")

        site = Site().get(view)
        cookie = site.logged_in(cart=[])
        answer = site.ask(cookie=cookie)

        assert (500, None, {"cart": []}) == (answer.status, answer.error, site.stored(cookie))

    def test_a_refused_commit_is_a_500_of_its_own(self) -> None:
        """Nothing of the stream goes out."""

        async def view(request: Any) -> None:
            request.ctx.session["a"] = "x" * 70_000
            response = await request.respond()
            await response.send("a")

        answer = Site().get(view).ask()
        assert (500, False) == (answer.status, answer.body.startswith(b"a"))

    def test_an_error_after_respond_keeps_what_was_committed(self) -> None:
        """The head of Sanic's 500 has the cookie, for the store has the session."""

        async def view(request: Any) -> None:
            request.ctx.session["a"] = 1
            await request.respond()
            raise RuntimeError("a view that fails")

        answer = Site().get(view).ask()
        assert (500, ["__Host-session"]) == (answer.status, cookies_of(answer))

    def test_a_file_that_streams_has_the_cookie(self, tmp_path: Path) -> None:
        """Sanic's `file_stream` is no response until it is sent."""
        (tmp_path / "a.txt").write_text("a file")

        async def view(request: Any) -> Any:
            request.ctx.session["a"] = 1
            return await file_stream(tmp_path / "a.txt")

        answer = Site().get(view).ask()
        assert (b"a file", ["__Host-session"]) == (answer.body, cookies_of(answer))

    def test_a_cookie_of_the_apps_stays(self) -> None:
        """Of Sanic's jar."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = 1
            response = text("ok")
            response.add_cookie("theme", "dark")
            return response

        assert ["theme", "__Host-session"] == cookies_of(Site().get(view).ask())


class TestWebSockets:
    @staticmethod
    def connect(site: Site, cookie: str | None = None) -> list[Message]:
        headers = [] if cookie is None else [(b"cookie", cookie.encode())]
        parts = {"type": "websocket", "path": "/ws", "raw_path": b"/ws", "headers": headers}
        return site.run(asgi_scope(**parts), [{"type": "websocket.connect"}])

    def site(self, change: Callable[[Any], object] = lambda session: None) -> Site:
        async def handler(request: Any, ws: Any) -> None:
            assert request.ctx.session is current()
            change(request.ctx.session)
            await ws.send(f"hello {request.ctx.session.subject}")

        made = Site()
        made.app.add_websocket_route(handler, "/ws")
        return made

    def test_the_session_is_there_to_read(self) -> None:
        """As it was when the handshake came."""
        site = self.site()
        sent = self.connect(site, site.logged_in())

        assert {"type": "websocket.send", "text": "hello user:42"} == sent[1]

    def test_a_change_raises(self) -> None:
        """The handshake is over before the handler runs."""
        found: list[type[Exception]] = []

        def change(session: Any) -> None:
            with pytest.raises(SessionClosed):
                session["a"] = 1
            found.append(SessionClosed)

        self.connect(self.site(change))
        assert [SessionClosed] == found

    def test_a_change_in_place_is_told_at_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        """Sanic logs it."""
        site = self.site(lambda session: session["cart"].append("tea"))
        self.connect(site, site.logged_in(cart=[]))

        assert "'cart'" in caplog.text

    def test_a_middleware_that_changes_it_keeps_only_a_logout(self) -> None:
        """The handshake can set no cookie, so a login would lose its token."""
        editing, leaving = self.site(), self.site()
        editing.app.on_request(lambda request: request.ctx.session.update(a=2))
        leaving.app.on_request(lambda request: request.ctx.session.logout())
        cookie = editing.logged_in(a=1)
        self.connect(editing, cookie)
        self.connect(leaving, leaving.logged_in())

        assert {"a": 1} == editing.stored(cookie)
        assert [] == leaving.inside.list_for("user:42")


class TestCSRF:
    """What `test_outside_csrf` does not see."""

    def posted(self, site: Site, body: str, cookie: str, **headers: str) -> Answer:
        shown = {"content-type": "application/x-www-form-urlencoded", "cookie": cookie, **headers}
        raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in shown.items()]
        scope = asgi_scope(path="/post", raw_path=b"/post", method="POST", headers=raw)
        return as_answer(site.run(scope, [{"type": "http.request", "body": body.encode()}]))

    def test_a_token_may_come_in_a_form(self) -> None:
        """In the field of that name."""
        site = Site()
        setup_csrf(site.app, CrossOriginProtection(tokens=True))
        site.app.add_route(ok, "/post", methods=["POST"])
        cookie = site.logged_in()
        token = site.inside.open(cookie).csrf_token

        assert [200, 403, 403] == [
            self.posted(site, f"csrf_token={token}", cookie).status,
            self.posted(site, "csrf_token=x", cookie).status,
            self.posted(site, f"csrf_token={token}", cookie, sec_fetch_site="cross-site").status,
        ]

    def test_it_comes_before_the_sessions(self) -> None:
        """Another site's request does not even open one; with a reason for whoever looks."""
        store = Flaky()
        site = Site(store)
        setup_csrf(site.app, CrossOriginProtection())
        site.app.add_route(put, "/post", methods=["POST"])
        cookie = site.logged_in()
        store.calls.clear()
        refused = self.posted(site, "", cookie, sec_fetch_site="cross-site")

        assert (403, b"403 Forbidden: cross-origin request\n") == (refused.status, refused.body)
        assert [] == store.calls
        assert (200, ["load", "save"]) == (self.posted(site, "", cookie).status, store.calls)

    def test_another_sites_page_gets_no_socket(self) -> None:
        """This site's own does, without a token."""
        site = TestWebSockets().site()
        setup_csrf(site.app, CrossOriginProtection(tokens=True))

        def connect(origin: bytes) -> list[str]:
            headers = [(b"host", b"site.example"), (b"origin", origin)]
            parts = {"type": "websocket", "path": "/ws", "raw_path": b"/ws", "headers": headers}
            sent = site.run(asgi_scope(**parts), [{"type": "websocket.connect"}])
            return [message["type"] for message in sent]

        assert "websocket.accept" in connect(b"https://site.example")
        assert "websocket.accept" not in connect(b"https://evil.example")


class TestGate:
    def test_the_middleware_closes_every_path(self) -> None:
        """A page leads to the login, a script gets 401, and who is logged in passes."""
        site = Site().get(ok)
        setup_gate(site.app, LoginGate())
        page, script, inside = site.ask(**PAGE), site.ask(), site.ask(cookie=site.logged_in())

        assert (303, "/login?next=/") == (page.status, page["location"])
        assert (401, "no-store") == (script.status, script["cache-control"])
        assert 200 == inside.status

    def test_it_knows_paths_that_no_route_has(self) -> None:
        """Closed by default."""
        site = Site().get(ok)
        setup_gate(site.app, LoginGate(public=["/about"]))

        assert [401, 404] == [site.ask(path).status for path in ("/none", "/about")]

    @pytest.mark.parametrize(
        ("path", "expected"),
        [("/caf%C3%A9", 200), ("/caf%c3%a9", 200), ("/%63af%C3%A9", 401), ("/caf%25", 401)],
    )
    def test_it_judges_the_path_that_sanic_routes(self, path: str, expected: int) -> None:
        """Sanic routes it as it came, so what is spelled in another way is another path."""
        site = Site().get(lambda request, name: text(name), "/<name>")
        setup_gate(site.app, LoginGate(public=["/café"]))

        assert expected == site.ask(path).status

    @pytest.mark.parametrize("path", ["/invite", "/invite/"])
    def test_a_public_prefix_is_not_public_itself(self, path: str) -> None:
        """Sanic takes the two for one."""
        site = Site().get(ok, "/invite")
        setup_gate(site.app, LoginGate(public=["/invite/*"]))

        assert 401 == site.ask(path).status

    def test_the_way_back_is_the_path_that_came(self) -> None:
        """Whatever it is written in."""
        site = Site().get(lambda request, name: text(name), "/<name>")
        setup_gate(site.app, LoginGate())

        assert "/login?next=/caf%25C3%25A9" == site.ask("/caf%C3%A9", **PAGE)["location"]

    def test_the_decorator_guards_a_view(self) -> None:
        """Asynchronous or not, whatever `public=` says."""
        guard = login_required(LoginGate(public=["/*"]))
        site = Site().get(guard(ok), "/a").get(guard(lambda request: text("sync")), "/b")
        paths, cookie = ["/a", "/b"], site.logged_in()

        assert [401, 401] == [site.ask(path).status for path in paths]
        assert [b"ok", b"sync"] == [site.ask(path, cookie).body for path in paths]

    def test_the_decorator_guards_a_class_of_views(self) -> None:
        """In its `decorators`."""

        class View(HTTPMethodView):
            decorators = [login_required(LoginGate())]  # noqa: RUF012 - as Sanic wants it

            async def get(self, request: Any) -> HTTPResponse:
                return text("inside")

        site = Site().get(View.as_view())

        assert 401 == site.ask().status
        assert b"inside" == site.ask(cookie=site.logged_in()).body

    def test_the_loaded_user_is_in_the_context(self) -> None:
        """As `request.ctx.user`, by a loader that is asynchronous."""

        async def load(subject: str) -> str:
            return subject.upper()

        async def view(request: Any) -> HTTPResponse:
            return text(request.ctx.user)

        site = Site().get(view)
        setup_gate(site.app, LoginGate(user=load))

        assert b"USER:42" == site.ask(cookie=site.logged_in()).body

    def test_without_a_user_the_session_ends(self) -> None:
        """In the store, and in the browser."""
        site = Site().get(ok)
        setup_gate(site.app, LoginGate(user=lambda subject: None))
        answer = site.ask(cookie=site.logged_in())

        assert 401 == answer.status
        assert "Max-Age=0" in answer.cookies[0]
        assert [] == site.inside.list_for("user:42")


async def greet(request: Any, ws: Any) -> None:
    user = getattr(request.ctx, "user", None)
    await ws.send(f"hello {request.ctx.session.subject}, {user}")


def unmarked(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that keeps nothing of what it decorates."""

    async def decorated(request: Any, ws: Any) -> None:
        await handler(request, ws)

    return decorated


@pytest.mark.parametrize("serve", [on_sanics_server, uvicorned])
class TestGatedSockets:
    """On its own server, and under ASGI."""

    @staticmethod
    def greeted(
        serve: Callable[[Any], Any], site: Site, *cookies: str | None, **headers: str
    ) -> list[Any]:
        """For each cookie the greeting, or the answer to the handshake, or the close."""

        async def greeting(port: int, cookie: str | None) -> Any:
            shown = headers if cookie is None else {**headers, "Cookie": cookie}
            address = f"ws://127.0.0.1:{port}/chat"
            try:
                async with connect(address, additional_headers=shown) as socket:
                    return await socket.recv()
            except InvalidStatus as error:
                return error.response
            except ConnectionClosed as error:
                return error.rcvd

        async def main() -> list[Any]:
            async with asyncio.timeout(PATIENCE), serve(site.app) as port:
                return [await greeting(port, cookie) for cookie in cookies]

        return asyncio.run(main())

    def test_the_decorator_refuses_the_handshake(self, serve: Any) -> None:
        """Whatever `public=` says; the user is loaded once for who passes."""
        loaded = list[str]()

        def load(subject: str) -> str:
            loaded.append(subject)
            return subject.upper()

        site = Site()
        guard = login_required(LoginGate(public=["/*"], user=load))
        site.app.add_websocket_route(guard(greet), "/chat")
        refused, passed = self.greeted(serve, site, None, site.logged_in())

        assert (401, "no-store") == (refused.status_code, refused.headers["Cache-Control"])
        assert (b"401\n", "Cookie") == (refused.body, refused.headers["Vary"])
        assert ("hello user:42, USER:42", ["user:42"]) == (passed, loaded)

    def test_each_of_several_gates_is_asked(self, serve: Any) -> None:
        """Also behind other decorators."""
        site = Site()
        handler = login_required(LoginGate())(login_required(LoginGate(level=2))(greet))
        site.app.add_websocket_route(wraps(handler)(unmarked(handler)), "/chat")
        (refused,) = self.greeted(serve, site, site.logged_in())

        assert "insufficient_user_authentication" in refused.headers["WWW-Authenticate"]

    def test_without_a_user_the_session_ends(self, serve: Any) -> None:
        """In the store, and in the browser, as the handshake is answered."""
        site = Site()
        guard = login_required(LoginGate(user=lambda subject: None))
        site.app.add_websocket_route(guard(greet), "/chat")
        (refused,) = self.greeted(serve, site, site.logged_in())

        assert (401, True) == (refused.status_code, "Max-Age=0" in refused.headers["Set-Cookie"])
        assert [] == site.inside.list_for("user:42")

    def test_the_middleware_refuses_the_handshake(self, serve: Any) -> None:
        """With an answer under ASGI, too."""
        site = Site()
        setup_gate(site.app, LoginGate())
        site.app.add_websocket_route(greet, "/chat")
        refused, passed = self.greeted(serve, site, None, site.logged_in())

        assert (401, "hello user:42, None") == (refused.status_code, passed)

    def test_so_does_the_check_of_origins(self, serve: Any) -> None:
        """Before the session is opened."""
        site = Site()
        setup_csrf(site.app, CrossOriginProtection())
        site.app.add_websocket_route(greet, "/chat")
        (refused,) = self.greeted(serve, site, None, Origin="https://evil.example")

        assert (403, b"403 Forbidden: cross-origin request\n") == (
            refused.status_code,
            refused.body,
        )

    def test_one_that_another_decorator_hides_is_closed(self, serve: Any) -> None:
        """After the handshake, and before the handler."""
        site = Site()
        site.app.add_websocket_route(unmarked(login_required(LoginGate())(greet)), "/chat")

        assert [Close(1008, "log in first")] == self.greeted(serve, site, None)

    def test_an_outage_is_no_refusal(self, serve: Any) -> None:
        """The handshake fails, and the cookie is not touched."""
        site = Site(flaky := Flaky())
        site.app.add_websocket_route(login_required(LoginGate())(greet), "/chat")
        cookie = site.logged_in()
        flaky.down = {"load"}
        (failed,) = self.greeted(serve, site, cookie)

        assert 500 <= failed.status_code
        assert "Set-Cookie" not in failed.headers


class TestSweeping:
    def test_it_lasts_as_long_as_the_server(self) -> None:
        """What expired goes, and in the end the task."""
        swept = asyncio.Event()

        class Sweepable(AsyncMemoryStore):
            async def sweep(self, limit: int, now: int) -> int:
                swept.set()
                return await super().sweep(limit, now)

        app = new_app()
        app.add_route(ok, "/")
        setup(app, AsyncSessions(Sweepable()), sweep=0.001)

        async def live() -> set[str]:
            await begin_lifespan(app)
            await asyncio.wait_for(swept.wait(), PATIENCE)
            await app._server_event("shutdown", "before")
            return {task.get_name() for task in asyncio.all_tasks()}

        assert "coatcheck sweeper" not in asyncio.run(live())


@pytest.fixture
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sanic's test clients change its class."""
    monkeypatch.setattr(Sanic, "__call__", Sanic.__call__)
    monkeypatch.setattr(Sanic, "test_mode", Sanic.test_mode)


async def who(request: Any) -> HTTPResponse:
    return text(str(current().subject))


@pytest.mark.usefixtures("unpatched")
class TestTestClients:
    def test_the_one_with_a_server(self) -> None:
        """`app.test_client`; it keeps no cookies, so it shows the login's with each request."""
        site = Site().get(who)
        client = site.app.test_client
        client.port = None
        session_id = login(client, site.sessions, "user:7")
        answers = [client.get("/")[1].text for _ in range(2)]

        assert ["user:7"] * 2 == answers
        assert [session_id] == [info.id for info in site.inside.list_for("user:7")]

    def test_logins_of_several_sessions_stand_side_by_side(self) -> None:
        """Each replaces its own only."""

        async def both(request: Any) -> HTTPResponse:
            return text(f"{current().subject} {current('staff').subject}")

        staff = AsyncSessions(AsyncMemoryStore(), cookie=Cookie("staff"))
        site = Site(named={"staff": staff}).get(both)
        client = site.app.test_client
        client.port = None
        login(client, site.sessions, "user:7")
        login(client, staff, "staff:1")
        login(client, site.sessions, "user:8")

        assert "user:8 staff:1" == client.get("/")[1].text

    def test_the_one_of_asgi(self) -> None:
        """`app.asgi_client`."""
        site = Site().get(who)

        async def ask() -> str:
            client = site.app.asgi_client
            login(client, site.sessions, "user:7")
            _, response = await client.get("/")
            return str(response.text)

        assert "user:7" == asyncio.run(ask())


class Served:
    """A site on Sanic's own server, with a client that keeps the connection."""

    def __init__(self, site: Site) -> None:
        self.loop = asyncio.new_event_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        self.client = ReusableClient(
            site.app,
            port=listening.getsockname()[1],
            loop=self.loop,
            server_kwargs={"sock": listening},
        )

    def __enter__(self) -> ReusableClient:
        self.client.run()
        return self.client

    def __exit__(self, *error: object) -> None:
        self.client.stop()
        self.loop.close()


class Cut:
    """A site whose page puts a value, may log out, and is cut short while it waits."""

    def __init__(self, *, leaves: bool) -> None:
        self.site = Site().get(self._put).get(who, "/who")
        self.cookie = self.site.logged_in(a=1)
        self.leaves = leaves
        self.reached, self.left = asyncio.Event(), asyncio.Event()

    async def _put(self, request: Any) -> HTTPResponse:
        if self.leaves:
            request.ctx.session.logout()
        request.ctx.session["a"] = 2
        self.reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return text("never")

    def found(self) -> list[dict[str, Any]]:
        """What is stored of the user's session, if anything."""
        return [self.site.stored(self.cookie) for _ in self.site.store._records]


@pytest.mark.parametrize(("leaves", "found"), [(True, []), (False, [{"a": 1}])])
class TestCancellation:
    """It keeps a logout and nothing else."""

    def test_under_asgi(self, leaves: bool, found: list[Any]) -> None:
        """By whoever runs the app."""
        cut = Cut(leaves=leaves)
        shown = [(b"cookie", cut.cookie.encode())]
        scope = asgi_scope(path="/", raw_path=b"/", headers=shown)

        async def main() -> None:
            await begin_lifespan(cut.site.app)
            asked = asyncio.create_task(played(cut.site.app, scope, [{"type": "http.request"}]))
            await cut.reached.wait()
            asked.cancel()
            await asyncio.wait([asked])
            later = {**scope, "path": "/who", "raw_path": b"/who"}
            await played(cut.site.app, later, [{"type": "http.request"}])

        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert found == cut.found()

    @pytest.mark.usefixtures("unpatched")
    def test_on_sanics_own_server(self, leaves: bool, found: list[Any]) -> None:
        """By a visitor who hangs up."""
        cut = Cut(leaves=leaves)

        async def hang_up(port: int) -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/1.1\r\nHost: a\r\nCookie: {cut.cookie}\r\n\r\n".encode())
            await cut.reached.wait()
            writer.close()
            await cut.left.wait()

        with Served(cut.site) as client:
            client._loop.run_until_complete(asyncio.wait_for(hang_up(client.port), PATIENCE))
            client.get("/who")

        assert found == cut.found()


@pytest.mark.usefixtures("unpatched")
class TestOwnServer:
    def test_requests_of_one_connection_have_each_their_own(self) -> None:
        """And one that is skipped has none, in the same task."""

        async def skipped(request: Any) -> HTTPResponse:
            with pytest.raises(LookupError):
                current()
            return text("none")

        site = Site(skip=["/skipped"]).get(who).get(skipped, "/skipped")
        with Served(site) as client:
            login(client, site.sessions, "user:7")
            answers = [client.get(path)[1].text for path in ("/", "/skipped", "/")]

        assert ["user:7", "none", "user:7"] == answers

    def test_a_stream_has_its_cookie(self) -> None:
        """In its head."""
        with Served(TestStreams.streaming(lambda session: None)) as client:
            answer = client.get("/")[1]

        assert ("ab", True) == (answer.text, "__Host-session" in answer.headers["set-cookie"])

    def test_a_503_takes_the_place_of_a_stream(self) -> None:
        """Whole, and the connection goes on."""
        site = TestStreams.streaming(lambda session: None, store=(flaky := Flaky()))
        site.get(ok, "/ok")
        flaky.down = {"create"}
        with Served(site) as client:
            answers = [client.get(path)[1] for path in ("/", "/ok")]

        assert [(503, "503\n"), (200, "ok")] == [(each.status, each.text) for each in answers]

    def test_a_refused_commit_is_a_500(self) -> None:
        """And the connection goes on."""

        async def view(request: Any) -> HTTPResponse:
            request.ctx.session["a"] = "x" * 70_000
            return text("ok")

        with Served(Site().get(view).get(ok, "/ok")) as client:
            statuses = [client.get(path)[1].status for path in ("/", "/ok")]

        assert [500, 200] == statuses
