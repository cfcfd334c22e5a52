"""Where a Redis is and how connections to it are made, from a URL or from a ready client.

Of a client only its settings are taken: addresses, user, TLS, protocol. Its connections stay its
own, because the store's must obey its time limits, never send a write twice, and belong to one
event loop; so the client's own retries, time-outs and decoding do not matter here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel

from coatcheck.errors import ConfigurationError
from coatcheck.stores._redis.routes import Node
from coatcheck.stores._url import StoreURL

__all__ = ["AsyncClient", "Client", "Place", "place_of", "place_of_url"]

_PORT, _SENTINEL_PORT = 6379, 26379
_KEPT = (
    "username",
    "password",
    "credential_provider",
    "client_name",
    "db",
    "protocol",
    "socket_keepalive",
    "socket_keepalive_options",
)
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class Connections:
    """What connections are made of: their class, and its settings."""

    kind: Any
    settings: Mapping[str, Any] = field(repr=False)  # a password among them

    def to(self, node: Node, kind: Any = None, **settings: Any) -> Any:
        """One to that node, not connected yet; perhaps of a subclass, and with further settings."""
        host, port = node
        where = {"host": host, "port": port} if port else {"path": host}
        return (kind or self.kind)(**where, **{**self.settings, **settings})


@dataclass(frozen=True, slots=True)
class Place:
    """`nodes` are the server, or some of a Cluster's; where `sentinels` are, these are the nodes,
    and the server is the master that they know by the name of `service`."""

    nodes: tuple[Node, ...]
    server: Connections
    cluster: bool = False
    sentinels: Connections | None = None
    service: str = ""

    @property
    def replicas(self) -> int:
        """How many confirm, by default: one where the place is made to fail over."""
        return int(self.cluster or self.sentinels is not None)


Client: TypeAlias = redis.Redis | redis.RedisCluster | Place
AsyncClient: TypeAlias = redis.asyncio.Redis | redis.asyncio.RedisCluster | Place


def place_of(client: object, *, asynchronous: bool) -> Place:
    """Where a ready client's server is; `ConfigurationError` for what is no client of that kind."""
    if isinstance(client, Place):
        return client
    library: Any = redis.asyncio if asynchronous else redis
    if isinstance(client, library.RedisCluster):
        return _of_cluster(client, asynchronous)
    if isinstance(client, library.Redis):
        return _of_pool(client.connection_pool)
    name = library.__name__
    raise ConfigurationError(
        f"RedisStore: expected a {name}.Redis or {name}.RedisCluster, got a "
        f"{type(client).__name__}; pass one of {name}, or use from_url"
    )


def _of_cluster(client: Any, asynchronous: bool) -> Place:
    if client.nodes_manager.address_remap is not None:
        raise ConfigurationError(
            "RedisStore: expected a client that goes where its Cluster says, got one with "
            "address_remap; have the nodes announce addresses that lead to them"
        )
    nodes = client.nodes_manager.startup_nodes.values()
    settings = (client if asynchronous else client.nodes_manager).connection_kwargs
    kind = settings.get("connection_class") or _kind(asynchronous, tls=bool(settings.get("ssl")))
    server = Connections(kind, _kept(settings))
    return Place(tuple((node.host, node.port) for node in nodes), server, cluster=True)


def _of_pool(pool: Any) -> Place:
    server = Connections(pool.connection_class, _kept(pool.connection_kwargs))
    if hasattr(pool, "sentinel_manager"):
        return _of_sentinels(pool, server)
    settings = pool.connection_kwargs
    if "path" in settings:
        return Place(((settings["path"], 0),), server)
    return Place(((settings.get("host", "localhost"), int(settings.get("port", _PORT))),), server)


