"""The one write of a commit, built: the record, its revision, and the cookie that goes with it."""

import os

from msgspec.structs import replace

from coatcheck import record as records
from coatcheck.errors import SessionTooLarge
from coatcheck.events import Event, Renewed
from coatcheck.lifecycle.heads import (
    is_persistent,
    lifetime_of,
    not_before,
    with_level,
    with_moved_end,
)
from coatcheck.lifecycle.rules import End, Rules, Write
from coatcheck.lifetime import expiry
from coatcheck.record import Body, Head, Record
from coatcheck.sealing import NONCE, Plain, Seal, Sealer
from coatcheck.session import Session
from coatcheck.state import Origin, Terms
from coatcheck.store import Entry
from coatcheck.token import Token

__all__ = ["renewal", "reseeded", "saved"]

_PLAIN = Plain()
_SILENCE = bytes(records.NOISE)


def reseeded(
    rules: Rules, session: Session, record: Record, head: Head, kind: type[Event], now: int
) -> Write:
    """A write under a new seed and proof: a new session, a login or a rotation."""
    token, origin = session._token(), session._origin
    sealer, seed_digest, proof_digest = _secrets(rules, token)
    head = replace(
        head,
        seed_digest=seed_digest,
        proof_digest=proof_digest,
        previous_proof=None,
        proof_at=now,
        proof_seen_at=0,
        successors=0,
        seed_at=now,
    )
    draft = Origin(token, replace(record, id=token.id), head, sealer, proof_digest)
    in_place = origin is not None and rules.carrier is None
    expected = origin.record.revision if origin is not None and in_place else b""
    write = _built(rules, session, draft, now, expected=expected, kind=kind, minted=True)
    if origin is None or rules.carrier is None:
        return write
    # A carried session takes a new id, and ends under the old one.
    return replace(write, end=End(origin.record.id, origin.head.deadline, True, None))


def renewal(rules: Rules, session: Session, origin: Origin, head: Head, now: int) -> Write:
    """A save under a new proof; `head` says which proof stays good beside it."""
    token = origin.token.renewed()
    proof = rules.domain.prove(token)
    head = replace(
        with_moved_end(lifetime_of(rules, session), head, now),
        proof_digest=proof,
        proof_at=not_before(origin, now),
        proof_seen_at=0,
        successors=head.successors + 1,
    )
    draft = Origin(token, origin.record, head, origin.sealer, proof)
    expected = origin.record.revision
    return _built(rules, session, draft, now, expected=expected, kind=Renewed, minted=True)


def saved(rules: Rules, session: Session, origin: Origin, head: Head, now: int) -> Write:
    """A save under the token that is there."""
    draft = Origin(origin.token, origin.record, head, origin.sealer, origin.proof)
    expected = b"" if rules.carrier is not None else origin.record.revision
    return _built(rules, session, draft, now, expected=expected, kind=None, minted=False)


def _built(
    rules: Rules,
    session: Session,
    draft: Origin,
    now: int,
    *,
    expected: bytes,
    kind: type[Event] | None,
    minted: bool,
) -> Write:
    record, head, body = draft.record, draft.head, session._body()
    data = records.encode_body(body)
    # What grew under an older, larger limit is only refused when the app changes it.
    if len(data) > rules.max_bytes and session._is_changed():
        size = len(data)
        del data  # error pages show the locals of every frame
        raise _too_large(rules, body, size)
    # A carried record is sealed by its carrier, and its revision is never looked at.
    noise = os.urandom(records.NOISE) if rules.carrier is None else _SILENCE
    seen_at = max(now, record.seen_at)
    if session._lowered is not None:
        head = with_level(head, session._lowered)
    head = replace(head, body=draft.sealer.seal(data, record.id.encode(), noise[:NONCE]))
    record = Record(
        record.id,
        records.next_revision(record.revision, noise[NONCE:]),
        record.subject,
        record.login_at,
        seen_at,
        expiry(seen_at, head.idle, head.deadline),
        records.write_payload(head),
    )
    return Write(
        "save" if expected else "create",
        Origin(draft.token, record, head, draft.sealer, draft.proof),
        body,
        expected,
        True,
        minted,
        _cookie(rules, session._terms, draft.token, record, head, minted, now),
        None if kind is None else kind(session_id=record.id, subject=record.subject),
        None if session._login is None else Entry(session._opened_at, rules.limit, rules.refuses),
        opened_at=session._opened_at,
    )


def _secrets(rules: Rules, token: Token) -> tuple[Sealer, bytes, bytes]:
    """What seals the values, and the digests of seed and proof. A carried record needs none."""
    if rules.carrier is not None:
        return _PLAIN, b"", b""
    key, seed_digest = rules.domain.derive(token)
    return Seal(key), seed_digest, rules.domain.prove(token)


def _cookie(
    rules: Rules,
    terms: Terms | None,
    token: Token,
    record: Record,
    head: Head,
    minted: bool,
    now: int,
) -> str | None:
    """The Set-Cookie value: with a new token, or at each write where the cookie is the record.

    Its `Max-Age` is the session's hard end, rounded up so that no record outlives its cookie.
    """
    if rules.carrier is not None:
        value = rules.carrier.seal(token, record, rules.domain.name)
    elif minted:
        value = token.text()
    else:
        return None
    persistent = is_persistent(rules, terms, head)
    return rules.cookie.set(value, -((now - head.deadline) // 1000) if persistent else None)


def _too_large(rules: Rules, body: Body, size: int) -> SessionTooLarge:
    largest = max(body.values, key=lambda key: len(body.values[key]), default=None)
    where = "its flash messages" if largest is None else f"session[{largest!r}]"
    return SessionTooLarge(
        f"session: expected at most {rules.max_bytes} bytes, got {size}, most of them in {where}; "
        "keep large things elsewhere and their key here, or raise max_bytes"
    )
