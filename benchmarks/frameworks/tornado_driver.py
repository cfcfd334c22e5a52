"""Tornado driven in process: its application is called with a request whose connection is ours."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from benchmarks.frameworks.driving import Answer, InLoop
from benchmarks.sample import request

__all__ = ["Tornado"]


class Tornado(InLoop):
    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

    def ask(self, path: str, cookie: str | None) -> Answer:
        connection = self.runner.run(self._one(path, cookie))
        headers = [(name.lower(), value) for name, value in connection.headers.get_all()]
        return Answer(connection.status, headers, connection.body)

    def asking(self, path: str, cookie: str | None) -> Callable[[], Awaitable[object]]:
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
    headers = HTTPHeaders()
    for name, value in request(cookie)["headers"]:
        headers.add(name.decode().title(), value.decode())
    line = RequestStartLine("GET", path, "HTTP/1.1")
    made: Any = HTTPServerRequest
    return made(start_line=line, headers=headers, connection=connection, body=b"")
