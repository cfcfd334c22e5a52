"""Sessions in a folder, one file each: for a single machine without a database.

A record is replaced by renaming a new file over the old one, so that it is read whole or not at
all, and a read takes no lock. Writes take turns in each of 256 folders, among threads and among
processes. A login, a mark and the end of a session wait until the disk has them; any other write
does not, unless `fsync="always"`: a power cut may undo it, or lose that session where the file
system kept its name and not its content, since what cannot be read is absent.

Nothing is touched before the first use, which creates the folder for its owner alone (0700), and
refuses, with `ConfigurationError`, one that is not ours, that others can write to, or of a newer
coatcheck. It must be on a local disk of a POSIX system. What the disk refuses, and a turn that does
not come in time, is `StoreUnavailable`.

The asynchronous store reads records where it is called, which takes about as long as a look into
memory, and writes in a few threads of its own: the writes of one turn of the event loop share them,
and the disk's journal takes several at once.
"""

import asyncio
import os
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias

from coatcheck.errors import Collision, ConfigurationError
from coatcheck.record import NewerFormat, Record
from coatcheck.store import GONE, SAVED, Entered, Entry, Forbidden, Full, Gone, Saved
from coatcheck.stores import _url
from coatcheck.stores._admission import Mark
from coatcheck.stores._file import pairs, records, subjects
from coatcheck.stores._file.folder import BRANCHES, Folder, below
from coatcheck.stores._file.locks import is_posix
from coatcheck.stores._file.logins import Logins
from coatcheck.stores._file.sweep import Sweep
from coatcheck.stores._file.threads import THREADS, Writes
from coatcheck.stores._threads import Threads
from coatcheck.stores._url import CALL, StoreURL

__all__ = ["AsyncFileStore", "FileStore", "async_from_url", "from_url"]

StrPath: TypeAlias = str | os.PathLike[str]
Fsync: TypeAlias = Literal["ends", "always"]


class FileStore:
    """Thread-safe. Lists, sweeps, admits.

    `timeout` is how many seconds a write waits for its turn. `fsync` says which writes wait for the
    disk: "ends", or "always" for all of them.
    """

    shared = True
    """Other processes see what this one keeps, if they name the same folder."""

    def __init__(self, path: StrPath, *, timeout: float = 0.5, fsync: Fsync = "ends") -> None:
        _check_system()
        self._always = _checked_fsync(fsync) == "always"
        timeout = _url.seconds("timeout", timeout, "FileStore")
        self._folder = Folder(_checked_path(path), timeout)
        self._logins = Logins(self._folder)
        self._sweep = Sweep(self._folder)

    @property
    def path(self) -> str:
        return self._folder.path

    def load(self, id: str, now: int) -> Record | None:
        records.check_id(id)
        with self._folder.opened() as root:
            return pairs.load(root, id, now)

    def create(self, record: Record, now: int) -> None:
        records.check_id(record.id)
        durable = self._always or record.subject is not None
        with self._folder.opened() as root:
            self._folder.grow(root, record.id[:2])
            with self._folder.turn(root, record.id[:2], durable=durable) as folder:
                found = pairs.read(folder, record.id)
                if found is not None and found.expires_at > now:
                    raise Collision(f"FileStore: session {record.id} is there already")
                pairs.put(root, folder, record, found, durable=durable)

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        records.check_id(record.id)
        with (
            self._folder.opened() as root,
            self._folder.turn(root, record.id[:2], durable=self._always) as folder,
        ):
            found = pairs.read(folder, record.id)
            if found is None or found.expires_at <= now:
                return GONE
            if found.revision != expected:
                return found
            pairs.put(root, folder, record, found, durable=self._always)
            return SAVED

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        records.check_id(id)
        with (
            self._folder.opened() as root,
            self._folder.turn(root, id[:2], durable=self._always) as folder,
        ):
            found = pairs.read(folder, id)
            if found is None or found.expires_at <= now or found.revision != revision:
                return False
            touched = _prolonged(found, seen_at, expires_at)
            if touched != found:
                pairs.put(root, folder, touched, found, durable=self._always)
            return True

    def delete(self, id: str, now: int) -> bool:
        records.check_id(id)
        with (
            self._folder.opened() as root,
            self._folder.turn(root, id[:2], durable=True) as folder,
        ):
            if folder is None:
                return False
            try:
                found = records.read(folder, id)
            except NewerFormat:  # it ends all the same
                return records.remove(folder, id)
            if found is None:
                records.remove(folder, id)  # what could not be read
                return False
            pairs.remove(root, folder, found)
            return found.expires_at > now

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        return self._logins.admit(record, expected, entry, now)

    def forbid(self, subject: str, before: int, keep: str | None, until: int, now: int) -> None:
        self._logins.forbid(subject, Mark(before, keep, until), now)

    def by_subject(self, subject: str, now: int) -> list[Record]:
        with self._folder.opened() as root:
            records = [pairs.load(root, each, now) for each in subjects.find(root, subject)]
        return [each for each in records if each is not None and each.subject == subject]

    def page(self, after: str, limit: int, now: int) -> list[Record]:
        records: list[Record] = []
        with self._folder.opened() as root:
            for name in BRANCHES:
                if len(records) >= limit:
                    break
                if name >= after[:2]:
                    ids = [each for each in self._ids(root, name) if each > after]
                    records += _first(root, ids, limit - len(records), now)
        return records

    def _ids(self, root: int, name: str) -> list[str]:
        """Those of a branch, in order.

        Under its lock, and opened after that, since not every file system lists what is renamed
        meanwhile.
        """
        with self._folder.turn(root, name) as folder:
            if folder is None:
                return []
            with below(folder, ".") as opened:
                names = [] if opened is None else os.listdir(opened)
        return sorted(filter(records.is_record, names))

    def sweep(self, limit: int, now: int) -> int:
        return self._sweep.run(limit, now)

    def close(self) -> None:
        """Nothing stays open between calls."""


