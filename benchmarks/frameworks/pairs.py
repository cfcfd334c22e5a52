"""Each peer beside the row of ours that takes its place: how many times as fast, in one run."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from benchmarks.frameworks import http, in_process
from benchmarks.frameworks.rows import ALONE, BARE, FRAMEWORKS, SCENARIOS, row
from benchmarks.table import NOTHING, PER_SECOND, TIMES, Section, grid

__all__ = ["Outcome", "as_json", "outcomes", "report"]

_TIE = 1.05
_LEAST = 0.01
"""Of a bare request: what a session adds below that is taken for that."""

_COLUMNS = {in_process.NAME: (*SCENARIOS,), http.NAME: (http.READS, http.WRITES)}


@dataclass(frozen=True, slots=True)
class Outcome:
    framework: str
    peer: str
    ours: str
    column: str
    ratio: float
    """How many times as fast ours is."""

    @property
    def verdict(self) -> Literal["ahead", "tie", "behind"]:
        if self.ratio > _TIE:
            return "ahead"
        return "tie" if self.ratio >= 1 / _TIE else "behind"


def outcomes(sections: Iterable[Section]) -> list[Outcome]:
    """Of the pairs whose rows were both measured in this run."""
    return [
        Outcome(framework, peer, ours, column, ratio)
        for section in sections
        for column in _COLUMNS.get(section.name, ())
        for framework, each in FRAMEWORKS.items()
        for peer, ours in each.pairs
        if (ratio := _ratio(section, framework, peer, ours, column)) is not None
    ]


def _ratio(section: Section, framework: str, peer: str, ours: str, column: str) -> float | None:
    theirs = section.figures.get((row(framework, peer), column))
    mine = section.figures.get((row(framework, ours), column))
    if theirs is None or mine is None:
        return None
    if section.columns[column] == PER_SECOND:
        return mine.median / theirs.median
    least = section.figures[row(framework, BARE), ALONE].median * _LEAST
    return max(theirs.median, least) / max(mine.median, least)


def report(found: Sequence[Outcome]) -> str:
    """The pairs as a Markdown table, and how many are ahead."""
    columns = list(dict.fromkeys(each.column for each in found))
    ratios = {(each.framework, each.peer, each.ours, each.column): each for each in found}
    body = [
        [
            f"{framework}: {peer}",
            ours,
            *(_cell(ratios.get((framework, peer, ours, c))) for c in columns),
        ]
        for framework, peer, ours in dict.fromkeys(key[:3] for key in ratios)
    ]
    note = f"How many times as fast coatcheck is as what it takes the place of. {_sum(found)}"
    return f"### Pairs\n\n{note}\n\n{grid(['', '', *columns], body)}"


def as_json(found: Iterable[Outcome]) -> list[dict[str, object]]:
    return [{**asdict(each), "verdict": each.verdict} for each in found]


def _sum(found: Sequence[Outcome]) -> str:
    verdicts = [each.verdict for each in found]
    ahead, ties, behind = (verdicts.count(each) for each in ("ahead", "tie", "behind"))
    return (
        f"Of {len(found)} ratios, {ahead} are ahead, {ties} a tie (within 5 %), and "
        f"{behind} **behind**. What a session adds below 1 % of the bare request counts as that."
    )


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return NOTHING
    text = f"{outcome.ratio:.2f}{TIMES}"
    return {"ahead": text, "tie": f"{text} tie", "behind": f"**{text}**"}[outcome.verdict]
