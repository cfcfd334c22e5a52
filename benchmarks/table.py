"""Sections of figures, and their Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.rounds import Figure, Key

__all__ = [
    "BYTES",
    "MICROSECONDS",
    "NOTHING",
    "PER_SECOND",
    "SECONDS",
    "TIMES",
    "Section",
    "grid",
    "markdown",
    "number",
]

MICROSECONDS = "µs"
PER_SECOND = "/s"
BYTES = "bytes"
SECONDS = "s"
TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Section:
    """Figures by row and column; `columns` gives each one's unit. Of µs, less is better.

    Rows are compared with the baseline, or with the one that `against` names for them; bytes and
    seconds with nothing.
    """

    name: str
    columns: Mapping[str, str]
    figures: Mapping[Key, Figure]
    note: str
    baseline: str | None = None
    against: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self.figures))

    def ratio(self, row: str, column: str) -> float | None:
        """How many times as fast as its baseline in that column; None where there is none."""
        mine = self.figures.get((row, column))
        base = self.figures.get((self.against.get(row, self.baseline or ""), column))
        if mine is None or base is None or mine.median <= 0 or base.median <= 0:
            return None
        unit = self.columns[column]
        if unit == MICROSECONDS:
            return base.median / mine.median
        return mine.median / base.median if unit == PER_SECOND else None


def markdown(section: Section) -> str:
    """A heading, the note and a table, to be pasted into a page."""
    body = [
        [row, *(_cell(section, row, column) for column in section.columns)]
        for row in section.rows()
    ]
    return f"### {section.name}\n\n{section.note}\n\n{grid(['', *section.columns], body)}\n"


def grid(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column reads from the left, the others from the right."""
    rule = ["---", *(["---:"] * (len(head) - 1))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])


def _cell(section: Section, row: str, column: str) -> str:
    figure = section.figures.get((row, column))
    if figure is None:
        return NOTHING
    ratio = section.ratio(row, column)
    text = number(figure.median, section.columns[column])
    return text if ratio is None or row == section.baseline else f"{text} ({ratio:.2f}{TIMES})"


def number(value: float, unit: str) -> str:
    return f"{value:,.1f}" if unit in (MICROSECONDS, SECONDS) else f"{value:,.0f}"
