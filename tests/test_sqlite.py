"""What is special to SQLite: files, locks, full disks, forks, threads, processes, group commit.

Locks, limits, forks and kills are real. A child of a fork answers through a pipe.
"""

import asyncio
import gc
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from coatcheck.errors import Collision, ConfigurationError, StoreUnavailable
from coatcheck.record import Record
from coatcheck.store import (
    FORBIDDEN,
    GONE,
    SAVED,
    AsyncListable,
    AsyncStore,
    AsyncSweepable,
    Entered,
    Entry,
    Listable,
    Store,
    Sweepable,
)
from coatcheck.stores._fair_lock import FairLock
from coatcheck.stores._sqlite import database, writer
from coatcheck.stores._sqlite.pool import MOST_IDLE
from coatcheck.stores.sqlite import AsyncSQLiteStore, SQLiteStore
from tests.forks import (
    acknowledged,
    all_at_once,
    c_fork,
    fork,
    forks_beside_threads,
    in_child,
)
from tests.threads import no_threads

T = TypeVar("T")

NOW = 1_700_000_000_000
LATER = NOW + 3_600_000


def an_id(number: int) -> str:
    return f"{number:032x}"


def a_record(number: int = 1, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "id": an_id(number),
        "revision": b"one",
        "subject": "user:42",
        "login_at": NOW - 5,
        "seen_at": NOW,
        "expires_at": LATER,
        "payload": bytes(range(256)),
    }
    return Record(**(fields | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path, timeout=10)) as opened:
        yield opened


def run(store: AsyncSQLiteStore, use: Callable[[AsyncSQLiteStore], Awaitable[T]]) -> T:
    """Use the store in an event loop of its own, and close it there."""

    async def main() -> T:
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def answered(call: Awaitable[object]) -> object:
    """The answer of a verb that answers nothing."""
    return await call


async def turn(*tasks: asyncio.Future[Any]) -> None:
    """Let the tasks run until each of them waits for something."""
    await asyncio.wait(tasks, timeout=0)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads look each time whether the file is still there."""
    monkeypatch.setattr(database, "_SOON", 0.0)


def remove(path: Path) -> None:
    for end in ("", "-shm", "-wal"):
        path.with_name(path.name + end).unlink(missing_ok=True)


@contextmanager
def opening(path: Path) -> Iterator[Path]:
    """A file that a thread is opening all the time, since another process keeps it locked."""
    store = SQLiteStore(path, timeout=60)
    thread = threading.Thread(target=store.load, args=(an_id(1), NOW))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        thread.start()
        while str(path) not in database._forks.openings.files:
            os.sched_yield()
        yield path
        other.execute("ROLLBACK")
    thread.join()
    store.close()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another's connection that holds the lock for writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        other.execute("ROLLBACK")


def descriptors(folder: Path) -> list[str]:
    """What this process has open in that folder."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(name for name in found if name.startswith(f"{folder}/"))


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder, with mode and content."""
    return {
        file.name: (file.stat().st_mode, file.read_bytes()) for file in sorted(folder.iterdir())
    }


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as other:
        verdict: str = other.execute("PRAGMA integrity_check").fetchone()[0]
    return verdict


class TestVerbs:
    """The contract in short; the shared contract tests ask for all of it."""

    def test_protocols(self, store: SQLiteStore) -> None:
        """Both stores can do what they say, and say that others see what they keep."""
        twin = AsyncSQLiteStore(store)
        assert isinstance(store, Store) and isinstance(store, Listable)  # noqa: PT018
        assert isinstance(store, Sweepable) and isinstance(twin, AsyncStore)  # noqa: PT018
        assert isinstance(twin, AsyncListable) and isinstance(twin, AsyncSweepable)  # noqa: PT018
        assert store.shared
        assert twin.shared

    @pytest.mark.parametrize(
        "record",
        [
            a_record(),
            a_record(subject=None, login_at=None, payload=b""),
            a_record(subject="Ünïcode 🧥", payload=os.urandom(100_000)),
            a_record(revision=bytes(12), seen_at=0, expires_at=2**53),
        ],
    )
    def test_exact(self, store: SQLiteStore, record: Record) -> None:
        """What was created is what is loaded."""
        store.create(record, NOW)
        assert record == store.load(record.id, NOW)

    def test_expired_is_absent(self, store: SQLiteStore) -> None:
        """From the millisecond of its expiry on, a record is absent to every verb."""
        store.create(a_record(), NOW)
        assert None is store.load(an_id(1), LATER)
        assert GONE is store.save(a_record(revision=b"two"), b"one", LATER)
        assert False is store.touch(an_id(1), b"one", NOW, LATER + 9, LATER)
        assert [] == store.by_subject("user:42", LATER)
        assert [] == store.page("", 9, LATER)
        assert False is store.delete(an_id(1), LATER)

    def test_alive_until_then(self, store: SQLiteStore) -> None:
        """In the millisecond before it expires, a record is there."""
        store.create(a_record(), NOW)
        assert a_record() == store.load(an_id(1), LATER - 1)

    def test_collision(self, store: SQLiteStore) -> None:
        """A live record is never overwritten by a new one."""
        store.create(a_record(), NOW)
        with pytest.raises(Collision):
            store.create(a_record(payload=b"another"), NOW)
        assert a_record() == store.load(an_id(1), NOW)
        store.create(a_record(2), NOW)  # and the refused transaction is over

    def test_create_over_expired(self, store: SQLiteStore) -> None:
        """What has expired is replaced, in every field."""
        store.create(a_record(), NOW)
        new = Record(an_id(1), b"two", None, None, LATER, LATER + 9, b"new")
        store.create(new, LATER)
        assert new == store.load(an_id(1), LATER)

    def test_save(self, store: SQLiteStore) -> None:
        """A save on the expected revision replaces every field."""
        store.create(a_record(), NOW)
        new = Record(an_id(1), b"two", "user:7", NOW, NOW + 1, LATER + 9, b"new")
        assert SAVED is store.save(new, b"one", NOW)
        assert new == store.load(an_id(1), NOW)

    @pytest.mark.parametrize(
        ("before", "after"), [("a", "b"), ("a", None), (None, "a"), (None, None), ("1", "1")]
    )
    def test_save_subject(self, store: SQLiteStore, before: str | None, after: str | None) -> None:
        """Whether the subject stays or not, the session is listed for the new one alone."""
        store.create(a_record(subject=before), NOW)
        new = a_record(revision=b"two", subject=after)
        assert SAVED is store.save(new, b"one", NOW)
        found = {name: store.by_subject(name, NOW) for name in ("a", "b", "1")}
        assert {"a": [], "b": [], "1": []} | ({after: [new]} if after else {}) == found

    def test_save_leaves_the_index_of_subjects(self, store: SQLiteStore, path: Path) -> None:
        """A save that keeps the subject is one statement, which does not write that index."""
        statements: list[str] = []
        store.create(a_record(), NOW)
        with store._database.transaction() as connection:
            connection.set_trace_callback(statements.append)
        store.save(a_record(revision=b"two"), b"one", NOW)
        (update,) = [each for each in statements if "UPDATE" in each]
        with closing(sqlite3.connect(path)) as other:
            written = {
                row[3] for row in other.execute(f"EXPLAIN {update}") if row[1] == "OpenWrite"
            }
            roots = dict(other.execute("SELECT name, rootpage FROM sqlite_master"))
        assert roots["sessions"] in written
        assert roots["sessions_by_subject"] not in written

    def test_save_refused(self, store: SQLiteStore) -> None:
        """A save on another revision changes nothing and answers what it found."""
        store.create(a_record(), NOW)
        assert a_record() == store.save(a_record(revision=b"two", payload=b"x"), b"zero", NOW)
        assert a_record() == store.load(an_id(1), NOW)

    def test_save_never_creates(self, store: SQLiteStore) -> None:
        """A save of what has ended stays without effect."""
        assert GONE is store.save(a_record(), b"one", NOW)
        assert None is store.load(an_id(1), NOW)

    def test_touch(self, store: SQLiteStore) -> None:
        """Each time moves forwards by itself and never backwards; the revision stays."""
        store.create(a_record(), NOW)
        assert store.touch(an_id(1), b"one", NOW + 5, LATER - 5, NOW)
        assert a_record(seen_at=NOW + 5) == store.load(an_id(1), NOW)
        assert store.touch(an_id(1), b"one", NOW, LATER + 5, NOW)
        assert a_record(seen_at=NOW + 5, expires_at=LATER + 5) == store.load(an_id(1), NOW)

    def test_touch_refused(self, store: SQLiteStore) -> None:
        """A touch of another revision changes nothing."""
        store.create(a_record(), NOW)
        assert not store.touch(an_id(1), b"zero", NOW + 5, LATER + 5, NOW)
        assert a_record() == store.load(an_id(1), NOW)

    def test_delete(self, store: SQLiteStore) -> None:
        """What is deleted is gone, whatever its revision; removing nothing is fine."""
        store.create(a_record(), NOW)
        assert [True, False] == [store.delete(an_id(1), NOW), store.delete(an_id(1), NOW)]
        assert None is store.load(an_id(1), NOW)

    def test_delete_expired(self, store: SQLiteStore) -> None:
        """Deleting what expired removes it for processes, too, whose clocks are behind."""
        store.create(a_record(), NOW)
        store.delete(an_id(1), LATER)
        assert None is store.load(an_id(1), NOW)

    def test_by_subject(self, store: SQLiteStore) -> None:
        """Only that subject's live records are listed."""
        kept = [a_record(1), a_record(2)]
        others = [a_record(3, subject="user:4"), a_record(4, subject=None)]
        for record in [*kept, *others, a_record(5, expires_at=NOW)]:
            store.create(record, NOW - 1)
        assert kept == sorted(store.by_subject("user:42", NOW), key=lambda record: record.id)

    def test_page(self, store: SQLiteStore) -> None:
        """Pages go through all live records in order of id."""
        for number in (3, 1, 2, 5):
            store.create(a_record(number), NOW)
        store.create(a_record(4, expires_at=NOW), NOW - 1)
        first = store.page("", 3, NOW)
        assert [an_id(1), an_id(2), an_id(3)] == [record.id for record in first]
        assert [a_record(5)] == store.page(an_id(3), 3, NOW)
        assert [] == store.page(an_id(5), 3, NOW)

    def test_no_limit_below_zero(self, store: SQLiteStore) -> None:
        """A negative limit is none at all to SQLite, but nothing to us."""
        store.create(a_record(), NOW)
        assert [] == store.page("", -1, NOW)
        assert 0 == store.sweep(-1, LATER)

    def test_sweep(self, store: SQLiteStore) -> None:
        """At most so many expired records are removed, and no live one."""
        for number in range(5):
            store.create(a_record(number, expires_at=NOW), NOW - 1)
        store.create(a_record(9), NOW)
        assert [3, 2, 0] == [store.sweep(3, NOW) for _ in range(3)]
        assert [a_record(9)] == store.page("", 99, 0)

    @pytest.mark.parametrize(
        ("statement", "index"),
        [
            ("SELECT * FROM sessions WHERE subject = ? AND expires_at > 1", "sessions_by_subject"),
            ("SELECT * FROM sessions WHERE id > ? AND expires_at > 1 ORDER BY id", "autoindex"),
            ("SELECT rowid FROM sessions WHERE expires_at <= ? LIMIT 9", "sessions_by_expiry"),
            ("SELECT subject FROM marks WHERE until <= ? LIMIT 9", "marks_by_until"),
        ],
    )
    def test_indexed(self, store: SQLiteStore, path: Path, statement: str, index: str) -> None:
        """Lists and sweeps search an index, and sort nothing."""
        store.load(an_id(1), NOW)
        with closing(sqlite3.connect(path)) as other:
            plan = other.execute(f"EXPLAIN QUERY PLAN {statement}", ("x",)).fetchall()
        assert [True] == [index in row[3] for row in plan]

    def test_async_verbs(self, path: Path) -> None:
        """The asynchronous store answers every verb as the other does."""

        async def use(store: AsyncSQLiteStore) -> list[object]:
            first, second = a_record(), a_record(revision=b"two")
            return [
                await store.load(first.id, NOW),
                await answered(store.create(first, NOW)),
                await store.save(second, b"one", NOW),
                await store.save(first, b"one", NOW) == second,
                await store.touch(first.id, b"two", NOW, LATER, NOW),
                await store.by_subject("user:42", NOW) == [second],
                await store.page("", 9, NOW) == [second],
                await store.delete(first.id, NOW),
                await store.save(first, b"two", NOW),
                await answered(store.create(first, NOW)),
                await store.sweep(9, LATER),
            ]

        expected = [None, None, SAVED, True, True, True, True, True, GONE, None, 1]
        assert expected == run(AsyncSQLiteStore(path, timeout=10), use)

    @pytest.mark.parametrize("verb", ["by_subject", "page"])
    def test_async_lists_first(self, path: Path, verb: str) -> None:
        """A list may be the first thing that a store is asked for."""

        async def use(store: AsyncSQLiteStore) -> list[Record]:
            if verb == "page":
                return await store.page("", 9, NOW)
            return await store.by_subject("user:42", NOW)

        assert [] == run(AsyncSQLiteStore(path, timeout=10), use)


