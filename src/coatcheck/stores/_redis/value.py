"""A record as one Redis value: a header that scripts can read, then the payload.

     byte  0      1 as the version of this layout
           1..12  revision
          13..20  seen_at
          21..28  expires_at
          29..36  indexed_until: the subject's index holds this id until then; 0 = not yet
          37..44  login_at; 0 = none
          45      length of the subject in bytes; 0 = none
          46..    subject, then the payload

Times are whole milliseconds since the epoch, big-endian. The id is in the key alone.
"""

import struct

from coatcheck.record import NewerFormat, Record

__all__ = ["HEADER", "Part", "decode", "encode", "indexed_until", "login_of", "revision_of"]

_VERSION = 1
_header = struct.Struct(">B12sQQQQB")

HEADER = _header.size + 255
"""How many bytes a header takes at most."""

_LEAST_SLACK = 60_000

Part = tuple[int, bytes]
"""Bytes of a value, and which one they begin with, counted from 1 as scripts do."""


def indexed_until(seen_at: int, expires_at: int) -> int:
    """How long the index shall hold a record: longer than it lives, so that most of the saves and
    touches that prolong it need not write the index too."""
    return expires_at + max(expires_at - seen_at, _LEAST_SLACK)


def encode(record: Record, indexed_until: int = 0) -> bytes:
    subject = b"" if record.subject is None else record.subject.encode()
    head = _header.pack(
        _VERSION,
        record.revision,
        record.seen_at,
        record.expires_at,
        indexed_until,
        record.login_at or 0,
        len(subject),
    )
    return head + subject + record.payload


def decode(id: str, value: bytes) -> Record | None:
    """The inverse of `encode`; None for what is no record, as good as absent.

    Raises `NewerFormat` for what a newer release wrote. A value that was cut off behind its header
    decodes too, with what is left of its payload.
    """
    if value[:1] > bytes([_VERSION]):
        raise NewerFormat(
            f"RedisStore: expected a value of format {_VERSION} or older, got {value[0]}, which a "
            "newer release of coatcheck wrote; let this process run the newer one too"
        )
    try:
        version, revision, seen_at, expires_at, _, login_at, length = _header.unpack_from(value)
        ends = _header.size + length
        subject = value[_header.size : ends].decode() if length else None
    except (struct.error, UnicodeDecodeError):
        return None
    if version != _VERSION or ends > len(value):
        return None
    return Record(id, revision, subject, login_at or None, seen_at, expires_at, value[ends:])


def revision_of(record: Record) -> Part:
    """The part that changes with every save."""
    return 2, record.revision


def login_of(record: Record) -> Part:
    """The part that changes with every login."""
    return 38, encode(record)[37 : _header.size + len((record.subject or "").encode())]
