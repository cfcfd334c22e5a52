"""Sessions with nothing but the standard library beside them: log in, count, devices, log out.

Run `python examples/wsgiref_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape
from typing import TYPE_CHECKING
from wsgiref.simple_server import make_server

from coatcheck import Session, Sessions
from coatcheck.stores.memory import MemoryStore
from coatcheck.web.wsgi import SessionMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

sessions = Sessions(MemoryStore())


def home(session: Session) -> str:
    visits = session.edit("visits", lambda n: n + 1, default=0)  # an anonymous visitor's count too
    page = f"<h1>{escape(session.subject or 'Hello')}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
    if session.subject is None:
        return page + "<form method=post action=/login/ann><button>Log in as Ann</button></form>"
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in sessions.list_for(session.subject):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return page


def act(session: Session, action: str, name: str) -> None:
    if action == "login":  # a real site asks for a password here
        session.login(f"user:{name}")  # the visits counted so far are kept
        session.flash("Welcome!")
    elif action == "end" and session.subject is not None:
        sessions.revoke(name, subject=session.subject)
    elif action == "logout":
        session.logout()
        session.flash("Goodbye!")


def site(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
    session = environ["coatcheck.session"]
    _, action, *rest = environ["PATH_INFO"].split("/")
    if environ["REQUEST_METHOD"] == "POST":
        act(session, action, "".join(rest))
        start_response("303 See Other", [("Location", "/")])
        return []
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [home(session).encode()]


app = SessionMiddleware(site, sessions)

if __name__ == "__main__":
    make_server("localhost", int(os.environ.get("PORT", "8000")), app).serve_forever()
