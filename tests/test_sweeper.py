"""Sweeping in the background: a task or a daemon thread, with jitter, that errors do not end."""

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from coatcheck import AsyncSessions, ConfigurationError, Sessions, StoreUnavailable
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.sweeper import AsyncSweeper, Sweeper
from coatcheck.testing import HOUR, NOW, Clock, ident, record
from tests.threads import no_threads

ROUNDS = 3
SOON = 0.001


class Counting(MemoryStore):
    """A real store that tells when it was swept so many times; the first rounds may fail."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.rounds = 0
        self.done = threading.Event()

    def sweep(self, limit: int, now: int) -> int:
        if threading.current_thread() is not threading.main_thread():
            self.thread = threading.current_thread()
        self.rounds += 1
        if self.rounds >= ROUNDS + len(self.errors):
            self.done.set()
        if self.rounds <= len(self.errors):
            raise self.errors[self.rounds - 1]
        return super().sweep(limit, now)


def expired(store: MemoryStore) -> MemoryStore:
    for number in range(5):
        store.create(record(ident(number), expires_at=NOW + 1), NOW)
    store.create(record(ident(9), expires_at=NOW + HOUR), NOW)
    return store


def count(store: MemoryStore) -> int:
    """What it holds, expired or not."""
    return len(store.page("", 99, 0))


def clock() -> Clock:
    return Clock(NOW / 1000 + 1)


def test_a_thread_sweeps_again_and_again() -> None:
    """What expired goes, what lives stays."""
    store = Counting()
    expired(store)
    sweeper = Sweeper(Sessions(store, clock=clock()), SOON)
    sweeper.start()
    assert store.done.wait(30)
    sweeper.stop()

    assert 1 == count(store)


def test_the_thread_holds_up_no_exit() -> None:
    """It is a daemon, and has a name."""
    store = Counting()
    sweeper = Sweeper(Sessions(store), SOON)
    sweeper.start()
    assert store.done.wait(30)
    sweeper.stop()

    assert (True, "coatcheck sweeper") == (store.thread.daemon, store.thread.name)


@pytest.mark.parametrize(
    "error", [StoreUnavailable("expected an answer, got none; wait"), ZeroDivisionError()]
)
def test_a_round_that_fails_is_told_and_the_next_comes(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that died of one outage would sweep no more."""
    caplog.set_level(logging.WARNING, "coatcheck")
    store = Counting(error)
    sweeper = Sweeper(Sessions(store), SOON)
    sweeper.start()
    assert store.done.wait(30)
    sweeper.stop()

    assert 1 == len([entry for entry in caplog.records if entry.name == "coatcheck"])


def test_starting_twice_begins_one_thread() -> None:
    """Each request of a WSGI app may call it."""
    sweeper = Sweeper(Sessions(MemoryStore()), 600)
    before = set(threading.enumerate())
    for _ in range(5):
        sweeper.start()
    started = set(threading.enumerate()) - before
    sweeper.stop()

    assert 1 == len(started)


def test_a_stopped_thread_ends_and_may_begin_again() -> None:
    """Stopping does not wait for the interval."""
    store = Counting()
    sweeper = Sweeper(Sessions(store), SOON)
    sweeper.start()
    assert store.done.wait(30)
    sweeper.stop()
    store.thread.join(30)
    assert not store.thread.is_alive()
    store.done.clear()
    store.rounds = 0
    sweeper.start()
    assert store.done.wait(30)
    sweeper.stop()


def test_where_no_thread_is_to_be_had_the_next_start_tries_again() -> None:
    """The request that called it is served."""
    store = Counting()
    sweeper = Sweeper(Sessions(store), SOON)
    with no_threads():
        sweeper.start()
    sweeper.start()
    assert store.done.wait(30)
    sweeper.stop()


FORKED = """
import os
from coatcheck import Sessions
from coatcheck.stores.memory import MemoryStore
from coatcheck.sweeper import Sweeper
import threading
sweeper = Sweeper(Sessions(MemoryStore()), 600)
sweeper.start()
assert threading.active_count() == 2
if (child := os.fork()) == 0:
    before = threading.active_count()
    sweeper.start()
    os._exit(10 + threading.active_count() - before)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_worker_begins_a_thread_of_its_own(tmp_path: Path) -> None:
    """Threads do not survive a fork."""
    script = tmp_path / "program.py"
    script.write_text(FORKED)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "11" == ran.stdout.strip(), ran.stderr


@pytest.mark.parametrize("error", [None, StoreUnavailable("expected"), ZeroDivisionError()])
def test_a_task_sweeps_again_and_again(error: Exception | None) -> None:
    """A round that fails does not end it either."""
    store = Counting(*filter(None, [error]))
    expired(store)

    async def run() -> None:
        sessions = AsyncSessions(AsyncMemoryStore(store), clock=clock())
        async with AsyncSweeper(sessions, SOON):
            while not store.done.is_set():
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 30))

    assert 1 == count(store)


def test_an_apps_seed_means_what_it_says() -> None:
    """Jitter takes nothing from the random numbers that an app may have seeded."""
    store = Counting()
    before = random.getstate()

    async def run() -> None:
        async with AsyncSweeper(AsyncSessions(AsyncMemoryStore(store)), every=SOON):
            while not store.done.is_set():
                await asyncio.sleep(0)

    asyncio.run(run())

    assert before == random.getstate()


def test_the_task_ends_with_its_block() -> None:
    """Cancelled in its sleep, and awaited: nothing is left on the loop."""

    async def run() -> tuple[int, int]:
        async with AsyncSweeper(AsyncSessions(AsyncMemoryStore()), 600):
            during = len(asyncio.all_tasks())
        return during, len(asyncio.all_tasks())

    assert (2, 1) == asyncio.run(run())


def test_a_started_one_goes_round_in_each_loop() -> None:
    """Between its rounds there is no task, which a loop that is closed would find pending."""
    sweeper = AsyncSweeper(AsyncSessions(AsyncMemoryStore(store := Counting())), SOON)

    async def run() -> None:
        async with asyncio.timeout(30):
            sweeper.start()
            while not store.done.is_set() or len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0)

    for _ in range(2):
        store.rounds = 0
        store.done.clear()
        asyncio.run(run())


def test_a_started_one_is_not_started_twice() -> None:
    """Each request starts it."""
    sweeper = AsyncSweeper(AsyncSessions(AsyncMemoryStore(store := Counting())), SOON)
    tasks: list[int] = []

    async def run() -> None:
        async with asyncio.timeout(30):
            while not store.done.is_set():
                sweeper.start()
                await asyncio.sleep(0)
                tasks.append(len(asyncio.all_tasks()))

    asyncio.run(run())
    assert 2 >= max(tasks)


def test_an_error_in_the_block_goes_through() -> None:
    """The sweeper is in nobody's way."""

    async def run() -> None:
        async with AsyncSweeper(AsyncSessions(AsyncMemoryStore()), 600):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())


@pytest.mark.parametrize("every", [0, -1, None, True, "600", float("nan"), float("inf")], ids=repr)
def test_an_interval_that_cannot_work_is_refused(every: Any) -> None:
    """When it is made; a thread cannot wait for ever."""
    with pytest.raises(ConfigurationError, match="sweep: expected"):
        Sweeper(Sessions(MemoryStore()), every)
    with pytest.raises(ConfigurationError, match="sweep: expected"):
        AsyncSweeper(AsyncSessions(AsyncMemoryStore()), every)
