"""Seals: what was sealed opens with its key and for its purpose, and nothing else does."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError, KeyRing
from coatcheck.sealing import NONCE, BadSeal, Plain, Seal

KEY, OTHER = b"k" * 32, b"o" * 32
ID, NAME, CONTEXT = b"i" * 16, b"name", b"\x01"
DATA = st.binary(max_size=200)


def sealed_by(seal: Seal, data: bytes, context: bytes = CONTEXT) -> bytes:
    return seal.seal(data, context, os.urandom(NONCE))


def flipped(data: bytes) -> list[bytes]:
    """The data with each single bit flipped in turn."""
    number = int.from_bytes(data)
    return [(number ^ 1 << bit).to_bytes(len(data)) for bit in range(len(data) * 8)]


def opens(seal: Seal, sealed: bytes, context: bytes = CONTEXT) -> bool:
    try:
        seal.open(sealed, context)
    except BadSeal:
        return False
    return True


class TestSeal:
    @given(DATA, DATA)
    def test_what_was_sealed_opens(self, data: bytes, context: bytes) -> None:
        """Any data, in any context."""
        seal = Seal(KEY)

        assert data == seal.open(sealed_by(seal, data, context), context)

    def test_every_bit_counts(self) -> None:
        """Nonce, data and tag: one flipped bit and it stays shut."""
        seal = Seal(KEY)
        sealed = sealed_by(seal, b"some data")
        assert opens(seal, sealed)

        assert {False} == {opens(seal, each) for each in flipped(sealed)}

    def test_no_part_of_it_opens(self) -> None:
        """Nor more than it."""
        seal = Seal(KEY)
        sealed = sealed_by(seal, b"some data")
        longer = [sealed + bytes([byte]) for byte in range(256)]

        assert {False} == {opens(seal, sealed[:end]) for end in range(len(sealed))}
        assert {False} == {opens(seal, each) for each in [*longer, b"\x00" + sealed]}

    def test_another_key_or_context_does_not_open(self) -> None:
        """What was sealed for one purpose is good for no other."""
        seal = Seal(KEY)
        sealed = sealed_by(seal, b"some data")

        assert not opens(Seal(OTHER), sealed)
        assert not opens(seal, sealed, b"\x02")
        assert not opens(seal, sealed, b"")

    def test_the_data_is_not_to_be_seen(self) -> None:
        """Sealed, it is elsewhere than in the bytes; unsealed it is there."""
        assert b"some data" not in sealed_by(Seal(KEY), b"some data")
        assert b"some data" in Plain().seal(b"some data", CONTEXT, b"")

    def test_the_nonce_makes_each_seal_another(self) -> None:
        """The same data is never the same twice."""
        seal = Seal(KEY)

        assert 100 == len({sealed_by(seal, b"some data") for _ in range(100)})

    @given(DATA)
    def test_garbage_is_a_bad_seal(self, garbage: bytes) -> None:
        """Never another error."""
        assert not opens(Seal(KEY), garbage)


class TestKeyRing:
    @given(DATA, st.binary(min_size=16, max_size=16), DATA)
    def test_what_was_sealed_opens(self, data: bytes, id: bytes, name: bytes) -> None:
        """For any session of any site."""
        ring = KeyRing(KEY)

        assert data == ring.open(ring.seal(data, id, name, CONTEXT), id, name, CONTEXT)

    def test_every_bit_counts(self) -> None:
        """Whichever key of the ring is tried."""
        ring = KeyRing(KEY, OTHER)
        sealed = ring.seal(b"data", ID, NAME, CONTEXT)

        for each in flipped(sealed):
            with pytest.raises(BadSeal):
                ring.open(each, ID, NAME, CONTEXT)

    @pytest.mark.parametrize(
        ("id", "name", "context"),
        [(b"j" * 16, NAME, CONTEXT), (ID, b"other", CONTEXT), (ID, NAME, b"\x02")],
    )
    def test_it_opens_for_nothing_else(self, id: bytes, name: bytes, context: bytes) -> None:
        """Not for another session, another site, or another purpose."""
        ring = KeyRing(KEY)
        sealed = ring.seal(b"data", ID, NAME, CONTEXT)
        with pytest.raises(BadSeal):
            ring.open(sealed, id, name, context)

    def test_older_keys_open(self) -> None:
        """What was sealed before the newest key came is still good."""
        sealed = KeyRing(OTHER).seal(b"data", ID, NAME, CONTEXT)

        assert b"data" == KeyRing(KEY, b"x" * 32, OTHER).open(sealed, ID, NAME, CONTEXT)

    def test_the_newest_key_seals(self) -> None:
        """Of several, the first; the older one alone opens it no more."""
        sealed = KeyRing(KEY, OTHER).seal(b"data", ID, NAME, CONTEXT)
        with pytest.raises(BadSeal):
            KeyRing(OTHER).open(sealed, ID, NAME, CONTEXT)

        assert b"data" == KeyRing(KEY).open(sealed, ID, NAME, CONTEXT)

    def test_a_dropped_key_does_not_open(self) -> None:
        """Dropping a key ends all that it sealed."""
        sealed = KeyRing(OTHER).seal(b"data", ID, NAME, CONTEXT)
        with pytest.raises(BadSeal):
            KeyRing(KEY).open(sealed, ID, NAME, CONTEXT)

    def test_text_and_bytes_are_the_same_key(self) -> None:
        """So a key may come from a file or from the environment."""
        sealed = KeyRing("ü" * 16).seal(b"data", ID, NAME, CONTEXT)

        assert b"data" == KeyRing("ü".encode() * 16).open(sealed, ID, NAME, CONTEXT)

    @pytest.mark.parametrize("key", ["k" * 31, b"k" * 31, "", b""])
    def test_a_short_key_is_refused(self, key: str | bytes) -> None:
        """With its length, and how to make one."""
        with pytest.raises(ConfigurationError, match=rf"32 bytes, got {len(key)}.*coatcheck key"):
            KeyRing(KEY, key)

    @pytest.mark.parametrize(
        "key", [None, 7, ["k" * 32], "\ud800" * 32], ids=["none", "int", "list", "surrogates"]
    )
    def test_what_is_no_key_is_refused(self, key: object) -> None:
        """As a configuration error, whatever it is."""
        with pytest.raises(ConfigurationError, match="coatcheck key"):
            KeyRing(key)  # type: ignore[arg-type]

    def test_a_key_given_twice_is_refused(self) -> None:
        """As text or as bytes: somebody meant another."""
        with pytest.raises(ConfigurationError, match="twice"):
            KeyRing("k" * 32, OTHER, b"k" * 32)

    def test_long_keys_differ_to_their_end(self) -> None:
        """No byte of a key is cut off."""
        sealed = KeyRing(b"k" * 100 + b"1").seal(b"data", ID, NAME, CONTEXT)
        with pytest.raises(BadSeal):
            KeyRing(b"k" * 100 + b"2").open(sealed, ID, NAME, CONTEXT)

    def test_no_key_in_a_repr_or_an_error(self) -> None:
        """Only how many there are."""
        assert "KeyRing(2 keys)" == repr(KeyRing("a secret key " * 3, OTHER))
        with pytest.raises(ConfigurationError) as refused:
            KeyRing("a secret key")
        assert "secret" not in str(refused.value)
