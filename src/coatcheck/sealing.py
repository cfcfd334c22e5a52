"""Authenticated encryption: AES-256-GCM with random 96-bit nonces (NIST SP 800-38D).

A `Seal` holds one session's key. A key serves one seed of one session, so it never comes near
the 2**32 messages at which random nonces wear a key out; the `KeyRing` of the cookie store
derives a key per session for the same reason.
"""

import os
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coatcheck.errors import ConfigurationError

__all__ = ["NONCE", "BadSeal", "KeyRing", "Plain", "Seal", "Sealer"]

NONCE = 12
"""How many random bytes a seal takes."""

_OVERHEAD = NONCE + 16


class BadSeal(Exception):
    """The bytes were not sealed with this key for this purpose, or were changed since."""


class Sealer(Protocol):
    """What seals a session's values, and opens them."""

    def seal(self, data: bytes, context: bytes, nonce: bytes) -> bytes: ...
    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class Seal:
    """Seals bytes under one 32-byte key; `context` is bound to them as associated data."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, data: bytes, context: bytes, nonce: bytes) -> bytes:
        """`nonce` is `NONCE` random bytes, drawn for this call and never used again."""
        return nonce + self._aead.encrypt(nonce, data, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The data, or `BadSeal`."""
        if len(sealed) < _OVERHEAD:
            raise BadSeal
        try:
            return self._aead.decrypt(sealed[:NONCE], sealed[NONCE:], context)
        except InvalidTag:
            raise BadSeal from None


class Plain:
    """No seal at all, for values that lie inside a sealed cookie already."""

    __slots__ = ()

    def seal(self, data: bytes, context: bytes, nonce: bytes) -> bytes:
        return data

    def open(self, sealed: bytes, context: bytes) -> bytes:
        return sealed


class KeyRing:
    """The cookie store's keys: the newest seals, every one opens, so keys change at leisure.

    A key is str or bytes of at least 32 bytes, such as `coatcheck key` prints. Raises
    `ConfigurationError` for a shorter one, or one that is given twice.
    """

    __slots__ = ("_keys", "_session_seal")

    def __init__(self, newest: str | bytes, *older: str | bytes) -> None:
        keys = [_key_bytes(key) for key in (newest, *older)]
        if len(set(keys)) != len(keys):
            raise ConfigurationError(
                "KeyRing: expected every key once, got one of them twice; drop the repeated one"
            )
        # A ring key may be longer than BLAKE2b's 64 bytes; its digest serves instead.
        self._keys = [_digest(key) for key in keys]
        # A browser sends the same session many times in a row.
        self._session_seal = lru_cache(_KEPT_SEALS)(_session_seal)

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys)"

    def seal(self, data: bytes, id: bytes, name: bytes, context: bytes) -> bytes:
        """Seal one session's data under the newest key."""
        return self._session_seal(self._keys[0], id, name).seal(data, context, os.urandom(NONCE))

    def open(self, sealed: bytes, id: bytes, name: bytes, context: bytes) -> bytes:
        """The data, opened with whichever key sealed it, or `BadSeal`."""
        for key in self._keys:
            try:
                return self._session_seal(key, id, name).open(sealed, context)
            except BadSeal:
                continue
        raise BadSeal


_KEPT_SEALS = 1024


def _session_seal(key: bytes, id: bytes, name: bytes) -> Seal:
    return Seal(
        blake2b(name, digest_size=32, key=key, salt=id, person=b"coatcheck cookie").digest()
    )


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=64, person=b"coatcheck ring").digest()


def _key_bytes(key: str | bytes) -> bytes:
    if not isinstance(key, str | bytes):
        raise ConfigurationError(
            f"KeyRing: expected a key of type str or bytes, got {type(key).__name__}; "
            "make one with: coatcheck key"
        )
    raw = key.encode("utf-8", "ignore") if isinstance(key, str) else bytes(key)
    if len(raw) < 32:
        raise ConfigurationError(
            f"KeyRing: expected a key of at least 32 bytes, got {len(raw)}; "
            "make one with: coatcheck key"
        )
    return raw
