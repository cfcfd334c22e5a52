"""Sessions in Memcached: fast, shared by many machines, and forgotten when memory is short.

A session is one value, `coatcheck.record.dump` of its record, under its id. What compares and
replaces is Memcached's own `cas`: the value is read with a token, its revision and its end are
looked at here, and it is written only if the token is still that value's. A refused `cas` changed
nothing, so it may be tried again; a write whose answer was lost is never repeated.

What it cannot promise: Memcached evicts what was not used for long when it is full, and keeps
nothing over a restart. Whose session is forgotten is logged out. It never brings one back.

One client, pymemcache, serves both twins, and asynchronous calls go to threads: aiomcache, the one
for event loops, puts a connection back on which half an answer may still arrive when its caller was
cancelled, and never returns from one that ends within a line.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from coatcheck import patience
from coatcheck.errors import Collision
from coatcheck.record import NewerFormat, Record, Unreadable, dump
from coatcheck.record import load as read
from coatcheck.store import GONE, SAVED, Gone, Saved
from coatcheck.stores._url import CALL, CONNECT, StoreURL, missing_driver

try:
    from pymemcache import Client  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise missing_driver(__name__, "memcached", error) from error
from coatcheck.stores._memcached.cluster import AnyClient, Cluster, checked_limits
from coatcheck.stores._memcached.server import Item, Turns

__all__ = ["AsyncMemcachedStore", "MemcachedStore", "async_from_url", "from_url"]

T = TypeVar("T")

_MONTH = 30 * 86_400
"""Memcached takes a larger number of seconds for a time of day."""

_LATEST = 2**31 - 1

_PREFIX = "coatcheck:"
_POOL = 16
_PORT = 11211


class _Kind:
    shared = True
    """Other processes see what this one keeps, if they name the same servers."""
    evicts = True
    """It may forget live records: when a server is full, or restarts."""
    why_not = "Memcached cannot list its keys"
    """Why it is not `Listable`."""


class MemcachedStore(_Kind):
    """Thread-safe, and safe to fork.

    Of the client, a `pymemcache.Client`, or several of them in any order, only the server's address
    and TLS are taken; the connections are the store's own. `prefix` begins every key. `timeout` is
    how many seconds a server may take to answer, `connect_timeout` to be connected to; `pool_size`
    bounds the connections to each server.
    """

    def __init__(
        self,
        client: AnyClient | Sequence[AnyClient],
        *,
        prefix: str = _PREFIX,
        timeout: float = CALL,
        connect_timeout: float = CONNECT,
        pool_size: int = _POOL,
    ) -> None:
        limits = checked_limits(connect_timeout, timeout, pool_size)
        self.patience = limits.patience
        self._cluster = Cluster(client, prefix, limits)

    def load(self, id: str, now: int) -> Record | None:
        server, key = self._cluster.place(id)
        return _live(server.gets(key), id, now)

    def create(self, record: Record, now: int) -> None:
        server, key = self._cluster.place(record.id)
        value, seconds = dump(record), _seconds(record, now)
        with _limit(self.patience):
            while not server.add(key, value, seconds):
                item = server.gets(key)
                if item is None:
                    continue  # it went meanwhile
                if _live(item, record.id, now) is not None:
                    raise Collision(f"MemcachedStore: session {record.id} is there already")
                if server.cas(key, value, item[1], seconds):
                    return

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        server, key = self._cluster.place(record.id)
        value, seconds = dump(record), _seconds(record, now)
        with _limit(self.patience):
            while True:  # until the time is up: only touches of this very revision can refuse it
                item = server.gets(key)
                found = _live(item, record.id, now)
                if item is None or found is None:
                    return GONE
                if found.revision != expected:
                    return found
                if server.cas(key, value, item[1], seconds):
                    return SAVED

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        server, key = self._cluster.place(id)
        with _limit(self.patience):
            while True:
                item = server.gets(key)
                found = _live(item, id, now)
                if item is None or found is None or found.revision != revision:
                    return False
                touched = _touched(found, seen_at, expires_at)
                if touched == found:
                    return True
                value, seconds = dump(touched), _seconds(touched, now)
                if server.cas(key, value, item[1], seconds):
                    return True

    def delete(self, id: str, now: int) -> bool:
        server, key = self._cluster.place(id)
        with _limit(self.patience):
            item = server.gets(key)
            try:
                was_live = _live(item, id, now) is not None
            except NewerFormat:
                was_live = True  # it ends all the same
            return server.delete(key) and was_live

    def close(self) -> None:
        """Close every connection; using the store again opens others."""
        self._cluster.close()


class AsyncMemcachedStore(_Kind):
    """`MemcachedStore` for asynchronous code, made of one, or of what makes one.

    What one turn of an event loop asks shares a few threads, which wait for the servers.
    """

    def __init__(
        self,
        client: AnyClient | Sequence[AnyClient] | MemcachedStore,
        *,
        prefix: str = _PREFIX,
        timeout: float = CALL,
        connect_timeout: float = CONNECT,
        pool_size: int = _POOL,
    ) -> None:
        if not isinstance(client, MemcachedStore):
            client = MemcachedStore(
                client,
                prefix=prefix,
                timeout=timeout,
                connect_timeout=connect_timeout,
                pool_size=pool_size,
            )
        self.memcached = client
        self.patience = client.patience
        self._turns = {server: Turns(server) for server in client._cluster.servers}

    async def load(self, id: str, now: int) -> Record | None:
        server, key = self.memcached._cluster.place(id)
        return _live(await self._turns[server].gets(key), id, now)

    async def create(self, record: Record, now: int) -> None:
        await self._do(record.id, partial(self.memcached.create, record, now))

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        return await self._do(record.id, partial(self.memcached.save, record, expected, now))

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        touch = partial(self.memcached.touch, id, revision, seen_at, expires_at, now)
        return await self._do(id, touch)

    async def delete(self, id: str, now: int) -> bool:
        return await self._do(id, partial(self.memcached.delete, id, now))

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for turns in self._turns.values():
            turns.stop()
        self.memcached.close()

    async def _do(self, id: str, work: Callable[[], T]) -> T:
        server, _ = self.memcached._cluster.place(id)
        return await self._turns[server].do(work)


def _limit(seconds: float) -> patience.limit:
    """All round trips of one verb together take no longer than one may."""
    return patience.limit(patience.left(seconds))


def _live(item: Item | None, id: str, now: int) -> Record | None:
    """The record that the item holds, if it is alive; what cannot be read is as good as absent."""
    if item is None:
        return None
    try:
        record = read(item[0])
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
    if url.path not in ("", "/") or url.user or url.password:
        url.refuse(
            "'memcached://host:11211,host:11211/'",
            "a URL with other parts",
            "leave them out: the store logs in nowhere",
        )
    clients = [Client((host, port or _PORT)) for host, port in url.hosts or [("localhost", None)]]
    return MemcachedStore(
        clients,
        prefix=url.text("prefix", _PREFIX) or "",
        timeout=url.seconds("timeout", CALL),
        connect_timeout=url.seconds("connect_timeout", CONNECT),
        pool_size=url.number("pool_size", _POOL),
    )


def async_from_url(url: StoreURL) -> AsyncMemcachedStore:
    """memcached://host:11211"""
    return AsyncMemcachedStore(from_url(url))
