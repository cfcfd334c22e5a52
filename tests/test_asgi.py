"""The ASGI adapter: what it adds to the laws, which `test_outside_laws` runs through it."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

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
from coatcheck.store import Gone, Saved
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, changed
from coatcheck.web.asgi import SessionMiddleware
from tests.frameworks.distant import DistantStore
from tests.outside import PATIENCE, Answer, asgi_scope
from tests.sites import STORES
from tests.test_laws import Flaky

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]
Act = Callable[[Session], object]


def sessions_over(store: MemoryStore | None = None, **options: Any) -> AsyncSessions:
    return AsyncSessions(AsyncMemoryStore(store), **{"clock": Clock(), **options})


def behind(app: App, sessions: AsyncSessions, **options: Any) -> SessionMiddleware:
    return SessionMiddleware(app, sessions, **{"sweep": None, **options})


def doing(act: Act, status: int = 200) -> App:
    """An app that does this to its session, and answers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        act(scope["session"])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def put(key: str, value: Any) -> Act:
    return lambda session: session.__setitem__(key, value)


def ask(app: App, cookie: str | None = None, **parts: Any) -> Answer:
    """One request to the app, on an event loop of its own."""
    return asyncio.run(asked(app, cookie, **parts))


async def asked(app: App, cookie: str | None = None, **parts: Any) -> Answer:
    headers = list(parts.pop("headers", []))
    if cookie is not None:
        headers.append((b"cookie", cookie.encode()))
    sent = await played(app, asgi_scope(headers=headers, **parts), [{"type": "http.request"}])
    return as_answer(sent)


async def played(app: App, scope: Any, incoming: list[Message]) -> list[Message]:
    """What the app sends, given these messages and then a disconnect; its error as the last."""
    waiting, sent = list(incoming), list[Message]()
    kind = scope["type"]

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": f"{kind}.disconnect", "code": 1001}

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        async with asyncio.timeout(PATIENCE):
            await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - a server survives everything
        sent.append({"type": "error", "error": error})
    return sent


def as_answer(sent: list[Message]) -> Answer:
    answer = Answer()
    for message in sent:
        if message["type"].endswith("start"):
            answer.status = message["status"]
            answer.headers = [(k.decode(), v.decode("latin-1")) for k, v in message["headers"]]
        elif message["type"].endswith("body"):
            answer.body += message["body"]
        else:
            answer.error = message["error"]
    return answer


def cookie_of(answer: Answer) -> str:
    return str(answer["set-cookie"]).partition(";")[0]


def logged_in(sessions: AsyncSessions, **values: Any) -> str:
    """The cookie of a session that is user:42's."""

    async def enter() -> str:
        session = await sessions.open(None)
        session.login("user:42")
        session.update(values)
        return (await sessions.commit(session))[0].partition(";")[0]

    return asyncio.run(enter())


def stored(sessions: AsyncSessions, cookie: str) -> tuple[str | None, dict[str, Any]]:
    """Subject and values that the store holds under this cookie."""
    session = asyncio.run(sessions.open(cookie))
    return session.subject, dict(session)


def client_of(app: Any, **options: Any) -> TestClient:
    """Starlette's client, over HTTPS, so that it keeps Secure cookies."""
    return TestClient(app, base_url="https://testserver", **options)


class TestNamed:
    """Several sessions in one request."""

    def sites(self, **options: Any) -> tuple[AsyncSessions, AsyncSessions]:
        return sessions_over(), sessions_over(cookie=Cookie("prefs"), **options)

    def test_each_is_at_its_place(self) -> None:
        """In the scope and by `current`, the unnamed one at its own."""
        main, prefs = self.sites()
        found: list[bool] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            found.append(scope["sessions"]["prefs"] is current("prefs"))
            found.append(scope["session"] is current())
            found.append(current() is not current("prefs"))

        ask(behind(app, main, named={"prefs": prefs}))
        assert [True, True, True] == found

    def test_each_has_a_cookie_and_a_life_of_its_own(self) -> None:
        """Both are set where both were written, and opened again from one header."""
        main, prefs = self.sites()

        def write(session: Session) -> None:
            session["a"] = 1
            current("prefs")["b"] = 2

        answer = ask(behind(doing(write), main, named={"prefs": prefs}))
        header = "; ".join(cookie.partition(";")[0] for cookie in answer.cookies)

        assert ["__Host-session", "__Host-prefs"] == [c.partition("=")[0] for c in answer.cookies]
        assert [(None, {"a": 1}), (None, {"b": 2})] == [stored(s, header) for s in (main, prefs)]

    def test_only_what_was_used_sets_a_cookie(self) -> None:
        """A session beside it that nobody touched is left alone."""
        main, prefs = self.sites()
        answer = ask(
            behind(doing(lambda _: current("prefs").update(b=2)), main, named={"prefs": prefs})
        )

        assert "__Host-prefs" == cookie_of(answer).partition("=")[0]

    def test_what_one_committed_is_told_although_the_other_is_out(self) -> None:
        """The 503 brings the cookie of the session that was stored."""
        flaky = Flaky()
        main, prefs = sessions_over(), sessions_over(flaky, cookie=Cookie("prefs"))
        flaky.down = {"create"}

        def write(session: Session) -> None:
            session["a"] = 1
            current("prefs")["b"] = 2

        answer = ask(behind(doing(write), main, named={"prefs": prefs}))
        assert 503 == answer.status
        assert (None, {"a": 1}) == stored(main, cookie_of(answer))

    def test_a_logout_is_kept_although_the_other_is_out(self) -> None:
        """Law 9: a 5xx keeps what can be ended, and says so."""
        flaky = Flaky()
        main = sessions_over(clear_site_data=("cache",))
        prefs = sessions_over(flaky, cookie=Cookie("prefs"))
        mine, theirs = logged_in(main), logged_in(prefs)
        flaky.down = {"load"}

        def leave(session: Session) -> None:
            session.logout()
            _ = current("prefs").subject

        answer = ask(behind(doing(leave), main, named={"prefs": prefs}), f"{mine}; {theirs}")
        assert (503, '"cache"') == (answer.status, answer["clear-site-data"])
        assert (None, {}) == stored(main, mine)

    def test_a_logout_is_kept_although_the_other_cannot_be_saved(self) -> None:
        """The answer is a 503 here too, whichever of the two comes first."""
        flaky = Flaky()
        main, prefs = sessions_over(flaky), sessions_over(cookie=Cookie("prefs"))
        mine, theirs = logged_in(main), logged_in(prefs)
        flaky.down = {"save"}

        def leave(session: Session) -> None:
            session["a"] = 1
            current("prefs").logout()

        answer = ask(behind(doing(leave), main, named={"prefs": prefs}), f"{mine}; {theirs}")
        assert 503 == answer.status
        assert (None, {}) == stored(prefs, theirs)

    def test_two_of_one_cookie_are_refused(self) -> None:
        """One would overwrite the other in the browser, at every answer."""
        with pytest.raises(ConfigurationError, match="cookie"):
            behind(doing(put("a", 1)), sessions_over(), named={"prefs": sessions_over()})

    @pytest.mark.parametrize("place", ["first", "named"])
    def test_synchronous_sessions_are_refused(self, place: str) -> None:
        """At construction, with what to make instead."""
        wrong: Any = Sessions(MemoryStore())
        main, named = (wrong, {}) if place == "first" else (sessions_over(), {"prefs": wrong})
        with pytest.raises(ConfigurationError, match=r"got Sessions.*AsyncSessions\(store\)"):
            behind(doing(put("a", 1)), main, named=named)


