"""Every decision about a session, as pure functions of what is stored, what came, and the time.

    resume   what the cookies that came mean, given the records found for them
    settle   what the request did, as one plan: what to end, what to write, which cookie to send
    replay   a save was refused: begin again with the record found instead
    finish   a write went through: what the session is from now on

Nothing here reads a clock or does I/O; `sessions` carries the plans out. The verdict on a cookie:

    no record, or an expired one        anonymous ("unknown", "expired")
    another seed                        anonymous; for a minute after a login or rotation muted
                                        too: a slow request cannot overwrite the new cookie
    the seed, and the current proof     the session
    the seed, and the previous proof    the session, until a minute after its successor was used
    the seed, and any other proof       a copied cookie: two browsers hold it, so the session ends

The seed changes at login and rotation, without grace. The proof alone changes at renewal
(`renew_after`), with a grace that several tabs and lost answers need. The proof is judged once,
when the request is opened; a replay asks only whether the seed is still ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Literal

import msgspec
from msgspec.structs import replace

from coatcheck import record as records
from coatcheck import token as tokens
from coatcheck.cookie import Cookie
from coatcheck.errors import SessionTooLarge, StoreUnavailable
from coatcheck.events import (
    CopiedCookie,
    Created,
    Event,
    LoggedIn,
    LoggedOut,
    Refused,
    Renewed,
    Revoked,
    Rotated,
    Unreadable,
)
from coatcheck.lifetime import LONGEST, Lifetime, expiry, touch_interval
from coatcheck.record import Body, Head, NewerFormat, Record
from coatcheck.sealing import Plain, Seal, Sealer
from coatcheck.session import Client, Origin, Refusal, Session
from coatcheck.store import Carrier, Gone
from coatcheck.token import Token

__all__ = [
    "GRACE",
    "Claim",
    "End",
    "Ending",
    "Plan",
    "Rules",
    "Write",
    "abandon",
    "claims",
    "cookies",
    "denial",
    "ended",
    "finish",
    "replay",
    "resume",
    "revocation",
    "settle",
]

GRACE = 60_000
"""Milliseconds for which a replaced token is still understood, each in its own way."""

_MOST_CLAIMS = 3  # cookies of our name in one request that are worth a read of the store
_LONGEST_AGENT = 512
_PLAIN = Plain()
_OVER, _REPLACED = b"\x01over", b"\x01replaced"


@dataclass(frozen=True, slots=True)
class Rules:
    """What one `Sessions` was configured with."""

    name: bytes
    cookie: Cookie
    lifetime: Lifetime
    max_bytes: int
    renew_after: int | None
    carrier: Carrier | None


class Claim(msgspec.Struct, frozen=True):
    """A cookie that has the right shape; `carried` is the record that it brought itself."""

    token: Token
    carried: Record | None = None


class Ending(msgspec.Struct, frozen=True):
    """A session that must be deleted, and what to tell about it."""

    id: str
    event: Event


class Write(msgspec.Struct, frozen=True):
    """One write to the store, and what the session is when it has gone through."""

    verb: Literal["create", "save", "touch"]
    origin: Origin
    body: Body
    expected: bytes | None
    essential: bool  # whether the request fails with it
    minted: bool
    cookie: str | None
    event: Event | None


class End(msgspec.Struct, frozen=True):
    """A session that the request ended: its id, its hard end, and why."""

    id: str
    deadline: int
    replaced: bool  # by a login, so that late answers under the old cookie must stay mute
    event: Event | None


class Plan(msgspec.Struct, frozen=True):
    """What a commit has to do, in this order."""

    end: End | None
    write: Write | None


class _Verdict(msgspec.Struct, frozen=True):
    origin: Origin | None = None
    stored: Body | None = None
    with_previous: bool = False
    refused: Refusal = "unknown"
    muted: bool = False
    ending: Ending | None = None


def claims(rules: Rules, values: Sequence[str]) -> list[Claim]:
    """The well-shaped ones among the cookie values that came, each once.

    More of them than any browser sends are a flood, not a choice: then none counts.
    """
    found: dict[str, Claim] = {}
    for value in values:
        claim = _claim(rules, value)
        if claim is not None:
            found[value] = claim
    return list(found.values()) if len(found) <= _MOST_CLAIMS else []


def _claim(rules: Rules, value: str) -> Claim | None:
    if rules.carrier is None:
        token = tokens.parse(value)
        return None if token is None else Claim(token)
    opened = rules.carrier.open(value, rules.name)
    return None if opened is None else Claim(*opened)


# Opening.


def resume(
    rules: Rules, session: Session, found: Sequence[tuple[Claim, Record | None]], now: int
) -> tuple[list[Ending], list[Event]]:
    """Make the session what the one good cookie says; returns what to end and what to tell.

    Several good ones (one planted by a neighbouring host, say) are as bad as none. Raises
    `StoreUnavailable` where a newer release wrote the record: that is no reason to drop it.
    """
    judge = _judge if rules.carrier is None else _judge_carried
    try:
        verdicts = [judge(rules, claim, record, now) for claim, record in found]
    except NewerFormat as error:
        raise StoreUnavailable(f"the session was written by a newer release: {error}") from None
    good = [verdict for verdict in verdicts if verdict.origin is not None]
    if len(good) == 1:
        session._start_from(good[0].origin, good[0].stored or Body({}, []))
        session._with_previous = good[0].with_previous
        return [], []
    session._refused = verdicts[0].refused if verdicts else "malformed"
    session._muted = any(verdict.muted for verdict in verdicts)
    endings = [verdict.ending for verdict in verdicts if verdict.ending is not None]
    ids = [claim.token.id for claim, _ in found]
    return endings, [Refused(session_id=ids[0] if ids else None, reason=session._refused)]


def _judge(rules: Rules, claim: Claim, record: Record | None, now: int) -> _Verdict:
    if record is None:
        return _Verdict()
    if record.expires_at <= now:
        return _Verdict(refused="expired")
    try:
        head = records.read_payload(record.payload)
    except records.Unreadable:
        return _Verdict()  # its proof cannot be checked, so it is not ours to drop
    key, digest = tokens.derive(claim.token, rules.name)
    if not compare_digest(digest, head.seed_digest):
        return _Verdict(muted=now < head.seed_at + GRACE)
    proof = tokens.prove(claim.token, rules.name)
    current = compare_digest(proof, head.proof_digest)
    if not current and not _is_good_previous(proof, head, now):
        event = CopiedCookie(session_id=record.id, subject=record.subject)
        return _Verdict(ending=Ending(record.id, event))
    return _opened(Origin(claim.token, record, head, Seal(key), proof), with_previous=not current)


def _judge_carried(rules: Rules, claim: Claim, denial: Record | None, now: int) -> _Verdict:
    """For a carried record the store only says whether its id was denied."""
    record = claim.carried
    if record is None or denial is not None:
        return _Verdict(muted=denial is not None and _was_replaced(denial, now))
    if record.expires_at <= now:
        return _Verdict(refused="expired")
    try:
        head = records.read_payload(record.payload)
    except records.Unreadable:
        return _Verdict()
    return _opened(Origin(claim.token, record, head, _PLAIN, b""), with_previous=False)


def _opened(origin: Origin, *, with_previous: bool) -> _Verdict:
    record = origin.record
    try:
        stored = records.open_body(origin.head.body, origin.sealer, record.id)
    except records.Unreadable:
        event = Unreadable(session_id=record.id, subject=record.subject)
        return _Verdict(ending=Ending(record.id, event))
    return _Verdict(origin, stored, with_previous)


def _is_good_previous(proof: bytes, head: Head, now: int) -> bool:
    if head.previous_proof is None or not compare_digest(proof, head.previous_proof):
        return False
    return head.proof_seen_at == 0 or now < head.proof_seen_at + GRACE


# Committing.


def settle(rules: Rules, session: Session, now: int) -> Plan:
    """What the commit has to do. Raises `UnsupportedValue`, `SessionTooLarge`, `CookieTooLarge`."""
    session._settle_all_in_place()
    return Plan(_end(rules, session), _write(rules, session, now))


def _end(rules: Rules, session: Session) -> End | None:
    """What logout() ended; a carried session also ends where a new seed takes a new id."""
    origin, ended = session._origin, session._ended
    if ended is not None:
        event = LoggedOut(session_id=ended.record.id, subject=ended.record.subject)
        return End(ended.record.id, ended.head.deadline, False, event)
    if origin is not None and rules.carrier is not None and session._is_reseeded():
        return End(origin.record.id, origin.head.deadline, True, None)
    return None


def _write(rules: Rules, session: Session, now: int) -> Write | None:
    origin = session._origin
    if session._muted and session._login is None:
        return None
    if origin is None:
        return _first(rules, session, now) if session._exists() else None
    if session._is_changed():
        return _change(rules, session, origin, now)
    return _upkeep(rules, session, origin, now) if session.accessed else None


def _first(rules: Rules, session: Session, now: int) -> Write:
    """Store a session for the first time."""
    login = session._login
    remember = login is not None and login.remember
    client = _client(rules, session)
    head = Head(
        b"",
        b"",
        previous_proof=None,
        proof_at=now,
        proof_seen_at=0,
        seed_at=now,
        created_at=now,
        deadline=rules.lifetime.deadline(now, remember),
        idle=rules.lifetime.idle_ms(remember),
        remember=remember,
        address=client.address,
        agent=client.agent,
        body=b"",
    )
    kind = Created if login is None else LoggedIn
    subject, login_at = (None, None) if login is None else (login.subject, now)
    record = Record("", b"", subject, login_at, now, 0, b"")
    return _reseeded(rules, session, record, head, kind, now)


def _change(rules: Rules, session: Session, origin: Origin, now: int) -> Write:
    """Store what the app did, and any renewal that is due with it."""
    if session._login is None and not session._rotate:
        due = _upkeep_proof(rules, session, origin, now)
        return due or _save(rules, session, origin, origin.head, now)
    record, head, login = origin.record, origin.head, session._login
    if login is not None:
        client = _client(rules, session)
        record = replace(record, subject=login.subject, login_at=now)
        head = replace(
            head,
            deadline=rules.lifetime.deadline(now, login.remember),
            idle=rules.lifetime.idle_ms(login.remember),
            remember=login.remember,
            address=client.address,
            agent=client.agent,
        )
    kind = Rotated if login is None else LoggedIn
    return _reseeded(rules, session, record, _with_moved_end(rules, head, now), kind, now)


def _upkeep(rules: Rules, session: Session, origin: Origin, now: int) -> Write | None:
    """What a request that only read its session owes: a renewal, a seen-mark or a touch."""
    if rules.carrier is not None:
        return None
    renewal = _upkeep_proof(rules, session, origin, now)
    if renewal is not None:
        return replace(renewal, essential=False)
    record, head = origin.record, origin.head
    if now - record.seen_at < max(1, touch_interval(head.idle)):
        return None
    touched = replace(record, seen_at=now, expires_at=expiry(now, head.idle, head.deadline))
    return Write(
        "touch",
        replace(origin, record=touched),
        session._stored,
        expected=record.revision,
        essential=False,
        minted=False,
        cookie=None,
        event=None,
    )


def _upkeep_proof(rules: Rules, session: Session, origin: Origin, now: int) -> Write | None:
    """A save that renews the proof, or marks its successor as seen; None where neither is due."""
    head = origin.head
    if session._with_previous:
        if head.proof_seen_at == 0 and session._opened_at >= head.proof_at + GRACE:
            return _renewal(rules, session, origin, head, now)
        return None
    if head.proof_digest != origin.proof:
        return None  # another request renewed it since this one was opened
    if head.previous_proof is not None and head.proof_seen_at == 0:
        return _save(rules, session, origin, replace(head, proof_seen_at=now), now)
    if _is_renewal_due(rules, head, now):
        previous = replace(head, previous_proof=head.proof_digest)
        return _renewal(rules, session, origin, previous, now)
    return None


def _is_renewal_due(rules: Rules, head: Head, now: int) -> bool:
    if rules.renew_after is None or now < head.proof_at + rules.renew_after:
        return False
    return head.previous_proof is None or now >= head.proof_seen_at + GRACE


# The one write, built.


def _reseeded(
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
        seed_at=now,
    )
    draft = Origin(token, replace(record, id=token.id), head, sealer, proof_digest)
    in_place = origin is not None and rules.carrier is None
    expected = origin.record.revision if origin is not None and in_place else None
    return _built(rules, session, draft, now, expected=expected, kind=kind, minted=True)


def _renewal(rules: Rules, session: Session, origin: Origin, head: Head, now: int) -> Write:
    """A save under a new proof; `head` says which proof stays good beside it."""
    token = origin.token.renewed()
    proof = tokens.prove(token, rules.name)
    head = replace(
        _with_moved_end(rules, head, now), proof_digest=proof, proof_at=now, proof_seen_at=0
    )
    draft = Origin(token, origin.record, head, origin.sealer, proof)
    expected = origin.record.revision
    return _built(rules, session, draft, now, expected=expected, kind=Renewed, minted=True)


def _save(rules: Rules, session: Session, origin: Origin, head: Head, now: int) -> Write:
    """A save under the token that is there."""
    draft = replace(origin, head=head)
    expected = None if rules.carrier is not None else origin.record.revision
    return _built(rules, session, draft, now, expected=expected, kind=None, minted=False)


def _built(
    rules: Rules,
    session: Session,
    draft: Origin,
    now: int,
    *,
    expected: bytes | None,
    kind: type[Event] | None,
    minted: bool,
) -> Write:
    record, head, body = draft.record, draft.head, session._body()
    data = records.encode_body(body)
    if len(data) > rules.max_bytes:
        raise _too_large(rules, body, len(data))
    seen_at = max(now, record.seen_at)
    head = replace(head, body=draft.sealer.seal(data, record.id.encode()))
    record = Record(
        record.id,
        records.next_revision(record.revision or None),
        record.subject,
        record.login_at,
        seen_at,
        expiry(seen_at, head.idle, head.deadline),
        records.write_payload(head),
    )
    return Write(
        "create" if expected is None else "save",
        Origin(draft.token, record, head, draft.sealer, draft.proof),
        body,
        expected,
        essential=True,
        minted=minted,
        cookie=_cookie(rules, draft.token, record, head, minted, now),
        event=None if kind is None else kind(session_id=record.id, subject=record.subject),
    )


def _secrets(rules: Rules, token: Token) -> tuple[Sealer, bytes, bytes]:
    """What seals the values, and the digests of seed and proof. A carried record needs none."""
    if rules.carrier is not None:
        return _PLAIN, b"", b""
    key, seed_digest = tokens.derive(token, rules.name)
    return Seal(key), seed_digest, tokens.prove(token, rules.name)


def _cookie(
    rules: Rules, token: Token, record: Record, head: Head, minted: bool, now: int
) -> str | None:
    """The Set-Cookie value: with a new token, or at each write where the cookie is the record.

    Its `Max-Age` is the session's hard end, rounded up so that no record outlives its cookie.
    """
    if rules.carrier is not None:
        value = rules.carrier.seal(token, record, rules.name)
    elif minted:
        value = token.text()
    else:
        return None
    persistent = rules.cookie.persistent or head.remember
    return rules.cookie.set(value, -((now - head.deadline) // 1000) if persistent else None)


def _with_moved_end(rules: Rules, head: Head, now: int) -> Head:
    """A new token brings a new cookie, which moves an end that only the cookie's age sets."""
    if not rules.lifetime.is_open_ended(head.remember):
        return head
    return replace(head, deadline=rules.lifetime.deadline(now, head.remember))


