"""Loads and saves a second, straight at the stores, by the clock on the wall.

"64 in flight" are as many tasks of one event loop, each with a session of its own, as a busy
server has them; "1 in flight" waits for each answer before it asks again.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from msgspec.structs import replace

from benchmarks.rounds import Effort, Key, Measure, figure, interleaved
from benchmarks.table import PER_SECOND, Section
from coatcheck.record import Record
from coatcheck.store import SAVED, AsyncStore, Store
from coatcheck.stores import async_from_url, from_url
from coatcheck.token import mint

__all__ = ["KINDS", "LOADS", "NAME", "SAVES", "measure"]

NAME = "Stores"
LOADS, SAVES = "loads/s", "saves/s"
KINDS = ("memory", "SQLite")
_OTHERS = 1000  # sessions that lie there beside the ones that are asked for
_PAYLOAD = b"p" * 560  # what a session of 404 bytes of JSON comes to
_FAR = 2**42
_NOW = int(time.time() * 1000)

Verb: TypeAlias = Callable[["_Slot"], None]
AsyncVerb: TypeAlias = Callable[["_Slot"], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Slot:
    """One session: the record that is stored, and the one that is saved next, in turns."""

    stored: Record
    other: Record

    def turn(self) -> None:
        self.stored, self.other = self.other, self.stored


def measure(effort: Effort, wanted: Callable[[str], bool], folder: Path) -> Section:
    """Operations a second of memory and SQLite, synchronous, and with 1 and 64 in flight."""
    cases: dict[Key, Measure] = {}
    with asyncio.Runner() as runner, ExitStack() as stack:
        for name in filter(wanted, KINDS):
            url = "memory:" if name == "memory" else f"sqlite:///{folder}/stores.sqlite3"
            store = cast("Store", from_url(url))
            async_store = cast("AsyncStore", async_from_url(url))
            stack.callback(store.close)
            stack.callback(_close, runner, async_store)
            cases.update(_sync_cases(name, store, effort.count))
            cases.update(_async_cases(name, runner, async_store, effort.count))
        samples = interleaved(cases, effort.rounds)
    return Section(
        NAME,
        dict.fromkeys((LOADS, SAVES), PER_SECOND),
        {key: figure(each) for key, each in samples.items()},
        note=f"Operations a second, among {_OTHERS} other sessions.",
    )


def _close(runner: asyncio.Runner, store: AsyncStore) -> None:
    runner.run(store.close())


def _sync_cases(name: str, store: Store, count: int) -> dict[Key, Measure]:
    (slot,) = _slots(1)
    for each in [slot, *_slots(_OTHERS)]:
        store.create(each.stored, _NOW)

    def load(slot: _Slot) -> None:
        assert store.load(slot.stored.id, _NOW) is not None

    def save(slot: _Slot) -> None:
        assert store.save(slot.other, slot.stored.revision, _NOW) is SAVED
        slot.turn()

    row = f"{name}, sync"
    return {
        (row, LOADS): lambda: _timed(load, slot, count),
        (row, SAVES): lambda: _timed(save, slot, count),
    }


def _timed(verb: Verb, slot: _Slot, count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        verb(slot)
    return count / (time.perf_counter() - begun)


def _async_cases(
    name: str, runner: asyncio.Runner, store: AsyncStore, count: int
) -> dict[Key, Measure]:
    async def load(slot: _Slot) -> None:
        assert await store.load(slot.stored.id, _NOW) is not None

    async def save(slot: _Slot) -> None:
        assert await store.save(slot.other, slot.stored.revision, _NOW) is SAVED
        slot.turn()

    async def fill(slots: list[_Slot]) -> None:
        for slot in slots:
            await store.create(slot.stored, _NOW)

    cases: dict[Key, Measure] = {}
    for flight in (1, 64):
        slots = _slots(flight)
        runner.run(fill(slots))
        for column, verb in ((LOADS, load), (SAVES, save)):
            cases[f"{name}, {flight} in flight", column] = _flight(runner, verb, slots, count)
    return cases


def _flight(runner: asyncio.Runner, verb: AsyncVerb, slots: list[_Slot], count: int) -> Measure:
    each = max(1, count // len(slots))

    async def work(slot: _Slot) -> None:
        for _ in range(each):
            await verb(slot)

    async def timed() -> float:
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for slot in slots:
                group.create_task(work(slot))
        return each * len(slots) / (time.perf_counter() - begun)

    return lambda: runner.run(timed())


def _slots(number: int) -> list[_Slot]:
    slots = []
    for _ in range(number):
        stored = Record(mint().id, os.urandom(12), "user:4217", _NOW, _NOW, _FAR, _PAYLOAD)
        slots.append(_Slot(stored, replace(stored, revision=os.urandom(12))))
    return slots
