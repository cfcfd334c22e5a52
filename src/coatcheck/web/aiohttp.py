"""aiohttp: a middleware, or `setup`, which adds it to an app and sweeps while the app runs.

The session is opened before the handler runs. A whole response is committed when the handler
returns or raises it, so that a commit which fails is an error of the handler's like any other. A
response that is prepared inside the handler (a stream, a WebSocket, a file) is committed right
before its head is written. A 5xx, and an exception that is no response, keep nothing of the request
but a `logout()`. Where the store was out of reach and the app did not answer for that itself, the
answer is 503.

aiohttp's own hook before a response's head is the signal `on_response_prepare`. A middleware cannot
listen to it: it does not know its app until the first request comes, and then the signal is frozen.
But every response, whoever made it and whatever middleware replaced it, hands its head to the
request's writer, at last and once; so that is where the headers are merged.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any
from weakref import ref

from aiohttp import ClientConnectionResetError, WSMessage, WSMsgType, web
from aiohttp.payload import AsyncIterablePayload
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from coatcheck import context, csrf, gate
from coatcheck.cookie import join
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import Admitted, LoginGate, Refused, Verdict, async_admit
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange, abandon
from coatcheck.web.headers import merge_str
from coatcheck.web.streams import AsyncStream
from coatcheck.web.watched import ENDED, REASON, Guard, are_events, stop_with, this_task

__all__ = [
    "csrf_middleware",
    "get_session",
    "get_user",
    "login_middleware",
    "login_required",
    "session_middleware",
    "setup",
]


def _key(name: str, kind: type) -> Any:
    """A key of the request's storage; aiohttp knew nothing but texts before 3.14."""
    return web.RequestKey(name, kind) if hasattr(web, "RequestKey") else name


_EXCHANGE = _key("coatcheck.exchange", AsyncExchange)
_HEAD = _key("coatcheck.head", object)
_USER = _key("coatcheck.user", object)


def setup(
    app: web.Application,
    sessions: AsyncSessions,
    *,
    named: Mapping[str, AsyncSessions] | None = None,
    skip: Iterable[str] = (),
    client: Callable[[web.Request], Client] | None = None,
    sweep: float | None = 600.0,
    watch: bool = False,
) -> None:
    """Add `session_middleware` to the app, and sweep while it runs.

    `sweep` is how often, in seconds, what expired is removed; None leaves that to you. With
    `watch`, a WebSocket is closed with 4401 when its (main) session ends, a response of
    text/event-stream ends too, and the messages that come count as activity. Middlewares that use
    the session are added afterwards.
    """
    every = checked_sessions(AsyncSessions, sessions, named, "setup")
    interval = sweep if sweep is None else checked_interval(sweep)

    async def sweeps(_: web.Application) -> AsyncIterator[None]:
        async with sweeping(every, interval):
            yield

    app.middlewares.append(session_middleware(sessions, named=named, skip=skip, client=client))
    app.cleanup_ctx.append(sweeps)
    if watch:
        app.on_response_prepare.append(_watch)


def session_middleware(
    sessions: AsyncSessions,
    *,
    named: Mapping[str, AsyncSessions] | None = None,
    skip: Iterable[str] = (),
    client: Callable[[web.Request], Client] | None = None,
) -> Middleware:
    """A middleware that opens the request's session, for `get_session`, and commits it in time.

    `named` gives further sessions, as `get_session(request, name)` and `current(name)`. On paths
    that `skip` lists nothing is opened. `client` makes a `Client` of the request, for device
    lists; by default the peer's address and its User-Agent. It does not sweep: `setup` does.
    """
    every = checked_sessions(AsyncSessions, sessions, named, "session_middleware")
    skipped = Patterns("session_middleware(skip=…)", skip)
    known = client or peer

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if skipped.match(_path(request)):
            return await handler(request)
        exchange = await AsyncExchange.open(every, _cookies(request), partial(known, request))
        outer, request[_EXCHANGE] = request.get(_EXCHANGE), exchange
        request[_HEAD] = head = _Head(exchange, request.writer)
        bound = context.bind(exchange.opened)
        try:
            response = await _answer(exchange, request, handler)
        except asyncio.CancelledError:
            await abandon(exchange)
            raise
        finally:
            head.decided = True
            context.unbind(bound)
            if head.guard is not None:
                await head.guard.stop()
            if outer is not None:
                request[_EXCHANGE] = outer
        body = getattr(response, "body", None)
        if isinstance(body, AsyncIterablePayload) and body._iter is not None:
            # aiohttp iterates it when all middlewares are done, and has no public way to wrap it.
            body._iter = aiter(AsyncStream(body._iter, exchange.opened, exchange.end))
        else:
            exchange.end()
        return response

    return middleware