class TestSkip:
    def test_nothing_is_opened(self) -> None:
        """No session in the scope, no read of the store, no `current`."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.calls.clear()
        found: list[object] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            found.append("session" in scope)
            with pytest.raises(LookupError, match="skip="):
                current()

        ask(behind(app, sessions, skip=["/static/*"]), cookie, path="/static/style.css")
        assert ([False], []) == (found, flaky.calls)

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/health", False),
            ("/health/deep", True),
            ("/static", True),
            ("/static/", True),
            ("/static/a/b", False),
            ("/static/../admin", True),
            ("/static//admin", True),
            ("/staticky", True),
            ("/", True),
        ],
    )
    def test_patterns(self, path: str, expected: bool) -> None:
        """Exact paths, and prefixes; what could be read in two ways is not skipped."""
        found: list[bool] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            found.append("session" in scope)

        ask(behind(app, sessions_over(), skip=["/health", "/static/*"]), path=path)
        assert [expected] == found

    def test_paths_are_those_of_the_app_wherever_it_is_mounted(self) -> None:
        """As the gate's `public=` and WSGI's `skip=` have them: without the root."""
        found: list[bool] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            found.append("session" in scope)

        skipping = behind(app, sessions_over(), skip=["/static/*"])
        ask(skipping, path="/mounted/static/style.css", root_path="/mounted")
        assert [False] == found

    @pytest.mark.parametrize("skip", ["/static/*", ["static"], ["/a/*/b"], ["/a/../b"], [1]])
    def test_malformed_patterns_are_refused(self, skip: Any) -> None:
        """At construction, with the option's name."""
        with pytest.raises(ConfigurationError, match="skip="):
            behind(doing(put("a", 1)), sessions_over(), skip=skip)


class TestCurrent:
    def test_outside_a_request_it_raises(self) -> None:
        """Also right after one, in the task that served it."""

        async def main() -> None:
            await asked(behind(doing(lambda session: current().subject), sessions_over()))
            with pytest.raises(LookupError, match="below SessionMiddleware"):
                current()

        asyncio.run(main())

    def test_of_an_unknown_name_it_raises(self) -> None:
        """With the names that there are."""

        def look(session: Session) -> None:
            current("prefs")

        answer = ask(behind(doing(look), sessions_over()))
        assert isinstance(answer.error, LookupError)
        assert "named=" in str(answer.error)

    def test_concurrent_requests_each_have_their_own(self) -> None:
        """Although they run on one loop."""
        sessions = sessions_over()
        cookies = [logged_in(sessions, n=n) for n in range(8)]
        meeting = asyncio.Barrier(8)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await meeting.wait()
            await send({"type": "http.response.start", "status": current()["n"], "headers": []})

        async def together() -> list[int]:
            answers = [asked(behind(app, sessions), cookie) for cookie in cookies]
            return [answer.status for answer in await asyncio.gather(*answers)]

        assert list(range(8)) == asyncio.run(together())

    def test_in_a_thread_and_in_a_task(self) -> None:
        """Starlette runs plain functions in threads; a task inherits the context."""

        def in_thread(request: Request) -> Response:
            return PlainTextResponse(str(current() is request.session))

        async def in_task(request: Request) -> Response:
            async def look() -> bool:
                return current() is request.scope["session"]

            return PlainTextResponse(str(await asyncio.create_task(look())))

        app = Starlette(routes=[Route("/thread", in_thread), Route("/task", in_task)])
        client = client_of(behind(app, sessions_over()))
        assert ["True", "True"] == [client.get(path).text for path in ("/thread", "/task")]


