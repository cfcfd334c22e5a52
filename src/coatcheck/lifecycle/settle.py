"""What the request did, as one plan: what to end, what to write, which cookie to send."""

import os

from msgspec.structs import replace

from coatcheck import record as records
from coatcheck.client import Client, shown
from coatcheck.errors import SessionTooLarge
from coatcheck.events import Created, Event, LoggedIn, LoggedOut, Renewed, Rotated
from coatcheck.lifecycle.liveness import prolonged
from coatcheck.lifecycle.rules import GRACE, End, Plan, Rules, Write, expired
from coatcheck.lifetime import LONGEST, Lifetime, expiry, touch_interval
from coatcheck.record import Body, Head, Record
from coatcheck.sealing import NONCE, Plain, Seal, Sealer
from coatcheck.session import Origin, Session, Terms
from coatcheck.store import Entry
from coatcheck.token import Token

__all__ = ["is_idle", "settle"]

_PLAIN = Plain()
_SILENCE = bytes(records.NOISE)


def settle(rules: Rules, session: Session, now: int) -> Plan | None:
    """What the commit has to do, or None for nothing.

    Raises `UnsupportedValue`, `SessionTooLarge`, `CookieTooLarge`.
    """
    session._edits.settle()
    origin = session._origin
    told: tuple[Event, ...] = ()
    if rules.carrier is not None and origin is not None and session._is_changed():
        told = expired(origin.record, now)
        if told:
            session._lose()  # a store would say so itself
    end, write = _end(session), _write(rules, session, now)
    return None if end is None and write is None and not told else Plan(end, write, told)


def is_idle(rules: Rules, session: Session, now: int) -> bool:
    """Whether `settle` would find nothing to do, and the response owes no cookie.

    It says so for the many requests that only read their session, at a fraction of the price.
    """
    if session._cookie is not None or session._said_goodbye:
        return False
    session._edits.settle()
    origin = session._origin
    if origin is None:
        return not session._exists()
    return not (session._is_changed() or _is_upkeep_due(rules, origin, now))


def _end(session: Session) -> End | None:
    """What logout() ended."""
    ended = session._ended
    if ended is None:
        return None
    event = LoggedOut(session_id=ended.record.id, subject=ended.record.subject)
    return End(ended.record.id, ended.head.deadline, session._login is not None, event)


def _write(rules: Rules, session: Session, now: int) -> Write | None:
    origin = session._origin
    if session._muted and session._login is None:
        return None
    if origin is None:
        return _first(rules, session, now) if session._exists() else None
    if session._is_reseeded():
        return _reseed(rules, session, origin, now)
    if rules.carrier is not None and _falls(session, origin.head):
        session._next = session._next or origin.token.moved()  # its forms stay good
        return _reseed(rules, session, origin, now)
    if session._limited:
        return _relimit(rules, session, origin, now)
    if session._is_changed():
        due = _proof_upkeep(rules, session, origin, now)
        return due or _save(rules, session, origin, origin.head, now)
    if session.accessed and _is_upkeep_due(rules, origin, now):
        return _upkeep(rules, session, origin, now)
    return None


def _first(rules: Rules, session: Session, now: int) -> Write:
    """Store a session for the first time."""
    login, lifetime = session._login, _lifetime(rules, session)
    remember = login is not None and login.remember
    client = _client(rules, session)
    head = Head(
        b"",
        b"",
        previous_proof=None,
        proof_at=now,
        proof_seen_at=0,
        successors=0,
        seed_at=now,
        created_at=now,
        deadline=lifetime.deadline(now, remember),
        idle=lifetime.idle_ms(remember),
        remember=remember,
        address=client.address,
        agent=client.agent,
        body=b"",
        assurance=None if login is None else login.assurance(now),
        open_ended=_own_end(session, remember),
    )
    kind = Created if login is None else LoggedIn
    subject, login_at = (None, None) if login is None else (login.subject, now)
    record = Record("", b"", subject, login_at, now, 0, b"")
    return _reseeded(rules, session, record, head, kind, now)


