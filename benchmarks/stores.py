"""Loads and saves a second, straight at the stores, by the clock on the wall.

Beside each store stands the driver of its backend, used the plain way (see `plain`), which asks the
same server or disk in the same rounds. "64 in flight" are as many tasks of one event loop, each
with a session of its own, as a busy server has them; "1 in flight" waits for each answer before it
asks again.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks import plain, services
from benchmarks.contestants import (
    AsyncContestant,
    AsyncVerb,
    Contestant,
    OfAsyncPlain,
    OfAsyncStore,
    OfPlain,
    OfStore,
    Slot,
    Verb,
    slots,
)
from benchmarks.plain import AsyncPlain, Plain
from benchmarks.rounds import Effort, Key, Measure, figure, interleaved
from benchmarks.table import PER_SECOND, Section
from coatcheck.store import AsyncStore, Store
from coatcheck.stores import async_from_url, from_url

__all__ = ["KINDS", "LOADS", "NAME", "PATIENT", "SAVES", "measure", "row"]

NAME = "Stores"
LOADS, SAVES = "loads/s", "saves/s"

PATIENT = "timeout=60"
"""For a store's URL: a machine that is busy shall not end a measurement."""

_FIRST = 128  # operations, to warm up and to see how long they take
_FLIGHTS = (1, 64)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A store, and the drivers that stand beside it."""

    make: Callable[[Path, ExitStack], "_Backend"]
    driver: str | None = None
    async_driver: str | None = None


@dataclass(frozen=True, slots=True)
class _Backend:
    """The store's URL, and the drivers, who keep the same in the same place but apart."""

    url: str
    driver: Plain | None = None
    async_driver: AsyncPlain | None = None


def _memory(folder: Path, stack: ExitStack) -> _Backend:
    return _Backend("memory:")


def _sqlite(folder: Path, stack: ExitStack) -> _Backend:
    path = f"{folder}/plain.sqlite3"
    url = f"sqlite:///{folder}/stores.sqlite3?{PATIENT}"
    return _Backend(url, plain.SQLitePlain(path), plain.AiosqlitePlain(path))


def _files(folder: Path, stack: ExitStack) -> _Backend:
    return _Backend(f"file:///{folder}/files")


def _redis(folder: Path, stack: ExitStack) -> _Backend:
    url = stack.enter_context(services.redis())
    return _Backend(f"{url}?{PATIENT}", plain.RedisPlain(url), plain.AsyncRedisPlain(url))


def _postgres(folder: Path, stack: ExitStack) -> _Backend:
    url = stack.enter_context(services.postgres())
    return _Backend(f"{url}?{PATIENT}", plain.PsycopgPlain(url), plain.AsyncpgPlain(url))


def _memcached(folder: Path, stack: ExitStack) -> _Backend:
    url = stack.enter_context(services.memcached())
    return _Backend(f"{url}?{PATIENT}", plain.PymemcachePlain(url), plain.AiomcachePlain(url))


KINDS: dict[str, _Kind] = {
    "memory": _Kind(_memory),
    "SQLite": _Kind(_sqlite, "sqlite3", "aiosqlite"),
    "files": _Kind(_files),
    "Redis": _Kind(_redis, "redis-py", "redis-py"),
    "PostgreSQL": _Kind(_postgres, "psycopg", "asyncpg"),
    "Memcached": _Kind(_memcached, "pymemcache", "aiomcache"),
}


def row(name: str, flight: int | None) -> str:
    """What a row is called; None in flight = synchronous."""
    return f"{name}, sync" if flight is None else f"{name}, {flight} in flight"


