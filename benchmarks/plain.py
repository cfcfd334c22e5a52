"""The drivers without a store, used the plain way: the least that a careful user would write.

One command for each load and each save, awaited where it is called; a value of the same size, under
a key that expires, or in a row beside its expiry. No comparing of revisions, no index but the
primary key, no time-outs beyond the driver's own.
"""

import sqlite3
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiomcache
import aiosqlite
import asyncpg
import psycopg
import pymemcache  # type: ignore[import-untyped]
import redis.asyncio

from benchmarks.records import NOW

__all__ = [
    "AiomcachePlain",
    "AiosqlitePlain",
    "AsyncPlain",
    "AsyncRedisPlain",
    "AsyncpgPlain",
    "Plain",
    "PsycopgPlain",
    "PymemcachePlain",
    "RedisPlain",
    "SQLitePlain",
]

_SCHEMA = "CREATE TABLE plain (id TEXT PRIMARY KEY, data {bytes} NOT NULL, expires_at {int})"
_SQLITE_SCHEMA = _SCHEMA.format(bytes="BLOB", int="INTEGER NOT NULL")
_POSTGRES_SCHEMA = _SCHEMA.format(bytes="BYTEA", int="BIGINT NOT NULL")
_POOL = 8


class Plain(Protocol):
    """`create` is for filling, before anything is measured."""

    def create(self, id: str, data: bytes, expires_at: int) -> None: ...
    def load(self, id: str) -> bytes | None: ...
    def save(self, id: str, data: bytes, expires_at: int) -> None: ...
    def close(self) -> None: ...


class AsyncPlain(Protocol):
    """`open` comes first, within the event loop that all the rest runs in."""

    async def open(self) -> None: ...
    async def create(self, id: str, data: bytes, expires_at: int) -> None: ...
    async def load(self, id: str) -> bytes | None: ...
    async def save(self, id: str, data: bytes, expires_at: int) -> None: ...
    async def close(self) -> None: ...


class SQLitePlain:
    """sqlite3: one connection in WAL mode, each save a transaction of its own."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(_SQLITE_SCHEMA)

    def create(self, id: str, data: bytes, expires_at: int) -> None:
        self._connection.execute("INSERT INTO plain VALUES (?, ?, ?)", (id, data, expires_at))

    def load(self, id: str) -> bytes | None:
        statement = "SELECT data FROM plain WHERE id = ?"
        row = self._connection.execute(statement, (id,)).fetchone()
        return None if row is None else row[0]

    def save(self, id: str, data: bytes, expires_at: int) -> None:
        statement = "UPDATE plain SET data = ?, expires_at = ? WHERE id = ?"
        self._connection.execute(statement, (data, expires_at, id))

    def close(self) -> None:
        self._connection.close()


class AiosqlitePlain:
    """aiosqlite: one connection in WAL mode, an update and a commit for each save."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def open(self) -> None:
        self._connection = await aiosqlite.connect(self._path)
        await self._connection.execute("PRAGMA synchronous = NORMAL")

    async def create(self, id: str, data: bytes, expires_at: int) -> None:
        await self._connection.execute("INSERT INTO plain VALUES (?, ?, ?)", (id, data, expires_at))
        await self._connection.commit()

    async def load(self, id: str) -> bytes | None:
        statement = "SELECT data FROM plain WHERE id = ?"
        async with self._connection.execute(statement, (id,)) as cursor:
            row = await cursor.fetchone()
        return None if row is None else row[0]

    async def save(self, id: str, data: bytes, expires_at: int) -> None:
        statement = "UPDATE plain SET data = ?, expires_at = ? WHERE id = ?"
        await self._connection.execute(statement, (data, expires_at, id))
        await self._connection.commit()

    async def close(self) -> None:
        await self._connection.close()


