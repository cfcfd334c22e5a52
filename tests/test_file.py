"""What is special to files: the folder, links, locks, forks, kills, full disks, what is synced.

Locks, limits, forks and kills are real. A child of a fork answers through a pipe.
"""

import asyncio
import errno
import fcntl
import gc
import hashlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from coatcheck import patience
from coatcheck import record as records
from coatcheck.errors import Collision, ConfigurationError, StoreError, StoreUnavailable
from coatcheck.record import NewerFormat, Record
from coatcheck.store import FORBIDDEN, GONE, SAVED, Entered, Entry
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores._file import locks, threads
from coatcheck.stores._file import records as files
from coatcheck.stores.file import AsyncFileStore, FileStore
from tests.forks import (
    acknowledged,
    all_at_once,
    c_fork,
    fork,
    forks_beside_threads,
    in_child,
)
from tests.services import file as service
from tests.services.process import until
from tests.threads import no_threads

T = TypeVar("T")

NOW = 1_700_000_000_000
LATER = NOW + 3_600_000


def an_id(number: int) -> str:
    """An id with that number, in a branch of that number too."""
    return f"{number % 256:02x}{number:030x}"


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


def digest(subject: str = "user:42") -> str:
    hashed = hashlib.blake2b(subject.encode(), digest_size=16, person=b"coatcheck files")
    return hashed.hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(path: Path) -> FileStore:
    return FileStore(path, timeout=10)


def file_of(path: Path, number: int = 1) -> Path:
    return path / an_id(number)[:2] / an_id(number)


def entry_of(path: Path, number: int = 1, subject: str = "user:42") -> Path:
    name = digest(subject)
    return path / "subjects" / name[:2] / f"{name}-{an_id(number)}"


def run(store: AsyncFileStore, use: Callable[[AsyncFileStore], Awaitable[T]]) -> T:
    """Use the store in an event loop of its own, and close it there."""

    async def main() -> T:
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())


