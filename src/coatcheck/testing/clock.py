"""A clock that stands until it is moved."""

__all__ = ["NOW", "Clock"]

NOW = 1_800_000_000_000
"""Where a `Clock` stands at first, in milliseconds since the epoch."""


class Clock:
    """A clock that stands until it is moved; pass it as `clock=`. Seconds since the epoch."""

    def __init__(self, now: float = NOW / 1000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        """Go forwards, or back."""
        self.now += seconds
