"""Activity: what happened to the sessions of the user who is logged in, in plain words."""

from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from coatcheck import current, events
from coatcheck.client import Client
from coatcheck.demo.agents import agent_of
from coatcheck.demo.pages import Ticket, render, site_of, ticket_of
from coatcheck.events import Event

__all__ = ["activity"]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two who hold a copied cookie."""

    role: str
    agent: str
    address: str


@dataclass(frozen=True, slots=True)
class Line:
    at: datetime
    ticket: Ticket | None
    is_this: bool
    title: str
    text: str
    sides: tuple[Side, ...]

    @property
    def is_alarming(self) -> bool:
        return bool(self.sides)


async def activity(request: Request) -> Response:
    this = current().id
    site = site_of(request)
    await site.sessions.flush_events()
    entries = site.diary.of(request.user.subject)
    lines = [_line(entry.at, entry.event, this) for entry in entries]
    return await render(request, "activity.html", lines=lines)


def _line(at: datetime, event: Event, this: str | None) -> Line:
    title, text = _in_words(event)
    ticket = ticket_of(event.session_id)
    sides = _sides(event) if isinstance(event, events.CopiedCookie) else ()
    return Line(at, ticket, ticket is not None and event.session_id == this, title, text, sides)


def _in_words(event: Event) -> tuple[str, str]:
    match event:
        case events.LoggedIn():
            return "Logged in", "With a fresh ticket; the one before it is void."
        case events.LoggedOut():
            return "Logged out", "In its own browser."
        case events.Revoked(reason="limit"):
            return "Logged out by a newer login", "You had as many sessions as you may."
        case events.Revoked(session_id=None):
            return "Logged out everywhere else", "All sessions but the one that asked."
        case events.Revoked():
            return "Logged out from elsewhere", "Another of your devices ended this session."
        case events.Renewed():
            return "Ticket renewed", "The one before it is good for a minute more, then a copy."
        case events.Rotated():
            return "Ticket exchanged", "After your password was changed. The one before it is void."
        case events.Expired():
            return "Expired", "Somebody came with its ticket after its time was up."
        case events.LoginRefused(reason="limit"):
            return "Login refused", "You have as many sessions as you may. End one first."
        case events.LoginRefused():
            return "Login refused", "All of your sessions were ended while it was under way."
        case events.CopiedCookie():
            return "Copied ticket", (
                "An old ticket was shown after it had been renewed, so two browsers held it. "
                "Which of them is yours only you can tell; both are logged out."
            )
        case _:
            return "Dropped", "The locker could not be opened with its own ticket."


def _sides(event: events.CopiedCookie) -> tuple[Side, ...]:
    return (
        _side("Showed the old ticket", event.shown),
        _side("Had logged in", event.known),
    )


def _side(role: str, client: Client) -> Side:
    return Side(role, str(agent_of(client.agent)), client.address or "an unknown address")