class TestLogins:
    """What the contract cannot see of marks and limits."""

    def is_forbidden(self, store: SQLiteStore, subject: str = "user:42") -> bool:
        login = a_record(9, subject=subject)
        return store.admit(login, b"", Entry(NOW - 1), NOW) is FORBIDDEN

    def test_a_mark_survives(self, store: SQLiteStore, path: Path) -> None:
        """It is in the file."""
        store.forbid("user:42", NOW, None, LATER, NOW)
        store.close()
        with closing(SQLiteStore(path)) as another:
            assert self.is_forbidden(another)

    def test_lapsed_marks_are_swept(self, store: SQLiteStore) -> None:
        """At most so many at once, uncounted; those that are to be kept stay."""
        for number in range(3):
            store.forbid(f"user:{number}", NOW, None, LATER + number, NOW)
        assert [0, 0] == [store.sweep(9, LATER - 1), store.sweep(1, LATER + 1)]
        left = [self.is_forbidden(store, f"user:{number}") for number in range(3)]
        assert (2, True) == (left.count(True), left[2])

    def test_a_file_without_marks(self, store: SQLiteStore, path: Path) -> None:
        """One from before there were any gets their table, and keeps its sessions."""
        store.create(a_record(), NOW)
        store.close()
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE marks")
        assert not self.is_forbidden(store)
        store.forbid("user:7", NOW, None, LATER, NOW)
        assert self.is_forbidden(store, "user:7")
        assert a_record() == store.load(an_id(1), NOW)

    def test_a_login_without_room_ends_nobody(self, path: Path) -> None:
        """Nor where it shares its transaction with others."""

        async def use(store: AsyncSQLiteStore) -> list[object]:
            await store.create(a_record(), NOW)
            endless = a_record(2, login_at=NOW, payload=bytes(9), expires_at=2**70)
            answers = await asyncio.gather(
                store.admit(endless, b"", Entry(NOW, most=1), NOW),
                store.create(a_record(3, subject=None), NOW),
                return_exceptions=True,
            )
            return [type(answers[0]), [r.id for r in await store.page("", 9, NOW)]]

        expected = [OverflowError, [an_id(1), an_id(3)]]
        assert expected == run(AsyncSQLiteStore(path, timeout=10), use)


