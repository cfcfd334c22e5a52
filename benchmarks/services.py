"""The servers behind the stores: real ones on free ports, set up as a careful site would.

A store and the plain driver beside it ask the same server, over TCP on loopback.

    Redis        an append-only file, synced to the disk once a second
    PostgreSQL   fsync and synchronous_commit on, so that a save is on the disk when it returns
    Memcached    room for everything

What they write goes where temporary files go, which should be a disk: set TMPDIR where it is not.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import Service, folder_for, free_port

__all__ = ["memcached", "postgres", "redis", "versions"]

_HOST = "127.0.0.1"
_POSTGRES = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
}
_PROGRAMS = {
    "Redis": ("redis-server", " (append-only file, synced every second)"),
    "PostgreSQL": ("postgres", " (fsync and synchronous_commit on)"),
    "Memcached": ("memcached", ""),
}


@contextmanager
def redis() -> Iterator[str]:
    """A Redis of its own, as a URL without a database."""
    port = free_port()
    command = ["redis-server", "--bind", _HOST, "--port", str(port)]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
    with _running(command, folder_for(None, "redis"), lambda: _greeted(port, b"PING\r\n")):
        yield f"redis://{_HOST}:{port}"


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of its own, as a URL without a database; `postgres` is there."""
    port, user = free_port(), "postgres" if os.geteuid() == 0 else None
    folder = folder_for(user, "postgres")
    data, programs = folder / "data", _postgres_programs()
    _run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"], user)
    command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port)]
    command += [word for item in _POSTGRES.items() for word in ("-c", "=".join(item))]
    asked: list[str | Path] = [programs / "pg_isready", "-q", "-h", _HOST, "-p", str(port)]
    with _running(command, folder, lambda: subprocess.run(asked).returncode == 0, user):
        yield f"postgresql://postgres@{_HOST}:{port}"


@contextmanager
def memcached() -> Iterator[str]:
    """A Memcached of its own, as a URL."""
    port = free_port()
    command = ["memcached", "-l", _HOST, "-p", str(port), "-U", "0", "-m", "256"]
    command += ["-u", pwd.getpwuid(os.geteuid()).pw_name]
    with _running(command, folder_for(None, "memcached"), lambda: _greeted(port, b"version\r\n")):
        yield f"memcached://{_HOST}:{port}"


def versions(kinds: Iterable[str]) -> str:
    """Of the servers among these kinds of stores, and how they are set up."""
    return "".join(f"; {name} {_version(*_PROGRAMS[name])}" for name in kinds if name in _PROGRAMS)


def _version(program: str, setting: str) -> str:
    path = _postgres_programs() / program if program == "postgres" else program
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", told)
    return f"{found[0] if found else told.strip()}{setting}"


@contextmanager
def _running(
    command: Sequence[str | Path],
    folder: Path,
    ready: Callable[[], object],
    user: str | None = None,
) -> Iterator[None]:
    service = Service(command, folder, ready, user=user).start()
    try:
        yield
    finally:
        service.stop(signal.SIGINT)  # PostgreSQL would wait for its clients at a SIGTERM
        shutil.rmtree(folder, ignore_errors=True)


def _greeted(port: int, word: bytes) -> bool:
    with socket.create_connection((_HOST, port), timeout=1) as connection:
        connection.sendall(word)
        return connection.recv(64)[:1] in (b"+", b"V")


def _postgres_programs() -> Path:
    """Debian keeps them apart from other programs, by version; elsewhere they are on the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_major)
    found = installed[-1] if installed else shutil.which("initdb")
    assert found, "expected PostgreSQL's initdb, got none; install the package postgresql"
    return Path(found).resolve().parent


def _major(initdb: Path) -> int:
    return int(initdb.parent.parent.name.partition(".")[0])


def _run(command: Sequence[str | Path], user: str | None) -> None:
    """A program that refuses to be root."""
    group = None if user is None else pwd.getpwnam(user).pw_gid
    groups: list[int] | None = None if user is None else []
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        user=user,
        group=group,
        extra_groups=groups,
        cwd="/",
    )
