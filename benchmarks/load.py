"""The load generator: kept-alive connections that each ask again as soon as they are answered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

from benchmarks.sample import BODY

__all__ = ["Load", "put_load"]

_GRACE = 10.0
_WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did: requests a second in the window, and all that it answered."""

    rate: float
    answered: int


class _Connection(asyncio.Protocol):
    """Asks, waits for the whole answer, asks again; `answered` counts."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None
        self._stopping = False
        self.answered = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < len(BODY):
            return
        if not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
            self._fail(RuntimeError(f"expected 200 and {BODY!r}, got {self._received[:200]!r}"))
            return
        self._received = b""
        self.answered += 1
        assert self._transport is not None
        if self._stopping:
            self._transport.close()
        else:
            self._transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            if error is None and self._stopping:
                self.closed.set_result(None)
            else:
                self.closed.set_exception(error or ConnectionError("the server hung up"))

    def stop(self) -> None:
        self._stopping = True

    def _fail(self, error: Exception) -> None:
        self.closed.set_exception(error)
        assert self._transport is not None
        self._transport.close()


async def put_load(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float
) -> Load:
    """Ask for so many seconds; the window opens when all connections are busy.

    Each connection asks for one of the requests, again and again.
    """
    async with asyncio.timeout(seconds + _GRACE):
        loop = asyncio.get_running_loop()
        made = [
            (await loop.create_connection(partial(_Connection, request), "127.0.0.1", port))[1]
            for request in islice(cycle(requests), connections)
        ]
        await asyncio.sleep(_WARM_UP)
        begun, before = time.perf_counter(), _answered(made)
        await asyncio.sleep(seconds)
        rate = (_answered(made) - before) / (time.perf_counter() - begun)
        for connection in made:
            connection.stop()
        await asyncio.gather(*(connection.closed for connection in made))
    return Load(rate, _answered(made))


def _answered(connections: list[_Connection]) -> int:
    return sum(connection.answered for connection in connections)
