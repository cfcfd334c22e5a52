"""What one request may wait for its store, all of its calls together."""

import asyncio
import threading
from typing import Any

import pytest

from coatcheck import AsyncSessions, Sessions, StoreUnavailable, patience
from coatcheck.record import Record
from coatcheck.store import AsyncStore, Gone, Saved, Store
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore

LONG = 99.0


class TestLimit:
    def test_without_a_limit_a_call_takes_what_it_may(self) -> None:
        """Outside a request nothing bounds it but its own time-out."""
        assert LONG == patience.left(LONG)

    def test_a_limit_is_for_all_that_is_inside(self) -> None:
        """It runs down from when it began, and the shorter of the two counts."""
        with patience.limit(10.0):
            assert 9.0 < patience.left(LONG) <= 10.0
            assert 5.0 == patience.left(5.0)

        assert LONG == patience.left(LONG)

    def test_a_limit_that_is_over_leaves_nothing(self) -> None:
        """Whoever asks then must not wait."""
        with patience.limit(0.0):
            assert patience.left(LONG) <= 0

    def test_none_is_no_limit(self) -> None:
        """And does not lift an outer one."""
        with patience.limit(10.0), patience.limit(None):
            assert patience.left(LONG) <= 10.0

    def test_a_limit_ends_with_an_error(self) -> None:
        """What comes after has its own time."""
        with pytest.raises(KeyError), patience.limit(1.0):
            raise KeyError

        assert LONG == patience.left(LONG)

    def test_a_limit_is_its_threads_own(self) -> None:
        """Others are not hurried."""
        seen: list[float] = []
        with patience.limit(1.0):
            thread = threading.Thread(target=lambda: seen.append(patience.left(LONG)))
            thread.start()
            thread.join()

        assert [LONG] == seen

    def test_a_limit_is_its_tasks_own(self) -> None:
        """Also where two tasks of one loop take turns."""

        async def look(seconds: float | None) -> float:
            with patience.limit(seconds):
                await asyncio.sleep(0)
                return patience.left(LONG)

        async def both() -> tuple[float, float]:
            return await asyncio.gather(look(1.0), look(None))

        hurried, patient = asyncio.run(both())
        assert (True, LONG) == (hurried <= 1.0, patient)


class Timed(MemoryStore):
    """Notes how long each call might have waited; a login's first answer gets lost."""

    patience: float | None = 1.5
    loses_answers = False

    def __init__(self) -> None:
        super().__init__()
        self.left: list[tuple[str, float]] = []

    def _note(self, verb: str) -> None:
        self.left.append((verb, patience.left(LONG)))

    def load(self, id: str, now: int) -> Record | None:
        self._note("load")
        return super().load(id, now)

    def create(self, record: Record, now: int) -> None:
        self._note("create")
        super().create(record, now)
        if self.loses_answers:
            raise StoreUnavailable("the answer was lost")

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        self._note("save")
        return super().save(record, expected, now)

    def delete(self, id: str, now: int) -> bool:
        self._note("delete")
        return super().delete(id, now)


class Hurried(Timed):
    patience = 0.0


class Patient(Timed):
    patience = None


class AsyncTimed(AsyncMemoryStore):
    """The same, awaited."""

    def __init__(self, timed: Timed) -> None:
        super().__init__(timed)
        self.patience = timed.patience


def visit(sessions: Any, cookie: str | None, act: Any) -> str | None:
    """A whole request; the cookie that the browser then holds."""

    async def visit_async() -> Any:
        session = await sessions.open(cookie)
        act(session)
        return await sessions.commit(session)

    def visit_sync() -> Any:
        session = sessions.open(cookie)
        act(session)
        return sessions.commit(session)

    sent = asyncio.run(visit_async()) if isinstance(sessions, AsyncSessions) else visit_sync()
    return sent[-1].partition(";")[0] if sent else cookie


def both(timed: Timed) -> list[Any]:
    return [Sessions(timed), AsyncSessions(AsyncTimed(timed))]


@pytest.mark.parametrize("twin", [0, 1])
class TestRequests:
    def test_open_and_commit_each_have_the_stores_patience(self, twin: int) -> None:
        """Every call of the two is under it."""
        timed = Timed()
        sessions = both(timed)[twin]
        cookie = visit(sessions, None, lambda s: s.__setitem__("a", 0))
        visit(sessions, cookie, lambda s: s.__setitem__("a", 1))

        assert ["create", "load", "save"] == list(dict.fromkeys(verb for verb, _ in timed.left))
        assert all(0 < left <= 1.5 for _, left in timed.left)

    def test_the_calls_of_one_commit_share_it(self, twin: int) -> None:
        """A lost answer is settled within what the lost call left over."""
        timed = Timed()
        timed.loses_answers = True
        visit(both(timed)[twin], None, lambda s: s.__setitem__("a", 0))
        (_, first), *_, (verb, last) = timed.left

        assert "load" == verb
        assert last < first <= 1.5

    def test_a_store_that_does_not_say_is_not_hurried(self, twin: int) -> None:
        """One in memory, or on a disk, bounds itself."""
        timed = Patient()
        visit(both(timed)[twin], None, lambda s: s.__setitem__("a", 0))

        assert [LONG] == [left for _, left in timed.left if _ == "create"]

    def test_nothing_is_left_over_for_the_app(self, twin: int) -> None:
        """What the app itself does with a store is not under the request's limit."""
        seen: list[float] = []
        visit(both(Hurried())[twin], None, lambda s: seen.append(patience.left(LONG)))

        assert [LONG] == seen


def test_timed_stores_are_stores() -> None:
    """What the tests above use keeps the protocols."""
    assert isinstance(Timed(), Store)
    assert isinstance(AsyncTimed(Timed()), AsyncStore)
