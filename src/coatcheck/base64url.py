"""Base64url without padding (RFC 4648, section 5), and strict: one text for each bytes.

Python's own decoder passes over characters that are not base64, takes both alphabets, and ignores
the unused bits of the last character; a token or a seal must have no second spelling.
"""

from binascii import Error, a2b_base64, b2a_base64

__all__ = ["decode", "encode"]

_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING = (b"", b"===", b"==", b"=")  # one character too many can never decode


def encode(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).translate(_TO_URLSAFE).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes | None:
    """The bytes that `encode` turns into exactly this text, or None where there are none."""
    try:
        standard = text.encode("ascii").translate(_TO_STANDARD)
        raw = a2b_base64(standard + _PADDING[len(standard) % 4], strict_mode=True)
    except (UnicodeEncodeError, Error):
        return None
    unused = len(raw) % 3
    return raw if not unused or text.endswith(encode(raw[-unused:])) else None
