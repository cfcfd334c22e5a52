"""Sanic, under ASGI. Its own server is met in `tests/frameworks/test_sanic.py`."""

import itertools
from contextlib import suppress
from typing import Any

from sanic import HTTPResponse, Sanic
from sanic.exceptions import SanicException

from coatcheck import AsyncSessions
from coatcheck.web.sanic import setup
from tests.outside.asgi import AsgiDriver
from tests.outside.talk import Framework, View

_numbers = itertools.count()


class SanicDriver(AsgiDriver):
    """Sanic takes its routes and its middleware together when its lifespan begins."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.runner.run(begin_lifespan(app))


class _Begun(Exception):
    pass


async def begin_lifespan(app: Any) -> None:
    """As a server does it; the lifespan's end is not told."""
    waiting = [{"type": "lifespan.startup"}]

    async def receive() -> dict[str, Any]:
        if not waiting:
            raise _Begun
        return waiting.pop()

    async def send(message: dict[str, Any]) -> None:
        assert message == {"type": "lifespan.startup.complete"}

    with suppress(_Begun):
        await app({"type": "lifespan"}, receive, send)


def new_app() -> Any:
    """Under a name of its own, for Sanic keeps every app by its name; without `TOUCHUP`, which
    rewrites Sanic's classes for one app, once in a process."""
    app: Any = Sanic(f"test{next(_numbers)}", configure_logging=False)
    app.config.update({"MOTD": False, "TOUCHUP": False, "FALLBACK_ERROR_FORMAT": "text"})
    return app


def sanic(sessions: AsyncSessions, view: View) -> Any:
    app = new_app()
    setup(app, sessions, sweep=None)

    async def everything(request: Any) -> HTTPResponse:
        await request.receive_body()
        reply = view(request.ctx.session, request.body)
        if reply.raised:
            raise SanicException("", reply.status, headers=dict(reply.headers))
        response = HTTPResponse(reply.body, reply.status)
        response.headers.extend(reply.headers)
        return response

    app.add_route(everything, "/", methods=["POST"], ignore_body=True)
    return app


FRAMEWORKS = {"sanic": Framework(SanicDriver, sanic, is_async=True)}