def _of_sentinels(pool: Any, server: Connections) -> Place:
    if not pool.is_master:
        raise ConfigurationError(
            "RedisStore: expected a client of the master, got one of the replicas, which lag "
            "behind; make it with Sentinel.master_for"
        )
    pools = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
    nodes = tuple((p.connection_kwargs["host"], int(p.connection_kwargs["port"])) for p in pools)
    sentinels = Connections(pools[0].connection_class, _kept(pools[0].connection_kwargs))
    asynchronous = isinstance(pool, redis.asyncio.ConnectionPool)
    library: Any = redis.asyncio.sentinel if asynchronous else redis.sentinel
    tls = issubclass(pool.connection_class, library.SentinelManagedSSLConnection)
    server = Connections(_kind(asynchronous, tls=tls), server.settings)
    return Place(nodes, server, sentinels=sentinels, service=pool.service_name)


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a client's settings that concern the store's connections too."""
    return {
        name: value
        for name, value in settings.items()
        if value is not None and (name in _KEPT or name.startswith("ssl_"))
    }


def _kind(asynchronous: bool, *, tls: bool = False, unix: bool = False) -> Any:
    library: Any = redis.asyncio.connection if asynchronous else redis.connection
    name = "SSLConnection" if tls else "UnixDomainSocketConnection" if unix else "Connection"
    return getattr(library, name)


def place_of_url(url: StoreURL, *, asynchronous: bool) -> Place:
    """What the URL says; its own options are taken from it."""
    base, _, topology = url.scheme.partition("+")
    tls, unix = base in ("rediss", "valkeys"), base == "unix"
    settings = {**_login(url.user, url.password), **(_tls(url) if tls else {})}
    if (protocol := url.text("protocol")) is not None:
        settings["protocol"] = _protocol(url, protocol)
    kind = _kind(asynchronous, tls=tls, unix=unix)
    if topology == "sentinel":
        return _sentinels(url, kind, settings)
    if unix:
        return _socket(url, Connections(kind, {**settings, "db": url.number("db", 0)}))
    if topology == "cluster":
        if url.path.strip("/") not in ("", "0"):
            url.refuse("no database", "one in the path", "a Cluster has only one: leave it out")
        return Place(_nodes(url, _PORT), Connections(kind, settings), cluster=True)
    if len(url.hosts) > 1:
        url.refuse("one host", "several", "use redis+sentinel:// or redis+cluster://")
    server = Connections(kind, {**settings, "db": _database(url, url.path.removeprefix("/"))})
    return Place(_nodes(url, _PORT), server)


def _sentinels(url: StoreURL, kind: Any, settings: dict[str, Any]) -> Place:
    service, _, database = url.path.removeprefix("/").partition("/")
    if not service:
        url.refuse(
            "the name by which Sentinels know the master",
            "none",
            "write redis+sentinel://host,host/name/0",
        )
    shared = {name: value for name, value in settings.items() if name.startswith("ssl_")}
    login = _login(url.text("sentinel_username"), url.text("sentinel_password"))
    return Place(
        _nodes(url, _SENTINEL_PORT),
        Connections(kind, {**settings, "db": _database(url, database)}),
        sentinels=Connections(kind, {**shared, **login}),
        service=service,
    )


def _socket(url: StoreURL, server: Connections) -> Place:
    if url.hosts or not url.path.strip("/"):
        url.refuse("the path of a socket", "another URL", "write unix:///run/redis.sock?db=0")
    return Place(((url.path, 0),), server)


def _nodes(url: StoreURL, port: int) -> tuple[Node, ...]:
    hosts: Iterable[tuple[str, int | None]] = url.hosts or [("localhost", None)]
    return tuple((host, given or port) for host, given in hosts)


def _database(url: StoreURL, text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 6):
        url.refuse("the path to be a database's number", "another", "write /0, say")
    return int(text or 0)


def _protocol(url: StoreURL, text: str) -> int:
    if text not in ("2", "3"):
        url.refuse("protocol to be 2 or 3", "another", "leave it out, say")
    return int(text)


def _login(user: str | None, password: str | None) -> dict[str, Any]:
    """An absent and an empty password are both none."""
    given = {"username": user, "password": password}
    return {name: value for name, value in given.items() if value}


def _tls(url: StoreURL) -> dict[str, Any]:
    settings: dict[str, Any] = {
        option: file for option in _TLS if (file := url.text(option)) is not None
    }
    settings["ssl_check_hostname"] = url.flag("ssl_check_hostname", True)
    settings["ssl_cert_reqs"] = url.text("ssl_cert_reqs", "required")
    if settings["ssl_cert_reqs"] not in ("required", "optional", "none"):
        url.refuse("ssl_cert_reqs to be required, optional or none", "another word", "choose one")
    return settings
