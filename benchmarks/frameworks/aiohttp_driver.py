"""aiohttp driven in process: its server's protocol gets bytes, and a transport keeps the answer."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from benchmarks.frameworks.driving import Answer, InLoop, wire

__all__ = ["Aiohttp"]


class Aiohttp(InLoop):
    def __init__(self, app: Any) -> None:
        super().__init__()
        self.runner.run(self._start(app))

    async def _start(self, app: Any) -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None
        self._protocol = runner.server()
        self._transport = _Transport()
        self._protocol.connection_made(self._transport)

    def ask(self, path: str, cookie: str | None) -> Answer:
        return _parsed(self.runner.run(self._one(wire(path, cookie))))

    def asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
        request = wire(path, cookie)
        return lambda: self._one(request)

    async def _one(self, request: bytes) -> bytes:
        answered = self._transport.next()
        self._protocol.data_received(request)
        return await answered


class _Transport(asyncio.Transport):
    """Keeps what is written, until it is a whole response."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 52_000), "sockname": ("127.0.0.1", 8000)})
        self._written = b""
        self._answered: asyncio.Future[bytes] | None = None

    def next(self) -> "asyncio.Future[bytes]":
        self._answered = asyncio.get_running_loop().create_future()
        self._written = b""
        return self._answered

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written += data
        head, found, body = self._written.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if found and length and len(body) == int(length[1]):
            assert self._answered is not None
            self._answered.set_result(self._written)

    def is_closing(self) -> bool:
        return False


def _parsed(response: bytes) -> Answer:
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    return Answer(int(status.split()[1]), [(k.lower(), v) for k, _, v in pairs], body)
