"""What the cookies that came mean.

no record, or an expired one        anonymous ("unknown", "expired")
another seed                        anonymous; for a minute after a login or rotation muted
                                    too: a slow request cannot overwrite the new cookie
the seed, and the current proof     the session
the seed, and the previous proof    the session, until a minute after its successor was used,
                                    and while few successors in a row were thrown away
the seed, and any other proof       a copied cookie: two browsers hold it, so the session ends
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hmac import compare_digest

import msgspec

from coatcheck import record as records
from coatcheck import token as tokens
from coatcheck.client import Client, ClientSource, shown
from coatcheck.events import CopiedCookie, Event, Refused, Unreadable
from coatcheck.lifecycle.rules import GRACE, Claim, Ending, Rules, expired
from coatcheck.record import Body, Head, Record, to_datetime
from coatcheck.sealing import Plain, Seal
from coatcheck.session import Session
from coatcheck.state import Origin, Refusal
from coatcheck.store import Carrier
from coatcheck.token import Domain

__all__ = ["REPLACED", "claims", "reader", "resume"]

REPLACED = b"\x01replaced"
"""The payload of a denial whose session was replaced by a login."""

_KEPT_CLAIMS = 1024
_MOST_CLAIMS = 3  # cookies of our name in one request that are worth a read of the store
_MOST_SUCCESSORS = 10  # no honest browser loses so many answers in a row; a thief throws them away
_PLAIN = Plain()
_EMPTY = Body({}, [])


class _Verdict(msgspec.Struct, frozen=True):
    origin: Origin | None = None
    stored: Body = _EMPTY
    unseen: bytes | None = None
    refused: Refusal = "unknown"
    is_known: bool = False  # a session is there, and the secrets that came are not its own
    muted: bool = False
    ending: Ending | None = None
    told: Sequence[Event] = ()


def reader(domain: Domain, carrier: Carrier | None) -> Callable[[str], Claim | None]:
    """What turns a cookie's value into its claim, or None where it has not the right shape.

    A token's claim follows from the token alone, and a browser sends the same one many times in
    a row, so those of the latest tokens are kept.
    """

    @lru_cache(_KEPT_CLAIMS)
    def kept(value: str) -> Claim | None:
        token = tokens.parse(value)
        if token is None:
            return None
        key, seed_digest = domain.derive(token)
        return Claim(token, Seal(key), seed_digest, domain.prove(token))

    def read(value: str) -> Claim | None:
        return kept(value) if len(value) == tokens.LENGTH else None

    def carried(value: str) -> Claim | None:
        opened = None if carrier is None else carrier.open(value, domain.name)
        return None if opened is None else Claim(opened[0], _PLAIN, b"", b"", opened[1])

    return read if carrier is None else carried


def claims(rules: Rules, values: Sequence[str]) -> list[Claim]:
    """The well-shaped ones among the cookie values that came, each once.

    More of them than any browser sends are a flood, not a choice: then none counts.
    """
    if len(values) == 1:
        claim = rules.read(values[0])
        return [] if claim is None else [claim]
    found = [claim for claim in map(rules.read, dict.fromkeys(values)) if claim is not None]
    return found if len(found) <= _MOST_CLAIMS else []


def resume(
    rules: Rules, session: Session, found: Sequence[tuple[Claim, Record | None]], now: int
) -> tuple[Sequence[Ending], Sequence[Event]]:
    """Make the session what the one good cookie says; returns what to end and what to tell.

    Several good ones (one planted by a neighbouring host, say) are as bad as none. Raises
    `NewerFormat` where a newer release wrote the record: that is no reason to drop it.
    """
    judge = _judge if rules.carrier is None else _judge_carried
    verdicts = [judge(claim, record, session._client, now) for claim, record in found]
    if len(verdicts) == 1 and verdicts[0].origin is not None:
        session._start_from(verdicts[0].origin, verdicts[0].stored)
        session._unseen = verdicts[0].unseen
        return (), ()
    return _choose(session, [claim for claim, _ in found], verdicts)


def _choose(
    session: Session, claims: list[Claim], verdicts: list[_Verdict]
) -> tuple[Sequence[Ending], Sequence[Event]]:
    """What several cookies mean together, or one that is not good."""
    endings = [verdict.ending for verdict in verdicts if verdict.ending is not None]
    good = [verdict for verdict in verdicts if verdict.origin is not None]
    if len(good) == 1:
        session._start_from(good[0].origin, good[0].stored)
        session._unseen = good[0].unseen
        return endings, ()
    session._refused = verdicts[0].refused if verdicts else "malformed"
    for claim, verdict in zip(claims, verdicts, strict=True):
        if verdict.muted:
            session._muted, session._replaced = True, claim.token
    return endings, _told(session._refused, claims, verdicts)


def _told(reason: Refusal, claims: list[Claim], verdicts: list[_Verdict]) -> list[Event]:
    """What is told where no cookie was good: the sessions that are over, and the refusal."""
    first = claims[0].token.id if claims else None
    is_known = bool(verdicts) and verdicts[0].is_known
    told = [event for verdict in verdicts for event in verdict.told]
    return [*told, Refused(session_id=first, reason="wrong proof" if is_known else reason)]


def _judge(claim: Claim, record: Record | None, source: ClientSource, now: int) -> _Verdict:
    if record is None:
        return _Verdict()
    if over := expired(record, now):
        return _Verdict(refused="expired", told=over)
    try:
        head = records.read_payload(record.payload)
    except records.Unreadable:
        return _Verdict()  # its proof cannot be checked, so it is not ours to drop
    if not compare_digest(claim.seed_digest, head.seed_digest):
        return _Verdict(muted=now < head.seed_at + GRACE, is_known=True)
    current = compare_digest(claim.proof_digest, head.proof_digest)
    if not current and not _is_good_previous(claim.proof_digest, head, now):
        return _Verdict(ending=Ending(record.id, _copied(record, head, source)), is_known=True)
    return _opened(claim, record, head, None if current else _long_unseen(head, now))


def _judge_carried(claim: Claim, denial: Record | None, source: ClientSource, now: int) -> _Verdict:
    """For a carried record the store only says whether its id was denied."""
    record = claim.carried
    if record is None or denial is not None:
        return _Verdict(muted=denial is not None and _was_replaced(denial, now))
    if over := expired(record, now):
        return _Verdict(refused="expired", told=over)
    try:
        head = records.read_payload(record.payload)
    except records.Unreadable:
        return _Verdict()
    return _opened(claim, record, head, None)


def _opened(claim: Claim, record: Record, head: Head, unseen: bytes | None) -> _Verdict:
    try:
        stored = records.open_body(head.body, claim.sealer, record.id)
    except records.Unreadable:
        event = Unreadable(session_id=record.id, subject=record.subject)
        return _Verdict(ending=Ending(record.id, event))
    origin = Origin(claim.token, record, head, claim.sealer, claim.proof_digest)
    return _Verdict(origin, stored, unseen)


def _copied(record: Record, head: Head, source: ClientSource) -> CopiedCookie:
    """What is known about both who hold the token."""
    try:
        shower = shown(source)
    except Exception:  # noqa: BLE001 - the session must end, whatever the app's function meets
        shower = Client()
    return CopiedCookie(
        session_id=record.id,
        subject=record.subject,
        shown=shower,
        known=Client(head.address, head.agent),
        login_at=None if record.login_at is None else to_datetime(record.login_at),
        seen_at=to_datetime(record.seen_at),
        renewed_at=to_datetime(head.proof_at),
    )


def _is_good_previous(proof: bytes, head: Head, now: int) -> bool:
    if head.previous_proof is None or not compare_digest(proof, head.previous_proof):
        return False
    if head.proof_seen_at == 0:
        return head.successors < _MOST_SUCCESSORS
    return now < head.proof_seen_at + GRACE


def _long_unseen(head: Head, now: int) -> bytes | None:
    """The current proof, where nobody showed it for a minute: its answer was lost."""
    is_lost = head.proof_seen_at == 0 and now >= head.proof_at + GRACE
    return head.proof_digest if is_lost else None


def _was_replaced(denial: Record, now: int) -> bool:
    return denial.payload == REPLACED and now < denial.seen_at + GRACE
