"""One writer at a time in each folder, among threads and among processes.

The folder itself is locked, by `flock`: there is no lock file that could be missing, replaced or
removed. Threads take turns at a fair lock first, so that of one process only one tries at a time.
Processes try again and again, since no call waits for `flock` and a clock at once; and where one
met another, it waits before it tries again after its own turn, until the others have tried too.
Otherwise it would take the lock back at once, before any of them looked.

**Forks.** `flock` belongs to the open descriptor, and a child of a fork has the same ones. So they
are opened for each turn, unlocked by name, and closed in the child: a parent that is killed in the
middle of a write leaves its lock to nobody. The child's threads start with locks of their own.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

from coatcheck import forks
from coatcheck.errors import StoreUnavailable
from coatcheck.stores._fair_lock import FairLock

try:
    import fcntl
except ModuleNotFoundError:  # not POSIX; FileStore refuses
    fcntl = None  # type: ignore[assignment]

__all__ = ["FOLDER", "Busy", "Locks", "busy", "is_posix", "sync"]

FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""How a folder is opened: never through a symbolic link."""

_BY_DESCRIPTOR = {os.open, os.rename, os.unlink, os.mkdir, os.utime} <= os.supports_dir_fd
_PAUSE = 0.0005  # seconds between two tries
_SOON = 0.02  # seconds after its own turn within which a process that met another lets it try
_EVERYTHING = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: through the disk's own cache too


class Busy(StoreUnavailable):
    """A turn did not come in time, so nothing was begun."""


class Locks:
    """As many as `count`, by number."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.start()
        _forks.locks.add(self)

    def start(self) -> None:
        self._turns = [FairLock() for _ in range(self._count)]
        self._met_another = [False] * self._count
        self._polite_until = [0.0] * self._count

    @contextmanager
    def turn(
        self, number: int, parent: int, name: str, deadline: float, *, durable: bool
    ) -> Iterator[int | None]:
        """The folder of that name, locked; None where there is none.

        What was done in it, or found to be done, is on the disk afterwards, if `durable`. Raises
        `Busy` where the turn does not come before the deadline.
        """
        forks.notice()
        with _forks.opened(name, parent) as folder:
            if folder is None:
                yield None
                return
            self._take(number, folder, deadline)
            try:
                try:
                    yield folder
                finally:
                    self._give_back(number, folder)
            finally:
                if durable:  # when others have their turn already
                    sync(folder)

    def _take(self, number: int, folder: int, deadline: float) -> None:
        lock = self._turns[number]
        if not lock.acquire(max(0.0, deadline - time.monotonic())):
            raise busy("threads")
        try:
            self._flock(number, folder, deadline)
        except BaseException:
            lock.release()
            raise

    def _flock(self, number: int, folder: int, deadline: float) -> None:
        if time.monotonic() < self._polite_until[number]:
            time.sleep(2 * _PAUSE)
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._met_another[number] = True
                if time.monotonic() >= deadline:
                    raise busy("processes") from None
            else:
                return
            time.sleep(_PAUSE)

    def _give_back(self, number: int, folder: int) -> None:
        if self._met_another[number]:
            self._met_another[number] = False
            self._polite_until[number] = time.monotonic() + _SOON
        try:
            fcntl.flock(folder, fcntl.LOCK_UN)  # closing would leave it to a child of a fork
        finally:
            self._turns[number].release()


def is_posix() -> bool:
    """Whether this system has what the file store stands on."""
    return fcntl is not None and _BY_DESCRIPTOR


def sync(descriptor: int) -> None:
    """Return when the disk has it: a file's content, or a folder's names."""
    if _EVERYTHING is not None:
        with suppress(OSError):  # not on every file system
            fcntl.fcntl(descriptor, _EVERYTHING)
            return
    os.fsync(descriptor)


def busy(others: str) -> Busy:
    """The error for a turn that did not come; `others` says who had theirs."""
    return Busy(
        f"FileStore: expected its turn to write in time, got none, as other {others} keep the "
        "folder busy; raise timeout, or look at the disk"
    )


class _Forks:
    """The descriptors that a child must not keep."""

    def __init__(self) -> None:
        self.locks: WeakSet[Locks] = WeakSet()
        self._guard = threading.Lock()
        self._open: set[int] = set()

    @contextmanager
    def opened(self, name: str, parent: int) -> Iterator[int | None]:
        folder = self._open_listed(name, parent)
        try:
            yield folder
        finally:
            if folder is not None:
                self._close(folder)

    def _open_listed(self, name: str, parent: int) -> int | None:
        with self._guard, suppress(FileNotFoundError):  # no fork in between
            folder = os.open(name, FOLDER, dir_fd=parent)
            self._open.add(folder)
            return folder
        return None

    def _close(self, folder: int) -> None:
        with self._guard:
            self._open.discard(folder)
            os.close(folder)

    def before(self) -> None:
        self._guard.acquire()

    def in_parent(self) -> None:
        self._guard.release()

    def in_child(self) -> None:
        self._guard = threading.Lock()
        for folder in self._open:
            os.close(folder)
        self._open.clear()
        for locks in list(self.locks):
            locks.start()


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_parent=_forks.in_parent)
forks.in_child(_forks.in_child)
