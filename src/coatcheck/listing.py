"""Sessions as lists show them: what a device list or an operator may see."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from coatcheck.client import Client
from coatcheck.errors import ConfigurationError
from coatcheck.record import Head, NewerFormat, Record, Unreadable, read_payload
from coatcheck.record import to_datetime as _datetime

__all__ = ["SessionInfo", "check_after", "describe", "describe_in_order", "is_id"]


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
    level: int | None
    """How sure the app is of who it is, as `login` said."""
    methods: tuple[str, ...]
    """By what means they proved who they are."""
    current: bool = False
    """Whether it is the one that asks."""


def describe(found: Iterable[Record], current: str | None = None) -> list[SessionInfo]:
    """The records as lists show them, the last seen first; what cannot be read is left out."""
    infos = describe_in_order(found, current)
    return sorted(infos, key=lambda info: info.seen_at, reverse=True)


def describe_in_order(found: Iterable[Record], current: str | None = None) -> list[SessionInfo]:
    """`describe`, in the order in which they are given."""
    infos = (_info(record, current) for record in found)
    return [info for info in infos if info is not None]


def _info(record: Record, current: str | None) -> SessionInfo | None:
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
        *_assurance(record, head),
        record.id == current,
    )


def _assurance(record: Record, head: Head) -> tuple[int | None, tuple[str, ...]]:
    if record.subject is None:
        return None, ()
    return (1, ()) if head.assurance is None else (head.assurance.level, head.assurance.methods)


def is_id(text: object) -> bool:
    """Whether the text has the shape of a session's id; only such reaches a store."""
    return isinstance(text, str) and len(text) == 32 and not text.strip("0123456789abcdef")


def check_after(after: object) -> None:
    """Raise `ConfigurationError` where a list cannot begin after this; what is no id may be a
    secret, and is not shown."""
    if after != "" and not is_id(after):
        raise ConfigurationError(
            "list_all(): expected after to be the id of a session, or empty text, got "
            f"{type(after).__name__} that is neither; pass the last id of the page before"
        )
