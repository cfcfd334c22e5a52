"""The servers behind the stores: those of the tests, set up as a careful site would.

A store and the plain driver beside it ask the same server, over TCP on loopback.

    Redis        an append-only file, synced to the disk once a second
    PostgreSQL   fsync and synchronous_commit on, so that a save is on the disk when it returns
    Memcached    room for everything

What they write goes where temporary files go, which should be a disk: set TMPDIR where it is not.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.services.memcached import Memcached
from tests.services.postgres import Postgres, _program
from tests.services.redis import Redis

__all__ = ["memcached", "postgres", "redis", "versions"]

_DURABLE = {"fsync": "on", "synchronous_commit": "on"}
_ROOMY = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
_PROGRAMS: dict[str, tuple[str, str]] = {
    "Redis": ("redis-server", " (append-only file, synced every second)"),
    "PostgreSQL": (str(_program("postgres")), " (fsync and synchronous_commit on)"),
    "Memcached": ("memcached", ""),
}


@contextmanager
def redis() -> Iterator[str]:
    """A Redis of its own, as a URL."""
    with Redis(appendonly="yes", appendfsync="everysec") as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of its own, as a URL."""
    server = Postgres(**_DURABLE, **_ROOMY).start()
    try:
        yield f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
    finally:
        server.stop()


@contextmanager
def memcached() -> Iterator[str]:
    """A Memcached of its own, as a URL."""
    server = Memcached("-m", "256").start()
    try:
        yield f"memcached://127.0.0.1:{server.port}"
    finally:
        server.stop()


def versions(kinds: Iterable[str]) -> str:
    """Of the servers among these kinds of stores, and how they are set up."""
    return "".join(f"; {name} {_version(*_PROGRAMS[name])}" for name in kinds if name in _PROGRAMS)


def _version(program: str, setting: str) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", told)
    return f"{found[0] if found else told.strip()}{setting}"
