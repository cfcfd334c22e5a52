"""A server's process: started and waited for, frozen, killed, started again, and ended for sure."""

import atexit
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

__all__ = ["PATIENCE", "Service", "folder_for", "free_port", "temporary_folder", "until"]

PATIENCE = 30.0
"""Seconds after which a server counts as never coming up, or never going down."""

_PAUSE = 0.01


_FIRST, _PORTS = 20_000, 6_000
"""Below what systems hand out by themselves (32768 and up), so no client is in the way."""
_next_port = itertools.count(random.randrange(_PORTS))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; workers of one run choose from ranges apart."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2
    for number in itertools.islice(_next_port, _PORTS):
        port = _FIRST + worker * _PORTS + number % _PORTS
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def until(happens: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until it answers something true; an OSError counts as not yet."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if happens():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{what} did not happen within {patience} s"
        time.sleep(_PAUSE)


def temporary_folder(name: str) -> Path:
    """A folder that goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix=f"coatcheck-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def folder_for(user: str | None, name: str) -> Path:
    """One that the user owns, where root runs a server that refuses to be root."""
    folder = temporary_folder(name)
    if user is not None:
        shutil.chown(folder, user)
    return folder


class Service:
    """One program, kept up between `start` and `stop`; its words are in `folder/log`.

    `ready` says whether it answers. `user` is whom root runs it as; others run it as themselves.
    `ends_by` is the signal for a polite end.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        folder: Path,
        ready: Callable[[], object],
        *,
        user: str | None = None,
        log: str = "log",
        ends_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.command = command
        self.folder = folder
        self.log = folder / log
        self._ready = ready
        self._ends_by = ends_by
        self._user = user if user is not None and os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        until(self._is_up, f"a start of {self.command[0]} (see {self.log})")
        return self

    def _is_up(self) -> object:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.command[0]} ended:\n{self.log.read_text()}"
        return self._ready()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        family = _family(self.pid)
        _signal(family, signal.SIGSTOP)
        # A signal takes a moment to arrive, and longer for every thread to stop.
        until(lambda: all(_state(pid) in "TZ" for pid in family), f"a freeze of {self.command[0]}")

    def thaw(self) -> None:
        _signal(_family(self.pid), signal.SIGCONT)

    def kill(self) -> None:
        """At once, as a machine that loses power; nothing is written any more."""
        if self._process is not None:
            family = _family(self._process.pid)
            _signal(family, signal.SIGKILL)
            self._process.wait(PATIENCE)
            until(lambda: all(_state(pid) == "Z" for pid in family), f"an end of {self.command[0]}")

    def stop(self) -> None:
        """Politely, then by force. Stopping what is down is fine."""
        if not self.is_running or self._process is None:
            return
        family = _family(self._process.pid)
        _signal(family, signal.SIGCONT)
        _signal([self._process.pid], self._ends_by)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        _signal(family[1:], signal.SIGKILL)


def _family(parent: int) -> list[int]:
    """The process and all below it, which may be in sessions of their own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(_fields(stat)[1]), []).append(int(stat.parent.name))
    family = [parent]
    for each in family:
        family += children.get(each, [])
    return family


def _state(pid: int) -> str:
    """A letter; what is gone is as good as a zombie."""
    try:
        return _fields(Path(f"/proc/{pid}/stat"))[0]
    except OSError:
        return "Z"


def _fields(stat: Path) -> list[str]:
    """What comes behind the name, which stands in brackets: the state, the parent, and so on."""
    return stat.read_text().rpartition(")")[2].split()


def _signal(family: Sequence[int], number: signal.Signals) -> None:
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
