"""Messages for the next page that are more than text, for frameworks whose users leave such.

The session keeps a message's text and its category. Any other value that a session can keep becomes
text here, with a mark before its category. Markup stays markup, so that a template does not escape
it.
"""

from base64 import b64decode, b64encode
from typing import Any

from coatcheck import values

__all__ = ["category_of", "packed", "unpacked"]

_PACKED = "\0"  # before a category: the message is not plain text

try:
    from markupsafe import Markup
except ModuleNotFoundError:  # Pyramid does without it
    Markup = None  # type: ignore[assignment, misc]
else:
    values.register(Markup, "markupsafe.Markup", encode=str, decode=Markup)


def packed(message: Any, category: str) -> tuple[str, str]:
    """What `Session.flash` takes. Raises `UnsupportedValue`."""
    if type(message) is str:
        return message, category
    if Markup is not None and hasattr(message, "__html__") and not values.codec_of(type(message)):
        # A lazy translation: its language is known now, and it is safe by its own account.
        message = Markup(message)
    return b64encode(values.encode(message)).decode(), _PACKED + category


def unpacked(text: str, category: str) -> tuple[Any, str]:
    """The message and its category, as they were given to `packed`."""
    if category.startswith(_PACKED):
        return values.decode(b64decode(text)), category_of(category)
    return text, category


def category_of(category: str) -> str:
    """The category alone, of one that `packed` may have marked."""
    return category.removeprefix(_PACKED)
