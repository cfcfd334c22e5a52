"""Rows of one framework, driven in a process of their own.

`python -m benchmarks.frameworks.worker FRAMEWORK FOLDER REDIS SECONDS ROW …`. It says so when it is
ready; then each line that it gets is a round, whose figures it prints as one line of JSON.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.frameworks.apps import built, driver, sign_in
from benchmarks.frameworks.driving import Driver
from benchmarks.frameworks.place import Place
from benchmarks.frameworks.rows import ALONE, BARE, SCENARIOS
from benchmarks.rounds import Measure, quiet
from benchmarks.sample import BODY

__all__ = ["main"]

_TRY = 10  # requests, to warm up and to see how long they take
_FEWEST = 5


def main(framework: str, folder: str, redis: str, seconds: str, *rows: str) -> None:
    place = Place(Path(folder), redis)
    drivers = {row: driver(framework, built(framework, row, place)) for row in rows}
    cases = [
        (row, scenario, _lasting(float(seconds), timed))
        for row, each in drivers.items()
        for scenario, timed in _scenarios(row, each).items()
    ]
    print("ready", flush=True)
    with quiet():
        for _ in sys.stdin:
            figures = [(row, scenario, measure()) for row, scenario, measure in cases]
            print(json.dumps(figures), flush=True)
    for each in drivers.values():
        each.close()


def _scenarios(row: str, asked: Driver) -> dict[str, Callable[[int], float]]:
    """How so many requests of each scenario are timed; all of them answer."""
    if row == BARE:
        return {ALONE: _checked(asked, "/untouched", None)}
    cookie = sign_in(asked)
    return {
        scenario: _checked(asked, path, None if scenario == "anonymous" else cookie)
        for scenario, path in SCENARIOS.items()
    }


def _checked(asked: Driver, path: str, cookie: str | None) -> Callable[[int], float]:
    answer = asked.ask(path, cookie)
    assert (answer.status, answer.body) == (200, BODY), answer
    return partial(asked.timed, path, cookie)


def _lasting(seconds: float, timed: Callable[[int], float]) -> Measure:
    """CPU µs of a request, over as many as take about so long."""
    timed(_TRY)
    count = max(_FEWEST, round(seconds * _TRY / timed(_TRY)))
    return lambda: timed(count) / count * 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
