"""A WSGI server's part."""

import threading
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from tests.outside.talk import PATIENCE, Answer, Headers, Pending

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment


class WsgiDriver:
    """A WSGI server's part, with a thread for each request, under the standard's validator."""

    def __init__(self, app: "WSGIApplication") -> None:
        self.app = validator(app)

    def begin(self, body: bytes, headers: Headers, on_start: Callable[[Answer], object]) -> Pending:
        return _WsgiPending(self.app, body, headers, on_start)

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    def close(self) -> None:
        """Nothing is left open."""


class _WsgiPending(BytesIO):
    """It is also the request's `wsgi.input`, which lets the app wait for the body."""

    def __init__(
        self,
        app: "WSGIApplication",
        body: bytes,
        headers: Headers,
        on_start: Callable[[Answer], object],
    ) -> None:
        super().__init__(body)
        self.asked, self.released = threading.Event(), threading.Event()
        self.answer = Answer()
        self.environ = wsgi_environ(REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)))
        self.environ["wsgi.input"] = self
        for name, value in headers:
            key = name.upper().replace("-", "_")
            self.environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        self.thread = threading.Thread(target=self.serve, args=(app, on_start), daemon=True)
        self.thread.start()
        assert self.asked.wait(PATIENCE)

    def serve(self, app: "WSGIApplication", on_start: Callable[[Answer], object]) -> None:
        try:
            self.answer = wsgi_call(app, self.environ, on_start)
        finally:
            self.asked.set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.set()
        assert self.released.wait(PATIENCE)
        return super().read(size)

    def release(self) -> None:
        self.released.set()

    def end(self) -> Answer:
        self.released.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.answer


def wsgi_environ(**parts: Any) -> "WSGIEnvironment":
    """The environ of a plain request, with any part replaced."""
    environ: dict[str, Any] = {
        "REMOTE_ADDR": "203.0.113.9",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
    }
    environ.update(parts)
    setup_testing_defaults(environ)
    return environ


def wsgi_call(
    app: "WSGIApplication",
    environ: "WSGIEnvironment",
    on_start: Callable[[Answer], object] = lambda head: None,
) -> Answer:
    """The whole answer, as a server takes it: closed at the end, whatever happened."""
    answer = Answer()

    def start_response(status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        answer.status, answer.headers = int(status[:3]), headers
        on_start(answer)
        return write

    def write(data: bytes) -> None:
        answer.body += data

    try:
        chunks = app(environ, start_response)
        try:
            for chunk in chunks:
                write(chunk)
        finally:
            close = getattr(chunks, "close", lambda: None)
            close()
    except Exception as error:  # noqa: BLE001 - a server survives everything
        answer.error = error
    return answer
