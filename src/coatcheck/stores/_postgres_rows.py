"""Records to PostgreSQL's binary format and back: many at once, a column an array.

A statement over many rows takes one array for each column, and `unnest` makes rows of them again.
"""

import struct
from collections.abc import Sequence

from psycopg.pq.abc import PGresult

from coatcheck.record import Record

__all__ = [
    "RECORD",
    "hour_of",
    "integer",
    "integers",
    "next_id",
    "octets",
    "records",
    "texts",
    "uuids",
]

RECORD = ("id", "revision", "subject", "login_at", "seen_at", "expires_at", "payload")
"""The columns that `records` reads, in this order."""

_HOUR = 3_600_000
_LAST_HOUR = 2**31 - 1
_BYTEA, _INT8, _TEXT, _UUID = 17, 20, 25, 2950
_HEAD = struct.Struct("!iiIii")  # dimensions, whether there are nulls, type, length, first index
_NULL = b"\xff\xff\xff\xff"


def uuids(ids: Sequence[str]) -> bytes:
    return _array(_UUID, [bytes.fromhex(each) for each in ids])


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


def next_id(after: str) -> bytes | None:
    """The least id that is greater; None where there is none."""
    number = int(after, 16) + 1 if after else 0
    return number.to_bytes(16) if number < 2**128 else None


def records(result: PGresult, first: int = 0) -> list[Record | None]:
    """The records in columns `first` and following; None where a row has none."""
    return [_record(result, row, first) for row in range(result.ntuples)]


def _record(result: PGresult, row: int, first: int) -> Record | None:
    cell = result.get_value
    key, revision, subject, login_at, seen_at, expires_at, payload = (
        cell(row, column) for column in range(first, first + 7)
    )
    if key is None or revision is None or seen_at is None or expires_at is None or payload is None:
        return None
    return Record(
        key.hex(),
        revision,
        None if subject is None else subject.decode(),
        None if login_at is None else int.from_bytes(login_at, signed=True),
        int.from_bytes(seen_at, signed=True),
        int.from_bytes(expires_at, signed=True),
        payload,
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
