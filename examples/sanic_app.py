"""Sessions on Sanic: log in, count visits, see and end your devices, log out.

Run `python examples/sanic_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

# mypy: disable-error-code="untyped-decorator"
import os
from html import escape

from sanic import HTTPResponse, Request, Sanic, html, redirect

from coatcheck import AsyncSessions
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.sanic import setup

sessions = AsyncSessions(AsyncMemoryStore())
app = Sanic("coatcheck-example")
setup(app, sessions)
LOGIN = "<form method=post action=/login><input name=name><button>Log in</button></form>"


@app.get("/")
async def home(request: Request) -> HTTPResponse:
    session = request.ctx.session
    visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    page = f"<h1>{escape(session.subject or 'Hello')}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
    if session.subject is None:
        return html(page + LOGIN)
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in await sessions.list_for(session.subject):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return html(page)


@app.post("/login")
async def login(request: Request) -> HTTPResponse:
    session = request.ctx.session
    name = request.form["name"][0] if request.form else "nobody"
    session.login(f"user:{name}")  # a real site asks for a password here
    session.flash("Welcome!")  # the visits counted so far are kept, too
    return redirect("/", status=303)


@app.post("/end/<id>")
async def end(request: Request, id: str) -> HTTPResponse:
    if (subject := request.ctx.session.subject) is not None:
        await sessions.revoke(id, subject=subject)
    return redirect("/", status=303)


@app.post("/logout")
async def logout(request: Request) -> HTTPResponse:
    request.ctx.session.logout()
    return redirect("/", status=303)


if __name__ == "__main__":
    app.run(host="localhost", port=int(os.environ.get("PORT", "8000")), single_process=True)
