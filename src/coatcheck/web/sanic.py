"""Sanic, on its own server and under ASGI: one call attaches middleware, signals and listeners.

The session is opened in a request middleware that runs before all others, and committed in a
response middleware that runs after all others: in `request.respond()`, before anything is sent, of
a streamed response too. Two of Sanic's ways are met here:

- Sanic only logs what a response middleware raises, and sends the response all the same. So a
  commit that is refused puts a response in the app's place that raises where it is sent, and a 503
  one that drops what the app still sends.
- A response middleware that answers, or raises, ends the chain before ours. So the signal
  `http.lifecycle.response`, which every response meets, commits what is not committed yet.

`current()` follows `Request.get_current()`. The handshake of a WebSocket is over before its
handler runs, and can set no cookie: it keeps only a `logout()`, like an error.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial, wraps
from typing import Any, cast
from urllib.parse import quote, unquote

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import RequestCancelled, ServerError
from sanic.http import Stage
from sanic.response import BaseHTTPResponse, ResponseStream
from sanic.server.websockets.connection import WebSocketConnection
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from coatcheck import context, csrf
from coatcheck.cookie import join
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, async_admit
from coatcheck.gate import Request as Facts
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.asgi import answer
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange, Head, attend
from coatcheck.web.headers import UNTOUCHED, merge_str
from coatcheck.web.watched import (
    ENDED,
    GOODBYE,
    REASON,
    Disconnected,
    Guard,
    are_events,
    stop_with,
    this_task,
)

__all__ = ["login_required", "setup", "setup_csrf", "setup_gate"]

Response = BaseHTTPResponse | ResponseStream

_OUTERMOST = 1_000
"""A priority of Sanic's: the highest is first with the request and last with the response."""

_GATES = "_coatcheck_gates"
"""An attribute of a handler that `login_required` has guarded."""


def setup(
    app: Sanic[Any, Any],
    sessions: AsyncSessions,
    *,
    named: Mapping[str, AsyncSessions] | None = None,
    skip: Iterable[str] = (),
    client: Callable[[Request[Any, Any]], Client] | None = None,
    sweep: float | None = 600.0,
    watch: bool = False,
) -> None:
    """Put each request's session into `request.ctx.session`, and commit it in time.

    `named` gives further sessions, in `request.ctx.sessions[name]` and `current(name)`. On paths
    that `skip` lists nothing is opened. `client` makes a `Client` of the request, for device lists;
    by default the peer's address and its User-Agent. `sweep` is how often, in seconds, what expired
    is removed while the server runs; None leaves that to you. With `watch`, a WebSocket is closed
    with 4401 when its (main) session ends, a response of text/event-stream ends too, and the
    messages that come count as activity.
    """
    every = checked_sessions(AsyncSessions, sessions, named, "setup")
    openings = _Openings(every, Patterns("setup(skip=…)", skip), client or _peer, watch)
    app.middleware(openings.open, "request", priority=_OUTERMOST)
    app.middleware(_admit_socket, "request", priority=-_OUTERMOST)
    app.middleware(_respond, "response", priority=_OUTERMOST)
    app.add_signal(_note, "http.lifecycle.exception")
    app.add_signal(_finish, "http.lifecycle.response")
    app.add_signal(_watch if watch else _accepted, "websocket.handler.before")
    app.add_signal(_closed, "websocket.handler.after")
    upkeep = _Upkeep(every, sweep if sweep is None else checked_interval(sweep))
    app.before_server_start(upkeep.begin)
    app.before_server_stop(upkeep.end)


class _Openings:
    """The request middleware."""

    def __init__(
        self,
        every: Mapping[str | None, AsyncSessions],
        skip: Patterns,
        client: Callable[[Request[Any, Any]], Client],
        watch: bool,
    ) -> None:
        self._every = every
        self._skip = skip
        self._client = client
        self._watch = watch

    async def open(self, request: Request[Any, Any]) -> None:
        # An error that this middleware's own request met brings the request here once more.
        if _visit_of(request) is not None or self._skip.match(_path(request)):
            return
        header, client = _cookies_of(request), partial(self._client, request)
        exchange = await AsyncExchange.open(self._every, header, client)
        request.ctx.session, request.ctx.sessions = exchange.session, exchange.named
        request.ctx.coatcheck = _Visit(exchange, attend(exchange), self._watch)


