"""Sessions on FastAPI: log in, count visits, see your devices, log out, as an API.

Run `python examples/fastapi_app.py`, open http://localhost:8000/docs in Chrome or Firefox.
"""

import os
from datetime import datetime
from typing import Any

import uvicorn
from fastapi import FastAPI

from coatcheck import AsyncSessions
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.asgi import SessionMiddleware
from coatcheck.web.fastapi import SessionDep, SubjectDep

sessions = AsyncSessions(AsyncMemoryStore())
app = FastAPI(title="A site with sessions")
app.add_middleware(SessionMiddleware, sessions=sessions)


@app.post("/login")
async def login(name: str, session: SessionDep) -> None:
    session.login(f"user:{name}")  # a real site asks for a password here
    session.flash("Welcome!")


@app.get("/")
async def home(subject: SubjectDep, session: SessionDep) -> dict[str, Any]:
    visits = session.edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    return {"subject": subject, "visits": visits, "messages": [m.text for m in session.flashes()]}


@app.get("/devices")
async def devices(subject: SubjectDep) -> dict[str, datetime]:
    return {info.id: info.seen_at for info in await sessions.list_for(subject)}


@app.delete("/devices/{id}")
async def end(id: str, subject: SubjectDep) -> bool:
    return await sessions.revoke(id, subject=subject)


@app.post("/logout")
async def logout(session: SessionDep) -> None:
    session.logout()


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