class TestClientOption:
    def listed(self, sessions: AsyncSessions) -> list[Client]:
        return [info.client for info in asyncio.run(sessions.list_for("user:42"))]

    def login(self, session: Session) -> None:
        session.login("user:42")

    def test_by_default_it_is_the_peer(self) -> None:
        """Its address, and the User-Agent that it named."""
        sessions = sessions_over()
        ask(behind(doing(self.login), sessions), headers=[(b"user-agent", b"Mozilla/5.0")])

        assert [Client("203.0.113.9", "Mozilla/5.0")] == self.listed(sessions)

    def test_a_peer_without_address_or_agent_is_fine(self) -> None:
        """A Unix socket has none."""
        sessions = sessions_over()
        ask(behind(doing(self.login), sessions), client=None)

        assert [Client(None, None)] == self.listed(sessions)

    def test_forwarded_headers_are_not_parsed(self) -> None:
        """Anybody can send them; they are the server's business."""
        sessions = sessions_over()
        ask(behind(doing(self.login), sessions), headers=[(b"x-forwarded-for", b"198.51.100.1")])

        assert [Client("203.0.113.9", None)] == self.listed(sessions)

    def test_a_function_of_the_scope_may_say_it(self) -> None:
        """It is asked only where a session is stored."""
        sessions = sessions_over()
        asked_for: list[str] = []

        def client(scope: Any) -> Client:
            asked_for.append(scope["path"])
            return Client("kiosk 7", None)

        ask(behind(doing(self.login), sessions, client=client), path="/login")
        ask(behind(doing(lambda session: session.subject), sessions, client=client), path="/read")

        assert ([Client("kiosk 7", None)], ["/login"]) == (self.listed(sessions), asked_for)


def websocket(app: App, cookie: str | None = None, **parts: Any) -> list[Message]:
    """What the app sends when a browser connects, says one thing, and goes."""
    headers = [] if cookie is None else [(b"cookie", cookie.encode())]
    scope = asgi_scope(type="websocket", scheme="wss", headers=headers, subprotocols=[], **parts)
    del scope["method"]
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]
    return asyncio.run(played(app, scope, incoming))


DENIAL: dict[str, Any] = {"websocket.http.response": {}}


class TestWebSocket:
    def accepting(self, before: Act, after: Act = lambda session: None) -> App:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            before(scope["session"])
            headers = [(b"x-mine", b"1")]
            await send({"type": "websocket.accept", "subprotocol": "chat", "headers": headers})
            await receive()
            after(scope["session"])
            await send({"type": "websocket.send", "text": "bye"})
            await send({"type": "websocket.close", "code": 1000})

        return app

    def test_the_session_is_there_on_connect(self) -> None:
        """From the handshake's cookie; reading it is all right throughout."""
        sessions = sessions_over()
        seen: list[str | None] = []

        def read(session: Session) -> None:
            seen.append(session.subject)

        websocket(behind(self.accepting(read, read), sessions), logged_in(sessions))
        assert ["user:42", "user:42"] == seen

    def test_the_cookie_comes_with_the_accept(self) -> None:
        """Beside the app's own headers, and stored by then."""
        sessions = sessions_over()
        accept, *rest = websocket(behind(self.accepting(put("a", 1)), sessions))
        headers = dict(accept["headers"])

        assert (b"1", "chat") == (headers[b"x-mine"], accept["subprotocol"])
        cookie = headers[b"set-cookie"].decode().partition(";")[0]
        assert (None, {"a": 1}) == stored(sessions, cookie)
        assert ["websocket.send", "websocket.close"] == [message["type"] for message in rest]

    def test_an_untouched_session_adds_no_header(self) -> None:
        """Law 8 holds here too."""
        accept = websocket(behind(self.accepting(lambda session: None), sessions_over()))[0]

        assert [(b"x-mine", b"1")] == accept["headers"]

    def test_an_accept_without_headers_gets_ours(self) -> None:
        """They are optional in the message."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["session"]["a"] = 1
            await send({"type": "websocket.accept"})

        accept = websocket(behind(app, sessions_over()))[0]
        assert [b"vary", b"cache-control", b"set-cookie"] == [name for name, _ in accept["headers"]]

    def test_a_change_after_the_accept_raises(self) -> None:
        """There is no header left to go with it."""
        sent = websocket(behind(self.accepting(lambda session: None, put("a", 1)), sessions_over()))

        assert SessionClosed is type(sent[-1]["error"])

    def test_a_change_in_place_after_the_accept_raises_at_the_end(self) -> None:
        """When the connection is over, so that it does not vanish silently."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=[])
        app = self.accepting(lambda session: None, lambda session: session["cart"].append("tea"))
        sent = websocket(behind(app, sessions), cookie)

        assert SessionClosed is type(sent[-1]["error"])
        assert ("user:42", {"cart": []}) == stored(sessions, cookie)

    def refusing(self, act: Act) -> App:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            act(scope["session"])
            await send({"type": "websocket.close", "code": 4003, "reason": "no"})

        return app

    def test_a_refused_handshake_drops_edits_and_login(self) -> None:
        """Its answer can carry no cookie."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)

        def change(session: Session) -> None:
            session["a"] = 2
            session.login("user:7")

        sent = websocket(behind(self.refusing(change), sessions), cookie)
        assert [{"type": "websocket.close", "code": 4003, "reason": "no"}] == sent
        assert ("user:42", {"a": 1}) == stored(sessions, cookie)

    def test_a_refused_handshake_keeps_a_logout(self) -> None:
        """Like an error."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        websocket(behind(self.refusing(lambda session: session.logout()), sessions), cookie)

        assert (None, {}) == stored(sessions, cookie)

    def test_an_error_before_the_accept_drops_the_edits(self) -> None:
        """And goes on to the server."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)

        def fail(session: Session) -> None:
            session["a"] = 2
            raise RuntimeError("a view that fails")

        sent = websocket(behind(self.accepting(fail), sessions), cookie)
        assert [RuntimeError] == [type(message["error"]) for message in sent]
        assert ("user:42", {"a": 1}) == stored(sessions, cookie)

    def denying(self, act: Act, status: int) -> App:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            act(scope["session"])
            kind = "websocket.http.response"
            await send({"type": f"{kind}.start", "status": status, "headers": []})
            await send({"type": f"{kind}.body", "body": b"no"})

        return app

    def test_a_denial_response_is_a_response(self) -> None:
        """A 403 commits and sets the cookie."""
        sessions = sessions_over()
        app = behind(self.denying(put("a", 1), 403), sessions)
        answer = as_answer(websocket(app, extensions=DENIAL))

        assert (403, b"no") == (answer.status, answer.body)
        assert (None, {"a": 1}) == stored(sessions, cookie_of(answer))

    def test_a_denial_response_of_5xx_drops_the_edits(self) -> None:
        """Law 9 again."""
        app = behind(self.denying(put("a", 1), 500), sessions_over())

        assert [] == as_answer(websocket(app, extensions=DENIAL)).cookies

    def test_an_outage_is_told_as_a_denial(self) -> None:
        """503 and Retry-After, where the server has the extension."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}
        app = behind(self.accepting(lambda session: session.subject), sessions)
        answer = as_answer(websocket(app, cookie, extensions=DENIAL))

        assert (503, "5", []) == (answer.status, answer["retry-after"], answer.cookies)

    def test_an_outage_that_a_framework_closes_for_is_told_as_a_denial(self) -> None:
        """A close would look like a refusal for good."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                raise StoreUnavailable("expected an answer, got none")
            except StoreUnavailable:
                await send({"type": "websocket.close", "code": 4500, "reason": "an error"})

        answer = as_answer(websocket(behind(app, sessions_over()), extensions=DENIAL))
        assert (503, "5") == (answer.status, answer["retry-after"])

    def test_an_outage_closes_where_there_is_no_denial(self) -> None:
        """The handshake fails, whichever moment met the outage."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"save"}
        sent = websocket(behind(self.accepting(put("a", 1)), sessions), cookie)

        assert ["websocket.close"] == [message["type"] for message in sent]

    def test_through_starlettes_client(self) -> None:
        """The cookie of a page opens the session of a WebSocket."""
        sessions = sessions_over()

        async def page(request: Request) -> Response:
            current().login("user:42")
            return PlainTextResponse("in")

        app = Starlette(routes=[Route("/", page)])

        async def chat(websocket: Any) -> None:
            await websocket.accept()
            await websocket.send_text(str(websocket.session.subject))
            await websocket.close()

        app.router.add_websocket_route("/chat", chat)
        client = client_of(behind(app, sessions))
        client.get("/")
        with client.websocket_connect("wss://testserver/chat") as socket:
            assert "user:42" == socket.receive_text()