class _Visit:
    """One request's sessions, and what became of them so far."""

    __slots__ = (
        "_events",
        "_leave",
        "_task",
        "_watch",
        "cause",
        "ended",
        "exchange",
        "passed",
        "response",
    )

    def __init__(self, exchange: AsyncExchange, leave: Callable[[], object], watch: bool) -> None:
        self.exchange = exchange
        self._task = this_task()
        self._leave = leave  # the task, which may serve other requests of the connection
        self._watch = watch
        self._events: _Events | None = None
        self.cause: BaseException | None = None  # what the app raised
        self.response: Response | None = None  # which has our headers
        self.passed: Iterable[LoginGate] = ()  # by the handshake of a WebSocket
        self.ended = False

    async def respond(self, response: Response) -> Head:
        """This response is about to begin: commit, and give it our headers."""
        head = await self.exchange.respond(response.status, self.cause)
        self.response = response
        if head.refused is None and head.vary:
            _add_headers(response, head)
        return head

    def watch(self, response: Response) -> None:
        """Where it is of events, it ends with the session from now on."""
        if not self._watch or not _is_of_events(response):
            return
        if isinstance(response, ResponseStream):
            response.streaming_fn = partial(self._stream, response.streaming_fn)
        else:
            events = _Events(response, self._task)
            self._events = events if events.watch(*self.exchange.main) else None

    async def _stream(self, streaming: Callable[..., Awaitable[None]], response: Any) -> None:
        """What has no connection before it is sent."""
        self.watch(response.response)
        await streaming(response)

    async def leave_events(self) -> None:
        """The handler is done with what it streamed."""
        events, self._events = self._events, None
        if events is not None:
            await events.leave()

    def late_refusal(self) -> Refused | None:
        """Where an outage was met after `request.respond()`, and nothing has gone out yet."""
        return None if self.cause is None else self.exchange._refusal(self.cause)

    def end(self) -> None:
        if not self.ended:  # an error of its own comes through here again
            self.ended = True
            self._leave()
            self.exchange.end()


async def _respond(request: Request[Any, Any], response: Response) -> HTTPResponse | None:
    """The response middleware. What it returns takes the response's place."""
    visit = _visit_of(request)
    if visit is None:
        return None
    try:
        head = await visit.respond(response)
    except Exception as error:  # noqa: BLE001 - Sanic would only log it
        visit.response = _Failing(error)
        return visit.response
    if head.refused is not None:
        visit.response = _Answer(head.refused, head)
        return visit.response
    visit.watch(response)
    return None


async def _finish(request: Request[Any, Any], response: BaseHTTPResponse) -> None:
    """A whole response is about to be sent, or a streamed one is over."""
    visit = _visit_of(request)
    if visit is None:
        return
    begun = request.stream is None or request.stream.stage is not Stage.HANDLER
    if response is not visit.response and not begun:
        head = await visit.respond(response)
        refused = head.refused or visit.late_refusal()
        if refused is not None:
            _become(response, refused, head)
    await visit.leave_events()
    visit.end()


async def _note(request: Request[Any, Any], exception: BaseException) -> None:
    visit = _visit_of(request)
    if visit is not None:
        visit.cause = exception
        await visit.leave_events()


class _Events:
    """The connection of a response of events. When the session is over, the response is.

    To the handler it is as where the client has gone: it is cancelled, and what it still sends
    raises `RequestCancelled`.
    """

    def __init__(self, response: BaseHTTPResponse, task: "asyncio.Task[Any]") -> None:
        self._response = response
        self._stream: Any = response.stream
        self._task: asyncio.Task[Any] | None = task  # until the handler is done
        self._turn = asyncio.Lock()
        self._is_whole = self._is_cancelled = False

    def watch(self, sessions: AsyncSessions, session: Session) -> bool:
        """Begin; False where the session is not stored."""
        guard = Guard.of(sessions, session, self._end)
        if guard is None or self._task is None:
            return False
        self._guard = guard
        self._forget = stop_with(self._task, guard.stop)
        self._response.stream = cast("Any", self)
        return True

    @property
    def send(self) -> Callable[..., Awaitable[None]] | None:
        """What a response calls of its stream; None where it ended by itself."""
        return None if self._stream.send is None and not self._guard.over.done() else self._send

    async def _send(self, data: bytes, end_stream: bool) -> None:
        async with self._turn:
            if not self._guard.over.done():
                self._is_whole = end_stream
                await self._stream.send(data, end_stream=end_stream)
            elif data or not end_stream:
                raise RequestCancelled(REASON)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(GOODBYE), self._turn:
                if not self._is_whole:
                    await self._stream.send(b"", end_stream=True)
        finally:
            if self._task is not None and not self._is_whole:
                self._is_cancelled = self._task.cancel()

    async def leave(self) -> None:
        """The task serves other requests of the connection from now on."""
        task, self._task = self._task, None
        self._forget()
        await self._guard.stop()
        if self._is_cancelled and task is not None:
            task.uncancel()  # the handler took no notice


def _is_of_events(response: Response) -> bool:
    kind = response.headers.get("content-type", response.content_type)
    return are_events(kind if kind is None else str(kind))


