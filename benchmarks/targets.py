"""What was set out to be reached, beside what was measured."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from benchmarks import codec, in_process, stores
from benchmarks.table import NOTHING, PER_SECOND, TIMES, Section, grid, number

__all__ = ["TARGETS", "Outcome", "Target", "outcomes", "report"]


@dataclass(frozen=True, slots=True)
class Target:
    """At least so many times as fast as what its row is compared with.

    `aim` are the µs to aim for, where set.
    """

    section: str
    row: str
    column: str
    ratio: float
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    target: Target
    ratio: float
    median: float
    unit: str

    @property
    def is_met(self) -> bool:
        return self.ratio >= self.target.ratio

    @property
    def verdict(self) -> str:
        return "met" if self.is_met else "**missed**"


_MEMORY, _SQLITE = "coatcheck, memory", "coatcheck, SQLite"
_BUSY = {"SQLite": 3.0, "Redis": 3.0, "PostgreSQL": 5.0}  # stores, with 64 in flight

TARGETS = (
    Target(in_process.NAME, _MEMORY, "read", 1.8, 10.0),
    Target(in_process.NAME, _MEMORY, "read, many browsers", 1.8, 10.0),
    Target(in_process.NAME, _MEMORY, "write", 2.5, 16.0),
    Target(in_process.NAME, _MEMORY, "anonymous", 1.0, 2.0),
    Target(in_process.NAME, _SQLITE, "read", 1.2, 16.0),
    Target(in_process.NAME, _SQLITE, "read, many browsers", 1.2, 16.0),
    Target(codec.NAME, codec.ONE_VALUE, codec.MAKE, 2.5, 4.5),
    Target(codec.NAME, codec.ONE_VALUE, codec.OPEN, 2.4, 5.0),
    Target(codec.NAME, codec.MANY_BROWSERS, codec.MAKE, 2.5, 4.5),
    Target(codec.NAME, codec.MANY_BROWSERS, codec.OPEN, 2.4, 5.0),
    *(
        Target(stores.NAME, stores.row(name, 64), column, ratio)
        for name, ratio in _BUSY.items()
        for column in (stores.LOADS, stores.SAVES)
    ),
)


def outcomes(sections: Iterable[Section]) -> list[Outcome]:
    """Of the targets whose rows were measured in this run."""
    by_name = {section.name: section for section in sections}
    found = []
    for target in TARGETS:
        section = by_name.get(target.section)
        ratio = section.ratio(target.row, target.column) if section is not None else None
        if section is not None and ratio is not None:
            median = section.figures[target.row, target.column].median
            found.append(Outcome(target, ratio, median, section.columns[target.column]))
    return found


def report(found: Sequence[Outcome]) -> str:
    """The targets as a Markdown table."""
    head = ["", "target", "measured", "", "to aim for", "measured"]
    return (
        "### Targets\n\nRatios are to Starlette's SessionMiddleware; those of stores, to the plain "
        "driver of the same backend.\n\n" + grid(head, [_line(outcome) for outcome in found])
    )


def as_json(found: Iterable[Outcome]) -> list[dict[str, object]]:
    return [
        {**asdict(each.target), "measured": each.ratio, "met": each.is_met, "median": each.median}
        for each in found
    ]


def _line(outcome: Outcome) -> list[str]:
    target = outcome.target
    return [
        f"{target.section}: {target.row}, {target.column}",
        f"≥ {target.ratio:.1f}{TIMES}",
        f"{outcome.ratio:.2f}{TIMES}",
        outcome.verdict,
        NOTHING if target.aim is None else _figure(target.aim, outcome.unit),
        _figure(outcome.median, outcome.unit),
    ]


def _figure(value: float, unit: str) -> str:
    return f"{number(value, unit)}{'' if unit == PER_SECOND else ' '}{unit}"
