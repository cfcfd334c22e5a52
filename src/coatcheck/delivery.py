"""How events reach `on_event` without the request waiting for it.

A plain function is called by a thread of its own, an asynchronous one by a task of the event loop
that told the event; either one event after another, in the order in which they were told, and in a
copy of the teller's context, so that a request id in a context variable is the request's. What
waits is bounded: where the function is too slow for what happens, the newest events are dropped,
and the log says how many.

The thread begins with the first event, and ends when none came for a while, when it is asked to, or
when its sessions are no more; the next event begins another. Where no thread is to be had, as at
the exit of Python 3.12, whoever waits for the events delivers them. A task ends when nothing waits.
Where its loop ends before that, the next loop delivers what is left; what was cut off, from its
beginning. The child of a fork begins with nothing: what its parent was told is the parent's to
deliver.
"""

import asyncio
import atexit
import inspect
import logging
import threading
import time
from asyncio import AbstractEventLoop, Task
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import cast
from weakref import WeakSet

from coatcheck import forks, patience
from coatcheck.errors import ConfigurationError
from coatcheck.events import Event, Handler

__all__ = ["MOST", "AsyncDelivery", "Delivery"]

MOST = 10_000
"""How many events may wait."""

_IDLE = 10.0
_AT_EXIT = 1.0
_RAISED = "on_event raised while it handled %s"

_logger = logging.getLogger("coatcheck")


class Delivery:
    """For `Sessions`: the handler is a plain function, or None."""

    _lane: "_Thread | None" = None

    def __init__(self, handler: Handler | None) -> None:
        if _is_asynchronous(handler):
            raise ConfigurationError(
                f"Sessions: expected on_event to be a plain function, got {handler!r}, which "
                "nobody would await; make AsyncSessions, or pass a function that is not async"
            )
        if handler is not None:
            self._lane = _Thread(handler)

    def __del__(self) -> None:
        self.stop()

    def put(self, event: Event) -> None:
        """Have it delivered."""
        if self._lane is not None:
            self._lane.put(event)

    def flush_events(self, timeout: float) -> bool:
        """Wait until what was told so far is delivered; whether it is, after that many seconds."""
        return self._lane is None or self._lane.flush(timeout)

    def stop(self) -> None:
        """Leave no thread behind, once it has nothing to do."""
        if self._lane is not None:
            self._lane.stop()


class AsyncDelivery:
    """For `AsyncSessions`: the handler is a function of either kind, or None."""

    _lane: "_Thread | _Tasks | None" = None

    def __init__(self, handler: Handler | None) -> None:
        if handler is not None:
            self._lane = _Tasks(handler) if _is_asynchronous(handler) else _Thread(handler)

    def __del__(self) -> None:
        self.stop()

    def put(self, event: Event) -> None:
        if self._lane is not None:
            self._lane.put(event)

    async def flush_events(self, timeout: float) -> bool:
        return self._lane is None or await self._lane.flushed(timeout)

    def stop(self) -> None:
        if self._lane is not None:
            self._lane.stop()


def _is_asynchronous(handler: Handler | None) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object may have an asynchronous one
    )


class _Lane:
    """What both kinds share: what was lost."""

    def __init__(self) -> None:
        self._start()
        _every.add(self)

    def _start(self) -> None:
        """Begin with nothing, as the child of a fork does."""
        self._lost = 0

    def _lose(self) -> None:
        """One more did not fit. The log is told of the first, the tenth, the hundredth, …"""
        self._lost += 1
        if str(self._lost).strip("0") == "1":
            _logger.warning("events_dropped count=%d waiting=%d", self._lost, MOST)


class _Thread(_Lane):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        super().__init__()

    def _start(self) -> None:
        super()._start()
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, event: Event) -> None:
        forks.notice()
        if self._queue.qsize() >= MOST:
            self._lose()
        else:
            self._add(partial(copy_context().run, _hand, self._handler, event))

    def _add(self, act: Callable[[], object]) -> None:
        with self._lock:
            self._queue.put(act)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="coatcheck events", daemon=True)
                with suppress(RuntimeError):  # none is to be had: who adds the next tries again
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while self._does_one(_IDLE) or not self._is_over():
            pass

    def _does_one(self, idle: float) -> bool:
        """Do what waits longest; False where nothing came in time, or the wish to stop."""
        try:
            act = self._queue.get(timeout=idle)
        except Empty:
            return False
        if act is not None:
            act()
        return act is not None

    def _is_over(self) -> bool:
        with self._lock:
            if self._queue.empty():
                self._thread = None
            return self._thread is None

    def _stand_in(self, until: float) -> None:
        """Where there is no thread, be it until nothing waits, or until then."""
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.current_thread()
        while self._does_one(0) or not self._is_over():
            if time.monotonic() >= until:
                self._thread = None
                return

    def flush(self, timeout: float) -> bool:
        until, delivered = time.monotonic() + timeout, threading.Event()
        if not self._ask(delivered.set):
            return True
        self._stand_in(until)
        return delivered.wait(max(0.0, until - time.monotonic()))

    async def flushed(self, timeout: float) -> bool:
        loop, delivered = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # that loop is closed, so nobody waits
                loop.call_soon_threadsafe(delivered.set)

        if self._ask(tell):
            self._stand_in(time.monotonic() + timeout)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await delivered.wait()
            return delivered.is_set()
        return True

    def _ask(self, act: Callable[[], object]) -> bool:
        """Have the thread do this when it has delivered what waits; False where it has nothing to
        wait for, and where it asks itself."""
        forks.notice()
        is_idle = self._thread is None and self._queue.empty()
        if is_idle or self._thread is threading.current_thread():
            return False
        self._add(act)
        return True

    def stop(self) -> None:
        forks.notice()
        if self._thread is not None:
            self._queue.put(None)


