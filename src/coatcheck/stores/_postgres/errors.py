"""What PostgreSQL and its driver say when something fails, as `StoreUnavailable` with a remedy.

A failure to connect has no code: libpq gives its text alone, in the server's language, so that
texts are looked for where they are English, and a remedy for all fits the rest. No message holds
the connection string; libpq's own name the host, the user and the database, never a password.
"""

import psycopg
from psycopg import errors

from coatcheck.errors import StoreUnavailable

__all__ = [
    "Hurried",
    "is_broken",
    "is_elsewhere",
    "kept",
    "no_time",
    "no_turn",
    "refused",
    "unavailable",
]

_LONGEST = 300

_BY_CODE = {
    "25006": "this is a standby or a server set to be read-only: name the primary, or all hosts",
    "26000": "a pooler took the prepared statements away: pass prepared=False",
    "42501": "grant this role SELECT, INSERT, UPDATE and DELETE on both tables, and let another "
    "role run what coatcheck.stores.postgres.schema() gives where this one may not create it",
    "42P01": "a table was dropped: create it with what coatcheck.stores.postgres.schema() gives",
    "42P05": "a pooler mixes prepared statements up: pass prepared=False",
    "57014": "another transaction may hold a lock on the row or the table: look at "
    "pg_stat_activity, or raise timeout",
    "57P01": "the server is being stopped: wait for it to be back",
    "57P02": "the server crashed and recovers: wait for it to be back",
    "57P03": "the server is not ready yet: wait for it",
    "53100": "free space on the server's disk",
    "53200": "give the server more memory",
    "53300": "raise max_connections on the server, lower pool_size, or put PgBouncer between",
}
_BY_TEXT = {
    "password authentication failed": "set the password that the server has for this user",
    "no password supplied": "give the user's password",
    "too many clients": _BY_CODE["53300"],
    "remaining connection slots": _BY_CODE["53300"],
    "starting up": _BY_CODE["57P03"],
    "shutting down": _BY_CODE["57P01"],
    "in recovery mode": _BY_CODE["57P02"],
    "read-only": _BY_CODE["25006"],
    "does not exist": "create what is missing on the server, or name another",
    "unsupported startup parameter": "let PgBouncer pass it, by ignore_startup_parameters, or "
    "leave it out",
}
_GENERAL = "look at the server, its log and the network between"


class Hurried(TimeoutError):
    """The caller had less time than a server may take, which says nothing about the server."""


def refused(code: str, message: str) -> psycopg.Error:
    """The driver's exception for an error that the server answered with."""
    try:
        kind: type[psycopg.Error] = errors.lookup(code)
    except KeyError:
        kind = psycopg.DatabaseError
    error = kind(message)
    error.sqlstate = code
    return error


def unavailable(error: Exception) -> StoreUnavailable:
    """In our words; the caller raises it `from` the driver's."""
    code = getattr(error, "sqlstate", None)
    text = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
    shown = f"{text} ({code})" if code else text
    return StoreUnavailable(
        f"PostgresStore: expected the server to answer, got {shown}; {_remedy(code, text)}"
    )


def is_broken(error: Exception) -> bool:
    """Whether the connection itself failed, or the server stopped, rather than the statement."""
    code = getattr(error, "sqlstate", None)
    return code is None or code.startswith("57P")


def is_elsewhere(error: BaseException) -> bool:
    """Whether idle connections would meet the same: the server is out of reach, or no primary."""
    if isinstance(error, TimeoutError):
        return not isinstance(error, Hurried)
    return getattr(error, "sqlstate", None) == "25006"


def kept() -> StoreUnavailable:
    return StoreUnavailable(
        "PostgresStore: expected DELETE to remove the row, got one that stayed; drop the trigger "
        "that keeps it, or give this role a policy of row security that lets it delete"
    )


def no_time(seconds: float, what: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgresStore: expected {what} within {max(seconds, 0):.2f} s, got none; {_GENERAL}, or "
        "raise the store's time-outs"
    )


def no_turn(size: int) -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgresStore: expected one of {size} connections to be free in time, got none; raise "
        "pool_size, or look at the server"
    )


def _remedy(code: str | None, text: str) -> str:
    if code in _BY_CODE:
        return _BY_CODE[code]
    return next((remedy for part, remedy in _BY_TEXT.items() if part in text), _GENERAL)