@contextmanager
def locked(path: Path, number: int = 1) -> Iterator[int]:
    """Another's descriptor that holds the lock of a session's branch."""
    folder = os.open(path / an_id(number)[:2], os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(folder)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with mode and content."""
    return {
        str(each.relative_to(folder)): (each.lstat().st_mode, each.read_bytes())
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


@contextmanager
def nobody() -> Iterator[Path]:
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
        subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)
        shutil.rmtree(folder)


def temporary(path: Path) -> list[Path]:
    return list(path.rglob(".*"))


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


class TestOptions:
    @pytest.mark.parametrize("path", ["", "a\0b", 5, None, b"sessions"])
    def test_path(self, path: Any) -> None:
        """What is no path of a folder is refused at once."""
        with pytest.raises(ConfigurationError, match="expected the path"):
            FileStore(path)

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "1", None])
    def test_timeout(self, path: Path, timeout: Any) -> None:
        """A time-out that is none is refused at once."""
        with pytest.raises(ConfigurationError, match="expected timeout"):
            AsyncFileStore(path, timeout=timeout)

    @pytest.mark.parametrize("fsync", ["", "never", True, None])
    def test_fsync(self, path: Path, fsync: Any) -> None:
        """There are two policies."""
        with pytest.raises(ConfigurationError, match="expected fsync"):
            AsyncFileStore(path, fsync=fsync)

    def test_not_posix(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there is no flock, the store says so, and what to use."""
        monkeypatch.setattr(locks, "fcntl", None)
        with pytest.raises(ConfigurationError, match=r"expected a POSIX system.*SQLiteStore"):
            FileStore(path)

    def test_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path means the folder in which the store was made."""
        monkeypatch.chdir(tmp_path)
        store = FileStore("relative")
        monkeypatch.chdir("/")
        store.load(an_id(1), NOW)

        assert str(tmp_path / "relative") == store.path
        assert (tmp_path / "relative").is_dir()

    def test_url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Three slashes for a relative path, four for an absolute one, with options."""
        monkeypatch.chdir(tmp_path)
        made = [
            from_url("file:///a"),
            from_url(f"file:///{tmp_path}/b?timeout=3&fsync=always"),
            async_from_url("file:///a%3F%23"),
        ]

        assert isinstance(made[0], FileStore)
        assert isinstance(made[1], FileStore)
        assert isinstance(made[2], AsyncFileStore)
        names = ["a", "b", "a?#"]
        assert [str(tmp_path / name) for name in names] == [each.path for each in made]  # type: ignore[union-attr]
        assert (3.0, True) == (made[1]._folder.timeout, made[1]._always)

    @pytest.mark.parametrize(
        "url",
        [
            "file:",
            "file:/var/lib/app/sessions",
            "file:path",
            "file:///",
            "file://host/path",
            "file://user@/path",
            "file:///path?timeout=0",
            "file:///path?fsync=never",
            "file:///path?pool_size=3",
        ],
    )
    def test_url_refused(self, url: str) -> None:
        """A URL that means something else, or an option that is none."""
        with pytest.raises(ConfigurationError):
            from_url(url)

    def test_shared_folder(self, store: FileStore) -> None:
        """The asynchronous store of a synchronous one has its folder and its options."""
        twin = AsyncFileStore(store, timeout=99)
        assert store.path == twin.path
        assert twin.file is store


def test_where_no_thread_is_to_be_had_it_is_an_outage(path: Path) -> None:
    """Until there is one again."""
    store = AsyncFileStore(path, timeout=10)
    with no_threads(), pytest.raises(StoreUnavailable, match="more threads"):
        asyncio.run(store.load(an_id(1), NOW))

    assert run(store, lambda store: store.load(an_id(1), NOW)) is None


class TestFolder:
    def refuse(self, path: Path, expected: str) -> None:
        """Each use is refused, and nothing is touched."""
        before = everything(path.parent)
        uses: list[Callable[[], object]] = [
            lambda: FileStore(path).load(an_id(1), NOW),
            lambda: FileStore(path).create(a_record(), NOW),
            lambda: run(AsyncFileStore(path), lambda store: store.load(an_id(1), NOW)),
        ]
        for use in uses:
            with pytest.raises(ConfigurationError, match=expected):
                use()
        assert before == everything(path.parent)

    def test_lazy(self, path: Path) -> None:
        """Making a store, sync or async, touches nothing; using it makes the folder."""
        store = FileStore(path)
        AsyncFileStore(path)
        assert not path.exists()
        store.load(an_id(1), NOW)
        assert ["coatcheck-sessions-1"] == os.listdir(path)

    def test_private(self, path: Path) -> None:
        """Folders are 0700 and files 0600, whatever the umask."""
        before = os.umask(0)
        try:
            FileStore(path).create(a_record(), NOW)
        finally:
            os.umask(before)
        modes = {
            (each.is_dir(), stat.S_IMODE(each.stat().st_mode)) for each in (path, *path.rglob("*"))
        }

        assert {(True, 0o700), (False, 0o600)} == modes
        assert file_of(path).is_file()
        assert entry_of(path).is_file()

    def test_nothing_stays_open(self, store: FileStore) -> None:
        """Every descriptor is closed when a verb returns or raises."""
        store.create(a_record(), NOW)
        before = descriptors()
        store.load(an_id(1), NOW)
        with pytest.raises(Collision):
            store.create(a_record(), NOW)
        store.save(a_record(revision=b"two"), b"one", NOW)
        store.by_subject("user:42", NOW)
        store.page("", 9, NOW)
        store.sweep(9, LATER)
        store.delete(an_id(1), NOW)
        assert before == descriptors()

    def test_existing_empty_folder(self, path: Path) -> None:
        """It is made ours, and keeps a mode that lets others look at it."""
        path.mkdir(0o755)
        FileStore(path).create(a_record(), NOW)
        assert 0o755 == stat.S_IMODE(path.stat().st_mode)
        assert a_record() == FileStore(path).load(an_id(1), NOW)

    def test_created_by_threads_at_once(self, tmp_path: Path) -> None:
        """None of them takes what another creates at this moment for a folder that vanished."""
        with ThreadPoolExecutor(8) as threads:
            for number in range(30):
                store = FileStore(tmp_path / str(number))
                loads = [threads.submit(store.load, an_id(1), NOW) for _ in range(8)]
                assert [None] * 8 == [each.result() for each in loads]

    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
    def test_others_write(self, path: Path, mode: int) -> None:
        """A folder that others can write to is refused, also when it became so."""
        store = FileStore(path)
        store.load(an_id(1), NOW)
        path.chmod(mode)
        self.refuse(path, "only its owner writes to")
        with pytest.raises(ConfigurationError, match="only its owner"):
            store.load(an_id(1), NOW)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
    def test_another_owner(self, path: Path) -> None:
        """A folder of another user is refused, also by root."""
        path.mkdir(0o700)
        os.chown(path, 65534, -1)
        self.refuse(path, "expected a folder of user 0.* one of user 65534")

    def test_out_of_reach(self) -> None:
        """So is one that cannot even be looked into."""
        with nobody() as folder:
            store = FileStore(folder / "sessions")
            (folder / "sessions").mkdir(0o000)
            with pytest.raises(StoreUnavailable, match=r"EACCES.*mode 0700"):
                store.load(an_id(1), NOW)

    def test_not_ours(self, path: Path) -> None:
        """A folder with other things in it is refused, and stays as it was."""
        path.mkdir(0o700)
        (path / "thesis.txt").write_text("years of work")
        self.refuse(path, "one with other things in it")

    def test_newer_version(self, store: FileStore, path: Path) -> None:
        """That of a newer coatcheck is refused."""
        store.create(a_record(), NOW)
        (path / "coatcheck-sessions-1").rename(path / "coatcheck-sessions-2")
        self.refuse(path, "expected sessions of version 1, got version 2")

    def test_no_folder_above(self, path: Path) -> None:
        """Only the last folder is made."""
        self.refuse(path / "deeper", "the folder above it to exist")

    @pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
    def test_no_folder(self, path: Path, make: Callable[[Path], None]) -> None:
        """A file, or a pipe, which must not be waited for."""
        make(path)
        with pytest.raises(ConfigurationError, match="expected a folder, got something else"):
            FileStore(path).load(an_id(1), NOW)

    def test_removed_while_running(self, store: FileStore, path: Path) -> None:
        """An outage, as of a disk that is unmounted, until another store makes it anew."""
        store.create(a_record(1), NOW)
        shutil.rmtree(path)
        for use in (
            lambda: store.load(an_id(1), NOW),
            lambda: store.create(a_record(2), NOW),
            lambda: store.delete(an_id(1), NOW),
        ):
            with pytest.raises(StoreUnavailable, match="folder that was there before, got none"):
                use()
        assert not path.exists()
        assert FileStore(path).load(an_id(1), NOW) is None
        assert store.load(an_id(1), NOW) is None

    @pytest.mark.parametrize("content", [[], ["lost+found"]])
    def test_unmounted(self, store: FileStore, path: Path, content: list[str]) -> None:
        """What is beneath a disk is no folder of sessions; when it is back, so are they."""
        store.create(a_record(), NOW)
        disk = path.rename(path.with_name("disk"))
        path.mkdir(0o700)
        for name in content:
            (path / name).mkdir()
        with pytest.raises(StoreUnavailable, match="mount its disk, or restart"):
            store.load(an_id(1), NOW)
        with pytest.raises(StoreUnavailable, match="got another one without a marker"):
            store.create(a_record(2), NOW)
        assert content == os.listdir(path)
        shutil.rmtree(path)
        disk.rename(path)
        assert a_record() == store.load(an_id(1), NOW)

    def test_emptied_while_running(self, store: FileStore, path: Path) -> None:
        """What is in it is made again, the marker too."""
        store.create(a_record(), NOW)
        for each in path.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        store.create(a_record(), NOW)
        assert a_record() == FileStore(path).load(an_id(1), NOW)

    def test_exchanged_while_running(self, store: FileStore, path: Path) -> None:
        """The folder that is there now counts."""
        store.create(a_record(), NOW)
        path.rename(path.with_name("old"))
        FileStore(path).create(a_record(2), NOW)
        assert [a_record(2)] == store.page("", 9, NOW)


class TestLinks:
    """A symbolic link is never followed, and what it leads to stays as it was."""

    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        """Another store's folder, which an attacker or a mistake makes ours lead to."""
        target = tmp_path / "target"
        FileStore(target).create(a_record(payload=b"theirs"), NOW)
        return target

    def test_folder(self, path: Path, target: Path) -> None:
        """The store's folder itself."""
        before = everything(target)
        path.symlink_to(target)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="got a symbolic link"):
                FileStore(path).delete(an_id(1), NOW)
        assert before == everything(target)

    def test_branch(self, store: FileStore, path: Path, target: Path) -> None:
        """A branch, which is what is locked too."""
        before = everything(target)
        store.load(an_id(1), NOW)
        (path / "01").symlink_to(target / "01")
        for use in (
            lambda: store.load(an_id(1), NOW),
            lambda: store.create(a_record(), NOW),
            lambda: store.save(a_record(), b"one", NOW),
            lambda: store.touch(an_id(1), b"one", LATER, LATER, NOW),
            lambda: store.delete(an_id(1), NOW),
            lambda: store.page("", 9, NOW),
            lambda: store.sweep(9, LATER),
        ):
            with pytest.raises(StoreUnavailable, match="remove what stands there"):
                use()
        assert before == everything(target)

    @pytest.mark.parametrize("which", ["subjects", "branch"])
    def test_index(self, store: FileStore, path: Path, tmp_path: Path, which: str) -> None:
        """The index, or a branch of it."""
        (elsewhere := tmp_path / "elsewhere").mkdir()
        (elsewhere / digest()[:2]).mkdir()
        store.load(an_id(1), NOW)
        if which == "branch":
            (path / "subjects").mkdir()
            (path / "subjects" / digest()[:2]).symlink_to(elsewhere)
        else:
            (path / "subjects").symlink_to(elsewhere)
        for use in (
            lambda: store.create(a_record(), NOW),
            lambda: store.by_subject("user:42", NOW),
        ):
            with pytest.raises(StoreUnavailable, match="remove what stands there"):
                use()
        assert {} == everything(elsewhere)
        assert store.load(an_id(1), NOW) is None

    def test_record(self, store: FileStore, path: Path, target: Path) -> None:
        """A link in the place of a record is no record, and is replaced or removed itself."""
        before = everything(target)
        store.create(a_record(), NOW)
        file = file_of(path)
        file.unlink()
        file.symlink_to(file_of(target))
        assert store.load(an_id(1), NOW) is None
        assert GONE is store.save(a_record(revision=b"two"), b"one", NOW)
        store.create(a_record(), NOW)
        assert a_record() == store.load(an_id(1), NOW)
        assert not file.is_symlink()
        file.unlink()
        file.symlink_to(file_of(target))
        assert store.delete(an_id(1), NOW) is False
        assert not file.is_symlink()
        assert before == everything(target)

    def test_temporary_file(self, store: FileStore, path: Path, target: Path) -> None:
        """A link in the place of the file that is to be written is removed."""
        before = everything(target)
        store.create(a_record(), NOW)
        (path / "01" / f".{an_id(1)}").symlink_to(file_of(target))
        assert SAVED is store.save(a_record(revision=b"two"), b"one", NOW)
        assert [] == temporary(path)
        assert before == everything(target)

    def test_pipe(self, store: FileStore, path: Path) -> None:
        """A pipe in the place of a record is not waited for."""
        store.create(a_record(), NOW)
        file_of(path).unlink()
        os.mkfifo(file_of(path))
        assert store.load(an_id(1), NOW) is None
        store.create(a_record(), NOW)
        assert a_record() == store.load(an_id(1), NOW)

    def test_folder_for_a_record(self, store: FileStore, path: Path) -> None:
        """A folder in the place of a record cannot be replaced."""
        store.create(a_record(), NOW)
        file_of(path).unlink()
        file_of(path).mkdir()
        assert store.load(an_id(1), NOW) is None
        with pytest.raises(StoreUnavailable):
            store.create(a_record(), NOW)
        assert [] == temporary(path)


