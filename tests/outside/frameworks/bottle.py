"""Bottle, behind the middleware for WSGI."""

from typing import Any

import bottle  # type: ignore[import-untyped]

from coatcheck import Sessions
from coatcheck.web import wsgi
from tests.outside.talk import Framework, View
from tests.outside.wsgi import WsgiDriver


def app_of(sessions: Sessions, view: View) -> Any:
    # A test asks for the error itself; what Bottle makes of errors is in `test_bottle`.
    app = bottle.Bottle()
    app.catchall = False

    @app.post("/")  # type: ignore[untyped-decorator]
    def endpoint() -> Any:
        environ = bottle.request.environ
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        reply = view(environ["coatcheck.session"], body)
        response = bottle.HTTPResponse(reply.body, reply.status)
        for name, value in reply.headers:
            response.add_header(name, value)
        if reply.raised:
            raise response
        return response

    return wsgi.SessionMiddleware(app, sessions, sweep=None)


FRAMEWORKS = {"bottle": Framework(WsgiDriver, app_of, is_async=False)}
