"""PostgreSQL servers, and PgBouncer before one, from the system's packages.

The shared one is quick and forgetful (`fsync=off`); each test has a prefix of its own in it.
"""

import functools
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.services.process import Service, folder_for, free_port

__all__ = ["PgBouncer", "Postgres", "dump", "prefix", "server", "url"]

USER = "postgres"
PASSWORD = "correct horse"

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
_SETTINGS = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "logging_collector": "off",
    "timezone": "UTC",
    "lc_messages": "C",
}


class Postgres:
    """A server of one's own: `start`, `stop`, `kill`, `restart`, and by `service` all else.

    Who comes by its socket, or as `postgres`, is let in; the role `app` needs its password.
    """

    def __init__(self, **settings: str) -> None:
        self.folder = folder_for(USER, "postgres")
        self.data = self.folder / "data"
        self.port = free_port()
        self._settings = {**_SETTINGS, **settings}
        self.service = Service(
            [_program("postgres"), "-D", self.data],
            self.folder,
            self._is_ready,
            user=USER,
            ends_by=signal.SIGINT,  # fast: sessions are ended, and told so
        )

    def start(self) -> Self:
        if not self.data.exists():
            self._initialise()
            self.service.start()
            self.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        else:
            self.service.start()
        return self

    def stop(self) -> None:
        self.service.stop()

    def kill(self) -> None:
        """At once, with all of its processes."""
        self.service.kill()

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        self.service.freeze()

    def thaw(self) -> None:
        self.service.thaw()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def standby(self) -> "Postgres":
        """Another server, to be started, that follows this one until it is promoted."""
        other = Postgres()
        command: list[str | Path] = [_program("pg_basebackup"), "-D", other.data, "-R"]
        command += ["-d", self.conninfo(), "--checkpoint=fast", "--no-sync", "--wal-method=stream"]
        other._run(command)
        with (other.data / "postgresql.conf").open("a") as file:
            file.write(f"port = {other.port}\nunix_socket_directories = '{other.folder}'\n")
        return other

    def promote(self) -> None:
        self.execute("SELECT pg_promote()")

    def restart(self) -> None:
        self.stop()
        self.start()

    def conninfo(self, **parts: object) -> str:
        given: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": USER,
            "dbname": "postgres",
        }
        return psycopg.conninfo.make_conninfo(**{**given, **parts})

    def url(self, **options: object) -> str:
        asked = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres?{asked}"

    def connect(self, **parts: object) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.conninfo(**parts), autocommit=True)

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def configure(self, **settings: str) -> None:
        """Before the first start."""
        self._settings.update(settings)

    def set(self, **settings: str) -> None:
        """Change settings of the running server."""
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.execute("SELECT pg_reload_conf()")

    def _initialise(self) -> None:
        command: list[str | Path] = [
            _program("initdb"),
            "-D",
            self.data,
            "-U",
            USER,
            "--auth=trust",
        ]
        command += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        self._run(command)
        settings = {
            **self._settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        rules = ["host all app all scram-sha-256", "local all all trust", "host all all all trust"]
        rules += ["host replication all all trust"]
        (self.data / "pg_hba.conf").write_text("\n".join([*rules, ""]))

    def _run(self, command: Sequence[str | Path]) -> None:
        user = USER if os.geteuid() == 0 else None
        subprocess.run(
            command, cwd=self.folder, user=user, check=True, capture_output=True, timeout=120
        )

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.conninfo(connect_timeout=5)).close()
        except psycopg.OperationalError:
            return False
        return True


class PgBouncer:
    """In transaction mode, with few connections to that server."""

    def __init__(self, postgres: Postgres, **settings: str) -> None:
        self.folder = folder_for(USER, "pgbouncer")
        self.port = free_port()
        self._postgres = postgres
        self._write(settings)
        self.service = Service(
            [
                shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") or "pgbouncer",
                self.folder / "pgbouncer.ini",
            ],
            self.folder,
            self._is_ready,
            user=USER,
        )

    def start(self) -> Self:
        self.service.start()
        return self

    def stop(self) -> None:
        self.service.stop()

    def conninfo(self, **parts: object) -> str:
        return self._postgres.conninfo(**{"port": self.port, **parts})

    def _write(self, settings: Mapping[str, str]) -> None:
        users = self.folder / "users"
        users.write_text(f'"{USER}" ""\n')
        given = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(users),
            "pool_mode": "transaction",
            "default_pool_size": "2",
            "server_idle_timeout": "60",
            **settings,
        }
        lines = ["[databases]", f"* = host=127.0.0.1 port={self._postgres.port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in given.items()]
        (self.folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]))

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.conninfo(connect_timeout=5)).close()
        except psycopg.OperationalError:
            return False
        return True


@functools.cache
def server() -> Postgres:
    """The one that the whole test run shares."""
    return Postgres().start()


def prefix(folder: Path) -> str:
    return f"t{hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()}_"


def url(folder: Path) -> str:
    """A table of that folder's own on the shared server."""
    return server().url(prefix=prefix(folder), timeout=10, connect_timeout=10)


def dump(folder: Path) -> bytes:
    """Every row of that table."""
    table = f"{prefix(folder)}sessions"
    rows = server().execute(f'SELECT row_to_json(kept)::text FROM "{table}" AS kept')
    blobs = server().execute(f'SELECT uuid_send(id), revision, subject, payload FROM "{table}"')
    parts = [cell if isinstance(cell, bytes) else str(cell).encode() for r in blobs for cell in r]
    return b"\n".join([*(row[0].encode() for row in rows), *parts])


def _program(name: str) -> Path:
    """From Debian's folder of the newest version, else from the path."""
    found = [path / name for path in _PROGRAMS if (path / name).exists()]
    return found[-1] if found else Path(shutil.which(name) or name)
