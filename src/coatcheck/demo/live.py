"""Live: a WebSocket that ends with its session. `SessionMiddleware(watch=True)` sees to that."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from coatcheck.demo.pages import render

__all__ = ["live", "socket"]


async def live(request: Request) -> Response:
    return await render(request, "live.html")


async def socket(websocket: WebSocket) -> None:
    """Counts what comes. It ends like any other socket whose client leaves: by a disconnect."""
    await websocket.accept()
    heard = 0
    while (await websocket.receive())["type"] == "websocket.receive":
        heard += 1
        await websocket.send_json({"heard": heard})
