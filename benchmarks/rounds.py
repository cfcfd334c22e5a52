"""Interleaved rounds, and what is told of them."""

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Effort", "Figure", "Key", "Measure", "figure", "interleaved", "minus", "quiet"]

Measure = Callable[[], float]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: rounds, repetitions in one of them, or seconds where time is given.

    `sessions` is how many lie in a store, where that is what matters.
    """

    rounds: int
    count: int = 0
    seconds: float = 0.0
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A row's median over the rounds, and its quartiles."""

    median: float
    low: float
    high: float


def interleaved(cases: Mapping[Key, Measure], rounds: int) -> dict[Key, list[float]]:
    """Every case once in each round, so that a machine that drifts hits all of them alike."""
    samples: dict[Key, list[float]] = {key: [] for key in cases}
    with quiet():
        for _ in range(rounds):
            for key, measure in cases.items():
                samples[key].append(measure())
    return samples


def figure(samples: Sequence[float]) -> Figure:
    if len(samples) == 1:
        return Figure(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Figure(median, low, high)


def minus(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round, what is left over the base."""
    return [sample - zero for sample, zero in zip(samples, base, strict=True)]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what was made so far out of the collector's sight.

    The collector itself stays on: what a library's garbage costs is part of what it costs.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
