"""A proxy of our own between a client and a server: it delays, cuts, resets and counts.

It runs in a thread with an event loop of its own, so that it works beside any kind of client. What
it does to new data is set by attributes, at any time:

    proxy.delay = 0.2          every piece from the server is held back for so many seconds
    proxy.dribble = True       the server's answers come a byte at a time, `delay` apart
    proxy.cut_after = 10       after so many more bytes of answers a connection closes, cleanly
    proxy.reset_after = 10     the same, but reset; of these two the one set last holds
    proxy.silent = True        nothing passes in either direction; connections stay open
    proxy.lose = 2             after two more answers one is lost: a reset comes instead of it
    proxy.refuse = True        nobody listens on the port; connections that there are go on

`on_request` and `on_answer` are called with each piece before it goes on, in the proxy's thread;
what `on_answer` does to `cut_after` and `reset_after` concerns the next piece.

Otherwise it is as good as none. What was on its way when it fell silent comes when it is healed, a
side that only stops sending still receives, and a reset arrives as a reset.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

__all__ = ["Proxy"]

_CHUNK = 65_536
_HOST = "127.0.0.1"
_PATIENCE = 10.0


class _Over(Exception):
    """The connection had all the answers that it gets."""


class _Limit:
    """How many bytes of answers each connection gets, from when the limit was set."""

    def __init__(self, most: int | None = None, *, resets: bool = False) -> None:
        self.most = most
        self.resets = resets
        self._sent: WeakKeyDictionary[asyncio.StreamWriter, int] = WeakKeyDictionary()

    async def send(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        sent = self._sent.get(writer, 0)
        room = None if self.most is None else self.most - sent
        self._sent[writer] = sent + len(piece)
        writer.write(piece[:room])
        await writer.drain()
        if room is not None and len(piece) >= room:
            if self.resets:
                _reset(writer)
            raise _Over


class Proxy:
    """Listens on `port` while the `with` block lasts, and passes on to the server's port."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0
        self.delay = 0.0
        self.dribble = False
        self.silent = False
        self.lose: int | None = None
        self.connections = 0
        self.from_client = 0
        self.on_request: Callable[[bytes], object] | None = None
        self.on_answer: Callable[[bytes], object] | None = None
        self._limit = _Limit()
        self._clients: dict[asyncio.StreamWriter, asyncio.StreamReader] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    @property
    def cut_after(self) -> int | None:
        return None if self._limit.resets else self._limit.most

    @cut_after.setter
    def cut_after(self, size: int | None) -> None:
        self._limit = _Limit(size)

    @property
    def reset_after(self) -> int | None:
        return self._limit.most if self._limit.resets else None

    @reset_after.setter
    def reset_after(self, size: int | None) -> None:
        self._limit = _Limit(size, resets=True)

    @property
    def refuse(self) -> bool:
        return self._server is None

    @refuse.setter
    def refuse(self, refuses: bool) -> None:
        self._do(self._refuse() if refuses else self._listen())

    @property
    def open_connections(self) -> int:
        """How many clients are connected now, and have not ended."""
        clients = list(self._clients.items())
        return sum(not (writer.is_closing() or reader.at_eof()) for writer, reader in clients)

    @property
    def rests(self) -> bool:
        """Whether nobody is connected, and nothing of earlier connections is left."""
        return not self._clients

    def heal(self) -> None:
        """Everything passes again."""
        self.delay, self.dribble, self.silent, self.refuse = 0.0, False, False, False
        self.cut_after = self.lose = self.on_request = self.on_answer = None

    def cut_all(self) -> None:
        """Reset every connection there is."""
        self._do(self._cut_all())

    def _do(self, work: Coroutine[object, object, None]) -> None:
        """Done on return; but soon after, when it is asked for in the proxy's own thread."""
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        if threading.current_thread() is not self._thread:
            doing.result(_PATIENCE)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, _HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut_all(self) -> None:
        writers = list(self._writers)
        for writer in writers:
            _reset(writer)
        await _closed(writers)

    async def _end(self) -> None:
        await self._refuse()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for writer in self._writers:
            _reset(writer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._clients[writer] = reader
        pair = [writer]
        self._writers.add(writer)
        try:
            from_server, to_server = await asyncio.open_connection(_HOST, self.server_port)
            pair.append(to_server)
            self._writers.add(to_server)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(reader, to_server, self._ask))
                ways.create_task(self._pass_on(from_server, writer, self._answer))
        except* (_Over, asyncio.CancelledError):  # Python 3.11 logs a connection that is cancelled
            pass
        except* OSError:
            for each in pair:
                _reset(each)
        finally:
            for each in pair:
                each.close()
            await _closed(pair)
            self._writers.difference_update(pair)
            del self._clients[writer]

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        send: Callable[[asyncio.StreamWriter, bytes], Awaitable[None]],
    ) -> None:
        """Until the reader's side ends, which the writer's side is told."""
        while data := await self._read(reader):
            await send(writer, data)
        writer.write_eof()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """What came, be it an end or an error; in silence nothing does."""
        try:
            data = await reader.read(_CHUNK)
        except OSError:
            await self._heard()
            raise
        await self._heard()
        return data

    async def _heard(self) -> None:
        while self.silent:
            await asyncio.sleep(0.01)

    async def _ask(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        self.from_client += len(data)
        if self.on_request is not None:
            self.on_request(data)
        writer.write(data)
        await writer.drain()

    def _loses(self) -> bool:
        """Whether this is the answer that is lost."""
        if self.lose is None:
            return False
        self.lose = self.lose - 1 if self.lose else None
        return self.lose is None

    async def _answer(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        limit = _Limit(0, resets=True) if self._loses() else self._limit
        if self.on_answer is not None:
            self.on_answer(data)
        pieces = [data[at : at + 1] for at in range(len(data))] if self.dribble else [data]
        for piece in pieces:
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._heard()
            await limit.send(writer, piece)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side is told of a reset, not of an end."""
    with suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _closed(writers: Iterable[asyncio.StreamWriter]) -> None:
    closings = (writer.wait_closed() for writer in writers)
    await asyncio.gather(*closings, return_exceptions=True)
