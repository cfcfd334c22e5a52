"""A rig for each server that a store can be kept on: tests/faults.py breaks them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.faults import Rig
from tests.services import memcached, postgres, redis
from tests.services.disk import Disk, can_mount

__all__ = ["RIGS"]

_USER, _PASSWORD, _OTHER = "coat", "right", "another"


class RedisRig(Rig):
    """Redis with the append-only file, written before each answer: it keeps what it took."""

    name = "redis"

    def __init__(self) -> None:
        user = f"user {_USER} on >{_PASSWORD} ~* &* +@all"
        self.server = redis.Redis(user, appendonly="yes", appendfsync="no").start()
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


class PostgresRig(Rig):
    """PostgreSQL, whose tables lie on a small disk of their own, where root can make one."""

    name = "postgres"

    def __init__(self) -> None:
        self.server = postgres.Postgres().start()
        super().__init__(self.server.service, self.server.port)
        self.disk = Disk(self.server.folder / "disk", postgres.USER) if can_mount() else None
        self._let_in()

    def _let_in(self) -> None:
        self.server.execute("GRANT CREATE ON SCHEMA public TO app")
        if self.disk is not None:
            self.server.execute(f"CREATE TABLESPACE small LOCATION '{self.disk.folder}'")
            self.server.execute("GRANT CREATE ON TABLESPACE small TO app")
            self.server.execute("ALTER ROLE app SET default_tablespace = small")

    def url(self, folder: Path, port: int) -> str:
        password = quote(postgres.PASSWORD)
        return f"postgresql://app:{password}@127.0.0.1:{port}/postgres?prefix={postgres.prefix(folder)}"

    @contextmanager
    def wrong_password(self) -> Iterator[None]:
        self.server.execute(f"ALTER ROLE app PASSWORD '{_OTHER}'")
        self.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
        )
        yield
        self.server.execute(f"ALTER ROLE app PASSWORD '{postgres.PASSWORD}'")

    @contextmanager
    def full(self) -> Iterator[None]:
        assert self.disk is not None
        with self.disk.filled():
            yield

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.server.set(default_transaction_read_only="on")
        yield
        with self.server.connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")

    def forget(self) -> None:
        with self.server.connect() as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE tableowner = 'app'")
            for (table,) in tables.fetchall():
                connection.execute(f'TRUNCATE "{table}"'.encode())

    def close(self) -> None:
        super().close()
        if self.disk is not None:
            self.disk.close()


class MemcachedRig(Rig):
    """Memcached that evicts nothing (-M), so that it can be full."""

    name = "memcached"
    keeps = False

    def __init__(self) -> None:
        self.server = memcached.Memcached("-M", "-m", "2").start()
        super().__init__(self.server.service, self.server.port)

    def url(self, folder: Path, port: int) -> str:
        return f"memcached://127.0.0.1:{port}/?prefix={memcached.prefix(folder)}"

    @contextmanager
    def full(self) -> Iterator[None]:
        filling = self.server.fill()
        yield
        for key in filling:
            self.server.ask(b"delete " + key.encode())

    def forget(self) -> None:
        self.service.kill()
        self.service.start()


RIGS: dict[str, Callable[[], Rig]] = {
    "redis": RedisRig,
    "postgres": PostgresRig,
    "memcached": MemcachedRig,
}