def _client(rules: Rules, session: Session) -> Client:
    if rules.carrier is not None:
        return Client()  # no list shows it, and the cookie has better things to carry
    source = session._client
    client = source() if callable(source) else source or Client()
    agent = client.agent
    return Client(client.address, agent if agent is None else agent[:_LONGEST_AGENT])


def _too_large(rules: Rules, body: Body, size: int) -> SessionTooLarge:
    largest = max(body.values, key=lambda key: len(body.values[key]), default=None)
    where = "its flash messages" if largest is None else f"session[{largest!r}]"
    return SessionTooLarge(
        f"session: expected at most {rules.max_bytes} bytes, got {size}, most of them in {where}; "
        "keep large things elsewhere and their key here, or raise max_bytes"
    )


# After the store's answer.


def replay(session: Session, answer: Record | Gone) -> None:
    """Begin again after a refused write, with the record found instead of the expected one.

    Raises `StoreUnavailable` where a newer release wrote it.
    """
    origin = session._origin
    if origin is None:  # a new session's id was taken
        session._next = session._token().moved()
        return
    found = _still_ours(origin, answer) if isinstance(answer, Record) else None
    if found is None:
        session._lose()
    else:
        session._rebase(*found)


def _still_ours(origin: Origin, record: Record) -> tuple[Origin, Body] | None:
    try:
        head = records.read_payload(record.payload)
        if not compare_digest(head.seed_digest, origin.head.seed_digest):
            return None
        stored = records.open_body(head.body, origin.sealer, record.id)
    except records.Unreadable:
        return None
    except NewerFormat as error:
        raise StoreUnavailable(f"the session was written by a newer release: {error}") from None
    return Origin(origin.token, record, head, origin.sealer, origin.proof), stored