class TestStreaming:
    def streaming(self, during: Act, before: Act = lambda session: None) -> App:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            session = scope["session"]
            before(session)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one ", "more_body": True})
            during(session)
            await send({"type": "http.response.body", "body": b"two"})

        return app

    def test_what_was_changed_before_is_stored_while_it_streams(self) -> None:
        """Another request sees it at once."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["session"]["a"] = 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            seen.append(dict(await sessions.open(cookie)))
            await send({"type": "http.response.body", "body": b""})

        ask(behind(app, sessions), cookie)
        assert [{"a": 1}] == seen

    @pytest.mark.parametrize(
        "late",
        [
            put("a", 1),
            lambda session: session.pop("cart"),
            lambda session: session.edit("n", lambda n: n + 1, default=0),
            lambda session: session.login("user:7"),
            lambda session: session.logout(),
            lambda session: session.rotate(),
            lambda session: session.clear(),
            lambda session: session.flash("late"),
        ],
        ids=["set", "pop", "edit", "login", "logout", "rotate", "clear", "flash"],
    )
    def test_a_late_change_raises_on_its_line(self, late: Act) -> None:
        """Instead of vanishing; nothing of it is stored."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=[])
        answer = ask(behind(self.streaming(late), sessions), cookie)

        assert (200, b"one ", SessionClosed) == (answer.status, answer.body, type(answer.error))
        assert ("user:42", {"cart": []}) == stored(sessions, cookie)

    def test_a_late_change_in_place_raises_at_the_end(self) -> None:
        """The whole body went out, and the message names the key."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=[])
        app = self.streaming(lambda session: session["cart"].append("tea"))
        answer = ask(behind(app, sessions), cookie)

        assert b"one two" == answer.body
        assert isinstance(answer.error, SessionClosed)
        assert "'cart'" in str(answer.error)

    def test_late_reading_is_fine(self) -> None:
        """What streams may look at its session."""
        sessions = sessions_over()
        app = self.streaming(lambda session: session["cart"], lambda session: session["cart"])
        answer = ask(behind(app, sessions), logged_in(sessions, cart=["tea"]))

        assert (b"one two", None) == (answer.body, answer.error)

    def test_an_early_commit_goes_out_with_the_head(self) -> None:
        """The app may commit by itself; its cookie comes with the response."""
        sessions = sessions_over()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["session"]["a"] = 1
            await sessions.commit(scope["session"])
            scope["session"]["b"] = 2
            await send({"type": "http.response.start", "status": 200, "headers": []})

        answer = ask(behind(app, sessions))
        assert (None, {"a": 1, "b": 2}) == stored(sessions, cookie_of(answer))

    def test_messages_before_the_start_go_on(self) -> None:
        """Early hints and the like are no response yet: the session is still open."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.early_hint", "links": []})
            scope["session"]["a"] = 1
            await send({"type": "http.response.start", "status": 200, "headers": []})

        sent = asyncio.run(played(behind(app, sessions_over()), asgi_scope(), []))
        assert ["http.response.early_hint", "http.response.start"] == [m["type"] for m in sent]
        assert b"set-cookie" in dict(sent[1]["headers"])

    def test_a_start_without_headers_gets_ours(self) -> None:
        """They are optional in the message."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["session"]["a"] = 1
            await send({"type": "http.response.start", "status": 200})

        assert 1 == len(ask(behind(app, sessions_over())).cookies)

    def test_through_starlettes_streaming_response(self) -> None:
        """A change in the generator before its first part is late too: the head was sent."""

        async def view(request: Request) -> Response:
            async def parts() -> AsyncIterator[bytes]:
                current()["late"] = True
                yield b"part"

            return StreamingResponse(parts())

        client = client_of(behind(Starlette(routes=[Route("/", view)]), sessions_over()))
        with pytest.raises(SessionClosed):
            client.get("/")


class TestHead:
    def test_a_head_request_has_the_headers_of_its_get(self) -> None:
        """Cookie, Vary and Cache-Control."""

        async def view(request: Request) -> Response:
            current()["a"] = 1
            return PlainTextResponse("a page")

        client = client_of(behind(Starlette(routes=[Route("/", view)]), sessions_over()))
        answer = client.head("/")

        assert ("Cookie", "no-store", b"") == (
            answer.headers["vary"],
            answer.headers["cache-control"],
            answer.content,
        )
        assert "__Host-session" in answer.headers["set-cookie"]

    def test_a_503_to_a_head_request_has_no_body(self) -> None:
        """But the length that it would have."""
        flaky = Flaky()
        flaky.down = {"create"}
        answer = ask(behind(doing(put("a", 1)), sessions_over(flaky)), method="HEAD")

        assert (503, b"", "4") == (answer.status, answer.body, answer["content-length"])


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


class TestOutage:
    """Law 7, in the ways that are ASGI's own."""

    @pytest.fixture
    def down(self, flaky: Flaky) -> tuple[AsyncSessions, str]:
        """Sessions whose store answers no load any more, and a cookie from before."""
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}
        return sessions, cookie

    async def view(self, request: Request) -> Response:
        return PlainTextResponse(str(current().subject))

    @pytest.mark.parametrize("debug", [False, True])
    def test_starlette_wrapped_from_outside(
        self, down: tuple[AsyncSessions, str], debug: bool
    ) -> None:
        """Its own 500 page, with or without a traceback, is replaced."""
        sessions, cookie = down
        app = behind(Starlette(debug=debug, routes=[Route("/", self.view)]), sessions)
        answer = ask(app, cookie)

        assert (503, b"503\n", []) == (answer.status, answer.body, answer.cookies)
        assert ("5", "no-store") == (answer["retry-after"], answer["cache-control"])

    def test_starlette_by_add_middleware(self, down: tuple[AsyncSessions, str]) -> None:
        """The error does not reach its error page, nor the server's log."""
        sessions, cookie = down
        app = Starlette(routes=[Route("/", self.view)])
        app.add_middleware(SessionMiddleware, sessions=sessions)
        answer = ask(app, cookie)

        assert (503, b"503\n", None) == (answer.status, answer.body, answer.error)

    @pytest.mark.parametrize("status", [200, 503])
    def test_an_app_that_handles_it_is_left_alone(
        self, down: tuple[AsyncSessions, str], status: int
    ) -> None:
        """Its page, its status and its headers, also where that is a 503 of its own."""
        sessions, cookie = down

        async def sorry(request: Request, error: Exception) -> Response:
            return PlainTextResponse("a page of our own", status, {"Retry-After": "77"})

        routes = [Route("/", self.view)]
        app = Starlette(routes=routes, exception_handlers={StoreUnavailable: sorry})
        app.add_middleware(SessionMiddleware, sessions=sessions)
        answer = ask(app, cookie)

        assert (status, b"a page of our own") == (answer.status, answer.body)
        assert "77" == answer["retry-after"]

    @pytest.mark.parametrize("used", [True, False])
    def test_an_app_that_makes_a_500_of_it(self, used: bool) -> None:
        """Answered while it is handled, by a framework or by the app: it is an outage still."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if used:
                scope["session"]["a"] = 1
            try:
                raise StoreUnavailable("expected an answer, got none")
            except StoreUnavailable:
                await PlainTextResponse("an error", 500)(scope, receive, send)

        answer = ask(behind(app, sessions_over()))
        assert (503, b"503\n", []) == (answer.status, answer.body, answer.cookies)

    def test_a_500_of_an_app_that_is_called_while_an_outage_is_handled_is_the_apps(self) -> None:
        """What its caller met, before it or in its place, is none of its errors."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["session"].subject is None
            await PlainTextResponse("an error", 500)(scope, receive, send)

        async def caller(scope: Any, receive: Any, send: Any) -> None:
            try:
                raise StoreUnavailable("expected an answer, got none")
            except StoreUnavailable:
                await behind(app, sessions_over())(scope, receive, send)

        assert b"an error" == ask(caller).body

    def test_a_500_of_another_error_is_the_apps(self) -> None:
        """However it is answered."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                raise RuntimeError("an app that fails")
            except RuntimeError:
                await PlainTextResponse("an error", 500)(scope, receive, send)

        assert b"an error" == ask(behind(app, sessions_over())).body

    def test_an_error_group_that_holds_it(self, down: tuple[AsyncSessions, str]) -> None:
        """What a task group raises is the outage all the same."""
        sessions, cookie = down

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def read() -> str | None:
                return current().subject

            async with asyncio.TaskGroup() as group:
                group.create_task(read())

        assert 503 == ask(behind(app, sessions), cookie).status

    def test_a_commit_that_fails_at_the_start(self, flaky: Flaky) -> None:
        """The whole answer is ours: the app's status, headers and body are dropped."""
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"save"}
        ran: list[str] = []

        async def view(request: Request) -> Response:
            current()["a"] = 1

            async def parts() -> AsyncIterator[bytes]:
                for part in (b"all ", b"is ", b"well"):
                    yield part

            return StreamingResponse(
                parts(), headers={"X-Mine": "1"}, background=BackgroundTask(ran.append, "ran")
            )

        answer = ask(behind(Starlette(routes=[Route("/", view)]), sessions), cookie)
        assert (503, b"503\n", None) == (answer.status, answer.body, answer["x-mine"])
        assert (["ran"], None) == (ran, answer.error)

    def test_contention_is_503_too(self) -> None:
        """Every save was refused by others: nothing is written, and the client tries again."""

        class Busy(MemoryStore):
            def save(self, record: Any, expected: bytes, now: int) -> Saved | Gone | Any:
                found = self.load(record.id, now)
                assert found is not None
                super().save(changed(found), found.revision, now)
                return super().save(record, expected, now)

        sessions = sessions_over(Busy())
        cookie = logged_in(sessions)
        answer = ask(behind(doing(put("a", 1)), sessions), cookie)

        assert (503, "5", []) == (answer.status, answer["retry-after"], answer.cookies)
        assert ("user:42", {}) == stored(sessions, cookie)

    def test_contention_of_an_early_commit_is_503_too(self, flaky: Flaky) -> None:
        """Raised through the app, it is answered like an outage."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise Contention("expected a save, got none")

        assert 503 == ask(behind(app, sessions_over())).status

    def test_after_the_first_byte_it_is_an_error_like_any_other(self, flaky: Flaky) -> None:
        """There is no status left to change."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise StoreUnavailable("expected an answer, got none")

        answer = ask(behind(app, sessions_over()))
        assert (200, StoreUnavailable) == (answer.status, type(answer.error))

    def test_a_site_may_go_on_anonymously(self, flaky: Flaky) -> None:
        """Where it says so, the session is empty, read-only and marked, and the cookie stays."""
        sessions = sessions_over(flaky, outage="anonymous")
        cookie = logged_in(sessions)
        flaky.down = {"load"}
        seen: list[object] = []
        answer = ask(
            behind(doing(lambda s: seen.extend([s.degraded, s.subject])), sessions), cookie
        )

        assert ([True, None], 200, []) == (seen, answer.status, answer.cookies)


