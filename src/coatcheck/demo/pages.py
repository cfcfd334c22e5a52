"""Rendering: the site's parts, and what every page shows of the request's session."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from coatcheck import AsyncSessions, Session, current, token
from coatcheck.demo.diary import Diary, ending
from coatcheck.demo.users import User, Users
from coatcheck.store import AsyncCarrierStore, AsyncStore
from coatcheck.web.headers import joined_cookie

__all__ = ["STATIC", "Site", "Ticket", "render", "render_bare", "site_of", "user_of"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_HUES = ("rose", "sky", "mint", "straw", "lilac")


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages work with; it is the app's `state.site`."""

    sessions: AsyncSessions
    store: AsyncStore | AsyncCarrierStore
    """Theirs, for the page that looks into it."""
    users: Users
    diary: Diary
    limit: int | None = None
    renew_after: float | None = None

    @property
    def can_revoke(self) -> bool:
        """Whether a session can be ended at all; one that is its cookie needs `revocations`."""
        return getattr(self.store, "revocations", self.store) is not None

    @property
    def can_end_others(self) -> bool:
        """Whether all of a user's sessions can be ended at once, listed or not."""
        is_carried = isinstance(self.store, AsyncCarrierStore)
        return self.can_revoke if is_carried else self.sessions.is_listable


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session as the cloakroom's paper ticket: its number and colour come from its id."""

    number: str
    hue: str


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def user_of(request: Request) -> User | None:
    """Who is logged in, on a public page too, where the gate does not look."""
    session = current()
    if session.subject is None:
        return None
    user = site_of(request).users.find(session.subject)
    if user is None:
        session.logout()
    return user


async def render(
    request: Request, template: str, *, status: int = 200, **context: Any
) -> HTMLResponse:
    """A page of the site. Its flash messages are read, and so removed, here."""
    session = current()
    user = user_of(request)
    shared: dict[str, Any] = {
        "path": request.url.path,
        "user": user,
        "site": site_of(request),
        "session": session,
        "ended": await _why_it_ended(request, session) if user is None else None,
        "ticket": ticket_of(session.id),
        "cart_count": sum(session.get("cart", {}).values()),
        "csrf": lambda: _csrf_field(session),
        "flashes": session.flashes(),
    }
    return HTMLResponse(_env.get_template(template).render(shared | context), status)


def render_bare(template: str, *, status: int, **context: Any) -> HTMLResponse:
    """A page that needs no session, for when there is none to be had."""
    shared: dict[str, Any] = {
        "path": "",
        "user": None,
        "ended": None,
        "ticket": None,
        "cart_count": 0,
        "flashes": [],
    }
    return HTMLResponse(_env.get_template(template).render(shared | context), status)


def ticket_of(session_id: str | None) -> Ticket | None:
    if session_id is None:
        return None
    number = int(session_id[:8], 16)
    return Ticket(f"{number % 10_000:04}", _HUES[number // 10_000 % len(_HUES)])


async def _why_it_ended(request: Request, session: Session) -> str | None:
    """What to tell a browser whose ticket is not good any more; None for one that showed none."""
    if session.refused not in ("unknown", "expired"):
        return None
    site = site_of(request)
    shown = site.sessions.cookie.read(joined_cookie(request.scope["headers"]))
    ids = [found.id for text in shown if (found := token.parse(text))]
    await site.sessions.flush_events()
    return ending(next(filter(None, map(site.diary.end_of, ids)), None))


def _csrf_field(session: Session) -> Markup:
    return Markup('<input type="hidden" name="csrf" value="{}">').format(session.csrf_token)


def _moment(time: datetime) -> Markup:
    """A point in time for people, with the exact one for machines."""
    text = f"{time.day} {time:%b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(time.isoformat("T", "seconds"), text)


def _from_now(time: datetime) -> Markup:
    """How far from this request, with the point in time as a tooltip."""
    span = time - current().opened_at
    text = f"in {_span(span)}" if span > timedelta() else f"{_span(-span)} ago"
    text = "just now" if abs(span) < timedelta(minutes=1) else text
    exact = f"{time:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        time.isoformat("T", "seconds"), exact, text
    )


def _methods(methods: tuple[str, ...]) -> str:
    """By what means somebody showed who they are; the names are of RFC 8176."""
    return " and ".join(_METHODS.get(method, method) for method in methods) or "unknown means"


_METHODS = {"pwd": "password", "otp": "one-time code"}


def _span(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    for size, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            count = round(minutes / size)
            return f"{count} {unit}" + "s" * (count != 1)
    return "a moment"


_env = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_env.filters |= {"moment": _moment, "from_now": _from_now, "methods": _methods}
_env.globals["ticket_of"] = ticket_of
