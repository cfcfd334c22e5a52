"""The folder of a `FileStore`: looked at, created, and gone into.

    sessions/                     0700, ours, and no symbolic link
        coatcheck-sessions-1      says that it is one of these, and of which version
        3f/                       what has an id that begins so: 256 of them, each made on demand
            3f9a…                 one record, 0600; its time of change is when it expires
        subjects/c0/              the index, likewise by the first digits
            c04e…-3f9a…           an empty file: the digest of a subject, and the id of a session
            c04e…                 the not-before mark of a subject, once there is one

Everything is reached from the folder itself by descriptors, each opened without following links and
closed after the call: so nothing can be exchanged on the way, there is nothing for a fork to
inherit, and a folder that was removed, mounted over or made anew is noticed by the next call. It is
looked at again whenever it is another than before, or has another owner or mode. Where it was seen
once and then is not there, or is another one without a marker, its disk may be unmounted: that is
an outage, and nothing is made in its place.
"""

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from coatcheck import patience
from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores._file.locks import FOLDER, Locks, sync

__all__ = ["BRANCHES", "INDEX", "Folder", "below", "make", "translated"]

BRANCHES = [f"{number:02x}" for number in range(256)]
INDEX = "subjects"
_MARKER = "coatcheck-sessions-"
_VERSION = "1"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_REMEDIES = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space, or raise the quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EROFS: "mount it for writing again",
    errno.EACCES: "give it back to the user that this process runs as, with mode 0700",
    errno.EPERM: "give it back to the user that this process runs as, with mode 0700",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files",
    errno.ELOOP: "remove what stands there instead of a folder",
    errno.ENOTDIR: "remove what stands there instead of a folder",
    errno.EISDIR: "remove what stands there instead of a file",
}


