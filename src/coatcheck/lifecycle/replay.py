"""After the store's answer: begin again, or be done; and what the response owes the browser."""

import os
from hmac import compare_digest

from coatcheck import record as records
from coatcheck.events import Revoked
from coatcheck.lifecycle.resume import REPLACED
from coatcheck.lifecycle.rules import GRACE, End, Rules, Write
from coatcheck.lifetime import LONGEST
from coatcheck.record import Body, Record
from coatcheck.session import Origin, Session
from coatcheck.store import Gone, Saved

__all__ = ["abandon", "cookies", "denial", "ended", "finish", "replay", "revocation"]

_OVER = b"\x01over"


def replay(session: Session, answer: Record | Gone | Saved) -> None:
    """Begin again after a refused write, with the record found instead of the expected one.

    Raises `NewerFormat` where a newer release wrote it.
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
    return Origin(origin.token, record, head, origin.sealer, origin.proof), stored


def finish(session: Session, write: Write) -> None:
    """The write went through."""
    session._committed(write.origin, write.body)
    session._muted, session._replaced, session._lost = False, None, None
    if write.minted:
        session._unseen = None
    if write.cookie is not None:
        session._cookie, session._presented = write.cookie, True


def denial(end: End, now: int) -> Record:
    """What a cookie store's `revocations` keep of an ended session, until its hard end.

    A minute more, for clocks that disagree: it must not be swept while a cookie can open. It has
    a subject of its own, so that a full store does not take it for an anonymous session.
    """
    reason = REPLACED if end.replaced else _OVER
    subject = f"coatcheck:ended:{end.id}"
    revision = records.next_revision(b"", os.urandom(8))
    return Record(end.id, revision, subject, None, now, end.deadline + GRACE, reason)


def revocation(id: str, now: int) -> End:
    """The end of a carried session that is not at hand: it lasts as long as any could."""
    return End(id, now + LONGEST, False, Revoked(session_id=id))


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
