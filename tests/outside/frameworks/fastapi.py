"""FastAPI, with the session as a dependency."""

from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

from coatcheck import AsyncSessions
from coatcheck.web.asgi import SessionMiddleware
from coatcheck.web.fastapi import SessionDep
from tests.outside.asgi import AsgiDriver
from tests.outside.talk import Framework, View


def fastapi(sessions: AsyncSessions, view: View) -> Any:
    app = FastAPI(openapi_url=None)
    app.add_middleware(SessionMiddleware, sessions=sessions, sweep=None)

    @app.post("/")
    async def endpoint(request: Request, session: SessionDep) -> Response:
        reply = view(session, await request.body())
        if reply.raised:
            raise HTTPException(reply.status, headers=dict(reply.headers))
        return Response(reply.body, reply.status, dict(reply.headers))

    return app


FRAMEWORKS = {"fastapi": Framework(AsgiDriver, fastapi, is_async=True)}
