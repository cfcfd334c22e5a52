"""Base64url without padding (RFC 4648, section 5), and strict: one text for each bytes.

Python's own decoder passes over characters that are not base64, takes both alphabets, and ignores
the unused bits of the last character; a token or a seal must have no second spelling. msgspec's is
stricter and faster; what it still lets pass is checked here.
"""

import msgspec

__all__ = ["decode", "encode"]

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# By length modulo 4: the padding, and the last characters whose unused bits are zero.
_PADDING = ("", None, "==", "=")
_LAST = (_ALPHABET, "", _ALPHABET[::16], _ALPHABET[::4])


def encode(raw: bytes) -> str:
    text: str = msgspec.to_builtins(raw)
    return text.rstrip("=").replace("+", "-").replace("/", "_")


def decode(text: str) -> bytes | None:
    """The bytes that `encode` turns into exactly this text, or None where there are none."""
    rest = len(text) % 4
    padding = _PADDING[rest]
    if padding is None or not text.isascii() or "+" in text or "/" in text or "=" in text:
        return None
    if text and text[-1] not in _LAST[rest]:
        return None
    try:
        return msgspec.convert(text.replace("-", "+").replace("_", "/") + padding, bytes)
    except msgspec.ValidationError:
        return None
