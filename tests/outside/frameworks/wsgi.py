"""Any WSGI app."""

from typing import TYPE_CHECKING, Any

from coatcheck import Sessions
from coatcheck.web import wsgi
from tests.outside.talk import Framework, View
from tests.outside.wsgi import WsgiDriver

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def raw_wsgi(sessions: Sessions, view: View) -> Any:
    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        reply = view(environ["coatcheck.session"], body)
        headers = [("Content-Type", "text/plain"), *reply.headers]
        start_response(f"{reply.status} Status", headers)
        return [reply.body]

    return wsgi.SessionMiddleware(app, sessions, sweep=None)


FRAMEWORKS = {"wsgi": Framework(WsgiDriver, raw_wsgi, is_async=False)}
