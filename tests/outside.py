"""Sites seen from outside: behind a framework, over its own protocol, as a browser sees them.

A law test says what a request does to its session, as a function of the session; the framework's
adapter runs it in a view. The adapter builds an app whose every path reads the whole body, then
calls `view(session, body)` and answers with the `Reply` that it returns. A driver plays the
server. A request is begun and ended apart: in between, its session is open and its app waits for
the body, so that requests overlap where a test begins several before it ends the first.

A further framework is one more function here and one more line in `FRAMEWORKS`.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coatcheck import AsyncSessions, Session, Sessions
from coatcheck.events import Event
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from coatcheck.web import asgi, wsgi
from tests.sites import STORES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PATIENCE = 20.0
"""Seconds after which a test gives up on something that must come."""

Headers = list[tuple[str, str]]
Act = Callable[[Session], object]
View = Callable[[Session, bytes], "Reply"]
Message = dict[str, Any]


class Reply(NamedTuple):
    """What a view answers; `raised` says how: as an error that the framework turns into it."""

    status: int = 200
    body: bytes = b"ok"
    headers: tuple[tuple[str, str], ...] = ()
    raised: bool = False


@dataclass
class Answer:
    """What came back. An app that raised before it answered gets a server's bare 500."""

    status: int = 500
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    error: BaseException | None = None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str | None:
        found = self.all(name)
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None

    @property
    def cookies(self) -> list[str]:
        return self.all("set-cookie")


class Pending(Protocol):
    """A request whose session is open and whose app waits for the body."""

    def release(self) -> None:
        """Let the body come."""

    def end(self) -> Answer:
        """Let the body come, and wait for the whole answer."""


class Driver(Protocol):
    """Plays the server to an app."""

    def begin(self, body: bytes, headers: Headers, on_start: Callable[[Answer], object]) -> Pending:
        """A request begins; `on_start` is called with the head when it goes out."""

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call of `Sessions` or `AsyncSessions`, to its end."""

    def close(self) -> None: ...


class AsgiDriver:
    """An ASGI server's part, on one event loop."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.runner = asyncio.Runner()

    def begin(self, body: bytes, headers: Headers, on_start: Callable[[Answer], object]) -> Pending:
        pending = _AsgiPending(self, body, headers, on_start)
        self.runner.run(pending.reach_the_body())
        return pending

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self.runner.run(call(*arguments))

    def close(self) -> None:
        self.runner.close()