def finish(session: Session, write: Write) -> None:
    """The write went through."""
    session._committed(write.origin, write.body)
    session._muted = False
    if write.minted:
        session._with_previous = False
    if write.cookie is not None:
        session._cookie, session._presented = write.cookie, True


def denial(end: End, now: int) -> Record:
    """What a cookie store's `revocations` keep of an ended session, until its hard end.

    It has a subject of its own, so that a full store does not take it for an anonymous session.
    """
    reason = _REPLACED if end.replaced else _OVER
    subject = f"coatcheck:ended:{end.id}"
    return Record(end.id, records.next_revision(None), subject, None, now, end.deadline, reason)


def revocation(id: str, now: int) -> End:
    """The end of a carried session that is not at hand: it lasts as long as any could."""
    return End(id, now + LONGEST, False, Revoked(session_id=id))


def _was_replaced(denial: Record, now: int) -> bool:
    return denial.payload == _REPLACED and now < denial.seen_at + GRACE


def ended(session: Session) -> None:
    """The store knows of the logout."""
    session._ended = None


def abandon(session: Session) -> None:
    """The response is an error: drop the request's edits and its login, keep its logout()."""
    session._drop()


def cookies(rules: Rules, session: Session) -> list[str]:
    """The Set-Cookie values that this response owes; only logout() deletes a cookie."""
    if session._cookie is not None:
        return [session._cookie]
    if session._said_goodbye and session._presented:
        return [rules.cookie.delete()]
    return []
