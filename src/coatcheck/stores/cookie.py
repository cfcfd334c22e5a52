"""The cookie store: no record on the server, the whole session sealed in its cookie.

    value = base64url( 0x01 + id (16) + nonce (12) + AES-256-GCM(msgpack [seed, subject, …]) )

The key of each session is derived from the ring's key, its id and the name of the `Sessions`, so
no number of sessions wears a key out. Inside this is no store but a *carrier*, which `lifecycle`
asks to seal and open cookie values.

What it cannot promise: the answer that arrives last wins whole, so concurrent changes of different
keys can be lost (law 2); and whoever holds a cookie can come back with an older state of it. It
is sealed again only on a write, so `idle` counts from writes. With `revocations=` another store,
logout, login and a level that falls end the old cookie for good (laws 1 and 5): the ids that ended
are kept there until their hard end, and for `revoke_all` a mark for each subject (`lifecycle.marks`
says how it goes by clocks). That costs one read a request, or two where somebody is logged in.
Without, an ended session's cookie opens until it expires.
"""

import msgspec

from coatcheck import base64url
from coatcheck.errors import ConfigurationError
from coatcheck.record import Record
from coatcheck.sealing import BadSeal, KeyRing
from coatcheck.store import AsyncStore, Store
from coatcheck.token import Token

__all__ = ["AsyncCookieStore", "CookieStore"]

_VERSION = b"\x01"
_LONGEST = 4096
_SHORTEST = len(_VERSION) + 16 + 12 + 16


class _Content(msgspec.Struct, frozen=True, array_like=True):
    seed: bytes
    subject: str | None
    login_at: int | None
    seen_at: int
    expires_at: int
    payload: bytes

    def __repr__(self) -> str:
        return f"_Content(subject={self.subject!r}, …)"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


class _Carrier:
    def __init__(self, keys: KeyRing, revocations: object) -> None:
        if not isinstance(keys, KeyRing):
            raise ConfigurationError(
                f"CookieStore: expected a KeyRing, got {type(keys).__name__}; "
                "pass KeyRing(key) with a key that `coatcheck key` made"
            )
        if revocations is not None and not callable(getattr(revocations, "load", None)):
            raise ConfigurationError(
                "CookieStore: expected revocations to be a store or None, got "
                f"{type(revocations).__name__}; pass a store, such as SQLiteStore(path)"
            )
        if getattr(revocations, "evicts", False):
            raise ConfigurationError(
                "CookieStore: expected revocations to be a store that keeps what it took, got "
                f"{type(revocations).__name__}, which forgets when it is full, and an ended "
                "session would come back; pass another store, such as RedisStore(client)"
            )
        self._keys = keys

    def seal(self, token: Token, record: Record, name: bytes) -> str:
        content = _Content(
            token.seed,
            record.subject,
            record.login_at,
            record.seen_at,
            record.expires_at,
            record.payload,
        )
        raw_id = bytes.fromhex(record.id)
        sealed = self._keys.seal(_encode(content), raw_id, name, _VERSION)
        return base64url.encode(_VERSION + raw_id + sealed)

    def open(self, value: str, name: bytes) -> tuple[Token, Record] | None:
        raw = base64url.decode(value) if len(value) <= _LONGEST else None
        if raw is None or len(raw) <= _SHORTEST or raw[:1] != _VERSION:
            return None
        raw_id = raw[1:17]
        try:
            content = _decode(self._keys.open(raw[17:], raw_id, name, _VERSION))
        except (BadSeal, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        token = Token(raw_id.hex(), content.seed, b"")
        return token, Record(
            token.id,
            b"",
            content.subject,
            content.login_at,
            content.seen_at,
            content.expires_at,
            content.payload,
        )


class CookieStore(_Carrier):
    """`CookieStore(keys, revocations=…)`: a store in which ended ids are kept, or None.

    None is a deliberate choice: then logout deletes the cookie in this browser, and a copy of it
    works until it expires.
    """

    def __init__(self, keys: KeyRing, *, revocations: Store | None) -> None:
        super().__init__(keys, revocations)
        self.revocations = revocations


class AsyncCookieStore(_Carrier):
    """`CookieStore` beside an asynchronous store."""

    def __init__(self, keys: KeyRing, *, revocations: AsyncStore | None) -> None:
        super().__init__(keys, revocations)
        self.revocations = revocations
