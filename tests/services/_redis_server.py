"""One Redis server, or one Sentinel; alone, or as a part of what stands beside this file.

It listens on a port and on a Unix socket in its own folder. Tests that look past a store, and the
check whether it is up, use the socket: it cannot be another program's, it needs no TLS, and a proxy
before the port does not concern it.
"""

import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services.process import PATIENCE, Service, free_port, temporary_folder

__all__ = ["HOST", "Redis"]

HOST = "127.0.0.1"

_ANSWERS_WITHIN = 1.0
_TRIES = 5  # another program may take the port before the server does
_DEFAULTS: dict[str, str | int] = {
    "save": "",
    "appendonly": "no",
    "rdbcompression": "no",  # what DUMP gives stays legible
    "repl-diskless-sync": "no",  # with it a replica is linked a second before writes reach it
    "rdb-del-sync-files": "yes",
    "shutdown-timeout": 0,
}


class Redis:
    """Up from `start` to `stop`, or in a `with` block; `service` kills, freezes and restarts it.

    A restart has the same port and folder. It keeps nothing on disk, unless options say so: those
    of redis.conf by keyword, with `_` for `-`; `lines` go there as they are. With a `tls_cert_file`
    the port speaks TLS alone.
    """

    arguments: ClassVar[Sequence[str]] = ()

    def __init__(self, *lines: str, **options: str | int) -> None:
        self.folder = temporary_folder("redis")
        self.unix_socket = self.folder / "socket"
        self.port = self.bus_port = 0
        self._lines = lines
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        command = [self._program(), "redis.conf", *self.arguments]
        self.service = Service(command, self.folder, self._is_ready)

    def _program(self) -> str:
        return "redis-server"

    def start(self) -> Self:
        """On a port that was free; on another if somebody was faster."""
        for _ in range(_TRIES):
            self._configure()
            try:
                self.service.start()
            except AssertionError:
                if "Address already in use" not in self.service.log.read_text():
                    raise
            else:
                return self
        raise AssertionError(f"no port stayed free (see {self.service.log})")

    def stop(self) -> None:
        self.service.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def client(self, timeout: float = PATIENCE) -> redis.Redis:
        """A client past everything, as the default user; close it, or use it in a `with`."""
        password = self._options.get("requirepass")
        return redis.Redis(
            unix_socket_path=str(self.unix_socket),
            password=None if password is None else str(password),
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def ask(self, *words: str | bytes | int) -> Any:
        """One command's answer, as it came. A server that does not answer is an `OSError`."""
        with self.client(_ANSWERS_WITHIN) as client:
            execute: Callable[..., Any] = client.execute_command
            try:
                return execute(*words)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                raise OSError(f"{words[0]!r}: no answer from the server at {self.port}") from error

    @property
    def answers(self) -> bool:
        """Whether it runs, and is not frozen."""
        try:
            return self.service.is_running and self.ask("PING") is True
        except OSError:
            return False

    def _configure(self) -> None:
        self.port, self.bus_port = free_port(), free_port()
        options = {**_DEFAULTS, **self._ports(), **self._options}
        lines = [f"{name} {_quoted(value)}" for name, value in options.items()]
        (self.folder / "redis.conf").write_text("\n".join([*lines, *self._lines, ""]))

    def _ports(self) -> dict[str, str | int]:
        ports: dict[str, str | int] = {"bind": HOST, "unixsocket": str(self.unix_socket)}
        if "tls-cert-file" in self._options:
            ports |= {"port": 0, "tls-port": self.port}
        else:
            ports["port"] = self.port
        if "cluster-enabled" in self._options:
            ports["cluster-port"] = self.bus_port
        return ports

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWERS_WITHIN)
            connection.connect(str(self.unix_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))


def _quoted(value: str | int) -> str | int:
    """Several words stay several words; none at all has to be written as such."""
    return '""' if value == "" else value
