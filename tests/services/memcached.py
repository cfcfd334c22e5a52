"""A real Memcached: one that a test run shares, and private ones that a test may kill or freeze."""

import functools
import hashlib
import re
import socket
import ssl
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from tests.services.certificates import certificates
from tests.services.process import Service, folder_for, free_port

__all__ = ["Local", "Memcached", "Secured", "dump", "prefix", "shared", "url"]


class Memcached:
    """A server on a port of its own, of 64 MB unless the options say otherwise."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        fixed = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-u", "nobody", "-m", "64"]
        self.service = Service(
            ["memcached", *fixed, *options],
            folder_for("nobody", "memcached"),
            lambda: self.ask(b"version"),
            user="nobody",
        )

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        self.service.start()
        return self

    def stop(self) -> None:
        """It takes a second over that, so tests kill it."""
        self.service.stop()

    def kill(self) -> None:
        self.service.kill()

    def freeze(self) -> None:
        self.service.freeze()

    def thaw(self) -> None:
        self.service.thaw()

    def ask(self, command: bytes) -> bytes:
        """All that it answers to one command, up to and without the last line."""
        with self._connect() as connection:
            connection.settimeout(5)
            connection.sendall(command + b"\r\n")
            answer = b""
            while not answer.endswith(b"\r\n") or not answer.rstrip().endswith(_LAST):
                piece = connection.recv(65_536)
                if not piece:
                    break
                answer += piece
                if answer.startswith(_LINES) and answer.endswith(b"\r\n"):
                    break
            return answer

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def set(self, key: str, value: bytes) -> None:
        """Put any bytes there, as somebody else would."""
        command = b"set %b 0 0 %d\r\n%b" % (key.encode(), len(value), value)
        assert self.ask(command) == b"STORED\r\n"

    def fill(self) -> list[str]:
        """Take all the room there is for values of some size; the keys, to be deleted again.

        The server must have been started with -M, since otherwise it makes room.
        """
        filling: list[str] = []
        for size in range(16_000, 64_000, 4_000):
            for number in range(10_000):
                key = f"filling:{size}:{number}"
                command = b"set %b 0 0 %d\r\n%b" % (key.encode(), size, bytes(size))
                if self.ask(command).startswith(b"SERVER_ERROR"):
                    break
                filling.append(key)
        return filling

    def get(self, key: str) -> bytes:
        """The value of a key, or nothing."""
        answer = self.ask(b"get " + key.encode())
        head, _, rest = answer.partition(b"\r\n")
        return rest[: int(head.split()[3])] if head.startswith(b"VALUE") else b""

    def seconds_left(self, key: str) -> int | None:
        """How long it still keeps that key, by its own clock; None where it keeps it no more."""
        answer = self.ask(b"mg %b t" % key.encode())
        return int(answer[4:]) if answer.startswith(b"HD t") else None

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin so."""
        found = re.findall(rb"key=(\S+) ", self.ask(b"lru_crawler metadump all"))
        return [key for key in (unquote(each.decode()) for each in found) if key.startswith(prefix)]


class Secured(Memcached):
    """Speaks TLS alone, as `localhost`; `context` is what its clients need."""

    def __init__(self) -> None:
        files = certificates(folder_for("nobody", "certificates"))
        for file in (files.certificate, files.key):
            file.chmod(0o644)
        self.context = ssl.create_default_context(cafile=files.authority)
        options = f"ssl_chain_cert={files.certificate},ssl_key={files.key}"
        super().__init__("-Z", "-o", options)

    def _connect(self) -> socket.socket:
        return self.context.wrap_socket(super()._connect(), server_hostname="localhost")


class Local(Memcached):
    """Listens at a `path` alone."""

    def __init__(self) -> None:
        self.path = str(folder_for("nobody", "memcached") / "socket")
        super().__init__("-s", self.path, "-a", "0777")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return connection


_LAST = b"END"
_LINES = (
    b"HD",
    b"EN",
    b"VERSION",
    b"STORED",
    b"DELETED",
    b"NOT_FOUND",
    b"OK",
    b"ERROR",
    b"SERVER",
    b"CLIENT",
)


@functools.cache
def shared() -> Memcached:
    """One thread serves and none tidies up: a list of keys misses what is in use meanwhile."""
    return Memcached("-t", "1", "-o", "no_lru_maintainer").start()


def prefix(folder: Path) -> str:
    """A namespace of that folder's own."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16] + ":"


def url(folder: Path) -> str:
    return f"memcached://{shared().name}/?prefix={prefix(folder)}&timeout=10&connect_timeout=10"


def dump(folder: Path) -> bytes:
    """Every key of that namespace, and its value."""
    server = shared()
    keys = server.keys(prefix(folder))
    return b"\n".join(key.encode() + b" " + server.get(key) for key in keys)
