"""Litestar: what is its own, beside the laws that `test_outside_laws` runs through it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pytest
from litestar import Litestar, Request, Response, Router, WebSocket, asgi, get, websocket
from litestar.background_tasks import BackgroundTask
from litestar.di import Provide
from litestar.exceptions import WebSocketDisconnect
from litestar.middleware import DefineMiddleware
from litestar.plugins.flash import FlashConfig, FlashPlugin, flash
from litestar.response import Stream, Template
from litestar.security.session_auth import SessionAuth
from litestar.template.config import TemplateConfig
from litestar.testing import AsyncTestClient, TestClient
from starlette.responses import PlainTextResponse

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
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
from coatcheck.testing import login
from coatcheck.web.asgi import CSRFMiddleware, LoginMiddleware
from coatcheck.web.litestar import (
    CoatcheckPlugin,
    login_required,
    provide_session,
    provide_subject,
)
from tests.test_asgi import (
    DENIAL,
    Swept,
    ask,
    cookie_of,
    lifespan,
    logged_in,
    sessions_over,
    stored,
    sweepers,
)
from tests.test_asgi import websocket as connect
from tests.test_laws import Flaky

try:
    from litestar.plugins.jinja import JinjaTemplateEngine
except ImportError:  # before Litestar 2.22
    from litestar.contrib.jinja import JinjaTemplateEngine

try:
    from litestar.di import NamedDependency
except ImportError:  # before Litestar 2.21
    from litestar.params import Dependency

    T = TypeVar("T")
    NamedDependency = Annotated[T, Dependency()]  # type: ignore[misc]

Connection = Request[Any, Any, Any]
Socket = WebSocket[Any, Any, Any]


def site(handlers: list[Any], sessions: AsyncSessions, **options: Any) -> Any:
    plugin = CoatcheckPlugin(sessions, sweep=None)
    options = {"plugins": [plugin], "openapi_config": None, "logging_config": None, **options}
    return Litestar(handlers, **options)


def doing(act: Callable[[Connection], object], status: int = 200) -> Any:
    """A handler that does this."""

    @get("/")
    async def handler(request: Connection) -> Response[str]:
        act(request)
        return Response("ok", status_code=status)

    return handler


def mounted(path: str) -> Any:
    """An ASGI app below that path."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("ok")(scope, receive, send)

    options: Any = {"copy_scope": True} if "copy_scope" in signature(asgi).parameters else {}
    return asgi(path, is_mount=True, **options)(answer)


def client_of(app: Any, **options: Any) -> TestClient[Any]:
    return TestClient(app, base_url="https://testserver.local", **options)


