"""Base64url: one text for each bytes, and nothing else decodes."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import base64url

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(max_size=200))
def test_it_is_the_standards_encoding(raw: bytes) -> None:
    """As Python writes it, without the padding."""
    assert urlsafe_b64encode(raw).decode().rstrip("=") == base64url.encode(raw)


@given(st.binary(max_size=200))
def test_what_was_encoded_decodes(raw: bytes) -> None:
    """Round trip."""
    assert raw == base64url.decode(base64url.encode(raw))


@given(st.text(ALPHABET + "+/= \n!é\udcff", max_size=70))
def test_what_decodes_has_one_spelling(text: str) -> None:
    """No text but the one that `encode` writes."""
    raw = base64url.decode(text)

    assert raw is None or text == base64url.encode(raw)


@given(st.text(ALPHABET, max_size=70))
def test_every_good_spelling_decodes(text: str) -> None:
    """Nothing is refused that Python's own encoder writes."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raw = None
    good = raw is not None and urlsafe_b64encode(raw).decode().rstrip("=") == text

    assert (raw if good else None) == base64url.decode(text)


@pytest.mark.parametrize(
    "text", ["A", "AB", "AAB", "AA==", "AA+A", "AA/A", "AA A", "AAA\n", "éAAA", "AAAA="]
)
def test_other_spellings_are_refused(text: str) -> None:
    """Unused bits, padding, the other alphabet, blanks, other letters."""
    assert None is base64url.decode(text)
