"""A Redis Cluster: some masters that share the slots, and a replica of each.

It is put together by commands, every node meeting every other, which takes the two seconds that a
new master waits in any case before it takes writes. What a node knows is read from its `CLUSTER
NODES`; the helpers ask all that answer, since after a failover each may know something else.
"""

from dataclasses import dataclass
from itertools import permutations
from types import TracebackType
from typing import ClassVar, Self

from tests.services._redis_server import HOST, Redis
from tests.services.process import until

__all__ = ["SLOTS", "Cluster"]

SLOTS = 16_384

_MIGRATE_WITHIN = 5000  # milliseconds
_DEFAULTS: dict[str, str | int] = {
    "cluster_enabled": "yes",
    "cluster_config_file": "nodes.conf",
    "cluster_require_full_coverage": "no",
    "cluster_replica_validity_factor": 0,
    "cluster_allow_replica_migration": "no",
    "cluster_announce_ip": HOST,
}


@dataclass(frozen=True, slots=True)
class _Line:
    """What one node knows of another, or of itself."""

    id: str
    port: int
    flags: frozenset[str]
    master_id: str
    is_linked: bool
    slots: frozenset[int]


class Cluster:
    """`node_timeout` is milliseconds: a failover takes two or three times as long."""

    node: ClassVar[type[Redis]] = Redis

    def __init__(self, masters: int = 3, *, node_timeout: int = 500, **options: str | int) -> None:
        options = {**_DEFAULTS, "cluster_node_timeout": node_timeout, **options}
        self.nodes = [self.node(**options) for _ in range(2 * masters)]
        self._size = masters

    def start(self) -> Self:
        """Once; after that each node's `service` starts it. The first nodes are the masters."""
        for number, node in enumerate(self.nodes, 1):
            node.start().ask("CLUSTER", "SET-CONFIG-EPOCH", number)
        for one, other in permutations(self.nodes, 2):
            one.ask("CLUSTER", "MEET", HOST, other.port, other.bus_port)
        masters, replicas = self.nodes[: self._size], self.nodes[self._size :]
        for number, master in enumerate(masters):
            first, end = (SLOTS * each // self._size for each in (number, number + 1))
            master.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        until(self._have_met, "acquaintance of the cluster's nodes")
        for master, replica in zip(masters, replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", self._id(master))
        self.wait_until_healed()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

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
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def masters(self) -> list[Redis]:
        """Those that answer and own slots."""
        return [node for node in self._up() if _owns(_myself(node))]

    def replica_of(self, master: Redis) -> Redis:
        """One that answers and follows it."""
        leader = self._id(master)
        return next(node for node in self._up() if _myself(node).master_id == leader)

    def slot_of(self, key: str | bytes) -> int:
        return int(self._up()[0].ask("CLUSTER", "KEYSLOT", key))

    def master_of(self, key: str | bytes) -> Redis:
        """The node that answers and owns the key's slot."""
        return self._owner(self.slot_of(key))

    def move_slot(self, slot: int, to: Redis) -> None:
        """With its keys, as a resharding does it."""
        self.start_moving(slot, to)
        self.finish_moving(slot, to)

    def start_moving(self, slot: int, to: Redis) -> None:
        """From now on, asked for a key that it has not, the owner answers ASK."""
        source = self._owner(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(to))

    def move_keys(self, slot: int, to: Redis) -> None:
        """Those that are there; the slot stays."""
        source = self._owner(slot)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", HOST, to.port, "", 0, _MIGRATE_WITHIN, "KEYS", *keys)

    def finish_moving(self, slot: int, to: Redis) -> None:
        """The keys, then the slot: from now on everybody answers MOVED."""
        self.move_keys(slot, to)
        source, others = self._owner(slot), self.masters()
        for node in [to, source, *(each for each in others if each not in (to, source))]:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", self._id(to))
        self.wait_until_healed()

    def wait_until_healed(self) -> None:
        """All slots are owned by nodes that are up; these agree on it, and replicas are linked."""
        until(self._is_healed, "agreement of the cluster's nodes")

    def _is_healed(self) -> bool:
        up = self._up()
        ports = {node.port for node in up}
        views = [{line.port: line for line in _view(node)} for node in up]
        owned = [{port: line.slots for port, line in view.items() if line.slots} for view in views]
        return (
            all(each == owned[0] for each in owned)
            and owned[0].keys() <= ports
            and sum(map(len, owned[0].values())) == SLOTS
            and all(_is_well(view[port]) for view in views for port in ports)
            and all(_is_in_place(node) for node in up)
        )

    def _have_met(self) -> bool:
        return all(
            len(lines := _view(node)) == len(self.nodes) and all(map(_is_well, lines))
            for node in self.nodes
        )

    def _up(self) -> list[Redis]:
        return [node for node in self.nodes if node.answers]

    def _owner(self, slot: int) -> Redis:
        return next(node for node in self._up() if slot in _myself(node).slots)

    def _id(self, node: Redis) -> str:
        return str(node.ask("CLUSTER", "MYID").decode())


def _is_well(line: _Line) -> bool:
    return line.is_linked and not line.flags & {"fail", "fail?", "handshake", "noaddr"}


def _owns(line: _Line) -> bool:
    return "master" in line.flags and bool(line.slots)


def _is_in_place(node: Redis) -> bool:
    """It takes commands; it is a master, or a replica that is linked."""
    role, *rest = node.ask("ROLE")
    state = node.ask("CLUSTER", "INFO").split()[0]
    return bool(state == b"cluster_state:ok" and (role == b"master" or rest[2] == b"connected"))


def _myself(node: Redis) -> _Line:
    return next(line for line in _view(node) if "myself" in line.flags)


def _view(node: Redis) -> list[_Line]:
    return [_line(text) for text in node.ask("CLUSTER", "NODES").decode().splitlines()]


def _line(text: str) -> _Line:
    """Of `id host:port@bus[,name] flags master ping pong epoch link slots…`, see CLUSTER NODES."""
    node_id, address, flags, master, _, _, _, link, *ranges = text.split()
    port = address.partition("@")[0].rpartition(":")[2]
    slots = [_slots(each) for each in ranges if not each.startswith("[")]  # [ is one on the move
    return _Line(
        id=node_id,
        port=int(port),
        flags=frozenset(flags.split(",")),
        master_id=master,
        is_linked=link == "connected",
        slots=frozenset().union(*slots),
    )


def _slots(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
