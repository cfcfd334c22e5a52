"""What a session adds to one request of each framework, as CPU time, without sockets.

The rows of a framework take turns in one process; Django's, whose settings are global, in one
process each. What the bare app takes in the same round is subtracted.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import services
from benchmarks.frameworks.rows import ALONE, BARE, FRAMEWORKS, SCENARIOS, row, wanted_rows
from benchmarks.rounds import Effort, Figure, Key, figure, minus
from benchmarks.table import MICROSECONDS, Section

__all__ = ["NAME", "measure"]

NAME = "Frameworks"

Round = list[tuple[str, str, float]]


def measure(effort: Effort, wanted: Callable[[str], bool], folder: Path) -> Section:
    """CPU microseconds per request beyond the bare app's, by framework."""
    figures: dict[Key, Figure] = {}
    with services.redis() as redis:
        for framework, rows in wanted_rows(wanted).items():
            samples = _samples(framework, rows, effort, folder, redis)
            bare = samples.pop((BARE, ALONE))
            figures[row(framework, BARE), ALONE] = figure(bare)
            for (name, scenario), each in samples.items():
                figures[row(framework, name), scenario] = figure(minus(each, bare))
    return Section(
        NAME,
        dict.fromkeys((ALONE, *SCENARIOS), MICROSECONDS),
        figures,
        note=f"CPU µs that a session adds to a request of its framework; *{ALONE}* is what that "
        "takes without one. What waits for a server or a disk is not in it.",
    )


def _samples(
    framework: str, rows: list[str], effort: Effort, folder: Path, redis: str
) -> dict[Key, list[float]]:
    groups = [[each] for each in rows] if FRAMEWORKS[framework].alone else [rows]
    samples: dict[Key, list[float]] = {}
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_working(framework, str(folder), redis, str(effort.seconds), *each))
            for each in groups
        ]
        for worker in workers:
            _line(worker)  # all are made at once, and ready one after another
        for _ in range(effort.rounds):
            for worker in workers:
                for name, scenario, took in _round(worker):
                    samples.setdefault((name, scenario), []).append(took)
    return samples


@contextmanager
def _working(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.frameworks.worker", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _round(worker: "subprocess.Popen[str]") -> Round:
    assert worker.stdin is not None
    worker.stdin.write("round\n")
    worker.stdin.flush()
    found: Round = json.loads(_line(worker))
    return found


def _line(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"expected a line from {worker.args!r}, got the end of its output")
    return line
