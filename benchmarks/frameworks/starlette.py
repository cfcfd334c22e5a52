"""Starlette: its own SessionMiddleware, and starsessions."""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starsessions import InMemoryStore, SessionStore, load_session
from starsessions import SessionMiddleware as Starsessions
from starsessions.stores.redis import RedisStore

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, DAY, SECRET, Build, Place, ours_async
from coatcheck import AsyncSessions
from coatcheck.web import asgi

__all__ = ["APPS"]

View = Callable[[Request], Awaitable[Response]]


def _view(act: Act) -> View:
    async def view(request: Request) -> Response:
        return PlainTextResponse(act(request.session))

    return view


def _loading(act: Act) -> View:
    async def view(request: Request) -> Response:
        await load_session(request)
        return PlainTextResponse(act(request.session))

    return view


async def _untouched(request: Request) -> Response:
    return PlainTextResponse(OK)


def _app(middleware: Middleware | None = None, view: Callable[[Act], View] = _view) -> Any:
    routes = [Route(f"/{name}", view(act)) for name, act in ACTS.items()]
    routes.append(Route("/untouched", _untouched))
    return Starlette(routes=routes, middleware=[] if middleware is None else [middleware])


def _signed(place: Place) -> Any:
    return _app(Middleware(SessionMiddleware, secret_key=SECRET, max_age=DAY))


def _starsessions(store: SessionStore) -> Any:
    return _app(Middleware(Starsessions, store=store, lifetime=DAY), _loading)


def _coatcheck(sessions: AsyncSessions) -> Any:
    return _app(Middleware(asgi.SessionMiddleware, sessions=sessions))


APPS: dict[str, Build] = {
    "bare": lambda place: _app(),
    "signed cookie": _signed,
    "starsessions, memory": lambda place: _starsessions(InMemoryStore()),
    "starsessions, Redis": lambda place: _starsessions(
        RedisStore(connection=Redis.from_url(place.redis))
    ),
    **ours_async(_coatcheck),
}