class TestOptions:
    @pytest.mark.parametrize("path", ["", ":memory:", "a\0b", 5, None, b"sessions.db"])
    def test_path(self, path: Any) -> None:
        """What is no path of a file is refused at once."""
        with pytest.raises(ConfigurationError, match="expected the path"):
            SQLiteStore(path)

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "1", None])
    def test_timeout(self, path: Path, timeout: Any) -> None:
        """A time-out that is none is refused at once."""
        with pytest.raises(ConfigurationError, match="expected timeout"):
            AsyncSQLiteStore(path, timeout=timeout)

    def test_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path means the folder in which the store was made."""
        monkeypatch.chdir(tmp_path)
        with closing(SQLiteStore("relative.db")) as store:
            monkeypatch.chdir("/")
            store.load(an_id(1), NOW)
            assert str(tmp_path / "relative.db") == store.path
        assert (tmp_path / "relative.db").exists()


class TestFile:
    def test_lazy(self, path: Path) -> None:
        """Making a store, sync or async, touches nothing; using it makes the file."""
        store = SQLiteStore(path)
        AsyncSQLiteStore(path, timeout=10)
        assert not path.exists()
        store.load(an_id(1), NOW)
        assert path.exists()
        store.close()

    def test_mode(self, store: SQLiteStore, path: Path) -> None:
        """Only the owner can read the file and what stands beside it, whatever the umask."""
        before = os.umask(0)
        try:
            store.create(a_record(), NOW)
        finally:
            os.umask(before)
        modes = {name: oct(mode & 0o777) for name, (mode, _) in snapshot(path.parent).items()}
        assert {"sessions.db", "sessions.db-wal", "sessions.db-shm"} == set(modes)
        assert {"0o600"} == set(modes.values())

    @pytest.mark.parametrize("name", ["a?mode=memory", "b#c", "%41", "file:x", "ü 🧥", "\udcff"])
    def test_names(self, tmp_path: Path, name: str) -> None:
        """A file's name means itself, whatever SQLite's URIs would make of it."""
        with closing(SQLiteStore(tmp_path / name)) as store:
            store.create(a_record(), NOW)
        assert [name] == os.listdir(tmp_path)

    def test_closed(self, store: SQLiteStore, path: Path) -> None:
        """Closing closes every descriptor and leaves one file; twice is fine, use reopens."""
        store.create(a_record(), NOW)
        assert descriptors(path.parent)
        store.close()
        store.close()
        assert [] == descriptors(path.parent)
        assert ["sessions.db"] == os.listdir(path.parent)
        assert a_record() == store.load(an_id(1), NOW)

    def test_forgotten(self, path: Path) -> None:
        """Stores that nobody closed close with their last reference, without a warning."""
        store = SQLiteStore(path)
        store.create(a_record(), NOW)
        asyncio.run(AsyncSQLiteStore(store).load(an_id(1), NOW))
        assert descriptors(path.parent)
        del store
        gc.collect()
        assert [] == descriptors(path.parent)

    def test_removed(self, store: SQLiteStore, path: Path, no_pause: None) -> None:
        """A file that is removed while it is open takes its sessions with it, for everybody."""
        store.create(a_record(1), NOW)
        assert store.load(an_id(1), NOW)
        remove(path)
        assert store.load(an_id(1), NOW) is None
        store.create(a_record(2), NOW)
        with closing(SQLiteStore(path)) as other:
            assert [a_record(2)] == other.page("", 9, NOW)
        assert not [name for name in descriptors(path.parent) if "deleted" in name]

    def test_removed_before_a_write(self, store: SQLiteStore, path: Path) -> None:
        """A write looks at once; a read that comes within the second after it sees the same."""
        store.create(a_record(1), NOW)
        remove(path)
        store.create(a_record(2), NOW)
        assert [a_record(2)] == store.page("", 9, NOW)
        with closing(SQLiteStore(path)) as other:
            assert [a_record(2)] == other.page("", 9, NOW)

    def test_removed_before_a_read(self, store: SQLiteStore, path: Path) -> None:
        """Whoever has to open the file looks at once."""
        store.create(a_record(1), NOW)
        remove(path)
        assert store.load(an_id(1), NOW) is None

    def test_removed_async(self, path: Path, no_pause: None) -> None:
        """Likewise in an event loop."""

        async def use(store: AsyncSQLiteStore) -> list[Record]:
            await store.create(a_record(1), NOW)
            assert await store.load(an_id(1), NOW)
            remove(path)
            assert await store.load(an_id(1), NOW) is None
            await store.create(a_record(2), NOW)
            return await store.page("", 9, NOW)

        assert [a_record(2)] == run(AsyncSQLiteStore(path), use)

    def test_replaced(self, store: SQLiteStore, path: Path, no_pause: None) -> None:
        """The file that is there now counts, for reads and for writes."""
        store.create(a_record(1), NOW)
        remove(path)
        with closing(SQLiteStore(path)) as other:
            other.create(a_record(2), NOW)
            assert [a_record(2)] == store.page("", 9, NOW)
            store.create(a_record(3), NOW)
            assert a_record(3) == other.load(an_id(3), NOW)

    def test_half_removed(self, store: SQLiteStore, path: Path, no_pause: None) -> None:
        """No file is made beside what is left of another, which is about to go."""
        store.create(a_record(1), NOW)
        path.unlink()
        with pytest.raises(StoreUnavailable, match="remove that too"):
            store.create(a_record(2), NOW)
        with pytest.raises(StoreUnavailable, match="remove that too"):
            store.load(an_id(1), NOW)
        assert not path.exists()
        remove(path)
        store.create(a_record(2), NOW)
        assert [a_record(2)] == store.page("", 9, NOW)

    def test_symbolic_link(self, tmp_path: Path) -> None:
        """A link is followed, also to where nothing is yet."""
        (tmp_path / "link").symlink_to(tmp_path / "target")
        with closing(SQLiteStore(tmp_path / "link")) as store:
            store.create(a_record(), NOW)
        assert ["link", "target"] == sorted(os.listdir(tmp_path))

    @pytest.mark.parametrize("statement", [None, "VACUUM", "PRAGMA journal_mode = WAL"])
    def test_empty(self, path: Path, store: SQLiteStore, statement: str | None) -> None:
        """An empty file, or an empty database, is taken."""
        path.touch()
        if statement:
            with closing(sqlite3.connect(path)) as other:
                other.execute(statement)
        store.create(a_record(), NOW)
        assert a_record() == store.load(an_id(1), NOW)

    def test_backup(self, tmp_path: Path, path: Path, store: SQLiteStore) -> None:
        """A copy made with VACUUM INTO, which is not in WAL mode, serves and returns to it."""
        store.create(a_record(), NOW)
        copy = tmp_path / "copy.db"
        with closing(sqlite3.connect(path)) as other:
            other.execute(f"VACUUM INTO '{copy}'")
        with closing(SQLiteStore(copy)) as copied:
            assert a_record() == copied.load(an_id(1), NOW)
            assert (tmp_path / "copy.db-wal").exists()

    def test_copy_without_shm(self, tmp_path: Path, path: Path, store: SQLiteStore) -> None:
        """A copy of the file and its log is whole without the third, which SQLite makes anew."""
        store.create(a_record(), NOW)
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", tmp_path / f"copy.db{end}")
        with closing(SQLiteStore(tmp_path / "copy.db")) as copied:
            assert a_record() == copied.load(an_id(1), NOW)


class TestRefused:
    """What is not for us is refused clearly, and stays as it was, byte for byte."""

    def refuse(self, path: Path, match: str) -> None:
        before = snapshot(path.parent)
        store = SQLiteStore(path)
        with pytest.raises(ConfigurationError, match=match):
            store.load(an_id(1), NOW)
        with pytest.raises(ConfigurationError, match=match):
            store.create(a_record(), NOW)
        with pytest.raises(ConfigurationError, match=match):
            asyncio.run(AsyncSQLiteStore(store).load(an_id(1), NOW))
        assert before == snapshot(path.parent)
        assert [] == descriptors(path.parent)

    def foreign(self, path: Path, *statements: str) -> sqlite3.Connection:
        other = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            other.execute(statement).fetchall()
        return other

    def test_a_change_is_seen(self, path: Path) -> None:
        """The snapshot that these tests compare does see a header that was switched to WAL."""
        self.foreign(path, "CREATE TABLE theirs (x)").close()
        before = snapshot(path.parent)
        self.foreign(path, "PRAGMA journal_mode = WAL").close()
        assert before != snapshot(path.parent)

    @pytest.mark.parametrize("content", [b"x", b"name,price\n" * 999, bytes(5000)])
    def test_no_database(self, path: Path, content: bytes) -> None:
        """Any other file."""
        path.write_bytes(content)
        self.refuse(path, "expected a database of sessions")

    def test_damaged(self, path: Path, store: SQLiteStore) -> None:
        """A database whose header is ours, but not its pages."""
        store.create(a_record(), NOW)
        store.close()
        path.write_bytes(path.read_bytes()[:100] + os.urandom(9000))
        self.refuse(path, "expected a database of sessions")

    @pytest.mark.parametrize("mode", ["DELETE", "WAL"])
    @pytest.mark.parametrize(
        "statement",
        ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7", "PRAGMA user_version = 3"],
    )
    def test_foreign(self, path: Path, mode: str, statement: str) -> None:
        """Another application's database, also one in WAL mode that nobody has open."""
        self.foreign(path, f"PRAGMA journal_mode = {mode}", statement).close()
        self.refuse(path, "expected a database of sessions")

    def crashed(self, path: Path) -> None:
        """A database of another application that crashed: all it ever wrote is in its log."""
        elsewhere = path.with_name("elsewhere")
        self.foreign(elsewhere, "PRAGMA journal_mode = WAL").close()
        other = self.foreign(elsewhere, "CREATE TABLE theirs (x)")
        for end in ("", "-wal", "-shm"):
            shutil.copy(f"{elsewhere}{end}", f"{path}{end}")
        other.close()
        elsewhere.unlink()

    def test_crashed(self, path: Path) -> None:
        """A foreign database whose log nobody has written back."""
        self.crashed(path)
        self.refuse(path, "expected a database of sessions")

    def test_crashed_without_shm(self, path: Path) -> None:
        """The same where the third file is lost, which SQLite would make anew."""
        self.crashed(path)
        Path(f"{path}-shm").unlink()
        self.refuse(path, "expected a database of sessions")

    def test_in_use(self, path: Path) -> None:
        """A foreign database that is open goes on as if nothing had been."""
        with closing(self.foreign(path, "PRAGMA journal_mode = WAL", "CREATE TABLE t (x)")) as it:
            with pytest.raises(ConfigurationError):
                SQLiteStore(path).load(an_id(1), NOW)
            it.execute("INSERT INTO t VALUES (1)")
        assert "ok" == integrity(path)

    @pytest.mark.parametrize("mode", ["DELETE", "WAL"])
    def test_newer(self, path: Path, store: SQLiteStore, mode: str) -> None:
        """A store of a newer coatcheck."""
        store.create(a_record(), NOW)
        store.close()
        self.foreign(path, "PRAGMA user_version = 2", f"PRAGMA journal_mode = {mode}").close()
        self.refuse(path, "expected sessions of version 1, got version 2")

    def test_folder_missing(self, tmp_path: Path) -> None:
        """No folder is made on the way."""
        with pytest.raises(ConfigurationError, match="expected its folder to exist"):
            SQLiteStore(tmp_path / "missing" / "sessions.db").load(an_id(1), NOW)
        assert [] == os.listdir(tmp_path)

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
    def test_no_file(self, path: Path, make: Callable[[Path], None]) -> None:
        """A folder, or a pipe, which must not be waited for."""
        make(path)
        with pytest.raises(ConfigurationError, match="expected a file"):
            SQLiteStore(path).load(an_id(1), NOW)

    @contextmanager
    def nobody(self) -> Iterator[Path]:
        """A folder that can be made read-only: for root, nothing is, so root becomes nobody."""
        folder = Path(tempfile.mkdtemp())
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            os.chmod(folder, 0o700)
            shutil.rmtree(folder)

    def test_read_only_file(self) -> None:
        """A file that may not be written, though it is ours."""
        with self.nobody() as folder:
            path = folder / "sessions.db"
            with closing(SQLiteStore(path)) as store:
                store.create(a_record(), NOW)
            path.chmod(0o400)
            self.refuse(path, "expected a file to write to")

    @pytest.mark.parametrize("exists", [True, False])
    def test_read_only_folder(self, exists: bool) -> None:
        """A folder in which nothing can be made, be the file there or not."""
        with self.nobody() as folder:
            if exists:
                with closing(SQLiteStore(folder / "sessions.db")) as store:
                    store.create(a_record(), NOW)
            folder.chmod(0o500)
            self.refuse(folder / "sessions.db", "expected a folder to write to")


