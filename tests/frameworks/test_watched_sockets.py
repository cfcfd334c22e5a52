"""`watch=True` behind each framework: a real socket over loopback is closed with 4401."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

import falcon
import falcon.asgi
import litestar
import pytest
import quart
import uvicorn
import websockets.asyncio.client
from aiohttp import WSMsgType, web
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from coatcheck import AsyncSessions
from coatcheck.watching import _watchers
from coatcheck.web import aiohttp, asgi, sanic, tornado
from coatcheck.web.falcon import AsyncSessionMiddleware
from coatcheck.web.litestar import CoatcheckPlugin
from coatcheck.web.quart import CoatcheckSessionInterface
from tests.outside.frameworks.sanic import new_app
from tests.test_watching import PATIENCE, STEP, Site, logout, seen_at, settled

Served = AbstractAsyncContextManager[int]


class Left(list[str]):
    """What the handlers said when they left, and what they heard before."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.may_go = asyncio.Event()  # else Falcon's handler is busy
        self.may_go.set()

    def hear(self, message: Any) -> Any:
        self.heard.append(message)
        return message


@asynccontextmanager
async def uvicorned(app: Any) -> AsyncIterator[int]:
    """An ASGI app on a server in this loop."""
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


def with_starlette(sessions: AsyncSessions, left: Left, **options: Any) -> Served:
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(left.hear(await socket.receive_text()))
        except WebSocketDisconnect as error:
            left.append(str(error.code))

    site = Starlette(routes=[WebSocketRoute("/chat", chat)])
    return uvicorned(asgi.SessionMiddleware(site, sessions, sweep=None, **options))


