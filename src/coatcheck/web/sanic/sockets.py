"""WebSockets: kept once the handshake is over, and closed when their session ends."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from sanic import Request
from sanic.server.websockets.connection import WebSocketConnection
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from coatcheck.web.sanic.visit import visit_of
from coatcheck.web.watched import ENDED, REASON, Disconnected, Guard, stop_with, this_task

__all__ = ["accepted", "close", "closed", "watch_socket"]


async def accepted(request: Request[Any, Any], websocket: Any) -> None:
    visit = visit_of(request)
    if visit is not None:
        await visit.exchange.fail()


async def watch_socket(request: Request[Any, Any], websocket: Any) -> None:
    """Close it when its session is over; each message that comes counts as activity."""
    await accepted(request, websocket)
    visit = visit_of(request)
    guard = None if visit is None else Guard.of(*visit.exchange.main, partial(close, websocket))
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


async def close(websocket: Any, code: int = ENDED, reason: str = REASON) -> None:
    if isinstance(websocket, WebSocketConnection):  # under ASGI, where its close() does nothing
        await websocket._send({"type": "websocket.close", "code": code, "reason": reason})
    else:
        await websocket.close(code, reason)


async def closed(request: Request[Any, Any], websocket: Any) -> None:
    visit = visit_of(request)
    if visit is not None:
        visit.end()
