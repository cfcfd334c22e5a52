"""WebSockets: committed with the handshake, and closed when their session ends."""

from functools import partial
from typing import Any

import falcon.asgi

from coatcheck.web import asgi
from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.watched import Watched, stop_with, this_task

__all__ = ["commit_socket", "watch_socket"]


def watch_socket(ws: falcon.asgi.WebSocket, exchange: AsyncExchange) -> None:
    """Close it when its session is over; each message that comes counts as activity."""
    buffer = ws._buffered_receiver
    source: Any = buffer if buffer._max_queue > 0 else ws  # which asks the server
    send: Any = ws._asgi_send
    watched = Watched(*exchange.main, source._asgi_receive, send)
    source._asgi_receive, ws._asgi_send = watched.receive, watched.send
    if source is buffer:
        ws._asgi_receive = partial(watched.receive_from, buffer.receive)
    stop_with(this_task(), watched.stop)


def commit_socket(
    req: falcon.asgi.Request, ws: falcon.asgi.WebSocket, exchange: AsyncExchange
) -> None:
    """Commit with what answers the handshake."""
    send: Any = ws._asgi_send  # Falcon has no public place for it
    ws._asgi_send = _Ending(asgi.Outgoing(req.scope, send, exchange), exchange)


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
