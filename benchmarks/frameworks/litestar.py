"""Litestar: its own sessions, in an encrypted cookie and in its stores."""

from typing import Any

from litestar import Litestar, MediaType, Request, get
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.base import Store
from litestar.stores.file import FileStore
from litestar.stores.memory import MemoryStore
from litestar.stores.redis import RedisStore

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, SECRET, Build, Place, ours_async
from coatcheck.web.litestar import CoatcheckPlugin

__all__ = ["APPS"]


def _view(name: str, act: Act) -> Any:
    @get(f"/{name}", media_type=MediaType.TEXT, name=name)
    async def view(request: Request[Any, Any, Any]) -> str:
        return act(request.session)

    return view


@get("/untouched", media_type=MediaType.TEXT)
async def _untouched() -> str:
    return OK


def _app(**options: Any) -> Litestar:
    views = [_view(name, act) for name, act in ACTS.items()]
    return Litestar([*views, _untouched], openapi_config=None, **options)


def _cookie(place: Place) -> Litestar:
    return _app(middleware=[CookieBackendConfig(secret=SECRET.encode()).middleware])


def _stored(store: Store) -> Litestar:
    return _app(middleware=[ServerSideSessionConfig().middleware], stores={"sessions": store})


APPS: dict[str, Build] = {
    "bare": lambda place: _app(),
    "encrypted cookie": _cookie,
    "memory": lambda place: _stored(MemoryStore()),
    "files": lambda place: _stored(FileStore(place.folder / "litestar", create_directories=True)),
    "Redis": lambda place: _stored(RedisStore.with_client(place.redis)),
    **ours_async(lambda sessions: _app(plugins=[CoatcheckPlugin(sessions)])),
}
