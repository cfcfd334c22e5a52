"""From a request to its response under ASGI, or from a WebSocket's handshake to its end."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import falcon
import falcon.asgi

from coatcheck import context
from coatcheck.paths import Patterns
from coatcheck.session import Client
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import UNAVAILABLE, AsyncExchange, abandon, attend
from coatcheck.web.falcon.events import end_with_body
from coatcheck.web.falcon.hook import is_open, peer, show
from coatcheck.web.falcon.responses import add_headers, replace
from coatcheck.web.falcon.sockets import commit_socket, watch_socket
from coatcheck.web.headers import joined_cookie

__all__ = ["AsyncSessionMiddleware", "async_handle_outage"]


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
        self._client = client or peer
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
        # Its path is skipped, or another answered earlier, or commits it.
        if not hasattr(req.context, "coatcheck"):
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
            if self._watch:
                watch_socket(ws, exchange)
            commit_socket(req, ws, exchange)

    async def _open(self, req: falcon.asgi.Request) -> AsyncExchange | None:
        around = req.scope.get("session")
        if is_open(around, self._sessions[None]):
            show(req, around, req.scope.get("sessions", {}))
            return None
        if self._skip.match(req.path):
            return None
        # Falcon folds several Cookie headers into one that no browser would send; but where the
        # scope's headers can be read once only, Falcon has done so.
        header = joined_cookie(req.scope["headers"]) or req.get_header("Cookie")
        client = partial(self._client, req)
        exchange = await AsyncExchange.open(self._sessions, header, client)
        show(req, exchange.session, exchange.named)
        return exchange

    async def _respond(self, exchange: AsyncExchange, resp: falcon.asgi.Response) -> None:
        try:
            await resp.render_body()
            head = await exchange.respond(resp.status_code)
        except Exception as error:
            head = await exchange.fail(error)
            if head.refused is None:
                resp.stream = resp.sse = None
                add_headers(resp, head)
                raise  # Falcon makes a response of it, with these headers
        if head.refused is not None:
            resp.sse = None
            replace(resp, head.refused)
        add_headers(resp, head)
        end_with_body(resp, exchange, watch=self._watch)


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
