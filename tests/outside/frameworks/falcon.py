"""Falcon, under WSGI and ASGI."""

from typing import Any

import falcon
import falcon.asgi

from coatcheck import AsyncSessions, Contention, Sessions, StoreUnavailable
from coatcheck.web.falcon import (
    AsyncSessionMiddleware,
    SessionMiddleware,
    async_handle_outage,
    handle_outage,
)
from tests.outside.asgi import AsgiDriver
from tests.outside.talk import Framework, Reply, View
from tests.outside.wsgi import WsgiDriver

OUTAGES = (StoreUnavailable, Contention)


def falcon_wsgi(sessions: Sessions, view: View) -> Any:
    class Everything:
        def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
            answer(resp, view(req.context.session, req.bounded_stream.read()))

    app = falcon.App(middleware=[SessionMiddleware(sessions, sweep=None)])
    app.add_error_handler(OUTAGES, handle_outage)
    app.add_route("/", Everything())
    return app


def falcon_asgi(sessions: AsyncSessions, view: View) -> Any:
    return with_a_slow_body(asgi_app(sessions, view))


def asgi_app(sessions: AsyncSessions, view: View) -> "falcon.asgi.App[Any, Any]":
    class Everything:
        async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
            answer(resp, view(req.context.session, await req.stream.read()))

    app = falcon.asgi.App(middleware=[AsyncSessionMiddleware(sessions, sweep=None)])
    app.add_error_handler(OUTAGES, async_handle_outage)
    app.add_route("/", Everything())
    return app


def with_a_slow_body(app: Any) -> Any:
    """Falcon asks for the first part of the body before its middleware runs: it gets an empty one,
    so that the session is open while the app waits for the rest."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        parts = [{"type": "http.request", "body": b"", "more_body": True}]

        async def slowly() -> Any:
            return parts.pop() if parts else await receive()

        await app(scope, slowly, send)

    return served


def answer(resp: falcon.Response, reply: Reply) -> None:
    if reply.raised:
        kind = falcon.HTTPError if reply.status >= 400 else falcon.HTTPStatus
        raise kind(reply.status, headers=dict(reply.headers))
    resp.status = reply.status
    resp.data = reply.body
    for name, value in reply.headers:
        resp.append_header(name, value)


FRAMEWORKS = {
    "falcon": Framework(WsgiDriver, falcon_wsgi, is_async=False),
    "falcon-asgi": Framework(AsgiDriver, falcon_asgi, is_async=True),
}
