"""A few threads that wait for the disk instead of an event loop.

The writes that one turn of the loop asks for share them: a thread takes several at once, and does
them one after another; the file system's journal takes what several threads wait for in one go.
Whatever would have to wait for its turn goes last, and waits in its thread for a moment only; then
its task sleeps, and asks again. So a branch that another process keeps locked holds up no other.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from coatcheck import patience
from coatcheck.coalesce import Coalescer
from coatcheck.stores._file.locks import Busy, busy
from coatcheck.stores._threads import Threads

__all__ = ["THREADS", "Writes"]

T = TypeVar("T")

THREADS = 8
_BATCH = 8
_MOMENT = 0.005  # seconds, many times what a write takes
_PAUSE = 0.05
_GRACE = 0.5  # seconds that the disk may take for a write whose turn has come


class Writes:
    """Each write's turn comes within `timeout` seconds, or else it is not done."""

    def __init__(self, threads: Threads, timeout: float) -> None:
        self._threads = threads
        self._timeout = timeout
        self._coalescer: Coalescer[_Write, Any] = Coalescer(
            self._send, patience=timeout + _GRACE, most=_BATCH, at_once=THREADS
        )

    async def do(self, work: Callable[[], T]) -> T:
        """What the work answers."""
        write = _Write(work, self._timeout)
        with patience.limit(patience.left(self._coalescer.patience)):
            while True:
                try:
                    answer: T = await self._coalescer.ask(write)
                    return answer
                except Busy:
                    if time.monotonic() >= write.deadline:
                        raise
                await asyncio.sleep(_PAUSE)

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
            answers[number] = write.attempt(_MOMENT)
    return answers
