"""What the request did, as one plan: what to end, what to write, which cookie to send.

Which write it is to be is decided here; `writes` builds it.
"""

from msgspec.structs import replace

from coatcheck.client import Client, shown
from coatcheck.events import Created, Event, LoggedIn, LoggedOut, Rotated
from coatcheck.lifecycle.heads import (
    falls,
    is_persistent,
    lifetime_of,
    not_before,
    own_end,
    with_limits,
    with_moved_end,
    with_previous,
)
from coatcheck.lifecycle.liveness import prolonged
from coatcheck.lifecycle.rules import GRACE, End, Plan, Rules, Write, expired
from coatcheck.lifecycle.writes import renewal, reseeded, saved
from coatcheck.lifetime import expiry, touch_interval
from coatcheck.record import Head, Record
from coatcheck.session import Session
from coatcheck.state import Origin

__all__ = ["is_idle", "settle"]


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
    if rules.carrier is not None and falls(session, origin.head):
        session._next = session._next or origin.token.moved()  # its forms stay good
        return _reseed(rules, session, origin, now)
    if session._has_new_terms:
        return _change_terms(rules, session, origin, now)
    if session._is_changed():
        due = _proof_upkeep(rules, session, origin, now)
        return due or saved(rules, session, origin, origin.head, now)
    if session.accessed and _is_upkeep_due(rules, origin, now):
        return _upkeep(rules, session, origin, now)
    return None


def _first(rules: Rules, session: Session, now: int) -> Write:
    """Store a session for the first time."""
    login, lifetime = session._login, lifetime_of(rules, session)
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
        open_ended=own_end(session, remember),
    )
    kind = Created if login is None else LoggedIn
    subject, login_at = (None, None) if login is None else (login.subject, now)
    record = Record("", b"", subject, login_at, now, 0, b"")
    return reseeded(rules, session, record, head, kind, now)


def _reseed(rules: Rules, session: Session, origin: Origin, now: int) -> Write:
    """A login or a rotation of a stored session."""
    record, head, login = origin.record, origin.head, session._login
    lifetime = lifetime_of(rules, session)
    if login is not None:
        client = _client(rules, session)
        record = replace(record, subject=login.subject, login_at=now)
        head = replace(
            head,
            remember=login.remember,
            address=client.address,
            agent=client.agent,
            assurance=login.assurance(now),
            open_ended=own_end(session, login.remember),
        )
    elif session._has_new_terms:
        head = replace(head, open_ended=None)
    if login is not None or session._has_new_terms:
        head = with_limits(lifetime, head, now)
    kind = Rotated if login is None else LoggedIn
    return reseeded(rules, session, record, with_moved_end(lifetime, head, now), kind, now)


def _change_terms(rules: Rules, session: Session, origin: Origin, now: int) -> Write:
    """A stored session gets other limits, and the browser a cookie that fits them.

    A cookie that reaches as far as the idle time fits, and its hard end stays. Otherwise a renewal
    sends another. Where that must wait, the end stays where it was, unless that takes half of the
    time, or the cookie is not to outlive the window any more: then it takes a new seed.
    """
    old, head = origin.head, with_limits(lifetime_of(rules, session), origin.head, now)
    head = replace(head, open_ended=None)
    end = expiry(now, head.idle, head.deadline)
    is_far = end > old.deadline + min(GRACE, touch_interval(head.idle))
    kept = replace(head, deadline=min(head.deadline, old.deadline))
    is_same = is_persistent(rules, session._former, old) == is_persistent(
        rules, session._terms, old
    )
    if rules.carrier is not None:
        return _with_terms_carried(rules, session, origin, head if is_far else kept, now)
    if is_far or not is_same or kept.deadline < old.deadline:
        if _may_renew(old, now):
            return renewal(rules, session, origin, with_previous(head), now)
        if 2 * (end - old.deadline) > end - now or not (is_same or _is_crossed(origin)):
            return reseeded(rules, session, origin.record, head, Rotated, now)
    moved = replace(origin, head=kept)
    return _proof_upkeep(rules, session, moved, now) or saved(rules, session, moved, kept, now)


def _with_terms_carried(
    rules: Rules, session: Session, origin: Origin, head: Head, now: int
) -> Write:
    """One id has one hard end: until then it stays denied, however long another copy would live."""
    if head.deadline == origin.head.deadline:
        return saved(rules, session, origin, head, now)
    session._next = session._next or origin.token.moved()  # its forms stay good
    return reseeded(rules, session, origin.record, head, Rotated, now)


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
    due = _proof_upkeep(rules, session, origin, now)
    if due is not None:
        return replace(due, essential=False)
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
        return None if session._failed else renewal(rules, session, origin, head, now)
    if head.proof_digest != origin.proof:
        return None  # another request renewed it
    if head.previous_proof is not None and head.proof_seen_at == 0:
        seen = replace(head, proof_seen_at=not_before(origin, now))
        return saved(rules, session, origin, seen, now)
    if _is_renewal_due(rules, head, now) and not session._failed:
        return renewal(rules, session, origin, with_previous(head), now)
    return None


def _is_renewal_due(rules: Rules, head: Head, now: int) -> bool:
    if rules.renew_after is None or now < head.proof_at + rules.renew_after:
        return False
    return head.previous_proof is None or now >= head.proof_seen_at + GRACE


def _client(rules: Rules, session: Session) -> Client:
    if rules.carrier is not None:
        return Client()  # no list shows it, and the cookie has better things to carry
    return shown(session._client)
