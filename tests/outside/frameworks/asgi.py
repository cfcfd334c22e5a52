"""Any ASGI app, and Starlette."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coatcheck import AsyncSessions
from coatcheck.web import asgi
from tests.outside.asgi import AsgiDriver
from tests.outside.talk import Framework, View


def raw_asgi(sessions: AsyncSessions, view: View) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        reply = view(scope["session"], (await receive())["body"])
        headers = [(k.lower().encode(), v.encode()) for k, v in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    return asgi.SessionMiddleware(app, sessions, sweep=None)


def starlette(sessions: AsyncSessions, view: View) -> Any:
    async def endpoint(request: Request) -> Response:
        reply = view(request.scope["session"], await request.body())
        if reply.raised:
            raise HTTPException(reply.status, headers=dict(reply.headers))
        return Response(reply.body, reply.status, dict(reply.headers))

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app.add_middleware(asgi.SessionMiddleware, sessions=sessions, sweep=None)
    return app


FRAMEWORKS = {
    "asgi": Framework(AsgiDriver, raw_asgi, is_async=True),
    "starlette": Framework(AsgiDriver, starlette, is_async=True),
}
