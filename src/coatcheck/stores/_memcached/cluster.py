"""Which of several Memcached servers keeps a session: the same one in every process, at all times.

Each id has a server by rendezvous hashing over the servers' names: every name is hashed with the
id, and the highest hash wins. So the order of the list does not matter, and with one server more,
of n, only one session in n moves. A server that is away keeps its place: were its sessions looked
for elsewhere meanwhile, one that ended there would be back when it returns.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

from pymemcache import Client, PooledClient  # type: ignore[import-untyped]

from coatcheck.errors import ConfigurationError
from coatcheck.stores._memcached.server import Server
from coatcheck.stores._memcached.wire import Address, Limits
from coatcheck.stores._url import seconds

__all__ = ["AnyClient", "Cluster", "checked_limits"]

_LONGEST_PREFIX = 200

AnyClient: TypeAlias = Client | PooledClient


class Cluster:
    """The servers that the clients know, and the key that an id has there."""

    def __init__(
        self, clients: AnyClient | Sequence[AnyClient], prefix: str, limits: Limits
    ) -> None:
        self._prefix = _checked_prefix(prefix)
        self.servers = [Server(_address(client), limits) for client in _listed(clients)]
        names = [server.name for server in self.servers]
        if len(set(names)) < len(names):
            raise _wrong("each server once", "one of them twice", "leave one out")

    def place(self, id: str) -> tuple[Server, bytes]:
        """The server that keeps that id, and its key. ValueError where it is no id."""
        raw = bytes.fromhex(id)
        key = self._prefix + raw.hex().encode()
        if len(self.servers) == 1:
            return self.servers[0], key
        return max(self.servers, key=lambda server: _weight(server.name, raw)), key

    def close(self) -> None:
        for server in self.servers:
            server.close()


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
    listed = given if isinstance(given, list | tuple) else [given]
    if not listed:
        raise _no_client("an empty list")
    return listed


def _address(client: Any) -> Address:
    """Where a ready client's server is. Its time-outs, which are for pieces, do not matter."""
    if not isinstance(client, AnyClient):
        raise _no_client(f"a {type(client).__name__}")
    if client.ignore_exc:
        raise _no_client("one that takes an outage for an absent session (ignore_exc=True)")
    if client.key_prefix:
        raise _wrong("clients without a key_prefix", "one with it", "pass the store's prefix=")
    return Address(client.server, client.tls_context)


def _no_client(got: str) -> ConfigurationError:
    return _wrong(
        "a pymemcache.Client, or a list of them",
        got,
        "pass Client('localhost:11211'), one for each server: a client that retries, or goes to "
        "another server, could undo the end of a session",
    )


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


def _wrong(expected: str, got: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"MemcachedStore: expected {expected}, got {got}; {remedy}")
