"""This process's connections to one SQLite file.

**Reads** borrow a connection from a pool, which holds as many as ever read at the same time; it
belongs to no thread, so threads that end leave nothing behind. **Writes** take turns on one
connection: threads wait for a lock, processes for SQLite's own, and one time-out covers both waits.
The lock is first come, first served; of sixty-four threads that never pause, a plain one starves
some beyond the time-out.

**Forks.** SQLite remembers in memory which locks its process holds on a file. A child inherits that
memory but not the locks, so that connections it opens itself rely on locks that nobody holds: the
next process to close the file takes itself for the last and removes the log that the child still
writes to. To forget inherited connections is therefore not enough, there must be none: all are
closed before a fork, and opened again on both sides when needed. Where one stays busy for too long,
or a program in C forks without asking, the child never touches it, and refuses to use that file.

**Removal.** A file that was removed, or replaced by another, would go on unseen in whoever has it
open. So each write looks whether it is there still, a read once a second, and both let go of what
they have open if it is not.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

from coatcheck import forks
from coatcheck.errors import StoreUnavailable
from coatcheck.stores._fair_lock import FairLock
from coatcheck.stores._sqlite import file
from coatcheck.stores._sqlite.openings import Openings
from coatcheck.stores._sqlite.pool import Pool

__all__ = ["Database", "Work"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_NORMAL = ("PRAGMA synchronous = NORMAL",)
_FULL = ("PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON")  # the second matters on macOS
_PATIENCE = 2.0  # seconds that a fork waits for connections in use
_PAUSE = 0.0005
_SOON = 1.0  # seconds after which a read looks again whether the file is still there


class Database:
    """Opened on first use, closed by `close`, and usable again after that. Thread-safe."""

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._file = path
        self._identity: file.Identity | None = None
        self._look_at = 0.0
        self._start()
        _forks.databases.add(self)

    def _start(self) -> None:
        self._writing = FairLock()
        self._writer: sqlite3.Connection | None = None
        self._writes_to: file.Identity | None = None
        self._level: tuple[str, ...] = ()
        self._readers = Pool(set())

    @property
    def ready(self) -> bool:
        """Whether the file was looked at, and is there still."""
        if time.monotonic() >= self._look_at:
            self._look_again()
        return self._identity is not None

    def read(self, statement: str, parameters: tuple[object, ...]) -> list[Any]:
        """All rows at once, so that no read transaction outlives the call."""
        forks.notice()
        if time.monotonic() >= self._look_at:
            self._look_again()
        readers = self._readers
        try:
            connection = readers.idle.pop()
        except IndexError:
            connection = self._open_reader(readers)
        try:
            return connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise file.unavailable(self.path, error) from error
        finally:
            readers.idle.append(connection)
            if len(readers.idle) > readers.most:
                readers.trim()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Everything that is done inside, or nothing; on the disk when it ends, if `durable`."""
        forks.notice()
        deadline = time.monotonic() + self.timeout
        writing = self._writing
        self._acquire(writing)
        try:
            connection = self._begin(_FULL if durable else _NORMAL, deadline)
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise file.unavailable(self.path, error) from error
        except BaseException:
            self._roll_back()
            raise
        finally:
            writing.release()

    def attempt(self, work: Work[T], connection: sqlite3.Connection) -> T | Exception:
        """The work's answer, or its own error; raises one that ended the whole transaction."""
        try:
            return work(connection)
        except sqlite3.Error as error:
            if not connection.in_transaction:
                raise
            return file.unavailable(self.path, error)
        except Exception as error:  # noqa: BLE001 - it is the caller's own
            return error

    def prepare(self) -> None:
        """Look at the file, or create it. Raises `ConfigurationError` where it is not for us."""
        with self._allowed_to_open():
            pass

    def close(self) -> None:
        """Close every connection; those that read are closed when they come back."""
        forks.notice()
        writing = self._writing
        writing.acquire()
        self._drop_writer()
        writing.release()
        with _forks.closing:
            self._identity = None
            self._renew_readers()

    def __del__(self) -> None:
        # Nobody else knows this object any more, but a fork must not come in between. Whoever
        # holds that lock waits for no other, so it is safe wherever garbage is collected.
        forks.notice()
        with _forks.closing:
            self._drop_writer()
            self._readers.close()

    def _begin(self, level: tuple[str, ...], deadline: float) -> sqlite3.Connection:
        self._look_again()
        if self._writes_to != self._identity:
            self._drop_writer()
        connection = self._writer or self._open_writer()

        def begin() -> None:
            if self._level is not level:
                for statement in level:
                    connection.execute(statement)
                self._level = level
            connection.execute("BEGIN IMMEDIATE")

        file.patiently(begin, deadline)
        return connection

    def _roll_back(self) -> None:
        # The connection stays where it can: on a full disk, its files could not be made again.
        try:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop_writer()

    def _drop_writer(self) -> None:
        connection, self._writer, self._level = self._writer, None, ()
        if connection is not None:
            connection.close()

    def _look_again(self) -> None:
        """Let go of a file that was removed or replaced."""
        self._look_at = time.monotonic() + _SOON
        if self._identity not in (None, file.identity(self._file)):
            with _forks.closing:
                self._identity = None
                self._renew_readers()

    def _renew_readers(self) -> None:
        """Whoever calls this holds `_forks.closing`."""
        readers, self._readers = self._readers, Pool(self._readers.all)
        readers.close()

    def _open_writer(self) -> sqlite3.Connection:
        with self._allowed_to_open():
            # Without SQLite's own waiting, since `_begin` waits better.
            self._writer = file.connect(self._file, "mode=rw", 0)
            self._writes_to = self._identity
            return self._writer

    def _open_reader(self, readers: Pool) -> sqlite3.Connection:
        with self._allowed_to_open():
            connection = file.connect(self._file, "mode=rw", self.timeout)
            readers.all.add(connection)
            return connection

    @contextmanager
    def _allowed_to_open(self) -> Iterator[None]:
        self._look_again()
        if not self.ready:
            self._file = os.path.realpath(self.path)
        name, openings = self._file, _forks.openings
        if name in _forks.lost:
            raise StoreUnavailable(
                f"SQLiteStore: expected {self.path} to be closed during a fork, got a connection "
                "that stayed open; fork before the store is used (uWSGI: lazy-apps = true)"
            )
        turn = openings.begin(name, self.timeout)
        if turn is None:
            raise self._no_turn()
        try:
            if not self.ready:
                self._identity = file.prepare(name, self.timeout)
            yield
        except (sqlite3.Error, OSError) as error:
            raise file.unavailable(self.path, error) from error
        finally:
            openings.end(name, turn)

    def _acquire(self, lock: FairLock) -> None:
        if not lock.acquire(timeout=self.timeout):
            raise self._no_turn()

    def _no_turn(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"SQLiteStore: expected its turn at {self.path} within {self.timeout} s, got none, "
            "as other threads keep it busy; raise timeout, or look at the disk"
        )


