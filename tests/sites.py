"""Sites for the law tests: `Sessions` or `AsyncSessions` over each store, driven without await.

A law test is written once, against `Site` and `Browser`, and runs over all of `KINDS`. Requests
overlap where a test opens several before it answers the first.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coatcheck import AsyncSessions, KeyRing, Lifetime, Session, Sessions
from coatcheck.events import Event
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores.cookie import AsyncCookieStore, CookieStore
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from tests.services import file, memcached, postgres, redis

KEY = "k" * 32

Kept = tuple[Callable[[Path], str], Callable[[Path], bytes]]


def _by_url(kind: str) -> dict[str, Callable[[Path], Any]]:
    url, _ = KEPT[kind]
    return {
        kind: lambda folder: from_url(url(folder)),
        f"{kind}-async": lambda folder: async_from_url(url(folder)),
    }


KEPT: dict[str, Kept] = {
    "sqlite": (
        lambda folder: f"sqlite:///{folder}/sessions.sqlite3?timeout=10",
        lambda folder: b"".join(path.read_bytes() for path in sorted(folder.iterdir())),
    ),
    "file": (file.url, file.dump),
    "redis": (redis.url, redis.dump),
    "cluster": (redis.cluster_url, redis.cluster_dump),
    "postgres": (postgres.url, postgres.dump),
    "memcached": (memcached.url, memcached.dump),
}
"""Stores outside the process: the URL for what belongs to a folder, and all that a thief gets."""

STORES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda folder: MemoryStore(),
    "memory-async": lambda folder: AsyncMemoryStore(),
    **{name: make for kind in KEPT for name, make in _by_url(kind).items()},
    "cookie": lambda folder: CookieStore(KeyRing(KEY), revocations=MemoryStore()),
    "cookie-async": lambda folder: AsyncCookieStore(KeyRing(KEY), revocations=AsyncMemoryStore()),
}
KINDS = list(STORES)
SERVER_KINDS = [kind for kind in KINDS if not kind.startswith("cookie")]
"""The stores that keep records on the server. The cookie store declares that it cannot keep
laws 2 (the answer that arrives last wins whole) and 7 beyond its revocations, nor list."""
LISTING_KINDS = [kind for kind in SERVER_KINDS if not kind.startswith("memcached")]
"""The stores that find sessions by subject. Memcached declares that it cannot."""
ADMITTING_KINDS = LISTING_KINDS
"""The stores that check a login against marks and limits: those that list."""
SWEEPING_KINDS = [kind for kind in LISTING_KINDS if not kind.startswith(("redis", "cluster"))]
"""The stores that do not drop what expired by themselves."""


@dataclass
class Site:
    """One site over one store, with a clock to move and the events that it told."""

    kind: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    store: Any = None

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.told: list[Event] = []
        self._runner = asyncio.Runner()
        self.store = self.store or STORES[self.kind](self.folder)
        make: Any = AsyncSessions if self.kind.endswith("-async") else Sessions
        options = {"lifetime": Lifetime(idle=3600, absolute=86_400), **self.options}
        self._created: set[str] = set()
        if self.kind.startswith("memcached"):  # which cannot list what it holds
            self.store.create = self._noting(self.store.create)
        self.sessions = make(self.store, clock=self.clock, on_event=self.told.append, **options)

    @property
    def is_carried(self) -> bool:
        return self.kind.startswith("cookie")

    def open(self, header: str | bytes | None = None, client: Any = None) -> Session:
        opened: Session = self._run(self.sessions.open(header, client))
        return opened

    def commit(self, session: Session, *, failed: bool = False) -> list[str]:
        cookies: list[str] = self._run(self.sessions.commit(session, failed=failed))
        return cookies

    def call(self, verb: str, *arguments: Any, **options: Any) -> Any:
        """A method of the sessions: list_for, revoke, revoke_all, sweep, ping."""
        return self._run(getattr(self.sessions, verb)(*arguments, **options))

    def browser(self, cookie: str | None = None) -> "Browser":
        return Browser(self, cookie)

    def records(self) -> list[Any]:
        """Every record that the store holds and is alive."""
        store, now = self.store.revocations if self.is_carried else self.store, self.now
        if self.kind.startswith("memcached"):
            loaded = [self._run(store.load(each, now)) for each in sorted(self._created)]
            return [record for record in loaded if record is not None]
        found: list[Any] = self._run(store.page("", 10_000, now))
        return found

    def _noting(self, create: Callable[..., Any]) -> Callable[..., Any]:
        def noted(record: Any, now: int) -> Any:
            self._created.add(record.id)
            return create(record, now)

        return noted

    @property
    def now(self) -> int:
        return int(self.clock() * 1000)

    def dump(self) -> bytes:
        """All that a thief of the store gets."""
        if (kept := KEPT.get(self.kind.removesuffix("-async"))) is not None:
            self._run(self.sessions.close())
            return kept[1](self.folder)
        return repr(self.records()).encode() + b"".join(
            part for record in self.records() for part in (record.payload, record.revision)
        )

    @property
    def events(self) -> list[Event]:
        """What was told so far."""
        assert self._run(self.sessions.flush_events(20.0))
        return self.told

    def events_of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def close(self) -> None:
        self._run(self.sessions.close())
        self._runner.close()

    def _run(self, made: Any) -> Any:
        return self._runner.run(made) if asyncio.iscoroutine(made) else made


@dataclass
class Browser:
    """What keeps a cookie: one request after another, or several that overlap."""

    site: Site
    cookie: str | None = None
    answers: list[str] = field(default_factory=list)

    def begin(self) -> Session:
        """A request is opened; end it with `end`."""
        return self.site.open(self.cookie)

    def end(self, session: Session, *, failed: bool = False) -> list[str]:
        """The response arrives, and its cookies with it."""
        set_cookies = self.site.commit(session, failed=failed)
        for header in set_cookies:
            pair, *attributes = header.split("; ")
            self.cookie = None if "Max-Age=0" in attributes else pair
            self.answers.append(header)
        return set_cookies

    def visit(self, act: Callable[[Session], object] = lambda session: None) -> Session:
        """A whole request that does this to its session."""
        session = self.begin()
        act(session)
        self.end(session)
        return session

    def login(self, subject: str = "user:42", **options: Any) -> Session:
        return self.visit(lambda session: session.login(subject, **options))

    def values(self) -> dict[str, Any]:
        """What the session holds now, seen by a new request."""
        return dict(self.begin())

    def copy(self) -> "Browser":
        """A second browser that holds a copy of the cookie."""
        return Browser(self.site, self.cookie)
