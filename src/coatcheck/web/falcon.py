"""Falcon, WSGI and ASGI: middleware in Falcon's sense, a hook for the login gate, an error handler.

The session is opened in `process_request` and committed in `process_response`: after the
responder, the error handlers and the `process_response` of every middleware listed later, and
before Falcon sends the head of a body or of a stream. What Falcon renders after that, `resp.media`,
is rendered before the commit, so that a body that cannot be rendered drops the request's edits.

Falcon makes a response of every exception and keeps the exception to itself. Where the session met
the outage, its 500 is replaced by a 503. Where something else did, such as `sessions.list_for`, it
takes an error handler: `handle_outage`. An exception that an error handler raises goes past the
middleware, unless it is Falcon's own: it takes the WSGI or ASGI middleware around the app to see
it. What that has opened is shown here, and left to it.

A WebSocket has no hook after its responder, so what Falcon sends is sent through the ASGI
adapter's own `Outgoing`: the commit goes with `ws.accept()`, whose headers carry the cookie.
"""

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard

import falcon
import falcon.asgi

from coatcheck import context, csrf
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, Verdict, admit, async_admit
from coatcheck.gate import Request as Facts
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions, Sessions
from coatcheck.sweeper import Sweeper, checked_interval, sweeping
from coatcheck.watching import Watch
from coatcheck.web import asgi
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import UNAVAILABLE, AsyncExchange, Exchange, Head, abandon, attend
from coatcheck.web.headers import joined_cookie, merge_str
from coatcheck.web.streams import AsyncStream, Stream, WatchedStream
from coatcheck.web.watched import Watched, are_events, stop_with, this_task

__all__ = [
    "AsyncCSRFMiddleware",
    "AsyncLoginMiddleware",
    "AsyncSessionMiddleware",
    "CSRFMiddleware",
    "LoginMiddleware",
    "SessionMiddleware",
    "async_handle_outage",
    "async_login_required",
    "handle_outage",
    "login_required",
]

_BLOCK = 8 * 1024
"""How many bytes of a file are read at a time, as Falcon does it."""


