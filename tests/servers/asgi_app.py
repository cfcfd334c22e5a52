"""An ASGI app whose path is /action/argument; it reads the whole body before it acts."""

from typing import Any

from coatcheck import AsyncSessions
from coatcheck.stores.sqlite import AsyncSQLiteStore
from coatcheck.web.asgi import SessionMiddleware
from tests.servers.actions import FILE, HEADERS, PATIENCE, act


async def site(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http", "this app knows no lifespan"
    while (await receive()).get("more_body"):
        """The request goes on."""
    _, action, argument = scope["path"].split("/")
    body = act(scope["session"], action, argument).encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


sessions = AsyncSessions(AsyncSQLiteStore(FILE, timeout=PATIENCE))
app = SessionMiddleware(site, sessions)
