"""`asgi_app`, and beside it a WebSocket and a stream of events that last as long as the session."""

import asyncio
import os
from typing import Any

from coatcheck import AsyncSessions
from coatcheck.stores import async_from_url
from coatcheck.web.asgi import SessionMiddleware
from tests.servers.asgi_app import site as pages


async def site(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["path"] == "/events":
        await events(send)
    else:
        await pages(scope, receive, send)


async def echo(receive: Any, send: Any) -> None:
    """What comes goes back; what ended it stands in the log."""
    assert "websocket.connect" == (await receive())["type"]
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    print(f"disconnected: {message['code']}", flush=True)


async def events(send: Any) -> None:
    """A beat, again and again, for ever."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        await send({"type": "http.response.body", "body": b"data: beat\n\n", "more_body": True})
        await asyncio.sleep(0.05)


sessions = AsyncSessions(async_from_url(os.environ["COATCHECK_TEST_URL"]))
app = SessionMiddleware(site, sessions, watch=True)
