"""Which of several Memcached servers keeps a session: the same one in every process, at all times.

Each id has a server by rendezvous hashing over the servers' names: every name is hashed with the
id, and the highest hash wins. So the order of the list does not matter, and with one server more,
of n, only one session in n moves. A server that is away keeps its place: were its sessions looked
for elsewhere meanwhile, one that ended there would be back when it returns.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

from coatcheck.errors import ConfigurationError
from coatcheck.stores._memcached_server import AsyncServer, Limits, Server
from coatcheck.stores._url import seconds

__all__ = ["Cluster", "checked_limits"]

S = TypeVar("S", Server, AsyncServer)

_PORT = 11211
_LONGEST_PREFIX = 200


class Cluster(Generic[S]):
    """The servers, and the key that an id has there."""

    def __init__(
        self,
        kind: Callable[[str, int, Limits], S],
        given: str | Sequence[str],
        prefix: str,
        limits: Limits,
    ) -> None:
        places = [_place(each) for each in _listed(given)]
        self.servers: list[S] = [kind(host, port, limits) for host, port in places]
        self._prefix = _checked_prefix(prefix)
        names = [server.name for server in self.servers]
        if len(set(names)) < len(names):
            raise _wrong("each server once", "one of them twice", "leave one out")

    def place(self, id: str) -> tuple[S, bytes]:
        """The server that keeps that id, and its key. ValueError where it is no id."""
        raw = bytes.fromhex(id)
        key = self._prefix + raw.hex().encode()
        if len(self.servers) == 1:
            return self.servers[0], key
        return max(self.servers, key=lambda server: _weight(server.name, raw)), key

    def disconnect(self) -> None:
        for server in self.servers:
            server.disconnect()


def _weight(name: str, raw_id: bytes) -> bytes:
    return blake2b(raw_id + name.encode(), digest_size=8).digest()


def checked_limits(connect: float, call: float, connections: int) -> Limits:
    if type(connections) is not int or not 1 <= connections <= 10_000:
        raise _wrong("pool_size to be from 1 to 10000", repr(connections), "pass 16, say")
    where = "MemcachedStore"
    return Limits(
        seconds("connect_timeout", connect, where), seconds("timeout", call, where), connections
    )


def _listed(given: object) -> Sequence[object]:
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list | tuple) or not listed:
        raise _not_a_server(given)
    return listed


def _place(given: object) -> tuple[str, int]:
    """The host and the port of "host", "host:port" or "[address]:port"."""
    if not isinstance(given, str):
        raise _not_a_server(given)
    host, colon, port = given.rpartition(":")
    if not colon or given.endswith("]"):
        host, port = given, str(_PORT)
    host = host.removeprefix("[").removesuffix("]").lower()
    is_port = port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65_536
    if not is_port or not _is_host(host):
        raise _wrong("servers as 'host:port'", "one written otherwise", "write 'localhost:11211'")
    return host, int(port)


def _is_host(host: str) -> bool:
    try:
        encoded = host.encode("idna")
    except UnicodeError:
        return False
    return bool(encoded) and not set(encoded) & set(b" @/?#%\\,")


def _checked_prefix(prefix: object) -> bytes:
    """A key has no space and no control character, and 250 bytes at most."""
    encoded = prefix.encode() if isinstance(prefix, str) and prefix.isprintable() else b" "
    if b" " in encoded or len(encoded) > _LONGEST_PREFIX:
        raise _wrong(
            f"prefix to be text without spaces, up to {_LONGEST_PREFIX} bytes",
            type(prefix).__name__ if not isinstance(prefix, str) else repr(prefix[:20]),
            "pass 'coatcheck:', say",
        )
    return encoded


def _not_a_server(given: object) -> ConfigurationError:
    return _wrong(
        "servers as 'host:port', or a list of them",
        type(given).__name__,
        "pass addresses: the store makes its own connections, since those of Memcached clients "
        "have no limit for a whole call",
    )


def _wrong(expected: str, got: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"MemcachedStore: expected {expected}, got {got}; {remedy}")
