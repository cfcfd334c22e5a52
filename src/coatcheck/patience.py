"""How long the request at hand may still wait for its store.

A store bounds each of its calls. A commit may make several of them, though: one that ends a
session, a save, the save again where another request was faster, a load that settles a lost answer.
Together they may take no longer than the slowest single call, which is the store's `patience`: the
time to connect and the time for one answer. `Sessions` sets the limit, and stores that wait for a
network ask `left` before they wait. It is a context variable, so it follows a thread or a task.
"""

import math
import time
from contextvars import ContextVar, Token
from types import TracebackType

__all__ = ["left", "lift", "limit"]

_until: ContextVar[float] = ContextVar("coatcheck_until", default=math.inf)


def left(most: float) -> float:
    """Seconds that a call may take: at most `most`, and not positive where the time is up."""
    until = _until.get()
    return most if until is math.inf else min(most, until - time.monotonic())


def lift() -> None:
    """No limit from here on, in this context: what runs is no request."""
    _until.set(math.inf)


class limit:  # noqa: N801 - reads as a statement: with patience.limit(1.5)
    """Everything inside waits for `seconds` in all; None sets no limit."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._token: Token[float] | None = None

    def __enter__(self) -> None:
        if self._seconds is not None:
            self._token = _until.set(time.monotonic() + self._seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _until.reset(self._token)
