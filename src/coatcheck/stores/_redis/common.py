"""What the store's two kinds of line have in common: what they know, and how they judge answers."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from redis import exceptions

from coatcheck.errors import StoreUnavailable
from coatcheck.stores._advice import Advice
from coatcheck.stores._redis import look
from coatcheck.stores._redis.commands import Command, Raw
from coatcheck.stores._redis.errors import NotSent, unavailable
from coatcheck.stores._redis.options import Options
from coatcheck.stores._redis.place import Place
from coatcheck.stores._redis.routes import Exchange, Node, Routes, exchange

pack_command: Any = None
with suppress(ModuleNotFoundError):  # a part of the extra, but redis-py can do without
    pack_command = import_module("hiredis").pack_command

__all__ = [
    "FAILURES",
    "LOOK",
    "ROLE",
    "Shared",
    "check_role",
    "not_sent",
    "only",
    "packed",
    "raised",
]

LOOK = 0.25  # seconds that a look at the server's settings may delay the first call
_LOOKS = 3  # how often it is tried
ROLE: Raw = (b"ROLE",)
FAILURES = (exceptions.RedisError, OSError)


class Shared:
    """What both kinds of line know."""

    def __init__(self, place: Place, options: Options) -> None:
        self.place = place
        self.options = options
        self.replicas = place.replicas if options.replicas is None else options.replicas
        self.advice = Advice()
        self._routes = Routes(place.nodes, cluster=place.cluster)
        self._sentinels = deque(place.nodes)
        self._looks: dict[Node, int] = {}

    @property
    def _none_free(self) -> NotSent:
        return NotSent(f"none of {self.options.pool_size} connections free in time (pool_size)")

    def _durable(self, command: Command, left: float) -> Exchange:
        # Less than the call may take: servers end a wait up to a tenth of a second late.
        ms = max(1, int(min(left, self.options.timeout) * 700))
        return exchange(self._routes, [command], self.replicas, ms)

    def _is_to_look(self, node: Node) -> bool:
        """Whether its settings are not known yet; this counts as a try."""
        tries = self._looks.get(node, 0)
        self._looks[node] = min(tries + 1, _LOOKS)
        return tries < _LOOKS

    def _advise(self, node: Node, answers: Sequence[Any]) -> None:
        self._looks[node] = _LOOKS
        for risk in look.risks(answers, self.replicas):
            self.advice.found(risk)

    def _named(self, answer: Any, sentinel: Node) -> Node:
        """The master that a Sentinel named; it is asked first from now on."""
        if not answer:
            raise exceptions.ConnectionError(
                f"the Sentinel at {sentinel[0]}:{sentinel[1]} knows no master named "
                f"{self.place.service!r}"
            )
        while self._sentinels[0] != sentinel:
            self._sentinels.rotate(-1)
        return answer[0].decode(), int(answer[1])

    @property
    def _who_is_master(self) -> Raw:
        return (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.place.service.encode())


def check_role(answer: Any) -> None:
    """A master that was just deposed is not used; a server that forbids ROLE is taken for one."""
    if isinstance(answer, list) and answer[0] != b"master":
        raise exceptions.ReadOnlyError("the server that the Sentinels named is no master yet")


def not_sent(error: Exception) -> NotSent:
    made = NotSent(str(error) or type(error).__name__)
    made.__cause__ = error
    return made


def raised(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer if isinstance(answer, StoreUnavailable) else unavailable(answer)
    return answer


def packed(connection: Any, raws: Sequence[Raw]) -> Any:
    """The commands as what a connection sends; hiredis packs them several times as fast."""
    if pack_command is None:
        return connection.pack_commands(raws)
    return [b"".join(map(pack_command, raws))]


def only(answered: list[Any] | Exception) -> Any:
    return answered if isinstance(answered, Exception) else answered[0]
