"""Sessions on Litestar: log in, count visits, see your devices, log out.

Run `python examples/litestar_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape
from typing import Any

import uvicorn
from litestar import Litestar, MediaType, Request, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from coatcheck import AsyncSessions, current
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.litestar import CoatcheckPlugin

LOGIN = "<form method=post action=/login><input name=name required><button>Log in</button></form>"
sessions = AsyncSessions(AsyncMemoryStore())


@get("/", media_type=MediaType.HTML)
async def home() -> str:
    session = current()
    if session.subject is None:
        return LOGIN
    visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    page = f"<h1>{escape(session.subject)}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(message.text)}</b>" for message in session.flashes())
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in await sessions.list_for(session.subject):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return page


@post("/login")
async def login(request: Request[Any, Any, Any]) -> Redirect:
    current().login(f"user:{(await request.form())['name']}")  # a real site asks for a password
    current().flash("Welcome!")
    return Redirect("/", status_code=303)


@post("/end/{id:str}")
async def end(id: FromPath[str]) -> Redirect:
    await sessions.revoke(id, subject=current().subject)
    return Redirect("/", status_code=303)


@post("/logout")
async def logout() -> Redirect:
    current().logout()
    return Redirect("/", status_code=303)


app = Litestar([home, login, end, logout], plugins=[CoatcheckPlugin(sessions)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
