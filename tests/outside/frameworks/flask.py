"""Flask, as it is in production, and where errors go through it to the server."""

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, got_request_exception, request, session
from werkzeug.exceptions import HTTPException

from coatcheck import Sessions
from coatcheck.web.flask import CoatcheckSessionInterface
from tests.outside.talk import Framework, View
from tests.outside.wsgi import WsgiDriver

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def propagating(sessions: Sessions, view: View) -> Flask:
    """As in testing and in debug mode."""
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.session_interface = CoatcheckSessionInterface(sessions, sweep=None)

    @app.post("/")
    def endpoint() -> Response:
        session_: Any = session
        reply = view(session_, request.get_data())
        response = Response(reply.body, reply.status, reply.headers)
        if reply.raised:
            raise HTTPException(response=response)
        return response

    return app


def answering(sessions: Sessions, view: View) -> Flask:
    """Flask makes a 500 of an error and logs it; here the driver gets to see it as well."""
    app = propagating(sessions, view)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.logger.disabled = True
    got_request_exception.connect(_remember, app)
    answer = app.wsgi_app

    def wsgi_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        with closing(answer(environ, start_response)) as chunks:  # type: ignore[type-var]
            yield from chunks
        if "tests.error" in environ:
            raise environ["tests.error"]

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    return app


def _remember(app: Flask, exception: Exception, **more: Any) -> None:
    request.environ["tests.error"] = exception


FRAMEWORKS = {
    "flask": Framework(WsgiDriver, answering, is_async=False),
    "flask-propagating": Framework(WsgiDriver, propagating, is_async=False),
}
