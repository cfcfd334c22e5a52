"""What every store promises, as tests: subclass one of the two classes."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

import pytest

from coatcheck.errors import Collision
from coatcheck.record import Record, next_revision
from coatcheck.store import (
    FORBIDDEN,
    FULL,
    GONE,
    SAVED,
    Admitting,
    AsyncAdmitting,
    AsyncListable,
    AsyncStore,
    AsyncSweepable,
    Entered,
    Entry,
    Listable,
    Store,
    Sweepable,
)
from coatcheck.testing.clock import NOW

__all__ = ["AsyncStoreContract", "StoreContract", "changed", "ident", "login", "record", "revision"]

HOUR = 3_600_000
MINUTE = 60_000  # time enough, for a server that drops what expired by its own clock


def record(id: str = "0" * 31 + "1", **fields: Any) -> Record:
    """A record to store, alive for an hour after `NOW`; any field can be given."""
    given: dict[str, Any] = {
        "revision": revision(),
        "subject": None,
        "login_at": None,
        "seen_at": NOW,
        "expires_at": NOW + HOUR,
        "payload": b"\x01payload",
    }
    return Record(id, **{**given, **fields})


def revision(before: bytes = b"") -> bytes:
    """The revision that follows."""
    return next_revision(before, os.urandom(8))


def ident(number: int) -> str:
    """An id with that number, in the shape of ours."""
    return f"{number:032x}"


def changed(before: Record, **fields: Any) -> Record:
    """The next revision of a record."""
    names = ("subject", "login_at", "seen_at", "expires_at", "payload")
    kept = {name: getattr(before, name) for name in names}
    return Record(before.id, revision(before.revision), **{**kept, **fields})


def login(number: int = 1, **fields: Any) -> Record:
    """A record of that number, logged in as "user:1" now."""
    return record(ident(number), **{"subject": "user:1", "login_at": NOW, **fields})


def _bound(verbs: Any, verb: Any) -> Callable[..., Any]:
    """The verb of that name, or the function, given the verbs."""
    bound: Callable[..., Any] = partial(verb, verbs) if callable(verb) else getattr(verbs, verb)
    return bound


def _kind(answer: Any) -> Any:
    return Entered if isinstance(answer, Entered) else answer


class StoreContract:
    """What every `Store` promises. Subclass it as `Test…` and override the `store` fixture."""

    lists: ClassVar[bool] = True
    """Whether the store is `Listable`; a store that cannot says so here."""
    sweeps: ClassVar[bool] = True
    """Whether the store is `Sweepable`; one whose server drops what expired is not."""
    admits: ClassVar[bool] = True
    """Whether the store is `Admitting`; a store that cannot says so here."""

    @pytest.fixture
    def store(self) -> Any:
        """An empty store."""
        pytest.fail("override the store fixture to give an empty store")

    @pytest.fixture
    def verbs(self, store: Any) -> Any:
        """The store's verbs, called without await."""
        assert isinstance(store, Store)
        return store

    def test_is_what_it_declares(self, verbs: Any, store: Any) -> None:
        """Its capabilities are those that the class attributes say."""
        assert (self.lists, self.sweeps, self.admits) == self._capabilities(store)

    def _capabilities(self, store: object) -> tuple[bool, ...]:
        return tuple(isinstance(store, each) for each in (Listable, Sweepable, Admitting))

    # load and create

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

    def _at_once(self, verbs: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
        """The answers of these calls made together; an error counts as an answer.

        A call is a verb's name, or a function of the verbs, and the arguments.
        """
        start = threading.Barrier(len(calls))

        def call(verb: Any, *arguments: Any) -> Any:
            start.wait()
            try:
                return _bound(verbs, verb)(*arguments)
            except Collision as error:
                return error

        with ThreadPoolExecutor(len(calls)) as pool:
            return [done.result() for done in [pool.submit(call, *each) for each in calls]]

    # lists

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

    # logins

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

    def test_close_twice_is_fine(self, verbs: Any) -> None:
        """Closing what is closed does nothing."""
        verbs.close()
        verbs.close()

    def _needs(self, declared: bool) -> None:
        if not declared:
            pytest.skip("the store declares that it cannot")


class AsyncStoreContract(StoreContract):
    """What every `AsyncStore` promises: the same, awaited, from one event loop after another."""

    @pytest.fixture
    def verbs(self, store: Any) -> Iterator[Any]:
        assert isinstance(store, AsyncStore)
        with asyncio.Runner() as runner:
            yield _Awaited(store, runner)
            runner.run(store.close())

    def _capabilities(self, store: object) -> tuple[bool, ...]:
        kinds = (AsyncListable, AsyncSweepable, AsyncAdmitting)
        return tuple(isinstance(store, each) for each in kinds)

    def _at_once(self, verbs: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
        async def together() -> list[Any]:
            made = [_bound(verbs.store, verb)(*arguments) for verb, *arguments in calls]
            return await asyncio.gather(*made, return_exceptions=True)

        return list(verbs.runner.run(together()))

    async def _end_all(self, store: Any, now: int) -> None:
        await store.forbid("user:1", now, None, now + HOUR, now)
        for each in await store.by_subject("user:1", now):
            await store.delete(each.id, now)

    def test_works_from_one_loop_after_another(self, store: Any) -> None:
        """Made without a loop, it serves each loop that comes, as test clients have them."""
        first = record()
        asyncio.run(store.create(first, NOW))
        second = changed(first)
        assert SAVED is asyncio.run(store.save(second, first.revision, NOW))

        assert second == asyncio.run(store.load(first.id, NOW))
        asyncio.run(store.close())

    def test_a_cancelled_call_leaves_the_record_whole(self, verbs: Any) -> None:
        """Written or not, never half; and the others of the same turn are not disturbed."""
        one, other = record(ident(1)), record(ident(2))
        verbs.create(one, NOW)
        verbs.create(other, NOW)
        saved_one, saved_other = changed(one, payload=b"new"), changed(other, payload=b"new")

        async def cancel_one() -> Any:
            cancelled = asyncio.ensure_future(verbs.store.save(saved_one, one.revision, NOW))
            going_on = asyncio.ensure_future(verbs.store.save(saved_other, other.revision, NOW))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            return await going_on

        assert SAVED is verbs.runner.run(cancel_one())
        assert verbs.load(ident(1), NOW) in (one, saved_one)
        assert saved_other == verbs.load(ident(2), NOW)


class _Awaited:
    """An asynchronous store's verbs, each run to its end."""

    def __init__(self, store: Any, runner: asyncio.Runner) -> None:
        self.store = store
        self.runner = runner

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda *arguments: self.runner.run(getattr(self.store, verb)(*arguments))
