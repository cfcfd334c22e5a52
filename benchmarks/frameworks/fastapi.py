"""FastAPI: Starlette's SessionMiddleware, as its users know it."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.middleware.sessions import SessionMiddleware

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, DAY, SECRET, Build, Place, ours_async
from coatcheck import AsyncSessions
from coatcheck.web import asgi
from coatcheck.web.fastapi import SessionDep

__all__ = ["APPS"]

View = Callable[..., Awaitable[str]]


def _view(act: Act) -> View:
    async def view(request: Request) -> str:
        return act(request.session)

    return view


def _our_view(act: Act) -> View:
    async def view(session: SessionDep) -> str:
        return act(session)

    return view


async def _untouched() -> str:
    return OK


def _app(view: Callable[[Act], View] = _view) -> FastAPI:
    app = FastAPI(openapi_url=None)
    for name, act in ACTS.items():
        app.get(f"/{name}", response_class=PlainTextResponse)(view(act))
    app.get("/untouched", response_class=PlainTextResponse)(_untouched)
    return app


def _signed(place: Place) -> Any:
    app = _app()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, max_age=DAY)
    return app


def _coatcheck(sessions: AsyncSessions) -> Any:
    app = _app(_our_view)
    app.add_middleware(asgi.SessionMiddleware, sessions=sessions)
    return app


APPS: dict[str, Build] = {
    "bare": lambda place: _app(),
    "signed cookie": _signed,
    **ours_async(_coatcheck),
}
