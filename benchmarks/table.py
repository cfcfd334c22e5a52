"""Sections of figures, and their Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rounds import Figure, Key

__all__ = ["MICROSECONDS", "NOTHING", "PER_SECOND", "TIMES", "Section", "grid", "markdown"]

MICROSECONDS = "µs"
PER_SECOND = "/s"
TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Section:
    """Figures by row and column; `columns` gives each one's unit. Of µs, less is better."""

    name: str
    columns: Mapping[str, str]
    figures: Mapping[Key, Figure]
    note: str
    baseline: str | None = None

    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self.figures))

    def ratio(self, row: str, column: str) -> float | None:
        """How many times as fast as the baseline in that column; None where there is none."""
        mine = self.figures.get((row, column))
        base = self.figures.get((self.baseline or "", column))
        if mine is None or base is None or mine.median <= 0 or base.median <= 0:
            return None
        faster = mine.median / base.median
        return 1 / faster if self.columns[column] == MICROSECONDS else faster


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
    text = _number(figure.median, section.columns[column])
    return text if ratio is None or row == section.baseline else f"{text} ({ratio:.2f}{TIMES})"


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == PER_SECOND else f"{value:.1f}"
