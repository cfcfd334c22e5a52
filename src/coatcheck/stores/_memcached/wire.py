"""A socket for pymemcache, over which whole calls end in time.

pymemcache's time-outs are for each piece that is sent or received, so a server that dribbles a byte
now and then could make a call last for ever. It looks names up without a limit, and tries only the
first address that a name has. But it takes another socket module for Python's: a `Wire` stands for
that module and for the one socket that a client makes of it. Connecting, with all that it needs, is
one wait, and so is each call.
"""

import socket
import time
from ssl import SSLContext
from typing import Any, NamedTuple, TypeAlias

from coatcheck.stores._address import Server, connect, left

__all__ = ["Address", "Limits", "Wire"]

_TRUSTED = 60.0
"""Seconds after which a firewall may have forgotten an idle connection, without a word."""

_Socket: TypeAlias = socket.socket


class Limits(NamedTuple):
    """Seconds to connect and for one call, and how many connections there are to one server."""

    connect: float
    call: float
    connections: int

    @property
    def patience(self) -> float:
        return self.connect + self.call


class Address:
    """Where a server is, and how it is trusted."""

    def __init__(self, server: Server, tls: SSLContext | None = None) -> None:
        self.server = server
        self._tls = tls

    @property
    def name(self) -> str:
        if isinstance(self.server, str):
            return self.server
        host, port = self.server[0].lower(), self.server[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self, until: float) -> _Socket:
        """To the first place that takes a connection; `OSError` where none does in time."""
        return connect(self.server, until, None if self._tls is None else self._trust)

    def _trust(self, sock: _Socket, until: float) -> _Socket:
        assert self._tls is not None
        sock.settimeout(left(until))  # for the whole handshake
        return self._tls.wrap_socket(sock, server_hostname=self.server[0])


class Wire:
    """One connection, not connected yet. What pymemcache asks of a socket module, and no more."""

    AF_UNSPEC = AF_UNIX = SOCK_STREAM = IPPROTO_TCP = None

    def __init__(self, address: Address, limits: Limits) -> None:
        self._address = address
        self._limits = limits
        self._sock: _Socket | None = None
        self._until = self._ends = self._used_at = 0.0

    def begin(self, until: float) -> None:
        """A call begins, which is over by then; and within its own limit, once connected."""
        self._until = until
        self._used_at = time.monotonic()
        self._ends = min(until, self._used_at + self._limits.call)

    def is_fit(self) -> bool:
        """Whether nothing has come since the last answer, neither an end nor a late word."""
        if self._sock is None or time.monotonic() - self._used_at > _TRUSTED:
            return False
        try:
            self._sock.setblocking(False)
            _Socket.recv(self._sock, 1, socket.MSG_PEEK)  # beneath TLS, which cannot peek
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def getaddrinfo(self, *_: object) -> list[tuple[Any, ...]]:
        return [(None, None, None, "", self._address.name)]

    def socket(self, *_: object) -> "Wire":
        return self

    def settimeout(self, seconds: object) -> None:
        """pymemcache's are for each piece."""

    def connect(self, _: object) -> None:
        until = min(self._until, time.monotonic() + self._limits.connect)
        self._sock = self._address.connect(until)
        self.begin(self._until)

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._timed().send(rest) :]

    def recv(self, size: int) -> bytes:
        return self._timed().recv(size)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()

    __del__ = close  # without the warning that a socket dropped open is worth

    def _timed(self) -> _Socket:
        assert self._sock is not None
        self._sock.settimeout(left(self._ends))
        return self._sock
