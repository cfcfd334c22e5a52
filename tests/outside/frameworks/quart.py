"""Quart, as it is in production, and where errors go through it to the server."""

from typing import Any

from quart import Quart, Response, got_request_exception, request, session
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from coatcheck import AsyncSessions
from coatcheck.web.quart import CoatcheckSessionInterface
from tests.outside.asgi import AsgiDriver
from tests.outside.talk import Framework, View


def propagating(sessions: AsyncSessions, view: View) -> Quart:
    app = Quart(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.session_interface = CoatcheckSessionInterface(sessions, sweep=None)  # type: ignore[assignment]

    @app.post("/")
    async def endpoint() -> Response:
        session_: Any = session
        body: Any = await request.get_data()
        reply = view(session_, body)
        if reply.raised:
            made = WerkzeugResponse(reply.body, reply.status, reply.headers)
            raise HTTPException(response=made)
        return Response(reply.body, reply.status, dict(reply.headers))

    serve = app.asgi_app

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        # Quart itself answers 500 to a line break in a header; no server lets one through.
        scope["headers"] = [(k, v.translate(None, b"\r\n")) for k, v in scope["headers"]]
        await serve(scope, receive, send)

    app.asgi_app = asgi_app  # type: ignore[method-assign]
    return app


def answering(sessions: AsyncSessions, view: View) -> Any:
    """Quart makes a 500 of an error and logs it; here the driver gets to see it as well."""
    app = propagating(sessions, view)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.logger.disabled = True
    got_request_exception.connect(_remember, app)
    answer = app.asgi_app

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        await answer(scope, receive, send)
        if "tests.error" in scope:
            raise scope["tests.error"]

    app.asgi_app = asgi_app  # type: ignore[method-assign]
    return app


async def _remember(app: Quart, exception: Exception, **more: Any) -> None:
    request.scope["tests.error"] = exception  # type: ignore[typeddict-unknown-key]


FRAMEWORKS = {
    "quart": Framework(AsgiDriver, answering, is_async=True),
    "quart-propagating": Framework(AsgiDriver, propagating, is_async=True),
}
