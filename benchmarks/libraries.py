"""The libraries, each set up as its own documentation says, and the same apps for each.

An app reads one value of the session, or writes one (a number that changes with each request), or
does not use it. What a library makes its users call first counts as its cost: starsessions loads
on request, Starlette's `request.session` marks the session as accessed.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from starlette.middleware.sessions import SessionMiddleware as StarletteMiddleware
from starsessions import InMemoryStore
from starsessions import SessionMiddleware as StarsessionsMiddleware

from benchmarks.acts import Act, fill, look, read, write
from benchmarks.sample import App, Message, Receive, Scope, Send, receive, request, respond
from coatcheck import AsyncSessions, KeyRing
from coatcheck.stores import async_from_url
from coatcheck.stores.cookie import AsyncCookieStore
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.asgi import SessionMiddleware

__all__ = [
    "BARE",
    "LIBRARIES",
    "MANY",
    "SCENARIOS",
    "STARLETTE",
    "Library",
    "Scenario",
    "make",
    "sign_in",
]

Scenario: TypeAlias = Literal[
    "read", "read, many browsers", "write", "untouched", "anonymous", "anonymous, read"
]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

MANY = 2500
"""Browsers: more than a library keeps anything of in memory, beside its store."""

_SECRET = "k" * 32
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Library:
    """One library with one store: its middleware, and how its users get at the session."""

    name: str
    wrap: Callable[[App], App]
    session: Callable[[Scope], Any] | None = None
    """What the app calls for the session; None = `scope["session"]`, and nothing to call."""
    load: Callable[[Scope], Awaitable[None]] | None = None
    """What the app awaits before."""
    close: Callable[[], Coroutine[Any, Any, None]] | None = None

    def app(self, scenario: Scenario) -> App:
        """The app of that scenario inside the library's middleware."""
        act = _ACTS.get(scenario)
        return self.wrap(_untouched if act is None else self.using(act))

    def filling(self) -> App:
        """An app that puts the sample into the session, and logs in where there is a login."""
        return self.wrap(self.using(fill))

    def using(self, act: Act) -> App:
        """An app that does this to the session; to be wrapped."""
        if self.load is not None:
            return _loading(self.load, act)
        return _acting(act) if self.session is None else _asking(self.session, act)


async def _untouched(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send)


def _acting(act: Act) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        act(scope["session"])
        await respond(send)

    return app


def _asking(session: Callable[[Scope], Any], act: Act) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        act(session(scope))
        await respond(send)

    return app


def _loading(load: Callable[[Scope], Awaitable[None]], act: Act) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await load(scope)
        act(scope["session"])
        await respond(send)

    return app


_ACTS: dict[str, Act] = {
    "read": read,
    "read, many browsers": read,
    "write": write,
    "anonymous, read": look,
}


async def sign_in(library: Library) -> str:
    """A browser's first request: the cookie it is given, as `name=value`."""
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    await library.filling()(request(None), receive, keep)
    headers = [value for name, value in sent[0]["headers"] if name.lower() == b"set-cookie"]
    cookie: bytes = headers[0]
    return cookie.partition(b";")[0].decode("ascii")


def _bare(folder: Path) -> Library:
    return Library(BARE, lambda app: app)


def _starlette(folder: Path) -> Library:
    def session(scope: Scope) -> Any:
        found = scope["session"]
        found.mark_accessed()  # as request.session does; it costs the Vary header
        return found

    def wrap(app: App) -> App:
        return StarletteMiddleware(app, _SECRET, max_age=_DAY)

    return Library(STARLETTE, wrap, session)


def _starsessions(folder: Path) -> Library:
    store = InMemoryStore()

    def wrap(app: App) -> App:
        return StarsessionsMiddleware(app, store, lifetime=_DAY)

    async def load(scope: Scope) -> None:
        await scope["session_handler"].load()

    return Library("starsessions, memory", wrap, load=load)


def _coatcheck(name: str, store: Any) -> Library:
    sessions = AsyncSessions(store)
    return Library(name, lambda app: SessionMiddleware(app, sessions), close=sessions.close)


def _memory(folder: Path) -> Library:
    return _coatcheck("coatcheck, memory", AsyncMemoryStore())


def _sqlite(folder: Path) -> Library:
    return _coatcheck("coatcheck, SQLite", async_from_url(f"sqlite:///{folder}/bench.sqlite3"))


def _cookie(folder: Path) -> Library:
    return _coatcheck("coatcheck, cookie", AsyncCookieStore(KeyRing(_SECRET), revocations=None))


BARE = "bare"
STARLETTE = "Starlette, signed cookie"
LIBRARIES: dict[str, Callable[[Path], Library]] = {
    BARE: _bare,
    STARLETTE: _starlette,
    "starsessions, memory": _starsessions,
    "coatcheck, memory": _memory,
    "coatcheck, SQLite": _sqlite,
    "coatcheck, cookie": _cookie,
}


def make(name: str, folder: Path) -> Library:
    """The library of that name; what it keeps on disk goes into the folder."""
    return LIBRARIES[name](folder)
