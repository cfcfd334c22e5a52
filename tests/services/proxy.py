"""A proxy of our own between a client and a server: it delays, cuts, resets and counts.

It runs in a thread with an event loop of its own, so that it works beside any kind of client. What
it does to new data is set by attributes, at any time:

    proxy.delay = 0.2          every piece from the server arrives so many seconds later
    proxy.dribble = True       the server's answers come a byte at a time, `delay` apart
    proxy.cut_after = 10       after so many bytes of answers the connection closes, cleanly
    proxy.reset_after = 10     the same, but reset
    proxy.silent = True        nothing passes in either direction; connections stay open
    proxy.lose = 2             after two more answers one is lost: a reset comes instead of it
    proxy.refuse = True        new connections are closed at once

`on_request` and `on_answer` are called with each piece before it goes on, in the proxy's thread.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

__all__ = ["Proxy"]

_CHUNK = 65_536


class Proxy:
    """Listens on `port` while the `with` block lasts, and passes on to the server's port."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0
        self.delay = 0.0
        self.dribble = False
        self.cut_after: int | None = None
        self.reset_after: int | None = None
        self.lose: int | None = None
        self.silent = False
        self.refuse = False
        self.connections = 0
        self.from_client = 0
        self.on_request: Callable[[bytes], object] | None = None
        self.on_answer: Callable[[bytes], object] | None = None
        self._answered = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._up = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        return len(self._writers) // 2

    def heal(self) -> None:
        """Everything passes again."""
        self.delay, self.dribble, self.silent, self.refuse = 0.0, False, False, False
        self.cut_after = self.reset_after = self.on_request = self.on_answer = None
        self.lose = None
        self._answered = 0

    def cut_all(self) -> None:
        """Reset every connection there is."""
        done = threading.Event()

        def cut() -> None:
            for writer in list(self._writers):
                _reset(writer)
            done.set()

        self._loop.call_soon_threadsafe(cut)
        assert done.wait(10)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._ended.wait()
        server.close()
        for writer in list(self._writers):
            _reset(writer)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: Any, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuse:
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self.server_port
            )
        except OSError:
            _reset(writer)
            return
        pair = {writer, server_writer}
        self._writers |= pair
        ways = [
            asyncio.create_task(self._pass_on(reader, server_writer, self._asked)),
            asyncio.create_task(self._pass_on(server_reader, writer, self._answer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._writers -= pair
        for each in pair:
            each.close()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        send: Callable[[asyncio.StreamWriter, bytes], Awaitable[bool]],
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                while self.silent:
                    await asyncio.sleep(0.01)
                if not await send(writer, data):
                    return

    async def _asked(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        self.from_client += len(data)
        if self.on_request is not None:
            self.on_request(data)
        writer.write(data)
        await writer.drain()
        return True

    def _loses(self) -> bool:
        """Whether this is the answer that is lost."""
        if self.lose is not None:
            self.lose -= 1
        if self.lose != -1:
            return False
        self.lose = None
        return True

    async def _answer(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        if self.on_answer is not None:
            self.on_answer(data)
        if self._loses():
            _reset(writer)
            return False
        ends, resets = self.cut_after, self.reset_after is not None
        if resets:
            ends = self.reset_after
        pieces = [data[at : at + 1] for at in range(len(data))] if self.dribble else [data]
        for piece in pieces:
            if self.delay:
                await asyncio.sleep(self.delay)
            room = len(piece) if ends is None else max(0, ends - self._answered)
            self._answered += len(piece)
            writer.write(piece[:room])
            await writer.drain()
            if room < len(piece):
                if resets:
                    _reset(writer)
                return False
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side is told of a reset, not of an end."""
    with suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
