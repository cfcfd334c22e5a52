"""A store with a million sessions beside one with a hundredth of them: what size costs.

Loads are one after another, in one event loop, each of a session picked at random among those that
live on; a load's latency includes the turn of the loop before it, so that whatever holds the loop
up is seen. Then half of the sessions expire. The sweep runs as it does in a site's own process, as
a task of the same event loop, and the loads go on meanwhile. Redis drops by itself what expired;
there the sweep lasts until the last expired key is gone.

The sweep is taken once, since filling takes minutes; the loads before it are interleaved rounds.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import records, services
from benchmarks.filled import KINDS, Filled
from benchmarks.rounds import Effort, Figure, Key, Measure, figure, interleaved
from benchmarks.table import BYTES, MICROSECONDS, SECONDS, Section
from coatcheck.record import Record

__all__ = ["BYTES_EACH", "KINDS", "MEDIAN", "NAME", "SLOWEST", "SWEEP", "measure"]

NAME = "Scale"
BYTES_EACH, MEDIAN, SLOWEST, SWEEP = "bytes each", "load p50, µs", "load p99, µs", "sweep, s"
_SMALLER = 100  # times
_PICKED = 50_000  # ids, at most, that loads pick from


@dataclass(frozen=True, slots=True)
class _Size:
    """One store with so many sessions, half of which are to expire; `ids` of some that live on."""

    row: str
    number: int
    filled: Filled
    ids: list[str] = field(default_factory=list)

    def records(self) -> Iterator[Record]:
        step = 1 + self.number // 2 // _PICKED
        for each in range(self.number // 2):
            record = records.made()
            if each % step == 0:
                self.ids.append(record.id)
            yield record
            yield records.made(records.SOON)

    async def load(self) -> float:
        """How many µs one took."""
        picked = random.choice(self.ids)
        begun = time.perf_counter()
        await asyncio.sleep(0)
        assert await self.filled.store.load(picked, records.NOW) is not None
        return (time.perf_counter() - begun) * 1e6

    async def loads(self, count: int) -> list[float]:
        return [await self.load() for _ in range(count)]

    async def loads_meanwhile(self) -> tuple[float, list[float]]:
        """How many seconds it took until what expired was gone, and the loads that went on."""
        begun = time.perf_counter()
        sweep = asyncio.create_task(self.filled.sweep())
        took = [await self.load(), await self.load()]
        while not sweep.done():
            took.append(await self.load())
        assert await sweep == self.number // 2
        return time.perf_counter() - begun, took


def measure(effort: Effort, wanted: Callable[[str], bool], folder: Path) -> Section:
    """Bytes, latencies of loads, and what a sweep of half does to them."""
    kinds = list(filter(wanted, KINDS))
    figures: dict[Key, Figure] = {}
    against: dict[str, str] = {}
    with asyncio.Runner() as runner, ExitStack() as stack:
        sizes = [
            _filled(name, number, folder, runner, stack)
            for name in kinds
            for number in (effort.sessions // _SMALLER, effort.sessions)
        ]
        loaded = _loaded(sizes, effort, runner)
        for small, large in zip(sizes[::2], sizes[1::2], strict=True):
            sweeping = f"{large.row}, sweeping half"
            against |= {large.row: small.row, sweeping: large.row}
            figures |= {key: loaded[key] for key in loaded if key[0] in (small.row, large.row)}
            figures |= _swept(sweeping, large, runner)
    return Section(
        NAME,
        {BYTES_EACH: BYTES, MEDIAN: MICROSECONDS, SLOWEST: MICROSECONDS, SWEEP: SECONDS},
        figures,
        note=f"Sessions with {len(records.PAYLOAD)} bytes of payload{services.versions(kinds)}. "
        "Loads one after another, each after a turn of the event loop. In brackets, how many "
        "times as fast as the row above.",
        against=against,
    )


def _filled(
    name: str, number: int, folder: Path, runner: asyncio.Runner, stack: ExitStack
) -> _Size:
    made = KINDS[name](folder, stack, f"of{number}")
    stack.callback(lambda: runner.run(made.store.close()))
    size = _Size(f"{name}, {number:,}", number, made)
    made.fill(size.records())
    return size


def _loaded(sizes: Sequence[_Size], effort: Effort, runner: asyncio.Runner) -> dict[Key, Figure]:
    """What each takes, and the latencies of loads while nothing else happens."""
    slowest: dict[Key, list[float]] = {(size.row, SLOWEST): [] for size in sizes}
    cases: dict[Key, Measure] = {
        (size.row, MEDIAN): _case(runner, size, effort.count, slowest[size.row, SLOWEST])
        for size in sizes
    }
    samples = interleaved(cases, effort.rounds) | slowest
    bytes_each = {
        (size.row, BYTES_EACH): figure([size.filled.size() / size.number]) for size in sizes
    }
    return bytes_each | {key: figure(each) for key, each in samples.items()}


def _case(runner: asyncio.Runner, size: _Size, count: int, slowest: list[float]) -> Measure:
    def timed() -> float:
        took = runner.run(size.loads(count))
        slowest.append(_slowest(took))
        return statistics.median(took)

    return timed


def _swept(row: str, size: _Size, runner: asyncio.Runner) -> dict[Key, Figure]:
    size.filled.expire()
    seconds, took = runner.run(size.loads_meanwhile())
    return {
        (row, MEDIAN): figure([statistics.median(took)]),
        (row, SLOWEST): figure([_slowest(took)]),
        (row, SWEEP): figure([seconds]),
    }


def _slowest(took: Sequence[float]) -> float:
    """Of a hundred, the one that is next to the slowest."""
    return statistics.quantiles(took, n=100, method="inclusive")[98]
