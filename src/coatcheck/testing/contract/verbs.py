"""The five verbs: what each does, and what absence means to it."""

from typing import Any

import pytest

from coatcheck.errors import Collision
from coatcheck.record import Record
from coatcheck.store import GONE, SAVED
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract.base import Contract
from coatcheck.testing.contract.records import HOUR, MINUTE, changed, ident, record, revision

__all__ = ["VerbContract"]


class VerbContract(Contract):
    """Every store's."""

    def test_load_of_nothing_is_none(self, verbs: Any) -> None:
        """An id that was never created is absent."""
        assert verbs.load(ident(1), NOW) is None

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"subject": "user:42", "login_at": NOW - 5},
            {"subject": "ü" * 127},
            {"subject": "%_'\"\\ {}[]:*?"},
            {"payload": bytes(range(256))},
            {"payload": b""},
            {"payload": b"\x00" * 70_000},
            {"revision": b"\x00\x00\x00\x01" + b"\x00\xff\r\n \x1a'\""},
        ],
    )
    def test_create_keeps_every_field(self, verbs: Any, fields: dict[str, Any]) -> None:
        """What was created is what is loaded, to the byte."""
        created = record(**fields)
        verbs.create(created, NOW)

        assert created == verbs.load(created.id, NOW)

    def test_create_never_overwrites(self, verbs: Any) -> None:
        """A live record is left as it was."""
        first = record(payload=b"first")
        verbs.create(first, NOW)
        with pytest.raises(Collision):
            verbs.create(record(payload=b"second"), NOW)

        assert first == verbs.load(first.id, NOW)

    def test_create_replaces_what_expired(self, verbs: Any) -> None:
        """An expired record is absent to create too."""
        verbs.create(record(expires_at=NOW + 1, subject="user:1"), NOW)
        second = record(payload=b"second")
        verbs.create(second, NOW + 1)

        assert second == verbs.load(second.id, NOW + 1)

    # save

    def test_save_replaces_the_expected_revision(self, verbs: Any) -> None:
        """A save of the revision that is there goes through, with every field."""
        first = record()
        verbs.create(first, NOW)
        second = changed(
            first, subject="user:1", login_at=NOW, expires_at=NOW + MINUTE, payload=b"second"
        )

        assert SAVED is verbs.save(second, first.revision, NOW)
        assert second == verbs.load(first.id, NOW)

    def test_save_of_another_revision_finds_the_record(self, verbs: Any) -> None:
        """A refused save answers with what is there, and changes nothing."""
        first = record()
        verbs.create(first, NOW)
        second = changed(first, payload=b"second")
        verbs.save(second, first.revision, NOW)

        assert second == verbs.save(changed(first, payload=b"late"), first.revision, NOW)
        assert second == verbs.load(first.id, NOW)

    def test_save_compares_the_whole_revision(self, verbs: Any) -> None:
        """The same count with another tag is another history."""
        first = record(revision=b"\x00\x00\x00\x01" + b"A" * 8)
        verbs.create(first, NOW)

        assert first == verbs.save(changed(first), b"\x00\x00\x00\x01" + b"B" * 8, NOW)

    def test_save_never_creates(self, verbs: Any) -> None:
        """A save of nothing, or of what was deleted, is GONE and leaves nothing."""
        first = record()
        assert GONE is verbs.save(changed(first), first.revision, NOW)
        verbs.create(first, NOW)
        verbs.delete(first.id, NOW)

        assert GONE is verbs.save(changed(first), first.revision, NOW)
        assert verbs.load(first.id, NOW) is None

    def test_save_never_revives_what_expired(self, verbs: Any) -> None:
        """An expired record is absent to save, swept or not."""
        first = record(expires_at=NOW + 1)
        verbs.create(first, NOW)

        assert GONE is verbs.save(changed(first, expires_at=NOW + HOUR), first.revision, NOW + 1)
        assert verbs.load(first.id, NOW + 1) is None

    # touch

    def test_touch_prolongs(self, verbs: Any) -> None:
        """Both times move, nothing else does, and the revision stays."""
        first = record(subject="user:1")
        verbs.create(first, NOW)

        assert verbs.touch(first.id, first.revision, NOW + 5, NOW + HOUR + 5, NOW) is True
        assert Record(
            first.id, first.revision, "user:1", None, NOW + 5, NOW + HOUR + 5, first.payload
        ) == verbs.load(first.id, NOW)

    def test_touch_only_moves_forwards(self, verbs: Any) -> None:
        """A touch that comes late leaves the later times there."""
        first = record()
        verbs.create(first, NOW)

        assert verbs.touch(first.id, first.revision, NOW - 5, NOW + MINUTE, NOW) is True
        assert first == verbs.load(first.id, NOW)

    def test_touch_of_another_revision_does_nothing(self, verbs: Any) -> None:
        """A record that was saved since is left alone."""
        first = record()
        verbs.create(first, NOW)

        assert verbs.touch(first.id, revision(), NOW, NOW + 2 * HOUR, NOW) is False
        assert first == verbs.load(first.id, NOW)

    def test_touch_never_creates(self, verbs: Any) -> None:
        """Neither what is absent nor what expired is prolonged."""
        first = record(expires_at=NOW + 1)
        assert verbs.touch(first.id, first.revision, NOW, NOW + HOUR, NOW) is False
        verbs.create(first, NOW)

        assert verbs.touch(first.id, first.revision, NOW + 1, NOW + HOUR, NOW + 1) is False
        assert verbs.load(first.id, NOW + 1) is None

    def test_touched_record_lives_until_its_new_end(self, verbs: Any) -> None:
        """The prolonged time is the one that counts."""
        first = record(expires_at=NOW + MINUTE)
        verbs.create(first, NOW)
        verbs.touch(first.id, first.revision, NOW, NOW + 2 * MINUTE, NOW)

        assert verbs.load(first.id, NOW + 2 * MINUTE - 1) is not None
        assert verbs.load(first.id, NOW + 2 * MINUTE) is None

    # delete and expiry

    def test_delete_removes_whatever_the_revision(self, verbs: Any) -> None:
        """A delete is not compared: it wins over every save."""
        first = record()
        verbs.create(first, NOW)
        verbs.save(changed(first), first.revision, NOW)

        assert verbs.delete(first.id, NOW) is True
        assert verbs.load(first.id, NOW) is None

    def test_delete_of_nothing_is_fine(self, verbs: Any) -> None:
        """It says that nothing was there."""
        assert verbs.delete(ident(7), NOW) is False

    def test_delete_of_what_expired_says_absent(self, verbs: Any) -> None:
        """An expired record is absent to delete too."""
        verbs.create(record(expires_at=NOW + 1), NOW)

        assert verbs.delete(record().id, NOW + 1) is False

    def test_a_record_ends_at_its_own_time(self, verbs: Any) -> None:
        """`now` decides, to the millisecond, whatever the server's own clock says."""
        first = record(expires_at=NOW + MINUTE)
        verbs.create(first, NOW)

        assert first == verbs.load(first.id, NOW + MINUTE - 1)
        assert verbs.load(first.id, NOW + MINUTE) is None

    def test_records_do_not_meet(self, verbs: Any) -> None:
        """A verb changes the record of its id and no other."""
        one, other = record(ident(1), subject="user:1"), record(ident(2), subject="user:1")
        verbs.create(one, NOW)
        verbs.create(other, NOW)
        verbs.save(changed(one, payload=b"x"), one.revision, NOW)
        verbs.delete(one.id, NOW)

        assert other == verbs.load(other.id, NOW)

    # together

    def test_of_many_saves_one_goes_through(self, verbs: Any) -> None:
        """Comparing and replacing are one step, among threads or tasks."""
        first = record()
        verbs.create(first, NOW)
        rivals = [changed(first, payload=b"%d" % n) for n in range(16)]
        answers = self._at_once(verbs, [("save", r, first.revision, NOW) for r in rivals])
        winners = [r for r, answer in zip(rivals, answers, strict=True) if answer is SAVED]

        assert [verbs.load(first.id, NOW)] == winners

    def test_of_many_creates_one_goes_through(self, verbs: Any) -> None:
        """One creates; the others collide."""
        rivals = [record(payload=b"%d" % n) for n in range(16)]
        answers = self._at_once(verbs, [("create", rival, NOW) for rival in rivals])

        assert sum(isinstance(answer, Collision) for answer in answers) == 15

    def test_saves_that_cross_a_delete_revive_nothing(self, verbs: Any) -> None:
        """However they fall, the record is gone at the end."""
        first = record(subject="user:1")
        verbs.create(first, NOW)
        calls: list[tuple[Any, ...]] = [
            ("save", changed(first), first.revision, NOW) for _ in range(8)
        ]
        calls.insert(4, ("delete", first.id, NOW))
        self._at_once(verbs, calls)

        assert verbs.load(first.id, NOW) is None
