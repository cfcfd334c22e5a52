"""A socket for pymemcache, over which whole calls end in time.

pymemcache's time-outs are for each piece that is sent or received, so a server that dribbles a byte
now and then could make a call last for ever. It looks names up without a limit, and tries only the
first address that a name has. But it takes another socket module for Python's: a `Wire` stands for
that module and for the one socket that a client makes of it. Connecting, with all that it needs, is
one wait, and so is each call.
"""

import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from ssl import SSLContext
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Address", "Limits", "Wire", "left"]

_TRUSTED = 60.0
"""Seconds after which a firewall may have forgotten an idle connection, without a word."""

_Place: TypeAlias = tuple[Any, ...]
_Socket: TypeAlias = socket.socket


class Limits(NamedTuple):
    """Seconds to connect and for one call, and how many connections there are to one server."""

    connect: float
    call: float
    connections: int

    @property
    def patience(self) -> float:
        return self.connect + self.call


def left(until: float) -> float:
    """Seconds until then; raises TimeoutError where that is past."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


class Address:
    """Where a server is: a host and a port, or the path of a socket; and how it is trusted.

    A name is looked up in one thread at a time, which nobody waits for longer than they may.
    """

    def __init__(self, server: tuple[str, int] | str, tls: SSLContext | None = None) -> None:
        self.server = server
        self._tls = tls
        self._looking: Future[list[_Place]] | None = None

    def forget(self) -> None:
        """In the child of a fork, where nobody is looking the name up."""
        self._looking = None

    @property
    def name(self) -> str:
        if isinstance(self.server, str):
            return self.server
        host, port = self.server[0].lower(), self.server[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self, until: float) -> _Socket:
        """To the first place that takes a connection; `OSError` where none does in time."""
        failed: OSError | None = None
        places = self._places(until)
        for number, place in enumerate(places):
            # One that swallows everything leaves time for the next.
            ends = time.monotonic() + left(until) / (len(places) - number)
            try:
                return self._connect(place, ends)
            except OSError as error:
                failed = error
        raise failed or OSError("the host has no address")

    def _connect(self, place: _Place, until: float) -> _Socket:
        sock = socket.socket(*place[:3])
        try:
            sock.settimeout(left(until))
            sock.connect(place[-1])
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return sock
            sock.settimeout(left(until))  # for the whole handshake
            return self._tls.wrap_socket(sock, server_hostname=self.server[0])
        except BaseException:
            sock.close()
            raise

    def _places(self, until: float) -> list[_Place]:
        if isinstance(self.server, str):
            return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, self.server)]
        with suppress(OSError):  # an address needs no looking up
            return _places(self.server, socket.AI_NUMERICHOST)
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = Future()
            threading.Thread(target=_look_up, args=(self.server, looking), daemon=True).start()
        return looking.result(timeout=left(until))


def _places(server: tuple[str, int], flags: int = 0) -> list[_Place]:
    return [*socket.getaddrinfo(*server, type=socket.SOCK_STREAM, flags=flags)]


def _look_up(server: tuple[str, int], found: "Future[list[_Place]]") -> None:
    try:
        found.set_result(_places(server))
    except Exception as error:  # noqa: BLE001 - whoever waits gets it
        found.set_exception(error)


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

    def getaddrinfo(self, *_: object) -> list[_Place]:
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
