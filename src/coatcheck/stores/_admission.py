"""Who may log in: a subject's not-before mark, and which of their sessions are too many."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from coatcheck.record import Record
from coatcheck.store import AHEAD, FULL, Entry, Full

__all__ = ["Mark", "surplus"]


class Mark(NamedTuple):
    """No login of the subject whose request was opened before `before`, but that of `keep`."""

    before: int
    keep: str | None
    until: int

    def forbids(self, id: str, opened_at: int, now: int) -> bool:
        return id != self.keep and opened_at < self.before <= now + AHEAD

    def followed_by(self, mark: "Mark", now: int) -> "Mark":
        """The one of the two that counts, where the other is set now; one of a wrong clock does
        not."""
        counts = self if mark.before < self.before <= now + AHEAD else mark
        return counts._replace(until=max(self.until, mark.until))


def surplus(
    record: Record, others: Iterable[Record], entry: Entry, now: int
) -> list[Record] | Full:
    """Which of the subject's other live sessions end for this one; or that it is one too many."""
    if entry.most is None:
        return []
    others = list(others)
    if entry.refuse:
        return FULL if len(others) >= entry.most else []
    by_age = sorted([record, *others], key=partial(_age, now=now), reverse=True)
    too_old = by_age[entry.most :]
    return FULL if record in too_old else too_old


def _age(record: Record, now: int) -> tuple[int, str]:
    login_at = record.login_at or 0
    return login_at if login_at <= now + AHEAD else 0, record.id
