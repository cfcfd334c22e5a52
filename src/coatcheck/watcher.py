"""Looks after all the sessions that are watched in one event loop.

A `Watcher` has a poll, which goes round a bit more often than once a second, and where the store
is `Watchable` a line, on which the store tells of ends.

    no line, or it is down   each round looks at every session that is watched
    on the line              what was told is looked at once, and so is who joins, and all when the
                             line comes up; a round looks at what should have expired, and now and
                             then at all, for what a store could not tell

To look is to load, and only what was loaded decides: a session that was merely saved goes on, and
one that other requests prolonged has not expired. Where the store does not answer nothing ends
before its hard end: an outage is not a logout. The rounds go on, further apart while nothing is
answered.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import Context
from typing import Any, TypeAlias

from coatcheck import events, lifecycle
from coatcheck.errors import StoreUnavailable
from coatcheck.lifecycle import Reason
from coatcheck.lifetime import touch_interval
from coatcheck.record import Head, NewerFormat, Record, Unreadable, read_payload
from coatcheck.sessions import AsyncSessions
from coatcheck.state import Origin
from coatcheck.store import Watchable

__all__ = ["Over", "Watcher"]

Over: TypeAlias = "asyncio.Future[Reason]"

_ROUND = 0.8  # seconds: with a store that answers in time, an end is known within one
_LONGEST_ROUND = 8 * _ROUND
_FULL_ROUND = 40  # on the line each of that number looks at all: every half a minute
_AT_ONCE = 100  # loads that leave together; the loop's other tasks get their turn in between
_TRIES = 3
_random = random.Random()  # noqa: S311 - jitter; its own, so that an app's seed means what it says

_logger = logging.getLogger("coatcheck")


class _Watched:
    """One session as it was last found, and who watches it, each from what they know of it."""

    __slots__ = ("head", "id", "record", "tried_at", "watches")

    def __init__(self, origin: Origin) -> None:
        self.id = origin.record.id
        self.record = origin.record
        self.head: Head | None = origin.head
        self.watches: dict[Over, Record] = {}
        self.tried_at = 0

    def learn(self, record: Record) -> None:
        """It was found like this. Where the head cannot be read, nobody knows how far it may be
        prolonged."""
        if record.revision != self.record.revision:
            self.head = _head_of(record)
        self.record = record

    def prolonged(self, now: int) -> Record | None:
        """What a touch would make of it, where one is due."""
        return None if self.head is None else lifecycle.prolonged(self.record, self.head, now)

    def is_due(self, now: int) -> bool:
        """Whether to touch it; one that failed is not tried again at each message."""
        if self.head is None or now - self.tried_at < touch_interval(self.head.idle):
            return False
        return self.prolonged(now) is not None


class Watcher:
    """Made in the loop that it watches for."""

    def __init__(self, sessions: AsyncSessions) -> None:
        self.members = 0
        self._sessions = sessions
        self._is_carried = sessions._carrier is not None
        self._watched: dict[str, _Watched] = {}
        self._asked = set[str]()  # ids to be looked at, at once or else in the next round
        self._on_line = False
        self._looking = False
        self._tasks = set[asyncio.Task[None]]()
        self._steady = [self._run(self._go_round())]
        # A carried session ends by a denial, which is created: no line tells of that.
        store: object = sessions._store
        if isinstance(store, Watchable) and not self._is_carried:
            self._steady.append(self._run(self._listen(store)))

    def join(self, over: Over, origin: Origin) -> None:
        """Set `over` when this session is."""
        self.members += 1
        watched = self._watched.setdefault(origin.record.id, _Watched(origin))
        watched.learn(origin.record)
        watched.watches[over] = origin.record
        if self._on_line:  # what was told before was told to others
            self._ask([watched.id])

    def leave(self, over: Over, id: str) -> None:
        self.members -= 1
        self._forget(over, id)

    async def stop(self) -> None:
        """Nobody is left: end, when the last touches are through."""
        for task in self._steady:
            task.cancel()
        if self._tasks:  # else the loop is about to end, and has cancelled them already
            await asyncio.wait(self._tasks)  # it hides no cancellation of the caller's

    def see(self, id: str, over: Over) -> None:
        """This session was used, unless it is over."""
        watched = self._watched.get(id)
        if self._is_carried or watched is None or over not in watched.watches:
            return
        now = self._sessions._now()
        if watched.is_due(now):
            watched.tried_at = now
            self._run(self._touch(watched, now))

    def _forget(self, over: Over, id: str) -> None:
        watched = self._watched.get(id)
        if watched is None:
            return
        watched.watches.pop(over, None)
        if not watched.watches:
            del self._watched[id]

    def _run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        # In an empty context: it is nobody's request, and has nobody's limits.
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name="coatcheck watcher", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # When to look.

    async def _go_round(self) -> None:
        loop, failures, took = asyncio.get_running_loop(), 0, 0.0
        for number in itertools.count(1):
            await self._pause(failures, took)
            began = loop.time()
            try:
                due = self._due(full=not self._on_line or number % _FULL_ROUND == 0)
                failures = 0 if await self._look(due) else failures + 1
            except Exception:
                _logger.exception("watching: a round failed; the next one follows")
                failures += 1
            took = loop.time() - began

    def _due(self, *, full: bool) -> list[_Watched]:
        now = self._sessions._now()
        asked, self._asked = self._asked, set()
        return [
            each
            for each in self._watched.values()
            if full or each.id in asked or each.record.expires_at <= now
        ]

    async def _listen(self, store: Watchable) -> None:
        failures = 0
        while True:
            try:
                await store.watch(self._told, self._come_up)
            except StoreUnavailable:
                """The rounds look at all until the line is up again."""
            except Exception:
                _logger.exception("watching: the store's line failed; the rounds go on without")
            failures = 0 if self._on_line else failures + 1
            self._on_line = False
            await self._pause(failures)

    async def _pause(self, failures: int, took: float = 0.0) -> None:
        """Until the next round is due, counted from the last one's start; where that took longer,
        others go first for a while. With jitter, so that the workers of one site do not ask
        together."""
        longest = min(_ROUND * 2 ** min(failures, 9), _LONGEST_ROUND)
        rest = longest * _random.uniform(0.75, 1) - took
        await self._sessions._pause(max(rest, took / 4))

    def _told(self, id: str) -> None:
        if id in self._watched:
            self._ask([id])

    def _come_up(self) -> None:
        """From now on the line misses nothing; what it missed before is looked for."""
        self._on_line = True
        self._ask(self._watched)

    def _ask(self, ids: Iterable[str]) -> None:
        """Have them looked at now, together with what else is asked in this turn of the loop."""
        self._asked.update(ids)
        if not self._looking:
            self._looking = True
            self._run(self._look_at_asked())

    async def _look_at_asked(self) -> None:
        self._looking = False
        asked, self._asked = self._asked, set()
        await self._look([self._watched[each] for each in asked if each in self._watched])

    # To look.

    async def _look(self, watched: Sequence[_Watched]) -> bool:
        """Load them, and end what is over; False where the store does not answer.

        What was not answered is asked for again in the next round.
        """
        for start in range(0, len(watched), _AT_ONCE):
            some = watched[start : start + _AT_ONCE]
            try:
                is_answered = await self._look_at(some)
            except Exception:
                _logger.exception("watching: %d sessions could not be looked at", len(some))
                self._asked.update(each.id for each in some)
                continue
            if not is_answered:
                self._put_off(watched[start + _AT_ONCE :])
                return False
        return True

    async def _look_at(self, some: Sequence[_Watched]) -> bool:
        now, answered = self._sessions._now(), False
        # Who joins meanwhile may know more than a load that is under way.
        watches = [list(each.watches) for each in some]
        with self._sessions._in_time:
            loads = [self._sessions._look_up(each.record, now) for each in some]
            found = await asyncio.gather(*loads, return_exceptions=True)
        for each, those, answer in zip(some, watches, found, strict=True):
            if isinstance(answer, BaseException):
                answered = self._excuse(each, answer) or answered
            else:
                self._judge(each, those, answer, now)
                answered = True
        return answered

    def _put_off(self, some: Iterable[_Watched]) -> None:
        """They were not loaded: the next round asks again. Their hard end needs no store."""
        now = self._sessions._now()
        for each in some:
            self._asked.add(each.id)
            if each.head is not None and each.head.deadline <= now:
                self._judge(each, list(each.watches), None, now)

    def _excuse(self, watched: _Watched, error: BaseException) -> bool:
        """It was not loaded. Whether that is an answer: it is there, for a newer release."""
        if isinstance(error, NewerFormat):
            return True
        if not isinstance(error, StoreUnavailable):
            _logger.error("watching: session %s was not loaded", watched.id, exc_info=error)
        self._put_off([watched])
        return False

    def _judge(
        self, watched: _Watched, watches: Iterable[Over], found: Record | None, now: int
    ) -> None:
        expired: Record | None = None
        if found is not None:
            watched.learn(found)
        for over in watches:
            known = watched.watches.get(over)
            if known is None:  # it has left, or ended
                continue
            reason = lifecycle.end_of(self._sessions._rules, known, found, now)
            if reason is not None:
                self._forget(over, watched.id)
                if not over.done():  # somebody may have cancelled it
                    over.set_result(reason)
                expired = known if reason == "expired" else expired
            elif found is not None:
                watched.watches[over] = found
        if expired is not None:  # for all of its sockets once
            self._sessions._tell(events.Expired(session_id=expired.id, subject=expired.subject))

    # To be seen.

    async def _touch(self, watched: _Watched, now: int) -> None:
        error = "another save came first"
        try:
            with self._sessions._in_time:
                if await self._prolong(watched, now):
                    return
        except StoreUnavailable as outage:
            error = str(outage)
        self._sessions._tell(events.Skipped(session_id=watched.id, error=error))

    async def _prolong(self, watched: _Watched, now: int) -> bool:
        """Whether nothing is left to do: it is prolonged, by whomever, or over."""
        store = self._sessions._store
        assert store is not None  # else it is carried
        for _ in range(_TRIES):
            touched, watches = watched.prolonged(now), list(watched.watches)
            if touched is None:
                return True
            times = touched.seen_at, touched.expires_at
            if await store.touch(watched.id, touched.revision, *times, now):
                self._judge(watched, watches, touched, now)
                return True
            watches = list(watched.watches)
            self._judge(watched, watches, await store.load(watched.id, now), now)
            if not watched.watches:
                return True
        return False


def _head_of(record: Record) -> Head | None:
    try:
        return read_payload(record.payload)
    except (NewerFormat, Unreadable):
        return None
