"""Sessions in Memcached: fast, shared by many machines, and forgotten when memory is short.

A session is one value, `coatcheck.record.dump` of its record, under its id. What compares and
replaces is Memcached's own `cas`: the value is read with a token, its revision and its end are
looked at here, and it is written only if the token is still that value's. A refused `cas` changed
nothing, so it may be tried again; a write whose answer was lost is never repeated.

What it cannot promise: Memcached evicts what was not used for long when it is full, and keeps
nothing over a restart. Whose session is forgotten is logged out. It never brings one back.

The store speaks the protocol itself (see `_memcached_protocol`), as a client must do more than the
usual ones: stop a whole call in time, send what one turn of an event loop asks together, and never
use a connection again on which half an answer may still arrive.
"""

import time
from collections.abc import Sequence

from msgspec.structs import replace

from coatcheck import patience
from coatcheck.errors import Collision
from coatcheck.record import Record, Unreadable, dump
from coatcheck.record import load as read
from coatcheck.store import GONE, SAVED, Gone, Saved
from coatcheck.stores._memcached_cluster import Cluster, checked_limits
from coatcheck.stores._memcached_protocol import DELETED, STORED, Item, add, cas, delete, gets
from coatcheck.stores._memcached_server import AsyncServer, Limits, Server
from coatcheck.stores._url import CALL, CONNECT, StoreURL

__all__ = ["AsyncMemcachedStore", "MemcachedStore", "async_from_url", "from_url"]

_MONTH = 30 * 86_400
"""Memcached takes a larger number of seconds for a time of day."""

_LATEST = 2**31 - 1

_PREFIX = "coatcheck:"
_POOL = 16


class _Kind:
    shared = True
    """Other processes see what this one keeps, if they name the same servers."""
    evicts = True
    """It may forget live records: when a server is full, or restarts."""
    why_not = "Memcached cannot list its keys"
    """Why it is not `Listable`."""


