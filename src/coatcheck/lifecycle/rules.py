"""What the decisions are made of: the configured rules, what came, and what is to be done."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec

from coatcheck.cookie import Cookie
from coatcheck.events import Event, Expired
from coatcheck.lifetime import Lifetime
from coatcheck.record import Body, Record
from coatcheck.sealing import Sealer
from coatcheck.site_data import SiteData
from coatcheck.state import Origin
from coatcheck.store import Carrier, Entry
from coatcheck.token import Domain, Token

__all__ = ["GRACE", "Claim", "End", "Ending", "Plan", "Rules", "Write", "expired"]

GRACE = 60_000
"""Milliseconds for which a replaced token is still understood, each in its own way."""


class Claim(msgspec.Struct, frozen=True):
    """A cookie that has the right shape, and what follows from it alone."""

    token: Token
    sealer: Sealer
    seed_digest: bytes
    proof_digest: bytes
    carried: Record | None = None  # the record that it brought itself

    def __repr__(self) -> str:
        return f"Claim({self.token!r})"


@dataclass(frozen=True, slots=True)
class Rules:
    """What one `Sessions` was configured with."""

    domain: Domain
    cookie: Cookie
    lifetime: Lifetime
    max_bytes: int
    renew_after: int | None
    carrier: Carrier | None
    limit: int | None  # how many sessions a subject may have
    refuses: bool  # a login that is one too many, or else the oldest ends
    site_data: SiteData
    read: Callable[[str], Claim | None]  # what a cookie value claims, if it has the right shape


class Ending(msgspec.Struct, frozen=True):
    """A session that must be deleted, and what to tell about it."""

    id: str
    event: Event


class End(msgspec.Struct, frozen=True):
    """A session that the request ended: its id, its hard end, and why."""

    id: str
    deadline: int
    replaced: bool  # by a login, so that late answers under the old cookie must stay mute
    event: Event | None
    tag: bytes = msgspec.field(default_factory=partial(os.urandom, 8))
    """Tells this end from another request's, should the answer to it be lost."""


class Write(msgspec.Struct, frozen=True):
    """One write to the store, and what the session is when it has gone through."""

    verb: Literal["create", "save", "touch"]
    origin: Origin
    body: Body
    expected: bytes  # the revision to replace, or to touch; empty for "create"
    essential: bool  # whether the request fails with it
    minted: bool
    cookie: str | None
    event: Event | None
    entry: Entry | None = None  # what it has to pass, where it is a login
    end: End | None = None  # what it takes the place of, where a carried session takes a new id
    opened_at: int = 0  # when its request was

    def __repr__(self) -> str:
        return f"Write({self.verb!r}, {self.origin.record!r})"


class Plan(msgspec.Struct, frozen=True):
    """What a commit has to do, in this order."""

    end: End | None
    write: Write | None
    told: tuple[Event, ...] = ()

    @property
    def id(self) -> str | None:
        """Of the session that it is about."""
        if self.write is not None:
            return self.write.origin.record.id
        return None if self.end is None else self.end.id


def expired(record: Record, now: int) -> tuple[Event, ...]:
    """What is told of a session that was found to have expired; nothing where it has not."""
    over = record.expires_at <= now
    return (Expired(session_id=record.id, subject=record.subject),) if over else ()