class TestLocked:
    """Another holds the lock: a write fails in time, a read does not even notice."""

    def test_write(self, path: Path) -> None:
        """A write waits no longer than it may, changes nothing, and works when the lock is free."""
        with closing(SQLiteStore(path, timeout=0.2)) as store:
            store.create(a_record(), NOW)
            with locked(path):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable, match="another process keeps it locked"):
                    store.delete(an_id(1), NOW)
                assert 0.2 <= time.monotonic() - began < 2
            assert a_record() == store.load(an_id(1), NOW)
            assert store.delete(an_id(1), NOW)

    def test_read(self, path: Path, store: SQLiteStore) -> None:
        """A read goes on, also the first of a store."""
        store.create(a_record(), NOW)
        with locked(path), closing(SQLiteStore(path)) as another:
            assert a_record() == store.load(an_id(1), NOW) == another.load(an_id(1), NOW)

    def test_waiting(self, path: Path) -> None:
        """A write that waits gets its turn when the lock is free in time."""
        with closing(SQLiteStore(path, timeout=60)) as store:
            store.load(an_id(1), NOW)
            writer = threading.Thread(target=store.create, args=(a_record(), NOW))
            with locked(path):
                writer.start()
                writer.join(0.02)
                assert writer.is_alive()
            writer.join()
            assert a_record() == store.load(an_id(1), NOW)

    def test_first_use(self, path: Path) -> None:
        """A file that is locked before it is ours is an outage, and none once it is free."""
        path.touch()
        with closing(SQLiteStore(path, timeout=0.2)) as store:
            with locked(path), pytest.raises(StoreUnavailable):
                store.load(an_id(1), NOW)
            assert None is store.load(an_id(1), NOW)

    def test_another_file(self, tmp_path: Path) -> None:
        """A file that cannot be opened keeps no other from being opened."""
        with opening(tmp_path / "a"), closing(SQLiteStore(tmp_path / "b", timeout=0.1)) as store:
            assert store.load(an_id(1), NOW) is None

    def test_same_file(self, tmp_path: Path) -> None:
        """Two stores do not open one file at the same moment."""
        with opening(tmp_path / "a") as path, pytest.raises(StoreUnavailable, match="its turn"):
            SQLiteStore(path, timeout=0.01).load(an_id(1), NOW)

    def test_first_use_async(self, path: Path) -> None:
        """The event loop goes on while a first load waits for the file to be free."""
        path.touch()

        async def use(store: AsyncSQLiteStore) -> bool:
            with locked(path):
                load = asyncio.create_task(store.load(an_id(1), NOW))
                await turn(load)
                waiting = not load.done()
                with pytest.raises(StoreUnavailable):
                    await load
            return waiting

        assert run(AsyncSQLiteStore(path, timeout=0.2), use)

    def test_thread(self, path: Path) -> None:
        """A thread whose turn does not come in time is told so."""
        with closing(SQLiteStore(path, timeout=0.2)) as store:
            store.create(a_record(), NOW)
            raised: list[BaseException] = []

            def save() -> None:
                try:
                    store.save(a_record(revision=b"two"), b"one", NOW)
                except StoreUnavailable as error:
                    raised.append(error)

            with store._database.transaction():
                thread = threading.Thread(target=save)
                thread.start()
                thread.join()
            assert ["expected its turn" in str(error) for error in raised] == [True]
            assert a_record() == store.load(an_id(1), NOW)

    def test_async(self, path: Path) -> None:
        """A write given up is never written afterwards, and the next one is."""

        async def use(store: AsyncSQLiteStore) -> list[str]:
            await store.load(an_id(1), NOW)
            with locked(path), pytest.raises(StoreUnavailable):
                await store.create(a_record(1), NOW)
            await store.create(a_record(2), NOW)
            return [record.id for record in await store.page("", 9, NOW)]

        assert [an_id(2)] == run(AsyncSQLiteStore(path, timeout=0.2), use)

    def test_async_stalled(self, path: Path) -> None:
        """A write behind one that the disk does not answer fails in time, and is never written."""
        stalled, go_on = threading.Event(), threading.Event()

        def stall(_: sqlite3.Connection) -> None:
            stalled.set()
            go_on.wait()

        async def use(store: AsyncSQLiteStore) -> list[Record]:
            first = store._writer.do(stall)
            await turn(first)
            stalled.wait()
            with pytest.raises(StoreUnavailable, match="wrote nothing"):
                await store.create(a_record(), NOW)
            go_on.set()
            await first
            await store.sweep(1, NOW)
            return await store.page("", 9, NOW)

        assert [] == run(AsyncSQLiteStore(path, timeout=0.2), use)

    def test_async_stalled_cancelled(self, path: Path) -> None:
        """A write whose caller does not wait any more is not kept for a disk that is stuck."""
        stalled, go_on = threading.Event(), threading.Event()

        def stall(_: sqlite3.Connection) -> None:
            stalled.set()
            go_on.wait()

        async def use(store: AsyncSQLiteStore) -> int:
            first = store._writer.do(stall)
            await turn(first)
            stalled.wait()
            create = asyncio.create_task(store.create(a_record(), NOW))
            await turn(create)
            create.cancel()
            until = time.monotonic() + 5
            while store._writer._waiting and time.monotonic() < until:
                await asyncio.sleep(0)
            waiting = len(store._writer._waiting)
            go_on.set()
            await first
            return waiting

        assert 0 == run(AsyncSQLiteStore(path, timeout=0.2), use)

    def test_async_long_turn(self, path: Path) -> None:
        """The time-out counts from the end of the turn, before which no write leaves."""

        async def use(store: AsyncSQLiteStore) -> str:
            with store._database.transaction():
                write = store._writer.do(lambda _: "written")
                until = time.monotonic() + store._database.timeout
                while time.monotonic() < until:
                    os.sched_yield()
                await asyncio.wait([write], timeout=0.03)
            return await write

        assert "written" == run(AsyncSQLiteStore(path, timeout=0.5), use)

    def test_fair(self) -> None:
        """Threads get the lock in the order in which they came."""
        lock, order = FairLock(), list[int]()

        def take(number: int) -> None:
            lock.acquire()
            order.append(number)
            lock.release()

        lock.acquire()
        threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
        for number, thread in enumerate(threads):
            thread.start()
            while len(lock._waiting) <= number:
                os.sched_yield()
        lock.release()
        for thread in threads:
            thread.join()
        assert [0, 1, 2, 3, 4] == order

    def test_fair_after_a_time_out(self) -> None:
        """Whoever stopped waiting is not handed the lock, and it is free again."""
        lock = FairLock()
        assert [True, False] == [lock.acquire(0.01), lock.acquire(0.01)]
        lock.release()
        assert lock.acquire(0.01)


