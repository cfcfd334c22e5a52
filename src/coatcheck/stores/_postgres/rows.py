"""Records to PostgreSQL's binary format and back: many at once, a column an array.

A statement over many rows takes one array for each column, and `unnest` makes rows of them again.
"""

import struct
from collections.abc import Sequence

from psycopg.pq.abc import PGresult

from coatcheck.record import Record

__all__ = [
    "RECORD",
    "can_be",
    "hour_of",
    "integer",
    "integers",
    "key_of",
    "next_key",
    "octets",
    "records",
    "texts",
    "uuids",
]

RECORD = ("id", "revision", "subject", "login_at", "seen_at", "expires_at", "payload")
"""The columns that `records` reads, in this order."""

_HOUR = 3_600_000
_LAST_HOUR = 2**31 - 1
_KEY = 16  # bytes
_BYTEA, _INT8, _TEXT, _UUID = 17, 20, 25, 2950
_HEAD = struct.Struct("!iiIii")  # dimensions, whether there are nulls, type, length, first index
_NULL = b"\xff\xff\xff\xff"


def key_of(id: str) -> bytes:
    """An id as the server has it. Raises ValueError, before it could spoil a batch of others."""
    key = bytes.fromhex(id)
    if len(key) != _KEY:
        raise ValueError(f"PostgresStore: expected an id of 32 digits, got {len(id)} characters")
    return key


def uuids(keys: Sequence[bytes]) -> bytes:
    return _array(_UUID, keys)


def octets(values: Sequence[bytes]) -> bytes:
    return _array(_BYTEA, values)


def texts(values: Sequence[str | None]) -> bytes:
    return _array(_TEXT, [None if value is None else value.encode() for value in values])


def integers(values: Sequence[int | None]) -> bytes:
    return _array(_INT8, [None if value is None else integer(value) for value in values])


def integer(value: int) -> bytes:
    return value.to_bytes(8, signed=True)


def hour_of(expires_at: int) -> int:
    """The hour since the epoch by whose beginning it has expired: what sweeps are indexed by."""
    return min(-(-expires_at // _HOUR), _LAST_HOUR)


def next_key(after: str) -> bytes | None:
    """The least id that is greater; None where there is none."""
    number = int.from_bytes(key_of(after)) + 1 if after else 0
    return number.to_bytes(_KEY) if number >> 8 * _KEY == 0 else None


def can_be(subject: str) -> bool:
    """Whether there is such a text in PostgreSQL."""
    try:
        return b"\0" not in subject.encode()
    except UnicodeEncodeError:
        return False


def records(result: PGresult, first: int = 0) -> dict[bytes, Record]:
    """Those in columns `first` and following, by their key; some rows may have none."""
    found = {}
    cell = result.get_value
    for row in range(result.ntuples):
        key = cell(row, first)
        if key is not None:
            found[key] = _record(key, [cell(row, first + column) for column in range(1, 7)])
    return found


def _record(key: bytes, cells: Sequence[bytes | None]) -> Record:
    revision, subject, login_at, seen_at, expires_at, payload = cells
    return Record(
        key.hex(),
        revision or b"",
        None if subject is None else subject.decode(),
        None if login_at is None else int.from_bytes(login_at, signed=True),
        int.from_bytes(seen_at or b"", signed=True),
        int.from_bytes(expires_at or b"", signed=True),
        payload or b"",
    )


def _array(kind: int, cells: Sequence[bytes | None]) -> bytes:
    parts = [_HEAD.pack(1, 1, kind, len(cells), 1)]
    for cell in cells:
        if cell is None:
            parts.append(_NULL)
        else:
            parts.append(len(cell).to_bytes(4))
            parts.append(cell)
    return b"".join(parts)
