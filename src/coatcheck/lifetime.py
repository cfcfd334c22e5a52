"""How long a session lives, as one value from which cookie, record and store all take their times.

`idle` counts from when the session was last used; `absolute` from its creation, then from each
login. A browser keeps no cookie longer than 400 days (RFC 6265bis, section 5.5), so a session
without an absolute limit ends 400 days after its last token was sent: no record outlives its
cookie.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from coatcheck.errors import ConfigurationError

__all__ = ["AAL1", "AAL2", "AAL3", "LONGEST", "Lifetime", "Span"]

LONGEST = 400 * 86_400_000
"""400 days in milliseconds: the longest that browsers keep a cookie."""

_TOUCHES_PER_IDLE = 20
_TOUCH_WITHOUT_IDLE = 3_600_000 // _TOUCHES_PER_IDLE

Span = int | float | timedelta | None


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Seconds or timedelta; None is no limit. `remember=True` at login makes both `remember`, or
    leaves them as they are where that is False.

    Raises `ConfigurationError` for a limit that is not positive or is longer than 400 days.
    """

    idle: Span = 3600
    absolute: Span = 86_400
    remember: Span | Literal[False] = 30 * 86_400

    def __post_init__(self) -> None:
        milliseconds("idle", self.idle)
        milliseconds("absolute", self.absolute)
        if self.remember is not False:
            milliseconds("remember", self.remember)

    def idle_ms(self, remember: bool) -> int | None:
        """The idle timeout in milliseconds, or None."""
        return milliseconds("idle", self._of(self.idle, remember))

    def deadline(self, since: int, remember: bool) -> int:
        """The hard end of a session created, logged in or given a token at `since`."""
        absolute = milliseconds("absolute", self._of(self.absolute, remember))
        return since + (LONGEST if absolute is None else absolute)

    def is_open_ended(self, remember: bool) -> bool:
        """Whether there is no absolute limit but the browser's own."""
        return self._of(self.absolute, remember) is None

    def _of(self, limit: Span, remember: bool) -> Span:
        return self.remember if remember and self.remember is not False else limit


def expiry(seen_at: int, idle: int | None, deadline: int) -> int:
    """When a session last seen then ends: the one number that record and store share."""
    return deadline if idle is None else min(seen_at + idle, deadline)


def touch_interval(idle: int | None) -> int:
    """How old last-seen may grow before it is written again: a twentieth of the idle time."""
    return _TOUCH_WITHOUT_IDLE if idle is None else max(1, idle // _TOUCHES_PER_IDLE)


def milliseconds(field: str, span: Span) -> int | None:
    """The span as whole milliseconds; `ConfigurationError` where it cannot be a limit."""
    if span is None:
        return None
    if isinstance(span, bool) or not isinstance(span, int | float | timedelta):
        raise ConfigurationError(
            f"Lifetime.{field}: expected seconds, a timedelta or None, got {type(span).__name__}; "
            "give a number such as 3600"
        )
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if not 1 <= seconds <= LONGEST / 1000:
        raise ConfigurationError(
            f"Lifetime.{field}: expected 1 second to 400 days (34560000 s), got {seconds} s; "
            "browsers keep no cookie longer; None means no limit of ours"
        )
    return round(seconds * 1000)


AAL1 = Lifetime(idle=None, absolute=30 * 86_400, remember=False)
"""NIST SP 800-63B-4, authenticator assurance level 1: at most 30 days, any time unused."""

AAL2 = Lifetime(idle=3600, absolute=86_400, remember=False)
"""Level 2: at most 24 hours, and 1 hour unused."""

AAL3 = Lifetime(idle=900, absolute=43_200, remember=False)
"""Level 3: at most 12 hours, and 15 minutes unused."""