def _reseed(rules: Rules, session: Session, origin: Origin, now: int) -> Write:
    """A login or a rotation of a stored session."""
    record, head, login = origin.record, origin.head, session._login
    lifetime = _lifetime(rules, session)
    if login is not None:
        client = _client(rules, session)
        record = replace(record, subject=login.subject, login_at=now)
        head = replace(
            head,
            remember=login.remember,
            address=client.address,
            agent=client.agent,
            assurance=login.assurance(now),
            open_ended=_own_end(session, login.remember),
        )
    if login is not None or session._limited:
        head = _with_limits(lifetime, head, now)
    kind = Rotated if login is None else LoggedIn
    return _reseeded(rules, session, record, _with_moved_end(lifetime, head, now), kind, now)


def _relimit(rules: Rules, session: Session, origin: Origin, now: int) -> Write:
    """A stored session gets other limits, and the browser a cookie that fits them.

    A cookie that reaches as far as the idle time fits, and its hard end stays. Otherwise a renewal
    sends another. Where that must wait, the end stays where it was, unless that takes half of the
    time, or the cookie is not to outlive the window any more: then it takes a new seed.
    """
    old, head = origin.head, _with_limits(_lifetime(rules, session), origin.head, now)
    head = replace(head, open_ended=None)
    end = expiry(now, head.idle, head.deadline)
    is_far = end > old.deadline + min(GRACE, touch_interval(head.idle))
    kept = replace(head, deadline=min(head.deadline, old.deadline))
    is_same = _is_persistent(rules, session._former, old) == _is_persistent(
        rules, session._terms, old
    )
    if rules.carrier is not None:
        return _save(rules, session, origin, head if is_far else kept, now)
    if is_far or not is_same or kept.deadline < old.deadline:
        if _may_renew(old, now):
            return _renewal(rules, session, origin, _with_previous(head), now)
        if 2 * (end - old.deadline) > end - now or not (is_same or _is_crossed(origin)):
            return _reseeded(rules, session, origin.record, head, Rotated, now)
    limited = replace(origin, head=kept)
    return _proof_upkeep(rules, session, limited, now) or _save(rules, session, limited, kept, now)


def _is_crossed(origin: Origin) -> bool:
    """Whether another request renewed the proof that this one was opened with."""
    return origin.head.proof_digest != origin.proof


def _may_renew(head: Head, now: int) -> bool:
    """Whether nobody can still show a proof that a renewal would make a copied one."""
    return head.previous_proof is None or 0 < head.proof_seen_at <= now - GRACE


def _is_upkeep_due(rules: Rules, origin: Origin, now: int) -> bool:
    """Whether a request that only read its session may owe a renewal, a seen-mark or a touch."""
    if rules.carrier is not None:
        return False
    head = origin.head
    if rules.renew_after is not None or head.previous_proof is not None:
        return True
    return now - origin.record.seen_at >= touch_interval(head.idle)


def _upkeep(rules: Rules, session: Session, origin: Origin, now: int) -> Write | None:
    """What the request goes on without, if the store does not answer."""
    renewal = _proof_upkeep(rules, session, origin, now)
    if renewal is not None:
        return replace(renewal, essential=False)
    touched = prolonged(origin.record, origin.head, now)
    if touched is None:
        return None
    moved = replace(origin, record=touched)
    return Write("touch", moved, session._stored, touched.revision, False, False, None, None)


def _proof_upkeep(rules: Rules, session: Session, origin: Origin, now: int) -> Write | None:
    """A save that renews the proof, or marks its successor as seen; None where neither is due."""
    head = origin.head
    if head.previous_proof is None and rules.renew_after is None:
        return None
    if session._cookie is not None:
        return None  # this request minted the token, so no browser has used it yet
    if head.proof_digest == session._unseen and head.proof_seen_at == 0:
        return None if session._failed else _renewal(rules, session, origin, head, now)
    if head.proof_digest != origin.proof:
        return None  # another request renewed it
    if head.previous_proof is not None and head.proof_seen_at == 0:
        seen = replace(head, proof_seen_at=_not_before(origin, now))
        return _save(rules, session, origin, seen, now)
    if _is_renewal_due(rules, head, now) and not session._failed:
        return _renewal(rules, session, origin, _with_previous(head), now)
    return None