async def _accepted(request: Request[Any, Any], websocket: Any) -> None:
    visit = _visit_of(request)
    if visit is not None:
        await visit.exchange.fail()


async def _watch(request: Request[Any, Any], websocket: Any) -> None:
    """Close it when its session is over; each message that comes counts as activity."""
    await _accepted(request, websocket)
    visit = _visit_of(request)
    close = partial(_close, websocket)
    guard = None if visit is None else Guard.of(*visit.exchange.main, close)
    if guard is None:
        return
    stop_with(this_task(), guard.stop)
    websocket.recv = websocket.receive = _heard(guard, websocket, websocket.recv)
    if not isinstance(websocket, WebSocketConnection):
        websocket.recv_burst = _heard(guard, websocket, websocket.recv_burst)
        websocket.recv_streaming = _heard_in_parts(guard, websocket.recv_streaming)


def _heard(guard: Guard, websocket: Any, receive: Callable[..., Any]) -> Callable[..., Any]:
    """After the end it answers as it does when the client has gone."""

    async def heard(*args: Any, **options: Any) -> Any:
        try:
            return await guard.heard(partial(receive, *args, **options))
        except Disconnected:
            if isinstance(websocket, WebSocketConnection):
                return None
            raise _gone() from None

    return heard


def _heard_in_parts(guard: Guard, receive: Callable[[], AsyncIterator[Any]]) -> Callable[[], Any]:
    async def heard() -> AsyncIterator[Any]:
        async for part in receive():
            if not guard.hears():
                raise _gone()
            yield part

    return heard


def _gone() -> ConnectionClosedError:
    return ConnectionClosedError(None, Close(ENDED, REASON))


async def _close(websocket: Any, code: int = ENDED, reason: str = REASON) -> None:
    if isinstance(websocket, WebSocketConnection):  # under ASGI, where its close() does nothing
        await websocket._send({"type": "websocket.close", "code": code, "reason": reason})
    else:
        await websocket.close(code, reason)


async def _closed(request: Request[Any, Any], websocket: Any) -> None:
    visit = _visit_of(request)
    if visit is not None:
        visit.end()


def _visit_of(request: Request[Any, Any]) -> _Visit | None:
    visit: _Visit | None = getattr(request.ctx, "coatcheck", None)
    return visit


def _bound() -> context.Bound | None:
    try:
        visit = _visit_of(Request.get_current())
    except ServerError:
        return None
    return None if visit is None else visit.exchange.opened


context.follow(_bound)


def _add_headers(response: Response, head: Head) -> None:
    merged = merge_str(list(response.headers.items()), head)
    response.headers.clear()
    response.headers.extend(merged)


def _become(response: BaseHTTPResponse, refused: Refused, head: Head) -> None:
    """Make a whole response of our own of it."""
    response.status = refused.status
    response.body = refused.body.encode()
    response.content_type = "text/plain; charset=utf-8"
    response.headers.clear()
    response.headers.extend(refused.headers)
    _add_headers(response, head)


class _Answer(HTTPResponse):
    """An answer in the app's place: it is sent whole, and what the app still sends is not."""

    __slots__ = ()

    def __init__(self, refused: Refused, head: Head) -> None:
        super().__init__()
        _become(self, refused, head)

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        await super().send(end_stream=True)  # once it has ended, Sanic sends no more of it