async def _answer(
    exchange: AsyncExchange, request: web.Request, handler: Handler
) -> web.StreamResponse:
    """The handler's response, or the one in its place; committed."""
    try:
        response = await handler(request)
    except web.HTTPException as raised:
        head = await exchange.respond(raised.status)
        if head.refused is None:
            raise
    except Exception as error:
        head = await exchange.fail(error)
        if head.refused is None:
            raise
    else:
        # What is no response has no status, and aiohttp answers it with a 500.
        head = await exchange.respond(getattr(response, "status", 500))
        if head.refused is None:
            return response
    return _response(head.refused)


class _Head:
    """The head of a request's response, on its way out through the request's writer."""

    __slots__ = ("_exchange", "_outer", "_writer", "decided", "guard", "watched")

    def __init__(self, exchange: AsyncExchange, writer: Any) -> None:
        self._exchange = exchange
        self._writer = ref(writer)  # which keeps us: a circle would cost a collection
        self._outer = vars(writer).get("write_headers")  # where sessions are inside sessions
        writer.write_headers = self.write
        self.decided = False  # the handler is done: what comes now is the answer
        self.watched: web.StreamResponse | None = None  # once its head is out
        self.guard: Guard | None = None

    async def write(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """In the place of the writer's `write_headers`."""
        writer: Any = self._writer()
        if not self.decided:
            await self._commit(int(status_line.split(" ", 2)[1]), writer)
        owed = self._exchange.head
        if owed is not None and owed.vary:
            merged = merge_str(list(headers.items()), owed)
            headers.clear()
            headers.extend(merged)
        write = self._outer or partial(type(writer).write_headers, writer)
        await write(status_line, headers)
        if isinstance(self.watched, web.WebSocketResponse):
            self._watch_socket(self.watched)
        elif self.watched is not None and are_events(headers.get("Content-Type")):
            self._watch_events(writer)

    async def _commit(self, status: int, writer: Any) -> None:
        """For a response that the handler prepares; what it raises ends the handler."""
        try:
            head = await self._exchange.respond(status)
            if head.refused is not None:
                raise web.HTTPServiceUnavailable
        except Exception:
            # Another response takes its place: how this one's body was to be sent is forgotten.
            writer.chunked, writer.length, writer._compress = False, None, None
            raise

    def _watch_socket(self, socket: web.WebSocketResponse) -> None:
        close = partial(socket.close, code=ENDED, message=REASON.encode())
        self.guard = Guard.of(*self._exchange.main, close)
        if self.guard is not None:
            _hear(socket, self.guard)

    def _watch_events(self, writer: Any) -> None:
        events = _Events(writer)
        self.guard = Guard.of(*self._exchange.main, events.end)
        if self.guard is None:
            return
        events.begin(self.guard)
        if self.decided:  # a body that is generated goes out when all middlewares are done
            stop_with(this_task(), self.guard.stop)


async def _watch(request: web.Request, response: web.StreamResponse) -> None:
    """A signal of aiohttp's: this response is about to begin."""
    head = request.get(_HEAD)
    if head is not None:
        head.watched = response


class _Events:
    """A stream of events in the hands of a request's writer, until its session is over."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._write, self._write_eof = writer.write, writer.write_eof
        self._turn = asyncio.Lock()
        self._is_whole = False

    def begin(self, guard: Guard) -> None:
        self._over = guard.over
        self._writer.write, self._writer.write_eof = self.write, self.write_eof

    async def write(self, chunk: Any, **options: Any) -> None:
        async with self._turn:
            self._check()
            await self._write(chunk, **options)

    async def write_eof(self, chunk: bytes = b"") -> None:
        async with self._turn:
            self._check()
            self._is_whole = True
            await self._write_eof(chunk)

    async def end(self) -> None:
        """The client gets the end. To the app, and to aiohttp, it has gone then."""
        async with self._turn:
            if not self._is_whole:
                await self._write_eof()
                self._writer.transport.close()  # the end of a response without chunks (HTTP/1.0)

    def _check(self) -> None:
        if self._over.done():
            raise ClientConnectionResetError(REASON)


def _hear(socket: web.WebSocketResponse, guard: Guard) -> None:
    """Each message that is received counts as activity; after the end there is none."""
    receive = socket.receive

    async def heard(timeout: float | None = None) -> WSMessage:
        message = await receive(timeout)
        is_message = message.type in (WSMsgType.TEXT, WSMsgType.BINARY)
        if is_message and not guard.hears():
            return WSMessage(WSMsgType.CLOSED, None, None)
        return message

    vars(socket)["receive"] = heard


def get_session(request: web.Request, name: str | None = None) -> Session:
    """The request's session, or the one of that name from `named=`. Not awaited.

    Raises LookupError where there is none: on a path in `skip=`, and without the middleware.
    """
    exchange = request.get(_EXCHANGE)
    if exchange is None:
        raise LookupError(
            "get_session(): expected a request with a session, got none; add setup(app, sessions), "
            "and call it on a path that is not in its skip="
        )
    if name not in exchange.opened:
        raise LookupError(
            f"get_session(): expected one of {sorted(exchange.named)}, got {name!r}; "
            "add it to named="
        )
    found: Session = exchange.opened[name]
    return found


def get_user(request: web.Request) -> Any:
    """What the gate's `user=` loaded for this request, or None."""
    return request.get(_USER)


def csrf_middleware(protection: CrossOriginProtection) -> Middleware:
    """A middleware that refuses what other sites send, WebSockets too.

    It comes before `session_middleware`, where what it refuses costs no look into the store; with
    `tokens=True` after. A form is parsed as by `request.post()`; where the handler reads the parts
    of a multipart body by itself, the token comes in the header.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        async def field() -> str | None:
            try:
                found = (await request.post()).get(csrf.FIELD)
            except (ValueError, LookupError, RuntimeError):  # what aiohttp's parsers raise
                return None
            return found if isinstance(found, str) else None

        exchange = request.get(_EXCHANGE)
        session = None if exchange is None else exchange.session
        refused = await csrf.async_check(protection, facts(request), session, field)
        return await handler(request) if refused is None else _response(refused)

    return middleware


def login_middleware(gate: LoginGate) -> Middleware:
    """A middleware that lets only those through whom the gate admits.

    It comes after `session_middleware`. What the gate's `user=` loads is `get_user(request)`.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        verdict = await _judge(gate, request)
        return _response(verdict) if isinstance(verdict, Refused) else await handler(request)

    return middleware


def login_required(
    gate: LoginGate,
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """For a single handler: a function, a method, or a method of a `web.View`.

    It must pass the gate, whose `public=` does not count here.
    """

    def decorate(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(handler)
        async def guarded(*args: Any) -> Any:
            request = args[-1].request if isinstance(args[-1], web.View) else args[-1]
            verdict = await _judge(gate, request, everywhere=True)
            return _response(verdict) if isinstance(verdict, Refused) else await handler(*args)

        return guarded

    return decorate


async def _judge(rule: LoginGate, request: web.Request, *, everywhere: bool = False) -> Verdict:
    exchange = request.get(_EXCHANGE)
    session = None if exchange is None else exchange.session
    verdict = await async_admit(rule, facts(request), session, everywhere=everywhere)
    if isinstance(verdict, Admitted) and verdict.user is not None:
        request[_USER] = verdict.user
    return verdict


def _response(refused: Refused) -> web.Response:
    headers = CIMultiDict(refused.headers)
    return web.Response(status=refused.status, headers=headers, text=refused.body)


def facts(request: web.Request) -> gate.Request:
    """What the gate looks at. A sub-app's prefix is part of the path."""
    query = request.rel_url.raw_query_string

    def header(name: str) -> str | None:
        return ", ".join(request.headers.getall(name, ())) if name in request.headers else None

    return gate.Request(request.method, _path(request), query, "", header)


def _path(request: web.Request) -> str:
    """Decoded, but for a %2F and a %25: aiohttp's routes tell them from a slash and a percent."""
    return request.rel_url.path_safe


def _cookies(request: web.Request) -> bytes | None:
    return join(value for name, value in request.raw_headers if name.lower() == b"cookie")


def peer(request: web.Request) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(request.remote, request.headers.get("User-Agent"))