class TestErrorPages:
    def test_an_error_page_may_read_the_session(self) -> None:
        """Starlette renders it above the middleware, where the session still is in the scope."""
        sessions = sessions_over()

        async def fail(request: Request) -> Response:
            raise RuntimeError("a view that fails")

        async def page(request: Request, error: Exception) -> Response:
            return PlainTextResponse(f"sorry, {request.scope['session'].subject}", 500)

        app = Starlette(routes=[Route("/", fail)], exception_handlers={Exception: page})
        app.add_middleware(SessionMiddleware, sessions=sessions)

        assert b"sorry, user:42" == ask(app, logged_in(sessions)).body

    def test_an_error_page_that_writes_raises(self) -> None:
        """The request is over for its session, so a change would vanish."""

        async def fail(request: Request) -> Response:
            raise RuntimeError("a view that fails")

        async def page(request: Request, error: Exception) -> Response:
            request.scope["session"].flash("sorry")
            return PlainTextResponse("sorry", 500)

        app = Starlette(routes=[Route("/", fail)], exception_handlers={Exception: page})
        app.add_middleware(SessionMiddleware, sessions=sessions_over())

        assert SessionClosed is type(ask(app).error)

    def test_a_page_for_404_commits(self) -> None:
        """It is rendered inside the middleware, like any view."""
        sessions = sessions_over()

        async def page(request: Request, error: Exception) -> Response:
            current().flash("not here")
            return PlainTextResponse("not here", 404)

        app = Starlette(exception_handlers={404: page})
        app.add_middleware(SessionMiddleware, sessions=sessions)
        answer = ask(app, path="/nowhere")
        found = asyncio.run(sessions.open(cookie_of(answer)))

        assert [("not here", "info")] == found.flashes()

    def test_an_app_that_never_answers_keeps_only_its_logout(self) -> None:
        """The server answers 500 in its place."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["session"].logout()

        ask(behind(app, sessions), cookie)
        assert (None, {}) == stored(sessions, cookie)

    def test_a_commit_refused_at_the_start_is_the_frameworks_error(self) -> None:
        """What cannot be kept raises like any error of the app, so its own error page is shown."""

        async def view(request: Request) -> Response:
            current()["a"] = []
            current()["a"].append(object())
            return PlainTextResponse("fine")

        app = Starlette(routes=[Route("/", view)])
        app.add_middleware(SessionMiddleware, sessions=sessions_over())
        answer = ask(app)
        assert (500, b"Internal Server Error", []) == (answer.status, answer.body, answer.cookies)


class Swept(MemoryStore):
    """A store that tells when it is swept."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()

    def sweep(self, limit: int, now: int) -> int:
        self.event.set()
        return super().sweep(limit, now)


