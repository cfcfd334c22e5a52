"""Streams of events that end with their session."""

import asyncio
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPConnection
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from coatcheck.web.watched import Guard, stop_soon

__all__ = ["Events"]


class Events(HTTPConnection):
    """The connection of a stream of events. Once the session is over, its client has gone."""

    def __init__(self, handler: RequestHandler, sent: "asyncio.Future[None]") -> None:
        self._handler = handler
        self._connection: Any = handler.request.connection
        self._sent = sent
        self._is_whole = self._is_over = False
        self._guard: Guard

    def begin(self, guard: Guard) -> None:
        self._guard = guard
        self._connection.set_close_callback(self._left)
        self._handler.request.connection = self

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        if self._is_over:
            return _refused()
        self._sent = self._connection.write(chunk)
        return self._sent

    def finish(self) -> None:
        stop_soon(self._guard.stop)
        if not self._is_over:
            self._is_whole = True
            self._connection.finish()

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        if not self._is_over:
            self._connection.set_close_callback(callback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _left(self) -> None:
        stop_soon(self._guard.stop)
        self._handler.on_connection_close()

    async def end(self) -> None:
        if self._is_whole:
            return
        self._is_over = True
        self._connection.set_close_callback(None)
        IOLoop.current().add_callback(self._handler.on_connection_close)
        transforms, self._handler._transforms = self._handler._transforms, []
        try:
            await asyncio.wait([self._sent])  # it answers for one write at a time
            rest = b""
            for transform in transforms:  # what compresses has an end of its own
                rest = transform.transform_chunk(rest, True)
            self._connection.write(rest)
        finally:
            self._connection.finish()


def _refused() -> "asyncio.Future[None]":
    """As Tornado refuses what is written to a connection that is closed."""
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    refused.set_exception(StreamClosedError())
    refused.exception()  # nobody has to await it
    return refused