class TestFullDisk:
    def fill(self, store: SQLiteStore, pages: int = 1) -> None:
        """From now on the file may not grow; SQLite says the same as for a full disk."""
        with store._database.transaction() as connection:
            connection.execute(f"PRAGMA max_page_count = {pages}")

    def test_nothing_half_written(self, store: SQLiteStore, path: Path) -> None:
        """A write for which there is no room raises and leaves things as they were."""
        store.create(a_record(), NOW)
        self.fill(store)
        with pytest.raises(StoreUnavailable, match="free space"):
            store.save(a_record(revision=b"two", payload=bytes(100_000)), b"one", NOW)
        assert a_record() == store.load(an_id(1), NOW)
        assert "ok" == integrity(path)

    def test_usable_after(self, store: SQLiteStore) -> None:
        """Once there is room again, the same store goes on."""
        store.create(a_record(), NOW)
        self.fill(store)
        with pytest.raises(StoreUnavailable):
            store.create(a_record(2, payload=bytes(100_000)), NOW)
        self.fill(store, pages=10**6)
        store.create(a_record(2, payload=bytes(100_000)), NOW)
        assert 2 == len(store.page("", 9, NOW))

    def test_group(self, path: Path) -> None:
        """Where a whole transaction fails, every caller is told, and nobody was written.

        The first one needs too much room; for the others there would be enough.
        """

        async def use(store: AsyncSQLiteStore) -> tuple[list[object], list[Record]]:
            await store.load(an_id(1), NOW)
            self.fill(store.sqlite)
            records = [a_record(1, payload=bytes(100_000)), a_record(2), a_record(3)]
            with store._database.transaction():
                tasks = [asyncio.create_task(store.create(record, NOW)) for record in records]
                await turn(*tasks)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            return [type(error) for error in answers], await store.page("", 9, NOW)

        assert ([StoreUnavailable] * 3, []) == run(AsyncSQLiteStore(path, timeout=10), use)

    def test_no_room_for_the_log(self, path: Path) -> None:
        """Where the operating system refuses to write on, the transaction is undone."""

        def limited() -> list[object]:
            with closing(SQLiteStore(path)) as store:
                store.create(a_record(), NOW)
                size = os.path.getsize(f"{path}-wal")
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9000, resource.RLIM_INFINITY))
                raised = 0
                try:
                    store.save(a_record(revision=b"two", payload=bytes(99_000)), b"one", NOW)
                except StoreUnavailable:
                    raised = 1
                same = store.load(an_id(1), NOW) == a_record()
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
                return [raised, same, store.delete(an_id(1), NOW)]

        assert [1, True, True] == in_child(limited)
        assert "ok" == integrity(path)

    def test_no_room_for_the_file(self, path: Path) -> None:
        """A file that cannot be written for the first time is an outage, too, and no refusal."""

        def limited() -> str:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            try:
                SQLiteStore(path).create(a_record(), NOW)
            except StoreUnavailable:
                return "unavailable"
            return "created"

        assert "unavailable" == in_child(limited)
        with closing(SQLiteStore(path)) as store:
            store.create(a_record(), NOW)
            assert a_record() == store.load(an_id(1), NOW)


class TestDurable:
    """Ending waits for the disk; the level that SQLite reports was set before the transaction."""

    def level(self, store: SQLiteStore) -> int:
        assert store._database._writer is not None
        level: int = store._database._writer.execute("PRAGMA synchronous").fetchone()[0]
        return level

    def test_sync(self, store: SQLiteStore) -> None:
        """Deletes, marks and what has a subject (a login, a denial) with FULL, all else NORMAL."""
        levels = []
        for act in (
            lambda: store.create(a_record(3, subject=None), NOW),
            lambda: store.create(a_record(), NOW),
            lambda: store.delete(an_id(1), NOW),
            lambda: store.save(a_record(), b"one", NOW),
            lambda: store.touch(an_id(1), b"one", NOW, NOW, NOW),
            lambda: store.sweep(1, NOW),
            lambda: store.admit(a_record(), b"", Entry(NOW), NOW),
            lambda: store.sweep(1, NOW),
            lambda: store.forbid("user:42", NOW, None, LATER, NOW),
        ):
            act()
            levels.append(self.level(store))
        assert [1, 2, 2, 1, 1, 1, 2, 1, 2] == levels

    def test_async(self, path: Path) -> None:
        """The same for a group: one delete in it, and all of it is."""

        async def use(store: AsyncSQLiteStore) -> list[int]:
            await store.create(a_record(1, subject=None), NOW)
            levels = [self.level(store.sqlite)]
            visitor = a_record(2, subject=None)
            await asyncio.gather(store.delete(an_id(1), NOW), store.create(visitor, NOW))
            levels.append(self.level(store.sqlite))
            return levels

        assert [1, 2] == run(AsyncSQLiteStore(path, timeout=10), use)

    def test_async_too_late(self, path: Path) -> None:
        """A delete that comes when a transaction has begun without FULL waits for the next."""

        async def use(store: AsyncSQLiteStore) -> int:
            await store.load(an_id(1), NOW)
            with store._database.transaction():
                create = asyncio.create_task(store.create(a_record(subject=None), NOW))
                while not store._database._writing._waiting:
                    await turn(create)
                delete = asyncio.create_task(store.delete(an_id(1), NOW))
                await turn(delete)
            await asyncio.gather(create, delete)
            return self.level(store.sqlite)

        assert 2 == run(AsyncSQLiteStore(path, timeout=10), use)


