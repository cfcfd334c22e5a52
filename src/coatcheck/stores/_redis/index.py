"""A subject's index as its readers see it, and what they find and mend by it."""

from collections.abc import Iterator, Sequence
from typing import Any

from coatcheck.record import NewerFormat, Record
from coatcheck.stores._redis.commands import Commands, Indexed, Seen, Step, Steps
from coatcheck.stores._redis.value import Part, decode

__all__ = ["ending", "entries", "is_seated", "listing"]

PIECE = 500
"""How many records of a list are read at once."""


def entries(answer: Sequence[Any]) -> list[Indexed]:
    """Ids and scores: by RESP 3 in pairs, by RESP 2 in turn."""
    pairs = (
        answer
        if answer and isinstance(answer[0], list)
        else zip(answer[::2], answer[1::2], strict=True)
    )
    return [(member.hex(), float(score)) for member, score in pairs if len(member) == 16]


def is_seated(score: float) -> bool:
    return score % 0.5 > 0


def _is_pending(score: float) -> bool:
    return score % 1 >= 0.5


def listing(
    commands: Commands, subject: str, indexed: Sequence[Indexed], now: int
) -> Steps[list[Record]]:
    """The subject's live records, of those that the index had; in pieces, each within the time of
    a call."""
    found: list[Record] = []
    for piece in _pieces(indexed):
        values = yield Step([commands.read(each) for each, _ in piece])
        records, seen = _met(subject, piece, values, now)
        found += records
        if seen:  # else the next reader can do it
            yield Step([commands.settle(subject, seen)], needed=False)
    return found


def _pieces(indexed: Sequence[Indexed]) -> Iterator[Sequence[Indexed]]:
    """So that a long list holds nobody up."""
    return (indexed[start : start + PIECE] for start in range(0, len(indexed), PIECE))


def _met(
    subject: str,
    indexed: Sequence[Indexed],
    values: Sequence[bytes | None],
    now: int,
) -> tuple[list[Record], list[Seen]]:
    """The subject's records; and what the index is to be told: who was met, who is not theirs.

    What is there but expired stays in the index, since another machine's clock may be behind.
    """
    records: list[Record] = []
    seen: list[Seen] = []
    for (each, score), value in zip(indexed, values, strict=True):
        record = None if value is None else decode(each, value)
        theirs = record is not None and record.subject == subject
        if theirs is _is_pending(score):
            seen.append((each, score, theirs))
        if record is not None and theirs and record.expires_at > now:
            records.append(record)
    return records, seen


def ending(
    commands: Commands, replicas: int, id: str, now: int, still: Part | None = None
) -> Steps[bool]:
    """Remove a record, then its id from the index; whether a live one was there. Where a part of
    the value is given, a record that has another there stays."""
    [header] = yield Step([commands.remove(id, replicas, still)], durable=True)
    try:
        found = decode(id, header) if isinstance(header, bytes) else None
    except NewerFormat:
        return True
    if found is not None and found.subject is not None:  # it has ended, whatever the index says
        yield Step([commands.unindex(found.subject, id)], needed=False)
    return found is not None and found.expires_at > now
