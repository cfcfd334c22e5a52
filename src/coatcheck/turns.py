"""Requests of one session whose save was refused take turns within a process.

Without turns, fifty requests of one session that end together refuse each other's saves in fifty
rounds; with them only other processes, and requests that were opened since, compete with the one
whose turn it is. A session that nobody waits for keeps no lock.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager

__all__ = ["AsyncTurns", "Turns"]


class Turns:
    """A lock for each id that is in use, among threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def take(self, id: str) -> Iterator[None]:
        with self._guard:
            lock, holders = self._waiting.get(id) or (threading.Lock(), 0)
            self._waiting[id] = lock, holders + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, holders = self._waiting.pop(id)
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
            async with lock:
                yield
        finally:
            lock, holders = self._waiting.pop(key)
            if holders > 1:
                self._waiting[key] = lock, holders - 1
