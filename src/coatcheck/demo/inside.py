"""What is where: the ticket that this browser holds, beside the record that the store holds.

No real site should print a cookie: it is HttpOnly so that no script on a page can read it. This
page puts the visitor's own on show, once they ask, because seeing it is the point of the demo.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from coatcheck import current, token
from coatcheck.demo.pages import Site, render, site_of
from coatcheck.record import Head, Record, read_payload
from coatcheck.store import AsyncCarrierStore
from coatcheck.token import Token
from coatcheck.web.headers import joined_cookie

__all__ = ["inside"]

_ATTRIBUTES = {
    "Path": "sent to every page of this site",
    "Secure": "never sent over plain HTTP; localhost counts as safe",
    "HttpOnly": "no script on a page can read it",
    "SameSite": "forms and images of other sites do not carry it",
    "Max-Age": "in seconds, until the record ends in any case; sent once, with the token",
}
# 16 bytes are 21 characters and a third, so two of the 64 characters belong to two parts each.
_PARTS = (("id", 0, 21), ("id-seed", 21, 22), ("seed", 22, 42), ("seed-proof", 42, 43))
_LAST_PART = ("proof", 43, 64)


@dataclass(frozen=True, slots=True)
class Held:
    """What this browser holds."""

    name: str
    token: Token
    parts: list[tuple[str, str]]
    attributes: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store keeps for it, as it was when this page was asked for."""

    record: Record
    head: Head
    seconds_to_renewal: int | None
    times: list[tuple[str, int, datetime, str]]


async def inside(request: Request) -> Response:
    session = current()
    site = site_of(request)
    kept = await _kept(site, None if session.is_new else session.id)
    held = _held(site, request, kept) if kept is not None else None
    values = [(key, repr(value)) for key, value in sorted(session.items())]
    sealed = _sealed(site, request)
    return await render(request, "inside.html", held=held, kept=kept, values=values, sealed=sealed)


def _sealed(site: Site, request: Request) -> str | None:
    """The cookie that is the whole session, where the store is one that keeps nothing here."""
    if not isinstance(site.store, AsyncCarrierStore):
        return None
    return next(iter(site.sessions.cookie.read(joined_cookie(request.scope["headers"]))), None)


def _held(site: Site, request: Request, kept: Kept) -> Held | None:
    cookie = site.sessions.cookie
    texts = cookie.read(joined_cookie(request.scope["headers"]))
    tokens = [(text, found) for text in texts if (found := token.parse(text))]
    for text, found in tokens:
        if found.id == kept.record.id:
            max_age = (kept.head.deadline - kept.head.seed_at) // 1000
            header = cookie.set(text, max_age)
            return Held(cookie.full_name, found, _parts(text), _attributes(header))
    return None


def _parts(text: str) -> list[tuple[str, str]]:
    return [(part, text[start:end]) for part, start, end in (*_PARTS, _LAST_PART)]


def _attributes(header: str) -> list[tuple[str, str]]:
    """Each attribute of a Set-Cookie header, with what it is for."""
    written = header.split("; ")[1:]
    return [(text, _ATTRIBUTES[text.partition("=")[0]]) for text in written]


async def _kept(site: Site, session_id: str | None) -> Kept | None:
    now = int(current().opened_at.timestamp() * 1000)
    if session_id is None or isinstance(site.store, AsyncCarrierStore):
        return None
    record = await site.store.load(session_id, now)
    if record is None:
        return None
    head = read_payload(record.payload)
    return Kept(record, head, _seconds_to_renewal(site, head, now), _times(record, head))


def _seconds_to_renewal(site: Site, head: Head, now: int) -> int | None:
    """When the proof is to be renewed, in seconds from now; None where it never is."""
    if site.renew_after is None:
        return None
    return max(0, round(site.renew_after - (now - head.proof_at) / 1000))


def _times(record: Record, head: Head) -> list[tuple[str, int, datetime, str]]:
    times = [
        ("created_at", head.created_at, "when the browser first came"),
        ("login_at", record.login_at, "when you last logged in"),
        ("proof_at", head.proof_at, "when the proof was made"),
        ("seen_at", record.seen_at, "when you were last here, to a twentieth of the idle time"),
        ("expires_at", record.expires_at, "when it ends unless it is used again"),
        ("deadline", head.deadline, "when it ends in any case"),
    ]
    return [
        (name, time, datetime.fromtimestamp(time / 1000, UTC), note)
        for name, time, note in times
        if time is not None
    ]
