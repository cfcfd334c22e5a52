"""What a login says: who it is, for how long, and how sure the app is of it.

A level is a number of the app's own: the higher, the surer, such as the 1, 2 and 3 of NIST's
authenticator assurance levels (SP 800-63B-4). Methods are words, best those of RFC 8176, such as
"pwd", "otp" and "hwk".
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from coatcheck.errors import UnsupportedValue
from coatcheck.lifetime import Lifetime
from coatcheck.record import Assurance, Head, Record

__all__ = ["Kept", "Login", "checked_level", "is_subject", "kept", "login"]

_HIGHEST = 255
_MOST_METHODS, _LONGEST_METHOD = 16, 64


class Login(msgspec.Struct, frozen=True):
    """The intent to be somebody."""

    subject: str
    remember: bool
    lifetime: Lifetime | None
    level: int
    methods: tuple[str, ...]
    authenticated_at: int | None  # None is when the login is committed

    def assurance(self, now: int) -> Assurance:
        """How sure the app is, where the login is committed now."""
        at = now if self.authenticated_at is None else min(self.authenticated_at, now)
        return Assurance(self.level, self.methods, at)


class Kept(NamedTuple):
    """What a login leaves to the next of the same subject, where that says nothing of it."""

    remember: bool = False
    lifetime: Lifetime | None = None


def kept(record: Record, head: Head) -> Kept:
    """Of a login that is stored. Its own lifetime follows from when it was and when it ends."""
    if head.open_ended is None or record.login_at is None:
        return Kept(head.remember)
    absolute = None if head.open_ended else (head.deadline - record.login_at) / 1000
    idle = None if head.idle is None else head.idle / 1000
    return Kept(head.remember, Lifetime(idle=idle, absolute=absolute, remember=False))


def login(
    subject: str,
    *,
    remember: bool,
    lifetime: Lifetime | None,
    level: int,
    methods: Sequence[str],
    authenticated_at: datetime | None,
) -> Login:
    """A login of these; `UnsupportedValue` for one that cannot be."""
    if not is_subject(subject):
        raise _unsupported("a subject of 1 to 255 bytes of printable text", subject, "'user:42'")
    if lifetime is not None and not isinstance(lifetime, Lifetime):
        raise _unsupported("lifetime to be a Lifetime", lifetime, "Lifetime(idle=900)")
    return Login(
        subject,
        bool(remember),
        lifetime,
        checked_level(level),
        _checked_methods(methods),
        _milliseconds(authenticated_at),
    )


def is_subject(text: object) -> bool:
    """Whether `login` takes it."""
    if type(text) is not str:
        return False
    return text.isprintable() and 1 <= len(text.encode("utf-8", "surrogatepass")) <= 255


def checked_level(level: object) -> int:
    if type(level) is not int or not 1 <= level <= _HIGHEST:
        raise _unsupported(f"level to be a number from 1 to {_HIGHEST}", level, "2, say")
    return level


def _checked_methods(methods: object) -> tuple[str, ...]:
    given = methods if isinstance(methods, tuple | list) else None
    if given is None or len(given) > _MOST_METHODS or not all(map(_is_method, given)):
        raise _unsupported(
            f"methods to be at most {_MOST_METHODS} words of up to {_LONGEST_METHOD} characters",
            methods,
            '("pwd", "otp")',
        )
    return tuple(given)


def _is_method(word: object) -> bool:
    return is_subject(word) and isinstance(word, str) and len(word) <= _LONGEST_METHOD


def _milliseconds(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise _unsupported(
            "authenticated_at to be a datetime with a time zone", moment, "datetime.now(UTC)"
        )
    return (moment - _EPOCH) // timedelta(milliseconds=1)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _unsupported(expected: str, got: object, example: str) -> UnsupportedValue:
    return UnsupportedValue(
        f"login(): expected {expected}, got {type(got).__name__} that is not; pass {example}"
    )
