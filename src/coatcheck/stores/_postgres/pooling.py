"""What the pools of threads and of tasks have in common: what they know, and idle connections."""

import math
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar
from weakref import WeakSet

from coatcheck.errors import StoreUnavailable
from coatcheck.stores._postgres import errors
from coatcheck.stores._postgres.link import Link, Unit, abandon_all
from coatcheck.stores._postgres.options import Options
from coatcheck.stores._postgres.schema import Found, Schema
from coatcheck.stores._postgres.waiting import Waits

__all__ = ["Base", "close_all", "fresh", "given_back", "left_until", "shares"]

T = TypeVar("T")
E = TypeVar("E")


class Base(ABC):
    """A pool, but for how it waits."""

    def __init__(self, options: Options, schema: Schema, tell: Callable[[Found], None]) -> None:
        self.options = options
        self.schema = schema
        self._tell = tell
        self._ready = False
        self._first = 0
        self._be_born()
        _pools.add(self)

    def _be_born(self) -> None:
        self._start()
        self._process = os.getpid()

    def _look_around(self) -> None:
        """Some programs, such as uWSGI, fork without telling Python's hooks."""
        if self._process != os.getpid():
            abandon_all()
            self._be_born()

    @abstractmethod
    def _start(self) -> None:
        """Have no connection, as in the beginning."""

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
        """See to the tables, on first use."""
        found = yield from link.run(self.schema.look(), seconds)
        if not self.schema.is_there(found):
            if not self.options.create:
                raise self.schema.missing(found)
            yield from link.run(self.schema.make(), seconds)
            found = yield from link.run(self.schema.look(), seconds)
            self.schema.is_there(found)
        self._tell(found)
        self._ready = True

    @contextmanager
    def _hurrying(self, unit: Unit[T], seconds: float) -> Iterator[None]:
        """`Hurried` is raised where the time that was left was not all that a server may take."""
        try:
            yield
        except TimeoutError as error:
            if seconds < self._answer(unit):
                raise errors.Hurried from error
            raise

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


def left_until(deadline: float, most: float = math.inf) -> float:
    return max(0, min(most, deadline - time.monotonic()))


def shares(items: Sequence[E], deadline: float) -> Iterator[tuple[E, float]]:
    """Each with the moment until which it may take: a fair part of what the others left."""
    for number, item in enumerate(items):
        now = time.monotonic()
        yield item, now + (deadline - now) / (len(items) - number)


def fresh(idle: deque[Link]) -> Link | None:
    """The one that was in use last; what has ended meanwhile is closed."""
    with suppress(IndexError):
        while True:
            link = idle.pop()
            if not link.is_stale():
                return link
            link.close()
    return None


@contextmanager
def given_back(link: Link, idle: deque[Link], is_open: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        link.close()
        if errors.is_elsewhere(error):
            close_all(idle)
        raise
    if is_open():
        idle.append(link)
    else:
        link.close()


def close_all(idle: deque[Link]) -> None:
    with suppress(IndexError):
        while True:
            idle.pop().close()


_pools: WeakSet[Base] = WeakSet()


def _be_born() -> None:
    """In the child of a fork."""
    for pool in list(_pools):
        pool._be_born()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_be_born)
