"""Sweeping in the background: now and then, what has expired is removed from the store.

The first round comes at a random moment of the first interval and the later ones with jitter, so
that the workers of one site do not sweep together. A round that fails is told, as an `Outage` or
with its traceback in the log, and the next one comes all the same.
"""

import asyncio
import logging
import os
import random
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Self

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.sessions import AsyncSessions, Sessions

__all__ = ["AsyncSweeper", "Sweeper"]

_LONGEST = 7 * 86_400 + 1
_random = random.Random()  # noqa: S311 - jitter; its own, so that an app's seed means what it says

_logger = logging.getLogger("coatcheck")


class AsyncSweeper:
    """A task that sweeps while the `async with` block runs, or from `start` on. `every` is in
    seconds."""

    def __init__(self, sessions: AsyncSessions, every: float = 600.0) -> None:
        self._sessions = sessions
        self._every = checked_interval(every)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, unless the running loop has begun already, and end with it.

        For a loop that ends untold: between two rounds nothing is pending but a timer.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(_random.uniform(0, self._every), self._go_round, loop)

    def _go_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._round(), name="coatcheck sweeper")
        self._task.add_done_callback(
            lambda _: loop.call_later(_with_jitter(self._every), self._go_round, loop)
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="coatcheck sweeper")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])  # it hides no cancellation of the caller's

    async def _run(self) -> None:
        await asyncio.sleep(_random.uniform(0, self._every))
        while True:
            await self._round()
            await asyncio.sleep(_with_jitter(self._every))

    async def _round(self) -> None:
        try:
            await self._sessions.sweep()
        except StoreUnavailable as error:
            self._sessions._met_outage("sweep", error)
        except Exception:
            _logger.exception("sweeping failed; the next round comes all the same")


class Sweeper:
    """A daemon thread that sweeps from `start` on, in each process that calls it."""

    def __init__(self, sessions: Sessions, every: float = 600.0) -> None:
        self._sessions = sessions
        self._every = checked_interval(every)
        self._starting = threading.Lock()
        self._stopped = threading.Event()
        self._process = 0

    def start(self) -> None:
        """Begin, unless this process has begun already: threads do not survive a fork."""
        if self._process == os.getpid():
            return
        with self._starting:
            if self._process == os.getpid():
                return
            self._stopped = threading.Event()
            thread = threading.Thread(
                target=self._run, args=(self._stopped,), name="coatcheck sweeper", daemon=True
            )
            with suppress(RuntimeError):  # none is to be had: the next one who starts tries again
                thread.start()
                self._process = os.getpid()

    def stop(self) -> None:
        """Begin no further round."""
        self._stopped.set()
        self._process = 0

    def _run(self, stopped: threading.Event) -> None:
        wait = _random.uniform(0, self._every)
        while not stopped.wait(wait):
            try:
                self._sessions.sweep()
            except StoreUnavailable as error:
                self._sessions._met_outage("sweep", error)
            except Exception:
                _logger.exception("sweeping failed; the next round comes all the same")
            wait = _with_jitter(self._every)


@asynccontextmanager
async def sweeping(
    every: Mapping[str | None, AsyncSessions], interval: float | None
) -> AsyncIterator[None]:
    """Sweep all of an adapter's sessions while the block runs; without an interval none."""
    async with AsyncExitStack() as stack:
        if interval is not None:
            for sessions in every.values():
                await stack.enter_async_context(AsyncSweeper(sessions, interval))
        yield


def checked_interval(every: float) -> float:
    """The interval in seconds; `ConfigurationError` where it is not a positive number."""
    if isinstance(every, bool) or not isinstance(every, int | float) or not 0 < every < _LONGEST:
        raise ConfigurationError(
            f"sweep: expected seconds, above 0 and up to a week, or None, got {every!r}; pass 600"
        )
    return float(every)


def _with_jitter(every: float) -> float:
    return every * _random.uniform(0.75, 1.25)
