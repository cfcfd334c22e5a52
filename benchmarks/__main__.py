"""`python -m benchmarks`: measure, and print Markdown."""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import codec, http, in_process, machine, scale, stores, targets
from benchmarks.frameworks import http as http_frameworks
from benchmarks.frameworks import in_process as in_frameworks
from benchmarks.frameworks import pairs
from benchmarks.frameworks.rows import FRAMEWORKS
from benchmarks.frameworks.rows import row as row_of
from benchmarks.libraries import LIBRARIES
from benchmarks.rounds import Effort
from benchmarks.table import Section, markdown

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class _Part:
    """A section to be measured: its name and its rows', how much of it, and how."""

    name: str
    rows: Sequence[str]
    full: Effort
    quick: Effort
    run: Callable[[Effort, Callable[[str], bool], Path], Section]
    asked: bool = False
    """Whether it takes so long that it is measured only where `--only` names it."""


_FRAMEWORKS = [row_of(name, each) for name, found in FRAMEWORKS.items() for each in found.rows()]

_PARTS = (
    _Part(
        in_process.NAME,
        list(LIBRARIES),
        Effort(101, 300),
        Effort(15, 100),
        in_process.measure,
    ),
    _Part(
        codec.NAME,
        [codec.ONE_VALUE, codec.MANY_BROWSERS, codec.ALL_VALUES],
        Effort(101, 400),
        Effort(15, 100),
        lambda effort, wanted, folder: codec.measure(effort),
    ),
    _Part(
        http.NAME,
        list(LIBRARIES),
        Effort(11, seconds=0.7),
        Effort(3, seconds=0.3),
        lambda effort, wanted, folder: http.measure(effort, wanted),
    ),
    _Part(
        in_frameworks.NAME,
        _FRAMEWORKS,
        Effort(21, seconds=0.008),
        Effort(5, seconds=0.003),
        in_frameworks.measure,
    ),
    _Part(
        http_frameworks.NAME,
        _FRAMEWORKS,
        Effort(3, seconds=0.15),
        Effort(1, seconds=0.05),
        http_frameworks.measure,
    ),
    _Part(
        stores.NAME,
        list(stores.KINDS),
        Effort(21, seconds=0.1, sessions=1000),
        Effort(5, seconds=0.03, sessions=1000),
        stores.measure,
    ),
    _Part(
        scale.NAME,
        list(scale.KINDS),
        Effort(15, 2000, sessions=1_000_000),
        Effort(3, 500, sessions=20_000),
        scale.measure,
        asked=True,
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and print it as Markdown."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if all(_wanted(part, options.only) is None for part in _PARTS):
        parser.error(f"--only: no section and no row has {options.only!r} in its name")
    command = shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])])
    print(machine.described(command), flush=True)
    sections = []
    for part in _PARTS:
        if (wanted := _wanted(part, options.only)) is not None:
            sections.append(_measured(part, options, wanted))
            print(f"\n{markdown(sections[-1])}", end="", flush=True)
    found = targets.outcomes(sections)
    if found:
        print(f"\n{targets.report(found)}")
    beside = pairs.outcomes(sections)
    if beside:
        print(f"\n{pairs.report(beside)}")
    if options.json is not None:
        options.json.write_text(_dumped(command, sections, found, beside), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds: for a look")
    parser.add_argument("--rounds", type=_positive, help="how many rounds each section takes")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        default="",
        help="only the sections whose name holds this, or else the rows whose name does, with or "
        "without its section's (`stores: redis`); what they are compared with is always measured",
    )
    parser.add_argument(
        "--sessions",
        type=_positive,
        metavar="NUMBER",
        help="how many sessions there are (Scale), or lie beside those that are asked for (Stores)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to a file")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def _wanted(part: _Part, pattern: str) -> Callable[[str], bool] | None:
    """Which of a section's rows to measure; None = leave the section out."""
    pattern = pattern.lower()
    if pattern in part.name.lower():
        return None if part.asked and not pattern else lambda row: True

    def wanted(row: str) -> bool:
        if ":" in pattern:
            return pattern in f"{part.name}: {row}".lower()
        return not part.asked and pattern in row.lower()

    by_section = any(pattern in each.name.lower() for each in _PARTS)
    return None if by_section or not any(map(wanted, part.rows)) else wanted


def _measured(part: _Part, options: argparse.Namespace, wanted: Callable[[str], bool]) -> Section:
    effort = part.quick if options.quick else part.full
    if options.rounds is not None:
        effort = replace(effort, rounds=options.rounds)
    if options.sessions is not None:
        effort = replace(effort, sessions=options.sessions)
    with tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as folder:
        return part.run(effort, wanted, Path(folder))


def _dumped(
    command: str,
    sections: Sequence[Section],
    found: Sequence[targets.Outcome],
    beside: Sequence[pairs.Outcome],
) -> str:
    measured: dict[str, Any] = {}
    for section in sections:
        rows: dict[str, Any] = measured.setdefault(section.name, {})
        for (row, column), figure in section.figures.items():
            rows.setdefault(row, {})[column] = asdict(figure)
    data = {
        "machine": machine.described(command),
        "versions": machine.versions(),
        "sections": measured,
        "targets": targets.as_json(found),
        "pairs": pairs.as_json(beside),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
