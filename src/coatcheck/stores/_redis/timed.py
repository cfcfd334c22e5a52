"""Connections of redis-py for threads, of which everything ends at one moment.

redis-py's time-outs are for each piece that a socket sends or receives, so that a server which
dribbles a byte now and then could make a call last for ever. Here the time that is left is set
before each piece, from the name's look-up to the last byte of an answer.
"""

import selectors
import socket
from collections.abc import Hashable
from functools import cache
from typing import Any

import redis.connection

from coatcheck.stores._address import connect, left

__all__ = ["Deadline", "timed"]

# A file descriptor for each look, as the default one takes, could be one too many.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Deadline:
    """When a connection's current call ends, by `time.monotonic`."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = 0.0

    @property
    def left(self) -> float:
        """Seconds, always positive; raises `TimeoutError` where there are none."""
        return left(self.until)


class _Socket:
    """A socket that has the time left set before whatever may wait."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(self._deadline.left)
        self._sock.sendall(data)

    def recv(self, *arguments: Any) -> Any:
        self._sock.settimeout(self._deadline.left)
        return self._sock.recv(*arguments)

    def recv_into(self, *arguments: Any) -> Any:
        self._sock.settimeout(self._deadline.left)
        return self._sock.recv_into(*arguments)

    def is_quiet(self) -> bool:
        """Whether nothing has arrived, as should be between calls; that it ended would have."""
        with _Selector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            return not selector.select(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Connection(redis.connection.Connection):
    """Connects to a host with as much patience for a name as for an address."""

    deadline: Deadline

    def _connect(self) -> Any:
        sock = connect((self.host, self.port), self.deadline.until)
        try:
            if self.socket_keepalive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in self.socket_keepalive_options.items():
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)
            sock.settimeout(self.deadline.left)  # for the TLS handshake
        except BaseException:
            sock.close()
            raise
        return sock


def _bases(kind: Any) -> tuple[Any, ...]:
    if kind is redis.connection.Connection:
        return (_Connection,)
    if issubclass(kind, redis.connection.Connection):
        return kind, _Connection  # TLS wraps what is connected below it
    return (kind,)


@cache
def timed(kind: Hashable) -> Any:
    """The same kind of connection, with a `deadline` that its connecting and calls keep."""

    class Timed(*_bases(kind)):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            self.deadline = Deadline()
            super().__init__(**settings)

        def _connect(self) -> Any:
            return _Socket(super()._connect(), self.deadline)

        # redis-py reads these before it connects to a path; what it sets, it sets in vain.
        def _left(self) -> float:
            return self.deadline.left

        def _ignore(self, seconds: object) -> None: ...

        socket_timeout = property(_left, _ignore)
        socket_connect_timeout = property(_left, _ignore)

    return Timed