TRICKS = [
    "",
    ".",
    "..",
    "../" * 10 + "xx",
    "/" + "a" * 31,
    "0" * 30 + "/1",
    "0" * 31,
    "0" * 33,
    "0" * 31 + "\0",
    "0" * 31 + "\n",
    "0" * 31 + "A",
    "0" * 31 + "g",
    "0" * 31 + "\u0661",
    "subjects",
    "coatcheck-sessions-1",
    b"0" * 32,
    None,
    7,
]


@pytest.mark.parametrize("id", TRICKS)
def test_no_name_comes_from_outside(path: Path, id: Any) -> None:
    """What is no id is refused before anything is touched, even the folder."""
    store = FileStore(path)
    for use in (
        lambda: store.load(id, NOW),
        lambda: store.create(a_record(id=id), NOW),
        lambda: store.save(a_record(id=id), b"one", NOW),
        lambda: store.touch(id, b"one", NOW, LATER, NOW),
        lambda: store.delete(id, NOW),
    ):
        with pytest.raises(StoreError, match="32 hexadecimal digits"):
            use()
    assert not path.exists()


@pytest.mark.parametrize("after", ["..", "/", "zz", "0", "00", "\0"])
def test_page_after_anything(store: FileStore, after: str) -> None:
    """What a walk goes on from is compared, and never becomes a path."""
    store.create(a_record(), NOW)
    expected = [a_record()] if an_id(1) > after else []
    assert expected == store.page(after, 9, NOW)


@pytest.mark.parametrize("subject", ["../../x", "/etc/passwd", "a\0b", ".", "ü" * 127, "x" * 255])
def test_subject_never_becomes_a_path(store: FileStore, path: Path, subject: str) -> None:
    """The index holds its digest."""
    store.create(a_record(subject=subject), NOW)
    assert [a_record(subject=subject)] == store.by_subject(subject, NOW)
    assert entry_of(path, subject=subject).is_file()


class TestRecords:
    def test_torn(self, store: FileStore, path: Path) -> None:
        """A file that was cut anywhere, as a power cut may leave it, is absent."""
        store.create(a_record(), NOW)
        whole = file_of(path).read_bytes()
        for length in range(len(whole)):
            file_of(path).write_bytes(whole[:length])
            assert store.load(an_id(1), NOW) is None
        assert GONE is store.save(a_record(revision=b"two"), b"one", NOW)
        assert store.touch(an_id(1), b"one", NOW, LATER, NOW) is False
        assert [] == store.by_subject("user:42", NOW)
        assert [] == store.page("", 9, NOW)
        file_of(path).write_bytes(whole)
        assert a_record() == store.load(an_id(1), NOW)

    @pytest.mark.parametrize("garbage", [b"", b"\0" * 400, b"\x01", b"\x01\x93\x01", b"<html>"])
    def test_garbage(self, store: FileStore, path: Path, garbage: bytes) -> None:
        """Whatever was pasted in is replaced by a create, and removed by a delete."""
        if garbage[:1] == b"<":
            garbage = b"\x01" + garbage
        store.create(a_record(), NOW)
        file_of(path).write_bytes(garbage)
        store.create(a_record(payload=b"new"), NOW)
        assert a_record(payload=b"new") == store.load(an_id(1), NOW)
        file_of(path).write_bytes(garbage)
        assert store.delete(an_id(1), NOW) is False
        assert not file_of(path).exists()

    def test_copied(self, store: FileStore, path: Path) -> None:
        """A record under another's name is not that one's."""
        store.create(a_record(1), NOW)
        store.create(a_record(2), NOW)
        shutil.copy(file_of(path, 1), file_of(path, 2))
        assert store.load(an_id(2), NOW) is None

    def test_newer_format(self, store: FileStore, path: Path) -> None:
        """A record of a newer coatcheck is an outage to every verb, and stays; delete ends it."""
        store.create(a_record(), NOW)
        newer = b"\x02" + file_of(path).read_bytes()[1:]
        file_of(path).write_bytes(newer)
        os.utime(file_of(path), (0, 0))
        for use in (
            lambda: store.load(an_id(1), NOW),
            lambda: store.create(a_record(), LATER),
            lambda: store.save(a_record(), b"one", NOW),
            lambda: store.touch(an_id(1), b"one", NOW, LATER, NOW),
            lambda: store.by_subject("user:42", NOW),
            lambda: store.page("", 9, NOW),
        ):
            with pytest.raises(NewerFormat):
                use()
        assert 0 == store.sweep(9, LATER)
        assert newer == file_of(path).read_bytes()
        assert store.delete(an_id(1), NOW) is True
        assert not file_of(path).exists()

    def test_content(self, store: FileStore, path: Path) -> None:
        """A file holds the record's one byte format, and nothing else."""
        store.create(a_record(), NOW)
        assert records.dump(a_record()) == file_of(path).read_bytes()

    @pytest.mark.parametrize("size", [0, 1, 4096, 1_000_000])
    def test_sizes(self, store: FileStore, size: int) -> None:
        """A session may be as large as `max_bytes` allows."""
        record = a_record(payload=os.urandom(size))
        store.create(record, NOW)
        assert record == store.load(an_id(1), NOW)

    @pytest.mark.parametrize("expires_at", [NOW + 1, 2**31 * 1000 + 7, 2**53])
    def test_far_times(self, store: FileStore, expires_at: int) -> None:
        """Times that the file system cannot keep are kept in the record."""
        store.create(a_record(expires_at=expires_at), NOW)
        assert store.load(an_id(1), expires_at - 1) is not None
        assert store.load(an_id(1), expires_at) is None
        assert 0 == store.sweep(9, expires_at - 1)
        assert 1 == store.sweep(9, expires_at)

    def test_touch_that_moves_nothing(self, store: FileStore, path: Path) -> None:
        """It is answered, and writes nothing."""
        store.create(a_record(), NOW)
        before = file_of(path).stat().st_ino
        assert store.touch(an_id(1), b"one", NOW, LATER, NOW) is True
        assert before == file_of(path).stat().st_ino


