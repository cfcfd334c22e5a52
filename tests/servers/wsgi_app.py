"""A WSGI app whose path is /action/argument; it reads the whole body before it acts."""

from typing import TYPE_CHECKING

from coatcheck import Sessions
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.web.wsgi import SessionMiddleware
from tests.servers.actions import FILE, HEADERS, PATIENCE, act

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def site(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    _, action, argument = environ["PATH_INFO"].split("/")
    body = act(environ["coatcheck.session"], action, argument).encode()
    start_response("200 OK", [*HEADERS, ("Content-Length", str(len(body)))])
    return [body]


sessions = Sessions(SQLiteStore(FILE, timeout=PATIENCE))
app = SessionMiddleware(site, sessions)
