"""The calls that one turn of an event loop makes, sent together.

Sixty-four requests that run at once ask their store sixty-four times in one turn of the loop. Each
of them waits for the same round trip, so one message may carry them all: a pipeline, a statement
over many ids. `Coalescer.ask` puts a call into the queue; at the end of the turn everything queued
leaves as a batch. While `at_once` batches are under way the queue grows, so that the busier a store
is, the larger its batches become.

Whatever happens to a batch reaches exactly the callers that it concerns, each with an error of its
own. A caller that is cancelled or gives up cancels nobody else: its call is left out where its
batch has not left yet, and else its answer is dropped. A caller waits for `patience` seconds at
most, in the queue and under way together, or for what its request has left; `send` bounds its own
waiting.

Nothing here belongs to one event loop: each has a queue of its own, and the queue goes with it.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from coatcheck import patience
from coatcheck.errors import StoreUnavailable

__all__ = ["Coalescer"]

C = TypeVar("C")
A = TypeVar("A")


class Coalescer(Generic[C, A]):
    """`send` takes a batch of calls and gives an answer, or an exception, for each in their order.

    What it raises is every caller's of that batch. `most` bounds a batch. `key` names what may be
    under way only once, such as the id of a row; None is no such limit.
    """

    def __init__(
        self,
        send: Callable[[Sequence[C]], Awaitable[Sequence[A | Exception]]],
        *,
        patience: float,
        most: int = 128,
        at_once: int = 2,
        key: Callable[[C], Hashable] | None = None,
    ) -> None:
        self.send = send
        self.patience = patience
        self.most = most
        self.at_once = at_once
        self.key = key
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[C, A]] = (
            WeakKeyDictionary()
        )

    def ask(self, call: C) -> "asyncio.Future[A]":
        """To be awaited for the call's answer: what `send` has for it, or else, in time,
        `StoreUnavailable`."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self)
        return queue.put(call, loop)


class _Call(Generic[C]):
    __slots__ = ("call", "future", "turn", "until")

    def __init__(
        self, call: C, future: "asyncio.Future[Any]", turn: "_Turn[C]", until: float
    ) -> None:
        self.call = call
        self.future = future
        self.turn = turn
        self.until = until


class _Turn(Generic[C]):
    """The calls of one turn, which share a timer; it goes when the last of them is answered."""

    __slots__ = ("calls", "open", "timer")

    def __init__(self) -> None:
        self.calls: list[_Call[C]] = []
        self.open = 0
        self.timer: asyncio.TimerHandle | None = None

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        self.open = len(self.calls)
        self._wait(loop, self.calls)

    def close_one(self) -> None:
        self.open -= 1
        if not self.open and self.timer is not None:
            self.timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop, calls: list[_Call[C]]) -> None:
        until = min([each.until for each in calls])
        self.timer = loop.call_at(until, self._give_up, loop, calls, until)

    def _give_up(
        self, loop: asyncio.AbstractEventLoop, calls: list[_Call[C]], until: float
    ) -> None:
        """Those whose time is up; the others wait for the next time."""
        for each in calls:
            if each.until <= until and not each.future.done():
                each.future.set_exception(_gave_up())
        others = [each for each in calls if not each.future.done()]
        if others:
            self._wait(loop, others)


class _Queue(Generic[C, A]):
    """What waits in one event loop, and what is under way. It holds no loop, which is its key."""

    def __init__(self, owner: Coalescer[C, A]) -> None:
        self._owner = owner
        self._turn: _Turn[C] = _Turn()
        self._waiting: deque[_Call[C]] = deque()
        self._batches: dict[asyncio.Task[None], set[Hashable]] = {}

    def put(self, call: C, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[A]":
        left = patience.left(self._owner.patience)
        if left <= 0:
            raise _gave_up()
        future: asyncio.Future[A] = loop.create_future()
        turn = self._turn
        if not turn.calls:
            loop.call_soon(self._end_turn, loop, context=Context())
        turn.calls.append(_Call(call, future, turn, loop.time() + left))
        return future

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        turn, self._turn = self._turn, _Turn()
        turn.end(loop)
        self._waiting.extend(turn.calls)
        self._send_off(loop)

    def _send_off(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and len(self._batches) < self._owner.at_once:
            batch, keys = self._take()
            if not batch:  # all that waits has a key that is under way
                return
            # An empty context: a batch is nobody's request, and has nobody's limits.
            task = loop.create_task(self._carry(batch), context=Context())
            self._batches[task] = keys
            task.add_done_callback(self._landed)

    def _take(self) -> tuple[list[_Call[C]], set[Hashable]]:
        """The next batch, in order of arrival, and its keys; who gave up meanwhile is left out."""
        key, most, waiting = self._owner.key, self._owner.most, self._waiting
        batch: list[_Call[C]] = []
        under_way = set[Hashable]().union(*self._batches.values())
        held: set[Hashable] = set()
        later: list[_Call[C]] = []
        while waiting and len(batch) < most:
            each = waiting.popleft()
            if each.future.done():
                each.turn.close_one()
            elif key is None:
                batch.append(each)
            elif (name := key(each.call)) in held or name in under_way:
                later.append(each)
            else:
                held.add(name)
                batch.append(each)
        waiting.extendleft(reversed(later))
        return batch, held

    async def _carry(self, batch: list[_Call[C]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._owner.send([each.call for each in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers get it
            answers = [_copy(error) for _ in batch]
        for each, answer in zip(batch, answers, strict=True):
            each.turn.close_one()
            if each.future.done():
                continue
            if isinstance(answer, Exception):
                each.future.set_exception(answer)
            else:
                each.future.set_result(answer)

    def _landed(self, task: "asyncio.Task[None]") -> None:
        del self._batches[task]
        self._send_off(task.get_loop())


def _gave_up() -> StoreUnavailable:
    return StoreUnavailable(
        "store: expected an answer in time, got none; look at the server and the network, or raise "
        "the store's time-outs"
    )


def _copy(error: Exception) -> Exception:
    """One for each caller: an exception raised in two tasks at once gathers both tracebacks."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
