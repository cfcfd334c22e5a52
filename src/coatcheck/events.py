"""What happened to sessions, as frozen records, and where to send them.

An event carries the public session id and the subject, never a token, a key or a value, so it
may be logged whole. `Sessions(on_event=…)` is called with each one. A callback that raises
harms no request: its error is logged on the logger `coatcheck` and forgotten.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "Contended",
    "CopiedCookie",
    "Created",
    "Event",
    "Handler",
    "LoggedIn",
    "LoggedOut",
    "LoginRefused",
    "Outage",
    "Refused",
    "Renewed",
    "Revoked",
    "RiskyConfiguration",
    "Rotated",
    "Skipped",
    "Swept",
    "Unreadable",
    "send",
]

_logger = logging.getLogger("coatcheck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events. `session_id` is the public id, or None where there is none."""

    session_id: str | None = None
    subject: str | None = None


class Created(Event):
    """An anonymous session was stored for the first time."""

    __slots__ = ()


class LoggedIn(Event):
    """A session became its subject's, under a fresh token."""

    __slots__ = ()


class LoggedOut(Event):
    """A session was ended by its own browser."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRefused(Event):
    """A login was not let in: `reason` is "limit" or "revoked", as of the error of that name."""

    reason: str


class Rotated(Event):
    """A session got a new seed and proof; the old token died at once."""

    __slots__ = ()


class Renewed(Event):
    """A session got a new proof; the old one stays good for the grace period."""

    __slots__ = ()


class Revoked(Event):
    """A session was ended by somebody else: another device of its subject, or an operator."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """A cookie that came was not good: `reason` is "malformed", "unknown" or "expired"."""

    reason: str


class CopiedCookie(Event):
    """A token with the right seed and a proof long replaced: two hold it, so the session ended."""

    __slots__ = ()


class Unreadable(Event):
    """A record whose proof was right could not be opened, so it was dropped."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contended(Event):
    """A save was refused `tries` times before it went through, or before it gave up."""

    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Event):
    """The store did not answer at `moment` ("open", "commit" or "end")."""

    moment: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(Event):
    """A touch, a renewal or a seen-mark did not get through; the request did not need it.

    The store was out of reach, or another request of the session saved first.
    """

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskyConfiguration(Event):
    """The store's server has a `setting` whose `consequence` breaks a promise; told once.

    Without an `on_event` it is a warning on the logger `coatcheck`.
    """

    setting: str
    consequence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(Event):
    """A sweep removed `count` expired records."""

    count: int


Handler = Callable[[Event], None]


def send(handler: Handler | None, event: Event) -> None:
    """Hand the event over; whatever the handler raises is logged and goes no further."""
    if handler is None:
        return
    try:
        handler(event)
    except Exception:
        _logger.exception("on_event raised while it handled %s", type(event).__name__)
