"""Which files this process opens connections to at this moment.

Of one file one thread at a time, so that nobody has it open while another creates it or looks at
it. Files do not wait for each other. A fork waits for all of them, and keeps them from beginning
until it is over.
"""

import threading
import time
from weakref import WeakValueDictionary

from coatcheck.stores._fair_lock import FairLock

__all__ = ["Openings"]


class Openings:
    """`begin` and `end` around opening a file; `stop` and `go_on` around a fork. Thread-safe."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._turns: WeakValueDictionary[str, FairLock] = WeakValueDictionary()

    def begin(self, file: str, timeout: float) -> FairLock | None:
        """The turn to open it, which is to be ended; None where it does not come in time."""
        deadline = time.monotonic() + timeout
        with self._changed:
            if not self._changed.wait_for(lambda: not self._stopped, timeout):
                return None
            self.files.append(file)
            turn = self._turns.setdefault(file, FairLock())
        if turn.acquire(timeout=max(0, deadline - time.monotonic())):
            return turn
        self._forget(file)
        return None

    def end(self, file: str, turn: FairLock) -> None:
        turn.release()
        self._forget(file)

    def stop(self, deadline: float) -> None:
        """Let nobody begin, and wait until then for those that did."""
        with self._changed:
            self._stopped = True
            self._changed.wait_for(lambda: not self.files, max(0, deadline - time.monotonic()))

    def go_on(self) -> None:
        with self._changed:
            self._stopped = False
            self._changed.notify_all()

    def _forget(self, file: str) -> None:
        with self._changed:
            self.files.remove(file)
            self._changed.notify_all()
