"""Group commit: one thread writes what the tasks of event loops ask for.

The thread begins a transaction, takes everything that waits by then, does it, commits, and only
then answers; so that sixty-four requests pay for one commit. Whoever removes a write from
`_waiting` answers it: the thread takes it to write it, its caller to give it up after the time-out
or when cancelled. Removing is one step, so that "gave up" and "written" are never both told.

Nothing here belongs to an event loop but the writes themselves, each to its own. The thread starts
with the first write and ends with `stop`, or when it was idle for a while; being a daemon it keeps
no process alive, and what it had not yet answered when the process ends, nobody was promised.

An event loop that is never idle can keep the interpreter's lock from every other thread: it lets
go of it at each turn, but takes it back before another thread has woken up. So a loop whose writes
wait for long sleeps now and then, a millisecond in ten at most, and the thread gets on.
"""

import asyncio
import copy
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

from coatcheck.errors import StoreUnavailable
from coatcheck.stores._sqlite_database import Database, Work

__all__ = ["Writer"]

T = TypeVar("T")

_IDLE = 10.0  # seconds without a write after which the thread ends
_LONG = 0.010  # seconds
_MOMENT = 0.001


class _Write:
    __slots__ = ("deadline", "durable", "future", "timer", "work")

    def __init__(self, work: Work[Any], durable: bool, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self.work = work
        self.durable = durable
        self.deadline = time.monotonic() + timeout
        self.future: asyncio.Future[Any] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None


class Writer:
    """`do` from any event loop, one after another or at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._start()
        _writers.add(self)

    def _start(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting: dict[_Write, None] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._slept_at = 0.0

    async def do(self, work: Work[T], *, durable: bool = False) -> T:
        """What the work answers, once that is committed."""
        write = _Write(work, durable, self._database.timeout)
        try:
            self._add(write)
            self._look_after(write)
            answer: T = await write.future
            return answer
        finally:
            if write.timer is not None:
                write.timer.cancel()
            self._claim([write])  # if cancelled before the thread took it, it is never written

    def stop(self) -> None:
        """Write what waits, and end the thread. The next write starts another."""
        with self._changed:
            thread = self._thread
            self._stopping = True
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _add(self, write: _Write) -> None:
        with self._changed:
            self._waiting[write] = None
            if self._thread is None or not self._thread.is_alive():
                self._stopping = False
                self._thread = threading.Thread(
                    target=self._run, name="coatcheck-sqlite", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _claim(self, writes: Iterable[_Write]) -> list[_Write]:
        """Those of them that nobody had claimed before."""
        missing = object()
        return [write for write in writes if self._waiting.pop(write, missing) is None]

    def _look_after(self, write: _Write) -> None:
        """In the write's event loop, now and then until it is answered."""
        now = time.monotonic()
        if now >= write.deadline:
            self._give_up(write)
        if write.future.done():
            return
        if write.timer is not None and now >= self._slept_at + _LONG:
            time.sleep(_MOMENT)
            self._slept_at = time.monotonic()
        pause = min(_LONG, self._database.timeout)
        write.timer = write.future.get_loop().call_later(pause, self._look_after, write)

    def _give_up(self, write: _Write) -> None:
        if self._claim([write]) and not write.future.done():
            write.future.set_exception(
                StoreUnavailable(
                    f"SQLiteStore: expected a write to {self._database.path} to begin within "
                    f"{self._database.timeout} s, got no turn, and wrote nothing; raise timeout, "
                    "or look at the disk"
                )
            )

    def _run(self) -> None:
        while self._has_work():
            self._commit()

    def _has_work(self) -> bool:
        """Wait for some; False, once and for all, after a stop or a long pause."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping, _IDLE)
            if not self._waiting:
                self._thread = None
            return self._thread is not None

    def _commit(self) -> None:
        writes = list(self._waiting)
        durable = any(write.durable for write in writes)
        taken: list[_Write] = []
        try:
            with self._database.transaction(durable=durable) as connection:
                taken = self._take(durable)
                answers = self._attempt_all(taken, connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers get it
            taken += self._claim(writes)
            answers = [_copy(error) for _ in taken]
        _tell(taken, answers)

    def _take(self, durable: bool) -> list[_Write]:
        """Everything that waits by now and that this transaction is durable enough for."""
        return self._claim([write for write in list(self._waiting) if durable >= write.durable])

    def _attempt_all(
        self, writes: list[_Write], connection: sqlite3.Connection
    ) -> list[object | Exception]:
        return [self._database.attempt(write.work, connection) for write in writes]


def _tell(writes: list[_Write], answers: list[Any]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for write, answer in zip(writes, answers, strict=True):
        by_loop.setdefault(write.future.get_loop(), []).append((write.future, answer))
    for loop, told in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody is there to be told
            loop.call_soon_threadsafe(_resolve, told)


def _resolve(told: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in told:
        if future.done():  # its caller was cancelled
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _copy(error: Exception) -> Exception:
    """One for each caller: an exception raised in two tasks at once gathers both tracebacks."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied


def _be_born() -> None:
    """In the child of a fork: the parent's thread writes what its own tasks wait for."""
    for writer in list(_writers):
        writer._start()


_writers: WeakSet[Writer] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_be_born)
