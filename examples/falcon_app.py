"""Sessions on Falcon: log in, count visits, see and end your devices, log out.

Run `python examples/falcon_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape
from wsgiref.simple_server import make_server

import falcon

from coatcheck import Contention, Sessions, StoreUnavailable
from coatcheck.stores.memory import MemoryStore
from coatcheck.web.falcon import SessionMiddleware, handle_outage

sessions = Sessions(MemoryStore())


class Home:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        session = req.context.session
        visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
        page = f"<h1>{escape(session.subject or 'Hello')}</h1><p>Visits: {visits}"
        page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
        resp.content_type = falcon.MEDIA_HTML
        resp.text = page + (LOGIN if session.subject is None else self.devices(session.subject))

    def devices(self, subject: str) -> str:
        page = "<form method=post action=/logout><button>Log out</button></form>"
        for info in sessions.list_for(subject):
            page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
            page += "<button>End</button></form>"
        return page


class Action:
    def on_post(self, req: falcon.Request, resp: falcon.Response, id: str | None = None) -> None:
        session = req.context.session
        if req.path == "/login":  # a real site asks for a password here
            session.login(f"user:{req.get_media()['name']}")  # the visits counted so far are kept
            session.flash("Welcome!")
        elif req.path == "/logout":
            session.logout()
        elif id is not None and session.subject is not None:
            sessions.revoke(id, subject=session.subject)
        raise falcon.HTTPSeeOther("/")  # commits, as any answer below 500


LOGIN = "<form method=post action=/login><input name=name><button>Log in</button></form>"

app = falcon.App(middleware=[SessionMiddleware(sessions)])
app.add_error_handler((StoreUnavailable, Contention), handle_outage)
app.add_route("/", Home())
for path in ("/login", "/logout", "/end/{id}"):
    app.add_route(path, Action())

if __name__ == "__main__":
    make_server("localhost", int(os.environ.get("PORT", "8000")), app).serve_forever()
