"""Threads of a store's own, that wait instead of an event loop."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from coatcheck.errors import StoreUnavailable

__all__ = ["Threads"]

T = TypeVar("T")

# A pool that goes wakes its threads, which are not in the child of a fork. Python 3.13 would write
# to where their stacks were, if a program in C forked it; so what a parent has here stays for good.
_pools: set[ThreadPoolExecutor] = set()


class Threads:
    """So many at most; started on first use, anew in the child of a fork, and after `stop`."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What the work answers; `StoreUnavailable` where no thread is to be had."""
        loop, pool = asyncio.get_running_loop(), self._running()
        try:
            answer = loop.run_in_executor(pool, work)
        except RuntimeError as error:  # there are too many, or the interpreter ends
            raise StoreUnavailable(
                f"store: expected a thread that waits for its answer, got {str(error)!r}; allow "
                "the process more threads, or end its work before its end"
            ) from error
        return await answer

    def stop(self) -> None:
        pool = self._let_go()
        if pool is not None:
            pool.shutdown()

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> ThreadPoolExecutor | None:
        """This process's pool, if there is one; it is nobody's any more."""
        pool, self._pool = self._pool, None
        if pool is None or self._process != os.getpid():
            return None
        _pools.discard(pool)
        return pool

    def _running(self) -> ThreadPoolExecutor:
        if self._process != os.getpid():
            self._pool, self._process = None, os.getpid()
        pool = self._pool
        if pool is None:
            pool = self._pool = ThreadPoolExecutor(self._most, self._name)
            _pools.add(pool)
        return pool
