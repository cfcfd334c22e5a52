"""From a request to its response, through Sanic's middleware, signals and listeners."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.http import Stage
from sanic.response import BaseHTTPResponse

from coatcheck.cookie import join
from coatcheck.paths import Patterns, as_routed
from coatcheck.session import Client
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange, attend
from coatcheck.web.sanic.responses import Answer, Failing, Response, become
from coatcheck.web.sanic.security import OUTERMOST, admit_socket
from coatcheck.web.sanic.sockets import accepted, closed, watch_socket
from coatcheck.web.sanic.visit import Visit, visit_of

__all__ = ["setup"]


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
    app.middleware(openings.open, "request", priority=OUTERMOST)
    app.middleware(admit_socket, "request", priority=-OUTERMOST)
    app.middleware(_respond, "response", priority=OUTERMOST)
    app.add_signal(_note, "http.lifecycle.exception")
    app.add_signal(_finish, "http.lifecycle.response")
    app.add_signal(watch_socket if watch else accepted, "websocket.handler.before")
    app.add_signal(closed, "websocket.handler.after")
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
        if visit_of(request) is not None or self._skip.match(as_routed(request.path)):
            return
        header, client = _cookies_of(request), partial(self._client, request)
        exchange = await AsyncExchange.open(self._every, header, client)
        request.ctx.session, request.ctx.sessions = exchange.session, exchange.named
        request.ctx.coatcheck = Visit(exchange, attend(exchange), self._watch)


async def _respond(request: Request[Any, Any], response: Response) -> HTTPResponse | None:
    """The response middleware. What it returns takes the response's place."""
    visit = visit_of(request)
    if visit is None:
        return None
    try:
        head = await visit.respond(response)
    except Exception as error:  # noqa: BLE001 - Sanic would only log it
        visit.response = Failing(error)
        return visit.response
    if head.refused is not None:
        visit.response = Answer(head.refused, head)
        return visit.response
    visit.watch(response)
    return None


async def _finish(request: Request[Any, Any], response: BaseHTTPResponse) -> None:
    """A whole response is about to be sent, or a streamed one is over."""
    visit = visit_of(request)
    if visit is None:
        return
    begun = request.stream is None or request.stream.stage is not Stage.HANDLER
    if response is not visit.response and not begun:
        head = await visit.respond(response)
        refused = head.refused or visit.late_refusal()
        if refused is not None:
            become(response, refused, head)
    await visit.leave_events()
    visit.end()


async def _note(request: Request[Any, Any], exception: BaseException) -> None:
    visit = visit_of(request)
    if visit is not None:
        visit.cause = exception
        await visit.leave_events()


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


def _cookies_of(request: Request[Any, Any]) -> bytes | None:
    values = request.headers.getall("cookie", [])
    return join(value.encode("utf-8", "surrogateescape") for value in values)


def _peer(request: Request[Any, Any]) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(request.ip or None, request.headers.get("user-agent"))
