"""What every app is built with: where it keeps its sessions, and coatcheck's own stores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.acts import Act, fill, read, seen, write
from benchmarks.stores import PATIENT
from coatcheck import AsyncSessions, KeyRing, Sessions
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores.cookie import AsyncCookieStore, CookieStore

__all__ = [
    "ACTS",
    "DAY",
    "SECRET",
    "STORES",
    "Build",
    "Place",
    "Store",
    "async_sessions",
    "ours",
    "ours_async",
    "sessions",
]

Store: TypeAlias = Literal["cookie", "memory", "SQLite", "Redis"]
STORES: tuple[Store, ...] = ("cookie", "memory", "SQLite", "Redis")

ACTS: dict[str, Act] = {"fill": fill, "read": read, "write": write, "seen": seen}
"""Paths of every app with a session, and what its views do; `/untouched` does nothing."""

SECRET = "k" * 32
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for files, and the URL of a Redis."""

    folder: Path
    redis: str

    def url(self, store: Store) -> str:
        """Of coatcheck's store of that kind."""
        return {
            "memory": "memory:",
            "SQLite": f"sqlite:///{self.folder}/coatcheck.sqlite3?{PATIENT}",
            "Redis": f"{self.redis}?{PATIENT}",
        }[store]


Build: TypeAlias = Callable[[Place], Any]
"""Makes a row's app."""


def sessions(store: Store, place: Place) -> Sessions:
    if store == "cookie":
        return Sessions(CookieStore(KeyRing(SECRET), revocations=None))
    return Sessions(from_url(place.url(store)))


def async_sessions(store: Store, place: Place) -> AsyncSessions:
    if store == "cookie":
        return AsyncSessions(AsyncCookieStore(KeyRing(SECRET), revocations=None))
    return AsyncSessions(async_from_url(place.url(store)))


def ours(app: Callable[[Sessions], Any]) -> dict[str, Build]:
    """coatcheck's rows of a framework: the app with each of the stores."""

    def build(store: Store) -> Build:
        return lambda place: app(sessions(store, place))

    return {f"coatcheck, {store}": build(store) for store in STORES}


def ours_async(app: Callable[[AsyncSessions], Any]) -> dict[str, Build]:
    def build(store: Store) -> Build:
        return lambda place: app(async_sessions(store, place))

    return {f"coatcheck, {store}": build(store) for store in STORES}
