"""aiohttp, on its own server."""

from aiohttp import web

from coatcheck import AsyncSessions
from coatcheck.web.aiohttp import get_session, setup
from tests.outside.sockets import AiohttpDriver, about_to_read
from tests.outside.talk import Framework, View


def build(sessions: AsyncSessions, view: View) -> web.Application:
    async def handler(request: web.Request) -> web.Response:
        about_to_read()
        reply = view(get_session(request), await request.read())
        if reply.raised:
            raised = type("Raised", (web.HTTPException,), {"status_code": reply.status})
            raise raised(headers=reply.headers)
        return web.Response(body=reply.body, status=reply.status, headers=reply.headers)

    app = web.Application()
    setup(app, sessions, sweep=None)
    app.router.add_post("/", handler)
    return app


FRAMEWORKS = {"aiohttp": Framework(AiohttpDriver, build, is_async=True)}
