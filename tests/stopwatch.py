"""How long something took, on a machine that now and then lets nobody run.

A limit in seconds is about our code. A machine that is halted, or gives its cores to others, makes
every wait longer and proves nothing; so that time is taken off. It shows where a thread that
sleeps for moments wakes up late, and the process did not use the time itself.
"""

import threading
import time
from types import TracebackType
from typing import Self

__all__ = ["Stopwatch"]

_TICK = 0.01
_NOTABLE = 0.02  # seconds; less is how threads take turns


class Stopwatch:
    """Runs within its `with`."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._stood = 0.0
        self._began = self._seen = time.monotonic()
        self._used = time.process_time()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._look()
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """So far, or until its end."""
        if not self._ended.is_set():
            self._look()
        with self._lock:
            return self._seen - self._began - self._stood

    def _watch(self) -> None:
        while not self._ended.wait(_TICK):
            self._look()

    def _look(self) -> None:
        with self._lock:
            seen, used = time.monotonic(), time.process_time()
            late = seen - self._seen - _TICK - (used - self._used)
            if late > _NOTABLE:
                self._stood += late
            self._seen, self._used = seen, used
