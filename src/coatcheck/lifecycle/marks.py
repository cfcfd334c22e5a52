"""Not-before marks: when all of a subject's sessions ended, for cookies that are sessions.

A store that keeps records has its own marks. For those that their cookies carry, a mark is a record
in the store where ended ids are kept, under an id that follows from the subject. A store's mark
judges logins, and its sessions are deleted; this one also judges the sessions, so it knows more:

    before           what was opened earlier is not let in
    keep             but that id is, unless it had ended earlier: at `before_for_all`
    passed           the ids that were let in since, as far as their times do not say so

A session is as old as its seed. One that seems to be a little younger than the mark may have been
made before it, by a clock that was ahead; so a session of the mark's first minute has to be among
those that passed. That costs each login and rotation within that minute a write.
"""

import os
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from coatcheck.lifecycle.rules import GRACE, Write
from coatcheck.lifetime import LONGEST
from coatcheck.record import Record, Unreadable, check_version, next_revision, read_payload
from coatcheck.store import AHEAD
from coatcheck.token import Domain

__all__ = [
    "before",
    "forbids",
    "is_ahead",
    "lets_in",
    "mark",
    "mark_id",
    "noted",
    "seed_at",
]

_SKEW = 100
"""Milliseconds by which the clocks of a site's machines may disagree."""

_MOST_PASSED = 100  # with more new ids within a minute the oldest of these sessions ends

_PREFIX = b"\x01mark"


class _Content(msgspec.Struct, frozen=True, array_like=True):
    before: int
    keep: str | None
    before_for_all: int = 0
    passed: tuple[str, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


def mark_id(domain: Domain, subject: str) -> str:
    """The id of the subject's mark; those of two sites on one store differ."""
    text = bytes([len(domain.name)]) + domain.name + subject.encode()
    return blake2b(text, digest_size=16, person=b"coatcheck mark").hexdigest()


def before(shared: bool, now: int) -> int:
    """A mark set now refuses whose request was opened earlier than this, by whatever clock."""
    return now + (_SKEW if shared else 1)


def mark(
    domain: Domain, subject: str, keep: str | None, before: int, found: Record | None, now: int
) -> Record:
    """What says that the subject's sessions have ended, but for the one of that id.

    It forbids what the mark found in its place forbade. It has a subject of its own, so that it is
    as durable as a deletion, and is kept as long as any session could live, and a minute more, as a
    denial is.
    """
    named = mark_id(domain, subject)
    content, earlier = _Content(before, keep), _content(found)
    if earlier is not None:
        content = _following(_righted(earlier, now), content)
    until = before + LONGEST + GRACE
    made = Record(named, b"", f"coatcheck:mark:{named}", None, now, until, b"")
    return _written(made, made if found is None else found, content)


def forbids(found: Record | None, id: str, seed_at: int, now: int) -> bool:
    """Whether the mark ended the session of that id, whose seed is of that time.

    One of a time that has not come was made by a clock that was wrong, who knows when.
    """
    content = _content(found)
    if content is None or id in content.passed:
        return False
    ended = content.before_for_all if id == content.keep else content.before
    return ended > 0 and (seed_at < ended + AHEAD or is_ahead(seed_at, now))


def seed_at(record: Record) -> int:
    """When a carried session's seed was made; raises `NewerFormat`."""
    try:
        return read_payload(record.payload).seed_at
    except Unreadable:
        return 0  # it opens nothing anyway


def is_ahead(time: int, now: int) -> bool:
    """Whether a clock was wrong that said so."""
    return time > now + AHEAD


def lets_in(found: Record | None, write: Write, now: int) -> bool:
    """Whether the login, or the session that takes a new id, is not one of those that ended.

    A mark of a time that has not come was set by a clock that was wrong, and refuses no login.
    """
    content = _content(found)
    if content is None:
        return True
    ids = (write.origin.record.id, write.end.id if write.end is not None else "")
    if any(each in content.passed for each in ids):
        return True
    if write.entry is not None and is_ahead(content.before, now):
        return True
    return write.opened_at >= (content.before_for_all if content.keep in ids else content.before)


def noted(found: Record | None, write: Write, now: int) -> Record | None:
    """The mark that knows whom it let in; None where the time of the session's seed says enough."""
    content, own_id = _content(found), write.origin.record.id
    if found is None or content is None or own_id in content.passed:
        return None
    if write.origin.head.seed_at >= content.before + AHEAD:
        return None
    # The former id stays, should the store not answer when it is to end.
    passed = (*content.passed, own_id)[-_MOST_PASSED:]
    return _written(found, found, replace(content, passed=passed))


def _following(earlier: _Content, content: _Content) -> _Content:
    """What both forbid; the one set last says what is kept, if that had not ended earlier."""
    keep = content.keep
    return _Content(
        max(earlier.before, content.before),
        keep,
        max(earlier.before_for_all, 0 if keep == earlier.keep else earlier.before),
        tuple(each for each in earlier.passed if each == keep),
    )


def _righted(content: _Content, now: int) -> _Content:
    """One that was set by a clock far ahead, as though it had been set by now: what there was when
    it was set is older than now, and who has just logged in was opened within the last minute."""
    if not is_ahead(content.before, now):
        return content
    latest = now - AHEAD
    return replace(content, before=latest, before_for_all=min(content.before_for_all, latest))


def _written(mark: Record, found: Record, content: _Content) -> Record:
    """The mark in the place of what was found."""
    return replace(
        mark,
        revision=next_revision(found.revision, os.urandom(8)),
        expires_at=max(found.expires_at, mark.expires_at),
        payload=_PREFIX + _encode(content),
    )


def _content(found: Record | None) -> _Content | None:
    """None for what is no mark, such as the denial of an id that somebody made up.

    Raises `NewerFormat` for one that a newer release wrote.
    """
    payload = b"" if found is None else found.payload
    try:
        check_version(payload)
        return _decode(payload[len(_PREFIX) :]) if payload.startswith(_PREFIX) else None
    except (Unreadable, msgspec.DecodeError, UnicodeDecodeError):
        return None
