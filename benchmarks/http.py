"""Requests a second through uvicorn with one worker, over loopback, 32 connections.

The servers are processes of their own and live through all rounds; one is asked at a time, from
this process. The CPU time is the server's, which a busy machine disturbs less than its rate.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.libraries import BARE, LIBRARIES
from benchmarks.load import put_load
from benchmarks.rounds import Effort, figure, interleaved, minus
from benchmarks.sample import request
from benchmarks.table import MICROSECONDS, PER_SECOND, Section

__all__ = ["ADDED", "NAME", "RATE", "cpu_clock", "end", "measure"]

NAME = "HTTP"
RATE, CPU, ADDED = "requests/s", "server CPU µs", "added CPU µs"
_CONNECTIONS = 32
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    port: int
    request: bytes
    clock: int  # the id of its process's CPU clock


def measure(effort: Effort, wanted: Callable[[str], bool]) -> Section:
    """Reads of one value, by library; the same requests, the same responses."""
    names = [name for name in LIBRARIES if name == BARE or wanted(name)]
    cpu: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        servers = [stack.enter_context(_running(name)) for name in names]
        runner = stack.enter_context(asyncio.Runner())
        cases = {
            (each.name, RATE): _case(runner, each, effort.seconds, cpu[each.name])
            for each in servers
        }
        rates = interleaved(cases, effort.rounds)
    figures = {key: figure(samples) for key, samples in rates.items()}
    for name in names:
        figures[name, CPU] = figure(cpu[name])
        if name != BARE:
            figures[name, ADDED] = figure(minus(cpu[name], cpu[BARE]))
    return Section(
        NAME,
        {RATE: PER_SECOND, CPU: MICROSECONDS, ADDED: MICROSECONDS},
        figures,
        note=f"uvicorn, one worker, {_CONNECTIONS} connections, each request reads one value; "
        "in brackets, the ratio to bare.",
        baseline=BARE,
    )


def _case(
    runner: asyncio.Runner, server: _Server, seconds: float, cpu: list[float]
) -> Callable[[], float]:
    def asked() -> float:
        before = time.clock_gettime(server.clock)
        load = runner.run(
            put_load(server.port, [server.request], connections=_CONNECTIONS, seconds=seconds)
        )
        cpu.append((time.clock_gettime(server.clock) - before) / load.answered * 1e6)
        return load.rate

    return asked


@contextmanager
def _running(name: str) -> Iterator[_Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server", name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield _Server(name, told["port"], _wire(told["cookie"]), cpu_clock(process.pid))
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _wire(cookie: str) -> bytes:
    """The request as it goes over the wire."""
    lines = [name + b": " + value for name, value in request(cookie)["headers"]]
    return b"\r\n".join([b"GET /shop HTTP/1.1", *lines, b"", b""])


def cpu_clock(pid: int) -> int:
    """The clock id of another process's CPU time, as clock_getcpuclockid(3) makes it on Linux."""
    return (~pid << 3) | 2
