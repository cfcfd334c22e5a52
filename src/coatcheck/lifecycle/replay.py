"""After the store's answer: begin again, or be done; and what the response owes the browser."""

from hmac import compare_digest

from coatcheck import record as records
from coatcheck.errors import LoginRefused
from coatcheck.events import Event, Revoked, Skipped
from coatcheck.lifecycle.resume import REPLACED
from coatcheck.lifecycle.rules import GRACE, End, Rules, Write, expired
from coatcheck.lifetime import LONGEST
from coatcheck.record import Body, Record
from coatcheck.session import Session
from coatcheck.state import Origin
from coatcheck.store import FORBIDDEN, FULL, GONE, Forbidden, Full, Gone, Saved

__all__ = [
    "abandon",
    "clearing",
    "cookies",
    "denial",
    "ended",
    "finish",
    "missed",
    "refuse",
    "replay",
    "revocation",
]

_OVER = b"\x01over"


def replay(session: Session, answer: Record | Gone | Saved) -> None:
    """Begin again after a refused write, with the record found instead of the expected one.

    Raises `NewerFormat` where a newer release wrote it, and `LoginRefused` where it was to log in
    once more who was logged in there: what ended is no ground to stand on.
    """
    origin = session._origin
    if origin is None:  # a new session's id was taken
        session._next = session._token().moved()
        return
    found = _still_ours(origin, answer) if isinstance(answer, Record) else None
    if found is None and answer is GONE and _is_again(session, origin):
        raise refuse(session, FORBIDDEN, None)
    if found is None:
        session._lose()
    else:
        session._rebase(*found)


def _is_again(session: Session, origin: Origin) -> bool:
    """Of a carried session nobody knows whether it ended, or only took another id."""
    if session._carried:
        return False
    return session._login is not None and session._login.subject == origin.record.subject


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


def missed(session: Session, write: Write, answer: Record | Gone | Saved, now: int) -> list[Event]:
    """What is told where the store refused the write: what is gone may have expired meanwhile."""
    opened, record = session._origin, write.origin.record
    if opened is not None and answer is GONE and (told := expired(opened.record, now)):
        return [*told]
    if write.essential or write.verb == "touch":
        return []
    error = "another save came first"
    return [Skipped(session_id=record.id, subject=record.subject, error=error)]


def denial(end: End, now: int) -> Record:
    """What a cookie store's `revocations` keep of an ended session, until its hard end.

    A minute more, for clocks that disagree: it must not be swept while a cookie can open. It has
    a subject of its own, so that a full store does not take it for an anonymous session.
    """
    reason = REPLACED if end.replaced else _OVER
    subject = f"coatcheck:ended:{end.id}"
    revision = records.next_revision(b"", end.tag)
    return Record(end.id, revision, subject, None, now, end.deadline + GRACE, reason)


def revocation(id: str, now: int) -> End:
    """The end of a carried session that is not at hand: it lasts as long as any could."""
    return End(id, now + LONGEST, False, Revoked(session_id=id))


def ended(session: Session) -> None:
    """The store knows of the logout."""
    session._ended = None


def abandon(session: Session) -> None:
    """The response is an error: drop the request's edits and its login, keep its logout().

    Nothing is renewed either, as many an error's answer carries no cookie: a server that throws
    successors away must not look like a thief who does.
    """
    session._failed = True
    session._drop()


def refuse(session: Session, answer: Forbidden | Full, most: int | None) -> LoginRefused:
    """The store did not let the login in: what the request did is dropped with it.

    One whose session had ended, or was re-seeded, sets no cookie from now on.
    """
    lost = session._lost if session._origin is None else None
    session._drop()
    if lost is not None:
        session._lose()
        session._lost = lost
    if answer is FULL:
        return LoginRefused(
            f"login(): expected room among the subject's {most} sessions, or to be one of the "
            f"{most} newest, got neither; let them end one first, or raise limit",
            "limit",
        )
    return LoginRefused(
        "login(): expected that nobody ended the subject's session since the request was opened, "
        "got a logout, a revoke() or a revoke_all(), or its time was up; where one request does "
        "both, call login() first, and then revoke_all(…, keep=session.id)",
        "revoked",
    )


def cookies(rules: Rules, session: Session) -> list[str]:
    """The Set-Cookie values that this response owes; only logout() deletes a cookie."""
    if session._cookie is not None:
        return [session._cookie]
    return [rules.cookie.delete()] if session._said_goodbye else []


def clearing(rules: Rules, session: Session) -> str:
    """The Clear-Site-Data value that this response owes, once `logout()` has reached the store.

    Only a browser that showed a cookie is asked to clear: who posts to the logout page from another
    site, where `SameSite` holds the cookie back, must not empty the storage of whoever clicks.
    """
    if not session._said_goodbye or session._ended is not None:
        return ""
    site_data = rules.site_data
    return site_data.everything if session._cookie is None else site_data.but_cookies