class TestGroupCommit:
    def group(self, store: AsyncSQLiteStore, path: Path, *calls: Awaitable[T]) -> Any:
        """The answers to calls that all waited for the same transaction."""

        async def main() -> list[T | BaseException]:
            with locked(path):
                tasks = [asyncio.ensure_future(call) for call in calls]
                await turn(*tasks)
            return await asyncio.gather(*tasks, return_exceptions=True)

        return main()

    def test_one_transaction(self, path: Path) -> None:
        """What sixty-four tasks write while the thread waits is committed at once."""
        statements: list[str] = []

        async def use(store: AsyncSQLiteStore) -> int:
            await store.sweep(1, NOW)
            assert store._database._writer is not None
            with locked(path):
                tasks = [
                    asyncio.create_task(store.create(a_record(number), NOW)) for number in range(64)
                ]
                await turn(*tasks)
                store._database._writer.set_trace_callback(statements.append)
            await asyncio.gather(*tasks)
            return len(await store.page("", 99, NOW))

        assert 64 == run(AsyncSQLiteStore(path, timeout=60), use)
        assert 1 == statements.count("COMMIT")

    def test_one_turn(self, path: Path) -> None:
        """What tasks write in one turn of the loop is committed at once, also by a fresh thread."""
        statements: list[str] = []

        async def use(store: AsyncSQLiteStore) -> int:
            with store._database.transaction() as connection:
                connection.set_trace_callback(statements.append)
            statements.clear()
            await asyncio.gather(*(store.create(a_record(number), NOW) for number in range(64)))
            return statements.count("COMMIT")

        assert 1 == run(AsyncSQLiteStore(path, timeout=60), use)

    def test_turn_after_turn(self, path: Path) -> None:
        """Each turn wakes the thread, long before that would look by itself."""

        async def use(store: AsyncSQLiteStore) -> int:
            async with asyncio.timeout(writer._IDLE / 2):
                for number in range(20):
                    await store.create(a_record(number), NOW)
            return len(await store.page("", 99, NOW))

        assert 20 == run(AsyncSQLiteStore(path, timeout=60), use)

    def test_each_its_own_answer(self, path: Path) -> None:
        """A refusal or a mistake reaches its caller alone; the others are written."""

        async def use(store: AsyncSQLiteStore) -> tuple[list[object], list[str]]:
            await store.create(a_record(1), NOW)
            answers = await self.group(
                store,
                path,
                store.create(a_record(1), NOW),
                store.create(a_record(2), NOW),
                store.create(a_record(3, expires_at=2**70), NOW),
                store.create(a_record(4, payload=None), NOW),
                store.create(a_record(5), NOW),
            )
            kept = [record.id for record in await store.page("", 9, NOW)]
            return [type(given) for given in answers], kept

        nothing = type(None)
        expected = [Collision, nothing, OverflowError, StoreUnavailable, nothing]
        assert (expected, [an_id(1), an_id(2), an_id(5)]) == run(
            AsyncSQLiteStore(path, timeout=10), use
        )

    def test_order(self, path: Path) -> None:
        """Of two saves on one revision in a group, the second finds the first."""

        async def use(store: AsyncSQLiteStore) -> list[object]:
            await store.create(a_record(), NOW)
            answers: list[object] = await self.group(
                store,
                path,
                store.save(a_record(revision=b"two"), b"one", NOW),
                store.save(a_record(revision=b"three"), b"one", NOW),
            )
            return answers

        assert [SAVED, a_record(revision=b"two")] == run(AsyncSQLiteStore(path, timeout=10), use)

    def test_errors_are_not_shared(self, path: Path) -> None:
        """Each caller of a group that failed gets an exception of its own."""

        async def use(store: AsyncSQLiteStore) -> int:
            with store._database.transaction():
                pass
            with locked(path):
                calls = (store.create(a_record(number), NOW) for number in range(3))
                raised = await asyncio.gather(*calls, return_exceptions=True)
            assert [StoreUnavailable] * 3 == [type(error) for error in raised]
            return len({id(error) for error in raised})

        assert 3 == run(AsyncSQLiteStore(path, timeout=0.2), use)

    def test_cancelled_before(self, path: Path) -> None:
        """A caller that is cancelled while it waits is not written, and all others are."""

        async def use(store: AsyncSQLiteStore) -> list[str]:
            await store.load(an_id(1), NOW)
            with store._database.transaction():
                tasks = [
                    asyncio.create_task(store.create(a_record(number), NOW)) for number in range(3)
                ]
                await turn(*tasks)
                tasks[1].cancel()
                await turn(*tasks)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(answers[1], asyncio.CancelledError)
            return [record.id for record in await store.page("", 9, NOW)]

        assert [an_id(0), an_id(2)] == run(AsyncSQLiteStore(path, timeout=10), use)

    def test_cancelled_after(self, path: Path) -> None:
        """A caller that is cancelled while it is written leaves it whole, and the others alone."""
        visitors = [a_record(number, subject=None) for number in (1, 2)]
        begun, go_on = threading.Event(), threading.Event()

        def hold(_: sqlite3.Connection) -> None:
            begun.set()
            go_on.wait()

        async def use(store: AsyncSQLiteStore) -> list[Record]:
            await store.load(an_id(1), NOW)
            with store._database.transaction():
                tasks: list[asyncio.Future[None]] = [
                    store._writer.do(hold),
                    asyncio.create_task(store.create(visitors[0], NOW)),
                    asyncio.create_task(store.create(visitors[1], NOW)),
                ]
                await turn(*tasks)
            begun.wait()
            tasks[1].cancel()
            await turn(*tasks)
            go_on.set()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(answers[1], asyncio.CancelledError)
            return await store.page("", 9, NOW)

        assert visitors == run(AsyncSQLiteStore(path, timeout=60), use)

    def test_loops_one_after_another(self, path: Path) -> None:
        """One store, made outside of any loop, works from one event loop after another."""
        store = AsyncSQLiteStore(path, timeout=10)
        asyncio.run(store.create(a_record(1), NOW))
        asyncio.run(store.create(a_record(2), NOW))
        assert 2 == len(run(store, lambda store: store.page("", 9, NOW)))

    def test_loops_at_once(self, path: Path) -> None:
        """Event loops of several threads share a store."""
        store = AsyncSQLiteStore(path, timeout=10)

        def create(start: int) -> None:
            async def main() -> None:
                await asyncio.gather(
                    *(store.create(a_record(number), NOW) for number in range(start, start + 20))
                )

            asyncio.run(main())

        threads = [threading.Thread(target=create, args=(start,)) for start in (0, 20, 40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 60 == len(run(store, lambda store: store.page("", 99, NOW)))

    def test_loop_that_stops(self, path: Path) -> None:
        """A loop that stops in the middle of a turn holds up no other, and goes on later."""
        store = AsyncSQLiteStore(path, timeout=10)
        loop = asyncio.new_event_loop()

        async def create() -> None:
            loop.stop()
            await store.create(a_record(1), NOW)

        async def create_another() -> None:
            async with asyncio.timeout(5):
                await store.create(a_record(2), NOW)

        task = loop.create_task(create())
        loop.run_forever()
        asyncio.run(create_another())
        loop.run_until_complete(task)
        loop.close()
        assert 2 == len(run(store, lambda store: store.page("", 9, NOW)))

    def test_dead_loop(self, path: Path) -> None:
        """A loop that is closed before its answer comes does not stop the thread."""
        store = AsyncSQLiteStore(path, timeout=10)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        asyncio.run(store.load(an_id(1), NOW))
        with store._database.transaction():
            task = loop.create_task(store.create(a_record(1), NOW))
            loop.run_until_complete(turn(task))
            thread = store._writer._thread
            loop.close()
        assert None is asyncio.run(store.create(a_record(2), NOW))
        assert thread is store._writer._thread
        assert 2 == len(run(store, lambda store: store.page("", 9, NOW)))
        del task

    def test_dead_loop_given_up(self, path: Path) -> None:
        """What a closed loop had asked for in vain is not written later, either."""
        store = AsyncSQLiteStore(path, timeout=0.2)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        asyncio.run(store.load(an_id(1), NOW))
        with locked(path):
            task = loop.create_task(store.create(a_record(1), NOW))
            loop.run_until_complete(turn(task))
            loop.close()
            until = time.monotonic() + 5
            while store._writer._waiting and time.monotonic() < until:
                os.sched_yield()
        asyncio.run(store.create(a_record(2), NOW))
        assert [a_record(2)] == run(store, lambda store: store.page("", 9, NOW))
        del task

    def test_busy_loop(self, path: Path) -> None:
        """A loop that never pauses does not keep the thread from writing.

        In an interpreter of its own, since what starves a thread depends on what ran before.
        """
        program = f"""
import asyncio, time
from coatcheck.record import Record
from coatcheck.stores.sqlite import AsyncSQLiteStore

async def main():
    store = AsyncSQLiteStore({str(path)!r}, timeout=1)
    await store.load("{an_id(1)}", 1)
    record = Record("{an_id(1)}", b"one", None, None, 1, {LATER}, b"")
    write = asyncio.create_task(store.create(record, 1))
    while not write.done():
        until = time.perf_counter() + 0.0005
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)
    await write
    await store.close()

asyncio.run(main())
"""
        subprocess.run([sys.executable, "-c", program], check=True)

    @pytest.fixture
    def writers(self) -> Callable[[], list[str]]:
        """The names of the threads that this test started."""
        before = set(threading.enumerate())
        return lambda: [thread.name for thread in set(threading.enumerate()) - before]

    def test_thread_ends_by_close(self, path: Path, writers: Callable[[], list[str]]) -> None:
        """The thread starts with the first write, ends with close, and starts again after it."""
        store = AsyncSQLiteStore(path, timeout=10)
        asyncio.run(store.load(an_id(1), NOW))
        assert [] == writers()
        asyncio.run(store.create(a_record(1), NOW))
        assert ["coatcheck-sqlite"] == writers()
        asyncio.run(store.close())
        assert [] == writers()
        assert 1 == run(store, lambda store: store.sweep(9, LATER))

    def test_thread_ends_when_idle(
        self, path: Path, writers: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An idle thread ends, so that forgotten stores leave none; the next write starts one."""
        monkeypatch.setattr(writer, "_IDLE", 0.01)
        store = AsyncSQLiteStore(path, timeout=10)
        for number in (1, 2):
            asyncio.run(store.create(a_record(number), NOW))
            while writers():
                os.sched_yield()
        assert 2 == len(run(store, lambda store: store.page("", 9, NOW)))

    def test_where_no_thread_is_to_be_had_the_event_loop_writes(self, path: Path) -> None:
        """It waits for the disk rather than refuse, and the next write starts a thread."""
        store = AsyncSQLiteStore(path, timeout=10)
        run(store, lambda store: store.sweep(9, NOW))
        with no_threads():
            asyncio.run(store.create(a_record(1), NOW))
        asyncio.run(store.create(a_record(2), NOW))
        assert [a_record(1), a_record(2)] == run(store, lambda store: store.page("", 9, NOW))

    def test_close_writes_what_waits(self, path: Path) -> None:
        """Close ends the thread only after everything that was asked for before it."""

        async def main() -> None:
            store = AsyncSQLiteStore(path, timeout=10)
            tasks = [
                asyncio.create_task(store.create(a_record(number), NOW)) for number in range(20)
            ]
            await turn(*tasks)
            await store.close()
            assert [] == descriptors(path.parent)
            await asyncio.gather(*tasks)

        asyncio.run(main())
        with closing(SQLiteStore(path)) as store:
            assert 20 == len(store.page("", 99, NOW))

    def test_stop_writes_an_open_turn(self, path: Path, writers: Callable[[], list[str]]) -> None:
        """Also what this very turn of the loop asks for; the end of the turn starts no thread."""

        async def use(store: AsyncSQLiteStore) -> tuple[str, list[str]]:
            write = store._writer.do(lambda _: "written")
            store._writer.stop()
            return await write, writers()

        assert ("written", []) == run(AsyncSQLiteStore(path, timeout=10), use)


class TestThreads:
    def together(self, count: int, act: Callable[[int], object]) -> None:
        barrier = threading.Barrier(count)

        def start(number: int) -> None:
            barrier.wait()
            act(number)

        threads = [threading.Thread(target=start, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_no_leak(self, store: SQLiteStore, path: Path) -> None:
        """Threads that end, two hundred one after another, leave nothing open."""

        def use(number: int) -> None:
            store.create(a_record(number), NOW)
            store.load(an_id(number), NOW)

        use(1000)
        before = descriptors(path.parent)
        for number in range(200):
            self.together(1, lambda _, number=number: use(number))  # type: ignore[misc]
        # A file and a log each for one connection that reads and one that writes, and a -shm.
        assert 5 == len(before)
        assert before == descriptors(path.parent)

    def test_many(self, store: SQLiteStore) -> None:
        """Two hundred threads at once all write and read, and few connections are kept."""

        def use(number: int) -> None:
            store.create(a_record(number), NOW)
            assert a_record(number) == store.load(an_id(number), NOW)

        self.together(200, use)
        assert 200 == len(store.page("", 999, NOW))
        assert 1 <= len(store._database._readers.all) <= MOST_IDLE

    def test_pool_shrinks(self, store: SQLiteStore) -> None:
        """Of the connections that were needed at once, only so many are kept."""
        readers = store._database._readers
        for _ in range(MOST_IDLE + 5):
            readers.idle.append(store._database._open_reader(readers))
        store.load(an_id(1), NOW)
        assert MOST_IDLE == len(readers.idle) == len(readers.all)

    def test_closed_in_use(self, store: SQLiteStore, path: Path) -> None:
        """What reads while the store is closed is closed when it comes back."""
        store.create(a_record(), NOW)
        readers = store._database._readers
        busy = store._database._open_reader(readers)
        store.close()
        assert descriptors(path.parent)
        readers.idle.append(busy)
        readers.trim()
        assert [] == descriptors(path.parent)

    def test_no_save_lost(self, store: SQLiteStore) -> None:
        """Of threads that save on one revision, one wins each time."""
        store.create(a_record(payload=b"0"), NOW)
        self.together(8, lambda _: count_up(store, 25))
        found = store.load(an_id(1), NOW)
        assert found is not None
        assert 200 == int(found.payload)

    def test_first_use_at_once(self, path: Path) -> None:
        """Many stores on one new file, used for the first time at once, all work."""
        stores = [SQLiteStore(path, timeout=10) for _ in range(10)]
        self.together(10, lambda number: stores[number].create(a_record(number), NOW))
        assert 10 == len(stores[0].page("", 99, NOW))
        for store in stores:
            store.close()


def count_up(store: SQLiteStore, times: int) -> None:
    """Add one to record 1's payload so many times, by compare and set."""
    for _ in range(times):
        found = store.load(an_id(1), NOW)
        while isinstance(found, Record):
            number = b"%d" % (int(found.payload) + 1)
            new = a_record(revision=os.urandom(12), payload=number)
            given = store.save(new, found.revision, NOW)
            found = given if isinstance(given, Record) else None


class TestFork:
    def test_both_sides(self, store: SQLiteStore) -> None:
        """Parent and child both go on with the same store, and see each other's writes."""
        store.create(a_record(1), NOW)

        def child() -> bool:
            store.create(a_record(2), NOW)
            return store.load(an_id(1), NOW) == a_record(1)

        assert in_child(child)
        assert a_record(2) == store.load(an_id(2), NOW)

    def test_nothing_inherited(self, store: SQLiteStore, path: Path) -> None:
        """The child has no descriptor of the parent's, and no locks it does not hold."""
        store.create(a_record(), NOW)
        store.load(an_id(1), NOW)
        assert descriptors(path.parent)
        assert [] == in_child(lambda: descriptors(path.parent))

    def test_log_stays_while_used(self, store: SQLiteStore, path: Path) -> None:
        """What a child wrote is kept when all others have closed the file meanwhile."""
        store.create(a_record(1), NOW)
        store.load(an_id(1), NOW)
        reading, writing = os.pipe()

        def child() -> None:
            os.close(writing)
            store.create(a_record(2), NOW)
            os.read(reading, 1)
            store.create(a_record(3), NOW)
            os.kill(os.getpid(), signal.SIGKILL)

        pid, pipe = fork(child)
        while a_record(2) != store.load(an_id(2), NOW):
            os.sched_yield()
        store.close()
        subprocess.run(
            [sys.executable, "-c", f"import sqlite3; sqlite3.connect({str(path)!r}).close()"],
            check=True,
        )
        os.close(writing)
        os.waitpid(pid, 0)
        os.close(pipe)
        os.close(reading)
        assert a_record(3) == store.load(an_id(3), NOW)

    @forks_beside_threads
    def test_beside_threads(self, store: SQLiteStore, path: Path) -> None:
        """Forks while threads read and write: every child works, and nothing is lost."""
        store.create(a_record(0, payload=b"0"), NOW)
        done = threading.Event()
        written: list[int] = []

        def write() -> None:
            number = 1000
            while not done.is_set():
                store.create(a_record(number), NOW)
                written.append(number)
                number += 1

        def read() -> None:
            while not done.is_set():
                store.load(an_id(0), NOW)

        threads = [threading.Thread(target=act) for act in (write, read, read)]
        for thread in threads:
            thread.start()

        def child(number: int) -> bool:
            store.create(a_record(number), NOW)
            return store.load(an_id(number), NOW) == a_record(number)

        answers = [in_child(partial(child, number)) for number in range(1, 11)]
        done.set()
        for thread in threads:
            thread.join()
        assert [True] * 10 == answers
        expected = {an_id(number) for number in (*range(11), *written)}
        assert expected == {record.id for record in store.page("", 10**6, NOW)}
        assert "ok" == integrity(path)

    @forks_beside_threads
    def test_busy_throughout(
        self, store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a write outlasts the fork's patience, the child refuses; the parent goes on."""
        monkeypatch.setattr(database, "_PATIENCE", 0.01)
        begun, go_on = threading.Event(), threading.Event()

        def write() -> None:
            with store._database.transaction() as connection:
                connection.execute("DELETE FROM sessions")
                begun.set()
                go_on.wait()

        store.create(a_record(), NOW)
        thread = threading.Thread(target=write)
        thread.start()
        begun.wait()

        def child() -> list[str]:
            said = []
            for use in (lambda: store.load(an_id(1), NOW), lambda: store.delete(an_id(1), NOW)):
                try:
                    use()
                except StoreUnavailable as error:
                    said.append(str(error))
            return said

        said = in_child(child)
        go_on.set()
        thread.join()
        assert [True, True] == ["fork before the store is used" in message for message in said]
        assert [] == store.page("", 9, NOW)
        assert "ok" == integrity(path)

    @forks_beside_threads
    def test_opening_throughout(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file whose opening outlasts the fork's patience is refused by the child, no other."""
        monkeypatch.setattr(database, "_PATIENCE", 0.01)
        with closing(SQLiteStore(tmp_path / "a")) as other, opening(tmp_path / "b") as path:

            def child() -> list[object]:
                with pytest.raises(StoreUnavailable) as raised:
                    SQLiteStore(path).load(an_id(1), NOW)
                other.create(a_record(), NOW)
                return [str(raised.value), other.load(an_id(1), NOW) == a_record()]

            said, works = in_child(child)
            assert "fork before the store is used" in said
            assert works
            assert a_record() == other.load(an_id(1), NOW)

    @pytest.mark.parametrize("is_used", [True, False])
    def test_without_hooks(self, path: Path, is_used: bool) -> None:
        """A child born without them refuses what its parent had open, and closes none of it."""
        store = AsyncSQLiteStore(path, timeout=10)
        if is_used:
            asyncio.run(store.create(a_record(1), NOW))
            assert store.sqlite.load(an_id(1), NOW)

        def child() -> list[str]:
            said = []
            load, create = (
                partial(store.load, an_id(1), NOW),
                partial(store.create, a_record(2), NOW),
            )
            for use in (load, create):
                try:
                    asyncio.run(answered(use()))
                except StoreUnavailable as error:
                    said.append(str(error))
            before = descriptors(path.parent)
            store.sqlite.close()
            said += ["closed"] if before and not descriptors(path.parent) else []
            return said

        said = in_child(child, c_fork)
        if is_used:
            assert [True, True] == ["lazy-apps = true" in each for each in said]
            assert a_record(1) == store.sqlite.load(an_id(1), NOW)
        else:
            assert ["closed"] == said
            assert a_record(2) == store.sqlite.load(an_id(2), NOW)
        asyncio.run(store.close())

    def test_only_the_hook_of_the_child(self, store: SQLiteStore) -> None:
        """Some programs run that one alone when they fork: what was never opened is not lost."""

        def child() -> bool:
            database._forks.in_child()
            return store.load(an_id(1), NOW) is None

        assert in_child(child)

    @forks_beside_threads
    def test_nothing_is_opened_meanwhile(self, path: Path) -> None:
        """From before a fork until after it, opening waits."""
        database._forks.before()
        try:
            with pytest.raises(StoreUnavailable, match="expected its turn"):
                SQLiteStore(path, timeout=0.01).load(an_id(1), NOW)
            assert not path.exists()
        finally:
            database._forks.in_parent()
        assert SQLiteStore(path).load(an_id(1), NOW) is None

    @pytest.mark.parametrize("closed_by", ["close", "fork"])
    def test_busy_in_an_old_pool(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, closed_by: str
    ) -> None:
        """What a thread opened for a pool that was closed meanwhile is not overlooked."""
        monkeypatch.setattr(database, "_PATIENCE", 0.01)
        store.create(a_record(), NOW)
        readers = store._database._readers
        if closed_by == "close":
            store.close()
        else:
            in_child(lambda: None)
        busy = store._database._open_reader(readers)

        def child() -> str:
            with pytest.raises(StoreUnavailable) as raised:
                store.load(an_id(1), NOW)
            return str(raised.value)

        assert "fork before the store is used" in in_child(child)
        readers.idle.append(busy)
        readers.trim()
        assert in_child(lambda: store.load(an_id(1), NOW) == a_record())

    @forks_beside_threads
    def test_async(self, path: Path) -> None:
        """The child of a process whose thread ran starts one of its own."""
        store = AsyncSQLiteStore(path, timeout=10)
        asyncio.run(store.create(a_record(1), NOW))

        def child() -> int:
            asyncio.run(store.create(a_record(2), NOW))
            return len(run(store, lambda store: store.page("", 9, NOW)))

        assert 2 == in_child(child)
        assert 2 == len(run(store, lambda store: store.page("", 9, NOW)))

    @forks_beside_threads
    def test_async_waiting(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What waits at a fork is written once, by the parent."""
        monkeypatch.setattr(database, "_PATIENCE", 0.01)

        async def use(store: AsyncSQLiteStore) -> list[int]:
            await store.load(an_id(1), NOW)
            with locked(path):
                task = asyncio.create_task(store.create(a_record(), NOW))
                await turn(task)
                waiting: int = in_child(lambda: len(store._writer._waiting))
            await task
            return [waiting, len(await store.page("", 9, NOW))]

        assert [0, 1] == run(AsyncSQLiteStore(path, timeout=60), use)


class TestProcesses:
    def test_start_at_once(self, path: Path) -> None:
        """Ten processes that meet on a new file all work."""

        def start(number: int) -> None:
            with closing(SQLiteStore(path, timeout=10)) as store:
                store.create(a_record(number), NOW)

        assert [None] * 10 == all_at_once(10, start)
        with closing(SQLiteStore(path)) as store:
            assert 10 == len(store.page("", 99, NOW))

    def test_no_save_lost(self, store: SQLiteStore, path: Path) -> None:
        """Of processes that save on one revision, one wins each time."""
        store.create(a_record(payload=b"0"), NOW)
        assert [None] * 4 == all_at_once(4, lambda _: count_up(store, 50))
        found = store.load(an_id(1), NOW)
        assert found is not None
        assert 200 == int(found.payload)

    def test_of_many_logins_exactly_so_many_stay(self, store: SQLiteStore) -> None:
        """Of twenty in four processes the newest three, whoever came first."""

        def log_in(process: int) -> list[bool]:
            numbers = range(process, 20, 4)
            entry = Entry(NOW, most=3)
            logins = [a_record(number, login_at=NOW + number) for number in numbers]
            return [isinstance(store.admit(each, b"", entry, NOW), Entered) for each in logins]

        answers = all_at_once(4, log_in)
        assert [an_id(17), an_id(18), an_id(19)] == sorted(
            each.id for each in store.by_subject("user:42", NOW)
        )
        assert [True] * 3 == [answers[number % 4][number // 4] for number in (17, 18, 19)]

    @pytest.mark.parametrize("enough", [1, 40, 300])
    def test_killed(self, store: SQLiteStore, path: Path, enough: int) -> None:
        """kill -9 in the middle of writes: what was acknowledged is there, nothing is corrupt."""
        for number in range(10_000, 20_000, 100):
            store.create(a_record(number), NOW)

        def write(pipe: int) -> None:
            for number in range(10_000):
                store.create(a_record(number), NOW)
                if number % 10 == 0:
                    store.delete(an_id(10_000 + number * 10), NOW)
                os.write(pipe, b"%d\n" % number)

        done = acknowledged(write, enough)
        kept = {int(record.id, 16) for record in store.page("", 10**6, NOW)}
        assert enough <= len(done)
        assert set() == done - kept
        assert set() == kept & {10_000 + number * 10 for number in done if number % 10 == 0}
        assert "ok" == integrity(path)

    def test_killed_async(self, path: Path) -> None:
        """The same for group commits: no answer comes before its commit."""

        def write(pipe: int) -> None:
            store = AsyncSQLiteStore(path, timeout=10)

            async def work(start: int) -> None:
                for number in range(start, 10**6, 32):
                    await store.create(a_record(number), NOW)
                    os.write(pipe, b"%d\n" % number)

            async def main() -> None:
                await asyncio.gather(*(work(start) for start in range(32)))

            asyncio.run(main())

        done = acknowledged(write, 500)
        with closing(SQLiteStore(path)) as store:
            assert set() == done - {int(record.id, 16) for record in store.page("", 10**6, NOW)}
        assert "ok" == integrity(path)

    @pytest.mark.parametrize("kind", ["SQLiteStore", "AsyncSQLiteStore"])
    def test_exit(self, path: Path, kind: str) -> None:
        """A process that never closed its store ends at once and quietly, and loses nothing."""
        program = f"""
import asyncio, inspect
from coatcheck.record import Record
from coatcheck.stores.sqlite import {kind}
store = {kind}({str(path)!r})
answer = store.create(Record("{an_id(1)}", b"one", None, None, 1, {LATER}, b""), 1)
if inspect.iscoroutine(answer):
    asyncio.run(answer)
"""
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
        ended = subprocess.run(command, capture_output=True, timeout=10, check=False)
        assert (0, b"", b"") == (ended.returncode, ended.stdout, ended.stderr)
        with closing(SQLiteStore(path)) as store:
            assert 1 == len(store.page("", 9, NOW))
