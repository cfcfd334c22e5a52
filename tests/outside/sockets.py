"""The part of servers that belong to their framework: HTTP/1.1 as bytes, within the process.

The framework's own server gets the bytes of a request and gives the bytes of its answer, through a
transport that is only played. So the head is seen in the moment in which it is written, and not
when a socket delivers it. An adapter's view calls `about_to_read` right before it awaits the body.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import tornado.web
from aiohttp import web
from tornado.concurrent import Future
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from tests.outside.talk import PATIENCE, Answer, Headers, Pending

ADDRESS = ("203.0.113.9", 4711)
LARGE = 300_000
"""What a head may measure, so that what a long cookie meets is not the server but the app."""

_current: ContextVar["_Pending"] = ContextVar("pending")
"""Each connection is served in a context of its own."""

# RFC 9110, section 5.5: a recipient refuses these or makes blanks of them. A server that refuses
# would answer itself, and nothing would be learnt about the app.
_CONTROLS = dict.fromkeys([*range(9), *range(10, 32), 127], " ")


def about_to_read() -> None:
    """The session is open, and the view awaits the body next."""
    _current.get().asked.set()


class _Pending:
    """One request on a connection of its own, and its answer."""

    def __init__(self, runner: asyncio.Runner, body: bytes, on_start: Callable[[Answer], Any]):
        self._runner = runner
        self._body: bytes | None = body
        self._on_start = on_start
        self._received = b""
        self._answer = Answer()
        self.feed: Callable[[bytes], object]
        """Gives the server bytes of the request."""
        self.asked, self.over = asyncio.Event(), asyncio.Event()

    async def begin(self, headers: Headers) -> None:
        size = len(self._body or b"")
        own = [("Host", "site.example"), ("Content-Length", str(size)), ("Connection", "close")]
        lines = [f"{name}: {value.translate(_CONTROLS)}" for name, value in [*own, *headers]]
        self.feed("\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode("latin-1"))
        waits = [asyncio.create_task(event.wait()) for event in (self.asked, self.over)]
        done, others = await asyncio.wait(
            waits, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        assert done
        for other in others:
            other.cancel()

    def release(self) -> None:
        if self._body is not None and not self.over.is_set():
            self.feed(self._body)
            self._body = None

    def end(self) -> Answer:
        self.release()
        self._runner.run(asyncio.wait_for(self.over.wait(), PATIENCE))
        head, _, self._answer.body = self._received.partition(b"\r\n\r\n")
        assert head == b"" or self._answer.headers
        return self._answer

    def take(self, data: bytes) -> None:
        """The server sends these."""
        begun = b"\r\n\r\n" in self._received
        self._received += data
        head, ended, _ = self._received.partition(b"\r\n\r\n")
        if ended and not begun:
            status, *lines = head.decode("latin-1").split("\r\n")
            self._answer.status = int(status.split(" ")[1])
            pairs = [(name, value.strip()) for name, _, value in (s.partition(":") for s in lines)]
            self._answer.headers = [pair for pair in pairs if pair[0].lower() != "date"]
            self._on_start(self._answer)

    def failed(self, error: BaseException) -> None:
        """The app raised, and the framework has logged it."""
        self._answer.error = error


class _Errors(logging.Handler):
    """What a framework logs of an app's errors, for the request that they belong to."""

    def emit(self, record: logging.LogRecord) -> None:
        pending = _current.get(None)
        if pending is not None and record.exc_info and record.exc_info[1]:
            pending.failed(record.exc_info[1])


class _Driver:
    """A server's part, on one event loop."""

    def __init__(self, app: Any) -> None:
        self.runner = asyncio.Runner()
        self.app = app
        self.errors = _Errors()

    def begin(self, body: bytes, headers: Headers, on_start: Callable[[Answer], object]) -> Pending:
        pending = _Pending(self.runner, body, on_start)
        self.runner.run(self._begin(pending, headers))
        return pending

    async def _begin(self, pending: _Pending, headers: Headers) -> None:
        token = _current.set(pending)
        try:
            pending.feed = self.connect(pending)
        finally:
            _current.reset(token)
        await pending.begin(headers)

    def connect(self, pending: _Pending) -> Callable[[bytes], object]:
        raise NotImplementedError

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self.runner.run(call(*arguments))

    def close(self) -> None:
        self.runner.close()


class AiohttpDriver(_Driver):
    """aiohttp's server protocol over a transport that is played."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        logger = logging.Logger("aiohttp.server")
        logger.addHandler(self.errors)
        self.site = web.AppRunner(app, logger=logger, access_log=None, max_field_size=LARGE)
        self.runner.run(self.site.setup())

    def connect(self, pending: _Pending) -> Callable[[bytes], object]:
        server = self.site.server
        assert server is not None
        protocol = server()
        protocol.connection_made(_Transport(pending, protocol))
        return protocol.data_received

    def close(self) -> None:
        self.runner.run(self.site.cleanup())
        super().close()


class _Transport(asyncio.Transport):
    def __init__(self, pending: _Pending, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ADDRESS})
        self._pending = pending
        self._protocol = protocol

    def write(self, data: Any) -> None:
        self._pending.take(bytes(data))

    def is_closing(self) -> bool:
        return self._pending.over.is_set()

    def close(self) -> None:
        if not self.is_closing():
            self._pending.over.set()
            self._protocol.connection_lost(None)

    abort = close

    def pause_reading(self) -> None:
        """All that comes is little."""

    def resume_reading(self) -> None:
        """It never paused."""


class TornadoDriver(_Driver):
    """Tornado's server on a stream that reads from a socket and is watched when it writes."""

    def __init__(self, app: tornado.web.Application) -> None:
        super().__init__(app)
        self.server = self.runner.run(self._make())
        for name in ("tornado.application", "tornado.general"):
            logging.getLogger(name).addHandler(self.errors)

    async def _make(self) -> HTTPServer:
        return HTTPServer(self.app, max_header_size=LARGE)

    def connect(self, pending: _Pending) -> Callable[[bytes], object]:
        ours, theirs = socket.socketpair()
        self.server.handle_stream(_Stream(theirs, pending, ours), ADDRESS)
        return ours.sendall

    def close(self) -> None:
        for name in ("tornado.application", "tornado.general"):
            logging.getLogger(name).removeHandler(self.errors)
        self.runner.run(self.server.close_all_connections())
        super().close()


class _Stream(IOStream):
    def __init__(self, theirs: socket.socket, pending: _Pending, ours: socket.socket) -> None:
        super().__init__(theirs)
        self._pending = pending
        self._ours = ours

    def write(self, data: bytes | memoryview) -> "Future[None]":
        written: Future[None] = Future()
        if data:
            self._pending.take(bytes(data))
        written.set_result(None)
        return written

    def close(self, *args: Any, **options: Any) -> None:
        super().close(*args, **options)
        self._ours.close()
        self._pending.over.set()
