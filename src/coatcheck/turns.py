"""Requests of one session whose save was refused take turns within a process.

Without turns, fifty requests of one session that end together refuse each other's saves in fifty
rounds; with them only other processes, and requests that were opened since, compete with the one
whose turn it is. A session that nobody waits for keeps no lock. Whoever waits has what its request
may wait for the store (`patience`), and then gets `Contention`. The child of a fork, where whoever
had a turn is not, begins with none taken.
"""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakSet

from coatcheck import forks, patience
from coatcheck.errors import Contention

__all__ = ["AsyncTurns", "Turns"]


class Turns:
    """A lock for each id that is in use, among threads."""

    def __init__(self) -> None:
        self._start()
        _every.add(self)

    def _start(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def take(self, id: str) -> Iterator[None]:
        forks.notice()
        with self._guard:
            lock, holders = self._waiting.get(id) or (threading.Lock(), 0)
            self._waiting[id] = lock, holders + 1
        try:
            left = patience.left(math.inf)
            if not lock.acquire(timeout=-1 if left is math.inf else max(0, left)):
                raise _too_late()
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, holders = self._waiting.pop(id, (lock, 0))  # nothing after a fork meanwhile
                if holders > 1:
                    self._waiting[id] = lock, holders - 1


class AsyncTurns:
    """A lock for each id that is in use, among the tasks of each event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def take(self, id: str) -> AsyncIterator[None]:
        key = (asyncio.get_running_loop(), id)
        lock, holders = self._waiting.get(key) or (asyncio.Lock(), 0)
        self._waiting[key] = lock, holders + 1
        try:
            left = patience.left(math.inf)
            try:
                async with asyncio.timeout(None if left is math.inf else left):
                    await lock.acquire()
            except TimeoutError:
                raise _too_late() from None
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, holders = self._waiting.pop(key)
            if holders > 1:
                self._waiting[key] = lock, holders - 1


def _too_late() -> Contention:
    return Contention(
        "session: expected a turn to save in time, got none, as other requests of the same session "
        "had it; answer 503 and let the client try again"
    )


def _be_born() -> None:
    """In the child of a fork."""
    for turns in list(_every):
        turns._start()


_every: WeakSet[Turns] = WeakSet()
forks.in_child(_be_born)
