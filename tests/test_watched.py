"""ASGI: an open socket, and a stream of events, end with their session."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import websockets.asyncio.client
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed

from coatcheck import AsyncSessions, Cookie
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.testing import login
from coatcheck.watching import Watch
from coatcheck.web import watched
from coatcheck.web.asgi import SessionMiddleware
from coatcheck.web.watched import Guard
from tests.outside import asgi_scope
from tests.servers.running import Server, running
from tests.sites import KEPT
from tests.stopwatch import Stopwatch
from tests.test_watching import IDLE, STEP, Site, logout, run, seen_at, settled

PATIENCE = 10.0
CLOSE = {"type": "websocket.close", "code": 4401, "reason": "session ended"}
GOODBYE = {"type": "websocket.disconnect", "code": 4401, "reason": "session ended"}
HELLO = {"type": "websocket.send", "text": "hello"}
ACCEPT = "websocket.accept"
EVENTS = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
BEAT = {"type": "http.response.body", "body": b"data: beat\n\n", "more_body": True}
OVER = {"type": "http.response.body", "body": b"", "more_body": False}

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Wire:
    """A connection to the app, as a server has it."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.is_clear = asyncio.Event()  # else the client reads too slowly
        self.is_clear.set()
        self.is_done = self.is_busy = self.overlaps = False
        self.task: asyncio.Task[None]

    async def receive(self) -> Message:
        return await self.incoming.get()

    async def send(self, message: Any) -> None:
        self.overlaps = self.overlaps or self.is_busy
        self.is_busy = True
        await self.is_clear.wait()
        self.is_busy = False
        if not self.is_done:
            self.sent.append(message)

    async def serve(self, app: App) -> None:
        """A server takes nothing from an app that is done."""
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            self.is_done = True

    def say(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    async def over(self) -> None:
        """Wait for the app's end."""
        async with asyncio.timeout(PATIENCE):
            await self.task

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.sent]


@asynccontextmanager
async def connected(
    site: Site, app: App, *, scope: Message | None = None, **options: Any
) -> AsyncIterator[Wire]:
    """A WebSocket to the app, whose session is the site's; it is cut at the end."""
    whole = SessionMiddleware(app, site.sessions, **{"sweep": None, "watch": True, **options})
    headers = [(b"cookie", site.cookie.encode())] if site.cookie else []
    parts = {"type": "websocket", "scheme": "wss", "subprotocols": []}
    wire = Wire(asgi_scope(headers=headers, **(parts if scope is None else scope)))
    wire.incoming.put_nowait({"type": f"{wire.scope['type']}.connect"})
    wire.task = asyncio.create_task(wire.serve(whole))
    await settled()
    yield wire
    wire.task.cancel()
    await asyncio.gather(wire.task, return_exceptions=True)


@asynccontextmanager
async def streamed(site: Site, app: App, **options: Any) -> AsyncIterator[Wire]:
    """A request to the app; nobody leaves."""
    async with connected(site, app, scope={"type": "http"}, **options) as wire:
        yield wire


class Chat:
    """An app that accepts, keeps what comes, and answers until it is told to stop."""

    def __init__(self) -> None:
        self.got: list[Message] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": ACCEPT})
        await listen(self, receive)


async def listen(chat: Chat, receive: Any) -> None:
    while not chat.got or chat.got[-1]["type"] != "websocket.disconnect":
        chat.got.append(await receive())


async def end(site: Site) -> None:
    """The session is logged out elsewhere, and the next round learns of it."""
    await site.request(logout)
    await site.rounds.turn()


