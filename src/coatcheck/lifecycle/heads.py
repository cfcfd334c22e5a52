"""How a record's head changes: its limits, its proofs and its level."""

from msgspec.structs import replace

from coatcheck.lifecycle.rules import Rules
from coatcheck.lifetime import LONGEST, Lifetime
from coatcheck.record import Head
from coatcheck.session import Session
from coatcheck.state import Origin, Terms

__all__ = [
    "falls",
    "is_persistent",
    "lifetime_of",
    "not_before",
    "own_end",
    "with_level",
    "with_limits",
    "with_moved_end",
    "with_previous",
]


def lifetime_of(rules: Rules, session: Session) -> Lifetime:
    if session._login is not None and session._login.lifetime is not None:
        return session._login.lifetime
    return rules.lifetime if session._terms is None else session._terms.lifetime


def with_limits(lifetime: Lifetime, head: Head, now: int) -> Head:
    """The limits count from now on."""
    deadline = lifetime.deadline(now, head.remember)
    return replace(head, deadline=deadline, idle=lifetime.idle_ms(head.remember))


def with_previous(head: Head) -> Head:
    """The proof that is to be replaced stays good for a while."""
    return replace(head, previous_proof=head.proof_digest, successors=0)


def with_moved_end(lifetime: Lifetime, head: Head, now: int) -> Head:
    """A new token brings a new cookie, which moves an end that only the cookie's age sets."""
    own = head.open_ended
    if not (lifetime.is_open_ended(head.remember) if own is None else own):
        return head
    return replace(head, deadline=now + LONGEST)


def own_end(session: Session, remember: bool) -> bool | None:
    """What a login with a lifetime of its own says of the hard end."""
    login = session._login
    if login is None or login.lifetime is None:
        return None
    return login.lifetime.is_open_ended(remember)


def with_level(head: Head, most: int) -> Head:
    """The level may fall, here where a replay can tell what it is by now; it never rises."""
    assurance = head.assurance
    if assurance is None or assurance.level <= most:
        return head
    return replace(head, assurance=replace(assurance, level=most))


def falls(session: Session, head: Head) -> bool:
    """Whether the level is to be lower than it is.

    A carried session then takes a new id, or an older state of its cookie, or a slower answer,
    would bring the level back.
    """
    return session._lowered is not None and with_level(head, session._lowered) is not head


def is_persistent(rules: Rules, terms: Terms | None, head: Head) -> bool:
    """Whether the cookie outlives the browser's window."""
    own = rules.cookie.persistent if terms is None else terms.persistent
    return own or head.remember


def not_before(origin: Origin, now: int) -> int:
    """When a proof is made or seen: never before the record, should the clock have gone back.

    Once it is set right again, the grace would be over before it began.
    """
    return max(now, origin.record.seen_at)
