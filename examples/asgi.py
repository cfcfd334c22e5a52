"""Sessions on Starlette: log in, count visits, see your devices, log out.

Run `python examples/asgi.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from coatcheck import AsyncSessions, current
from coatcheck.gate import LoginGate, safe_next
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.asgi import LoginMiddleware, SessionMiddleware

LOGIN = "<form method=post>Name <input name=name required><button>Log in</button></form>"
sessions = AsyncSessions(AsyncMemoryStore())


async def home(request: Request) -> Response:
    session = current()
    subject = session.subject or ""  # the gate lets nobody else in
    visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    page = f"<h1>{escape(subject)}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in await sessions.list_for(subject):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return HTMLResponse(page)


async def login(request: Request) -> Response:
    if request.method == "GET":
        return HTMLResponse(LOGIN)
    current().login(f"user:{(await request.form())['name']}")  # a real site asks for a password
    current().flash("Welcome!")
    return RedirectResponse(safe_next(request.query_params.get("next")), 303)


async def end(request: Request) -> Response:
    await sessions.revoke(request.path_params["id"], subject=current().subject)
    return RedirectResponse("/", 303)


async def logout(request: Request) -> Response:
    current().logout()
    return RedirectResponse("/login", 303)


posts = [Route("/end/{id}", end, methods=["POST"]), Route("/logout", logout, methods=["POST"])]
site = Starlette(routes=[Route("/", home), Route("/login", login, methods=["GET", "POST"]), *posts])
app = SessionMiddleware(LoginMiddleware(site, LoginGate(login="/login")), sessions)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
