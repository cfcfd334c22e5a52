"""What a session adds to one ASGI request, as CPU time, without sockets.

One event loop drives the app, thousands of times over all rounds; what the bare app takes in the
same round is subtracted. The time is the whole process's, so a store's own threads count. Most
scenarios have one browser, which asks again and again; "many browsers" take turns, so that nothing
that a library keeps of its latest visitors is there when one of them comes back.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from benchmarks.libraries import BARE, LIBRARIES, MANY, SCENARIOS, STARLETTE, Library, make, sign_in
from benchmarks.rounds import Effort, Key, Measure, figure, interleaved, minus
from benchmarks.sample import App, Scope, receive, request, send
from benchmarks.table import MICROSECONDS, Section

__all__ = ["NAME", "measure"]

NAME = "In process"
_WARM_UP = 20
_BARE: Key = (BARE, "untouched")


def measure(effort: Effort, wanted: Callable[[str], bool], folder: Path) -> Section:
    """CPU microseconds per request beyond the bare app's."""
    with asyncio.Runner() as runner, _made(runner, wanted, folder) as libraries:
        cases: dict[Key, Measure] = {}
        for library in libraries:
            cases.update(_cases(runner, library, effort.count))
        samples = interleaved(cases, effort.rounds)
    bare = samples.pop(_BARE)
    return Section(
        NAME,
        dict.fromkeys(SCENARIOS, MICROSECONDS),
        {key: figure(minus(each, bare)) for key, each in samples.items()},
        note=f"CPU µs that a session adds to a request which takes {figure(bare).median:.2f} µs "
        "without one; in brackets, how many times as fast as Starlette's.",
        baseline=STARLETTE,
    )


@contextmanager
def _made(
    runner: asyncio.Runner, wanted: Callable[[str], bool], folder: Path
) -> Iterator[list[Library]]:
    names = [name for name in LIBRARIES if name in (BARE, STARLETTE) or wanted(name)]
    libraries = [make(name, folder) for name in names]
    try:
        yield libraries
    finally:
        for library in libraries:
            if library.close is not None:
                runner.run(library.close())


def _cases(runner: asyncio.Runner, library: Library, count: int) -> dict[Key, Measure]:
    if library.name == BARE:
        return {_BARE: _timer(runner, library.app("untouched"), [request(None)], count)}
    signed_in = runner.run(_signed_in(library))
    cases: dict[Key, Measure] = {}
    for scenario in SCENARIOS:
        scopes = signed_in if scenario == "read, many browsers" else signed_in[:1]
        if scenario.startswith("anonymous"):
            scopes = [request(None)]
        cases[library.name, scenario] = _timer(runner, library.app(scenario), scopes, count)
    return cases


async def _signed_in(library: Library) -> list[Scope]:
    """Requests of many browsers, each with a session of its own."""
    return [request(await sign_in(library)) for _ in range(MANY)]


def _timer(runner: asyncio.Runner, app: App, scopes: Sequence[Scope], count: int) -> Measure:
    turns = cycle(scopes)
    return lambda: runner.run(_timed(app, turns, count))


async def _timed(app: App, turns: Iterator[Scope], count: int) -> float:
    await _drive(app, turns, _WARM_UP)
    begun = time.process_time()
    await _drive(app, turns, count)
    return (time.process_time() - begun) / count * 1e6


async def _drive(app: App, turns: Iterator[Scope], count: int) -> None:
    for scope in islice(turns, count):
        await app(dict(scope), receive, send)
