"""Frameworks driven in process, without sockets, each as its server would call it.

WSGI and ASGI apps are called as these protocols say. aiohttp's server protocol gets bytes, and a
transport that keeps what is written. Tornado's application is called with a request whose
connection is of our own. What that costs, the bare app's requests cost too.
"""

import asyncio
import io
import re
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from benchmarks.sample import Message, request, send

__all__ = ["Answer", "Driver", "driver", "wire"]


class Answer(NamedTuple):
    """What came back; names of headers in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def cookie(self) -> str:
        """The first cookie that it sets, as `name=value`."""
        cookies = [value for name, value in self.headers if name == "set-cookie"]
        return cookies[0].partition(";")[0]


class Driver(Protocol):
    def ask(self, path: str, cookie: str | None) -> Answer:
        """One request."""

    def timed(self, path: str, cookie: str | None, count: int) -> float:
        """CPU seconds of so many."""

    def close(self) -> None: ...


def driver(protocol: str, app: Any) -> Driver:
    if protocol == "wsgi":
        return _Wsgi(app)
    return {"asgi": _Asgi, "sanic": _Asgi, "aiohttp": _Aiohttp, "tornado": _Tornado}[protocol](app)


class _Wsgi:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._status = ""
        self._headers: list[tuple[str, str]] = []

    def ask(self, path: str, cookie: str | None) -> Answer:
        body = self._one(_environ(path, cookie))
        headers = [(name.lower(), value) for name, value in self._headers]
        return Answer(int(self._status[:3]), headers, body)

    def timed(self, path: str, cookie: str | None, count: int) -> float:
        environ = _environ(path, cookie)
        begun = time.process_time()
        for _ in range(count):
            self._one(dict(environ))
        return time.process_time() - begun

    def close(self) -> None:
        """There is nothing to close."""

    def _one(self, environ: dict[str, Any]) -> bytes:
        parts = self._app(environ, self._start)
        try:
            return b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self._status, self._headers = status, headers
        return io.BytesIO().write


def _environ(path: str, cookie: str | None) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "shop.example.org",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{
            "HTTP_" + name.decode().upper().replace("-", "_"): value.decode()
            for name, value in request(cookie)["headers"]
        },
    }


class _InLoop:
    """What runs in an event loop of its own, for as long as the driver lives."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def timed(self, path: str, cookie: str | None, count: int) -> float:
        return self._runner.run(self._timed(self._asking(path, cookie), count))

    async def _timed(self, one: Callable[[], Awaitable[object]], count: int) -> float:
        begun = time.process_time()
        for _ in range(count):
            await one()
        return time.process_time() - begun

    def close(self) -> None:
        """What still runs in the loop is cancelled."""
        self._runner.close()

    def _asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
        """What makes one request after another of this kind."""
        raise NotImplementedError


class _Asgi(_InLoop):
    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app
        self._runner.run(self._start())

    async def _start(self) -> None:
        """The lifespan is begun, and goes on; frameworks put themselves together in it."""
        started, over = asyncio.Event(), asyncio.Event()
        events = iter(["lifespan.startup"])

        async def receive() -> Message:
            for event in events:
                return {"type": event}
            await over.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Message) -> None:
            assert message["type"] == "lifespan.startup.complete", message
            started.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._lifespan = asyncio.create_task(self._app(scope, receive, send))
        await started.wait()

    def ask(self, path: str, cookie: str | None) -> Answer:
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        async def asked() -> None:
            await self._app(_scope(path, cookie), _Received(), keep)

        self._runner.run(asked())
        headers = [(k.decode().lower(), v.decode("latin-1")) for k, v in sent[0]["headers"]]
        return Answer(sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:]))

    def _asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
        app, scope = self._app, _scope(path, cookie)
        return lambda: app({**scope, "state": {}}, _Received(), send)


def _scope(path: str, cookie: str | None) -> dict[str, Any]:
    return {**request(cookie), "path": path, "raw_path": path.encode(), "state": {}}


class _Received:
    """An empty body; who asks again waits for the client to leave, which it does not."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done = False

    async def __call__(self) -> Message:
        if self._done:
            await asyncio.get_running_loop().create_future()
        self._done = True
        return {"type": "http.request", "body": b"", "more_body": False}


class _Aiohttp(_InLoop):
    def __init__(self, app: Any) -> None:
        super().__init__()
        self._runner.run(self._start(app))

    async def _start(self, app: Any) -> None:
        from aiohttp import web

        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None
        self._protocol = runner.server()
        self._transport = _Transport()
        self._protocol.connection_made(self._transport)

    def ask(self, path: str, cookie: str | None) -> Answer:
        return _parsed(self._runner.run(self._one(wire(path, cookie))))

    def _asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
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


class _Tornado(_InLoop):
    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

    def ask(self, path: str, cookie: str | None) -> Answer:
        connection = self._runner.run(self._one(path, cookie))
        headers = [(name.lower(), value) for name, value in connection.headers.get_all()]
        return Answer(connection.status, headers, connection.body)

    def _asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
        return lambda: self._one(path, cookie)

    async def _one(self, path: str, cookie: str | None) -> "_Connection":
        connection = _Connection()
        self._app(_tornado_request(path, cookie, connection))
        await connection.finished
        return connection


class _Connection:
    """What Tornado writes a response to."""

    def __init__(self) -> None:
        self.context = None
        self.status, self.headers, self.body = 0, _NO_HEADERS, b""
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = loop.create_future()
        self._written: asyncio.Future[None] = loop.create_future()
        self._written.set_result(None)

    def set_close_callback(self, callback: Any) -> None:
        pass

    def write_headers(self, line: Any, headers: Any, chunk: bytes = b"") -> Awaitable[None]:
        self.status, self.headers, self.body = line.code, headers, chunk
        return self._written

    def write(self, chunk: bytes) -> Awaitable[None]:
        self.body += chunk
        return self._written

    def finish(self) -> None:
        self.finished.set_result(None)


_NO_HEADERS: Any = None


def _tornado_request(path: str, cookie: str | None, connection: _Connection) -> Any:
    from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

    headers = HTTPHeaders()
    for name, value in request(cookie)["headers"]:
        headers.add(name.decode().title(), value.decode())
    line = RequestStartLine("GET", path, "HTTP/1.1")
    made: Any = HTTPServerRequest
    return made(start_line=line, headers=headers, connection=connection, body=b"")


def wire(path: str, cookie: str | None) -> bytes:
    """The request as it goes over the wire."""
    lines = [name + b": " + value for name, value in request(cookie)["headers"]]
    return b"\r\n".join([f"GET {path} HTTP/1.1".encode(), *lines, b"", b""])
