"""Which server a command goes to, and what its answer means: every decision, without I/O.

`exchange` is a generator. It yields what to ask of whom, is sent what each answered, and returns
the answer to each command; the lines of `line` do the asking, with threads or with tasks.
What a server refused without running it is sent again: a script that it does not know (NOSCRIPT),
with its text; a key that lives elsewhere (MOVED, ASK), there; and what could not be sent at all,
where the Cluster meanwhile names another node for it. Nothing that may have run is sent twice.

The map of a Cluster is read at first, and again after anything that says it is out of date: an
error of a node, a redirection. Nodes that failed are asked for it last.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple

from redis import exceptions
from redis.crc import key_slot

from coatcheck.stores._redis.commands import Command, Raw
from coatcheck.stores._redis.errors import NotSent, unavailable, unconfirmed

__all__ = ["Asked", "Exchange", "Node", "Routes", "exchange"]

Node = tuple[str, int]
"""Host and port; of a socket its path and 0."""

_ROUNDS = 6
_ASKED_FOR_MAP = 4
_MAP: Raw = (b"CLUSTER", b"SLOTS")
_ASKING: Raw = (b"ASKING",)


class Asked(NamedTuple):
    """What to ask of whom; `share` is the part of the time left that it may take."""

    by_node: dict[Node, list[Raw]]
    share: float = 1.0


Answered = dict[Node, list[Any] | Exception]
Exchange = Generator[Asked, Answered, list[Any]]


class Routes:
    """Where keys live. Of a server of its own, or one that Sentinels name, all on one node."""

    def __init__(self, seeds: Sequence[Node], *, cluster: bool) -> None:
        self.cluster = cluster
        self.stale = cluster
        self._seeds = list(seeds)
        self._slots: dict[int, Node] = {}
        self._failed: dict[Node, None] = {}

    def node_of(self, key: bytes) -> Node:
        if not self.cluster:
            return self._seeds[0]
        return self._slots.get(key_slot(key)) or self._candidates()[0]

    @property
    def masters(self) -> list[Node]:
        """Every node that has keys."""
        return list(dict.fromkeys(self._slots.values())) if self._slots else self._seeds[:1]

    def failed(self, node: Node) -> None:
        self._failed[node] = None
        self.stale = self.cluster

    def moved(self, redirection: exceptions.AskError, node: Node) -> Node:
        """The node that a redirection by this one names; MOVED is for good, ASK for this once."""
        named = (redirection.host or node[0], redirection.port)
        if isinstance(redirection, exceptions.MovedError):
            self._slots = {**self._slots, redirection.slot_id: named}
            self.stale = True
        return named

    def read(self) -> Generator[Asked, Answered, None]:
        """Read the map, where it is out of date; if no node has it, go on with the old one."""
        if not self.stale:
            return
        candidates = self._candidates()[:_ASKED_FOR_MAP]
        for number, node in enumerate(candidates):
            answered = yield Asked({node: [_MAP]}, 1 / (len(candidates) - number + 1))
            answers = answered[node]
            if isinstance(answers, Exception):
                self._failed[node] = None
            elif isinstance(answers[0], list) and answers[0]:
                self._learn(answers[0], node)
                return

    def _learn(self, ranges: list[Any], node: Node) -> None:
        slots: dict[int, Node] = {}
        for first, last, master, *_ in ranges:
            host = (master[0] or b"").decode() or node[0]
            slots.update(dict.fromkeys(range(first, last + 1), (host, master[1])))
        self._slots = slots
        self._failed = {}
        self.stale = False

    def _candidates(self) -> list[Node]:
        """Whom to ask for the map: those that failed last, the longest ago first."""
        known = dict.fromkeys([*dict.fromkeys(self._slots.values()), *self._seeds])
        failed = [node for node in list(self._failed) if node in known]  # threads add to it
        return [node for node in known if node not in failed] + failed


class _Errand:
    """A command on its way, and how it is to be sent."""

    __slots__ = ("asking", "at", "command", "lost", "node", "whole")

    def __init__(self, at: int, command: Command) -> None:
        self.at = at
        self.command = command
        self.node: Node | None = None
        self.asking = False
        self.whole = False
        self.lost: Node | None = None


def exchange(
    routes: Routes, commands: Sequence[Command], replicas: int = 0, ms: int = 0
) -> Exchange:
    """Have the commands answered; an answer may be an exception. With `replicas`, each is followed
    by a wait of at most `ms` until so many have it."""
    wait: list[Raw] = [(b"WAIT", replicas, ms)] if replicas else []
    answers: list[Any] = [None] * len(commands)
    errands = [_Errand(at, command) for at, command in enumerate(commands)]
    for _ in range(_ROUNDS):
        yield from routes.read()
        sent = _by_node(routes, errands)
        if not sent:
            return answers
        answered = yield Asked({node: _raws(those, wait) for node, those in sent.items()})
        errands = []
        for node, those in sent.items():
            replies = answered[node]
            if isinstance(replies, Exception):
                errands += _lost(routes, node, those, replies, answers)
            else:
                errands += _sort(routes, node, those, replies, replicas, answers)
        if not errands:
            return answers
    for errand in errands:
        answers[errand.at] = unavailable(exceptions.ResponseError("MOVED too often"))
    return answers


def _by_node(routes: Routes, errands: Iterable[_Errand]) -> dict[Node, list[_Errand]]:
    """Whom to send which; without what was lost on a node that has it still."""
    sent: dict[Node, list[_Errand]] = {}
    for errand in errands:
        node = errand.node or routes.node_of(errand.command.key)
        if node != errand.lost:
            sent.setdefault(node, []).append(errand)
    return sent


def _raws(errands: Iterable[_Errand], wait: list[Raw]) -> list[Raw]:
    raws: list[Raw] = []
    for errand in errands:
        if errand.asking:
            raws.append(_ASKING)
        raws.append(errand.command.raw(errand.whole))
        raws += wait
    return raws


def _lost(
    routes: Routes, node: Node, errands: list[_Errand], error: Exception, answers: list[Any]
) -> list[_Errand]:
    """Put down that the node failed; what was not sent may go to another, once."""
    routes.failed(node)
    again = []
    for errand in errands:
        answers[errand.at] = unavailable(error)
        if routes.cluster and isinstance(error, NotSent) and errand.lost is None:
            errand.lost, errand.node, errand.asking = node, None, False
            again.append(errand)
    return again


def _sort(
    routes: Routes,
    node: Node,
    errands: list[_Errand],
    replies: list[Any],
    replicas: int,
    answers: list[Any],
) -> list[_Errand]:
    """Put down what was answered; what must go again."""
    again = []
    coming = iter(replies)
    for errand in errands:
        if errand.asking:
            next(coming)
        reply = next(coming)
        confirmed = next(coming) if replicas else 0
        if isinstance(reply, Exception):
            if _goes_again(routes, node, errand, reply):
                again.append(errand)
                continue
            reply = unavailable(reply)
        elif isinstance(confirmed, Exception):
            reply = unavailable(confirmed)
        elif confirmed < replicas:
            reply = unconfirmed(replicas, confirmed)
        answers[errand.at] = reply
    return again


def _goes_again(routes: Routes, node: Node, errand: _Errand, refusal: Exception) -> bool:
    """Whether the server refused it without running it, and what to do about that."""
    if isinstance(refusal, exceptions.NoScriptError):
        again, errand.whole = not errand.whole, True
        return again
    if not routes.cluster:
        return False
    if isinstance(refusal, exceptions.AskError):  # or MovedError
        errand.node = routes.moved(refusal, node)
        errand.asking = not isinstance(refusal, exceptions.MovedError)
        return True
    routes.stale = True
    return False