class TestIndex:
    def test_entries_follow(self, store: FileStore, path: Path) -> None:
        """There is one for each session that has a subject, and no other."""
        store.create(a_record(1, subject=None), NOW)
        assert not (path / "subjects").exists()
        store.save(a_record(1, revision=b"two"), b"one", NOW)
        assert entry_of(path).exists()
        store.save(a_record(1, revision=b"three", subject="user:7"), b"two", NOW)
        assert not entry_of(path).exists()
        assert entry_of(path, subject="user:7").exists()
        store.delete(an_id(1), NOW)
        assert not entry_of(path, subject="user:7").exists()

    def test_create_over_expired(self, store: FileStore, path: Path) -> None:
        """The entry of what was there goes."""
        store.create(a_record(), NOW)
        store.create(a_record(subject="user:7", expires_at=LATER + 9), LATER)
        assert not entry_of(path).exists()
        assert entry_of(path, subject="user:7").exists()

    def test_dangling(self, store: FileStore, path: Path) -> None:
        """What a crash left in the index is nobody's session; a sweep removes it."""
        store.create(a_record(1), NOW)
        store.create(a_record(2, subject="user:7"), NOW)
        for number in (2, 3):
            entry_of(path, number).touch()
        file_of(path, 4).parent.mkdir()
        entry_of(path, 4).touch()
        assert [a_record(1)] == store.by_subject("user:42", NOW)
        assert 0 == store.sweep(9, NOW)
        left = {each.name for each in entry_of(path).parent.iterdir()}
        assert {entry_of(path, number).name for number in (1, 2)} == left
        store.delete(an_id(2), NOW)
        store.sweep(9, NOW)
        assert [entry_of(path).name] == os.listdir(entry_of(path).parent)

    def test_entry_of_a_login_in_flight(self, store: FileStore, path: Path) -> None:
        """A sweep that meets an entry before its record waits for the lock, and looks again."""
        store.create(a_record(2), NOW)
        (path / an_id(1)[:2]).mkdir(0o700)
        with locked(path):
            entry_of(path).touch()
            sweeping = threading.Thread(target=store.sweep, args=(9, NOW))
            sweeping.start()
            until(lambda: waits_for(store, 1), "the sweep's wait")
            with os.scandir(path / "01") as files:
                assert [] == list(files)
            file_of(path).write_bytes(records.dump(a_record()))
        sweeping.join()
        assert [an_id(1), an_id(2)] == sorted(r.id for r in store.by_subject("user:42", NOW))

    def test_healed_by_a_save(self, store: FileStore, path: Path) -> None:
        """An entry that somebody removed is back with the next save."""
        store.create(a_record(), NOW)
        shutil.rmtree(path / "subjects")
        assert [] == store.by_subject("user:42", NOW)
        second = a_record(revision=b"two")
        store.save(second, b"one", NOW)
        assert [second] == store.by_subject("user:42", NOW)

    def test_reads_only_theirs(
        self, store: FileStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Listing one subject's sessions reads no others'."""
        for number in range(50):
            store.create(a_record(number, subject=f"user:{number % 25}"), NOW)
        read = reads(monkeypatch)
        assert 2 == len(store.by_subject("user:3", NOW))
        assert sorted([an_id(3), an_id(28)]) == sorted(read)

    def test_page_reads_what_it_gives(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page reads no record that another page has."""
        for number in range(50):
            store.create(a_record(number), NOW)
        read = reads(monkeypatch)
        assert 5 == len(store.page(an_id(9), 5, NOW))
        assert [an_id(number) for number in range(10, 15)] == read

    def test_no_limit_below_zero(self, store: FileStore) -> None:
        """A negative limit is none at all."""
        store.create(a_record(), NOW)
        assert [] == store.page("", -1, NOW)
        assert 0 == store.sweep(-1, LATER)


def mark_of(path: Path, subject: str = "user:42") -> Path:
    name = digest(subject)
    return path / "subjects" / name[:2] / name


def is_forbidden(store: FileStore, subject: str = "user:42") -> bool:
    login = a_record(9, subject=subject)
    return store.admit(login, b"", Entry(NOW - 1), NOW) is FORBIDDEN


class TestLogins:
    """What the contract cannot see of marks and limits."""

    def test_a_mark_survives(self, store: FileStore, path: Path) -> None:
        """It is a private file beside its subject's entries."""
        store.forbid("user:42", NOW, None, LATER, NOW)
        assert is_forbidden(FileStore(path))
        assert [0o600, 0o700, 0o700] == [
            stat.S_IMODE(each.stat().st_mode)
            for each in (mark_of(path), mark_of(path).parent, path / "subjects")
        ]

    def test_lapsed_marks_are_swept(self, store: FileStore, path: Path) -> None:
        """Uncounted, with what a crash left of one; those that are to be kept stay."""
        for number in range(3):
            store.forbid(f"user:{number}", NOW, None, LATER + number, NOW)
        half = mark_of(path).with_name(f".{digest()}")
        half.parent.mkdir(exist_ok=True)
        half.write_bytes(b"half")
        assert 0 == store.sweep(9, LATER + 1)
        assert not half.exists()
        assert [False, False, True] == [is_forbidden(store, f"user:{n}") for n in range(3)]

    def test_a_folder_without_marks(self, store: FileStore, path: Path) -> None:
        """One from before there were any gets them; without a login, it had no index either."""
        store.create(a_record(subject=None), NOW)
        assert ["01", "coatcheck-sessions-1"] == sorted(os.listdir(path))
        store.forbid("user:42", NOW, None, LATER, NOW)
        assert is_forbidden(FileStore(path))
        assert a_record(subject=None) == store.load(an_id(1), NOW)

    def test_a_mark_in_an_emptied_folder(self, store: FileStore, path: Path) -> None:
        """The first thing in it is the marker again, or the next process would refuse it."""
        store.create(a_record(), NOW)
        subprocess.run(["rm", "-r", *path.iterdir()], check=True)
        store.forbid("user:42", NOW, None, LATER, NOW)
        assert is_forbidden(FileStore(path))

    def test_a_mark_of_a_newer_coatcheck(self, store: FileStore, path: Path) -> None:
        """It is left alone, and an outage, also for who would replace it."""
        store.forbid("user:42", NOW, None, LATER, NOW)
        mark_of(path).write_bytes(b"\x02newer")
        os.utime(mark_of(path), (0, 0))
        with pytest.raises(NewerFormat):
            is_forbidden(store)
        with pytest.raises(NewerFormat):
            store.forbid("user:42", NOW, None, LATER, NOW)
        store.sweep(9, LATER)
        assert b"\x02newer" == mark_of(path).read_bytes()

    @pytest.mark.parametrize("content", [b"", b"\x01garbage", None])
    def test_a_mark_that_cannot_be_read(
        self, store: FileStore, path: Path, tmp_path: Path, content: bytes | None
    ) -> None:
        """It is none, be it a link even to a real one; the next one takes its place."""
        store.forbid("user:42", NOW, None, LATER, NOW)
        if content is None:
            mark_of(path).rename(tmp_path / "real")
            mark_of(path).symlink_to(tmp_path / "real")
        else:
            mark_of(path).write_bytes(content)
        assert not is_forbidden(store)
        store.forbid("user:42", NOW, None, LATER, NOW)
        assert is_forbidden(store)

    def test_busy(self, path: Path) -> None:
        """Where a turn does not come, be it that of a session to end, nothing was begun."""
        store = FileStore(path, timeout=0.05)
        store.create(a_record(), NOW)
        login = a_record(2, login_at=NOW)
        with locked(path), pytest.raises(locks.Busy):
            store.admit(login, b"", Entry(NOW, most=1), NOW)
        assert [a_record()] == store.page("", 9, NOW)
        assert Entered([an_id(1)]) == store.admit(login, b"", Entry(NOW, most=1), NOW)

    def test_a_full_limit_hides_no_collision(self, store: FileStore) -> None:
        """What could not be written anyway is told first, as every store does."""
        store.create(a_record(), NOW)
        store.create(a_record(2), NOW)
        full = Entry(NOW, most=1, refuse=True)
        with pytest.raises(Collision):
            store.admit(a_record(2, revision=b"two"), b"", full, NOW)
        assert GONE is store.admit(a_record(3), b"one", full, NOW)
        assert a_record(2) == store.admit(a_record(2, revision=b"two"), b"no", full, NOW)

    def test_a_session_that_became_another_subjects(self, store: FileStore, path: Path) -> None:
        """While the login waited for its turn, with none that comes after it in its hands: it is no
        longer one of those too many."""
        store.create(a_record(), NOW)
        theirs = a_record(revision=b"two", subject="user:7")
        with ThreadPoolExecutor() as threads:
            with locked(path):
                login = a_record(2, login_at=NOW)
                waiting = threads.submit(store.admit, login, b"", Entry(NOW, most=1), NOW)
                until(lambda: waits_for(store, 1), "the login to wait")
                assert not waits_for(store, 2)
                file_of(path).write_bytes(records.dump(theirs))
            assert Entered([]) == waiting.result()
        assert theirs == store.load(an_id(1), NOW)


def waits_for(store: FileStore, number: int) -> bool:
    """Whether somebody has the turn of that branch among this store's threads."""
    return store._folder._locks._turns[number]._held


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of every record that is read from here on."""
    read: list[str] = []
    real = files.read

    def noted(folder: int, id: str) -> Record | None:
        read.append(id)
        return real(folder, id)

    monkeypatch.setattr(files, "read", noted)
    return read


class TestSweep:
    def test_reads_what_may_have_expired(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The living are passed over by their files' times."""
        for number in range(20):
            store.create(a_record(number, expires_at=NOW + number), NOW - 1)
        read = reads(monkeypatch)
        assert 5 == store.sweep(99, NOW + 4)
        assert [an_id(number) for number in range(5)] == sorted(read)
        assert 15 == len(store.page("", 99, 0))

    def test_the_record_decides(self, store: FileStore, path: Path) -> None:
        """A file whose time is wrong, as a restored backup's may be, stays, and is dated again."""
        store.create(a_record(), NOW)
        os.utime(file_of(path), (0, 0))
        assert 0 == store.sweep(9, NOW)
        assert a_record() == store.load(an_id(1), NOW)
        assert LATER * 10**6 == file_of(path).stat().st_mtime_ns

    def test_touched(self, store: FileStore) -> None:
        """What was prolonged lives on."""
        store.create(a_record(), NOW)
        store.touch(an_id(1), b"one", NOW, LATER + 9, NOW)
        assert [0, 1] == [store.sweep(9, LATER + 8), store.sweep(9, LATER + 9)]

    def test_goes_on_where_it_stopped(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Batches do not begin at the first branch again."""
        for number in range(30):
            store.create(a_record(number, expires_at=NOW), NOW - 1)
        seen: list[str] = []
        real = os.scandir

        def noted(folder: Any) -> Any:
            seen.append("scanned")
            return real(folder)

        monkeypatch.setattr(os, "scandir", noted)
        assert [10, 10, 10] == [store.sweep(10, NOW) for _ in range(3)]
        assert len(seen) <= 33
        assert 0 == store.sweep(10, NOW)

    def test_index_goes_too(self, store: FileStore, path: Path) -> None:
        """The entry of what expired is removed with it."""
        store.create(a_record(), NOW)
        assert 1 == store.sweep(1, LATER)
        assert not entry_of(path).exists()

    def test_leftovers(self, store: FileStore, path: Path) -> None:
        """What a process that died was writing is removed, and nothing else is."""
        store.create(a_record(), NOW)
        (path / "01" / f".{an_id(1)}").write_bytes(b"half")
        (path / "01" / f".{an_id(257)}").write_bytes(b"half")
        (path / "01" / "README").write_text("not ours")
        assert 0 == store.sweep(9, NOW)
        assert {an_id(1), "README"} == set(os.listdir(path / "01"))
        assert a_record() == store.load(an_id(1), NOW)

    def test_garbage(self, store: FileStore, path: Path) -> None:
        """What cannot be read has expired, as far as its file's time allows."""
        store.create(a_record(), NOW)
        file_of(path).write_bytes(b"")
        os.utime(file_of(path), (1, 1))
        assert 1 == store.sweep(9, NOW)
        assert [] == os.listdir(path / "01")
        store.sweep(9, NOW)
        assert not entry_of(path).exists()

    def test_passes_over_what_is_busy(self, path: Path) -> None:
        """A branch that another keeps locked holds up no other; alone, it is an outage."""
        store = FileStore(path, timeout=0.05)
        for number in (1, 2, 3):
            store.create(a_record(number), NOW)
        with locked(path, 2):
            assert 2 == store.sweep(9, LATER)
            with pytest.raises(StoreUnavailable, match="other processes keep"):
                store.sweep(9, LATER)
        assert [1, 0] == [store.sweep(9, LATER) for _ in range(2)]

    def test_while_others_write(self, store: FileStore) -> None:
        """Sweeping beside logins removes what expired, and no login."""
        for number in range(60):
            store.create(a_record(number, expires_at=NOW, subject=None), NOW - 1)
        sweeping = threading.Thread(target=lambda: [store.sweep(7, NOW) for _ in range(20)])
        sweeping.start()
        for number in range(60):
            store.create(a_record(number, subject="new"), NOW)
        sweeping.join()
        assert 60 == len(store.by_subject("new", NOW)) == len(store.page("", 999, NOW))


class TestLocked:
    """Another holds the lock: a write fails in time, a read does not even notice."""

    def test_write(self, path: Path) -> None:
        """A write waits no longer than it may, changes nothing, and works when it is free."""
        store = FileStore(path, timeout=0.2)
        store.create(a_record(), NOW)
        with locked(path):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="other processes keep"):
                store.delete(an_id(1), NOW)
            assert 0.2 <= time.monotonic() - began < 2
        assert a_record() == store.load(an_id(1), NOW)
        assert store.delete(an_id(1), NOW)

    def test_read(self, path: Path, store: FileStore) -> None:
        """A read goes on, also the first of a store."""
        store.create(a_record(), NOW)
        with locked(path):
            assert a_record() == store.load(an_id(1), NOW) == FileStore(path).load(an_id(1), NOW)
            assert [a_record()] == store.by_subject("user:42", NOW)

    def test_other_branches(self, path: Path) -> None:
        """A lock holds up the sessions of its branch alone."""
        store = FileStore(path, timeout=0.2)
        store.create(a_record(1), NOW)
        with locked(path, 1):
            store.create(a_record(2), NOW)
        assert a_record(2) == store.load(an_id(2), NOW)

    def test_threads(self, path: Path) -> None:
        """A thread of the same process that takes too long is waited for no longer either."""
        store = FileStore(path, timeout=0.2)
        store.create(a_record(), NOW)
        lock = store._folder._locks._turns[1]
        assert lock.acquire(1)
        with pytest.raises(StoreUnavailable, match="other threads keep"):
            store.delete(an_id(1), NOW)
        lock.release()
        assert store.delete(an_id(1), NOW)

    def test_others_go_first(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a turn that met another process, the next one lets it try before."""
        store = FileStore(path, timeout=0.05)
        store.create(a_record(), NOW)
        with locked(path), pytest.raises(StoreUnavailable):
            store.delete(an_id(1), NOW)
        monkeypatch.setattr(locks, "_SOON", 60)
        pauses: list[float] = []
        monkeypatch.setattr(time, "sleep", pauses.append)
        counts = []
        for _ in range(2):
            store.touch(an_id(1), b"one", NOW, LATER, NOW)
            counts.append(len(pauses))
        assert [0, 1] == counts

    def test_request_that_waited_before(self, path: Path) -> None:
        """A write waits no longer than its request may."""
        store = FileStore(path, timeout=60)
        store.create(a_record(), NOW)
        with locked(path), patience.limit(0.05), pytest.raises(StoreUnavailable):
            store.delete(an_id(1), NOW)

    def test_async(self, path: Path) -> None:
        """Of the writes of one turn, those that must wait hold up no other."""

        async def use(store: AsyncFileStore) -> list[Any]:
            for number in (1, 2, 3):
                await store.create(a_record(number), NOW)
            with locked(path, 2):
                began = time.monotonic()
                calls = [store.delete(an_id(number), NOW) for number in (1, 2, 3, 258)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert 0.2 <= time.monotonic() - began < 2
                assert await store.load(an_id(2), NOW) == a_record(2)
            return [*answers, await store.delete(an_id(2), NOW)]

        first, busy, third, busy_too, freed = run(AsyncFileStore(path, timeout=0.2), use)
        assert [True, True, True] == [first, third, freed]
        assert isinstance(busy, StoreUnavailable)
        assert isinstance(busy_too, StoreUnavailable)
        assert busy is not busy_too

    def test_async_all_threads(self, path: Path) -> None:
        """More writes to a branch that is kept locked than there are threads hold up no other."""

        async def use(store: AsyncFileStore) -> bool:
            for number in (1, 2):
                await store.create(a_record(number), NOW)
            with locked(path, 2):
                stuck = [asyncio.ensure_future(store.delete(an_id(2), NOW)) for _ in range(100)]
                await asyncio.wait(stuck, timeout=0.05)
                other = await asyncio.wait_for(store.delete(an_id(1), NOW), 10)
                for task in stuck:
                    task.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)
            return other

        assert run(AsyncFileStore(path, timeout=60), use)


class TestAsync:
    def test_cancelled(self, path: Path) -> None:
        """A write that was cancelled while it waited is whole: there or not."""

        async def use(store: AsyncFileStore) -> Record | None:
            await store.create(a_record(), NOW)
            with locked(path):
                saving = asyncio.ensure_future(store.save(a_record(revision=b"two"), b"one", NOW))
                await asyncio.wait([saving], timeout=0.05)
                saving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await saving
            return await store.load(an_id(1), NOW)

        found = run(AsyncFileStore(path), use)
        assert found in (a_record(), a_record(revision=b"two"))

    def test_writes_of_one_turn(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sixty-four writes that one turn asks for go to the threads in eight hops."""

        async def use(store: AsyncFileStore) -> int:
            hops = 0
            real = store._threads.run

            async def counted(work: Callable[[], Any]) -> Any:
                nonlocal hops
                hops += 1
                return await real(work)

            monkeypatch.setattr(store._threads, "run", counted)
            calls = [store.create(a_record(number, subject=None), NOW) for number in range(64)]
            await asyncio.gather(*calls)
            return hops

        assert 8 == run(AsyncFileStore(path, timeout=10), use)

    def test_late(self) -> None:
        """A write whose turn comes when nobody waits for it any more is not done."""
        done: list[str] = []
        late = threads._Write(lambda: done.append("late"), 0)
        in_time = threads._Write(lambda: done.append("in time"), 60)
        answers = threads._carry_out([late, in_time])
        assert isinstance(answers[0], StoreUnavailable)
        assert ["in time"] == done

    def test_two_loops_at_once(self, path: Path) -> None:
        """Tasks of two loops in two threads share one store."""
        store = AsyncFileStore(path, timeout=10)

        async def work(start: int) -> None:
            calls = [store.create(a_record(number), NOW) for number in range(start, start + 50)]
            await asyncio.gather(*calls)

        threads = [threading.Thread(target=asyncio.run, args=(work(start),)) for start in (0, 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 100 == len(run(store, lambda store: store.page("", 999, NOW)))

    def test_close_and_go_on(self, path: Path) -> None:
        """Closing ends the threads; using the store again starts others."""
        store = AsyncFileStore(path)
        run(store, lambda store: store.create(a_record(1), NOW))
        assert [] == [t for t in threading.enumerate() if t.name.startswith("coatcheck-file")]
        run(store, lambda store: store.create(a_record(2), NOW))
        assert 2 == len(run(store, lambda store: store.page("", 9, NOW)))

    def test_close_while_writing(self, path: Path) -> None:
        """Closing waits for what was begun."""
        store = AsyncFileStore(path, timeout=0.2)

        async def main() -> list[threading.Thread]:
            await store.create(a_record(), NOW)
            with locked(path):
                saving = asyncio.ensure_future(store.delete(an_id(1), NOW))
                await asyncio.wait([saving], timeout=0.05)
                await store.close()
                left = [t for t in threading.enumerate() if t.name.startswith("coatcheck-file")]
                with pytest.raises(StoreUnavailable):
                    await saving
            return left

        assert [] == asyncio.run(main())

    def test_loop_that_ended_early(self, path: Path) -> None:
        """A loop that was closed while a write waited leaves the store to the next one."""
        store = AsyncFileStore(path)
        asyncio.run(store.create(a_record(), NOW))

        async def leave() -> None:
            saving = asyncio.ensure_future(store.save(a_record(revision=b"two"), b"one", NOW))
            await asyncio.wait([saving], timeout=0.05)

        with locked(path):
            asyncio.run(leave())
        assert run(store, lambda store: store.delete(an_id(1), NOW))

    @forks_beside_threads
    def test_fork(self, path: Path) -> None:
        """The child of a process whose threads ran starts its own."""
        store = AsyncFileStore(path, timeout=10)
        asyncio.run(store.create(a_record(1), NOW))

        def child() -> int:
            asyncio.run(store.create(a_record(2), NOW))
            return len(run(store, lambda store: store.page("", 9, NOW)))

        assert 2 == in_child(child)
        assert 2 == len(run(store, lambda store: store.page("", 9, NOW)))


class TestDisk:
    """What the operating system refuses is told with a remedy, and nothing is half-written."""

    def use_all(self, store: FileStore, expected: str) -> None:
        """Each verb that would write something new is refused."""
        for use in (
            lambda: store.create(a_record(2), NOW),
            lambda: store.save(a_record(revision=b"two", payload=bytes(9000)), b"one", NOW),
            lambda: store.touch(an_id(1), b"one", NOW + 1, LATER, NOW),
        ):
            with pytest.raises(StoreUnavailable, match=expected):
                use()
        assert a_record() == store.load(an_id(1), NOW)
        assert store.load(an_id(2), NOW) is None

    def test_half_written(self, store: FileStore, path: Path) -> None:
        """A write that the system stops in the middle leaves no file behind."""
        store.create(a_record(), NOW)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
        try:
            self.use_all(store, "EFBIG.*ulimit -f")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert [] == temporary(path)
        store.create(a_record(2), NOW)

    def test_full(self, tmp_path: Path) -> None:
        """A full disk refuses writes; reads and ends go on, and make room."""
        program = f"""
import subprocess
from contextlib import suppress
from tests.test_file import *
folder = Path({str(tmp_path)!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
store = FileStore(folder / "sessions")
store.create(a_record(), NOW)
store.create(a_record(2), NOW)
store.delete(an_id(2), NOW)
with open(folder / "filler", "wb", buffering=0) as filler, suppress(OSError):
    while filler.write(bytes(4096)):
        pass
TestDisk().use_all(store, "ENOSPC.*free space")
assert [] == temporary(folder)
store.sweep(9, NOW)
assert store.delete(an_id(1), NOW) is True
store.create(a_record(2, payload=b""), NOW)
print("done")
"""
        alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this system does not let tests mount a small disk")
        ran = subprocess.run(
            [*alone, sys.executable, "-c", program],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ("done\n", "") == (ran.stdout, ran.stderr)

    def test_read_only(self) -> None:
        """A folder that may not be written any more: reads go on."""
        with nobody() as folder:
            path = folder / "sessions"
            store = FileStore(path)
            store.create(a_record(), NOW)
            for each in (path, path / "01"):
                each.chmod(0o500)
            self.use_all(store, "EACCES.*give it back")
            with pytest.raises(StoreUnavailable, match="EACCES"):
                store.delete(an_id(1), NOW)

    def test_cannot_be_created(self) -> None:
        """The first use says that the folder above may not be written."""
        with nobody() as folder:
            folder.chmod(0o500)
            with pytest.raises(ConfigurationError, match="no permission"):
                FileStore(folder / "sessions").load(an_id(1), NOW)

    def test_no_descriptor_left(self, store: FileStore) -> None:
        """A process that has too many files open is told so, and goes on when it has fewer."""
        store.create(a_record(), NOW)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = descriptors()
        for spare in range(4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1 + spare, hard))
            try:
                with pytest.raises(StoreUnavailable, match=r"EMFILE.*ulimit -n"):
                    store.save(a_record(revision=b"two"), b"one", NOW)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert used == descriptors()
        assert a_record() == store.load(an_id(1), NOW)
        assert SAVED is store.save(a_record(revision=b"two"), b"one", NOW)


class TestDurability:
    """Which writes wait for the disk, and that they do so in the right order."""

    @pytest.fixture
    def steps(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What is synced, renamed and removed, by its place in the folder."""
        told: list[str] = []
        rename, unlink, fsync, mkdir = os.rename, os.unlink, os.fsync, os.mkdir

        def name(descriptor: int) -> str:
            where = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            return str(where.relative_to(path.parent))

        def renamed(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
            rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            told.append(f"rename to {name(dst_dir_fd)}/{new}")

        def unlinked(old: str, *, dir_fd: int) -> None:
            unlink(old, dir_fd=dir_fd)
            told.append(f"unlink {name(dir_fd)}/{old}")

        def made(new: Any, mode: int, *, dir_fd: int | None = None) -> None:
            mkdir(new, mode, dir_fd=dir_fd)
            told.append(f"mkdir {new}" if dir_fd is None else f"mkdir {name(dir_fd)}/{new}")

        def synced(descriptor: int) -> None:
            told.append(f"sync {name(descriptor)}")
            fsync(descriptor)

        monkeypatch.setattr(os, "rename", renamed)
        monkeypatch.setattr(os, "unlink", unlinked)
        monkeypatch.setattr(os, "mkdir", made)
        monkeypatch.setattr(os, "fsync", synced)
        return told

    branch = "sessions/01"
    record = f"{branch}/{an_id(1)}"
    half = f"{branch}/.{an_id(1)}"
    index = f"sessions/subjects/{digest()[:2]}"

    def test_first_use(self, store: FileStore, path: Path, steps: list[str]) -> None:
        """Each folder that is made is on the disk before anything in it counts."""
        store.create(a_record(), NOW)
        assert [
            f"mkdir {path}",
            "sync .",
            "sync sessions",  # its marker
            "mkdir sessions/01",
            "sync sessions",
            "sync sessions",
            "mkdir sessions/subjects",
            "sync sessions",
            f"mkdir {self.index}",
            "sync sessions/subjects",
            f"sync {self.index}",
            f"sync {self.half}",
            f"rename to {self.record}",
            f"sync {self.branch}",
        ] == steps

    def test_create_of_a_login(self, store: FileStore, steps: list[str]) -> None:
        """Its entry, its content and its name are on the disk when it returns."""
        store.create(a_record(257), NOW)
        steps.clear()
        store.create(a_record(), NOW)
        assert [
            f"sync {self.index}",
            f"sync {self.half}",
            f"rename to {self.record}",
            f"sync {self.branch}",
        ] == steps

    def test_admitted_login(self, store: FileStore, steps: list[str]) -> None:
        """Its content before its name; all names, and the ends, when it returns."""
        for number in (257, 2):
            store.create(a_record(number), NOW)
        steps.clear()
        store.admit(a_record(login_at=NOW), b"", Entry(NOW, most=2), NOW)
        assert [
            f"sync {self.half}",
            f"rename to {self.record}",
            f"unlink {self.branch}/{an_id(257)}",
            f"unlink {self.index}/{digest()}-{an_id(257)}",
            f"sync {self.index}",
            f"sync {self.branch}",
        ] == steps

    def test_mark(self, store: FileStore, steps: list[str]) -> None:
        """Its content before its name, and both when it returns."""
        store.create(a_record(), NOW)
        steps.clear()
        store.forbid("user:42", NOW, None, LATER, NOW)
        assert [
            f"sync {self.index}/.{digest()}",
            f"rename to {self.index}/{digest()}",
            f"sync {self.index}",
        ] == steps

    def test_create_of_a_login_that_collides(self, store: FileStore, steps: list[str]) -> None:
        """What is there already may not be on the disk yet; whoever is told so relies on it."""
        store.create(a_record(), NOW)
        steps.clear()
        with pytest.raises(Collision):
            store.create(a_record(), NOW)
        assert [f"sync {self.branch}"] == steps

    def test_anonymous_create_and_saves(self, store: FileStore, steps: list[str]) -> None:
        """They do not wait."""
        store.create(a_record(257), NOW)
        steps.clear()
        store.create(a_record(subject=None), NOW)
        store.save(a_record(revision=b"two"), b"one", NOW)
        store.touch(an_id(1), b"two", NOW + 1, LATER + 1, NOW)
        assert [f"rename to {self.record}"] * 3 == steps

    @pytest.mark.parametrize("there", [True, False])
    def test_delete(self, store: FileStore, steps: list[str], there: bool) -> None:
        """Its end is on the disk when it returns, also where another was faster."""
        store.create(a_record(), NOW)
        if not there:
            store.delete(an_id(1), NOW)
        steps.clear()
        store.delete(an_id(1), NOW)
        assert f"sync {self.branch}" == steps[-1]
        assert there == (f"unlink {self.record}" in steps)

    def test_always(self, path: Path, steps: list[str]) -> None:
        """Where the site wants it, every write waits."""
        store = FileStore(path, fsync="always")
        store.create(a_record(257), NOW)
        written = [f"sync {self.half}", f"rename to {self.record}", f"sync {self.branch}"]
        steps.clear()
        store.create(a_record(subject=None), NOW)
        assert written == steps
        steps.clear()
        store.save(a_record(revision=b"two"), b"one", NOW)
        store.touch(an_id(1), b"two", NOW + 1, LATER + 1, NOW)
        assert [f"sync {self.index}", *written] * 2 == steps

    def test_asynchronous(self, path: Path, steps: list[str]) -> None:
        """The same, in threads."""

        async def use(store: AsyncFileStore) -> None:
            await store.create(a_record(), NOW)
            steps.clear()
            await store.delete(an_id(1), NOW)

        run(AsyncFileStore(path), use)
        assert f"sync {self.branch}" == steps[-1]

    def test_disk_that_fails(
        self, store: FileStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A login that the disk did not take is not there; nor is an end told that it refused."""
        store.create(a_record(2), NOW)

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(StoreUnavailable, match=r"EIO.*look at the folder and its disk"):
                store.create(a_record(258), NOW)
            with pytest.raises(StoreUnavailable, match="EIO"):
                store.delete(an_id(2), NOW)
        assert store.load(an_id(258), NOW) is None
        assert [] == temporary(path)
        store.create(a_record(258), NOW)


class TestForks:
    def test_no_descriptor_for_the_child(self, store: FileStore) -> None:
        """A child has a store that works, and the parent's too."""
        store.create(a_record(1), NOW)

        def child() -> int:
            store.create(a_record(2), NOW)
            return len(store.page("", 9, NOW))

        assert 2 == in_child(child)
        assert [a_record(1), a_record(2)] == store.page("", 9, NOW)

    @forks_beside_threads
    @pytest.mark.parametrize("divide", [os.fork, c_fork])
    def test_beside_a_writer(self, path: Path, divide: Callable[[], int]) -> None:
        """A child that is born while a thread writes waits its turn like any other process."""
        store = FileStore(path, timeout=0.2)
        store.create(a_record(), NOW)
        with writing(store) as go_on:

            def child() -> bool:
                with pytest.raises(StoreUnavailable) as raised:
                    store.delete(an_id(1), NOW)
                return "other processes keep" in str(raised.value)

            assert in_child(child, divide) is True
            go_on.set()
        assert in_child(lambda: store.delete(an_id(1), NOW), divide) is True

    @forks_beside_threads
    @pytest.mark.parametrize("divide", [os.fork, c_fork])
    def test_a_child_may_drop_what_its_parent_made(
        self, path: Path, divide: Callable[[], int]
    ) -> None:
        """The threads are not there to be told; Python 3.13 would crash, if C forked it."""
        made: list[Any] = [AsyncFileStore(path, timeout=10)]
        asyncio.run(made[0].create(a_record(), NOW))
        made[:] = [[made[0], made]]  # a cycle, which is collected later

        def act() -> str:
            made.pop().append(made)
            gc.collect()
            return "dropped"

        assert "dropped" == in_child(act, divide)

    def test_copy_keeps_no_lock(self, path: Path) -> None:
        """A descriptor copied meanwhile, as for a program that is about to start, holds nothing."""
        store = FileStore(path, timeout=0.2)
        store.create(a_record(), NOW)
        with store._folder.opened() as root, store._folder.turn(root, an_id(1)[:2]) as folder:
            assert folder is not None
            copied = os.dup(folder)
        assert store.delete(an_id(1), NOW)
        os.close(copied)

    @forks_beside_threads
    def test_child_keeps_no_lock(self, path: Path) -> None:
        """A process that is killed in the middle of a write leaves its lock to none of its
        children."""
        store = FileStore(path, timeout=10)
        store.create(a_record(), NOW)
        waiting, going_on = os.pipe()
        heard, told = os.pipe()

        def child() -> None:
            os.close(going_on)
            os.read(waiting, 1)  # until the test ends

        def parent() -> None:
            with writing(store):
                os.write(told, b"%d" % fork(child)[0])
                signal.pause()

        process, _ = fork(parent)
        try:
            born = int(os.read(heard, 20))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.kill(born, 0)  # it lives on
            assert store.delete(an_id(1), NOW)
        finally:
            os.close(going_on)

    @forks_beside_threads
    def test_beside_threads(self, store: FileStore) -> None:
        """Forks while threads read and write: every child works, and nothing is lost."""
        store.create(a_record(0, payload=b"0"), NOW)
        done = threading.Event()
        written: list[int] = []

        def write() -> None:
            number = 1000
            while not done.is_set():
                store.create(a_record(number, subject=None), NOW)
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


@contextmanager
def writing(store: FileStore) -> Iterator[threading.Event]:
    """A thread that is in the middle of a write of record 1 until it may go on."""
    begun, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with store._folder.opened() as root, store._folder.turn(root, an_id(1)[:2]):
            begun.set()
            go_on.wait()

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    try:
        yield go_on
    finally:
        go_on.set()
        thread.join()


def count_up(store: FileStore, times: int) -> None:
    """Read, add one, save, and again where another was faster."""
    for _ in range(times):
        while True:
            found = store.load(an_id(1), NOW)
            assert found is not None
            new = a_record(revision=os.urandom(12), payload=b"%d" % (int(found.payload) + 1))
            if store.save(new, found.revision, NOW) is SAVED:
                break


class TestProcesses:
    def test_start_at_once(self, path: Path) -> None:
        """Ten processes that meet where no folder is yet all work."""
        assert [None] * 10 == all_at_once(
            10, lambda number: FileStore(path, timeout=10).create(a_record(number), NOW)
        )
        assert 10 == len(FileStore(path).page("", 99, NOW))

    def test_no_save_lost(self, store: FileStore) -> None:
        """Of processes that save on one revision, one wins each time."""
        store.create(a_record(payload=b"0"), NOW)
        assert [None] * 4 == all_at_once(4, lambda _: count_up(store, 50))
        found = store.load(an_id(1), NOW)
        assert found is not None
        assert 200 == int(found.payload)

    def test_of_creates_one_goes_through(self, store: FileStore) -> None:
        """One creates; the others collide."""

        def create(number: int) -> bool:
            try:
                store.create(a_record(payload=b"%d" % number), NOW)
            except Collision:
                return False
            return True

        answers = all_at_once(8, create)
        found = store.load(an_id(1), NOW)
        assert found is not None
        assert [found.payload] == [b"%d" % number for number, won in enumerate(answers) if won]

    def test_saves_that_cross_a_delete(self, store: FileStore, path: Path) -> None:
        """However they fall, what ended stays ended, in the index too."""
        for number in range(1, 11):
            record = a_record(number)
            store.create(record, NOW)

            def act(process: int, record: Record = record, number: int = number) -> bool:
                if process == 0:
                    return store.delete(record.id, NOW)
                saved, revision = True, b"one"
                while saved:
                    new = a_record(number, revision=os.urandom(12))
                    saved = store.save(new, revision, NOW) is SAVED
                    revision = new.revision
                return saved

            assert True is all_at_once(4, act)[0]
            assert store.load(record.id, NOW) is None
            assert not entry_of(path, number).exists()

    def test_killed(self, store: FileStore, path: Path) -> None:
        """kill -9 in the middle of writes: every file is whole, what was acknowledged is there,
        and no lock is left."""
        store.create(a_record(payload=b"0"), NOW)
        newest = 0
        for enough in (1, 2, 3, 5, 8, 13, 21, 34, 40, 41):

            def write(pipe: int, start: int = newest) -> None:
                found = store.load(an_id(1), NOW)
                assert found is not None
                revision = found.revision
                for number in range(start + 1, 10**6):
                    new = a_record(revision=os.urandom(12), payload=b"%d " % number * 20_000)
                    assert SAVED is store.save(new, revision, NOW)
                    revision = new.revision
                    os.write(pipe, b"%d\n" % number)

            newest = max(acknowledged(write, enough))
            found = store.load(an_id(1), NOW)
            assert found is not None
            numbers = found.payload.split()
            assert 20_000 == len(numbers)
            assert 1 == len(set(numbers))
            newest = int(numbers[0])
            assert store.touch(an_id(1), found.revision, NOW, LATER, NOW)
        store.sweep(9, NOW)
        assert [] == temporary(path)

    def test_killed_among_logins(self, store: FileStore, path: Path) -> None:
        """What was told is so: logins are there, and what ended is not."""
        for number in range(10_000, 15_000, 100):
            store.create(a_record(number, subject="user:7"), NOW)

        def write(pipe: int) -> None:
            for number in range(10_000):
                store.create(a_record(number), NOW)
                if number % 10 == 0:
                    store.delete(an_id(10_000 + number * 10), NOW)
                os.write(pipe, b"%d\n" % number)

        done = acknowledged(write, 40)
        kept = {record.id for record in store.page("", 10**6, NOW)}
        listed = {r.id for user in (7, 42) for r in store.by_subject(f"user:{user}", NOW)}
        assert set() == {an_id(number) for number in done} - kept
        assert set() == kept & {an_id(10_000 + n * 10) for n in done if n % 10 == 0}
        assert kept == listed

    def test_of_many_logins_exactly_so_many_stay(self, store: FileStore) -> None:
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

    def test_killed_within_a_limit(self, store: FileStore) -> None:
        """Whatever a killed login left, those told are there, and the next one sets it right."""

        def write(pipe: int) -> None:
            for number in range(10_000):
                login = a_record(number, login_at=NOW + number)
                store.admit(login, b"", Entry(NOW, most=3), NOW)
                os.write(pipe, b"%d\n" % number)

        newest = max(acknowledged(write, 20))
        last = a_record(99_999, login_at=NOW + 50_000)
        assert isinstance(store.admit(last, b"", Entry(NOW, most=3), NOW), Entered)
        left = {each.id for each in store.page("", 99, NOW)}
        assert 3 == len(left)
        assert {an_id(newest), an_id(99_999)} <= left

    @pytest.mark.parametrize("kind", ["FileStore", "AsyncFileStore"])
    def test_exit(self, path: Path, kind: str) -> None:
        """A process that never closed its store ends at once and quietly, and loses nothing."""
        program = f"""
import asyncio, inspect
from coatcheck.record import Record
from coatcheck.stores.file import {kind}
store = {kind}({str(path)!r})
answer = store.create(Record("{an_id(1)}", b"one", None, None, 1, {LATER}, b""), 1)
if inspect.iscoroutine(answer):
    asyncio.run(answer)
"""
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
        ended = subprocess.run(command, capture_output=True, timeout=10, check=False)
        assert (0, b"", b"") == (ended.returncode, ended.stdout, ended.stderr)
        assert 1 == len(FileStore(path).page("", 9, NOW))


def test_what_a_thief_gets(tmp_path: Path) -> None:
    """The dump that the laws look into holds each record, and the names."""
    store = from_url(service.url(tmp_path))
    assert isinstance(store, FileStore)
    store.create(a_record(), NOW)
    dumped = service.dump(tmp_path)
    assert records.dump(a_record()) in dumped
    assert an_id(1).encode() in dumped
