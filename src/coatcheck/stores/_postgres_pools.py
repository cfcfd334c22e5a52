"""A few connections, kept open: for threads, and for the tasks of event loops.

A call borrows a connection, the one that was given back last, waits for its answer and gives it
back. What failed, timed out or was cancelled on the way is closed instead. Before a statement is
sent, its connection is looked at: one that has something to read while it is idle has ended, as
when the server was restarted, and the next one is taken. So nothing is sent twice, but for reads
whose connection broke under way.

A call waits for a free connection, connects and asks, each within its own limit and all of it
within the sum, or within what its request has left. Hosts are tried in order, the one that worked
last first; each gets an equal share of the time that is left, so that a host that answers nothing
leaves some for the next.

After a fork the child forgets what its parent opened. An event loop has connections of its own,
which go with it.
"""

import asyncio
import math
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar
from weakref import WeakKeyDictionary, WeakSet

import psycopg

from coatcheck import patience
from coatcheck.errors import StoreUnavailable
from coatcheck.stores import _postgres_errors as errors
from coatcheck.stores._postgres_link import Link, Unit
from coatcheck.stores._postgres_options import Address, Attempt, Options, lookup
from coatcheck.stores._postgres_schema import Found, Schema
from coatcheck.stores._postgres_waiting import Waits, async_drive, drive

__all__ = ["AsyncPool", "Pool"]

T = TypeVar("T")
E = TypeVar("E")

_FAILURES = (psycopg.Error, OSError)  # a TimeoutError is one, and a name that is not found


class _Base:
    """What both pools know."""

    def __init__(self, options: Options, schema: Schema, tell: Callable[[Found], None]) -> None:
        self.options = options
        self.schema = schema
        self._tell = tell
        self._ready = False
        self._first = 0
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        """Have no connection, as in the beginning."""
        raise NotImplementedError

    def _answer(self, unit: Unit[T]) -> float:
        """Seconds that the server may take to answer."""
        return self.options.timeout * unit.patience

    def _limit(self, unit: Unit[T]) -> float:
        """Seconds that a call may take in all."""
        return self.options.connect_timeout + self._answer(unit)

    def _call(self, link: Link, unit: Unit[T], seconds: float) -> Waits[T]:
        if not self._ready:
            yield from self._prepare(link, seconds)
        return (yield from link.run(unit, seconds))

    def _prepare(self, link: Link, seconds: float) -> Waits[None]:
        """See to the table, on first use."""
        found = yield from link.run(self.schema.look(), seconds)
        if not self.schema.is_there(found):
            if not self.options.create:
                raise self.schema.missing()
            yield from link.run(self.schema.make(), seconds)
            found = yield from link.run(self.schema.look(), seconds)
            self.schema.is_there(found)
        self._tell(found)
        self._ready = True

    def _failed(self, error: Exception, seconds: float) -> StoreUnavailable:
        if getattr(error, "sqlstate", None) == "42P01":
            self._ready = False
        if isinstance(error, TimeoutError):
            return errors.no_time(seconds, "an answer from the server")
        return errors.unavailable(error)

    def _unreachable(self, error: Exception | None, seconds: float) -> StoreUnavailable:
        if error is None or isinstance(error, TimeoutError):
            return errors.no_time(seconds, "a connection to the server")
        return errors.unavailable(error)

    def _hosts(self) -> list[int]:
        """Which attempts to make, in this order."""
        count = len(self.options.attempts)
        return [(self._first + number) % count for number in range(count)]


class Pool(_Base):
    """For threads."""

    def _start(self) -> None:
        self._idle: deque[Link] = deque()
        self._turns = threading.BoundedSemaphore(self.options.pool_size)

    def run(self, unit: Unit[T], *, again: bool = False) -> T:
        """The unit's answer. `again` says that it may be asked twice, as what only reads may."""
        limit = patience.left(self._limit(unit))
        deadline = time.monotonic() + limit
        try:
            try:
                return self._run(unit, deadline)
            except psycopg.Error as error:
                if not (again and errors.is_broken(error)):
                    raise
            return self._run(unit, deadline)
        except _FAILURES as error:
            raise self._failed(error, min(limit, self._answer(unit))) from error

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        idle, self._idle = self._idle, deque()
        _close_all(idle)

    def _run(self, unit: Unit[T], deadline: float) -> T:
        with self._borrowed(min(deadline, time.monotonic() + self._answer(unit)), deadline) as link:
            seconds = _left(deadline, self._answer(unit))
            return drive(self._call(link, unit, seconds), seconds)

    @contextmanager
    def _borrowed(self, turn: float, deadline: float) -> Iterator[Link]:
        """`turn` is until when to wait for one to be free."""
        turns, idle = self._turns, self._idle
        if not turns.acquire(timeout=_left(turn)):
            raise errors.no_turn(self.options.pool_size)
        try:
            link = _fresh(idle) or self._connect(deadline)
            with _given_back(link, idle, lambda: idle is self._idle):
                yield link
        finally:
            turns.release()

    def _connect(self, deadline: float) -> Link:
        seconds = _left(deadline, self.options.connect_timeout)
        failure: Exception | None = None
        for host, until in _shares(self._hosts(), time.monotonic() + seconds):
            try:
                link = self._reach(self.options.attempts[host], until)
            except _FAILURES as error:
                failure = error
            else:
                self._first = host
                return link
        raise self._unreachable(failure, seconds) from failure

    def _reach(self, attempt: Attempt, deadline: float) -> Link:
        failure: Exception = TimeoutError()
        found = lookup(attempt)
        addresses = found.result(_left(deadline)) if isinstance(found, Future) else found
        for address, until in _shares(addresses, deadline):
            try:
                return drive(Link.open(address, self.options.prepared), _left(until))
            except _FAILURES as error:
                failure = error
        raise failure


