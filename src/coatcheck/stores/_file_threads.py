"""A few threads that wait for the disk instead of an event loop.

The writes that one turn of the loop asks for share them: a thread takes several at once, and does
them one after another; the file system's journal takes what several threads wait for in one go.
Whatever would have to wait for its turn goes last, so that it holds up no other.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from coatcheck import patience
from coatcheck.coalesce import Coalescer
from coatcheck.stores._file_locks import Busy, busy

__all__ = ["Threads", "Writes"]

T = TypeVar("T")

_THREADS = 8
_BATCH = 8
_GRACE = 0.5  # seconds that the disk may take for a write whose turn has come


class Writes:
    """Each write's turn comes within `timeout` seconds, or else it is not done."""

    def __init__(self, threads: "Threads", timeout: float) -> None:
        self._threads = threads
        self._timeout = timeout
        self._coalescer: Coalescer[_Write, Any] = Coalescer(
            self._send, patience=timeout + _GRACE, most=_BATCH, at_once=_THREADS
        )

    async def do(self, work: Callable[[], T]) -> T:
        """What the work answers."""
        answer: T = await self._coalescer.ask(_Write(work, self._timeout))
        return answer

    async def _send(self, writes: "Sequence[_Write]") -> Sequence[Any]:
        return await self._threads.run(partial(_carry_out, writes))


class _Write:
    """What a task asks for, and until when its turn must have come."""

    __slots__ = ("deadline", "work")

    def __init__(self, work: Callable[[], Any], timeout: float) -> None:
        self.work = work
        self.deadline = time.monotonic() + timeout

    def attempt(self, most: float) -> Any:
        """The answer or the error, after waiting so many seconds for its turn at most."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            return busy("writes")
        try:
            with patience.limit(min(left, most)):
                return self.work()
        except Exception as error:  # noqa: BLE001 - it is the caller's own
            return error


def _carry_out(writes: Sequence[_Write]) -> list[Any]:
    answers = [write.attempt(0) for write in writes]
    for number, write in enumerate(writes):
        if isinstance(answers[number], Busy):
            answers[number] = write.attempt(math.inf)
    return answers


class Threads:
    """Started on first use, anew in the child of a fork, and after `stop`."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._running(), work)

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown()

    def _running(self) -> ThreadPoolExecutor:
        pool = self._pool
        if pool is None or self._process != os.getpid():
            self._process = os.getpid()
            pool = self._pool = ThreadPoolExecutor(_THREADS, "coatcheck-file")
        return pool
