"""After the response: whether a session goes on, for what outlives its request.

A socket, a long stream or a worker knows its session as it was opened or committed. What the store
holds under its id now says what became of it.
"""

from typing import Literal, TypeAlias

from msgspec.structs import replace

from coatcheck.lifecycle.rules import Rules
from coatcheck.lifetime import expiry, touch_interval
from coatcheck.record import Head, Record

__all__ = ["Reason", "end_of", "prolonged"]

Reason: TypeAlias = Literal["ended", "expired", "replaced"]
"""Why a session is over: it was logged out or revoked; its time was up; it is another's now."""


def end_of(rules: Rules, known: Record, found: Record | None, now: int) -> Reason | None:
    """Why the session that was `known` is over, given what is found; None where it goes on.

    A login of the same subject goes on with it, under a new token. Of a carried record the store
    only says whether its id was denied.
    """
    if rules.carrier is not None and found is not None:
        return "ended"
    if found is not None:
        return "replaced" if found.subject != known.subject else None
    if known.expires_at <= now:
        return "expired"
    return None if rules.carrier is not None else "ended"


def prolonged(record: Record, head: Head, now: int) -> Record | None:
    """The record as seen now; None where it was seen a short while ago (a twentieth of its idle
    time)."""
    if now - record.seen_at < touch_interval(head.idle):
        return None
    return replace(record, seen_at=now, expires_at=expiry(now, head.idle, head.deadline))