class AsyncPool(_Base):
    """For tasks, in any event loop."""

    def _start(self) -> None:
        self._homes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Home] = WeakKeyDictionary()

    async def run(self, unit: Unit[T], *, again: bool = False) -> T:
        limit = patience.left(self._limit(unit))
        deadline = time.monotonic() + limit
        try:
            try:
                return await self._run(unit, deadline)
            except psycopg.Error as error:
                if not (again and errors.is_broken(error)):
                    raise
            return await self._run(unit, deadline)
        except _FAILURES as error:
            raise self._failed(error, min(limit, self._answer(unit))) from error

    async def close(self) -> None:
        homes, self._homes = self._homes, WeakKeyDictionary()
        for home in list(homes.values()):
            _close_all(home.idle)

    async def _run(self, unit: Unit[T], deadline: float) -> T:
        turn = min(deadline, time.monotonic() + self._answer(unit))
        async with self._borrowed(turn, deadline) as link:
            seconds = _left(deadline, self._answer(unit))
            return await async_drive(self._call(link, unit, seconds), seconds)

    @asynccontextmanager
    async def _borrowed(self, turn: float, deadline: float) -> AsyncIterator[Link]:
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop) or self._settle(loop)
        if not await home.acquire(_left(turn)):
            raise errors.no_turn(self.options.pool_size)
        try:
            link = _fresh(home.idle) or await self._connect(deadline)
            with _given_back(link, home.idle, lambda: home is self._homes.get(loop)):
                yield link
        finally:
            home.release()

    def _settle(self, loop: asyncio.AbstractEventLoop) -> "_Home":
        for other, home in list(self._homes.items()):
            if other.is_closed():
                _close_all(home.idle)
        self._homes[loop] = home = _Home(self.options.pool_size)
        return home

    async def _connect(self, deadline: float) -> Link:
        seconds = _left(deadline, self.options.connect_timeout)
        failure: Exception | None = None
        for host, until in _shares(self._hosts(), time.monotonic() + seconds):
            try:
                link = await self._reach(self.options.attempts[host], until)
            except _FAILURES as error:
                failure = error
            else:
                self._first = host
                return link
        raise self._unreachable(failure, seconds) from failure

    async def _reach(self, attempt: Attempt, deadline: float) -> Link:
        failure: Exception = TimeoutError()
        found = lookup(attempt)
        addresses = await _result(found, _left(deadline)) if isinstance(found, Future) else found
        for address, until in _shares(addresses, deadline):
            try:
                return await async_drive(Link.open(address, self.options.prepared), _left(until))
            except _FAILURES as error:
                failure = error
        raise failure


class _Home:
    """The connections of one event loop. It holds no loop but while somebody waits."""

    def __init__(self, size: int) -> None:
        self.idle: deque[Link] = deque()
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, seconds: float) -> bool:
        """Whether a turn came in time; first come, first served."""
        if self._free:
            self._free -= 1
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=seconds)
        except BaseException:
            if not turn.cancel():  # it had come just now: the next one gets it
                self.release()
            raise
        if turn.done():
            return True
        turn.cancel()
        return False

    def release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


async def _result(found: "Future[list[Address]]", seconds: float) -> list[Address]:
    async with asyncio.timeout(seconds):
        return await asyncio.wrap_future(found)


def _left(deadline: float, most: float = math.inf) -> float:
    return max(0, min(most, deadline - time.monotonic()))


def _shares(items: Sequence[E], deadline: float) -> Iterator[tuple[E, float]]:
    """Each with the moment until which it may take: a fair part of what the others left."""
    for number, item in enumerate(items):
        now = time.monotonic()
        yield item, now + (deadline - now) / (len(items) - number)


def _fresh(idle: deque[Link]) -> Link | None:
    """The one that was in use last; what has ended meanwhile is closed."""
    with suppress(IndexError):
        while True:
            link = idle.pop()
            if not link.is_stale():
                return link
            link.close()
    return None


@contextmanager
def _given_back(link: Link, idle: deque[Link], is_open: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        link.close()
        if errors.is_elsewhere(error):
            _close_all(idle)
        raise
    if is_open():
        idle.append(link)
    else:
        link.close()


def _close_all(idle: deque[Link]) -> None:
    with suppress(IndexError):
        while True:
            idle.pop().close()


_pools: WeakSet[_Base] = WeakSet()


def _be_born() -> None:
    """In the child of a fork."""
    for pool in list(_pools):
        pool._start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_be_born)
