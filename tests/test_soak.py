"""Load while connections are cut all the time: nothing grows, and no acknowledged write is lost."""

import asyncio
import gc
import logging
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coatcheck import AsyncSessions, Contention, Sessions, StoreUnavailable
from coatcheck.stores import async_from_url, from_url
from tests.faults import Rig
from tests.rigs import RIGS
from tests.services.process import until

WORKERS = 32
ROUNDS = 25
CUT_EVERY = 0.2
MOST_CONNECTIONS = 24
"""More than any store's pools hold, and fewer than there are workers."""
MOST_GROWTH = 256 * 1024
"""Bytes that a whole phase may leave behind: caches that fill, and no more."""


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made: Rig = RIGS[request.param]()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Each outage is a line of the log, and pytest keeps them all."""
    caplog.set_level(logging.CRITICAL, "coatcheck")


class Tally:
    """What became of the edits: confirmed, or nobody knows."""

    def __init__(self) -> None:
        self.confirmed = 0
        self.unknown = 0
        self.guard = threading.Lock()

    def note(self, *, confirmed: bool) -> None:
        with self.guard:
            self.confirmed += confirmed
            self.unknown += not confirmed

    def fits(self, count: int) -> bool:
        return self.confirmed <= count <= self.confirmed + self.unknown


def cookie_of(set_cookies: list[str]) -> str:
    (header,) = set_cookies
    return header.partition(";")[0]


def one_more(number: int) -> int:
    return number + 1


class Cutting:
    """Every connection is reset again and again while the block lasts."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(CUT_EVERY):
            self._rig.proxy.cut_all()


def test_async_under_load(rig: Rig, tmp_path: Path) -> None:
    """Tasks, connections and memory stay what they were, and every confirmed edit counts."""

    async def visit(sessions: AsyncSessions, cookie: str, tally: Tally) -> None:
        for _ in range(ROUNDS):
            try:
                session = await sessions.open(cookie)
                session.edit("count", one_more, default=0)
                await sessions.commit(session)
            except (StoreUnavailable, Contention):
                tally.note(confirmed=False)
            else:
                tally.note(confirmed=True)

    async def phase(sessions: AsyncSessions, cookies: list[str], tallies: list[Tally]) -> None:
        with Cutting(rig):
            async with asyncio.TaskGroup() as group:
                for number in range(WORKERS):
                    which = number % len(cookies)
                    group.create_task(visit(sessions, cookies[which], tallies[which]))

    async def scenario() -> None:
        async with AsyncSessions(async_from_url(rig.client_url(tmp_path))) as sessions:
            cookies = []
            for number in range(8):
                session = await sessions.open(None)
                session.login(f"user:{number}")
                cookies.append(cookie_of(await sessions.commit(session)))
            tallies = [Tally() for _ in cookies]
            await phase(sessions, cookies, tallies)
            await sessions.close()  # how many connections rest, and what they hold, is chance
            before = await asyncio.to_thread(_size, rig)
            await phase(sessions, cookies, tallies)
            connections = rig.proxy.open_connections
            await sessions.close()
            grown = await asyncio.to_thread(_size, rig) - before

            assert connections <= MOST_CONNECTIONS
            counts = [(await sessions.open(cookie)).get("count", 0) for cookie in cookies]
            assert [True] * 8 == [t.fits(n) for t, n in zip(tallies, counts, strict=True)]
            assert sum(tally.confirmed for tally in tallies) > 0
        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert grown < MOST_GROWTH

    with _traced():
        asyncio.run(scenario())


def test_threads_under_load(rig: Rig, tmp_path: Path) -> None:
    """The same of a synchronous store."""

    def visit(sessions: Sessions, cookie: str, tally: Tally) -> None:
        for _ in range(ROUNDS):
            try:
                session = sessions.open(cookie)
                session.edit("count", one_more, default=0)
                sessions.commit(session)
            except (StoreUnavailable, Contention):
                tally.note(confirmed=False)
            else:
                tally.note(confirmed=True)

    def phase(sessions: Sessions, cookies: list[str], tallies: list[Tally]) -> None:
        with Cutting(rig), ThreadPoolExecutor(WORKERS // 2) as pool:
            done: list[Any] = [
                pool.submit(visit, sessions, cookies[n % 8], tallies[n % 8])
                for n in range(WORKERS // 2)
            ]
            for each in done:
                each.result()

    with _traced(), Sessions(from_url(rig.client_url(tmp_path))) as sessions:
        cookies = []
        for number in range(8):
            session = sessions.open(None)
            session.login(f"user:{number}")
            cookies.append(cookie_of(sessions.commit(session)))
        tallies = [Tally() for _ in cookies]
        phase(sessions, cookies, tallies)
        sessions.close()  # how many connections rest, and what they hold, is chance
        threads, before = threading.active_count(), _size(rig)
        phase(sessions, cookies, tallies)
        connections = rig.proxy.open_connections
        sessions.close()

        assert _size(rig) - before < MOST_GROWTH
        assert threads >= threading.active_count()
        assert connections <= MOST_CONNECTIONS
        counts = [sessions.open(cookie).get("count", 0) for cookie in cookies]
        assert [True] * 8 == [t.fits(n) for t, n in zip(tallies, counts, strict=True)]


class _traced:  # noqa: N801 - reads as a statement
    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        tracemalloc.stop()


def _size(rig: Rig) -> int:
    """Bytes that Python objects hold now; the proxy reads 256 KiB at a time in this process."""
    until(lambda: rig.proxy.rests, "the end of every connection")
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
