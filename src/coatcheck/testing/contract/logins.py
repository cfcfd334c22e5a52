"""Logins, checked against their subject's mark and limit."""

from typing import Any

import pytest

from coatcheck.errors import Collision
from coatcheck.store import FORBIDDEN, FULL, GONE, Entered, Entry
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract.base import Contract
from coatcheck.testing.contract.records import HOUR, MINUTE, changed, ident, login, record, revision

__all__ = ["LoginContract"]


class LoginContract(Contract):
    """For a store that is `Admitting`."""

    def test_admit_creates(self, verbs: Any) -> None:
        """Where nothing is expected it is `create`: every field is kept, nothing is overwritten."""
        self._needs(self.admits)
        first = login()

        assert Entered() == self._admitted(verbs.admit(first, b"", Entry(NOW), NOW))
        assert first == verbs.load(first.id, NOW)
        with pytest.raises(Collision):
            verbs.admit(login(payload=b"other"), b"", Entry(NOW), NOW)
        assert [first] == verbs.by_subject("user:1", NOW)

    def test_admit_saves(self, verbs: Any) -> None:
        """Where a revision is expected it is `save`, with each of its answers."""
        self._needs(self.admits)
        first = record()
        second = changed(first, subject="user:1", login_at=NOW, payload=b"in")
        assert GONE is verbs.admit(second, first.revision, Entry(NOW), NOW)
        verbs.create(first, NOW)

        assert first == verbs.admit(second, revision(), Entry(NOW), NOW)
        assert Entered() == self._admitted(verbs.admit(second, first.revision, Entry(NOW), NOW))
        assert [second] == verbs.by_subject("user:1", NOW)

    def test_admit_of_what_was_admitted_checks_it_again(self, verbs: Any) -> None:
        """A login whose answer was lost is asked about once more: it is in, or out by now."""
        self._needs(self.admits)
        first = login()
        verbs.admit(first, b"", Entry(NOW), NOW)

        assert Entered() == self._admitted(verbs.admit(first, b"", Entry(NOW), NOW))
        verbs.forbid("user:1", NOW + 1, None, NOW + HOUR, NOW)
        assert FORBIDDEN is verbs.admit(first, b"", Entry(NOW), NOW)
        assert verbs.load(first.id, NOW) is None

    def test_a_mark_refuses_what_was_opened_before(self, verbs: Any) -> None:
        """Of its subject, but for the id that it keeps; what was refused is not there."""
        self._needs(self.admits)
        verbs.forbid("user:1", NOW + 10, ident(5), NOW + HOUR, NOW)
        opened = {
            1: ("user:1", NOW + 9),
            2: ("user:1", NOW + 10),
            3: ("user:2", NOW),
            5: ("user:1", NOW),
        }
        answers = {
            number: verbs.admit(login(number, subject=subject), b"", Entry(opened_at), NOW + 20)
            for number, (subject, opened_at) in opened.items()
        }

        assert [number for number, answer in answers.items() if answer is FORBIDDEN] == [1]
        assert {ident(2), ident(5)} == {each.id for each in verbs.by_subject("user:1", NOW)}
        assert verbs.load(ident(1), NOW) is None

    def test_a_mark_refuses_a_save_too(self, verbs: Any) -> None:
        """The session that was to become the subject's does not."""
        self._needs(self.admits)
        first = record()
        verbs.create(first, NOW)
        verbs.forbid("user:1", NOW + 10, None, NOW + HOUR, NOW)
        second = changed(first, subject="user:1", login_at=NOW + 20)

        assert FORBIDDEN is verbs.admit(second, first.revision, Entry(NOW), NOW + 20)
        assert verbs.load(first.id, NOW + 20) in (None, first)
        assert verbs.by_subject("user:1", NOW + 20) == []

    def test_of_two_marks_the_later_counts(self, verbs: Any) -> None:
        """Whatever their order, with the id that it keeps; of two alike the one set last."""
        self._needs(self.admits)
        verbs.forbid("user:1", NOW + 10, ident(1), NOW + HOUR, NOW)
        verbs.forbid("user:1", NOW + 10, ident(2), NOW + HOUR, NOW)
        verbs.forbid("user:1", NOW + 5, ident(3), NOW + HOUR, NOW)

        answers = [verbs.admit(login(n), b"", Entry(NOW + 7), NOW + 20) for n in (1, 2, 3)]
        assert [FORBIDDEN, Entered, FORBIDDEN] == [_kind(answer) for answer in answers]

    def test_a_mark_is_kept_until_its_time(self, verbs: Any) -> None:
        """Not as long as a session that ended, and no sweep forgets it before."""
        self._needs(self.admits)
        verbs.create(login(1, expires_at=NOW + 1), NOW)
        verbs.forbid("user:1", NOW + 10, None, NOW + HOUR, NOW)
        late = NOW + HOUR - 1
        if self.sweeps:
            verbs.sweep(10, late)

        refused = login(2, expires_at=NOW + 2 * HOUR)
        assert FORBIDDEN is verbs.admit(refused, b"", Entry(NOW), late)

    def test_a_mark_that_lapsed_can_be_swept(self, verbs: Any) -> None:
        """A sweep counts sessions alone."""
        self._needs(self.admits and self.sweeps)
        verbs.forbid("user:1", NOW + 10, None, NOW + HOUR, NOW)

        assert verbs.sweep(10, NOW + HOUR) == 0
        assert verbs.by_subject("user:1", NOW + HOUR) == []

    def test_a_mark_of_a_wrong_clock_refuses_nobody(self, verbs: Any) -> None:
        """A mark that lies far ahead would keep its subject out for as long."""
        self._needs(self.admits)
        verbs.forbid("user:1", NOW + 2 * MINUTE, None, NOW + HOUR, NOW)

        assert _kind(verbs.admit(login(), b"", Entry(NOW), NOW)) is Entered
        verbs.forbid("user:1", NOW + 10, None, NOW + HOUR, NOW)
        assert FORBIDDEN is verbs.admit(login(2), b"", Entry(NOW), NOW)

    def test_a_login_by_a_clock_that_is_ahead_hides_nobody(self, verbs: Any) -> None:
        """Whoever looks expired to it is found by the others, and when it was set right again."""
        self._needs(self.admits)
        ahead = NOW + 3 * HOUR
        verbs.admit(login(1), b"", Entry(NOW), NOW)
        late = login(2, login_at=ahead, seen_at=ahead, expires_at=ahead + HOUR)
        verbs.admit(late, b"", Entry(ahead), ahead)

        assert {ident(1), ident(2)} == {each.id for each in verbs.by_subject("user:1", NOW)}

    def test_a_mark_is_no_session(self, verbs: Any) -> None:
        """No list shows it, and it outlives its subject's sessions."""
        self._needs(self.admits)
        verbs.admit(login(), b"", Entry(NOW), NOW)
        verbs.forbid("user:1", NOW + 10, None, NOW + HOUR, NOW)
        verbs.delete(login().id, NOW)

        assert verbs.by_subject("user:1", NOW) == []
        assert verbs.page("", 10, NOW) == []
        assert FORBIDDEN is verbs.admit(login(2), b"", Entry(NOW), NOW)

    def test_a_limit_ends_the_oldest(self, verbs: Any) -> None:
        """The newest by `login_at` stay, and the answer names who went."""
        self._needs(self.admits)
        entry = Entry(NOW, most=2)
        ages = {1: NOW + 1, 2: NOW + 5, 3: NOW + 3, 4: NOW}
        answers = [
            verbs.admit(login(n, login_at=at), b"", entry, NOW + 9) for n, at in ages.items()
        ]

        assert [Entered(), Entered(), Entered([ident(1)]), FULL] == [
            self._admitted(answer) for answer in answers
        ]
        assert {ident(2), ident(3)} == {each.id for each in verbs.by_subject("user:1", NOW)}
        assert [verbs.load(ident(n), NOW) for n in (1, 4)] == [None, None]

    def test_a_limit_refuses_the_new_one(self, verbs: Any) -> None:
        """Until one of the others has gone; what expired or was deleted does not count."""
        self._needs(self.admits)
        entry = Entry(NOW, most=2, refuse=True)
        verbs.admit(login(1, expires_at=NOW + MINUTE), b"", entry, NOW)
        verbs.admit(login(2), b"", entry, NOW)

        assert FULL is verbs.admit(login(3), b"", entry, NOW)
        assert verbs.load(ident(3), NOW) is None
        assert _kind(verbs.admit(login(4), b"", entry, NOW + MINUTE)) is Entered
        assert FULL is verbs.admit(login(5), b"", entry, NOW + MINUTE)
        verbs.delete(ident(2), NOW + MINUTE)
        assert _kind(verbs.admit(login(6), b"", entry, NOW + MINUTE)) is Entered

    def test_a_login_is_compared_before_it_is_counted(self, verbs: Any) -> None:
        """The mark comes first, the limit last: who was overtaken learns by whom, however full
        it is."""
        self._needs(self.admits)
        entry = Entry(NOW, most=1, refuse=True)
        verbs.admit(login(1), b"", entry, NOW)
        found = record(ident(2))
        verbs.create(found, NOW)
        late, absent = changed(found, subject="user:1", login_at=NOW), changed(login(3))

        assert found == verbs.admit(late, revision(), entry, NOW)
        assert GONE is verbs.admit(absent, revision(), entry, NOW)
        verbs.forbid("user:1", NOW + 10, None, NOW + HOUR, NOW)
        assert FORBIDDEN is verbs.admit(late, revision(), entry, NOW)
        assert FORBIDDEN is verbs.admit(absent, revision(), entry, NOW)

    def test_a_limit_counts_who_lives_longer_than_they_said(self, verbs: Any) -> None:
        """A session that was touched and saved is still there to be counted."""
        self._needs(self.admits)
        entry = Entry(NOW, most=1, refuse=True)
        first = login(1, expires_at=NOW + MINUTE)
        verbs.admit(first, b"", entry, NOW)
        verbs.touch(first.id, first.revision, NOW + 5, NOW + HOUR, NOW)
        verbs.save(changed(first, expires_at=NOW + 3 * HOUR), first.revision, NOW + 5)

        assert FULL is verbs.admit(login(2), b"", entry, NOW + 2 * HOUR)

    def test_a_session_does_not_count_against_itself(self, verbs: Any) -> None:
        """Logging in again within a full limit ends and refuses nobody."""
        self._needs(self.admits)
        first = login()
        verbs.admit(first, b"", Entry(NOW, most=1, refuse=True), NOW)
        for refuse in (True, False):
            again = changed(first, login_at=NOW + 5)
            answer = verbs.admit(again, first.revision, Entry(NOW, 1, refuse), NOW + 5)
            first = again
            assert Entered() == self._admitted(answer)

    @pytest.mark.parametrize("refuse", [False, True])
    def test_of_many_logins_exactly_so_many_stay(self, verbs: Any, refuse: bool) -> None:
        """Twenty at once with room for three leave three; where the oldest end, the newest."""
        self._needs(self.admits)
        entry = Entry(NOW, most=3, refuse=refuse)
        logins = [login(n, login_at=NOW + n) for n in range(1, 21)]
        answers = self._at_once(verbs, [("admit", each, b"", entry, NOW) for each in logins])
        left = sorted(each.id for each in verbs.by_subject("user:1", NOW))
        admitted = sorted(
            each.id for each, a in zip(logins, answers, strict=True) if _kind(a) is Entered
        )

        assert left == (admitted if refuse else [ident(18), ident(19), ident(20)])
        assert len(left) == 3
        assert set(left) <= set(admitted)

    def test_logins_that_cross_a_mark_do_not_outlive_it(self, verbs: Any) -> None:
        """However they fall: the list right after the mark finds them, or the mark refuses them."""
        self._needs(self.admits)
        calls: list[tuple[Any, ...]] = [
            ("admit", login(n), b"", Entry(NOW), NOW + 1) for n in range(1, 13)
        ]
        calls.insert(6, (self._end_all, NOW + 1))
        answers = self._at_once(verbs, calls)
        late = verbs.admit(login(99), b"", Entry(NOW), NOW + 1)

        assert FORBIDDEN is late
        assert {Entered, FORBIDDEN, None} >= {_kind(answer) for answer in answers}
        assert verbs.by_subject("user:1", NOW + 1) == []
        assert [verbs.load(ident(n), NOW + 1) for n in range(1, 13)] == [None] * 12

    def _end_all(self, store: Any, now: int) -> Any:
        """What `revoke_all` does."""
        store.forbid("user:1", now, None, now + HOUR, now)
        for each in store.by_subject("user:1", now):
            store.delete(each.id, now)

    def _admitted(self, answer: Any) -> Any:
        """The answer, with its ids in a list, whatever the store answers with."""
        return Entered(list(answer.ended) or ()) if isinstance(answer, Entered) else answer


def _kind(answer: Any) -> Any:
    return Entered if isinstance(answer, Entered) else answer