class SessionMiddleware:
    """Puts the request's session into `req.context.session`, and commits it in time.

    For `falcon.App(middleware=[…])`; listed first, so that its `process_response` is the last.
    `named` gives further sessions, in `req.context.sessions[name]` and `current(name)`. On paths
    that `skip` lists nothing is opened. `client` makes a `Client` of the request, for device lists;
    by default the peer's address and its User-Agent. `sweep` is how often, in seconds, a daemon
    thread removes what expired; None leaves that to you.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        named: Mapping[str, Sessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[falcon.Request], Client] | None = None,
        sweep: float | None = 600.0,
    ) -> None:
        self._sessions = checked_sessions(Sessions, sessions, named)
        self._skip = Patterns("SessionMiddleware(skip=…)", skip)
        self._client = client or _peer
        every = self._sessions.values()
        self._sweepers = [] if sweep is None else [Sweeper(each, sweep) for each in every]

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        around = req.env.get("coatcheck.session")
        if _is_open(around, self._sessions[None]):
            _show(req, around, req.env["coatcheck.sessions"])
            return
        exchange = None if self._skip.match(req.path) else self._open(req)
        # Also where nothing was opened: where an error went past Falcon, the thread's last request
        # left its own.
        bound = context.bind(None if exchange is None else exchange.opened)
        req.context.coatcheck = exchange, bound

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        if not hasattr(req.context, "coatcheck"):  # another answered earlier, or commits it
            return
        exchange, bound = req.context.coatcheck
        try:
            if exchange is not None:
                self._respond(exchange, resp)
        finally:
            context.unbind(bound)

    def _open(self, req: falcon.Request) -> Exchange:
        for sweeper in self._sweepers:
            sweeper.start()
        header, client = req.env.get("HTTP_COOKIE"), partial(self._client, req)
        exchange = Exchange.open(self._sessions, header, client)
        _show(req, exchange.session, exchange.named)
        return exchange

    def _respond(self, exchange: Exchange, resp: falcon.Response) -> None:
        try:
            resp.render_body()
            head = exchange.respond(resp.status_code)
        except Exception as error:
            head = exchange.fail(error)
            if head.refused is None:
                resp.stream = None
                _add_headers(resp, head)
                raise  # Falcon makes a response of it, with these headers
        if head.refused is not None:
            _replace(resp, head.refused)
        _add_headers(resp, head)
        if resp.stream is None or hasattr(resp.stream, "read"):
            exchange.end()
        else:
            resp.stream = Stream(resp.stream, exchange.opened, exchange.end)


class AsyncSessionMiddleware:
    """`SessionMiddleware` for `falcon.asgi.App(middleware=[…])`, with its WebSockets.

    It sweeps while the app's lifespan lasts. With `watch`, a WebSocket is closed with 4401 when its
    (main) session ends, `resp.sse` and a `resp.stream` of text/event-stream end too, and the
    messages that come count as activity.
    """

    def __init__(
        self,
        sessions: AsyncSessions,
        *,
        named: Mapping[str, AsyncSessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[falcon.asgi.Request], Client] | None = None,
        sweep: float | None = 600.0,
        watch: bool = False,
    ) -> None:
        where = "AsyncSessionMiddleware"
        self._watch = watch
        self._sessions = checked_sessions(AsyncSessions, sessions, named, where)
        self._skip = Patterns(f"{where}(skip=…)", skip)
        self._client = client or _peer
        self._sweep = sweep if sweep is None else checked_interval(sweep)
        self._lifespan = AsyncExitStack()

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._lifespan.enter_async_context(sweeping(self._sessions, self._sweep))

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._lifespan.aclose()

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        if (exchange := await self._open(req)) is not None:
            bound = context.bind(exchange.opened)
            req.context.coatcheck = exchange, bound, attend(exchange)

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        req_succeeded: bool,
    ) -> None:
        if not hasattr(req.context, "coatcheck"):  # its path is skipped, or, as above
            return
        exchange, bound, leave = req.context.coatcheck
        try:
            await self._respond(exchange, resp)
        except asyncio.CancelledError:
            await abandon(exchange)
            raise
        finally:
            context.unbind(bound)
            leave()

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        if (exchange := await self._open(req)) is not None:
            context.bind(exchange.opened)  # for as long as the connection's own task lives
            attend(exchange)
            send: Any = ws._asgi_send  # Falcon has no public place for it
            if self._watch:
                buffer = ws._buffered_receiver
                source: Any = buffer if buffer._max_queue > 0 else ws  # which asks the server
                main = self._sessions[None], exchange.session
                watched = Watched(*main, source._asgi_receive, send)
                source._asgi_receive, send = watched.receive, watched.send
                if source is buffer:
                    ws._asgi_receive = partial(watched.receive_from, buffer.receive)
                stop_with(this_task(), watched.stop)
            outgoing = asgi.Outgoing(req.scope, send, exchange)
            ws._asgi_send = _Ending(outgoing, exchange)

    async def _open(self, req: falcon.asgi.Request) -> AsyncExchange | None:
        around = req.scope.get("session")
        if _is_open(around, self._sessions[None]):
            _show(req, around, req.scope.get("sessions", {}))
            return None
        if self._skip.match(req.path):
            return None
        # Falcon folds several Cookie headers into one that no browser would send; but where the
        # scope's headers can be read once only, Falcon has done so.
        header = joined_cookie(req.scope["headers"]) or req.get_header("Cookie")
        client = partial(self._client, req)
        exchange = await AsyncExchange.open(self._sessions, header, client)
        _show(req, exchange.session, exchange.named)
        return exchange

    async def _respond(self, exchange: AsyncExchange, resp: falcon.asgi.Response) -> None:
        try:
            await resp.render_body()
            head = await exchange.respond(resp.status_code)
        except Exception as error:
            head = await exchange.fail(error)
            if head.refused is None:
                resp.stream = resp.sse = None
                _add_headers(resp, head)
                raise  # Falcon makes a response of it, with these headers
        if head.refused is not None:
            resp.sse = None
            _replace(resp, head.refused)
        _add_headers(resp, head)
        events = partial(WatchedStream, Watch(*exchange.main)) if self._watch else AsyncStream
        if isinstance(resp.sse, AsyncIterable):
            resp.sse = events(resp.sse, exchange.opened, exchange.end)
        elif self._watch and resp.stream is not None and are_events(resp.content_type):
            resp.stream = events(_parts_of(resp.stream), exchange.opened, exchange.end)
        elif isinstance(resp.stream, AsyncIterable) and not hasattr(resp.stream, "read"):
            resp.stream = AsyncStream(resp.stream, exchange.opened, exchange.end)
        else:
            exchange.end()


def _parts_of(stream: Any) -> AsyncIterable[bytes]:
    """Falcon reads from a file, and iterates what is none."""
    return _read(stream) if hasattr(stream, "read") else stream


async def _read(file: Any) -> AsyncIterator[bytes]:
    try:
        while part := await file.read(_BLOCK):
            yield part
    finally:
        if hasattr(file, "close"):
            await file.close()


def _is_open(found: object, sessions: Sessions | AsyncSessions) -> TypeGuard[Session]:
    """Whether a middleware around the app has opened our session, and is to commit it."""
    return isinstance(found, Session) and sessions._began(found) and context.is_bound(found)


def _show(req: falcon.Request, session: Session, named: Mapping[str, Session]) -> None:
    """Put the sessions where Falcon's users look for them."""
    req.context.session = session
    req.context.sessions = named


