"""Litestar, with its own answers to errors and with those of the server."""

from typing import Any

from litestar import Litestar, Request, Response, post
from litestar.exceptions import HTTPException
from litestar.exceptions.responses import create_exception_response

from coatcheck import AsyncSessions
from coatcheck.web.litestar import CoatcheckPlugin
from tests.outside.asgi import AsgiDriver
from tests.outside.talk import Framework, View


def app_of(sessions: AsyncSessions, view: View, **options: Any) -> Litestar:
    @post("/")
    async def handler(request: Request[Any, Any, Any]) -> Response[bytes]:
        session: Any = request.session
        reply = view(session, await request.body())
        headers = dict(reply.headers)
        if reply.raised:
            raise HTTPException(status_code=reply.status, headers=headers)
        return Response(reply.body, status_code=reply.status, headers=headers)

    plugin = CoatcheckPlugin(sessions, sweep=None)
    return Litestar(
        [handler], plugins=[plugin], logging_config=None, openapi_config=None, **options
    )


def litestar(sessions: AsyncSessions, view: View) -> Any:
    """It answers the app's errors by itself; what it tells its hooks is raised to the driver."""

    async def note(error: Exception, scope: Any) -> None:
        if not isinstance(error, HTTPException):
            scope["raised"] = error

    site: Any = app_of(sessions, view, after_exception=[note])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await site(scope, receive, send)
        if "raised" in scope:
            raise scope["raised"]

    return app


def litestar_raising(sessions: AsyncSessions, view: View) -> Any:
    """An app that lets its errors through, to its server or a middleware around it all."""

    def through(request: Any, error: Exception) -> Response[Any]:
        raise error

    handlers = {HTTPException: create_exception_response, Exception: through}
    return app_of(sessions, view, exception_handlers=handlers)


FRAMEWORKS = {
    "litestar": Framework(AsgiDriver, litestar, is_async=True),
    "litestar-raising": Framework(AsgiDriver, litestar_raising, is_async=True),
}