class _Forks:
    """Nothing is open, and nothing can be opened, from `before` until after the fork."""

    def __init__(self) -> None:
        self.databases: WeakSet[Database] = WeakSet()
        self.lost: set[str] = set()  # files that a parent had open when this process was forked
        self._graveyard: list[object] = []
        self._start()

    def _start(self) -> None:
        self.openings = Openings()
        self.closing = threading.RLock()  # for connections and pools that nobody uses any more
        self._forking = threading.Lock()
        self._leaving: list[Database] = []
        self._held: list[FairLock] = []

    def before(self) -> None:
        self._forking.acquire()
        deadline = time.monotonic() + _PATIENCE
        self._leaving = list(self.databases)
        locks = [database._writing for database in self._leaving]
        self._held = [
            lock for lock in locks if lock.acquire(timeout=max(0, deadline - time.monotonic()))
        ]
        self.openings.stop(deadline)
        for database in self._leaving:
            database._readers.close()
            if database._writing in self._held:
                database._drop_writer()
        while any(self._open(database) for database in self._leaving):
            if time.monotonic() >= deadline:
                break
            time.sleep(_PAUSE)
        self.closing.acquire()

    def in_parent(self) -> None:
        for database in self._leaving:
            database._renew_readers()
        self.closing.release()
        self.openings.go_on()
        for lock in self._held:
            lock.release()
        self._leaving, self._held = [], []
        self._forking.release()

    def in_child(self) -> None:
        self.lost.update(self.openings.files)
        for database in list(self.databases):
            left = self._open(database)
            if left:
                self.lost.add(database._file)
            self._bury(left)
            database._start()
        self._start()

    def _open(self, database: Database) -> list[sqlite3.Connection]:
        writers = [] if database._writer is None else [database._writer]
        return [*database._readers.all, *writers]

    def _bury(self, connections: list[sqlite3.Connection]) -> None:
        """Keep them from being closed, even at the end of the interpreter."""
        if connections:
            import ctypes

            self._graveyard.append(connections)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connections))


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_parent=_forks.in_parent)
forks.in_child(_forks.in_child)
