"""Every error that coatcheck raises, in one tree.

    CoatcheckError
    ├── ConfigurationError   (also ValueError)  an option that cannot work; raised at construction
    ├── UnsupportedValue     (also TypeError)   a value that a session cannot keep exactly
    ├── SessionTooLarge      the session's values exceed `max_bytes`
    ├── CookieTooLarge       the cookie exceeds what browsers keep (4096 bytes)
    ├── LoginRefused         too many sessions, or all of the subject's just ended: 403
    ├── SessionClosed        changed during or after the commit, so the change would vanish
    └── StoreError
        ├── StoreUnavailable  the store did not answer in time, or refused for now: 503
        ├── Collision         a record of that id is already there
        └── Contention        a save lost every one of its tries: 503, nothing written

A message says what was expected, what was got, and what to do.
It never holds a token, a key or a session's value.
"""

from typing import Literal

__all__ = [
    "CoatcheckError",
    "Collision",
    "ConfigurationError",
    "Contention",
    "CookieTooLarge",
    "LoginRefused",
    "SessionClosed",
    "SessionTooLarge",
    "StoreError",
    "StoreUnavailable",
    "UnsupportedValue",
]


class CoatcheckError(Exception):
    """The root of all errors that coatcheck raises."""


class ConfigurationError(CoatcheckError, ValueError):
    """An option that cannot work, found when the object is made."""


class UnsupportedValue(CoatcheckError, TypeError):
    """A value that a session cannot keep exactly: convert it, or register a codec for its type."""


class SessionTooLarge(CoatcheckError):
    """The session's values, encoded, exceed `max_bytes`; nothing was written."""


class CookieTooLarge(CoatcheckError):
    """Its name and value exceed 4096 bytes, so browsers would drop it: nothing was sent."""


class LoginRefused(CoatcheckError):
    """A login was not let in: nothing of its request was written. The session is as it is stored,
    and anonymous where it is no more.

    `reason` is "limit" where the subject has as many sessions as they may (`Sessions(limit=…)`),
    and "revoked" where `revoke_all` ended all of theirs after the request had been opened, or the
    session ended where they were to log in once more.
    """

    def __init__(self, message: str, reason: Literal["limit", "revoked"]) -> None:
        super().__init__(message)
        self.reason = reason


class SessionClosed(CoatcheckError):
    """The session was changed when its response had begun, or while it was being committed."""


class StoreError(CoatcheckError):
    """What a store could not do."""


class StoreUnavailable(StoreError):
    """The store did not answer in time, or refused for now. The cookie stays as it is."""


class Collision(StoreError):
    """`create` found a live record of the same id."""


class Contention(StoreError):
    """Other requests of this session won every try; nothing was written."""