class _AsgiPending:
    def __init__(
        self, driver: AsgiDriver, body: bytes, headers: Headers, on_start: Callable[[Answer], Any]
    ) -> None:
        self.driver = driver
        self.body = body
        self.headers = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers]
        self.on_start = on_start
        self.answer = Answer()

    async def reach_the_body(self) -> None:
        self.asked, self.released = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self.serve())
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait({self.task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

    async def serve(self) -> None:
        scope = asgi_scope(method="POST", headers=self.headers)
        try:
            await self.driver.app(scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - a server survives everything
            self.answer.error = error

    async def receive(self) -> Message:
        self.asked.set()
        await asyncio.wait_for(self.released.wait(), PATIENCE)
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = [(k.decode(), v.decode("latin-1")) for k, v in message["headers"]]
            self.on_start(self.answer)
        else:
            self.answer.body += message.get("body", b"")

    def release(self) -> None:
        self.released.set()

    def end(self) -> Answer:
        self.released.set()
        self.driver.runner.run(asyncio.wait_for(self.task, PATIENCE))
        return self.answer


def asgi_scope(**parts: Any) -> dict[str, Any]:
    """The scope of a plain request, with any part replaced."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("203.0.113.9", 4711),
        "server": ("site.example", 443),
        "extensions": {},
        **parts,
    }


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
            self.environ["HTTP_" + name.upper().replace("-", "_")] = value
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


# The adapters.


def raw_asgi(sessions: AsyncSessions, view: View) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        reply = view(scope["session"], (await receive())["body"])
        headers = [(k.lower().encode(), v.encode()) for k, v in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    return asgi.SessionMiddleware(app, sessions, sweep=None)


def starlette(sessions: AsyncSessions, view: View) -> Any:
    async def endpoint(request: Request) -> Response:
        reply = view(request.scope["session"], await request.body())
        if reply.raised:
            raise HTTPException(reply.status, headers=dict(reply.headers))
        return Response(reply.body, reply.status, dict(reply.headers))

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app.add_middleware(asgi.SessionMiddleware, sessions=sessions, sweep=None)
    return app


def raw_wsgi(sessions: Sessions, view: View) -> Any:
    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        reply = view(environ["coatcheck.session"], body)
        headers = [("Content-Type", "text/plain"), *reply.headers]
        start_response(f"{reply.status} Status", headers)
        return [reply.body]

    return wsgi.SessionMiddleware(app, sessions, sweep=None)


class Framework(NamedTuple):
    """How a framework is driven, and the adapter that builds its app."""

    driver: Callable[[Any], Driver]
    build: Callable[[Any, View], Any]
    is_async: bool


FRAMEWORKS = {
    "asgi": Framework(AsgiDriver, raw_asgi, is_async=True),
    "starlette": Framework(AsgiDriver, starlette, is_async=True),
    "wsgi": Framework(WsgiDriver, raw_wsgi, is_async=False),
}
KINDS = ["memory", "sqlite", "file", "redis", "postgres"]


class Site:
    """A site behind a framework, with a clock to move and a look into its store past it all."""

    def __init__(
        self,
        framework: str,
        kind: str,
        folder: Path,
        *,
        store: MemoryStore | None = None,
        url: str | None = None,
        **options: Any,
    ) -> None:
        chosen = FRAMEWORKS[framework]
        self.clock = Clock()
        self.events: list[Event] = []
        self.shelf: Any = store or STORES[kind](folder)
        made: Any = self.shelf
        if url is not None:  # another way to the same server
            made = async_from_url(url) if chosen.is_async else from_url(url)
        elif chosen.is_async and kind == "memory":
            made = AsyncMemoryStore(self.shelf)
        elif kind != "memory":
            made = STORES[f"{kind}-async" if chosen.is_async else kind](folder)
        make: Any = AsyncSessions if chosen.is_async else Sessions
        self.sessions = make(made, clock=self.clock, on_event=self.events.append, **options)
        self.inside = Sessions(self.shelf, clock=self.clock)
        self._acts: list[Act] = []
        self._driver = chosen.driver(chosen.build(self.sessions, self._view))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._driver.run(self.sessions.close)
        self._driver.close()
        self.inside.close()

    def begin(
        self,
        act: Act,
        cookie: str | bytes | None = None,
        on_start: Callable[[Answer], object] = lambda head: None,
    ) -> Pending:
        """A request that will do this to its session is opened."""
        self._acts.append(act)
        text = cookie.decode("latin-1") if isinstance(cookie, bytes) else cookie
        headers = [] if text is None else [("Cookie", text)]
        return self._driver.begin(b"%d" % (len(self._acts) - 1), headers, on_start)

    def _view(self, session: Session, body: bytes) -> Reply:
        reply = self._acts[int(body)](session)
        return reply if isinstance(reply, Reply) else Reply()

    def browser(self, cookie: str | None = None) -> "Browser":
        return Browser(self, cookie)

    def stored(self, cookie: str | None) -> Session:
        """The session that the store holds under this cookie now."""
        return self.inside.open(cookie)

    def records(self) -> list[Any]:
        found: list[Any] = self.shelf.page("", 10_000, int(self.clock() * 1000))
        return found

    def call(self, verb: str, *arguments: Any) -> Any:
        """A method of the sessions: list_for, revoke, revoke_all, sweep."""
        return self._driver.run(getattr(self.sessions, verb), *arguments)

    @property
    def cookie_name(self) -> str:
        return str(self.sessions.cookie.full_name)


@dataclass
class Browser:
    """What keeps a cookie."""

    site: Site
    cookie: str | None = None

    def visit(self, act: Act = lambda session: None) -> Answer:
        """A whole request that does this to its session, and must not raise."""
        answer = self.take(self.site.begin(act, self.cookie))
        assert answer.error is None, answer.error
        return answer

    def fail(self, act: Act) -> Answer:
        """A whole request whose app may raise."""
        return self.take(self.site.begin(act, self.cookie))

    def begin(self, act: Act) -> Pending:
        return self.site.begin(act, self.cookie)

    def take(self, pending: Pending) -> Answer:
        """The response of a begun request arrives, and its cookies with it."""
        answer = pending.end()
        for header in answer.cookies:
            pair, *attributes = header.split("; ")
            self.cookie = None if "Max-Age=0" in attributes else pair
        return answer

    def together(self, acts: Sequence[Act]) -> list[Answer]:
        """All are opened before the first is released, and then all run at once."""
        begun = [self.begin(act) for act in acts]
        for pending in begun:
            pending.release()
        return [pending.end() for pending in begun]

    def login(self, subject: str = "user:42", **options: Any) -> Answer:
        return self.visit(lambda session: session.login(subject, **options))

    def logout(self) -> Answer:
        return self.visit(lambda session: session.logout())

    def seen(self) -> tuple[str | None, dict[str, Any]]:
        """Subject and values, as a new request sees them."""
        found: list[Any] = []
        self.visit(lambda session: found.extend([session.subject, dict(session)]))
        return found[0], found[1]

    def copy(self) -> "Browser":
        return Browser(self.site, self.cookie)