class _Failing(HTTPResponse):
    """What cannot be sent, so that Sanic makes a response of the error."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        super().__init__(status=500)
        self._error = error

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        raise self._error


class _Upkeep:
    """Sweeping, while the server runs."""

    def __init__(self, every: Mapping[str | None, AsyncSessions], interval: float | None) -> None:
        self._every = every
        self._interval = interval
        self._running = AsyncExitStack()

    async def begin(self, app: Sanic[Any, Any]) -> None:
        await self._running.enter_async_context(sweeping(self._every, self._interval))

    async def end(self, app: Sanic[Any, Any]) -> None:
        await self._running.aclose()


def setup_csrf(app: Sanic[Any, Any], protection: CrossOriginProtection) -> None:
    """Refuse what other sites send to the app, WebSockets too, before the session is opened.

    With `tokens=True` after that: then call it after `setup`, and before `setup_gate`. A handler
    that streams its request's body takes the token in the header.
    """

    async def check(request: Request[Any, Any]) -> HTTPResponse | None:
        def field() -> str | None:
            found: str | None = request.form.get(csrf.FIELD) if request.form else None
            return found

        session = getattr(request.ctx, "session", None)
        refused = csrf.check(protection, _facts(request), session, field)
        return None if refused is None else _plain(request, refused)

    priority = _OUTERMOST - 1 if protection.tokens else _OUTERMOST + 1
    app.middleware(check, "request", priority=priority)


def setup_gate(app: Sanic[Any, Any], gate: LoginGate) -> None:
    """Let only logged-in users through, by a `LoginGate`. Call `setup` as well.

    Where the gate has `user=`, what it loads is `request.ctx.user`.
    """

    async def check(request: Request[Any, Any]) -> HTTPResponse | None:
        return await _refusal(gate, request)

    app.middleware(check, "request", priority=_OUTERMOST - 1)


def login_required(
    gate: LoginGate,
) -> Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]:
    """For a single handler, `(request, …) -> response`, or that of a WebSocket: it must pass the
    gate, whose `public=` does not count here. For a class of views, in its `decorators`.

    A WebSocket is refused in the handshake. Between this and Sanic's own decorator, put none that
    does not keep a function's attributes, as `functools.wraps` does: then the handshake succeeds,
    and the socket is closed instead.
    """

    def decorate(handler: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        @wraps(handler)
        async def guarded(request: Request[Any, Any], *args: Any, **options: Any) -> Any:
            visit = _visit_of(request)
            if visit is None or gate not in visit.passed:
                refusal = await _refusal(gate, request, everywhere=True)
                if refusal is not None:
                    if _socket_handler(request) is not None:
                        await _close(args[0], 1008, "log in first")
                    return refusal
            response = handler(request, *args, **options)
            return await response if inspect.isawaitable(response) else response

        setattr(guarded, _GATES, (gate, *getattr(handler, _GATES, ())))
        return guarded

    return decorate


async def _admit_socket(request: Request[Any, Any]) -> HTTPResponse | None:
    """A request middleware: ask the gates of a WebSocket's handler, before Sanic answers the
    handshake and calls it."""
    gates = getattr(_socket_handler(request), _GATES, ())
    for gate in gates:
        refusal = await _refusal(gate, request, everywhere=True)
        if refusal is not None:
            return refusal
    if gates:
        visit = _visit_of(request)
        assert visit is not None  # else the gate has raised
        visit.passed = gates
    return None


def _socket_handler(request: Request[Any, Any]) -> Any:
    """The app's own, where it is a WebSocket's: Sanic's is a partial around it."""
    handler: Any = None if request.route is None else request.route.handler
    return handler.args[0] if hasattr(handler, "is_websocket") else None


async def _refusal(
    gate: LoginGate, request: Request[Any, Any], *, everywhere: bool = False
) -> HTTPResponse | None:
    session = getattr(request.ctx, "session", None)
    verdict = await async_admit(gate, _facts(request), session, everywhere=everywhere)
    if isinstance(verdict, Refused):
        return _plain(request, verdict)
    if verdict.user is not None:
        request.ctx.user = verdict.user
    return None


def _plain(request: Request[Any, Any], refused: Refused) -> HTTPResponse:
    if _scope_of(request).get("type") == "websocket":
        return _HandshakeAnswer(request, refused)
    headers, kind = dict(refused.headers), "text/plain; charset=utf-8"
    return HTTPResponse(refused.body, refused.status, headers, kind)


class _HandshakeAnswer(HTTPResponse):
    """To a WebSocket under ASGI; Sanic itself only knows how to accept it."""

    __slots__ = ("_refused", "_transport")

    def __init__(self, request: Request[Any, Any], refused: Refused) -> None:
        super().__init__(refused.body, refused.status, dict(refused.headers))
        self._refused = refused
        self._transport: Any = request.transport

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        headers = tuple((name, str(value)) for name, value in self.headers.items())
        refused = Refused(self.status, headers, self._refused.reason)
        await answer(refused, self._transport.scope, self._transport.send, UNTOUCHED)


def _scope_of(request: Request[Any, Any]) -> Mapping[str, Any]:
    """Empty on Sanic's own server."""
    return getattr(request.transport, "scope", {})


def _facts(request: Request[Any, Any]) -> Facts:
    """What a rule looks at."""

    def header(name: str) -> str | None:
        return ", ".join(request.headers.getall(name, [])) if name in request.headers else None

    method = "" if _scope_of(request).get("type") == "websocket" else request.method
    return Facts(method, _path(request), request.query_string, "", header)


def _path(request: Request[Any, Any]) -> str:
    """The path in plain text, where it is spelled as browsers spell it.

    Sanic routes the path as it came: what is spelled in another way is not the same to it.
    """
    raw = request.path
    plain = unquote(raw)
    return plain if quote(plain, safe="/-._~!$&'()*+,;=:@").lower() == raw.lower() else raw


def _cookies_of(request: Request[Any, Any]) -> bytes | None:
    values = request.headers.getall("cookie", [])
    return join(value.encode("utf-8", "surrogateescape") for value in values)


def _peer(request: Request[Any, Any]) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(request.ip or None, request.headers.get("user-agent"))