class RedisPlain:
    """redis-py with its default pool: GET, and SET with PX."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)

    def create(self, id: str, data: bytes, expires_at: int) -> None:
        self.save(id, data, expires_at)

    def load(self, id: str) -> bytes | None:
        data: Any = self._client.get(f"plain:{id}")
        return data  # type: ignore[no-any-return]

    def save(self, id: str, data: bytes, expires_at: int) -> None:
        self._client.set(f"plain:{id}", data, px=expires_at - NOW)

    def close(self) -> None:
        self._client.close()


class AsyncRedisPlain:
    """redis-py's asyncio client with its default pool: GET, and SET with PX."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._client = redis.asyncio.Redis.from_url(self._url)

    async def create(self, id: str, data: bytes, expires_at: int) -> None:
        await self.save(id, data, expires_at)

    async def load(self, id: str) -> bytes | None:
        data: Any = await self._client.get(f"plain:{id}")
        return data  # type: ignore[no-any-return]

    async def save(self, id: str, data: bytes, expires_at: int) -> None:
        await self._client.set(f"plain:{id}", data, px=expires_at - NOW)

    async def close(self) -> None:
        await self._client.aclose()


class PsycopgPlain:
    """psycopg: one connection, each save a transaction of its own."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(_POSTGRES_SCHEMA)

    def create(self, id: str, data: bytes, expires_at: int) -> None:
        self._connection.execute("INSERT INTO plain VALUES (%s, %s, %s)", (id, data, expires_at))

    def load(self, id: str) -> bytes | None:
        row = self._connection.execute("SELECT data FROM plain WHERE id = %s", (id,)).fetchone()
        return None if row is None else row[0]

    def save(self, id: str, data: bytes, expires_at: int) -> None:
        statement = "UPDATE plain SET data = %s, expires_at = %s WHERE id = %s"
        self._connection.execute(statement, (data, expires_at, id))

    def close(self) -> None:
        self._connection.close()


class AsyncpgPlain:
    """asyncpg: a pool of 8 connections, each save a transaction of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self._url, min_size=_POOL, max_size=_POOL)

    async def create(self, id: str, data: bytes, expires_at: int) -> None:
        await self._pool.execute("INSERT INTO plain VALUES ($1, $2, $3)", id, data, expires_at)

    async def load(self, id: str) -> bytes | None:
        data: bytes | None = await self._pool.fetchval("SELECT data FROM plain WHERE id = $1", id)
        return data

    async def save(self, id: str, data: bytes, expires_at: int) -> None:
        statement = "UPDATE plain SET data = $1, expires_at = $2 WHERE id = $3"
        await self._pool.execute(statement, data, expires_at, id)

    async def close(self) -> None:
        await self._pool.close()


class PymemcachePlain:
    """pymemcache: one connection."""

    def __init__(self, url: str) -> None:
        self._client = pymemcache.Client(_host(url))

    def create(self, id: str, data: bytes, expires_at: int) -> None:
        self.save(id, data, expires_at)

    def load(self, id: str) -> bytes | None:
        data: bytes | None = self._client.get(f"plain:{id}")
        return data

    def save(self, id: str, data: bytes, expires_at: int) -> None:
        self._client.set(f"plain:{id}", data, expire=_seconds(expires_at), noreply=False)

    def close(self) -> None:
        self._client.close()


class AiomcachePlain:
    """aiomcache with its default pool."""

    def __init__(self, url: str) -> None:
        self._host, self._port = _host(url)

    async def open(self) -> None:
        self._client = aiomcache.Client(self._host, self._port)

    async def create(self, id: str, data: bytes, expires_at: int) -> None:
        await self.save(id, data, expires_at)

    async def load(self, id: str) -> bytes | None:
        return await self._client.get(b"plain:" + id.encode())

    async def save(self, id: str, data: bytes, expires_at: int) -> None:
        await self._client.set(b"plain:" + id.encode(), data, exptime=_seconds(expires_at))

    async def close(self) -> None:
        await self._client.close()


def _seconds(expires_at: int) -> int:
    return (expires_at - NOW) // 1000


def _host(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
