"""Logins, checked against their subject's mark and limit; without I/O.

In a Cluster a record and its subject's index live on different nodes, so what other stores do in
one transaction is an order here. The id is in the index (1) before its record has the subject (2),
so that a list misses no login that was written; the index then seats it (3), unless the mark
forbids it or all seats are taken; and what got no seat is deleted. Who sets a mark and then ends
all that the list finds thus meets every login: it was written by then and is listed, or is written
later and refused.

Where the oldest are to end, each login lists the subject's after its own record was written. Of
those that come at once the last to be written sees all, so no more stay than may; and since every
one ranks them alike, none is ended that is among the newest.

A crash in between leaves a record that nobody has the cookie of, and that has no seat.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from coatcheck.errors import Collision
from coatcheck.record import Record
from coatcheck.store import FORBIDDEN, FULL, GONE, Entered, Entry, Forbidden, Full, Gone
from coatcheck.stores._admission import surplus
from coatcheck.stores._redis.commands import Commands, Indexed, Step, Steps
from coatcheck.stores._redis.index import ending, entries, is_seated, listing
from coatcheck.stores._redis.scripts import MARKED, NO_SEAT
from coatcheck.stores._redis.value import decode, indexed_until, login_of, revision_of

__all__ = ["Admission"]

R = TypeVar("R", Forbidden, Full)

_Answer: TypeAlias = Entered | Forbidden | Full | Gone | Record


class Admission:
    """One login on its way."""

    def __init__(
        self, commands: Commands, replicas: int, record: Record, entry: Entry, now: int
    ) -> None:
        self._commands = commands
        self._replicas = replicas
        self._record = record
        self._subject = record.subject or ""
        self._entry = entry
        self._now = now

    def steps(self, expected: bytes) -> Steps[_Answer]:
        record, now = self._record, self._now
        until = indexed_until(record.seen_at, record.expires_at)
        opened_at = self._entry.opened_at
        index = self._commands.index(self._subject, record.id, until, now, opened_at)
        [score] = yield Step([index], durable=True)
        if score == MARKED:
            return (yield from self._refused(FORBIDDEN))
        log_in = self._commands.log_in(record, expected, until, now)
        [answer] = yield Step([log_in], durable=True)
        if answer != 1:
            return _not_written(record.id, expected, answer)
        verdict, indexed = yield from self._seated(float(score))
        if verdict == MARKED:
            return (yield from self._refused(FORBIDDEN))
        if verdict == NO_SEAT:
            return (yield from self._refused(FULL))
        return (yield from self._with_the_oldest_ended(indexed))

    def _seated(self, score: float) -> Steps[tuple[int, list[Indexed]]]:
        """Once more where a seat that is taken turns out to be vacant."""
        verdict, indexed = yield from self._enter(score, [])
        if verdict == NO_SEAT:
            others = yield from self._others(indexed)
            ids = {self._record.id, *[each.id for each in others]}
            vacant = [each for each in indexed if is_seated(each[1]) and each[0] not in ids]
            if vacant:
                verdict, indexed = yield from self._enter(score, vacant)
        return verdict, indexed

    def _enter(self, score: float, vacant: Sequence[Indexed]) -> Steps[tuple[int, list[Indexed]]]:
        command = self._commands.enter(self._record, self._entry, score, vacant, self._now)
        [[verdict, indexed]] = yield Step([command], durable=True)
        return verdict, entries(indexed)

    def _with_the_oldest_ended(self, indexed: Sequence[Indexed]) -> Steps[Entered | Full]:
        most = self._entry.most
        if most is None or self._entry.refuse or len(indexed) <= most:
            return Entered()
        others = yield from self._others(indexed)
        too_old = surplus(self._record, others, self._entry, self._now)
        if too_old is FULL:
            return (yield from self._refused(FULL))
        ended = []
        for each in too_old:  # one that logged in again meanwhile is the oldest no more
            if (yield from self._ended(each.id, login_of(each))):
                ended.append(each.id)  # noqa: PERF401 - a comprehension cannot yield
        return Entered(ended)

    def _others(self, indexed: Sequence[Indexed]) -> Steps[list[Record]]:
        others = [each for each in indexed if each[0] != self._record.id]
        return listing(self._commands, self._subject, others, self._now)

    def _ended(self, id: str, still: tuple[int, bytes]) -> Steps[bool]:
        return ending(self._commands, self._replicas, id, self._now, still)

    def _refused(self, answer: R) -> Steps[R]:
        """What was not admitted is not there; what an earlier call wrote is not, either."""
        yield from self._ended(self._record.id, revision_of(self._record))
        return answer


def _not_written(id: str, expected: bytes, answer: Any) -> Gone | Record:
    found = decode(id, answer) if isinstance(answer, bytes) else None
    if found is not None and not expected:
        raise Collision(f"RedisStore: session {id} is there already")
    return GONE if found is None else found