def _add_headers(resp: falcon.Response, head: Head) -> None:
    if head.vary:
        merged = merge_str(list(resp.headers.items()), head)
        for name in resp.headers:
            resp.delete_header(name)
        for name, value in merged:
            resp.append_header(name, value)  # one header for each cookie


def _replace(resp: falcon.Response, refused: Refused) -> None:
    """A whole response of our own."""
    for name in resp.headers:
        resp.delete_header(name)
    resp._cookies = resp._extra_headers = None  # Falcon has no public way to take them back
    resp.set_headers(refused.headers)
    resp.status = refused.status
    resp.data = resp.media = resp.stream = None
    resp.content_type = falcon.MEDIA_TEXT
    resp.text = refused.body


class _Ending:
    """What a WebSocket sends with; where it closes, what was changed too late is told, once."""

    def __init__(self, outgoing: asgi.Outgoing, exchange: AsyncExchange) -> None:
        self._outgoing = outgoing
        self._exchange: AsyncExchange | None = exchange  # until it has ended

    async def __call__(self, message: asgi.Message) -> None:
        if message["type"] == "websocket.close" and self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            if self._outgoing.started:
                exchange.end()
        await self._outgoing.send(message)


def handle_outage(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    """An error handler for `StoreUnavailable` and `Contention`, whatever raised them: 503."""
    raise falcon.HTTPError(UNAVAILABLE.status, headers=dict(UNAVAILABLE.headers))


async def async_handle_outage(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: Exception,
    params: dict[str, Any],
    *,
    ws: falcon.asgi.WebSocket | None = None,
) -> None:
    """`handle_outage` for `falcon.asgi.App`."""
    raise falcon.HTTPError(UNAVAILABLE.status, headers=dict(UNAVAILABLE.headers))


class CSRFMiddleware:
    """Refuses what other sites send, by a `CrossOriginProtection`.

    Listed before `SessionMiddleware`, where what it refuses costs no look into the store; with
    `tokens=True` after. A URL-encoded form is parsed as by `req.get_media()`; with any other body
    the token comes in the header.
    """

    def __init__(self, protection: CrossOriginProtection) -> None:
        self.protection = protection

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        def field() -> str | None:
            return _field(req.get_media(default_when_empty=None)) if _is_form(req) else None

        _refuse(csrf.check(self.protection, _facts(req), _session_of(req), field))


class AsyncCSRFMiddleware:
    """`CSRFMiddleware` for `falcon.asgi.App`; a WebSocket that it refuses is closed."""

    def __init__(self, protection: CrossOriginProtection) -> None:
        self.protection = protection

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await self._check(req, _facts(req))

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        await self._check(req, replace(_facts(req), method=""))  # over HTTP/2 nothing tells of it

    async def _check(self, req: falcon.asgi.Request, asked: Facts) -> None:
        async def field() -> str | None:
            return _field(await req.get_media(default_when_empty=None)) if _is_form(req) else None

        _refuse(await csrf.async_check(self.protection, asked, _session_of(req), field))


def _is_form(req: falcon.Request) -> bool:
    kind = (req.content_type or "").partition(";")[0].strip().lower()
    return kind == falcon.MEDIA_URLENCODED


def _field(media: Any) -> str | None:
    found = media.get(csrf.FIELD) if isinstance(media, dict) else None
    return found if isinstance(found, str) else None


def _refuse(refused: Refused | None) -> None:
    if refused is not None:
        raise falcon.HTTPForbidden(description=refused.reason, headers=dict(refused.headers))


class LoginMiddleware:
    """Lets only logged-in users through, by a `LoginGate`; listed after `SessionMiddleware`.

    Where the gate has `user=`, what it loads is `req.context.user`.
    """

    def __init__(self, gate: LoginGate) -> None:
        self.gate = gate

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        _obey(req, admit(self.gate, _facts(req), _session_of(req)))


class AsyncLoginMiddleware:
    """`LoginMiddleware` for `falcon.asgi.App`; a WebSocket that it refuses is closed."""

    def __init__(self, gate: LoginGate) -> None:
        self.gate = gate

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        _obey(req, await async_admit(self.gate, _facts(req), _session_of(req)))

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        _obey(req, await async_admit(self.gate, _facts(req), _session_of(req)))


def login_required(
    gate: LoginGate,
) -> Callable[[falcon.Request, falcon.Response, object, dict[str, Any]], None]:
    """A hook for `@falcon.before(…)`: the responder, or each of the resource's, must pass the gate.

    The gate's `public=` does not count here.
    """

    def hook(
        req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        _obey(req, admit(gate, _facts(req), _session_of(req), everywhere=True))

    return hook


def async_login_required(
    gate: LoginGate,
) -> Callable[[falcon.asgi.Request, falcon.asgi.Response, object, dict[str, Any]], Awaitable[None]]:
    """`login_required` for responders of `falcon.asgi.App`, `on_websocket` included."""

    async def hook(
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        params: dict[str, Any],
    ) -> None:
        _obey(req, await async_admit(gate, _facts(req), _session_of(req), everywhere=True))

    return hook


def _obey(req: falcon.Request, verdict: Verdict) -> None:
    """Falcon is short-circuited by an exception: an error, which the app renders as its others."""
    if isinstance(verdict, Refused):
        kind = falcon.HTTPError if verdict.status >= 400 else falcon.HTTPStatus
        raise kind(verdict.status, headers=dict(verdict.headers))
    if verdict.user is not None:
        req.context.user = verdict.user


def _session_of(req: falcon.Request) -> object:
    return getattr(req.context, "session", None)


def _peer(req: falcon.Request) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(req.remote_addr, req.user_agent)


def _facts(req: falcon.Request) -> Facts:
    """What the gate looks at: the path that Falcon routes, which a middleware may have changed."""
    return Facts(req.method, req.path, req.query_string, req.root_path, req.get_header)
