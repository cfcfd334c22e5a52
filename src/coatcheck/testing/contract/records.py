"""Records to store, and what follows from them."""

import os
from typing import Any

from coatcheck.record import Record, next_revision
from coatcheck.testing.clock import NOW

__all__ = ["HOUR", "MINUTE", "changed", "ident", "login", "record", "revision"]

HOUR = 3_600_000
MINUTE = 60_000  # time enough, for a server that drops what expired by its own clock


def record(id: str = "0" * 31 + "1", **fields: Any) -> Record:
    """A record to store, alive for an hour after `NOW`; any field can be given."""
    given: dict[str, Any] = {
        "revision": revision(),
        "subject": None,
        "login_at": None,
        "seen_at": NOW,
        "expires_at": NOW + HOUR,
        "payload": b"\x01payload",
    }
    return Record(id, **{**given, **fields})


def revision(before: bytes = b"") -> bytes:
    """The revision that follows."""
    return next_revision(before, os.urandom(8))


def ident(number: int) -> str:
    """An id with that number, in the shape of ours."""
    return f"{number:032x}"


def changed(before: Record, **fields: Any) -> Record:
    """The next revision of a record."""
    names = ("subject", "login_at", "seen_at", "expires_at", "payload")
    kept = {name: getattr(before, name) for name in names}
    return Record(before.id, revision(before.revision), **{**kept, **fields})


def login(number: int = 1, **fields: Any) -> Record:
    """A record of that number, logged in as "user:1" now."""
    return record(ident(number), **{"subject": "user:1", "login_at": NOW, **fields})
