"""Sessions under WSGI, here on the server waitress: log in, count, see your devices, log out.

Run `python examples/wsgi.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape
from typing import TYPE_CHECKING

import waitress  # type: ignore[import-untyped]

from coatcheck import Sessions, current
from coatcheck.gate import LoginGate
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.web.wsgi import LoginMiddleware, SessionMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOGIN = "<form method=post action=/login/ann><button>Log in as Ann</button></form>"
sessions = Sessions(SQLiteStore("sessions.sqlite3"))  # any number of workers may share the file


def home() -> str:
    session = current()
    subject = session.subject or ""  # the gate lets nobody else in
    visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    page = f"<h1>{escape(subject)}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in sessions.list_for(subject):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return page


def act(action: str, name: str) -> None:
    if action == "login":  # a real site asks for a password here
        current().login(f"user:{name}")
        current().flash("Welcome!")
    elif action == "end":
        sessions.revoke(name, subject=current().subject)
    elif action == "logout":
        current().logout()


def site(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
    _, action, *rest = environ["PATH_INFO"].split("/")
    if environ["REQUEST_METHOD"] == "POST":
        act(action, "".join(rest))
        start_response("303 See Other", [("Location", "/")])
        return []
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [(LOGIN if action == "login" else home()).encode()]


app = SessionMiddleware(LoginMiddleware(site, LoginGate(public=["/login/*"])), sessions)

if __name__ == "__main__":
    waitress.serve(app, host="localhost", port=int(os.environ.get("PORT", "8000")))
