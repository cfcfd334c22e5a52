"""A few connections, kept open: for threads, and for the tasks of event loops.

A call borrows a connection, the one that was given back last, waits for its answer and gives it
back. What failed, timed out or was cancelled on the way is closed instead. Before a statement is
sent, its connection is looked at: one that has something to read while it is idle has ended, as
when the server was restarted, and the next one is taken. So nothing is sent twice, but for reads
whose connection broke under way.

Where a server does not answer in time, idle connections to it go too; not so where it was given
less than its time, as by a request that has little left.

A call waits for a free connection, connects and asks, each within its own limit and all of it
within the sum, or within what its request has left. Hosts are tried in order, the one that worked
last first; each gets an equal share of the time that is left, so that a host that answers nothing
leaves some for the next.

After a fork the child forgets what its parent opened, also after one that Python was not told of.
An event loop has connections of its own, which go with it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

import psycopg

from coatcheck import patience
from coatcheck.stores._postgres import errors
from coatcheck.stores._postgres.link import Link, Unit
from coatcheck.stores._postgres.options import Address, Attempt, lookup
from coatcheck.stores._postgres.pooling import (
    Base,
    close_all,
    fresh,
    given_back,
    left_until,
    shares,
)
from coatcheck.stores._postgres.waiting import async_drive, drive

__all__ = ["AsyncPool", "Pool"]

T = TypeVar("T")

_FAILURES = (psycopg.Error, OSError)  # a TimeoutError is one, and a name that is not found


class Pool(Base):
    """For threads."""

    def _start(self) -> None:
        self._idle: deque[Link] = deque()
        self._turns = threading.BoundedSemaphore(self.options.pool_size)

    def run(self, unit: Unit[T], *, again: bool = False) -> T:
        """The unit's answer. `again` says that it may be asked twice, as what only reads may."""
        limit = patience.left(self._limit(unit))
        if limit <= 0:
            raise errors.no_time(limit, "time to ask the server")
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
        close_all(idle)

    def _run(self, unit: Unit[T], deadline: float) -> T:
        with self._borrowed(min(deadline, time.monotonic() + self._answer(unit)), deadline) as link:
            seconds = left_until(deadline, self._answer(unit))
            with self._hurrying(unit, seconds):
                return drive(self._call(link, unit, seconds), seconds)

    @contextmanager
    def _borrowed(self, turn: float, deadline: float) -> Iterator[Link]:
        """`turn` is until when to wait for one to be free."""
        self._look_around()
        turns, idle = self._turns, self._idle
        if not turns.acquire(timeout=left_until(turn)):
            raise errors.no_turn(self.options.pool_size)
        try:
            if left_until(deadline) <= 0:
                raise TimeoutError
            link = fresh(idle) or self._connect(deadline)
            with given_back(link, idle, lambda: idle is self._idle):
                yield link
        finally:
            turns.release()

    def _connect(self, deadline: float) -> Link:
        seconds = left_until(deadline, self.options.connect_timeout)
        failure: Exception | None = None
        for host, until in shares(self._hosts(), time.monotonic() + seconds):
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
        addresses = found.result(left_until(deadline)) if isinstance(found, Future) else found
        for address, until in shares(addresses, deadline):
            try:
                return drive(Link.open(address, self.options.prepared), left_until(until))
            except _FAILURES as error:
                failure = error
        raise failure


class AsyncPool(Base):
    """For tasks, in any event loop."""

    def _start(self) -> None:
        self._homes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Home] = WeakKeyDictionary()

    async def run(self, unit: Unit[T], *, again: bool = False) -> T:
        limit = patience.left(self._limit(unit))
        if limit <= 0:
            raise errors.no_time(limit, "time to ask the server")
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

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[Link]:
        """A connection beside the others, closed afterwards."""
        self._look_around()
        seconds = self.options.timeout
        link = await self._connect(time.monotonic() + self.options.connect_timeout)
        try:
            if not self._ready:
                await async_drive(self._prepare(link, seconds), seconds)
            yield link
        except _FAILURES as error:
            raise self._failed(error, seconds) from error
        finally:
            link.close()

    async def close(self) -> None:
        homes, self._homes = self._homes, WeakKeyDictionary()
        for home in list(homes.values()):
            close_all(home.idle)

    async def _run(self, unit: Unit[T], deadline: float) -> T:
        turn = min(deadline, time.monotonic() + self._answer(unit))
        async with self._borrowed(turn, deadline) as link:
            seconds = left_until(deadline, self._answer(unit))
            with self._hurrying(unit, seconds):
                return await async_drive(self._call(link, unit, seconds), seconds)

    @asynccontextmanager
    async def _borrowed(self, turn: float, deadline: float) -> AsyncIterator[Link]:
        self._look_around()
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop) or self._settle(loop)
        if not await home.acquire(left_until(turn)):
            raise errors.no_turn(self.options.pool_size)
        try:
            if left_until(deadline) <= 0:
                raise TimeoutError
            link = fresh(home.idle) or await self._connect(deadline)
            with given_back(link, home.idle, lambda: home is self._homes.get(loop)):
                yield link
        finally:
            home.release()

    def _settle(self, loop: asyncio.AbstractEventLoop) -> "_Home":
        for other, home in list(self._homes.items()):
            if other.is_closed():
                close_all(home.idle)
        self._homes[loop] = home = _Home(self.options.pool_size)
        return home

    async def _connect(self, deadline: float) -> Link:
        seconds = left_until(deadline, self.options.connect_timeout)
        failure: Exception | None = None
        for host, until in shares(self._hosts(), time.monotonic() + seconds):
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
        addresses = (
            await _result(found, left_until(deadline)) if isinstance(found, Future) else found
        )
        for address, until in shares(addresses, deadline):
            try:
                return await async_drive(
                    Link.open(address, self.options.prepared), left_until(until)
                )
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
