"""The token: what the browser holds.

48 random bytes, written as 64 characters of base64url: `id` (16 bytes) names the session and is
no secret; `seed` (16) and `proof` (16) never leave the cookie. The record keeps a digest of each.

    seed  ──▶ the key that seals the session's values    (changes at login and rotation)
          ──▶ its digest, which the record keeps
          ──▶ the CSRF secret
    proof ──▶ its digest, which the record keeps         (changes at renewal too)

All derivations are BLAKE2b (RFC 7693) of the name of the `Sessions`, the id and the secret, with
`person` for domain separation as in libsodium's `crypto_kdf`; so two sites on one store never
accept each other's tokens. The secret stands in the message and not in BLAKE2b's `key`, which would
cost a second block: id and secret have fixed lengths and BLAKE2b cannot be extended, so the one is
as good as the other. A digest is as long as the secret it stands for: 128 bits, twice what NIST
SP 800-63B-4 asks, and what OWASP ASVS 7.2.3 asks of a token.
"""

import os
from hashlib import blake2b
from hmac import compare_digest

import msgspec

from coatcheck import base64url

__all__ = ["LENGTH", "Domain", "Token", "check_csrf", "mask_csrf", "mint", "nonce", "parse"]

LENGTH = 64
"""How many characters a token has."""


class Token(msgspec.Struct, frozen=True):
    """`id` is 32 lower-case hexadecimal digits; `seed` and `proof` are 16 secret bytes each."""

    id: str
    seed: bytes
    proof: bytes

    def __repr__(self) -> str:
        return f"Token(id={self.id!r}, seed=…, proof=…)"

    def text(self) -> str:
        """The 64 characters that the cookie carries."""
        return base64url.encode(bytes.fromhex(self.id) + self.seed + self.proof)

    def renewed(self) -> "Token":
        """The same id and seed with a new proof."""
        return Token(self.id, self.seed, os.urandom(16))

    def moved(self) -> "Token":
        """The same seed and proof under a new id."""
        return Token(os.urandom(16).hex(), self.seed, self.proof)


def mint(id: str | None = None) -> Token:
    """A new token; with an id, the next token of that session."""
    raw = os.urandom(48)
    return Token(raw[:16].hex() if id is None else id, raw[16:32], raw[32:])


def nonce() -> str:
    """A short random name for something inside a session, such as a flash message."""
    return os.urandom(6).hex()


def parse(text: str) -> Token | None:
    """The token that a cookie value spells, or None where it has not a token's exact shape."""
    raw = base64url.decode(text) if len(text) == LENGTH else None
    if raw is None:
        return None
    return Token(raw[:16].hex(), raw[16:32], raw[32:])


class Domain:
    """What tokens turn into for the `Sessions` of one name."""

    __slots__ = ("_csrf", "_proof", "_seed", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        # States that have taken the name in already; a copy of one costs next to nothing.
        self._seed = blake2b(name, digest_size=48, person=b"coatcheck seed")
        self._proof = blake2b(name, digest_size=16, person=b"coatcheck proof")
        self._csrf = blake2b(name, digest_size=16, person=b"coatcheck csrf")

    def derive(self, token: Token) -> tuple[bytes, bytes]:
        """From the seed: the 32-byte sealing key, and the 16-byte digest that the record keeps.

        They are two parts of one BLAKE2b output, so knowing the digest says nothing of the key.
        """
        state = self._seed.copy()
        state.update(bytes.fromhex(token.id) + token.seed)
        both = state.digest()
        return both[:32], both[32:]

    def prove(self, token: Token) -> bytes:
        """The 16-byte digest of the proof."""
        state = self._proof.copy()
        state.update(bytes.fromhex(token.id) + token.proof)
        return state.digest()

    def csrf_secret(self, seed: bytes) -> bytes:
        """The 16 bytes that a CSRF token masks; like the seed they change at login and rotation."""
        state = self._csrf.copy()
        state.update(seed)
        return state.digest()


def mask_csrf(secret: bytes) -> str:
    """The secret under a one-time mask, so that compressed pages do not leak it (BREACH)."""
    mask = os.urandom(16)
    return base64url.encode(mask + _xor(mask, secret))


def check_csrf(text: str, secret: bytes) -> bool:
    """Whether the text unmasks to the secret, compared in constant time; garbage is False."""
    raw = base64url.decode(text)
    return raw is not None and len(raw) == 32 and compare_digest(_xor(raw[:16], raw[16:]), secret)


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(16)