class _Tasks(_Lane):
    def __init__(self, handler: Handler) -> None:
        self._handler = cast("Callable[[Event], Awaitable[object]]", handler)
        super().__init__()

    def _start(self) -> None:
        super()._start()
        self._waiting: deque[tuple[Context, Event]] = deque()
        self._tasks: dict[AbstractEventLoop, Task[None]] = {}

    def put(self, event: Event) -> None:
        forks.notice()
        if len(self._waiting) >= MOST:
            self._lose()
            return
        self._waiting.append((copy_context(), event))
        with suppress(RuntimeError):  # told outside of any event loop: it waits for the next one
            self._begin(asyncio.get_running_loop())

    def _begin(self, loop: AbstractEventLoop) -> None:
        """Have a task of this loop deliver what waits, unless one does."""
        task = self._tasks.get(loop)
        if task is None or task.done():
            self._forget_closed_loops()
            self._tasks[loop] = loop.create_task(
                self._run(loop), name="coatcheck events", context=Context()
            )

    def _forget_closed_loops(self) -> None:
        """One that was closed without a word to its task gives back what that had begun."""
        for loop in [each for each in list(self._tasks) if each.is_closed()]:
            task = self._tasks.pop(loop, None)
            if task is not None and not task.done():
                cast("Coroutine[object, object, None]", task.get_coro()).close()

    async def _run(self, loop: AbstractEventLoop) -> None:
        with suppress(IndexError):  # nothing waits any more
            while True:
                await self._hand(loop, *self._waiting.popleft())

    async def _hand(self, loop: AbstractEventLoop, context: Context, event: Event) -> None:
        context.run(patience.lift)
        task = loop.create_task(_awaited(self._handler, event), context=context)
        try:
            await task
        except BaseException:  # the loop ends: the event is the next one's to deliver
            if not task.done() or task.cancelled():
                self._waiting.appendleft((context, event))
            raise

    async def flushed(self, timeout: float) -> bool:
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while busy := self._busy(loop):
                    for other, task in busy:
                        await _ended(other, task)
        return not self._busy(loop)

    def _busy(self, loop: AbstractEventLoop) -> list[tuple[AbstractEventLoop, Task[None]]]:
        """The tasks that deliver, in any loop; where something waits, this loop's is one."""
        self._forget_closed_loops()
        if self._waiting:
            self._begin(loop)
        return [(each, task) for each, task in list(self._tasks.items()) if not task.done()]

    def stop(self) -> None:
        """A task ends by itself."""


async def _awaited(handler: Callable[[Event], Awaitable[object]], event: Event) -> None:
    try:
        await handler(event)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _logger.exception(_RAISED, event.name)  # what it waited for was cancelled, and not it
    except Exception:
        _logger.exception(_RAISED, event.name)


async def _ended(loop: AbstractEventLoop, task: Task[None]) -> None:
    """Wait for a task of any loop, which may run in another thread."""
    here, ended = asyncio.get_running_loop(), asyncio.Event()

    def tell(task: Task[None]) -> None:
        with suppress(RuntimeError):  # this loop is closed, so nobody waits
            here.call_soon_threadsafe(ended.set)

    try:
        loop.call_soon_threadsafe(task.add_done_callback, tell)
    except RuntimeError:  # that loop was closed just now
        return
    await ended.wait()


def _hand(handler: Handler, event: Event) -> None:
    patience.lift()
    try:
        handler(event)
    except BaseException:  # the thread goes on, whatever it is
        _logger.exception(_RAISED, event.name)


def _be_born() -> None:
    """In the child of a fork."""
    for lane in list(_every):
        lane._start()


def _flush_all() -> None:
    """A process that ends delivers what waits, as far as that goes in a second."""
    until = time.monotonic() + _AT_EXIT
    for lane in list(_every):
        if isinstance(lane, _Thread):
            lane.flush(max(0.0, until - time.monotonic()))


_every: WeakSet[_Lane] = WeakSet()
forks.in_child(_be_born)
atexit.register(_flush_all)
