"""Group commit: one thread writes what the tasks of event loops ask for.

The thread begins a transaction, takes everything that waits by then, does it, commits, and only
then answers; so that sixty-four requests pay for one commit. Whoever removes a write from
`_waiting` answers it: the thread takes it to write it, its event loop to give it up after the
time-out. Removing is one step, so that "gave up" and "written" are never both told. A write whose
caller was cancelled by then is dropped. Where no thread is to be had, the event loop writes itself.

What one turn of an event loop asks for is handed over at its end: the thread is woken once, and one
timer looks after all of it. Until then it waits like the rest, so that a thread that is awake
anyway takes it along.

Nothing here belongs to an event loop but its turns and their futures. The thread starts with the
first write and ends with `stop`, or when it was idle for a while; being a daemon it keeps no
process alive, and what it had not yet answered when the process ends, nobody was promised.

An event loop that is never idle can keep the interpreter's lock from every other thread: it lets
go of it at each turn, but takes it back before another thread has woken up. So a loop whose writes
wait for long sleeps now and then, a millisecond in ten at most, and the thread gets on.
"""

import asyncio
import copy
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias, TypeVar
from weakref import WeakSet

from coatcheck import forks
from coatcheck.errors import StoreUnavailable
from coatcheck.stores._sqlite.database import Database, Work

__all__ = ["Writer"]

T = TypeVar("T")
_Future: TypeAlias = "asyncio.Future[Any]"

_IDLE = 10.0  # seconds without a write after which the thread ends
_LONG = 0.010  # seconds
_MOMENT = 0.001


class _Turn:
    """What one turn of an event loop asks for."""

    __slots__ = ("deadline", "futures", "loop", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.futures: list[_Future] = []
        self.deadline = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def rest(self) -> None:
        """Nobody needs to look after it once all of it is answered."""
        if self.timer is not None and all(future.done() for future in self.futures):
            self.timer.cancel()


class _Write(NamedTuple):
    turn: _Turn
    future: _Future
    work: Work[Any]
    durable: bool


class Writer:
    """`do` from any event loop, one after another or at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._start()
        _writers.add(self)

    def _start(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting: dict[_Future, _Write] = {}
        self._turn: _Turn | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._slept_at = 0.0

    def do(self, work: Work[T], *, durable: bool = False) -> "asyncio.Future[T]":
        """To be awaited for what the work answers, once that is committed."""
        forks.notice()
        loop = asyncio.get_running_loop()
        turn = self._turn
        if turn is None or turn.loop is not loop:  # another loop's turn goes on without this name
            turn = self._turn = _Turn(loop)
            loop.call_soon(self._end_turn, turn)
        future: asyncio.Future[T] = loop.create_future()
        turn.futures.append(future)
        self._waiting[future] = _Write(turn, future, work, durable)
        return future

    def stop(self) -> None:
        """Write what waits, and end the thread. The next write starts another."""
        forks.notice()
        with self._changed:
            self._wake()
            thread = self._thread
            self._stopping = True
        if thread is not None:
            thread.join()

    def _end_turn(self, turn: _Turn) -> None:
        if self._turn is turn:
            self._turn = None
        turn.deadline = time.monotonic() + self._database.timeout
        self._look_again(turn)
        with self._changed:
            self._wake()

    def _wake(self) -> None:
        """Wake the thread, or start one where something waits for it."""
        if self._waiting and (self._thread is None or not self._thread.is_alive()):
            self._stopping = False
            thread = threading.Thread(target=self._run, name="coatcheck-sqlite", daemon=True)
            try:
                thread.start()
                self._thread = thread
            except RuntimeError:  # there are too many, or the interpreter ends
                self._commit()
        self._changed.notify()

    def _claim(self, futures: Iterable[_Future]) -> list[_Write]:
        """Those of them that nobody had claimed before, without those that were cancelled."""
        writes = (self._waiting.pop(future, None) for future in futures)
        return [write for write in writes if write is not None and not write.future.cancelled()]

    def _look_again(self, turn: _Turn) -> None:
        pause = min(_LONG, self._database.timeout)
        turn.timer = turn.loop.call_later(pause, self._look_after, turn)

    def _look_after(self, turn: _Turn) -> None:
        """In the turn's event loop, now and then until all of it is answered."""
        now = time.monotonic()
        if now >= turn.deadline:
            self._give_up(turn)
        if all(future.done() and future not in self._waiting for future in turn.futures):
            return
        if now >= self._slept_at + _LONG:
            time.sleep(_MOMENT)
            self._slept_at = time.monotonic()
        self._look_again(turn)

    def _give_up(self, turn: _Turn) -> None:
        for write in self._claim(turn.futures):
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
        waiting = self._waiting.copy()
        durable = any(write.durable for write in waiting.values())
        taken: list[_Write] = []
        try:
            with self._database.transaction(durable=durable) as connection:
                taken = self._take(durable)
                answers = [self._database.attempt(write.work, connection) for write in taken]
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers get it
            taken += self._claim(waiting)
            answers = [_copy(error) for _ in taken]
        _tell(taken, answers)

    def _take(self, durable: bool) -> list[_Write]:
        """Everything that waits by now and that this transaction is durable enough for."""
        waiting = self._waiting.copy().values()
        return self._claim(write.future for write in waiting if durable >= write.durable)


def _tell(writes: list[_Write], answers: list[Any]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Write, Any]]] = {}
    for write, answer in zip(writes, answers, strict=True):
        by_loop.setdefault(write.turn.loop, []).append((write, answer))
    for loop, told in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody is there to be told
            loop.call_soon_threadsafe(_resolve, told)


def _resolve(told: list[tuple[_Write, Any]]) -> None:
    for write, answer in told:
        if write.future.done():  # its caller was cancelled
            continue
        if isinstance(answer, Exception):
            write.future.set_exception(answer)
        else:
            write.future.set_result(answer)
    for turn in {write.turn for write, _ in told}:
        turn.rest()


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
forks.in_child(_be_born)
