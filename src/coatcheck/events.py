"""What happened to sessions, as frozen records.

An event carries the public session id and the subject, never a token, a key or a value, so it
may be logged whole. Each one is a line on the logger `coatcheck`, is counted by OpenTelemetry where
that is installed, and is given to `Sessions(on_event=…)`, outside the request.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import ClassVar, Literal

from coatcheck.client import Client

__all__ = [
    "Contended",
    "CopiedCookie",
    "Created",
    "Event",
    "Expired",
    "Handler",
    "LoggedIn",
    "LoggedOut",
    "LoginRefused",
    "Merged",
    "Moment",
    "Outage",
    "Recovered",
    "Refused",
    "Renewed",
    "Revoked",
    "RiskyConfiguration",
    "Rotated",
    "Skipped",
    "Swept",
    "Unreadable",
]

Moment = Literal["open", "commit", "end", "sweep"]
"""When an outage was met; "end" is the end of a copied or unreadable session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events. `session_id` is the public id, or None where there is none."""

    session_id: str | None = None
    subject: str | None = None

    name: ClassVar[str] = "event"
    """What happened, as logs and metrics call it: "logged_in" of `LoggedIn`."""

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def fields(self) -> dict[str, str | int | float]:
        """What it says, flat and without what is None: for log lines and JSON.

        Times are ISO 8601; a `Client` becomes two fields, such as `shown_address`.
        """
        flat = {}
        for field in fields(self):
            value = getattr(self, field.name)
            for key, part in _parts(field.name, value):
                if part is not None:
                    flat[key] = part if isinstance(part, int | float) else str(part)
        return flat


def _parts(key: str, value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, Client):
        return (f"{key}_address", value.address), (f"{key}_agent", value.agent)
    return ((key, value.isoformat() if isinstance(value, datetime) else value),)


class Created(Event):
    """An anonymous session was stored for the first time."""

    __slots__ = ()


class LoggedIn(Event):
    """A session became its subject's, under a fresh token."""

    __slots__ = ()


class LoggedOut(Event):
    """A session was ended by its own browser."""

    __slots__ = ()


class Rotated(Event):
    """A session got a new seed and proof; the old token died at once."""

    __slots__ = ()


class Renewed(Event):
    """A session got a new proof; the old one stays good for the grace period."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked(Event):
    """A session was ended by somebody else: another device of its subject, or an operator.

    With the reason "limit" a login ended it, as its subject had too many.
    """

    reason: Literal["revoked", "limit"] = "revoked"


class Expired(Event):
    """A session was found to have expired. Nothing is told of those that nobody asks for."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """A cookie that came was not good.

    "malformed": it has not the shape of ours. "unknown": nothing is stored under its id.
    "expired": its session is over. "wrong proof": the session is there, and the token's secrets are
    not its own; so it is after a login too, of those who still show the replaced token.
    """

    reason: Literal["malformed", "unknown", "expired", "wrong proof"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRefused(Event):
    """A login was not let in: its subject has as many sessions as it may ("limit"); or they ended
    while the request ran, all of them or the one to log in to once more ("revoked")."""

    reason: Literal["limit", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedCookie(Event):
    """A token with the right seed and a proof long replaced: two hold it, so the session ended.

    Which of the two is the thief cannot be known. `shown` sent the request that brought the copy;
    `known` made the session's login, or its first request. `login_at`, `seen_at` and `renewed_at`
    (when the token was made that the other holds) are the session's, aware and in UTC.
    """

    shown: Client
    known: Client
    login_at: datetime | None
    seen_at: datetime
    renewed_at: datetime


class Unreadable(Event):
    """A record whose proof was right could not be opened, so it was dropped."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(Event):
    """A save was refused `tries` times, as other requests of the session saved first, and then
    went through, done again on what they left."""

    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contended(Event):
    """A save was refused `tries` times and gave up: nothing was written, the answer is a 503."""

    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Event):
    """The store did not answer at that moment."""

    moment: Moment
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Event):
    """The store answered again, `after` seconds of this process's time since an `Outage`."""

    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(Event):
    """A touch, a renewal or a seen-mark did not get through; the request did not need it.

    The store was out of reach, or another request of the session saved first.
    """

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskyConfiguration(Event):
    """The store's server has a `setting` whose `consequence` breaks a promise; told once."""

    setting: str
    consequence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(Event):
    """A sweep removed `count` expired records."""

    count: int


Handler = Callable[[Event], object]
"""What `on_event` takes: a plain function, or, of `AsyncSessions`, an asynchronous one."""