def _not_before(origin: Origin, now: int) -> int:
    """When a proof is made or seen: never before the record, should the clock have gone back.

    Once it is set right again, the grace would be over before it began.
    """
    return max(now, origin.record.seen_at)


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


def _renewal(rules: Rules, session: Session, origin: Origin, head: Head, now: int) -> Write:
    """A save under a new proof; `head` says which proof stays good beside it."""
    token = origin.token.renewed()
    proof = rules.domain.prove(token)
    head = replace(
        _with_moved_end(_lifetime(rules, session), head, now),
        proof_digest=proof,
        proof_at=_not_before(origin, now),
        proof_seen_at=0,
        successors=head.successors + 1,
    )
    draft = Origin(token, origin.record, head, origin.sealer, proof)
    expected = origin.record.revision
    return _built(rules, session, draft, now, expected=expected, kind=Renewed, minted=True)


def _save(rules: Rules, session: Session, origin: Origin, head: Head, now: int) -> Write:
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
        head = _with_level(head, session._lowered)
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
    persistent = _is_persistent(rules, terms, head)
    return rules.cookie.set(value, -((now - head.deadline) // 1000) if persistent else None)


def _is_persistent(rules: Rules, terms: Terms | None, head: Head) -> bool:
    """Whether the cookie outlives the browser's window."""
    own = rules.cookie.persistent if terms is None else terms.persistent
    return own or head.remember


def _with_limits(lifetime: Lifetime, head: Head, now: int) -> Head:
    """The limits count from now on."""
    deadline = lifetime.deadline(now, head.remember)
    return replace(head, deadline=deadline, idle=lifetime.idle_ms(head.remember))


def _with_previous(head: Head) -> Head:
    """The proof that is to be replaced stays good for a while."""
    return replace(head, previous_proof=head.proof_digest, successors=0)


def _with_moved_end(lifetime: Lifetime, head: Head, now: int) -> Head:
    """A new token brings a new cookie, which moves an end that only the cookie's age sets."""
    own = head.open_ended
    if not (lifetime.is_open_ended(head.remember) if own is None else own):
        return head
    return replace(head, deadline=now + LONGEST)


def _own_end(session: Session, remember: bool) -> bool | None:
    """What a login with a lifetime of its own says of the hard end."""
    login = session._login
    if login is None or login.lifetime is None:
        return None
    return login.lifetime.is_open_ended(remember)


def _with_level(head: Head, most: int) -> Head:
    """The level may fall, here where a replay can tell what it is by now; it never rises."""
    assurance = head.assurance
    if assurance is None or assurance.level <= most:
        return head
    return replace(head, assurance=replace(assurance, level=most))


def _falls(session: Session, head: Head) -> bool:
    """Whether the level is to be lower than it is.

    A carried session then takes a new id, or an older state of its cookie, or a slower answer,
    would bring the level back.
    """
    return session._lowered is not None and _with_level(head, session._lowered) is not head


def _lifetime(rules: Rules, session: Session) -> Lifetime:
    if session._login is not None and session._login.lifetime is not None:
        return session._login.lifetime
    return rules.lifetime if session._terms is None else session._terms.lifetime


def _client(rules: Rules, session: Session) -> Client:
    if rules.carrier is not None:
        return Client()  # no list shows it, and the cookie has better things to carry
    return shown(session._client)


def _too_large(rules: Rules, body: Body, size: int) -> SessionTooLarge:
    largest = max(body.values, key=lambda key: len(body.values[key]), default=None)
    where = "its flash messages" if largest is None else f"session[{largest!r}]"
    return SessionTooLarge(
        f"session: expected at most {rules.max_bytes} bytes, got {size}, most of them in {where}; "
        "keep large things elsewhere and their key here, or raise max_bytes"
    )