class MemcachedStore(_Kind):
    """Thread-safe. `servers` is "host:port" or a list of them, in any order.

    `prefix` begins every key. `timeout` is how many seconds a server may take to answer,
    `connect_timeout` to be connected to; `pool_size` bounds the connections to each server.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        prefix: str = _PREFIX,
        timeout: float = CALL,
        connect_timeout: float = CONNECT,
        pool_size: int = _POOL,
    ) -> None:
        limits = checked_limits(connect_timeout, timeout, pool_size)
        self.patience = limits.patience
        self._cluster = Cluster(Server, servers, prefix, limits)

    def load(self, id: str, now: int) -> Record | None:
        server, key = self._cluster.place(id)
        return _live(server.ask(gets(key)), id, now)

    def create(self, record: Record, now: int) -> None:
        server, key = self._cluster.place(record.id)
        value, seconds = dump(record), _seconds(record, now)
        with _limit(self.patience):
            while server.ask(add(key, value, seconds)) != STORED:
                item = server.ask(gets(key))
                if item is None:
                    continue  # it went meanwhile
                if _live(item, record.id, now) is not None:
                    raise Collision(f"MemcachedStore: session {record.id} is there already")
                if server.ask(cas(key, value, seconds, item.token)) == STORED:
                    return

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        server, key = self._cluster.place(record.id)
        value, seconds = dump(record), _seconds(record, now)
        with _limit(self.patience):
            while True:  # until the time is up: only touches of this very revision can refuse it
                item = server.ask(gets(key))
                found = _live(item, record.id, now)
                if item is None or found is None:
                    return GONE
                if found.revision != expected:
                    return found
                if server.ask(cas(key, value, seconds, item.token)) == STORED:
                    return SAVED

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        server, key = self._cluster.place(id)
        with _limit(self.patience):
            while True:
                item = server.ask(gets(key))
                found = _live(item, id, now)
                if item is None or found is None or found.revision != revision:
                    return False
                touched = _touched(found, seen_at, expires_at)
                if touched == found:
                    return True
                value, seconds = dump(touched), _seconds(touched, now)
                if server.ask(cas(key, value, seconds, item.token)) == STORED:
                    return True

    def delete(self, id: str, now: int) -> bool:
        server, key = self._cluster.place(id)
        with _limit(self.patience):
            item = server.ask(gets(key))
            was_live = _live(item, id, now) is not None
            return server.ask(delete(key)) == DELETED and was_live

    def close(self) -> None:
        """Close every connection; using the store again opens others."""
        self._cluster.disconnect()


class AsyncMemcachedStore(_Kind):
    """`MemcachedStore` for asynchronous code."""

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        prefix: str = _PREFIX,
        timeout: float = CALL,
        connect_timeout: float = CONNECT,
        pool_size: int = _POOL,
    ) -> None:
        limits = checked_limits(connect_timeout, timeout, pool_size)
        self.patience = limits.patience
        self._cluster = Cluster(AsyncServer, servers, prefix, limits)

    async def load(self, id: str, now: int) -> Record | None:
        server, key = self._cluster.place(id)
        return _live(await server.ask(gets(key)), id, now)

    async def create(self, record: Record, now: int) -> None:
        server, key = self._cluster.place(record.id)
        value, seconds = dump(record), _seconds(record, now)
        with _limit(self.patience):
            while await server.ask(add(key, value, seconds)) != STORED:
                item = await server.ask(gets(key))
                if item is None:
                    continue  # it went meanwhile
                if _live(item, record.id, now) is not None:
                    raise Collision(f"MemcachedStore: session {record.id} is there already")
                if await server.ask(cas(key, value, seconds, item.token)) == STORED:
                    return

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        server, key = self._cluster.place(record.id)
        value, seconds = dump(record), _seconds(record, now)
        with _limit(self.patience):
            while True:  # until the time is up: only touches of this very revision can refuse it
                item = await server.ask(gets(key))
                found = _live(item, record.id, now)
                if item is None or found is None:
                    return GONE
                if found.revision != expected:
                    return found
                if await server.ask(cas(key, value, seconds, item.token)) == STORED:
                    return SAVED

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        server, key = self._cluster.place(id)
        with _limit(self.patience):
            while True:
                item = await server.ask(gets(key))
                found = _live(item, id, now)
                if item is None or found is None or found.revision != revision:
                    return False
                touched = _touched(found, seen_at, expires_at)
                if touched == found:
                    return True
                value, seconds = dump(touched), _seconds(touched, now)
                if await server.ask(cas(key, value, seconds, item.token)) == STORED:
                    return True

    async def delete(self, id: str, now: int) -> bool:
        server, key = self._cluster.place(id)
        with _limit(self.patience):
            item = await server.ask(gets(key))
            was_live = _live(item, id, now) is not None
            return await server.ask(delete(key)) == DELETED and was_live

    async def close(self) -> None:
        self._cluster.disconnect()


def _limit(seconds: float) -> patience.limit:
    """All round trips of one verb together take no longer than one may."""
    return patience.limit(patience.left(seconds))


def _live(item: Item | None, id: str, now: int) -> Record | None:
    """The record that the item holds, if it is alive; what cannot be read is as good as absent."""
    if item is None:
        return None
    try:
        record = read(item.value)
    except Unreadable:
        return None
    return record if record.id == id and record.expires_at > now else None


def _touched(found: Record, seen_at: int, expires_at: int) -> Record:
    return replace(
        found,
        seen_at=max(seen_at, found.seen_at),
        expires_at=max(expires_at, found.expires_at),
    )


def _seconds(record: Record, now: int) -> int:
    """How long the server is to keep it, as Memcached wants to be told; negative is not at all.

    Rounded up, and a second more, since the server counts from the last tick of its clock, which
    ticks once a second. As a date another second more, which it may be off from its own date. The
    record's own end decides, to the millisecond.
    """
    if record.expires_at <= now:
        return -1
    seconds = -((now - record.expires_at) // 1000) + 1
    return seconds if seconds <= _MONTH else min(int(time.time()) + seconds + 2, _LATEST)


def from_url(url: StoreURL) -> MemcachedStore:
    """memcached://host:11211,host:11211; timeout=0.5, connect_timeout=1, pool_size=16, prefix="""
    servers, prefix, limits = _parts(url)
    return MemcachedStore(
        servers,
        prefix=prefix,
        timeout=limits.call,
        connect_timeout=limits.connect,
        pool_size=limits.connections,
    )


def async_from_url(url: StoreURL) -> AsyncMemcachedStore:
    """memcached://host:11211"""
    servers, prefix, limits = _parts(url)
    return AsyncMemcachedStore(
        servers,
        prefix=prefix,
        timeout=limits.call,
        connect_timeout=limits.connect,
        pool_size=limits.connections,
    )


def _parts(url: StoreURL) -> tuple[list[str], str, Limits]:
    if url.path not in ("", "/") or url.user or url.password:
        url.refuse(
            "'memcached://host:11211,host:11211/'",
            "a URL with other parts",
            "leave them out: the store logs in nowhere",
        )
    servers = [_written(*host) for host in url.hosts] or ["localhost"]
    prefix = url.text("prefix", _PREFIX) or ""
    limits = Limits(
        url.seconds("connect_timeout", CONNECT),
        url.seconds("timeout", CALL),
        url.number("pool_size", _POOL),
    )
    return servers, prefix, limits


def _written(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"
