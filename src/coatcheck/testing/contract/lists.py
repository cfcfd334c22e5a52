"""Lists of sessions, and the sweeping of what expired."""

from typing import Any

from coatcheck.testing.clock import NOW
from coatcheck.testing.contract.base import Contract
from coatcheck.testing.contract.records import MINUTE, changed, ident, record

__all__ = ["ListContract"]


class ListContract(Contract):
    """For a store that is `Listable`, or `Sweepable`."""

    def test_by_subject_finds_theirs(self, verbs: Any) -> None:
        """The live records of one subject, and no others'."""
        self._needs(self.lists)
        for number, subject in enumerate(["user:1", "user:2", "user:1", None]):
            verbs.create(record(ident(number), subject=subject), NOW)

        assert {ident(0), ident(2)} == {r.id for r in verbs.by_subject("user:1", NOW)}
        assert verbs.by_subject("user:3", NOW) == []

    def test_by_subject_follows_saves_and_deletes(self, verbs: Any) -> None:
        """A record whose subject changed is the new one's; a deleted one is nobody's."""
        self._needs(self.lists)
        first = record(subject="user:1")
        verbs.create(first, NOW)
        second = changed(first, subject="user:2")
        verbs.save(second, first.revision, NOW)

        assert verbs.by_subject("user:1", NOW) == []
        assert [second] == verbs.by_subject("user:2", NOW)
        verbs.delete(first.id, NOW)
        assert verbs.by_subject("user:2", NOW) == []

    def test_by_subject_passes_over_what_expired(self, verbs: Any) -> None:
        """An expired record is absent from lists, swept or not."""
        self._needs(self.lists)
        verbs.create(record(subject="user:1", expires_at=NOW + 1), NOW)

        assert verbs.by_subject("user:1", NOW + 1) == []

    def test_by_subject_compares_exactly(self, verbs: Any) -> None:
        """No pattern, no case folding, no trimming."""
        self._needs(self.lists)
        verbs.create(record(subject="user:A"), NOW)

        for near in ("user:a", "user:%", "user:_", "user:*", "user:A ", "user:"):
            assert verbs.by_subject(near, NOW) == []

    def test_pages_meet_every_live_record_once(self, verbs: Any) -> None:
        """Walking by the last id sees all, in order."""
        self._needs(self.lists)
        for number in range(7):
            verbs.create(
                record(ident(number), expires_at=NOW + (1 if number == 3 else MINUTE)), NOW
            )
        met, after = [], ""
        while page := verbs.page(after, 2, NOW + 1):
            met += [each.id for each in page]
            after = met[-1]

        assert [ident(number) for number in (0, 1, 2, 4, 5, 6)] == met

    # sweeps

    def test_sweep_removes_what_expired_in_batches(self, verbs: Any) -> None:
        """At most `limit` at a time, until none is left; the living stay."""
        self._needs(self.sweeps)
        for number in range(5):
            verbs.create(record(ident(number), expires_at=NOW + 1, subject="user:1"), NOW)
        verbs.create(record(ident(9)), NOW)

        assert [verbs.sweep(2, NOW + 1) for _ in range(4)] == [2, 2, 1, 0]
        assert verbs.load(ident(9), NOW + 1) is not None
