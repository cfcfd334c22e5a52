"""Frameworks driven in process, without sockets: WSGI and ASGI apps, as these protocols say.

What the driver costs, the bare app's requests cost too.
"""

import asyncio
import io
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from benchmarks.sample import Message, request, send

__all__ = ["Answer", "Asgi", "Driver", "InLoop", "Wsgi", "wire"]


class Answer(NamedTuple):
    """What came back; names of headers in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def cookie(self) -> str:
        """The first cookie that it sets, as `name=value`; empty where it sets none."""
        cookies = [value for name, value in self.headers if name == "set-cookie"]
        return cookies[0].partition(";")[0] if cookies else ""


class Driver(Protocol):
    def ask(self, path: str, cookie: str | None) -> Answer:
        """One request."""

    def timed(self, path: str, cookie: str | None, count: int) -> float:
        """CPU seconds of so many."""

    def close(self) -> None: ...


def wire(path: str, cookie: str | None) -> bytes:
    """The request as it goes over the wire."""
    lines = [name + b": " + value for name, value in request(cookie)["headers"]]
    return b"\r\n".join([f"GET {path} HTTP/1.1".encode(), *lines, b"", b""])


class Wsgi:
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


class InLoop(ABC):
    """What runs in an event loop of its own, for as long as the driver lives."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def timed(self, path: str, cookie: str | None, count: int) -> float:
        return self.runner.run(self._timed(self.asking(path, cookie), count))

    async def _timed(self, one: Callable[[], Awaitable[object]], count: int) -> float:
        begun = time.process_time()
        for _ in range(count):
            await one()
        return time.process_time() - begun

    def close(self) -> None:
        """What still runs in the loop is cancelled."""
        self.runner.close()

    @abstractmethod
    def ask(self, path: str, cookie: str | None) -> Answer: ...

    @abstractmethod
    def asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
        """What makes one request after another of this kind."""


class Asgi(InLoop):
    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app
        self.runner.run(self._start())

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

        self.runner.run(asked())
        headers = [(k.decode().lower(), v.decode("latin-1")) for k, v in sent[0]["headers"]]
        return Answer(sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:]))

    def asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
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
