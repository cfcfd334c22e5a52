"""The middleware that opens and commits sessions, and `setup`, which adds it to an app."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial

from aiohttp import web
from aiohttp.payload import AsyncIterablePayload
from aiohttp.typedefs import Handler, Middleware

from coatcheck import context
from coatcheck.paths import Patterns
from coatcheck.session import Client
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.aiohttp.head import Head, watch_response
from coatcheck.web.aiohttp.request import EXCHANGE, HEAD, cookies_of, path_of, peer, response_of
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange, abandon
from coatcheck.web.streams import AsyncStream

__all__ = ["session_middleware", "setup"]


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
        app.on_response_prepare.append(watch_response)


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
        if skipped.match(path_of(request)):
            return await handler(request)
        exchange = await AsyncExchange.open(every, cookies_of(request), partial(known, request))
        outer, request[EXCHANGE] = request.get(EXCHANGE), exchange
        request[HEAD] = head = Head(exchange, request.writer)
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
                request[EXCHANGE] = outer
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
    return response_of(head.refused)
