"""Sessions as lists show them: what a device list or an operator may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from coatcheck.client import Client
from coatcheck.record import NewerFormat, Record, Unreadable, read_payload
from coatcheck.record import to_datetime as _datetime

__all__ = ["SessionInfo", "describe", "is_id"]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session as lists show it: nothing here opens it. Times are aware, in UTC."""

    id: str
    subject: str | None
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    login_at: datetime | None
    client: Client


def describe(found: Sequence[Record]) -> list[SessionInfo]:
    """The records as lists show them, the last seen first; what cannot be read is left out."""
    infos = [info for info in map(_info, found) if info is not None]
    return sorted(infos, key=lambda info: info.seen_at, reverse=True)


def _info(record: Record) -> SessionInfo | None:
    try:
        head = read_payload(record.payload)
    except (NewerFormat, Unreadable):
        return None
    return SessionInfo(
        record.id,
        record.subject,
        _datetime(head.created_at),
        _datetime(record.seen_at),
        _datetime(record.expires_at),
        None if record.login_at is None else _datetime(record.login_at),
        Client(head.address, head.agent),
    )


def is_id(text: object) -> bool:
    """Whether the text has the shape of a session's id; only such reaches a store."""
    return isinstance(text, str) and len(text) == 32 and not text.strip("0123456789abcdef")