class Folder:
    """Opened anew by each call, and created by the first that does not find it. Thread-safe."""

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._locks = Locks(len(BRANCHES))
        self._index_locks = Locks(len(BRANCHES))
        self._known: tuple[int, ...] | None = None

    @property
    def ready(self) -> bool:
        """Whether it has been looked at."""
        return self._known is not None

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Its descriptor. Raises `ConfigurationError` where it is not for us.

        An error of the operating system inside is `StoreUnavailable` outside.
        """
        with translated(self.path):
            root = self._open()
            try:
                yield root
            finally:
                os.close(root)

    @contextmanager
    def turn(self, root: int, name: str, *, durable: bool = False) -> Iterator[int | None]:
        """The branch of that name, for writing to it alone; None where there is none."""
        with self._turn(self._locks, root, name, durable=durable) as folder:
            yield folder

    @contextmanager
    def turns(self, root: int, names: Iterable[str]) -> Iterator[dict[str, int | None]]:
        """Several branches at once, by name.

        They are taken in the order of their names, so that no two callers wait for each other.
        """
        with ExitStack() as held:
            yield {name: held.enter_context(self.turn(root, name)) for name in sorted(set(names))}

    @contextmanager
    def index_turn(self, root: int, name: str, *, durable: bool = False) -> Iterator[int | None]:
        """A branch of the index, for its subjects' marks and for letting them in."""
        with below(root, INDEX) as index:
            if index is None:
                yield None
                return
            with self._turn(self._index_locks, index, name, durable=durable) as folder:
                yield folder

    @contextmanager
    def _turn(self, locks: Locks, parent: int, name: str, *, durable: bool) -> Iterator[int | None]:
        deadline = time.monotonic() + patience.left(self.timeout)
        with locks.turn(int(name, 16), parent, name, deadline, durable=durable) as folder:
            yield folder

    def grow(self, root: int, name: str) -> None:
        """Make that branch where it is missing."""
        if make(root, name):
            self._mark(root)  # as a folder that was emptied while we ran has lost it

    def _open(self) -> int:
        was_there = self.ready  # before we look, as another thread may create it meanwhile
        try:
            root = os.open(self.path, FOLDER)
        except FileNotFoundError as error:
            if was_there:
                raise self._vanished("none") from error
            self._create()
            root = os.open(self.path, FOLDER)
        except OSError:
            if not was_there:
                self._judge(os.lstat(self.path))
            raise
        try:
            self._check(root)
        except BaseException:
            os.close(root)
            raise
        return root

    def _check(self, root: int) -> None:
        found = os.fstat(root)
        identity = (found.st_dev, found.st_ino, found.st_mode, found.st_uid)
        if identity != self._known:
            self._check_other(root, identity)
            self._judge(found)
            self._check_marker(root)
            self._known = identity

    def _check_other(self, root: int, identity: tuple[int, ...]) -> None:
        same = self._known is None or self._known[:2] == identity[:2]
        if not same and not _markers(os.listdir(root)):
            raise self._vanished("another one without a marker")

    def _judge(self, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise self._refusal("a folder", "a symbolic link", "the path that it leads to")
        if not stat.S_ISDIR(found.st_mode):
            raise self._refusal("a folder", "something else", "a path where nothing is yet")
        if found.st_uid != os.geteuid():
            raise self._refusal(
                f"a folder of user {os.geteuid()}, as which this process runs",
                f"one of user {found.st_uid}",
                "one of its own, or give it that one",
            )
        if found.st_mode & _OTHERS_WRITE:
            raise self._refusal(
                "a folder that only its owner writes to",
                f"mode {stat.S_IMODE(found.st_mode):04o}",
                "chmod 700, where nobody else has written to it, or another folder",
            )

    def _check_marker(self, root: int) -> None:
        names = os.listdir(root)
        markers = _markers(names)
        if _MARKER + _VERSION in markers:
            return
        if markers:
            version = markers[0].removeprefix(_MARKER)
            raise self._refusal(
                f"sessions of version {_VERSION}", f"version {version[:20]}", "a newer coatcheck"
            )
        if names:
            raise self._refusal(
                "a folder of sessions, or an empty one",
                "one with other things in it",
                "a path where nothing is yet",
            )
        self._mark(root)

    def _mark(self, root: int) -> None:
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        os.close(os.open(_MARKER + _VERSION, flags, 0o600, dir_fd=root))
        sync(root)

    def _create(self) -> None:
        parent = os.path.dirname(self.path)
        try:
            with suppress(FileExistsError):  # another process was faster
                os.mkdir(self.path, 0o700)
        except FileNotFoundError as error:
            raise self._refusal(
                "the folder above it to exist", "none", "a path in one that exists"
            ) from error
        except PermissionError as error:
            raise self._refusal(
                "to be allowed to create it",
                "no permission",
                "a path in a folder that this user can write to",
            ) from error
        above = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync(above)
        finally:
            os.close(above)

    def _vanished(self, got: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"FileStore: expected {self.path} to be the folder that was there before, got {got}; "
            "mount its disk, or restart where it was removed on purpose"
        )

    def _refusal(self, expected: str, got: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(
            f"FileStore: expected {expected}, got {got} for {self.path} (left as it was); "
            f"use {remedy}"
        )


def _markers(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(_MARKER)]


@contextmanager
def translated(path: str) -> Iterator[None]:
    """What the operating system refuses is `StoreUnavailable`."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        remedy = _REMEDIES.get(error.errno or 0, "look at the folder and its disk")
        raise StoreUnavailable(
            f"FileStore: expected {path} to work, got {error.strerror} ({name}); {remedy}"
        ) from error


@contextmanager
def below(parent: int, name: str) -> Iterator[int | None]:
    """A folder inside another; None where there is none."""
    try:
        folder = os.open(name, FOLDER, dir_fd=parent)
    except FileNotFoundError:
        yield None
        return
    try:
        yield folder
    finally:
        os.close(folder)


def make(parent: int, name: str) -> bool:
    """Create a folder inside another, and have it on the disk. Whether it was missing."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return False
    sync(parent)
    return True