def measure(effort: Effort, wanted: Callable[[str], bool], folder: Path) -> Section:
    """Operations a second of every store and driver, synchronous, and with 1 and 64 in flight."""
    kinds = {name: kind for name, kind in KINDS.items() if wanted(name)}
    cases: dict[Key, Measure] = {}
    with asyncio.Runner() as runner, ExitStack() as stack:
        for name, kind in kinds.items():
            backend = kind.make(folder, stack)
            for sync_name, contestant in _contestants(name, kind, backend, stack):
                cases.update(_sync_cases(sync_name, contestant, effort))
            for async_name, opened in _async_contestants(name, kind, backend, runner, stack):
                cases.update(_async_cases(async_name, runner, opened, effort))
        samples = interleaved(cases, effort.rounds)
    return Section(
        NAME,
        dict.fromkeys((LOADS, SAVES), PER_SECOND),
        {key: figure(each) for key, each in samples.items()},
        note=f"Operations a second, among {effort.sessions} other sessions"
        f"{services.versions(kinds)}. In brackets, how many times as fast as the plain driver of "
        "the same backend.",
        against=_against(kinds),
    )


def _against(kinds: dict[str, _Kind]) -> dict[str, str]:
    """Each store's rows, and those of the driver that it is compared with."""
    pairs = {}
    for name, kind in kinds.items():
        if kind.driver is not None:
            pairs[row(name, None)] = row(kind.driver, None)
        if kind.async_driver is not None:
            pairs.update({row(name, each): row(kind.async_driver, each) for each in _FLIGHTS})
    return pairs


def _contestants(
    name: str, kind: _Kind, backend: _Backend, stack: ExitStack
) -> Iterator[tuple[str, Contestant]]:
    if backend.driver is not None and kind.driver is not None:
        stack.callback(backend.driver.close)
        yield kind.driver, OfPlain(backend.driver)
    store = cast("Store", from_url(backend.url))
    stack.callback(store.close)
    yield name, OfStore(store)


def _async_contestants(
    name: str, kind: _Kind, backend: _Backend, runner: asyncio.Runner, stack: ExitStack
) -> Iterator[tuple[str, AsyncContestant]]:
    if backend.async_driver is not None and kind.async_driver is not None:
        runner.run(backend.async_driver.open())
        stack.callback(_finish, runner, backend.async_driver.close)
        yield kind.async_driver, OfAsyncPlain(backend.async_driver)
    store = cast("AsyncStore", async_from_url(backend.url))
    stack.callback(_finish, runner, store.close)
    yield name, OfAsyncStore(store)


def _finish(runner: asyncio.Runner, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    runner.run(close())


def _sync_cases(name: str, contestant: Contestant, effort: Effort) -> dict[Key, Measure]:
    (slot,) = slots(1)
    for each in [slot, *slots(effort.sessions)]:
        contestant.create(each)

    def case(verb: Verb) -> Measure:
        return _lasting(effort.seconds, lambda count: _timed(verb, slot, count))

    called = row(name, None)
    return {(called, LOADS): case(contestant.load), (called, SAVES): case(contestant.save)}


def _timed(verb: Verb, slot: Slot, count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        verb(slot)
    return count / (time.perf_counter() - begun)


def _async_cases(
    name: str, runner: asyncio.Runner, contestant: AsyncContestant, effort: Effort
) -> dict[Key, Measure]:
    def case(verb: AsyncVerb, sessions: list[Slot]) -> Measure:
        return _lasting(effort.seconds, lambda count: runner.run(_together(verb, sessions, count)))

    cases: dict[Key, Measure] = {}
    for flight in _FLIGHTS:
        sessions = slots(flight)
        runner.run(_fill(contestant, sessions))
        called = row(name, flight)
        cases[called, LOADS] = case(contestant.load, sessions)
        cases[called, SAVES] = case(contestant.save, sessions)
    return cases


async def _fill(contestant: AsyncContestant, sessions: list[Slot]) -> None:
    for each in sessions:
        await contestant.create(each)


async def _together(verb: AsyncVerb, sessions: list[Slot], count: int) -> float:
    """One task a session, which all do their part of so many operations."""
    part = max(1, count // len(sessions))

    async def work(slot: Slot) -> None:
        for _ in range(part):
            await verb(slot)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for slot in sessions:
            group.create_task(work(slot))
    return part * len(sessions) / (time.perf_counter() - begun)


def _lasting(seconds: float, timed: Callable[[int], float]) -> Measure:
    """As many operations each time as take about so long; a first, short try tells how many."""
    count = max(1, round(timed(_FIRST) * seconds))
    return lambda: timed(count)