class AsyncFileStore:
    """`FileStore` for asynchronous code; `AsyncFileStore(store)` uses another's folder.

    Then that one's options count. A write is answered half a second after its `timeout` at the
    latest, be the disk ever so slow.
    """

    shared = True

    def __init__(
        self, path: StrPath | FileStore, *, timeout: float = 0.5, fsync: Fsync = "ends"
    ) -> None:
        self.file = (
            path if isinstance(path, FileStore) else FileStore(path, timeout=timeout, fsync=fsync)
        )
        self._threads = Threads(THREADS, "coatcheck-file")
        self._writes = Writes(self._threads, self.file._folder.timeout)

    @property
    def path(self) -> str:
        return self.file.path

    async def load(self, id: str, now: int) -> Record | None:
        if not self.file._folder.ready:  # the first use may create it, and wait for the disk
            return await self._threads.run(partial(self.file.load, id, now))
        return self.file.load(id, now)

    async def create(self, record: Record, now: int) -> None:
        await self._writes.do(partial(self.file.create, record, now))

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        return await self._writes.do(partial(self.file.save, record, expected, now))

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        return await self._writes.do(
            partial(self.file.touch, id, revision, seen_at, expires_at, now)
        )

    async def delete(self, id: str, now: int) -> bool:
        return await self._writes.do(partial(self.file.delete, id, now))

    async def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        return await self._writes.do(partial(self.file.admit, record, expected, entry, now))

    async def forbid(
        self, subject: str, before: int, keep: str | None, until: int, now: int
    ) -> None:
        await self._writes.do(partial(self.file.forbid, subject, before, keep, until, now))

    async def by_subject(self, subject: str, now: int) -> list[Record]:
        return await self._threads.run(partial(self.file.by_subject, subject, now))

    async def page(self, after: str, limit: int, now: int) -> list[Record]:
        return await self._threads.run(partial(self.file.page, after, limit, now))

    async def sweep(self, limit: int, now: int) -> int:
        return await self._threads.run(partial(self.file.sweep, limit, now))

    async def close(self) -> None:
        """Finish what was begun, and end the threads; using the store again starts others."""
        await asyncio.to_thread(self._threads.stop)


def _prolonged(found: Record, seen_at: int, expires_at: int) -> Record:
    return Record(
        found.id,
        found.revision,
        found.subject,
        found.login_at,
        max(found.seen_at, seen_at),
        max(found.expires_at, expires_at),
        found.payload,
    )


def _first(root: int, ids: list[str], limit: int, now: int) -> list[Record]:
    """The first live records of these ids."""
    alive = (record for each in ids if (record := pairs.load(root, each, now)) is not None)
    return list(islice(alive, limit))


def _check_system() -> None:
    if not is_posix():
        raise ConfigurationError(
            f"FileStore: expected a POSIX system, got {os.name}, which has no folders to go into "
            "by descriptor; use SQLiteStore"
        )


def _checked_path(path: StrPath) -> str:
    text = os.fsdecode(path) if isinstance(path, str | os.PathLike) else None
    if not text or "\0" in text:
        raise ConfigurationError(
            f"FileStore: expected the path of a folder, got {path!r}; pass one on a local disk, "
            "such as /var/lib/app/sessions"
        )
    return os.path.abspath(text)


def _checked_fsync(fsync: str) -> str:
    if fsync not in ("ends", "always"):
        raise ConfigurationError(
            f"FileStore: expected fsync to be 'ends' or 'always', got {fsync!r}; pass 'always' "
            "where no save may be undone by a power cut"
        )
    return fsync


def from_url(url: StoreURL) -> FileStore:
    """file:///path, or four slashes for an absolute one; timeout=0.5, fsync=ends"""
    path = url.file_path()
    fsync: Any = url.text("fsync", "ends")
    return FileStore(path, timeout=url.seconds("timeout", CALL), fsync=fsync)


def async_from_url(url: StoreURL) -> AsyncFileStore:
    """file:///path"""
    return AsyncFileStore(from_url(url))
