"""Sessions in Bottle: log in, count your visits, see your devices, log out.

Run `python examples/bottle_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape

import bottle  # type: ignore[import-untyped]

from coatcheck import Sessions, current
from coatcheck.stores.memory import MemoryStore
from coatcheck.web.wsgi import SessionMiddleware

LOGIN = "<form method=post action=/login><input name=name><button>Log in</button></form>"
sessions = Sessions(MemoryStore())
site = bottle.Bottle()


@site.get("/")  # type: ignore[untyped-decorator]
def home() -> str:
    session = current()
    if session.subject is None:
        return LOGIN
    visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    page = f"<h1>{escape(session.subject)}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in sessions.list_for(session.subject):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return page


@site.post("/login")  # type: ignore[untyped-decorator]
def login() -> None:
    current().login(f"user:{bottle.request.forms.getunicode('name')}")  # ask for a password first
    current().flash("Welcome!")
    bottle.redirect("/", 303)  # raised as a response, which commits


@site.post("/end/<device>")  # type: ignore[untyped-decorator]
def end(device: str) -> None:
    subject = current().subject
    if subject is not None:
        sessions.revoke(device, subject=subject)
    bottle.redirect("/", 303)


@site.post("/logout")  # type: ignore[untyped-decorator]
def logout() -> None:
    current().logout()
    bottle.redirect("/", 303)


app = SessionMiddleware(site, sessions)

if __name__ == "__main__":
    bottle.run(app, host="localhost", port=int(os.environ.get("PORT", "8000")))
