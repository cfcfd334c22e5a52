"""A lock among threads that whoever waited longest gets."""

import threading
from collections import deque
from contextlib import suppress

__all__ = ["FairLock"]


class FairLock:
    """It is handed over, never free in between, so that nobody starves."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float = -1) -> bool:
        with self._guard:
            if not self._held:
                self._held = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        return turn.acquire(timeout=timeout) or not self._give_up(turn)

    def release(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    def _give_up(self, turn: threading.Lock) -> bool:
        """False where the lock was handed over just now."""
        with self._guard, suppress(ValueError):
            self._waiting.remove(turn)
            return True
        return False
