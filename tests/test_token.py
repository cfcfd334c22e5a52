"""Tokens: what the browser holds, and what is derived of it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import token as tokens
from coatcheck.token import Domain, Token

SECRETS = st.binary(min_size=16, max_size=16)
TOKENS = st.builds(Token, SECRETS.map(bytes.hex), SECRETS, SECRETS)


@given(TOKENS)
def test_a_token_is_what_its_text_says(token: Token) -> None:
    """Text and token are one to one: 64 characters of base64url, id first."""
    text = token.text()

    assert token == tokens.parse(text)
    assert tokens.LENGTH == len(text)
    assert text == urlsafe_b64encode(bytes.fromhex(token.id) + token.seed + token.proof).decode()


@given(TOKENS, st.integers(0, 64 * 8 - 1))
def test_every_bit_of_the_text_counts(token: Token, bit: int) -> None:
    """One flipped bit makes another token or none, never the same one."""
    raw = bytearray(token.text().encode())
    raw[bit // 8] ^= 1 << bit % 8

    assert token != tokens.parse(raw.decode("latin-1"))


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    """What has not a token's exact shape is None."""
    assert None is tokens.parse(text) or text == (tokens.parse(text) or tokens.mint()).text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 63,
        "A" * 65,
        "A" * 64 + "\n",
        "\n" + "A" * 64,
        "A" * 63 + "=",
        "A" * 63 + "+",
        "A" * 63 + "/",
        "A" * 63 + " ",
        "A" * 63 + "é",
        "A" * 63 + "\u0661",
        "\uff21" * 64,
        "\x00" * 64,
    ],
)
def test_only_the_exact_shape_is_a_token(text: str) -> None:
    """No padding, no other alphabet, no other length, no other script's digits."""
    assert None is tokens.parse(text)
    assert tokens.parse("A" * 64) is not None


def test_tokens_are_minted_apart() -> None:
    """Nothing of one token is in another."""
    minted = [tokens.mint() for _ in range(100)]
    parts = {part for token in minted for part in (token.id, token.seed, token.proof)}

    assert 300 == len(parts)


def test_the_next_token_of_a_session_keeps_its_id_alone() -> None:
    """A login changes seed and proof."""
    first = tokens.mint()
    second = tokens.mint(first.id)

    assert (first.id, True, True) == (
        second.id,
        first.seed != second.seed,
        first.proof != second.proof,
    )


def test_a_renewed_token_changes_its_proof_alone() -> None:
    """So the values need not be sealed anew."""
    first = tokens.mint()
    second = first.renewed()

    assert (first.id, first.seed) == (second.id, second.seed)
    assert first.proof != second.proof


def test_a_moved_token_changes_its_id_alone() -> None:
    """So a CSRF token that was shown already stays good."""
    first = tokens.mint()
    second = first.moved()

    assert (first.seed, first.proof) == (second.seed, second.proof)
    assert first.id != second.id


def test_no_secret_in_a_repr() -> None:
    """A token that ends in a log line opens nothing; the id may be there."""
    token = tokens.mint()
    shown = repr(token)

    assert token.id in shown
    for secret in (repr(token.seed), repr(token.proof), token.seed.hex(), token.text()[22:]):
        assert secret not in shown


@given(TOKENS)
def test_derivations_are_pure(token: Token) -> None:
    """The same name and token give the same key and digests, whichever object is asked."""
    one, other = Domain(b"name"), Domain(b"name")

    assert one.derive(token) == one.derive(token) == other.derive(token)
    assert one.prove(token) == other.prove(token)
    assert one.csrf_secret(token.seed) == other.csrf_secret(token.seed)


@given(TOKENS)
def test_everything_derived_is_apart(token: Token) -> None:
    """Key, digests and CSRF secret share nothing, and hold no part of the token."""
    domain = Domain(b"name")
    key, digest = domain.derive(token)
    derived = [key[:16], key[16:], digest, domain.prove(token), domain.csrf_secret(token.seed)]

    assert [16] * 5 == [len(each) for each in derived]
    assert 7 == len({*derived, token.seed, token.proof}) + (token.seed == token.proof)


@given(TOKENS, TOKENS, st.binary(max_size=20), st.binary(max_size=20))
def test_derivations_depend_on_name_id_and_secret(
    token: Token, other: Token, name: bytes, another: bytes
) -> None:
    """Change any one of them and all that is derived changes."""
    here = Domain(name)
    if name != another:
        assert here.derive(token)[0] != Domain(another).derive(token)[0]
        assert here.derive(token)[1] != Domain(another).derive(token)[1]
        assert here.prove(token) != Domain(another).prove(token)
        assert here.csrf_secret(token.seed) != Domain(another).csrf_secret(token.seed)
    if token.id != other.id:
        moved = Token(other.id, token.seed, token.proof)
        assert here.derive(token)[0] != here.derive(moved)[0]
        assert here.prove(token) != here.prove(moved)
    if token.seed != other.seed:
        assert here.derive(token)[1] != here.derive(Token(token.id, other.seed, token.proof))[1]
        assert here.csrf_secret(token.seed) != here.csrf_secret(other.seed)
    if token.proof != other.proof:
        assert here.prove(token) != here.prove(Token(token.id, token.seed, other.proof))


def test_a_proof_says_nothing_of_the_seed() -> None:
    """Renewal changes the proof's digest and neither the key nor the seed's digest."""
    domain, token = Domain(b"name"), tokens.mint()
    renewed = token.renewed()

    assert domain.derive(token) == domain.derive(renewed)
    assert domain.prove(token) != domain.prove(renewed)


@given(SECRETS)
def test_a_masked_csrf_token_is_good(secret: bytes) -> None:
    """And looks different each time, so that compressed pages do not leak it."""
    one, other = tokens.mask_csrf(secret), tokens.mask_csrf(secret)

    assert one != other
    assert [True, True] == [tokens.check_csrf(text, secret) for text in (one, other)]


@given(SECRETS, st.integers(0, 32 * 8 - 1))
def test_every_bit_of_a_csrf_token_counts(secret: bytes, bit: int) -> None:
    """Mask and masked alike."""
    text = tokens.mask_csrf(secret)
    raw = bytearray(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    again = urlsafe_b64encode(raw).decode()[: len(text)]
    raw[bit // 8] ^= 1 << bit % 8
    flipped = urlsafe_b64encode(raw).decode()[: len(text)]

    assert [True, False] == [tokens.check_csrf(each, secret) for each in (again, flipped)]


@given(st.text(max_size=50))
def test_a_garbled_csrf_token_is_false(text: str) -> None:
    """Whatever a form sends."""
    assert False is tokens.check_csrf(text, b"s" * 16)


def test_nonces_are_apart() -> None:
    """Short names for messages."""
    assert 1000 == len({tokens.nonce() for _ in range(1000)})