class TestSockets:
    def test_it_is_closed_with_4401_and_the_app_that_waits_is_woken(self) -> None:
        """Which then is over, and nothing is left of it."""

        async def scenario() -> None:
            site, chat = Site(), Chat()
            await site.login()
            async with connected(site, chat) as wire:
                wire.say("hello")
                await site.rounds.turn()
                assert [ACCEPT] == wire.kinds
                await end(site)
                await wire.over()
            assert CLOSE == wire.sent[-1]
            assert ["hello", GOODBYE] == [chat.got[0]["text"], chat.got[1]]

        run(scenario)

    def test_off_by_default(self) -> None:
        """Then the messages are the server's own, and nobody is asked about the session."""

        async def scenario() -> None:
            site, chat = Site(), Chat()
            await site.login()
            async with connected(site, chat, watch=False) as wire:
                await site.request(logout)
                await settled()
                assert ([ACCEPT], []) == (wire.kinds, site.rounds.lengths)
            plain = SessionMiddleware(chat, site.sessions, sweep=None)
            assert plain._watch is False

        run(scenario)

    def test_an_anonymous_one_is_not_watched(self) -> None:
        """The app gets the server's own messages."""

        async def scenario() -> None:
            site, chat = Site(), Chat()
            async with connected(site, chat) as wire:
                wire.say("hello")
                await settled()
                assert ([ACCEPT], 1, []) == (wire.kinds, len(chat.got), site.rounds.lengths)

        run(scenario)

    def test_a_login_on_the_handshake_is_watched(self) -> None:
        """From its commit on."""

        async def scenario() -> None:
            site = Site()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                scope["session"].login("user:42")
                await Chat()(scope, receive, send)

            async with connected(site, app) as wire:
                await site.rounds.turn()
                assert 1 == await site.sessions.revoke_all("user:42")
                await site.rounds.turn()
                await wire.over()
            assert CLOSE == wire.sent[-1]

        run(scenario)

    def test_of_several_sessions_the_main_one_counts(self) -> None:
        """The end of a named one is the app's business."""

        async def scenario() -> None:
            site, prefs = Site(), Site(cookie=Cookie("prefs"))
            await site.login()
            await prefs.login()
            own, site.cookie = site.cookie, f"{site.cookie}; {prefs.cookie}"
            async with connected(site, Chat(), named={"prefs": prefs.sessions}) as wire:
                await prefs.request(logout)
                await site.rounds.turn()
                assert [ACCEPT] == wire.kinds
                site.cookie = own
                await end(site)
                await wire.over()
            assert CLOSE == wire.sent[-1]

        run(scenario)

    def test_messages_are_activity(self) -> None:
        """They keep the session, over its idle time."""

        async def scenario() -> None:
            site, chat = Site(), Chat()
            await site.login()
            async with connected(site, chat) as wire:
                for _ in range(3):
                    site.clock.move(IDLE * 0.7)
                    wire.say("still here")
                    await settled()
                    await site.rounds.turn()
                assert ([ACCEPT], site.clock.now) == (wire.kinds, await seen_at(site))
                site.clock.move(IDLE)
                await site.rounds.turn()
                await wire.over()
            assert CLOSE == wire.sent[-1]

        run(scenario)

    def test_what_is_sent_afterwards_is_an_oserror_and_a_close_is_dropped(self) -> None:
        """As after any disconnect; an app that stops for it has not failed."""

        async def scenario() -> None:
            site, errors = Site(), list[Exception]()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await Chat()(scope, receive, send)
                with pytest.raises(OSError, match="session ended"):
                    await send(HELLO)
                await send({"type": "websocket.close", "code": 1000})
                try:
                    await send(HELLO)
                except OSError as error:
                    errors.append(error)
                    raise RuntimeError("no more") from error

            async with connected(site, app) as wire:
                await end(site)
                await wire.over()
            assert ([ACCEPT, "websocket.close"], 1) == (wire.kinds, len(errors))

        run(scenario)

    def test_an_error_of_its_own_goes_on(self) -> None:
        """Whatever became of the session."""

        async def scenario() -> None:
            site = Site()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await Chat()(scope, receive, send)
                raise ZeroDivisionError

            async with connected(site, app) as wire:
                await end(site)
                with pytest.raises(ZeroDivisionError):
                    await wire.over()

        run(scenario)

    @pytest.mark.parametrize("error", [KeyError("a bug"), FileNotFoundError("no such lock")])
    def test_an_error_of_its_clean_up_goes_on(self, error: Exception) -> None:
        """Though it came while ours was handled."""

        async def scenario() -> None:
            site = Site()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await Chat()(scope, receive, send)
                try:
                    await send(HELLO)
                finally:
                    raise error

            async with connected(site, app) as wire:
                await end(site)
                with pytest.raises(type(error)):
                    await wire.over()

        run(scenario)

    def test_the_close_waits_for_the_message_on_its_way(self) -> None:
        """A server takes one message after another."""

        async def scenario() -> None:
            site = Site()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                await send({"type": ACCEPT})
                await receive()
                await send(HELLO)
                await listen(Chat(), receive)

            async with connected(site, app) as wire:
                wire.is_clear.clear()
                wire.say("hello")
                await settled()
                await end(site)
                assert [ACCEPT] == wire.kinds
                wire.is_clear.set()
                await wire.over()
            assert ([HELLO, CLOSE], False) == (wire.sent[1:], wire.overlaps)

        run(scenario)

    def test_an_app_that_learns_of_it_first_does_not_keep_it_from_the_client(self) -> None:
        """It stops at once, before anything of ours has run."""

        async def scenario() -> None:
            site = Site()
            session = await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                async with Watch(site.sessions, scope["session"]) as own:
                    await receive()
                    await send({"type": ACCEPT})
                    await own.over
                    await send(HELLO)

            others = Watch(site.sessions, session)  # so that the watcher's end takes no time
            async with others, connected(site, app) as wire:
                await end(site)
                await wire.over()
            assert [ACCEPT, "websocket.close"] == wire.kinds

        run(scenario)

    def test_a_guard_ends_once(self) -> None:
        """Whether the end comes first, or the socket's own."""

        async def scenario() -> None:
            site, ends = Site(), list[str]()

            async def close() -> None:
                ends.append("closed")

            guard = Guard.of(site.sessions, await site.login(), close)
            assert guard is not None
            await end(site)
            await guard.stop()
            assert ["closed"] == ends

        run(scenario)

    def test_a_guard_whose_stop_is_cancelled_again_and_again_leaves_no_watch(self) -> None:
        """As anyio does: each wait in a cancelled scope is cancelled anew."""

        async def scenario() -> None:
            site = Site()
            guard = Guard.of(site.sessions, await site.login(), lambda: anyio.sleep_forever())
            assert guard is not None
            await end(site)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await guard.stop()
            assert [] == [each for each in asyncio.all_tasks() if "watcher" in each.get_name()]

        run(scenario)

    def test_a_client_that_reads_nothing_holds_nobody_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether the app is done, or was cancelled."""
        monkeypatch.setattr(watched, "GOODBYE", 0.01)

        async def scenario() -> None:
            site = Site()
            await site.login()
            async with connected(site, Chat()) as wire:
                wire.is_clear.clear()
                await end(site)
                await wire.over()
            assert [ACCEPT] == wire.kinds

        run(scenario)

    def test_one_that_closed_by_itself_is_not_closed_again(self) -> None:
        """The app may have work left."""

        async def scenario() -> None:
            site, working = Site(), asyncio.Event()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                await send({"type": ACCEPT})
                await send({"type": "websocket.close", "code": 1000})
                await working.wait()

            async with connected(site, app) as wire:
                await end(site)
                working.set()
                await wire.over()
            assert [ACCEPT, "websocket.close"] == wire.kinds
            assert 1000 == wire.sent[-1]["code"]

        run(scenario)

    def test_an_app_that_waits_no_longer_loses_no_message(self) -> None:
        """It asks for one with a time-out, again and again."""

        async def scenario() -> None:
            site, got = Site(), list[str]()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                await send({"type": ACCEPT})
                while len(got) < 3:
                    waiting = asyncio.ensure_future(receive())
                    done, _ = await asyncio.wait([waiting], timeout=0)
                    if done:
                        got.append(waiting.result()["text"])
                    else:
                        waiting.cancel()

            async with connected(site, app) as wire:
                for text in ("one", "two", "three"):
                    wire.say(text)
                    await settled()
                await wire.over()
            assert ["one", "two", "three"] == got

        run(scenario)

    def test_two_that_receive_get_each_message_once(self) -> None:
        """And both are woken at the end."""

        async def scenario() -> None:
            site, one, other = Site(), Chat(), Chat()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                await send({"type": ACCEPT})

                async with anyio.create_task_group() as group:
                    group.start_soon(listen, one, receive)
                    group.start_soon(listen, other, receive)

            async with connected(site, app) as wire:
                for text in ("one", "two", "three"):
                    wire.say(text)
                    await settled()
                await end(site)
                await wire.over()
            texts = [message["text"] for message in (*one.got, *other.got) if "text" in message]
            assert ["one", "three", "two"] == sorted(texts)
            assert [GOODBYE, GOODBYE] == [one.got[-1], other.got[-1]]

        run(scenario)

    @pytest.mark.parametrize("way", ["the server", "a scope of anyio's"])
    def test_one_that_is_cancelled_leaves_nothing(self, way: str) -> None:
        """No task, and no watcher: `run` looks."""

        async def scenario() -> None:
            site = Site()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                with anyio.CancelScope() as cancel:
                    scope["cancel"] = cancel
                    await Chat()(scope, receive, send)

            async with connected(site, app) as wire:
                if way != "the server":
                    wire.scope["cancel"].cancel()
                    await wire.over()
            assert [ACCEPT] == wire.kinds

        run(scenario)

    def test_the_client_that_has_gone_is_not_missed(self) -> None:
        """A close that cannot be sent is no error."""

        async def scenario() -> None:
            site, chat = Site(), Chat()
            await site.login()
            async with connected(site, chat) as wire:
                wire.sent = Refusing()
                await end(site)
                await wire.over()
            assert GOODBYE == chat.got[-1]

        run(scenario)

    def test_starlette_ends_its_iteration(self) -> None:
        """As after any disconnect."""

        async def scenario() -> None:
            site, said = Site(), list[str]()
            await site.login()

            async def chat(socket: WebSocket) -> None:
                await socket.accept()
                async for text in socket.iter_text():
                    said.append(text)
                said.append("over")

            app = Starlette(routes=[WebSocketRoute("/", chat)])
            async with connected(site, app) as wire:
                wire.say("hello")
                await settled()
                await end(site)
                await wire.over()
            assert (["hello", "over"], CLOSE) == (said, wire.sent[-1])

        run(scenario)

    def test_starlette_that_only_sends_is_disconnected(self) -> None:
        """Its error is not the server's to log."""

        async def scenario() -> None:
            site = Site()
            await site.login()

            async def ticker(socket: WebSocket) -> None:
                await socket.accept()
                while True:
                    await socket.send_text("hello")
                    await asyncio.sleep(0)

            async with connected(site, Starlette(routes=[WebSocketRoute("/", ticker)])) as wire:
                await end(site)
                await wire.over()
            assert (CLOSE, 1) == (wire.sent[-1], wire.kinds.count("websocket.close"))

        run(scenario)


