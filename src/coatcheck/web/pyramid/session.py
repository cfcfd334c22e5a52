"""A `Session` as Pyramid's users know it."""

import os
from typing import Any

from pyramid.i18n import TranslationString  # type: ignore[import-untyped]
from pyramid.interfaces import ISession  # type: ignore[import-untyped]
from zope.interface import implementer  # type: ignore[import-untyped]

from coatcheck import base64url, values
from coatcheck.session import Flash, Session
from coatcheck.web.messages import category_of, packed, unpacked

__all__ = ["PyramidSession"]


@implementer(ISession)
class PyramidSession(Session):
    """A `Session` that is Pyramid's `ISession` too. Its messages have the queue for a category."""

    def __init__(self, session: Session) -> None:
        self.__dict__ = session.__dict__  # another face of the same session

    @property
    def created(self) -> int:
        """When it was first stored, or opened where it is new, in seconds since the epoch."""
        return int((self.created_at or self.opened_at).timestamp())

    @property
    def new(self) -> bool:
        return self.is_new

    def changed(self) -> None:
        """Nothing is to be done: a value changed in place is noticed."""
        self._use()

    def invalidate(self) -> None:
        """`logout()`: the session ends, and what is left is a new, empty one."""
        self.logout()

    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Leave a message for the next page that calls `pop_flash(queue)`, or `flashes()`.

        It may be any value that a session can keep, and comes back as it was.
        """
        if allow_duplicate or msg not in self.peek_flash(queue):
            super().flash(*packed(msg, queue))

    def pop_flash(self, queue: str = "") -> list[Any]:
        """The queue's messages; reading them removes them, and no others."""
        found = self._queued(queue)
        if found:
            self._change()
            stored = [flash[0] for flash in found if flash not in self._flashed]
            self._flashes_read = self._flashes_read.union(stored)
            self._flashed = tuple(flash for flash in self._flashed if flash not in found)
        return [unpacked(text, category)[0] for _, category, text in found]

    def peek_flash(self, queue: str = "") -> list[Any]:
        """The queue's messages, which stay."""
        return [unpacked(text, category)[0] for _, category, text in self._queued(queue)]

    def flashes(self) -> list[Flash]:
        """The messages of every queue; reading them removes them."""
        return [Flash(*unpacked(text, category)) for text, category in super().flashes()]

    def new_csrf_token(self) -> str:
        """A new token; the forms that hold older ones are good no longer."""
        self["_csrf_"] = os.urandom(16)
        return self.get_csrf_token()

    def get_csrf_token(self) -> str:
        """The token as it stays until login, rotation or `new_csrf_token`.

        `csrf_token` is the same one under a mask, for pages that are compressed (BREACH).
        """
        _ = self.csrf_token  # a session that has a token must exist
        return base64url.encode(bytes(16) + self._csrf_secret())

    def _csrf_secret(self) -> bytes:
        salt = int.from_bytes(self.get("_csrf_", b""))
        return (int.from_bytes(super()._csrf_secret()) ^ salt).to_bytes(16)

    def _queued(self, queue: str) -> list[tuple[str, str, str]]:
        self._use()
        unread = (*self._unread(), *self._flashed)
        return [flash for flash in unread if category_of(flash[1]) == queue]


# A message is translated where it is shown.
values.register(
    TranslationString,
    "translationstring.TranslationString",
    encode=TranslationString.__getstate__,
    decode=lambda state: TranslationString(*state),
)
