"""Not-before marks: when all of a subject's sessions ended, for cookies that are sessions.

A store that keeps records has its own marks. For those that their cookies carry, a mark is a record
in the store where ended ids are kept, under an id that follows from the subject.
"""

import os
from hashlib import blake2b

import msgspec

from coatcheck.lifetime import LONGEST
from coatcheck.record import Record, next_revision
from coatcheck.token import Domain

__all__ = ["before", "following", "forbids", "mark", "mark_id"]

_SKEW = 100
"""Milliseconds by which the clocks of a site's machines may disagree."""

_PREFIX = b"\x01mark"


class _Content(msgspec.Struct, frozen=True, array_like=True):
    before: int
    keep: str | None
    before_for_all: int = 0  # of an earlier mark, which did not keep that one


def _following(earlier: _Content, content: _Content) -> _Content:
    """What both forbid; of two that are alike, the one set last says what is kept."""
    if earlier.before > content.before:
        earlier, content = content, earlier
    ends_all = 0 if content.keep == earlier.keep else earlier.before
    return _Content(
        content.before,
        content.keep,
        max(content.before_for_all, earlier.before_for_all, ends_all),
    )


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


def mark_id(domain: Domain, subject: str) -> str:
    """The id of the subject's mark; those of two sites on one store differ."""
    text = bytes([len(domain.name)]) + domain.name + subject.encode()
    return blake2b(text, digest_size=16, person=b"coatcheck mark").hexdigest()


def before(shared: bool, now: int) -> int:
    """A mark set now refuses whose request was opened earlier than this, by whatever clock."""
    return now + (_SKEW if shared else 1)


def mark(domain: Domain, subject: str, keep: str | None, before: int, now: int) -> Record:
    """What says that the subject's sessions have ended, but for the one of that id.

    It has a subject of its own, so that it is as durable as a deletion, and is kept as long as any
    session could live.
    """
    named = mark_id(domain, subject)
    payload = _PREFIX + _encode(_Content(before, keep))
    revision = next_revision(b"", os.urandom(8))
    until = before + LONGEST
    return Record(named, revision, f"coatcheck:mark:{named}", None, now, until, payload)


def following(found: Record, mark: Record) -> Record:
    """The mark that forbids what both forbid."""
    content = _following(_content(found), _content(mark))
    revision = next_revision(found.revision, mark.revision[4:])
    until = max(found.expires_at, mark.expires_at)
    return Record(
        mark.id, revision, mark.subject, None, mark.seen_at, until, _PREFIX + _encode(content)
    )


def forbids(found: Record | None, id: str, since: int) -> bool:
    """Whether the mark forbids the session of that id, whose login began then."""
    if found is None:
        return False
    content = _content(found)
    return since < (content.before_for_all if id == content.keep else content.before)


def _content(found: Record) -> _Content:
    return _decode(found.payload.removeprefix(_PREFIX))