class Refusing(list[Message]):
    """The client is gone."""

    def append(self, _: Message) -> None:
        raise OSError("gone")


def beating(headers: Any = EVENTS, wait: Callable[[Any], Awaitable[None]] | None = None) -> App:
    """An app that streams until it is stopped."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            await send(BEAT)
            await (asyncio.sleep(0) if wait is None else wait(receive))

    return app


class TestStreams:
    def test_a_stream_of_events_ends_and_the_app_stops(self) -> None:
        """At its next part; that is no error."""

        async def scenario() -> None:
            site = Site()
            await site.login()
            async with streamed(site, beating()) as wire:
                await site.rounds.turn()
                assert BEAT == wire.sent[-1]
                await end(site)
                await wire.over()
            assert OVER == wire.sent[-1]

        run(scenario)

    def test_an_app_that_waits_for_the_disconnect_is_woken(self) -> None:
        """The client is told at once, though no part is due."""

        async def scenario() -> None:
            site, got = Site(), list[Message]()
            await site.login()

            async def wait(receive: Any) -> None:
                got.append(await receive())

            async with streamed(site, beating(wait=wait)) as wire:
                await end(site)
                await wire.over()
            assert ([BEAT, OVER], [{"type": "http.disconnect"}]) == (wire.sent[1:], got)

        run(scenario)

    @pytest.mark.parametrize("version", ["2.0", "2.4"])
    @pytest.mark.parametrize("between", [False, True], ids=["", "behind middleware"])
    def test_starlettes_streaming_response_stops(self, version: str, between: bool) -> None:
        """Both by its listening and by its sending; also behind a middleware of its kind."""

        async def passing(request: Request, call_next: Any) -> Any:
            return await call_next(request)

        async def scenario() -> None:
            site, left = Site(), list[str]()
            await site.login()

            async def parts() -> AsyncIterator[str]:
                try:
                    while True:
                        yield "data: beat\n\n"
                        await asyncio.sleep(0)
                finally:
                    left.append("left")

            async def view(_: Request) -> StreamingResponse:
                return StreamingResponse(parts(), media_type="text/event-stream")

            scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": version}}
            app: Any = Starlette(routes=[Route("/", view)])
            if between:
                app = BaseHTTPMiddleware(app, passing)
            async with connected(site, app, scope=scope) as wire:
                await end(site)
                await wire.over()
                await asyncio.get_running_loop().shutdown_asyncgens()
            assert (OVER, ["left"]) == (wire.sent[-1], left)

        run(scenario)

    @pytest.mark.parametrize("headers", [[], [(b"content-type", b"text/plain")]])
    def test_another_stream_goes_on(self, headers: Any) -> None:
        """Only events are watched: a download is not cut."""

        async def scenario() -> None:
            site = Site()
            await site.login()
            async with streamed(site, beating(headers)) as wire:
                await site.request(logout)
                await settled()
                assert (BEAT, []) == (wire.sent[-1], site.rounds.lengths)

        run(scenario)

    def test_one_that_ends_by_itself_is_left_alone(self) -> None:
        """And so is what an ordinary request says."""

        async def scenario() -> None:
            site = Site()
            await site.login()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
                await send(BEAT)
                await send(OVER)

            async with streamed(site, app) as wire:
                await wire.over()
            assert [BEAT, OVER] == wire.sent[1:]

        run(scenario)

    def test_reading_a_stream_is_no_activity(self) -> None:
        """Nothing came from the browser."""

        async def scenario() -> None:
            site = Site()
            await site.login()
            async with streamed(site, beating()):
                site.clock.move(STEP * 2)
                await site.rounds.turn()
                assert [] == site.store.touched

        run(scenario)


def test_starlettes_test_client_sees_it() -> None:
    """In the thread of its own in which it runs the app."""
    site = AsyncSessions(AsyncMemoryStore())

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        async for _ in socket.iter_text():
            """It only listens."""

    async def leave(request: Request) -> Response:
        request.session.clear()
        return Response()

    routes: list[Any] = [WebSocketRoute("/chat", chat), Route("/leave", leave)]
    app = SessionMiddleware(Starlette(routes=routes), site, watch=True)
    with TestClient(app, base_url="https://testserver") as client:
        login(client, site, "user:42")
        with client.websocket_connect("wss://testserver/chat") as socket:
            client.get("/leave")
            with pytest.raises(WebSocketDisconnect) as caught:
                socket.receive_text()

    assert 4401 == caught.value.code


# Real servers: the socket is open in one process, the logout comes to another.


@contextmanager
def two_servers(url: str, folder: Path) -> Iterator[list[tuple[Server, int]]]:
    command = ["-m", "uvicorn", "tests.servers.watching_app:app", "--port", "0"]
    kept = {"COATCHECK_TEST_URL": url}
    with running(command, folder, **kept) as one, running(command, folder, **kept) as other:
        yield [(server, server.wait_for_port()) for server in (one, other)]


async def cookie_of(port: int) -> dict[str, str]:
    """Somebody logs in."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/login/user:42")
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


