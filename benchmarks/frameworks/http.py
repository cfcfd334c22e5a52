"""Requests a second of each framework behind its usual server, over loopback, 32 connections.

One process, on a core of its own where there are several; the load and Redis have the others. The
rows of a framework take turns. The CPU time is the server's alone.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from benchmarks import services
from benchmarks.frameworks.driving import wire
from benchmarks.frameworks.rows import BARE, row, wanted_rows
from benchmarks.http import cpu_clock, end
from benchmarks.load import put_load
from benchmarks.rounds import Effort, Figure, Key, Measure, figure, interleaved
from benchmarks.table import MICROSECONDS, PER_SECOND, Section

__all__ = ["NAME", "READS", "WRITES", "measure"]

NAME = "HTTP frameworks"
READS, WRITES, CPU = "reads/s", "writes/s", "server CPU µs"
_CONNECTIONS = 32
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class _Server:
    row: str
    port: int
    clock: int
    cookies: list[str]


def measure(effort: Effort, wanted: Callable[[str], bool], folder: Path) -> Section:
    """Requests that read one value, and requests that write one."""
    figures: dict[Key, Figure] = {}
    against: dict[str, str] = {}
    with _last_core_left(), services.redis() as redis, asyncio.Runner() as runner:
        for framework, rows in wanted_rows(wanted).items():
            found = _measured(runner, framework, rows, effort, str(folder), redis)
            figures.update(found)
            against.update({name: row(framework, BARE) for name, _ in found})
            del against[row(framework, BARE)]
    return Section(
        NAME,
        {READS: PER_SECOND, WRITES: PER_SECOND, CPU: MICROSECONDS},
        figures,
        note=f"One process, {_CONNECTIONS} connections; WSGI on waitress, ASGI on uvicorn, the "
        "others on their own servers. The CPU time is a read's. In brackets, the ratio to bare.",
        against=against,
    )


def _measured(
    runner: asyncio.Runner,
    framework: str,
    rows: list[str],
    effort: Effort,
    folder: str,
    redis: str,
) -> dict[Key, Figure]:
    with ExitStack() as stack:
        started = [
            (each, stack.enter_context(_running(framework, each, folder, redis))) for each in rows
        ]
        servers = [_reached(row(framework, each), process) for each, process in started]
        cpu: dict[Key, list[float]] = {}
        cases: dict[Key, Measure] = {}
        for each in servers:
            taken = cpu.setdefault((each.row, CPU), [])
            if not each.cookies:
                cases[each.row, READS] = _case(runner, each, "/untouched", effort.seconds, taken)
            else:
                cases[each.row, READS] = _case(runner, each, "/read", effort.seconds, taken)
                cases[each.row, WRITES] = _case(runner, each, "/write", effort.seconds, [])
        samples = {**interleaved(cases, effort.rounds), **cpu}
    return {key: figure(each) for key, each in samples.items()}


def _case(
    runner: asyncio.Runner, server: _Server, path: str, seconds: float, cpu: list[float]
) -> Measure:
    requests = [wire(path, cookie) for cookie in server.cookies or ["session=none"]]

    def asked() -> float:
        before = time.clock_gettime(server.clock)
        load = runner.run(
            put_load(server.port, requests, connections=_CONNECTIONS, seconds=seconds)
        )
        cpu.append((time.clock_gettime(server.clock) - before) / load.answered * 1e6)
        return load.rate

    return asked


@contextmanager
def _running(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.frameworks.server", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        end(process)


def _reached(name: str, process: "subprocess.Popen[str]") -> _Server:
    """The server answers, and a browser for each connection has signed in."""
    assert process.stdout is not None
    port = int(process.stdout.readline())
    browsers = 0 if name.endswith(f": {BARE}") else _CONNECTIONS
    cookies = [_signed_in(port) for _ in range(browsers)]
    return _Server(name, port, cpu_clock(process.pid), cookies)


def _signed_in(port: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    connection.request("GET", "/fill", headers={"Host": "shop.example.org"})
    response = connection.getresponse()
    text = response.read()
    assert response.status == 200, (response.status, text)
    found = re.match("[^;]+", response.headers["set-cookie"])
    connection.close()
    assert found is not None
    return found[0]


@contextmanager
def _last_core_left() -> Iterator[None]:
    """This process and what it starts stay off the core that the server takes."""
    cores = os.sched_getaffinity(0)
    if len(cores) == 1:
        yield
        return
    os.sched_setaffinity(0, cores - {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
