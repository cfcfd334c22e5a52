"""aiohttp: aiohttp-session, in an encrypted cookie and on Redis."""

from collections.abc import Awaitable, Callable

import aiohttp_session
from aiohttp import web
from aiohttp_session import AbstractStorage
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, DAY, SECRET, Build, Place, ours_async
from coatcheck import AsyncSessions
from coatcheck.web.aiohttp import get_session, setup

__all__ = ["APPS"]

View = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _view(act: Act) -> View:
    async def view(request: web.Request) -> web.StreamResponse:
        return web.Response(text=act(await aiohttp_session.get_session(request)))

    return view


def _our_view(act: Act) -> View:
    async def view(request: web.Request) -> web.StreamResponse:
        return web.Response(text=act(get_session(request)))

    return view


async def _untouched(request: web.Request) -> web.StreamResponse:
    return web.Response(text=OK)


def _app(view: Callable[[Act], View] = _view) -> web.Application:
    app = web.Application()
    for name, act in ACTS.items():
        app.router.add_get(f"/{name}", view(act))
    app.router.add_get("/untouched", _untouched)
    return app


def _stored(storage: AbstractStorage) -> web.Application:
    app = _app()
    aiohttp_session.setup(app, storage)
    return app


def _cookie(place: Place) -> web.Application:
    return _stored(EncryptedCookieStorage(SECRET.encode(), max_age=DAY))


def _redis(place: Place) -> web.Application:
    return _stored(RedisStorage(Redis.from_url(place.redis), max_age=DAY))


def _coatcheck(sessions: AsyncSessions) -> web.Application:
    app = _app(_our_view)
    setup(app, sessions)
    return app


APPS: dict[str, Build] = {
    "bare": lambda place: _app(),
    "aiohttp-session, encrypted cookie": _cookie,
    "aiohttp-session, Redis": _redis,
    **ours_async(_coatcheck),
}