async def leave(port: int, cookie: dict[str, str]) -> None:
    """Log out."""
    async with httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{port}/logout/", headers=cookie)


async def closed_after(ports: list[int]) -> tuple[int, float]:
    """The code that a socket is closed with, and how many seconds after the logout."""
    cookie = await cookie_of(ports[1])
    address = f"ws://127.0.0.1:{ports[0]}/chat"
    async with websockets.asyncio.client.connect(address, additional_headers=cookie) as socket:
        await socket.send("hello")
        assert "hello" == await socket.recv()
        await leave(ports[1], cookie)
        with Stopwatch() as watch, pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, watch.seconds


async def ended_after(ports: list[int]) -> float:
    """How many seconds after the logout a stream of events ends."""
    cookie = await cookie_of(ports[1])
    address = f"http://127.0.0.1:{ports[0]}/events"
    async with (
        httpx.AsyncClient(timeout=PATIENCE) as client,
        client.stream("GET", address, headers=cookie) as stream,
    ):
        parts = stream.aiter_raw()
        assert b"data: beat" in await anext(parts)
        await leave(ports[1], cookie)
        with Stopwatch() as watch:
            async for _ in parts:
                """It goes on for a while."""
        return watch.seconds


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_across_processes_an_end_is_known_within_a_second(kind: str, tmp_path: Path) -> None:
    """By polling where the store tells nobody. A busy machine may be late, though not always."""
    url, _ = KEPT[kind]
    with two_servers(url(tmp_path), tmp_path) as servers:
        ports = [port for _, port in servers]
        sockets = [asyncio.run(closed_after(ports)) for _ in range(2)]
        streams = [asyncio.run(ended_after(ports)) for _ in range(2)]
        server = servers[0][0]
        server.wait_for(re.compile("(disconnected)"))

    assert {4401} == {code for code, _ in sockets}
    assert min(seconds for _, seconds in sockets) < 1.0
    assert min(streams) < 1.0
    assert "disconnected: 4401\n" == server.said[-1]
    assert "Traceback" not in "".join(server.said)
