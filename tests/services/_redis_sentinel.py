"""A master, its replicas, and three Sentinels that put a replica in its place when it is gone.

The Sentinels' own periods are shortened (`SENTINEL DEBUG`), so that they soon know each other and
every replica, and a failover takes a second or two. One that a test restarts has its usual ones.
They greet each other at once only at first: after four greetings a Sentinel that has not heard of a
failover takes it back, so these must last longer than a promotion, which takes up to a second. And
a replica counts as fit for five pings after it was last heard of, so these must not be too short.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import redis

from tests.services._redis_server import HOST, Redis
from tests.services.process import until

__all__ = ["Sentinels"]

_QUORUM = 2
_SENTINELS = 3
_PERIODS = {"INFO": 100, "PING": 250, "ASK": 100, "PUBLISH": 100}  # milliseconds
_AGREE_WITHIN = 120.0  # seconds: a vote that was split is repeated some seconds later
_PUBLISH_LATER = {"PUBLISH": 750}


class _Sentinel(Redis):
    arguments = ("--sentinel",)

    def hurry(self, periods: Mapping[str, int]) -> None:
        for what, milliseconds in periods.items():
            self.ask("SENTINEL", "DEBUG", f"{what}-PERIOD", milliseconds)


class Sentinels:
    """`down_after` and `failover_timeout` are milliseconds; options are for the data's servers."""

    service_name = "coatcheck"

    def __init__(
        self,
        replicas: int = 1,
        *,
        down_after: int = 500,
        failover_timeout: int = 2000,
        **options: str | int,
    ) -> None:
        self.servers = [Redis(**options)]
        self.sentinels: list[_Sentinel] = []
        self._replicas = replicas
        self._options = options
        self._limits = {"down-after-milliseconds": down_after, "failover-timeout": failover_timeout}

    def start(self) -> Self:
        """Once; after that each server's `service` starts it."""
        master = self.servers[0].start()
        for _ in range(self._replicas):
            self.servers.append(Redis(f"replicaof {HOST} {master.port}", **self._options).start())
        for _ in range(_SENTINELS):
            self.sentinels.append(_Sentinel(*self._watch(master)).start())
        for sentinel in self.sentinels:
            sentinel.hurry(_PERIODS)
        self.wait_until_healed()
        for sentinel in self.sentinels:
            sentinel.hurry(_PUBLISH_LATER)
        return self

    def stop(self) -> None:
        for server in [*self.sentinels, *self.servers]:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def sentinel_ports(self) -> list[int]:
        return [sentinel.port for sentinel in self.sentinels]

    def master(self) -> Redis:
        """The one that the Sentinels name now; it may be down."""
        return self._named_by(next(each for each in self.sentinels if each.answers))

    def replicas(self) -> list[Redis]:
        """The others."""
        master = self.master()
        return [server for server in self.servers if server is not master]

    def failover(self) -> Redis:
        """Put a replica in the place of a master that is well; the new master."""
        old = self.master()
        next(each for each in self.sentinels if each.answers).ask(
            "SENTINEL", "FAILOVER", self.service_name
        )
        until(lambda: self.master() is not old, "a failover", _AGREE_WITHIN)
        self.wait_until_healed()
        return self.master()

    def wait_until_healed(self) -> None:
        """All servers and Sentinels that are up agree on a master, and its replicas are linked."""
        until(self._is_healed, "agreement of the Sentinels", _AGREE_WITHIN)

    def _is_healed(self) -> bool:
        watching = [sentinel for sentinel in self.sentinels if sentinel.answers]
        up = [server for server in self.servers if server.answers]
        masters = {self._named_by(sentinel).port for sentinel in watching}
        return (
            len(masters) == 1
            and all(_is_in_place(server, *masters) for server in up)
            and all(self._is_content(sentinel, len(watching), len(up)) for sentinel in watching)
        )

    def _is_content(self, sentinel: Redis, watching: int, up: int) -> bool:
        """It finds the master well, knows the other Sentinels, and could put any replica there."""
        try:
            sentinel.ask("SENTINEL", "CKQUORUM", self.service_name)
        except redis.ResponseError:
            return False
        master = _fields(sentinel.ask("SENTINEL", "MASTER", self.service_name))
        replicas = map(_fields, sentinel.ask("SENTINEL", "REPLICAS", self.service_name))
        fit = [
            replica
            for replica in replicas
            if (replica["flags"], replica["master-link-status"]) == ("slave", "ok")
        ]
        knows_all = int(master["num-other-sentinels"]) >= watching - 1
        return master["flags"] == "master" and knows_all and len(fit) == up - 1

    def _named_by(self, sentinel: Redis) -> Redis:
        answer = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service_name)
        return next(server for server in self.servers if server.port == int(answer[1]))

    def _watch(self, master: Redis) -> list[str]:
        limits = [
            f"sentinel {limit} {self.service_name} {ms}" for limit, ms in self._limits.items()
        ]
        return [f"sentinel monitor {self.service_name} {HOST} {master.port} {_QUORUM}", *limits]


def _is_in_place(server: Redis, master_port: int) -> bool:
    """It is the master, or a replica that follows it and is linked."""
    role, *rest = server.ask("ROLE")
    if server.port == master_port:
        return bool(role == b"master")
    return bool(role == b"slave" and rest[1:3] == [master_port, b"connected"])


def _fields(answer: list[bytes]) -> dict[str, str]:
    words: Any = iter(each.decode() for each in answer)
    return dict(zip(words, words, strict=True))
