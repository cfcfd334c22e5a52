"""Sessions on aiohttp: log in, count visits, see your devices, log out.

Run `python examples/aiohttp_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape

from aiohttp import web

from coatcheck import AsyncSessions
from coatcheck.gate import LoginGate, safe_next
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.aiohttp import get_session, login_middleware, setup

LOGIN = "<form method=post>Name <input name=name required><button>Log in</button></form>"
sessions = AsyncSessions(AsyncMemoryStore())
routes = web.RouteTableDef()


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    session = get_session(request)
    subject = session.subject or ""  # the gate lets nobody else in
    visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    page = f"<h1>{escape(subject)}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in await sessions.list_for(subject):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return web.Response(text=page, content_type="text/html")


@routes.view("/login")
async def login(request: web.Request) -> web.Response:
    if request.method == "GET":
        return web.Response(text=LOGIN, content_type="text/html")
    name = str((await request.post())["name"])
    get_session(request).login(f"user:{name}")  # a real site asks for a password here
    get_session(request).flash("Welcome!")
    raise web.HTTPSeeOther(safe_next(request.query.get("next")))


@routes.post("/{action:end|logout}{id:.*}")
async def act(request: web.Request) -> web.Response:
    if request.match_info["action"] == "logout":
        get_session(request).logout()
    else:
        await sessions.revoke(request.match_info["id"][1:], subject=get_session(request).subject)
    raise web.HTTPSeeOther("/")


app = web.Application()
setup(app, sessions)
app.middlewares.append(login_middleware(LoginGate(login="/login")))
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="localhost", port=int(os.environ.get("PORT", "8000")))
