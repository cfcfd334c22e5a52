"""Stores filled with very many sessions, by the driver's bulk way into the store's own format.

That format is taken from the store's module, never written down again: its statement, its columns,
its encoding. Sessions that expire at `SOON` have expired at the moment of `sweep`.
"""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

from msgspec.structs import astuple

from benchmarks.records import NOW, SOON
from coatcheck import AsyncSessions
from coatcheck.record import Record
from coatcheck.store import AsyncStore
from coatcheck.stores import sqlite as sqlite_store

__all__ = ["Filled", "sqlite"]

_PATIENCE = 60.0


class Filled(Protocol):
    """One store. `fill` comes first, then `size`, what it takes in bytes; `sweep` comes last."""

    store: AsyncStore

    def fill(self, records: Iterable[Record]) -> None: ...
    def size(self) -> int: ...
    async def sweep(self) -> int: ...


async def _swept(store: AsyncStore) -> int:
    return await AsyncSessions(store, clock=lambda: SOON / 1000).sweep()


class _SQLite:
    """One transaction of the store's own statement that creates."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.store: AsyncStore = sqlite_store.AsyncSQLiteStore(path, timeout=_PATIENCE)

    def fill(self, records: Iterable[Record]) -> None:
        sqlite_store.SQLiteStore(self._path).sweep(0, NOW)  # which creates the file
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            rows = ((*astuple(each), NOW) for each in records)
            connection.executemany(sqlite_store._CREATE, rows)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def size(self) -> int:
        return os.path.getsize(self._path)

    async def sweep(self) -> int:
        return await _swept(self.store)


def sqlite(folder: Path, stack: ExitStack, name: str) -> Filled:
    return _SQLite(f"{folder}/{name}.sqlite3")