async def lifespan(app: App, during: Awaitable[object]) -> list[str]:
    """Start the app, do this, and shut it down; what it said."""
    said: list[str] = []
    started, stopping = asyncio.Event(), asyncio.Event()

    async def receive() -> Message:
        if not started.is_set():
            started.set()
            return {"type": "lifespan.startup"}
        await stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        said.append(message["type"])

    serving = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, receive, send))
    await asyncio.wait_for(during, PATIENCE)
    stopping.set()
    await asyncio.wait_for(serving, PATIENCE)
    return said


def sweepers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "sweeper" in task.get_name()]


class TestLifespan:
    def test_what_expired_is_swept_while_it_lasts(self) -> None:
        """A record that nobody asks for any more is gone."""

        async def main() -> tuple[int, list[str], list[str]]:
            store = Swept()
            sessions = sessions_over(store)
            session = await sessions.open(None)
            session["a"] = 1
            await sessions.commit(session)
            sessions._clock.move(86_400)  # type: ignore[attr-defined]
            app = behind(Starlette(), sessions, sweep=0.001)
            said = await lifespan(app, store.event.wait())
            return len(store._records), said, sweepers()

        expected: Any = (0, ["lifespan.startup.complete", "lifespan.shutdown.complete"], [])
        assert expected == asyncio.run(main())

    def test_named_sessions_are_swept_too(self) -> None:
        """Each has a store of its own."""

        async def main() -> bool:
            store = Swept()
            prefs = sessions_over(store, cookie=Cookie("prefs"))
            app = behind(Starlette(), sessions_over(), named={"prefs": prefs}, sweep=0.001)
            await lifespan(app, store.event.wait())
            return store.event.is_set()

        assert asyncio.run(main())

    def test_none_leaves_sweeping_to_the_site(self) -> None:
        """No task is started."""

        async def main() -> list[str]:
            running: list[str] = []

            async def look() -> None:
                await asyncio.sleep(0)
                running.extend(sweepers())

            await lifespan(behind(Starlette(), sessions_over()), look())
            return running

        assert [] == asyncio.run(main())

    def test_a_store_out_of_reach_does_not_stop_the_sweeping(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The next round comes all the same."""

        class Failing(MemoryStore):
            rounds = 0
            enough = asyncio.Event()

            def sweep(self, limit: int, now: int) -> int:
                self.rounds += 1
                if self.rounds == 3:
                    self.enough.set()
                raise StoreUnavailable("expected an answer, got none")

        store = Failing()

        async def main() -> None:
            await lifespan(
                behind(Starlette(), sessions_over(store), sweep=0.001), store.enough.wait()
            )

        asyncio.run(main())
        assert "outage moment=sweep" in caplog.text

    def test_an_app_without_lifespan_says_so_itself(self) -> None:
        """Its error reaches the server, which takes it as an answer; no task is left."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http", "this app knows no lifespan"

        async def main() -> tuple[type[BaseException], list[str]]:
            sent = await played(behind(app, sessions_over(), sweep=0.001), {"type": "lifespan"}, [])
            return type(sent[0]["error"]), sweepers()

        assert (AssertionError, []) == asyncio.run(main())

    def test_the_apps_own_lifespan_runs_inside(self) -> None:
        """Through `add_middleware` as well."""
        said: list[str] = []

        @asynccontextmanager
        async def span(app: Starlette) -> AsyncIterator[None]:
            said.append("up")
            yield
            said.append("down")

        app = Starlette(lifespan=span)
        app.add_middleware(SessionMiddleware, sessions=sessions_over())
        with client_of(app):
            assert ["up"] == said
        assert ["up", "down"] == said

    @pytest.mark.parametrize("sweep", [0, -1, float("nan"), "600", True])
    def test_a_malformed_interval_is_refused(self, sweep: Any) -> None:
        """At construction."""
        with pytest.raises(ConfigurationError, match="sweep"):
            behind(Starlette(), sessions_over(), sweep=sweep)

    def test_other_kinds_of_scope_pass(self) -> None:
        """What is neither a request nor a WebSocket has no session."""
        found: list[bool] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            found.append("session" in scope)

        asyncio.run(played(behind(app, sessions_over()), asgi_scope(type="telnet"), []))
        assert [False] == found


class TestBackgroundTasks:
    def run(self, task: Callable[[], object]) -> Answer:
        async def view(request: Request) -> Response:
            current()["a"] = 1
            return PlainTextResponse("ok", background=BackgroundTask(task))

        return ask(behind(Starlette(routes=[Route("/", view)]), sessions_over()))

    def test_it_may_read_the_session(self) -> None:
        """`current()` is there until the request is over."""
        seen: list[int] = []
        answer = self.run(lambda: seen.append(current()["a"]))

        assert ([1], None) == (seen, answer.error)

    def test_its_changes_raise(self) -> None:
        """The response is out."""

        def change() -> None:
            current()["late"] = True

        assert SessionClosed is type(self.run(change).error)


class TestAmongOtherMiddleware:
    @pytest.mark.parametrize("place", ["above", "below"])
    def test_base_http_middleware(self, place: str) -> None:
        """Starlette's own runs the app in another task: values and cookie come through."""
        sessions = sessions_over()

        async def pass_on(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-passed"] = "1"
            return response

        async def view(request: Request) -> Response:
            current().login("user:42")
            return PlainTextResponse("ok")

        mine = Middleware(SessionMiddleware, sessions=sessions)
        other = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
        order = [other, mine] if place == "above" else [mine, other]
        answer = ask(Starlette(routes=[Route("/", view)], middleware=order))

        assert ("1", None) == (answer["x-passed"], answer.error)
        assert ("user:42", {}) == stored(sessions, cookie_of(answer))

    def test_base_http_middleware_below_may_change_the_session(self) -> None:
        """Before the app and after it: the commit waits for the head."""
        sessions = sessions_over()

        async def count(request: Request, call_next: Any) -> Response:
            current()["before"] = True
            response: Response = await call_next(request)
            current()["after"] = True
            return response

        async def view(request: Request) -> Response:
            return PlainTextResponse("ok")

        app = Starlette(
            routes=[Route("/", view)],
            middleware=[
                Middleware(SessionMiddleware, sessions=sessions),
                Middleware(BaseHTTPMiddleware, dispatch=count),
            ],
        )
        answer = ask(app)
        assert (None, {"before": True, "after": True}) == stored(sessions, cookie_of(answer))

    @pytest.mark.parametrize("place", ["above", "below"])
    def test_an_outage_comes_through_base_http_middleware(self, place: str) -> None:
        """As 503, on whichever side it stands."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        async def pass_on(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            return response

        async def view(request: Request) -> Response:
            return PlainTextResponse(str(current().subject))

        mine = Middleware(SessionMiddleware, sessions=sessions)
        other = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
        order = [other, mine] if place == "above" else [mine, other]

        assert 503 == ask(Starlette(routes=[Route("/", view)], middleware=order), cookie).status

    def test_a_cache_inside_keeps_no_cookie(self) -> None:
        """The message that the app sent stays as it was."""
        kept: list[Message] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["session"].login("user:42")
            kept.append({"type": "http.response.start", "status": 200, "headers": []})
            await send(kept[0])
            await send({"type": "http.response.body", "body": b"ok"})

        assert 1 == len(ask(behind(app, sessions_over())).cookies)
        assert [] == kept[0]["headers"]


class TestMounted:
    def test_a_mounted_app_has_the_session_of_the_site(self) -> None:
        """The middleware is around the whole; the part sees the same session."""
        sessions = sessions_over()

        async def view(request: Request) -> Response:
            return JSONResponse([request.scope["root_path"], current().subject])

        app = Starlette(routes=[Mount("/part", Starlette(routes=[Route("/page", view)]))])
        answer = ask(behind(app, sessions), logged_in(sessions), path="/part/page")

        assert b'["/part","user:42"]' == answer.body

    def test_the_middleware_may_be_around_a_mounted_app_only(self) -> None:
        """Other parts of the site have no session."""
        sessions = sessions_over()

        async def view(request: Request) -> Response:
            return PlainTextResponse(str("session" in request.scope))

        part = behind(Starlette(routes=[Route("/page", view)]), sessions)
        app = Starlette(routes=[Mount("/part", part), Route("/page", view)])

        assert [b"True", b"False"] == [ask(app, path=p).body for p in ("/part/page", "/page")]


class TestTwice:
    """Two middlewares over the same sessions: around an app, and around a part of it."""

    def test_the_inner_one_leaves_the_session_to_the_outer_one(self) -> None:
        """So what was written between them, and a login inside, go out in one cookie."""
        sessions = sessions_over()
        inner = behind(doing(lambda session: session.login("user:42")), sessions)

        async def between(scope: Any, receive: Any, send: Any) -> None:
            scope["session"]["a"] = 1
            await inner(scope, receive, send)

        answer = ask(behind(between, sessions))
        assert 1 == len(answer.cookies)
        assert ("user:42", {"a": 1}) == stored(sessions, cookie_of(answer))

    def test_other_sessions_are_opened(self) -> None:
        """With a cookie of their own, and in the place of the outer ones."""
        sessions, others = sessions_over(), sessions_over(cookie=Cookie("part"))
        answer = ask(behind(behind(doing(put("a", 1)), others), sessions))

        assert (None, {"a": 1}) == stored(others, cookie_of(answer))

    def test_a_scope_that_is_used_again_is_another_request(self) -> None:
        """Something outside may call the app twice, to try again."""
        sessions = sessions_over()
        app, scope = behind(doing(put("a", 1)), sessions), asgi_scope()
        answers = [as_answer(asyncio.run(played(app, scope, []))) for _ in range(2)]

        assert [(200, 1, None)] * 2 == [(a.status, len(a.cookies), a.error) for a in answers]


class TestDisconnects:
    def test_a_client_that_goes_before_the_answer_changes_nothing_twice(self) -> None:
        """The server's send fails after the commit: what was committed is stored, and whole."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        app = behind(doing(put("a", 1)), sessions)

        async def main() -> None:
            async def receive() -> Message:
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                raise OSError("the client is gone")

            with pytest.raises(OSError, match="gone"):
                await app(asgi_scope(headers=[(b"cookie", cookie.encode())]), receive, send)

        asyncio.run(main())
        assert ("user:42", {"a": 1}) == stored(sessions, cookie)

    def test_a_cancelled_request_keeps_a_logout(self) -> None:
        """As one that fails does: nobody waits for its answer, but its user asked to leave."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        async def main() -> None:
            reached = asyncio.Event()

            async def leaving(scope: Any, receive: Any, send: Any) -> None:
                scope["session"].logout()
                scope["session"]["a"] = 1
                reached.set()
                await asyncio.Event().wait()

            cancelled = asyncio.create_task(asked(behind(leaving, sessions), cookie))
            await reached.wait()
            cancelled.cancel()
            await asyncio.wait([cancelled])
            assert cancelled.cancelled()

        asyncio.run(main())
        assert (None, {}) == stored(sessions, cookie)

    def test_a_request_cancelled_at_every_await_keeps_a_logout(self) -> None:
        """As anyio cancels, whose task groups many apps run in."""
        store, clock = MemoryStore(), Clock()
        sessions = AsyncSessions(DistantStore(store), clock=clock)
        cookie = logged_in(sessions)

        async def main() -> None:
            with anyio.CancelScope() as group:

                async def leaving(scope: Any, receive: Any, send: Any) -> None:
                    scope["session"].logout()
                    group.cancel()
                    await asyncio.Event().wait()

                await asked(behind(leaving, sessions), cookie)
            while store.page("", 9, int(clock() * 1000)):
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert (None, {}) == stored(sessions, cookie)

    def test_a_cancelled_request_leaves_no_trace(self) -> None:
        """Nothing is stored, and the session is free for the next request."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)

        async def main() -> Answer:
            reached = asyncio.Event()

            async def waiting(scope: Any, receive: Any, send: Any) -> None:
                scope["session"]["a"] = 2
                reached.set()
                await asyncio.Event().wait()

            cancelled = asyncio.create_task(asked(behind(waiting, sessions), cookie))
            await reached.wait()
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            return await asked(behind(doing(put("b", 1)), sessions), cookie)

        assert 200 == asyncio.run(main()).status
        assert ("user:42", {"a": 1, "b": 1}) == stored(sessions, cookie)


class TestEventLoops:
    @pytest.mark.parametrize("kind", ["memory-async", "sqlite-async"])
    def test_each_request_may_have_a_loop_of_its_own(self, kind: str, tmp_path: Path) -> None:
        """Starlette's TestClient starts one for each, as long as it is not entered."""
        sessions = AsyncSessions(STORES[kind](tmp_path))
        loops: list[int] = []

        async def count(request: Request) -> Response:
            loops.append(id(asyncio.get_running_loop()))
            return PlainTextResponse(str(current().edit("n", lambda n: n + 1, default=0)))

        client = client_of(behind(Starlette(routes=[Route("/", count)]), sessions))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ["1", "2", "3"] == [client.get("/").text for _ in range(3)]
        asyncio.run(sessions.close())
