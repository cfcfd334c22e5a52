"""What a store keeps for an id, and the one versioned byte format of it.

A store may look at `id`, `revision`, `subject`, `login_at`, `seen_at` and `expires_at`. The
`payload` is ours: a version byte, then the `Head`, whose last field is the body: the session's
values and flash messages, sealed under a key that only the cookie can derive.

    payload = 0x01 + msgpack [seed digest, proof digest, …, body]
    body    = seal(msgpack [{key: encoded value}, [[flash id, category, text], …]])

All times are whole milliseconds since the epoch, UTC. A payload whose version is higher than
ours was written by a newer release: it is left alone and handled as an outage. Fields are only
ever added at the end, with a default, so that each release reads its predecessors' payloads.
"""

from datetime import UTC, datetime

import msgspec

from coatcheck.errors import StoreUnavailable
from coatcheck.sealing import NONCE, BadSeal, Sealer

__all__ = [
    "NOISE",
    "Assurance",
    "Body",
    "Head",
    "NewerFormat",
    "Record",
    "Unreadable",
    "check_version",
    "dump",
    "encode_body",
    "load",
    "next_revision",
    "open_body",
    "read_payload",
    "to_datetime",
    "write_payload",
]

_VERSION = 1
_PREFIX = bytes([_VERSION])

NOISE = NONCE + 8
"""How many random bytes a save takes: a nonce, and the tag of its revision."""


class Unreadable(Exception):
    """The bytes are no record of ours, or were changed since we wrote them."""


class NewerFormat(StoreUnavailable):
    """The bytes were written by a newer release of coatcheck: left alone, and no reason to log
    anybody out."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One session in a store. `id` is 32 hexadecimal digits; `revision` changes at every save."""

    id: str
    revision: bytes
    subject: str | None
    login_at: int | None
    seen_at: int
    expires_at: int
    payload: bytes

    def __repr__(self) -> str:
        return f"Record({self.id!r}, subject={self.subject!r}, expires_at={self.expires_at})"


class Assurance(msgspec.Struct, frozen=True, array_like=True):
    """How sure the app is of who is logged in."""

    level: int
    methods: tuple[str, ...]
    authenticated_at: int


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What the payload says beside the session's values; nothing in it opens anything."""

    seed_digest: bytes
    proof_digest: bytes
    previous_proof: bytes | None  # the replaced proof's digest, where a renewal left it good
    proof_at: int  # when the current proof was made
    proof_seen_at: int  # when a request first used the session with it; 0 = not yet
    successors: int  # how many proofs in a row replaced the previous one and were not seen
    seed_at: int  # when the current seed was made: creation, login or rotation
    created_at: int
    deadline: int  # the hard end
    idle: int | None  # the idle timeout in milliseconds
    remember: bool  # how the login was made
    address: str | None
    agent: str | None
    body: bytes
    assurance: Assurance | None = None
    open_ended: bool | None = None  # whether each new token moves the hard end; None as configured

    def __repr__(self) -> str:
        return f"Head(created_at={self.created_at}, deadline={self.deadline})"


class Body(msgspec.Struct, frozen=True, array_like=True):
    """The session's own content. Each value is encoded by itself, so reading one decodes one."""

    values: dict[str, bytes]
    flashes: list[tuple[str, str, str]]

    def __repr__(self) -> str:
        return f"Body({len(self.values)} values, {len(self.flashes)} messages)"


_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_body = msgspec.msgpack.Decoder(Body).decode
_decode_record = msgspec.msgpack.Decoder(Record).decode


def next_revision(revision: bytes, tag: bytes) -> bytes:
    """The revision of the next save: a 4-byte counter, then a tag of 8 random bytes.

    The tag keeps two histories apart where a failover lost a save and counted it again. The
    empty revision comes before the first.
    """
    return ((int.from_bytes(revision[:4]) + 1) % 2**32).to_bytes(4) + tag


def to_datetime(milliseconds: int) -> datetime:
    """A time of a record as people are shown it: aware, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def write_payload(head: Head) -> bytes:
    return _PREFIX + _encode(head)


def read_payload(payload: bytes) -> Head:
    """The head; raises `NewerFormat` or `Unreadable`."""
    if payload[:1] != _PREFIX:
        check_version(payload)
    try:
        return _decode_head(memoryview(payload)[1:])
    except _BROKEN:
        raise Unreadable("a record's payload does not decode") from None


def encode_body(body: Body) -> bytes:
    return _encode(body)


def open_body(sealed: bytes, sealer: Sealer, id: str) -> Body:
    """The session's content; raises `Unreadable` where it was sealed for another id or changed."""
    try:
        return _decode_body(sealer.open(sealed, id.encode()))
    except (BadSeal, *_BROKEN):
        raise Unreadable("a record's body does not open") from None


def dump(record: Record) -> bytes:
    """The whole record as bytes, for stores that keep one blob for an id."""
    return _PREFIX + _encode(record)


def load(data: bytes) -> Record:
    """The inverse of `dump`; raises `NewerFormat` or `Unreadable`."""
    check_version(data)
    try:
        return _decode_record(memoryview(data)[1:])
    except _BROKEN:
        raise Unreadable("a stored record does not decode") from None


def check_version(data: bytes) -> None:
    """Raises `NewerFormat` or `Unreadable`, unless the bytes begin as ours do."""
    if not data:
        raise Unreadable("a record is empty")
    if data[0] > _VERSION:
        raise NewerFormat(
            f"expected a record of format {_VERSION} or older, got {data[0]}, which a newer "
            "release of coatcheck wrote; let this process run the newer one too"
        )
    if data[0] < _VERSION:
        raise Unreadable(f"expected record format {_VERSION}, got {data[0]}")
