"""Stores filled with very many sessions, by the driver's bulk way into the store's own format.

That format is taken from the store's module, never written down again: its statement, its columns,
its commands. Half of the sessions expire at `SOON`; the sweep comes at that moment.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast
from uuid import UUID

import psycopg
import redis.asyncio
from msgspec.structs import astuple

from benchmarks import services
from benchmarks.records import NOW, SOON
from coatcheck import AsyncSessions
from coatcheck.record import Record
from coatcheck.store import AsyncStore
from coatcheck.stores import async_from_url
from coatcheck.stores import postgres as postgres_store
from coatcheck.stores import redis as redis_store
from coatcheck.stores import sqlite as sqlite_store
from coatcheck.stores._postgres.rows import hour_of
from coatcheck.stores._postgres.statements import WRITTEN
from coatcheck.stores._redis.commands import Raw
from coatcheck.stores._redis.value import indexed_until
from coatcheck.stores._sqlite import verbs

__all__ = ["KINDS", "Filled"]

_PATIENT = "timeout=60"
_TABLE = postgres_store._TABLE
_TYPES = ("uuid", "bytea", "text", "int8", "int8", "int8", "bytea", "int4")
_BATCH = 1000
_LEAD, _EXPIRING = 0.2, 40_000  # seconds, and then keys a second, to say when Redis' keys end
_LONGEST = 600.0  # seconds
_PAUSE = 0.05  # seconds between two looks at how many keys Redis still has


class Filled(Protocol):
    """One store. `fill` comes first, then `size`, what it takes in bytes; then half of it expires:
    `expire` prepares that, and `sweep` removes it and says how many sessions it were."""

    store: AsyncStore

    def fill(self, made: Iterable[Record]) -> None: ...
    def size(self) -> int: ...
    def expire(self) -> None: ...
    async def sweep(self) -> int: ...


class _Swept:
    """A store that is swept as a site does it."""

    def __init__(self, url: str) -> None:
        self.store = cast("AsyncStore", async_from_url(f"{url}?{_PATIENT}"))

    def expire(self) -> None:
        """It does by itself: the sweep's clock has gone on."""

    async def sweep(self) -> int:
        return await AsyncSessions(self.store, clock=lambda: SOON / 1000).sweep()


class _SQLite(_Swept):
    """One transaction of the store's own statement that writes."""

    def __init__(self, path: str) -> None:
        super().__init__(f"sqlite:///{path}")
        self._path = path

    def fill(self, made: Iterable[Record]) -> None:
        sqlite_store.SQLiteStore(self._path).sweep(0, NOW)  # which creates the file
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            for each in made:
                verbs.put(connection, each)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def size(self) -> int:
        return os.path.getsize(self._path)


class _Postgres(_Swept):
    """COPY into the store's own table, which is then as vacuumed as a table that lives."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._connection = psycopg.connect(url, autocommit=True)

    def fill(self, made: Iterable[Record]) -> None:
        self._connection.execute(postgres_store.schema().encode())
        columns = ", ".join(WRITTEN)
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {_TABLE} ({columns}) FROM STDIN (FORMAT BINARY)".encode()) as copy,
        ):
            copy.set_types(_TYPES)
            for each in made:
                copy.write_row((UUID(each.id), *astuple(each)[1:], hour_of(each.expires_at)))
        self._connection.execute("VACUUM (ANALYZE)")
        self._connection.execute("CHECKPOINT")

    def size(self) -> int:
        """The table with its indexes."""
        found = self._connection.execute("SELECT pg_total_relation_size(%s)", (_TABLE,)).fetchone()
        assert found is not None
        return int(found[0])

    def close(self) -> None:
        self._connection.close()


class _Redis:
    """Pipelines of the commands that the store sends for a new session.

    Sessions that expire at once could not all be created at once, so the server is told their last
    moment before it comes; and that of their subjects' indexes, which else would outlive them.
    """

    def __init__(self, url: str) -> None:
        made = async_from_url(f"{url}?{_PATIENT}")
        assert isinstance(made, redis_store.AsyncRedisStore)
        self.store: AsyncStore = made
        self._commands = made._commands
        self._url = url
        self._client = redis.Redis.from_url(url)
        self._empty = self._used()
        self._ending: list[bytes] = []
        self._lasting = 0

    def fill(self, made: Iterable[Record]) -> None:
        self._send(self._creating(made))

    def size(self) -> int:
        return self._used() - self._empty

    def expire(self) -> None:
        """Returns in the last moment."""
        self._lasting = int(cast("Any", self._client.dbsize())) - len(self._ending)
        moment = time.time() + _LEAD + len(self._ending) / _EXPIRING
        self._send((b"PEXPIREAT", key, int(moment * 1000)) for key in self._ending)
        time.sleep(moment - time.time())

    async def sweep(self) -> int:
        """The server does it; this one waits until nothing is left of what expired."""
        async with asyncio.timeout(_LONGEST), redis.asyncio.Redis.from_url(self._url) as client:
            while await client.dbsize() > self._lasting:
                await asyncio.sleep(_PAUSE)
        return len(self._ending) // 2

    def _creating(self, made: Iterable[Record]) -> Iterator[Raw]:
        whole = True  # the first ones bring their scripts along
        for each in made:
            assert each.subject is not None
            until = indexed_until(each.seen_at, each.expires_at)
            index = self._commands.index(each.subject, each.id, until, NOW)
            record = self._commands.add(each, until, NOW)
            if each.expires_at <= SOON:
                self._ending += [index.key, record.key]
            yield index.raw(whole)
            yield record.raw(whole)
            whole = False

    def _send(self, commands: Iterator[Raw]) -> None:
        connection: Any = self._client.connection_pool.get_connection()
        while batch := list(islice(commands, _BATCH)):
            connection.send_packed_command(connection.pack_commands(batch))
            for _ in batch:
                connection.read_response()
        self._client.connection_pool.release(connection)

    def close(self) -> None:
        self._client.close()

    def _used(self) -> int:
        used: Any = self._client.info("memory")
        return int(used["used_memory"])


def _sqlite(folder: Path, stack: ExitStack, name: str) -> Filled:
    return _SQLite(f"{folder}/{name}.sqlite3")


def _postgres(folder: Path, stack: ExitStack, name: str) -> Filled:
    made = _Postgres(stack.enter_context(services.postgres()))
    stack.callback(made.close)
    return made


def _redis(folder: Path, stack: ExitStack, name: str) -> Filled:
    made = _Redis(stack.enter_context(services.redis()))
    stack.callback(made.close)
    return made


KINDS: dict[str, Callable[[Path, ExitStack, str], Filled]] = {
    "SQLite": _sqlite,
    "PostgreSQL": _postgres,
    "Redis": _redis,
}
"""How one is made: what it keeps in files is in the folder, under that name."""
