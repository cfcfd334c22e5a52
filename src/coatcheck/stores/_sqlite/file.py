"""The file of a `SQLiteStore`: looked at, created, and connected to.

A file that is not ours, or newer than this code, stays as it was, byte for byte: it is looked at
through a connection that cannot change it before anything else opens it. In WAL mode even a reader
would leave a `-wal` beside it, so a file that nobody has open is read as immutable. Files are only
ever read through SQLite, because closing any other descriptor of a file drops the POSIX locks that
this process holds on it; the one that creates a file is closed before SQLite first opens it.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from coatcheck.errors import ConfigurationError, StoreUnavailable

__all__ = ["Identity", "connect", "identity", "patiently", "prepare", "unavailable"]

T = TypeVar("T")
Identity = tuple[int, int]

_APPLICATION_ID = 0x436F6174  # "Coat"
_VERSION = 1
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS sessions (
        id TEXT NOT NULL PRIMARY KEY,
        revision BLOB NOT NULL,
        subject TEXT,
        login_at INTEGER,
        seen_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        payload BLOB NOT NULL
    )""",
    """CREATE INDEX IF NOT EXISTS sessions_by_subject
        ON sessions (subject) WHERE subject IS NOT NULL""",
    "CREATE INDEX IF NOT EXISTS sessions_by_expiry ON sessions (expires_at)",
    """CREATE TABLE IF NOT EXISTS marks (
        subject TEXT NOT NULL PRIMARY KEY,
        before INTEGER NOT NULL,
        keep TEXT,
        until INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS marks_by_until ON marks (until)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)
_SMALLEST = 512  # bytes of the smallest page
_PAUSE = 0.0005  # seconds between two tries
_LOOKS, _BETWEEN = 10, 0.02  # at what cannot be read, and the seconds between two
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN)  # as when another process closes it
_NO_DATABASE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked: end that, or raise timeout",
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_READONLY: "make it writable again",
}


def connect(file: str, how: str, timeout: float) -> sqlite3.Connection:
    # A URI, since only that opens without ever creating; as_uri quotes what has a meaning in it.
    return sqlite3.connect(
        f"{Path(file).as_uri()}?{how}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


class _Torn(ConfigurationError):
    """What is there cannot be read as a database, at this moment."""


def identity(file: str) -> Identity | None:
    """By which it is known from another of the same name; None where nothing is in reach."""
    with suppress(OSError):
        found = os.stat(file)
        return found.st_dev, found.st_ino
    return None


def prepare(file: str, timeout: float) -> Identity | None:
    """Create it where it is missing, and make it ours where it is empty. Which one that was.

    Raises `ConfigurationError` where it is anything else but ours. Nobody else in this process may
    open the file meanwhile.
    """
    deadline = time.monotonic() + timeout
    _create(file)
    this = identity(file)
    _check_access(file)
    ours = _look_again(file, deadline)
    with closing(connect(file, "mode=rw", timeout)) as connection:
        mode = patiently(lambda: _value(connection, "PRAGMA journal_mode = WAL"), deadline)
        if mode != "wal":
            raise _refusal(file, "a file system for WAL", f"journal mode {mode}", "a local disk")
        if not ours or not patiently(lambda: _is_complete(connection), deadline):
            _create_schema(connection, file, deadline)
    return this


def patiently(act: Callable[[], T], deadline: float) -> T:
    """Try until it works or the time is up.

    SQLite's own busy handler sleeps longer and longer, so that under load others are always
    faster; and where it sees a deadlock coming, as when ten processes start, it does not wait.
    """
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if _code(error) not in _PASSING or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def unavailable(file: str, error: Exception) -> StoreUnavailable:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    remedy = _REMEDIES.get(_code(error), "look at the file and its disk")
    return StoreUnavailable(f"SQLiteStore: expected {file} to work, got {error} ({name}); {remedy}")


def _create(file: str) -> None:
    """An empty file that only its owner can read; SQLite gives `-wal` and `-shm` its mode.

    Not beside those of another, which somebody is about to remove, or forgot.
    """
    others = [f"{file}{end}" for end in ("-wal", "-shm") if os.path.exists(f"{file}{end}")]
    if others and not os.path.exists(file):
        raise StoreUnavailable(
            f"SQLiteStore: expected {file} or nothing of it, got only {', '.join(others)}; "
            "remove that too, or put the file back"
        )
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _refusal(file, "its folder to exist", "none", "a folder made beforehand") from error
    except PermissionError as error:
        raise _read_only(file, "folder") from error


def _check_access(file: str) -> None:
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise _refusal(file, "a file", "something else", "the path of a file")
    effective = os.access in os.supports_effective_ids
    if not os.access(file, os.R_OK | os.W_OK, effective_ids=effective):
        raise _read_only(file, "file")
    if not os.access(os.path.dirname(file), os.W_OK | os.X_OK, effective_ids=effective):
        raise _read_only(file, "folder")


def _look_again(file: str, deadline: float) -> bool:
    """`_look`, and again where nothing can be read: while others create it, it may be torn."""
    for _ in range(_LOOKS):
        with suppress(_Torn):
            return patiently(lambda: _look(file), deadline)
        time.sleep(_BETWEEN)
    return patiently(lambda: _look(file), deadline)


def _look(file: str) -> bool:
    """Whether it is ours, or else empty; raises for anything else. Changes nothing whatever."""
    # In this order: processes that come and go at this moment have a -shm while their -wal grows.
    log, memory = _size(f"{file}-wal"), _size(f"{file}-shm")
    how = "immutable=1" if log is None or memory is None else "readonly_shm=1"
    try:
        with closing(connect(file, f"mode=ro&{how}", 0)) as connection:
            connection.execute("BEGIN")  # all answers from one moment
            ours = _is_ours(connection, file)
    except sqlite3.DatabaseError as error:
        if _code(error) not in _NO_DATABASE:
            raise
        raise _Torn(str(_not_ours(file, f"another ({error})"))) from error
    if not ours and 0 < (_size(file) or 0) < _SMALLEST:
        raise _not_ours(file, "a file too short for one")  # which SQLite may take for empty
    if not ours and log and memory is None:
        raise _not_ours(file, "one whose content is in its -wal")
    return ours


def _size(file: str) -> int | None:
    with suppress(FileNotFoundError):
        return os.path.getsize(file)
    return None


def _is_ours(connection: sqlite3.Connection, file: str) -> bool:
    application = _value(connection, "PRAGMA application_id")
    version = _value(connection, "PRAGMA user_version")
    tables = _value(connection, "SELECT count(*) FROM sqlite_master")
    if application == _APPLICATION_ID and version == _VERSION:
        return True
    if application == _APPLICATION_ID:
        raise _refusal(
            file, f"sessions of version {_VERSION}", f"version {version}", "a newer coatcheck"
        )
    if application or version or tables:
        raise _not_ours(file, f"one of application {application:#x}, tables and indexes: {tables}")
    return False


def _is_complete(connection: sqlite3.Connection) -> bool:
    """Whether it has the newest table; what lacks it alone was made before logins were checked."""
    tables: int = _value(connection, "SELECT count(*) FROM sqlite_master WHERE name = 'marks'")
    return tables > 0


def _create_schema(connection: sqlite3.Connection, file: str, deadline: float) -> None:
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
    if _is_ours(connection, file) and _is_complete(connection):  # another process was faster
        return
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute("COMMIT")


def _value(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchall()[0][0]


def _code(error: Exception) -> int:
    """The primary result code; the higher bits only say more of the same."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _not_ours(file: str, got: str) -> ConfigurationError:
    return _refusal(file, "a database of sessions", got, "a path where nothing is yet")


def _read_only(file: str, what: str) -> ConfigurationError:
    return _refusal(
        file, f"a {what} to write to", "one that is read-only", "one that this user can write to"
    )


def _refusal(file: str, expected: str, got: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"SQLiteStore: expected {expected}, got {got} for {file} (left as it was); use {remedy}"
    )
