"""A rig for each server that a store can be kept on: tests/faults.py breaks them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.faults import Rig
from tests.services import redis

__all__ = ["RIGS"]

_USER, _PASSWORD, _OTHER = "coat", "right", "another"


class RedisRig(Rig):
    """Redis with the append-only file, synced at each write, so that it keeps what it took."""

    name = "redis"

    def __init__(self) -> None:
        user = f"user {_USER} on >{_PASSWORD} ~* &* +@all"
        self.server = redis.Redis(user, appendonly="yes", appendfsync="always").start()
        super().__init__(self.server.service, self.server.port)

    def url(self, folder: Path, port: int) -> str:
        prefix = quote(redis.prefix(folder), safe="")
        return f"redis://{_USER}:{_PASSWORD}@127.0.0.1:{port}/0?prefix={prefix}"

    @contextmanager
    def wrong_password(self) -> Iterator[None]:
        self.server.ask("ACL", "SETUSER", _USER, "resetpass", f">{_OTHER}")
        self.server.ask("CLIENT", "KILL", "USER", _USER)
        yield
        self.server.ask("ACL", "SETUSER", _USER, "resetpass", f">{_PASSWORD}")

    @contextmanager
    def full(self) -> Iterator[None]:
        self.server.ask("CONFIG", "SET", "maxmemory", 1)
        yield
        self.server.ask("CONFIG", "SET", "maxmemory", 0)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.server.ask("REPLICAOF", "127.0.0.1", 1)
        yield
        self.server.ask("REPLICAOF", "NO", "ONE")

    def forget(self) -> None:
        self.service.kill()
        shutil.rmtree(self.server.folder / "appendonlydir")
        self.service.start()


RIGS: dict[str, Callable[[], Rig]] = {"redis": RedisRig}
