"""Watching: what outlives its request learns that its session ended, and is seen.

The rounds of the poll are turned by hand, so that nothing waits for a clock.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from coatcheck import AsyncSessions, Lifetime, Session, Sessions, StoreUnavailable
from coatcheck.events import Skipped
from coatcheck.record import NewerFormat, Record
from coatcheck.store import SAVED, Entered, Entry, Gone, Saved
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from coatcheck.watching import Watch, _watchers
from tests.sites import SERVER_KINDS, STORES

PATIENCE = 10.0
IDLE = 3600
STEP = IDLE / 20
ASYNC_KINDS = [kind for kind in STORES if kind.endswith("-async")]
ASYNC_SERVER_KINDS = [kind for kind in SERVER_KINDS if kind.endswith("-async")]


class Rounds:
    """The watchers' pauses: each lasts until the next `turn`."""

    def __init__(self) -> None:
        self.lengths: list[float] = []
        self._ends: list[asyncio.Future[None]] = []
        self._again = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        self.lengths.append(seconds)
        end = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        self._again.set()
        await end

    async def turn(self, times: int = 1) -> None:
        """End the pauses, and wait until the round is done."""
        for _ in range(times):
            await self._paused()
            ends, self._ends = self._ends, []
            self._again.clear()
            for end in ends:
                if not end.done():
                    end.set_result(None)
            await self._paused()
            await settled()

    async def _paused(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._again.wait()


async def settled() -> None:
    """Whatever can be done without a store outside the process is done."""
    for _ in range(20):
        await asyncio.sleep(0)


class Site:
    """Sessions, with a clock to move and rounds to turn, and requests to make."""

    def __init__(self, store: Any = None, **options: Any) -> None:
        self.clock = options.pop("clock", None) or Clock()
        self.events: list[Any] = []
        self.rounds = Rounds()
        lifetime = options.pop("lifetime", Lifetime(idle=IDLE, absolute=86_400))
        self.store: Any = store or Fickle()
        self.sessions = AsyncSessions(
            self.store, clock=self.clock, lifetime=lifetime, on_event=self.events.append, **options
        )
        self.sessions.__dict__["_pause"] = self.rounds.pause
        self.cookie: str | None = None

    async def request(self, act: Callable[[Session], object] = lambda session: None) -> Session:
        """A request of the one browser."""
        session = await self.sessions.open(self.cookie)
        act(session)
        for header in await self.sessions.commit(session):
            self.cookie = header.partition(";")[0]
        return session

    async def login(self, subject: str = "user:42", **options: Any) -> Session:
        return await self.request(lambda session: session.login(subject, **options))

    @asynccontextmanager
    async def watching(self, subject: str = "user:42") -> AsyncIterator[Watch]:
        async with Watch(self.sessions, await self.login(subject)) as watch:
            yield watch

    async def reason(self, watch: Watch) -> str | None:
        """After a round, or when a store has told, which may take it a moment."""
        for _ in range(100):
            await self.rounds.turn()
            if watch.ended is not None:
                break
            await asyncio.sleep(0.01)
        return watch.ended

    async def skipped(self) -> list[str]:
        await self.sessions.flush_events()
        return [event.error for event in self.events if isinstance(event, Skipped)]


class Fickle(AsyncMemoryStore):
    """A store in memory that may be out of reach, and notes what it was asked for."""

    def __init__(self, memory: MemoryStore | None = None) -> None:
        super().__init__(memory)
        self.error: Exception | None = None
        self.loaded: list[str] = []
        self.touched: list[int] = []

    async def load(self, id: str, now: int) -> Record | None:
        self.loaded.append(id)
        self._answer()
        return await super().load(id, now)

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        self.touched.append(expires_at)
        self._answer()
        return await super().touch(id, revision, seen_at, expires_at, now)

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error


class Telling(Fickle):
    """`Watchable`: it tells what is deleted, or becomes another subject's, while its line holds."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Callable[[str], None], asyncio.Future[None]] = {}
        self.is_down = False

    async def watch(self, tell: Callable[[str], None], ready: Callable[[], None]) -> None:
        if self.is_down:
            raise StoreUnavailable("no line")
        self.lines[tell] = broken = asyncio.get_running_loop().create_future()
        try:
            ready()
            await broken
        finally:
            del self.lines[tell]

    def cut(self) -> None:
        for line in self.lines.values():
            line.set_exception(StoreUnavailable("the line was cut"))

    def tell(self, id: str) -> None:
        for tell in self.lines:
            tell(id)

    async def delete(self, id: str, now: int) -> bool:
        deleted = await super().delete(id, now)
        self.tell(id)
        return deleted

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        before = self.memory.load(record.id, now)
        answer = await super().save(record, expected, now)
        if answer is SAVED and before is not None and before.subject != record.subject:
            self.tell(record.id)
        return answer

    async def admit(self, record: Record, expected: bytes, entry: Entry, now: int) -> Any:
        before = self.memory.load(record.id, now)
        answer = await super().admit(record, expected, entry, now)
        if isinstance(answer, Entered) and before is not None and before.subject != record.subject:
            self.tell(record.id)
        return answer


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """In a loop of its own, in which nothing of a watcher is left afterwards."""

    async def whole() -> None:
        async with asyncio.timeout(3 * PATIENCE):
            await scenario()
        assert [] == others()

    asyncio.run(whole(), debug=False)
    assert {} == _watchers


def others() -> list[str]:
    mine = asyncio.current_task()
    return [task.get_name() for task in asyncio.all_tasks() if task is not mine]


def ended(watch: Watch) -> str | None:
    """Asked anew: a type checker remembers what a property was."""
    return watch.ended


def logout(session: Session) -> None:
    session.logout()


def put(session: Session) -> None:
    session["a"] = 1


@pytest.mark.parametrize("kind", ASYNC_KINDS)
def test_over_every_store_a_logout_elsewhere_is_learnt(kind: str, tmp_path: Path) -> None:
    """In the next round, or sooner where the store tells; what was merely saved goes on."""

    async def scenario() -> None:
        site = Site(STORES[kind](tmp_path))
        async with site.watching() as watch:
            await site.rounds.turn()
            await site.request(put)
            await site.rounds.turn()
            assert ended(watch) is None
            await site.request(logout)
            assert "ended" == await site.reason(watch)
        await site.sessions.close()

    run(scenario)


@pytest.mark.parametrize("kind", ASYNC_SERVER_KINDS)
def test_over_every_store_messages_are_activity(kind: str, tmp_path: Path) -> None:
    """They carry a session over its idle time, which ends it when they stop."""

    async def scenario() -> None:
        site = Site(STORES[kind](tmp_path))
        async with site.watching() as watch:
            for _ in range(3):
                site.clock.move(IDLE * 0.6)
                watch.seen()
                await touched(site)
                await site.rounds.turn()
                assert ended(watch) is None
            site.clock.move(IDLE)
            watch.seen()
            assert "expired" == await site.reason(watch)
        await site.sessions.close()

    run(scenario)


async def touched(site: Site) -> None:
    """Wait for the touch that is under way."""
    async with asyncio.timeout(PATIENCE):
        watcher = next(iter(_watchers.values()))
        while len(watcher._tasks) > len(watcher._steady):
            await asyncio.sleep(0)
    assert [] == await site.skipped()


class TestEnds:
    def check(
        self, expected: str | None, act: Callable[[Session], object], subject: str = "user:42"
    ) -> None:
        async def scenario() -> None:
            site = Site()
            async with site.watching(subject) as watch:
                await site.request(act)
                await site.rounds.turn()
                assert expected == ended(watch)

        run(scenario)

    def test_another_tabs_login_of_the_same_subject_goes_on(self) -> None:
        """Under its new token."""
        self.check(None, lambda session: session.login("user:42"))

    def test_a_rotation_goes_on(self) -> None:
        """It is the same session."""
        self.check(None, lambda session: session.rotate())

    def test_a_login_of_another_subject_replaces_it(self) -> None:
        """The socket was opened by somebody else."""
        self.check("replaced", lambda session: session.login("user:43"))

    def test_a_logout_ends_it(self) -> None:
        """Also where a login of the same subject follows at once."""

        def again(session: Session) -> None:
            session.logout()
            session.login("user:42")

        self.check("ended", again)

    def test_a_revocation_ends_it(self) -> None:
        """And whoever waits is woken."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                waiting = asyncio.create_task(watch.wait())
                await site.rounds.turn()
                assert not waiting.done()
                assert 1 == await site.sessions.revoke_all("user:42")
                await site.rounds.turn()
                assert "ended" == await waiting

        run(scenario)

    def test_one_waiter_that_leaves_leaves_the_others(self) -> None:
        """A cancelled wait cancels no watch."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                waiting = asyncio.create_task(watch.wait())
                await settled()
                waiting.cancel()
                await site.request(logout)
                await site.rounds.turn()
                assert ("ended", True) == (ended(watch), waiting.cancelled())

        run(scenario)

    def test_a_session_that_is_not_stored_never_ends(self) -> None:
        """Nothing is asked for it, and no watcher runs."""

        async def scenario() -> None:
            site = Site()
            async with Watch(site.sessions, await site.request()) as watch:
                watch.seen()
                assert ([], None) == (others(), ended(watch))

        run(scenario)

    def test_it_is_watched_from_its_commit_on(self) -> None:
        """An anonymous session that was stored, too: a login makes it somebody's."""

        async def scenario() -> None:
            site = Site()
            async with Watch(site.sessions, await site.request(put)) as watch:
                await site.rounds.turn()
                assert ended(watch) is None
                await site.login()
                await site.rounds.turn()
                assert "replaced" == ended(watch)

        run(scenario)

    def test_the_watch_does_not_use_the_session(self) -> None:
        """Which would count as activity."""

        async def scenario() -> None:
            site = Site()
            await site.login()
            session = await site.sessions.open(site.cookie)
            async with Watch(site.sessions, session) as watch:
                await site.rounds.turn()
                assert (False, None) == (session.accessed, ended(watch))

        run(scenario)

    def test_two_sockets_of_one_session_each_know_what_they_were(self) -> None:
        """The later one belongs to the new subject, and goes on."""

        async def scenario() -> None:
            site = Site()
            async with site.watching("user:1") as first, site.watching("user:2") as second:
                await site.rounds.turn()
                assert ("replaced", None) == (ended(first), ended(second))
                site.clock.move(STEP)
                first.seen()
                await settled()
                assert [] == site.store.touched
                await site.request(logout)
                await site.rounds.turn()
                assert ("replaced", "ended") == (ended(first), ended(second))

        run(scenario)

    def test_a_load_under_way_judges_nobody_who_came_later(self) -> None:
        """It may have found what was before."""

        async def scenario() -> None:
            site = Site(Slow())
            async with site.watching("user:1") as first:
                site.store.is_held = True
                turning = asyncio.create_task(site.rounds.turn())
                await settled()
                async with site.watching("user:2") as second:
                    site.store.may_go.set()
                    await turning
                    assert (None, None) == (ended(first), ended(second))
                    await site.rounds.turn()
                    assert ("replaced", None) == (ended(first), ended(second))

        run(scenario)


class Slow(Fickle):
    """A store whose answer to the next load may be held back, once it was found."""

    def __init__(self) -> None:
        super().__init__()
        self.is_held = False
        self.may_go = asyncio.Event()

    async def load(self, id: str, now: int) -> Record | None:
        held, self.is_held = self.is_held, False
        found = await super().load(id, now)
        if held:
            await self.may_go.wait()
        return found


class TestLoops:
    def test_a_loop_that_ends_with_sockets_open_says_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """All of its tasks are cancelled at once, the watcher's among them."""
        ended: list[str] = []

        async def socket(site: Site) -> None:
            async with site.watching() as watch:
                try:
                    await watch.wait()
                finally:
                    await settled()  # it takes its time, and the watcher's tasks are gone
                    ended.append("left")

        async def whole() -> None:
            site = Site(Telling())
            keep.append(asyncio.create_task(socket(site)))
            await settled()

        keep: list[asyncio.Task[None]] = []
        asyncio.run(whole())
        assert (["left"], True, {}) == (ended, keep[0].cancelled(), _watchers)
        assert [] == caplog.records

    def test_one_watcher_serves_one_loop_after_another(self) -> None:
        """The same sessions, as test clients use them."""
        site = Site()
        for _ in range(2):

            async def scenario() -> None:
                site.sessions.__dict__["_pause"] = (rounds := Rounds()).pause
                async with site.watching() as watch:
                    await site.request(logout)
                    await rounds.turn()
                    assert "ended" == ended(watch)

            run(scenario)

    def test_a_loop_that_was_closed_leaves_no_watcher_for_long(self) -> None:
        """Its tasks never ended, and held all that was watched in it."""

        async def forgetful() -> None:
            site = Site()
            Watch(site.sessions, await site.login()).start()

        for _ in range(2):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(forgetful())
            loop.close()
        run(TestLoops.watch_once)

    @staticmethod
    async def watch_once() -> None:
        async with Site().watching():
            assert 1 == len(_watchers)

    def test_who_cancels_the_future_harms_nobody_else(self) -> None:
        """It is public, after all."""

        async def scenario() -> None:
            site = Site()
            session = await site.login()
            async with Watch(site.sessions, session) as one, Watch(site.sessions, session) as other:
                one.over.cancel()
                await site.request(logout)
                await site.rounds.turn()
                assert (None, "ended") == (ended(one), ended(other))

        run(scenario)


class TestExpiry:
    def test_it_expires_by_itself(self) -> None:
        """No request has to come."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                site.clock.move(IDLE - 1)
                await site.rounds.turn()
                assert ended(watch) is None
                site.clock.move(1)
                await site.rounds.turn()
                assert "expired" == ended(watch)

        run(scenario)

    def test_other_requests_prolong_it(self) -> None:
        """The watch knew of an earlier end."""

        async def scenario() -> None:
            site = Site(Telling())
            async with site.watching() as watch:
                site.clock.move(IDLE / 2)
                await site.request(lambda session: session.subject)
                site.clock.move(IDLE / 2)
                await site.rounds.turn()
                assert ended(watch) is None
                site.clock.move(IDLE / 2)
                await site.rounds.turn()
                assert "expired" == ended(watch)

        run(scenario)

    def test_a_logout_after_that_is_no_expiry(self) -> None:
        """The reason follows from what was found last."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                site.clock.move(IDLE / 2)
                await site.request(lambda session: session.subject)
                await site.rounds.turn()
                site.clock.move(IDLE / 2)
                await site.request(logout)
                await site.rounds.turn()
                assert "ended" == ended(watch)

        run(scenario)

    def test_a_logout_after_a_message_is_no_expiry(self) -> None:
        """The message prolonged it for every socket."""

        async def scenario() -> None:
            site = Site(Telling())
            session = await site.login()
            async with Watch(site.sessions, session) as one, Watch(site.sessions, session) as other:
                await settled()
                site.clock.move(IDLE - 1)
                one.seen()
                await settled()
                site.clock.move(2)
                await site.sessions.revoke_all("user:42")
                await settled()
                assert ("ended", "ended") == (ended(one), ended(other))
            await site.sessions.flush_events()
            assert "expired" not in [event.name for event in site.events]

        run(scenario)

    def test_a_message_tells_who_belongs_to_another_subject(self) -> None:
        """It is found out on the way."""

        async def scenario() -> None:
            site = Site()
            async with site.watching("user:1") as first, site.watching("user:2") as second:
                site.clock.move(STEP)
                second.seen()
                await settled()
                assert ("replaced", None) == (ended(first), ended(second))

        run(scenario)

    def test_a_carried_session_expires_as_its_cookie_says(self, tmp_path: Path) -> None:
        """Its messages prolong nothing, as it is prolonged by what is written."""

        async def scenario() -> None:
            site = Site(STORES["cookie-async"](tmp_path))
            async with site.watching() as watch:
                site.clock.move(IDLE / 2)
                watch.seen()
                site.clock.move(IDLE / 2)
                await site.rounds.turn()
                assert "expired" == ended(watch)

        run(scenario)


class TestSeen:
    def test_it_is_written_once_in_a_twentieth_of_the_idle_time(self) -> None:
        """However many messages come, over however many sockets."""

        async def scenario() -> None:
            site = Site()
            session = await site.login()
            async with Watch(site.sessions, session) as one, Watch(site.sessions, session) as other:
                for _ in range(40):
                    site.clock.move(STEP / 10)
                    one.seen()
                    other.seen()
                    await settled()
                assert 4 == len(site.store.touched)

        run(scenario)

    def test_never_beyond_the_hard_end(self) -> None:
        """Absolute means absolute."""

        async def scenario() -> None:
            site = Site(lifetime=Lifetime(idle=IDLE, absolute=1.5 * IDLE))
            async with site.watching() as watch:
                end = (site.clock.now + 1.5 * IDLE) * 1000
                site.clock.move(IDLE * 0.9)
                watch.seen()
                await settled()
                assert [end] == site.store.touched
                site.clock.move(IDLE * 0.6)
                watch.seen()
                await site.rounds.turn()
                assert "expired" == ended(watch)

        run(scenario)

    def test_what_another_request_saved_is_prolonged(self) -> None:
        """By the new revision, and within its new limits."""

        async def scenario() -> None:
            site = Site(lifetime=Lifetime(idle=IDLE, absolute=10 * IDLE, remember=90 * 86_400))
            async with site.watching() as watch:
                await site.login(remember=True)
                site.clock.move(90 * 86_400 / 20)
                now = site.clock.now
                watch.seen()
                await settled()
                assert (now, []) == (await seen_at(site), await site.skipped())

        run(scenario)

    def test_what_another_request_saved_sets_the_limits(self) -> None:
        """A shorter idle time is a shorter step."""

        async def scenario() -> None:
            site = Site(lifetime=Lifetime(idle=IDLE, absolute=10 * IDLE, remember=90 * 86_400))
            async with Watch(site.sessions, await site.login(remember=True)) as watch:
                await site.login(remember=False)
                await site.rounds.turn()
                site.clock.move(STEP)
                watch.seen()
                await settled()
                assert site.clock.now == await seen_at(site)

        run(scenario)

    def test_what_ended_is_not_prolonged(self) -> None:
        """A message on a dead session learns of it."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                await site.request(logout)
                site.clock.move(STEP)
                watch.seen()
                await settled()
                assert ("ended", []) == (ended(watch), site.store.memory.page("", 9, 0))
                site.clock.move(STEP)
                watch.seen()
                await settled()
                assert 1 == len(site.store.touched)

        run(scenario)

    def test_a_failure_is_skipped_and_not_tried_again_at_each_message(self) -> None:
        """With an event; the socket stays."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                site.clock.move(STEP)
                site.store.error = StoreUnavailable("away")
                for _ in range(5):
                    watch.seen()
                    await settled()
                assert (["away"], None) == (await site.skipped(), ended(watch))
                site.store.error = None
                site.clock.move(STEP)
                watch.seen()
                await settled()
                assert site.clock.now == await seen_at(site)

        run(scenario)

    def test_a_race_that_is_lost_again_and_again_is_skipped(self) -> None:
        """It is upkeep."""

        class Racing(Fickle):
            async def touch(self, *_: Any) -> bool:
                return False

        async def scenario() -> None:
            site = Site(Racing())
            async with site.watching() as watch:
                site.clock.move(STEP)
                watch.seen()
                await settled()
                assert ["another save came first"] == await site.skipped()

        run(scenario)

    def test_the_last_touch_is_not_lost_with_the_socket(self) -> None:
        """A message, and then goodbye."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                site.clock.move(STEP)
                watch.seen()
            assert site.clock.now == await seen_at(site)

        run(scenario)


async def seen_at(site: Site) -> float:
    (info,) = await site.sessions.list_for("user:42")
    return info.seen_at.timestamp()


class TestOutage:
    def test_sockets_stay_open(self) -> None:
        """And learn of an end when the store is back."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                site.store.error = StoreUnavailable("away")
                await site.rounds.turn(5)
                assert ended(watch) is None
                site.store.error = None
                await site.rounds.turn()
                assert ended(watch) is None
                await site.request(logout)
                await site.rounds.turn()
                assert "ended" == ended(watch)

        run(scenario)

    def test_its_hard_end_needs_no_store(self) -> None:
        """However many are watched; the idle time might have been prolonged."""

        async def scenario() -> None:
            site = Site(lifetime=Lifetime(idle=IDLE, absolute=2 * IDLE))
            async with AsyncExitStack() as stack:
                watches = []
                for _ in range(101):
                    site.cookie = None
                    watches.append(await stack.enter_async_context(site.watching()))
                site.store.error = StoreUnavailable("away")
                site.clock.move(1.5 * IDLE)
                await site.rounds.turn()
                assert {None} == {ended(each) for each in watches}
                site.clock.move(0.5 * IDLE)
                await site.rounds.turn()
                assert {"expired"} == {ended(each) for each in watches}

        run(scenario)

    def test_an_end_is_told_once_for_all_sockets_of_a_session(self) -> None:
        """It is the session that expired."""

        async def scenario() -> None:
            site = Site()
            async with AsyncExitStack() as stack:
                for _ in range(3):
                    await stack.enter_async_context(site.watching())
                site.clock.move(IDLE + STEP)
                await site.rounds.turn()
            assert await site.sessions.flush_events()
            assert 1 == [event.name for event in site.events].count("expired")

        run(scenario)

    def test_rounds_are_further_apart_while_nothing_answers(self) -> None:
        """Up to some seconds; then as before."""

        async def scenario() -> None:
            site = Site()
            async with site.watching():
                site.store.error = StoreUnavailable("away")
                await site.rounds.turn(12)
                site.store.error = None
                await site.rounds.turn()
                usual, *longer, last = site.rounds.lengths
                assert max(usual, last) <= 0.8 < 4 < max(longer) < 7

        run(scenario)

    def test_what_a_newer_release_wrote_goes_on(self) -> None:
        """It is there, and that is an answer."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                site.store.error = NewerFormat("newer")
                await site.rounds.turn(3)
                assert ended(watch) is None
                assert max(site.rounds.lengths) <= 0.8

        run(scenario)

    def test_an_error_in_the_store_is_logged_and_ends_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The rounds go on."""

        async def scenario() -> None:
            site = Site()
            async with site.watching() as watch:
                site.store.error = ZeroDivisionError("a bug")
                await site.rounds.turn(2)
                assert ended(watch) is None

        run(scenario)
        assert ["coatcheck", "coatcheck"] == [each.name for each in caplog.records]

    def test_a_round_that_fails_is_logged_and_the_next_one_follows(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever it was, watching does not end in silence."""

        async def scenario() -> None:
            clock = Unwound()
            site = Site(clock=clock)
            async with site.watching() as watch:
                await site.request(logout)
                clock.is_unwound = True
                await site.rounds.turn(2)
                clock.is_unwound = False
                await site.rounds.turn()
                assert "ended" == ended(watch)

        run(scenario)
        assert 2 == [each.name for each in caplog.records].count("coatcheck")

    def test_nonsense_from_the_store_is_logged_and_looked_at_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is no answer."""

        async def scenario() -> None:
            site = Site(Partial())
            async with site.watching() as watch:
                await site.request(logout)
                site.store.is_confused = True
                await site.rounds.turn()
                site.store.is_confused = False
                await site.rounds.turn()
                assert "ended" == ended(watch)

        run(scenario)
        assert 1 == [each.name for each in caplog.records].count("coatcheck")

    def test_the_pause_counts_from_the_rounds_start(self) -> None:
        """So that an end is known within a second where a round takes its time."""

        async def scenario() -> None:
            site = Site(Leisurely())
            async with site.watching():
                await site.rounds.turn()
                first, second = site.rounds.lengths
                assert second <= 0.8 - Leisurely.TAKES < 0.6 <= first

        run(scenario)

    def test_one_that_cannot_be_loaded_holds_nobody_up(self) -> None:
        """Nor is it forgotten."""

        async def scenario() -> None:
            site = Site(Partial())
            other = Site(site.store)
            async with site.watching() as watch, AsyncExitStack() as stack:
                session = await other.login("user:43")
                missing = await stack.enter_async_context(Watch(site.sessions, session))
                site.store.broken = session.id
                await site.request(logout)
                site.store.memory.delete(session.id, 0)
                await site.rounds.turn()
                assert ("ended", None) == (ended(watch), ended(missing))
                site.store.broken = None
                await site.rounds.turn()
                assert "ended" == ended(missing)

        run(scenario)


class Unwound(Clock):
    """It may say nothing."""

    is_unwound = False

    def __call__(self) -> float:
        if self.is_unwound:
            raise RuntimeError("no time")
        return super().__call__()


class Leisurely(Fickle):
    """Each load takes as long."""

    TAKES = 0.25

    async def load(self, id: str, now: int) -> Record | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.TAKES
        while loop.time() < until:
            await asyncio.sleep(0)
        return await super().load(id, now)


class Partial(Fickle):
    """One id cannot be loaded, or nothing that it says makes sense."""

    is_confused = False
    broken: str | None = None

    async def load(self, id: str, now: int) -> Record | None:
        if id == self.broken:
            raise StoreUnavailable("one server of several")
        found: Any = "nonsense" if self.is_confused else await super().load(id, now)
        return cast("Record | None", found)


class PartialTelling(Partial, Telling):
    """Both."""


class TestLine:
    def test_what_is_told_is_learnt_between_two_rounds(self) -> None:
        """And is loaded once."""

        async def scenario() -> None:
            site = Site(Telling())
            async with site.watching() as watch:
                await settled()
                site.store.loaded.clear()
                await site.sessions.revoke_all("user:42")
                before = len(site.store.loaded)  # by the revocation itself
                await settled()
                assert ("ended", 1) == (ended(watch), len(site.store.loaded) - before)

        run(scenario)

    def test_another_subject_is_told(self) -> None:
        """A save of the same subject is not."""

        async def scenario() -> None:
            site = Site(Telling())
            async with site.watching() as watch:
                await site.login()
                await settled()
                assert ended(watch) is None
                await site.login("user:43")
                await settled()
                assert "replaced" == ended(watch)

        run(scenario)

    def test_a_rumour_ends_nothing(self) -> None:
        """Only what is loaded decides; and what nobody watches is not loaded."""

        async def scenario() -> None:
            site = Site(Telling())
            async with site.watching() as watch:
                await settled()
                site.store.loaded.clear()
                site.store.tell((site.sessions and (await site.request()).id) or "")
                site.store.tell("0" * 32)
                site.store.loaded.clear()
                await settled()
                await site.rounds.turn()
                assert (None, 1) == (ended(watch), len(site.store.loaded))

        run(scenario)

    def test_rounds_on_the_line_load_nothing(self) -> None:
        """But now and then all, for what no store could tell."""

        async def scenario() -> None:
            site = Site(Telling())
            async with site.watching() as watch:
                await site.rounds.turn()
                site.store.loaded.clear()
                site.store.memory.delete(str((await site.request()).id), 0)
                site.store.loaded.clear()
                await site.rounds.turn(35)
                assert ([], None) == (site.store.loaded, ended(watch))
                await site.rounds.turn(10)
                assert "ended" == ended(watch)

        run(scenario)

    def test_who_joins_is_looked_at(self) -> None:
        """The end may have been told between its request and its watch."""

        async def scenario() -> None:
            site = Site(Telling())
            async with site.watching():
                other = Site(site.store)
                session = await other.login("user:43")
                await other.request(logout)
                async with Watch(site.sessions, session) as watch:
                    await settled()
                    assert "ended" == ended(watch)

        run(scenario)

    def test_while_the_line_is_down_the_rounds_look_at_all(self) -> None:
        """And when it is up again, it looks for what it missed."""

        async def scenario() -> None:
            site = Site(Telling())
            async with site.watching() as watch, AsyncExitStack() as stack:
                await settled()
                site.store.is_down = True
                site.store.cut()
                session = await Site(site.store).login("user:43")
                other = await stack.enter_async_context(Watch(site.sessions, session))
                await settled()
                await site.request(logout)
                await settled()
                assert ended(watch) is None
                await site.rounds.turn()
                assert ("ended", None) == (ended(watch), ended(other))
                site.store.memory.delete(str(session.id), 0)
                site.store.is_down = False
                site.store.error = StoreUnavailable("away")
                await site.rounds.turn()
                assert (1, None) == (len(site.store.lines), ended(other))
                site.store.error = None
                await site.rounds.turn()
                assert "ended" == ended(other)

        run(scenario)

    def test_what_was_told_while_the_store_is_away_is_looked_at_later(self) -> None:
        """Each of them, however many."""

        async def scenario() -> None:
            site = Site(Telling())
            async with AsyncExitStack() as stack:
                for number in range(150):
                    session = await Site(site.store).login(f"user:{number}")
                    await stack.enter_async_context(Watch(site.sessions, session))
                await site.rounds.turn()
                site.store.error = StoreUnavailable("away")
                for each in list(site.store.memory._records):
                    site.store.tell(each)
                await settled()
                site.store.error = None
                site.store.loaded.clear()
                await site.rounds.turn()
                assert 150 == len(set(site.store.loaded))

        run(scenario)

    def test_what_one_server_of_several_does_not_say_is_asked_for_again(self) -> None:
        """Though the others answer."""

        async def scenario() -> None:
            site = Site(PartialTelling())
            async with site.watching() as watch, AsyncExitStack() as stack:
                session = await Site(site.store).login("user:43")
                await stack.enter_async_context(Watch(site.sessions, session))
                await site.rounds.turn()
                site.store.broken = (await site.request()).id
                site.store.tell(session.id)
                await site.store.delete(site.store.broken, 0)
                await settled()
                assert ended(watch) is None
                site.store.broken = None
                await site.rounds.turn()
                assert "ended" == ended(watch)

        run(scenario)

    def test_a_line_that_fails_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """The rounds go on without it."""

        class Failing(Telling):
            async def watch(self, *_: Any) -> None:
                raise ZeroDivisionError("a bug")

        async def scenario() -> None:
            site = Site(Failing())
            async with site.watching() as watch:
                await site.rounds.turn()
                await site.request(logout)
                await site.rounds.turn()
                assert "ended" == ended(watch)

        run(scenario)
        assert "the store's line failed" in caplog.text

    def test_a_carried_session_is_polled(self) -> None:
        """Its end is a denial that is created, of which no line tells."""
        from coatcheck import KeyRing
        from coatcheck.stores.cookie import AsyncCookieStore

        async def scenario() -> None:
            denials = Telling()
            site = Site(AsyncCookieStore(KeyRing("k" * 32), revocations=denials))
            async with site.watching() as watch:
                await settled()
                await site.request(logout)
                await site.rounds.turn()
                assert ("ended", {}) == (ended(watch), denials.lines)

        run(scenario)


class TestMany:
    def test_a_thousand_sockets_are_one_round(self) -> None:
        """Each session is loaded once, in bounded batches; one task goes round."""

        async def scenario() -> None:
            site = Site(Counting())
            browsers = [Site(site.store) for _ in range(1000)]
            async with AsyncExitStack() as stack:
                watches = [
                    await stack.enter_async_context(
                        Watch(site.sessions, await browser.login(f"user:{number}"))
                    )
                    for number, browser in enumerate(browsers)
                ]
                assert ["coatcheck watcher"] == others()
                site.store.loaded.clear()
                await site.rounds.turn()
                assert 1000 == len(site.store.loaded) == len(set(site.store.loaded))
                assert 1 < site.store.most <= 100
                for browser in browsers[::10]:
                    await browser.request(logout)
                await site.rounds.turn()
                assert ["ended"] * 100 == [ended(each) for each in watches if ended(each)]
                site.store.loaded.clear()
                await site.rounds.turn()
                assert 900 == len(site.store.loaded)

        run(scenario)

    def test_where_a_batch_is_not_answered_the_others_wait(self) -> None:
        """One time-out, not a thousand, and no end."""

        async def scenario() -> None:
            site = Site()
            async with AsyncExitStack() as stack:
                for number in range(300):
                    session = await Site(site.store).login(f"user:{number}")
                    await stack.enter_async_context(Watch(site.sessions, session))
                site.store.error = StoreUnavailable("away")
                site.store.loaded.clear()
                await site.rounds.turn()
                assert 100 == len(site.store.loaded)

        run(scenario)


class Counting(Fickle):
    """How many loads are under way at once."""

    under_way = most = 0

    async def load(self, id: str, now: int) -> Record | None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return await super().load(id, now)


class TestAlive:
    CASES: Iterable[tuple[str, Callable[[Session], object], bool]] = [
        ("nothing", lambda session: None, True),
        ("a save", put, True),
        ("the same subject", lambda session: session.login("user:42"), True),
        ("another subject", lambda session: session.login("user:43"), False),
        ("a logout", logout, False),
    ]

    @pytest.mark.parametrize(("name", "act", "expected"), CASES, ids=[c[0] for c in CASES])
    def test_after(self, name: str, act: Callable[[Session], object], expected: bool) -> None:
        """What a worker that goes on is told."""

        async def scenario() -> None:
            site = Site()
            session = await site.login()
            await site.request(act)
            assert expected is await site.sessions.is_alive(session)

        run(scenario)

    def test_one_that_is_not_stored_is(self) -> None:
        """Nothing could end it."""
        sessions = Sessions(MemoryStore())
        session = sessions.open(None)
        sessions.commit(session)

        assert sessions.is_alive(session)
        assert not session.accessed

    def test_an_expired_one_is_not(self) -> None:
        """By the clock of the sessions."""
        clock = Clock()
        sessions = Sessions(MemoryStore(), clock=clock)
        session = sessions.open(None)
        session.login("user:42")
        sessions.commit(session)
        assert sessions.is_alive(session)
        clock.move(3600)

        assert not sessions.is_alive(session)

    def test_an_outage_is_no_end(self) -> None:
        """It is raised."""

        async def scenario() -> None:
            site = Site()
            session = await site.login()
            site.store.error = StoreUnavailable("away")
            with pytest.raises(StoreUnavailable):
                await site.sessions.is_alive(session)

        run(scenario)