def root_of(error: BaseException | None) -> BaseException | None:
    """The error that the others were raised for."""
    while error is not None and (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


class TestRequestSession:
    def test_it_is_ours(self) -> None:
        """The very one that `current()` gives."""
        found: list[bool] = []
        app = site(
            [doing(lambda request: found.append(request.session is current()))], sessions_over()
        )
        ask(app)

        assert [True] == found

    def test_clear_session_logs_out(self) -> None:
        """The store forgets the session, and the cookie goes."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)
        answer = ask(site([doing(lambda request: request.clear_session())], sessions), cookie)

        assert "Max-Age=0" in str(answer["set-cookie"]).split("; ")
        assert (None, {}) == stored(sessions, cookie)

    def test_clear_session_keeps_a_message_for_the_next_page(self) -> None:
        """Where there was nothing else to clear, as after a logout."""
        sessions = sessions_over()

        def leave(request: Connection) -> None:
            current().flash("Goodbye")
            request.clear_session()

        cookie = cookie_of(ask(site([doing(leave)], sessions)))
        assert [("Goodbye", "info")] == asyncio.run(sessions.open(cookie)).flashes()

    @pytest.mark.parametrize("handled", [True, False])
    def test_clear_session_counts_in_a_request_that_fails(self, handled: bool) -> None:
        """Like `logout()`, whoever answers for the error."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def fail(request: Connection) -> None:
            request.clear_session()
            raise RuntimeError("a handler that fails")

        def through(request: Connection, error: Exception) -> Response[Any]:
            raise error

        handlers: Any = {} if handled else {Exception: through}
        ask(site([doing(fail)], sessions, exception_handlers=handlers), cookie)
        assert (None, {}) == stored(sessions, cookie)

    def test_set_session_replaces_the_values(self) -> None:
        """And leaves the login alone."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1, b=2)
        ask(site([doing(lambda request: request.set_session({"b": 3, "c": 4}))], sessions), cookie)

        assert ("user:42", {"b": 3, "c": 4}) == stored(sessions, cookie)

    def test_set_session_takes_a_dataclass(self) -> None:
        """Its fields are the keys."""

        @dataclass
        class Settings:
            theme: str

        sessions = sessions_over()
        app = site([doing(lambda request: request.set_session(Settings("dark")))], sessions)

        assert (None, {"theme": "dark"}) == stored(sessions, cookie_of(ask(app)))

    def test_what_is_no_session_is_refused(self) -> None:
        """As an error of the app: nothing is stored."""
        odd: Any = 7
        answer = ask(site([doing(lambda request: request.set_session(odd))], sessions_over()))

        assert (500, []) == (answer.status, answer.cookies)

    def test_set_session_writes_only_what_is_new(self) -> None:
        """What another request changed meanwhile survives."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=["tea"], count=1)

        async def change_meanwhile() -> None:
            other = await sessions.open(cookie)
            other["cart"].append("milk")
            await sessions.commit(other)

        @get("/")
        async def handler(request: Connection) -> None:
            request.set_session({**request.session, "count": 2})
            await change_meanwhile()

        ask(site([handler], sessions), cookie)
        assert ("user:42", {"cart": ["tea", "milk"], "count": 2}) == stored(sessions, cookie)

    @pytest.mark.parametrize("late", ["clear_session", "set_session", "assign"])
    def test_a_change_after_the_response_began_raises(self, late: str) -> None:
        """It would be lost without a word."""

        @get("/")
        async def handler(request: Connection) -> Response[str]:
            def change() -> None:
                if late == "clear_session":
                    request.clear_session()
                elif late == "set_session":
                    request.set_session({"late": True})
                else:
                    request.session["late"] = True

            request.session["a"] = 1
            return Response("ok", background=BackgroundTask(change))

        assert SessionClosed is type(root_of(ask(site([handler], sessions_over())).error))

    def test_a_stream_has_its_session_committed_before(self) -> None:
        """The generator may read it, and a change of it raises."""
        sessions, errors = sessions_over(), list[str]()

        @get("/")
        async def handler(request: Connection) -> Stream:
            request.session["a"] = 1

            async def parts() -> AsyncIterator[bytes]:
                yield str(request.session["a"]).encode()
                try:
                    request.session["late"] = True
                except SessionClosed as error:
                    errors.append(type(error).__name__)

            return Stream(parts())

        answer = ask(site([handler], sessions))
        assert (b"1", ["SessionClosed"]) == (answer.body, errors)
        assert (None, {"a": 1}) == stored(sessions, cookie_of(answer))


class TestErrors:
    @pytest.mark.parametrize("debug", [False, True])
    def test_an_outage_is_503(self, debug: bool) -> None:
        """Though Litestar makes a 500 of every error, in debug mode with the traceback."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}
        app = site([doing(lambda request: current().subject)], sessions, debug=debug)
        answer = ask(app, cookie)

        assert (503, b"503\n", "5", []) == (
            answer.status,
            answer.body,
            answer["retry-after"],
            answer.cookies,
        )

    def test_an_outage_is_503_where_the_session_was_not_used(self) -> None:
        """A list of devices needs the store all the same."""

        @get("/")
        async def devices() -> None:
            raise StoreUnavailable("expected an answer, got none")

        assert 503 == ask(site([devices], sessions_over())).status

    def test_an_app_that_handles_the_outage_is_left_alone(self) -> None:
        """Its page and its status."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        def sorry(request: Connection, error: Exception) -> Response[str]:
            return Response("a page of our own", status_code=503)

        handlers: Any = {StoreUnavailable: sorry}
        app = site(
            [doing(lambda request: current().subject)], sessions, exception_handlers=handlers
        )
        answer = ask(app, cookie)

        assert (503, b"a page of our own") == (answer.status, answer.body)

    def test_an_error_page_may_change_the_session(self) -> None:
        """It is made inside, so what it leaves for the next page is kept."""
        sessions = sessions_over()

        def page(request: Connection, error: Exception) -> Response[str]:
            current().flash("not so")
            return Response("not so", status_code=409)

        def fail(request: Connection) -> None:
            raise KeyError("tea")

        handlers: Any = {KeyError: page}
        answer = ask(site([doing(fail)], sessions, exception_handlers=handlers))
        found = asyncio.run(sessions.open(cookie_of(answer)))

        assert [("not so", "info")] == found.flashes()

    def test_a_commit_that_is_refused_reaches_the_server(self) -> None:
        """Litestar takes the response for begun, so the server answers 500."""
        app = site([doing(lambda request: current().update(a="x" * 70_000))], sessions_over())
        answer = ask(app)

        assert (500, []) == (answer.status, answer.cookies)
        assert "SessionTooLarge" == type(root_of(answer.error)).__name__

    def test_an_unknown_path_has_no_session(self) -> None:
        """Litestar runs no middleware for it."""
        answer = ask(site([], sessions_over()), path="/nowhere")

        assert (404, None) == (answer.status, answer["vary"])


class TestWebSocket:
    def test_it_has_the_session(self) -> None:
        """Through Litestar's own client, with its cookie."""
        sessions = sessions_over()

        @websocket("/")
        async def handler(socket: Socket) -> None:
            await socket.accept()
            await socket.send_text(f"{socket.session is current()} {current().subject}")
            await socket.close()

        with client_of(site([handler], sessions)) as client:
            login(client, sessions, "user:42")
            with client.websocket_connect("/") as socket:
                assert "True user:42" == socket.receive_text()

    @pytest.mark.parametrize("act", ["session", "set_session"])
    def test_its_cookie_comes_with_the_acceptance(self, act: str) -> None:
        """What was changed before is stored by then."""
        sessions = sessions_over()

        @websocket("/")
        async def handler(socket: Socket) -> None:
            if act == "session":
                socket.session["a"] = 1
            else:
                socket.set_session({"a": 1})
            await socket.accept()
            await socket.close()

        accept, _ = connect(site([handler], sessions))
        ((_, cookie),) = [pair for pair in accept["headers"] if pair[0] == b"set-cookie"]

        assert (None, {"a": 1}) == stored(sessions, cookie.decode().partition(";")[0])

    @pytest.mark.parametrize("late", ["clear_session", "assign"])
    def test_a_change_after_the_acceptance_is_an_error(self, late: str) -> None:
        """For which Litestar closes: there is no response any more to carry it."""

        @websocket("/")
        async def handler(socket: Socket) -> None:
            await socket.accept()
            if late == "assign":
                socket.session["late"] = True
            socket.clear_session()

        sessions = sessions_over()
        *_, last = connect(site([handler], sessions), logged_in(sessions))
        assert ("websocket.close", 4500) == (last["type"], last["code"])

    def test_another_sites_page_gets_none(self) -> None:
        """By the check for ASGI, as a middleware of Litestar's; this site's own does."""

        @websocket("/")
        async def handler(socket: Socket) -> None:
            await socket.accept()
            await socket.close()

        rule = CrossOriginProtection(tokens=True)
        check = DefineMiddleware(CSRFMiddleware, protection=rule)  # type: ignore[arg-type]
        with client_of(site([handler], sessions_over(), middleware=[check])) as client:
            with client.websocket_connect("/", headers={"sec-fetch-site": "same-origin"}):
                pass
            with pytest.raises(WebSocketDisconnect) as refused:
                client.websocket_connect(
                    "/", headers={"origin": "https://evil.example"}
                ).__enter__()

        assert 1008 == refused.value.code

    def test_an_outage_is_told_as_a_denial(self) -> None:
        """Litestar would close, which looks like a refusal for good."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        @websocket("/")
        async def handler(socket: Socket) -> None:
            assert current().subject is not None

        start, _ = connect(site([handler], sessions), cookie, extensions=DENIAL)
        assert ("websocket.http.response.start", 503) == (start["type"], start["status"])


@dataclass
class User:
    name: str


class TestSessionAuth:
    def app(self, sessions: AsyncSessions, users: dict[str, User]) -> Any:
        async def load(session: Any, connection: Any) -> User | None:
            return users.get(session.subject)

        @get("/")
        async def home(request: Connection) -> str:
            return str(request.user.name)

        @get("/enter", exclude_from_auth=True)
        async def enter(request: Connection) -> None:
            current().login("user:42")

        plugin = CoatcheckPlugin(sessions, sweep=None)
        auth = SessionAuth[User, Any](
            session_backend_config=plugin.config, retrieve_user_handler=load
        )
        return Litestar([home, enter], plugins=[plugin], on_app_init=[auth.on_app_init])

    def test_a_login_is_enough(self) -> None:
        """The session need not hold a value."""
        app = self.app(sessions_over(), {"user:42": User("Ann")})
        with client_of(app) as client:
            answers = [client.get("/"), client.get("/enter"), client.get("/")]

        assert [401, 200, 200] == [answer.status_code for answer in answers]
        assert "Ann" == answers[2].text

    def test_a_user_who_is_gone_is_logged_out(self) -> None:
        """Litestar clears the session of somebody whom the handler does not find."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        assert 401 == ask(self.app(sessions, {}), cookie).status
        assert (None, {}) == stored(sessions, cookie)

    def test_the_session_is_opened_once(self) -> None:
        """Though both the plugin and SessionAuth bring the middleware."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.calls.clear()
        ask(self.app(sessions, {"user:42": User("Ann")}), cookie)

        assert ["load"] == flaky.calls

    def test_openapi_names_the_cookie(self) -> None:
        """As it is, with its prefix."""
        schema = self.app(sessions_over(), {}).openapi_schema.to_schema()
        (scheme,) = schema["components"]["securitySchemes"].values()

        assert ("apiKey", "cookie", "__Host-session") == (
            scheme["type"],
            scheme["in"],
            scheme["name"],
        )


class TestGuard:
    def app(self, sessions: AsyncSessions, gate: LoginGate) -> Any:
        @get("/")
        async def account(request: Connection) -> str:
            return str(request.scope.get("user"))

        @websocket("/live")
        async def live(socket: Socket) -> None:
            await socket.accept()

        inside = Router("/account", route_handlers=[account, live], guards=[login_required(gate)])
        return site([inside], sessions)

    def test_a_script_gets_401(self) -> None:
        """With the headers that belong to it."""
        answer = ask(self.app(sessions_over(), LoginGate()), path="/account")

        assert (401, "no-store") == (answer.status, answer["cache-control"])
        assert 'Session realm="login"' == answer["www-authenticate"]

    def test_a_person_is_sent_to_the_login_page(self) -> None:
        """With the way back."""
        headers = [(b"sec-fetch-mode", b"navigate")]
        app = self.app(sessions_over(), LoginGate(login="/enter"))
        answer = ask(app, path="/account", headers=headers)

        assert (303, "/enter?next=/account") == (answer.status, answer["location"])

    def test_who_is_logged_in_passes(self) -> None:
        """And the gate's `user=` is the request's user; `public=` does not count for a guard."""
        sessions = sessions_over()
        gate = LoginGate(public=["/account"], user=lambda subject: f"the {subject}")
        app = self.app(sessions, gate)

        assert 401 == ask(app, path="/account").status
        assert b"the user:42" == ask(app, logged_in(sessions), path="/account").body

    def test_a_user_who_is_gone_is_logged_out(self) -> None:
        """The loader finds none."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        app = self.app(sessions, LoginGate(user=lambda subject: None))

        assert 401 == ask(app, cookie, path="/account").status
        assert (None, {}) == stored(sessions, cookie)

    def test_a_websocket_is_closed(self) -> None:
        """As a violation of policy."""
        sent = connect(self.app(sessions_over(), LoginGate()), path="/account/live")

        assert [{"type": "websocket.close", "code": 1008, "reason": "log in first"}] == sent


class TestDependencies:
    def app(self, sessions: AsyncSessions) -> Any:
        @get("/count", dependencies={"session": Provide(provide_session)})
        async def count(session: NamedDependency[Session]) -> int:
            visits: int = session.edit("visits", lambda n: n + 1, default=0)
            return visits

        @get("/me", dependencies={"subject": Provide(provide_subject)})
        async def me(subject: NamedDependency[str]) -> str:
            return subject

        return site([count, me], sessions)

    def test_the_session(self) -> None:
        """Typed, and the request's own."""
        with client_of(self.app(sessions_over())) as client:
            assert [1, 2] == [client.get("/count").json() for _ in range(2)]

    def test_the_subject(self) -> None:
        """Or 401 with the headers that belong to it."""
        sessions = sessions_over()
        app = self.app(sessions)
        answer = ask(app, path="/me")

        assert (401, 'Session realm="login"') == (answer.status, answer["www-authenticate"])
        assert b"user:42" == ask(app, logged_in(sessions), path="/me").body


class TestTestClient:
    def app(self, sessions: AsyncSessions) -> tuple[Any, CoatcheckPlugin]:
        plugin = CoatcheckPlugin(sessions, sweep=None)

        @get("/")
        async def who(request: Connection) -> dict[str, Any]:
            request.session["seen"] = True
            return {"subject": current().subject, "cart": request.session.get("cart")}

        return site([who], sessions, plugins=[plugin]), plugin

    def test_session_data_is_set_and_got(self) -> None:
        """By Litestar's own way."""
        app, plugin = self.app(sessions_over())
        with client_of(app, session_config=plugin.config) as client:
            client.set_session_data({"cart": ["tea"]})
            assert ["tea"] == client.get("/").json()["cart"]
            assert {"cart": ["tea"], "seen": True} == client.get_session_data()
            client.set_session_data({"cart": []})
            assert {"cart": []} == client.get_session_data()

    def test_without_a_session_there_is_no_data(self) -> None:
        """And nothing is created."""
        app, plugin = self.app(sessions_over())
        with client_of(app, session_config=plugin.config) as client:
            assert {} == client.get_session_data()
            assert {} == dict(client.cookies)

    def test_the_asynchronous_client(self) -> None:
        """The same, awaited."""
        app, plugin = self.app(sessions_over())

        async def main() -> dict[str, Any]:
            options: Any = {"base_url": "https://testserver.local", "session_config": plugin.config}
            async with AsyncTestClient(app, **options) as client:
                await client.set_session_data({"cart": ["tea"]})
                await client.get("/")
                return await client.get_session_data()

        assert {"cart": ["tea"], "seen": True} == asyncio.run(main())

    def test_our_login(self) -> None:
        """And what it put in is session data too."""
        sessions = sessions_over()
        app, plugin = self.app(sessions)
        with client_of(app, session_config=plugin.config) as client:
            login(client, sessions, "user:42", values={"cart": ["tea"]})
            assert {"subject": "user:42", "cart": ["tea"]} == client.get("/").json()
            assert {"cart": ["tea"], "seen": True} == client.get_session_data()


class TestOptions:
    def test_synchronous_sessions_are_refused(self) -> None:
        """With what to do instead."""
        sessions: Any = Sessions(MemoryStore())
        with pytest.raises(ConfigurationError, match="CoatcheckPlugin: expected AsyncSessions"):
            CoatcheckPlugin(sessions)

    @pytest.mark.parametrize("skip", ["/static/*", [7]])
    def test_malformed_patterns_are_refused(self, skip: Any) -> None:
        """At construction."""
        with pytest.raises(ConfigurationError, match=r"CoatcheckPlugin\(skip=…\)"):
            CoatcheckPlugin(sessions_over(), skip=skip)

    def test_on_a_path_to_skip_nothing_is_opened(self) -> None:
        """Nor for a handler that says so, as with Litestar's own sessions."""
        found: list[bool] = []

        @get(["/static/a", "/other"])
        async def by_path(request: Connection) -> None:
            found.append("session" in request.scope)

        @get("/health", skip_session=True)
        async def by_option(request: Connection) -> None:
            found.append("session" in request.scope)

        plugin = CoatcheckPlugin(sessions_over(), skip=["/static/*"], sweep=None)
        app = site([by_path, by_option], sessions_over(), plugins=[plugin])
        for path in ("/static/a", "/other", "/health"):
            ask(app, path=path)

        assert [False, True, False] == found

    def test_further_sessions(self) -> None:
        """Each has a cookie of its own."""
        prefs = sessions_over(cookie=Cookie("prefs"))

        def act(request: Connection) -> None:
            current("prefs")["theme"] = "dark"
            assert request.scope["sessions"]["prefs"] is current("prefs")  # type: ignore[typeddict-item]

        plugin = CoatcheckPlugin(sessions_over(), named={"prefs": prefs}, sweep=None)
        answer = ask(site([doing(act)], sessions_over(), plugins=[plugin]))

        assert (None, {"theme": "dark"}) == stored(prefs, cookie_of(answer))

    def test_the_client_is_a_function_of_the_connection(self) -> None:
        """For device lists."""
        sessions = sessions_over()

        def source(connection: Any) -> Client:
            return Client("198.51.100.7", connection.headers["x-device"])

        plugin = CoatcheckPlugin(sessions, client=source, sweep=None)
        app = site([doing(lambda _: current().login("user:42"))], sessions, plugins=[plugin])
        ask(app, headers=[(b"x-device", b"phone")])
        (info,) = asyncio.run(sessions.list_for("user:42"))

        assert Client("198.51.100.7", "phone") == info.client

    def test_what_expired_is_swept_while_the_app_runs(self) -> None:
        """And no longer."""

        async def main() -> tuple[bool, list[str]]:
            store = Swept()
            plugin = CoatcheckPlugin(AsyncSessions(AsyncMemoryStore(store)), sweep=0.001)
            await lifespan(site([], sessions_over(), plugins=[plugin]), store.event.wait())
            return store.event.is_set(), sweepers()

        assert (True, []) == asyncio.run(main())


class TestOtherPlugins:
    def test_litestars_flash_messages(self, tmp_path: Path) -> None:
        """They know our middleware for one of Litestar's kind, and are read once."""
        (tmp_path / "page.html").write_text(
            "{% for each in get_flashes() %}{{ each.message }}{% endfor %}"
        )
        templates = TemplateConfig(directory=tmp_path, engine=JinjaTemplateEngine)

        @get("/leave")
        async def leave(request: Connection) -> None:
            flash(request, "Saved", "success")

        @get("/")
        async def page() -> Template:
            return Template("page.html")

        plugins = [
            CoatcheckPlugin(sessions_over(), sweep=None),
            FlashPlugin(FlashConfig(templates)),
        ]
        app = site([leave, page], sessions_over(), plugins=plugins, template_config=templates)
        with client_of(app) as client:
            client.get("/leave")
            assert ["Saved", ""] == [client.get("/").text for _ in range(2)]

    def test_the_apps_own_middleware_has_the_session(self) -> None:
        """Ours is around it: a login gate for the whole site works."""
        sessions = sessions_over()
        middleware: Any = LoginMiddleware  # Litestar has types of its own for ASGI
        gate = DefineMiddleware(middleware, gate=LoginGate())
        app = site([doing(lambda request: None)], sessions, middleware=[gate])

        assert [401, 200] == [ask(app, cookie).status for cookie in (None, logged_in(sessions))]

    @pytest.mark.parametrize("root", ["", "/api"])
    def test_a_rule_sees_the_whole_path_of_what_is_mounted(self, root: str) -> None:
        """Litestar leaves a mount but the rest of its path, which may look like a public page."""
        gate: Any = partial(LoginMiddleware, gate=LoginGate(public=["/", "/about", "/open/*"]))
        csrf: Any = partial(CSRFMiddleware, protection=CrossOriginProtection(skip=["/hooks/*"]))
        mounts = [mounted("/admin"), mounted("/open")]
        app = site(mounts, sessions_over(), middleware=[csrf, gate])

        def status(path: str, **parts: Any) -> int:
            facts = {"path": root + path, "raw_path": (root + path).encode(), "root_path": root}
            return ask(app, **{**facts, **parts}).status

        closed = ["/admin", "/admin/", "/admin/about", "/admin/about/", "/admin/open/a"]
        assert [401] * 5 == [status(path) for path in closed]
        assert [200, 401] == [status("/open/a"), status("/open/a", raw_path=None)]
        cross = [(b"sec-fetch-site", b"cross-site")]
        assert 403 == status("/admin/hooks/a", method="POST", headers=cross)

    def test_a_cached_response_holds_no_cookie(self) -> None:
        """It is cached inside, before the session's headers are put on."""

        @get("/", cache=True)
        async def page() -> str:
            current().login("user:42")
            return "ok"

        app = site([page], sessions_over())
        first, second = ask(app), ask(app)

        assert (1, 0) == (len(first.cookies), len(second.cookies))
        assert first.body == second.body