def with_litestar(sessions: AsyncSessions, left: Left, **options: Any) -> Served:
    @litestar.websocket("/chat")
    async def chat(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(left.hear(await socket.receive_text()))
        finally:
            left.append("left")

    plugin = CoatcheckPlugin(sessions, sweep=None, **options)
    return uvicorned(litestar.Litestar([chat], plugins=[plugin]))


def with_falcon(sessions: AsyncSessions, left: Left, **options: Any) -> Served:
    class Chat:
        async def on_websocket(self, req: Any, ws: falcon.asgi.WebSocket) -> None:
            await ws.accept()
            with suppress(falcon.WebSocketDisconnected):
                while True:
                    await ws.send_text(left.hear(await ws.receive_text()))
                    await left.may_go.wait()
            left.append("left")

    middleware = AsyncSessionMiddleware(sessions, sweep=None, **options)
    app: Any = falcon.asgi.App(middleware=[middleware])
    app.add_route("/chat", Chat())
    return uvicorned(app)


def with_quart(
    sessions: AsyncSessions, left: Left, *, by_child: bool = False, **options: Any
) -> Served:
    app: Any = quart.Quart(__name__)
    app.session_interface = CoatcheckSessionInterface(sessions, sweep=None, **options)

    async def chat() -> None:
        if by_child:
            accept = quart.copy_current_websocket_context(quart.websocket.accept)
            await asyncio.create_task(accept())
        try:
            while True:
                await quart.websocket.send(left.hear(await quart.websocket.receive()))
        finally:
            left.append("left")

    app.add_websocket("/chat", view_func=chat)
    return uvicorned(app)


async def one_by_one(ws: Any) -> AsyncIterator[str]:
    while (text := await ws.recv()) is not None:
        yield text


async def in_bursts(ws: Any) -> AsyncIterator[str]:
    while True:
        for text in await ws.recv_burst():
            yield text
        await asyncio.sleep(0)


async def in_parts(ws: Any) -> AsyncIterator[str]:
    while True:
        async for part in ws.recv_streaming():
            yield part


def _sanic(
    sessions: AsyncSessions,
    left: Left,
    *,
    messages: Callable[[Any], AsyncIterator[str]] = one_by_one,
    **options: Any,
) -> Any:
    app = new_app()
    sanic.setup(app, sessions, sweep=None, **options)

    async def chat(request: Any, ws: Any) -> None:
        try:
            async for text in messages(ws):
                await ws.send(left.hear(text))
        finally:
            left.append("left")

    app.add_websocket_route(chat, "/chat")
    return app


def with_sanic_under_asgi(sessions: AsyncSessions, left: Left, **options: Any) -> Served:
    return uvicorned(_sanic(sessions, left, **options))


def with_sanic(sessions: AsyncSessions, left: Left, **options: Any) -> Served:
    return on_sanics_server(_sanic(sessions, left, **options))


@asynccontextmanager
async def on_sanics_server(app: Any) -> AsyncIterator[int]:
    """A Sanic app on its own server, in this loop."""
    (socket,) = bind_sockets(0, "127.0.0.1")
    server = await app.create_server(sock=socket, return_asyncio_server=True, access_log=False)
    await server.startup()
    await server.before_start()
    await server.start_serving()
    yield socket.getsockname()[1]
    await server.close()
    await server.before_stop()
    await settled()  # its connections notice that their clients have left


@asynccontextmanager
async def with_aiohttp(sessions: AsyncSessions, left: Left, **options: Any) -> AsyncIterator[int]:
    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            await socket.send_str(left.hear(message.data))
        left.append(str(socket.close_code))
        return socket

    app = web.Application()
    aiohttp.setup(app, sessions, sweep=None, **options)
    app.router.add_get("/chat", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@asynccontextmanager
async def with_tornado(sessions: AsyncSessions, left: Left, **options: Any) -> AsyncIterator[int]:
    class Chat(tornado.SessionMixin, WebSocketHandler):
        async def on_message(self, message: str | bytes) -> None:
            await self.write_message(left.hear(message))

        def on_close(self) -> None:
            left.append("left")

    app = Application([("/chat", Chat)])
    tornado.setup(app, sessions, sweep=None, **options)
    server, sockets = HTTPServer(app), bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    yield sockets[0].getsockname()[1]
    server.stop()
    await server.close_all_connections()


FRAMEWORKS: dict[str, Callable[..., Served]] = {
    "Starlette": with_starlette,
    "Litestar": with_litestar,
    "Falcon": with_falcon,
    "Quart": with_quart,
    "Quart, accepted by a child task": partial(with_quart, by_child=True),
    "Sanic": with_sanic,
    "Sanic under ASGI": with_sanic_under_asgi,
    "aiohttp": with_aiohttp,
    "Tornado": with_tornado,
}


async def connected(site: Site, port: int) -> Any:
    headers = {"Cookie": site.cookie} if site.cookie else {}
    address = f"ws://127.0.0.1:{port}/chat"
    return await websockets.asyncio.client.connect(address, additional_headers=headers)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_socket_is_closed_when_its_session_ends(name: str) -> None:
    """Its messages are activity; the app learns that it is over; nothing is left of the watch."""

    async def scenario() -> None:
        site, left = Site(), Left()
        await site.login()
        async with FRAMEWORKS[name](site.sessions, left, watch=True) as port:
            socket = await connected(site, port)
            site.clock.move(STEP)
            await socket.send("hello")
            assert "hello" == await socket.recv()
            await settled()
            assert site.clock.now == await seen_at(site)
            await site.rounds.turn()
            await site.request(logout)
            await site.rounds.turn()
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert Close(4401, "session ended") == caught.value.rcvd
            await until(lambda: left and not _watchers)

    asyncio.run(scenario())


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_neither_an_anonymous_socket_nor_one_that_is_off_is_watched(name: str) -> None:
    """A client that leaves leaves nothing behind."""

    async def scenario() -> None:
        for options in ({}, {"watch": True}):
            site, left = Site(), Left()
            if not options:
                await site.login()
            gone = partial(bool, left)
            async with FRAMEWORKS[name](site.sessions, left, **options) as port:
                socket = await connected(site, port)
                await socket.send("hello")
                assert "hello" == await socket.recv()
                assert {} == _watchers
                await socket.close()
                await until(gone)

    asyncio.run(scenario())


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_client_that_leaves_ends_the_watch(name: str) -> None:
    """And the session is as it was."""

    async def scenario() -> None:
        site, left = Site(), Left()
        await site.login()
        async with FRAMEWORKS[name](site.sessions, left, watch=True) as port:
            socket = await connected(site, port)
            await socket.send("hello")
            assert "hello" == await socket.recv()
            assert 1 == len(_watchers)
            await socket.close()
            await until(lambda: left and not _watchers)
            assert 1 == len(await site.sessions.list_for("user:42"))

    asyncio.run(scenario())


HEARING = FRAMEWORKS | {
    "Sanic, in bursts": partial(with_sanic, messages=in_bursts),
    "Sanic, in parts": partial(with_sanic, messages=in_parts),
}


@pytest.mark.parametrize("name", HEARING)
def test_a_client_that_ignores_the_close_is_heard_no_more(name: str) -> None:
    """Whoever was logged out gives no more commands."""

    async def scenario() -> None:
        site, left = Site(), Left()
        await site.login()
        async with HEARING[name](site.sessions, left, watch=True) as port:
            async with deaf_client(site, port) as (reader, writer):
                writer.write(text_frame(b"before"))
                assert b"before" in await reader.read(100)
                await end(site)
                assert (4401).to_bytes(2) in await reader.read(100)
                for _ in range(5):
                    writer.write(text_frame(b"after"))
                    await settled()
                assert ["before"] == left.heard
            await until(lambda: left and not _watchers)

    asyncio.run(scenario())


def test_what_waits_in_falcons_queue_is_heard_no_more() -> None:
    """It came in time, but the handler was busy."""

    async def scenario() -> None:
        site, left = Site(), Left()
        await site.login()
        async with (
            with_falcon(site.sessions, left, watch=True) as port,
            deaf_client(site, port) as (reader, writer),
        ):
            left.may_go.clear()
            for text in (b"before", b"one", b"two"):
                writer.write(text_frame(text))
            assert b"before" in await reader.read(100)
            await settled()
            await end(site)
            left.may_go.set()
            await until(lambda: left and not _watchers)
            assert ["before"] == left.heard

    asyncio.run(scenario())


async def end(site: Site) -> None:
    await site.rounds.turn()
    await site.request(logout)
    await site.rounds.turn()


@asynccontextmanager
async def deaf_client(
    site: Site, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A WebSocket that answers nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [
        "GET /chat HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Cookie: {site.cookie}",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode())
    try:
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def text_frame(text: bytes) -> bytes:
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text
