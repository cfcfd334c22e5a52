"""What a commit's plan comes to in the store: `lifecycle` decides, this carries out.

What is to be ended is ended before anything is written. Where another request of the session was
faster, its record is what the edits are done on again, in turns with the others of this process.
What became of a write whose answer was lost is asked, once, where a new token depends on it.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from coatcheck import lifecycle
from coatcheck.backends import Answer, AsyncCarried, AsyncKept, Carried, Kept, Outcome
from coatcheck.errors import Contention, StoreUnavailable
from coatcheck.lifecycle import End, Plan, Write
from coatcheck.options import Configured
from coatcheck.record import Record
from coatcheck.session import Session
from coatcheck.store import FORBIDDEN, FULL, GONE, SAVED, Forbidden, Full
from coatcheck.turns import AsyncTurns, Turns

__all__ = ["AsyncCommitting", "Committing"]

_TRIES = 24
_LONGEST_PAUSE = 0.02
_random = random.Random()  # noqa: S311 - jitter; its own, so that an app's seed means what it says


class Committing(Configured):
    """What `Sessions` does when a request ends."""

    _backend: Kept | Carried
    _marks: Carried | None
    _turns: Turns
    _pause: Callable[[float], Any]

    def commit(self, session: Session, *, failed: bool = False) -> list[str]:
        """Write what the request did; the values of the Set-Cookie headers that it owes.

        Call it before the response's first byte; calling it earlier, and more than once, is fine,
        the last call's answer being the whole one. `failed` says that the response is an error:
        then edits and login are dropped, and only `logout()` is kept. Raises `StoreUnavailable`
        or `Contention` (answer 503, and set no cookie), `UnsupportedValue`, `SessionTooLarge`,
        `CookieTooLarge`. Whichever it is, nothing of this request's edits was written, unless
        the store wrote them and only its answer was lost.
        """
        if failed:
            lifecycle.abandon(session)
        plan = lifecycle.settle(self._rules, session, self._now())
        if plan is not None:
            session._committing = True  # a change now would be forgotten, so it raises
            try:
                with self._in_time, self._span("coatcheck.commit", plan.id):
                    self._carry_out(session, plan)
            finally:
                session._committing = False
        return lifecycle.cookies(self._rules, session)

    def _carry_out(self, session: Session, plan: Plan) -> None:
        write = plan.write
        self._tell(*plan.told)
        if plan.end is not None:
            write = self._end_first(session, plan, plan.end)
        if write is None:
            return
        answer = self._answer(session, write)
        if answer is SAVED:
            return
        self._tell(*lifecycle.missed(session, write, answer, self._now()))
        if write.essential:
            self._insist(session, write.origin.record, answer)

    def _end_first(self, session: Session, plan: Plan, end: End) -> Write | None:
        """End what is to be ended before anything is written; what is to be written then."""
        write = plan.write
        if not self._end(end) and end.replaced:
            lifecycle.replay(session, GONE)
            write = self._settled_again(session)
        lifecycle.ended(session)
        return write

    def _insist(self, session: Session, record: Record, answer: Answer) -> None:
        """Another request was faster: do again on what it left what this one did."""
        tries = 1
        try:
            with self._turns.take(record.id):
                while tries < _TRIES:
                    self._replay(session, answer)
                    write = self._settled_again(session)
                    if write is None:
                        return
                    answer = self._answer(session, write)
                    if answer is SAVED:
                        self._merged(write.origin.record, tries)
                        return
                    tries += 1
                    self._pause(_random.uniform(0, _LONGEST_PAUSE))
            raise _outdone()
        except Contention:
            self._contended(record, tries)
            raise

    def _settled_again(self, session: Session) -> Write | None:
        plan = lifecycle.settle(self._rules, session, self._now())
        return None if plan is None else plan.write

    def _answer(self, session: Session, write: Write) -> Answer:
        """The store's answer to the write. One that the request does not need counts as saved."""
        outcome: Outcome | None
        try:
            outcome = self._backend.write(write, self._now())
            if self._down:
                self._recovered()
        except StoreUnavailable as error:
            if not write.essential:
                self._skipped(write.origin.record, error)
                return SAVED
            self._met_outage("commit", error, write.origin.record.id)
            outcome = (self._look_again(write)) if write.minted else None
            if outcome is None:
                raise
        if outcome is FORBIDDEN or outcome is FULL:
            self._refuse(session, write, outcome)
        answer = self._entered(write, outcome)
        if answer is SAVED:
            lifecycle.finish(session, write)
            if write.event is not None:
                self._tell(write.event)
        return answer

    def _refuse(self, session: Session, write: Write, outcome: Forbidden | Full) -> NoReturn:
        """The login was not let in, and the session that it was to take may have gone with it."""
        refused = lifecycle.refuse(session, outcome, self._rules.limit)
        self._tell_refused(write.origin.record, refused)
        if session._origin is not None and self._marks is None:
            with suppress(StoreUnavailable):
                found = self._backend.load(session._origin.record.id, self._now())
                if found is not None:
                    raise refused
            session._lose()
        raise refused

    def _look_again(self, write: Write) -> Outcome | None:
        """What became of a write whose answer was lost; None where that stays unknown."""
        record = write.origin.record
        try:
            if self._marks is not None:  # it knows its own denial again
                return self._backend.write(write, self._now())
            found = self._backend.load(record.id, self._now())
            if write.entry is not None and found is None and write.verb == "create":
                return GONE  # it may have ended since, so its id is not used again
            if write.entry is not None and self._backend.admits is not None:
                # It must be checked all the same.
                return self._backend.write(write, self._now())
        except StoreUnavailable:
            return None
        return SAVED if found is not None and found.revision == record.revision else None

    def _end(self, end: End) -> bool:
        try:
            first = self._backend.end(end, self._now())
        except StoreUnavailable as error:
            self._met_outage("commit", error, end.id)
            raise
        if end.event is not None:
            self._tell(end.event)
        return first


class AsyncCommitting(Configured):
    """What `AsyncSessions` does when a request ends."""

    _backend: AsyncKept | AsyncCarried
    _marks: AsyncCarried | None
    _turns: AsyncTurns
    _pause: Callable[[float], Any]

    async def commit(self, session: Session, *, failed: bool = False) -> list[str]:
        """Write what the request did; the values of the Set-Cookie headers that it owes.

        Call it before the response's first byte; calling it earlier, and more than once, is fine,
        the last call's answer being the whole one. `failed` says that the response is an error:
        then edits and login are dropped, and only `logout()` is kept. Raises `StoreUnavailable`
        or `Contention` (answer 503, and set no cookie), `UnsupportedValue`, `SessionTooLarge`,
        `CookieTooLarge`. Whichever it is, nothing of this request's edits was written, unless
        the store wrote them and only its answer was lost.
        """
        if failed:
            lifecycle.abandon(session)
        plan = lifecycle.settle(self._rules, session, self._now())
        if plan is not None:
            session._committing = True  # a change now would be forgotten, so it raises
            try:
                with self._in_time, self._span("coatcheck.commit", plan.id):
                    await self._carry_out(session, plan)
            finally:
                session._committing = False
        return lifecycle.cookies(self._rules, session)

    async def _carry_out(self, session: Session, plan: Plan) -> None:
        write = plan.write
        self._tell(*plan.told)
        if plan.end is not None:
            write = await self._end_first(session, plan, plan.end)
        if write is None:
            return
        answer = await self._answer(session, write)
        if answer is SAVED:
            return
        self._tell(*lifecycle.missed(session, write, answer, self._now()))
        if write.essential:
            await self._insist(session, write.origin.record, answer)

    async def _end_first(self, session: Session, plan: Plan, end: End) -> Write | None:
        """End what is to be ended before anything is written; what is to be written then."""
        write = plan.write
        if not await self._end(end) and end.replaced:
            lifecycle.replay(session, GONE)
            write = self._settled_again(session)
        lifecycle.ended(session)
        return write

    async def _insist(self, session: Session, record: Record, answer: Answer) -> None:
        """Another request was faster: do again on what it left what this one did."""
        tries = 1
        try:
            async with self._turns.take(record.id):
                while tries < _TRIES:
                    self._replay(session, answer)
                    write = self._settled_again(session)
                    if write is None:
                        return
                    answer = await self._answer(session, write)
                    if answer is SAVED:
                        self._merged(write.origin.record, tries)
                        return
                    tries += 1
                    await self._pause(_random.uniform(0, _LONGEST_PAUSE))
            raise _outdone()
        except Contention:
            self._contended(record, tries)
            raise

    def _settled_again(self, session: Session) -> Write | None:
        plan = lifecycle.settle(self._rules, session, self._now())
        return None if plan is None else plan.write

    async def _answer(self, session: Session, write: Write) -> Answer:
        """The store's answer to the write. One that the request does not need counts as saved."""
        outcome: Outcome | None
        try:
            outcome = await self._backend.write(write, self._now())
            if self._down:
                self._recovered()
        except StoreUnavailable as error:
            if not write.essential:
                self._skipped(write.origin.record, error)
                return SAVED
            self._met_outage("commit", error, write.origin.record.id)
            outcome = (await self._look_again(write)) if write.minted else None
            if outcome is None:
                raise
        if outcome is FORBIDDEN or outcome is FULL:
            await self._refuse(session, write, outcome)
        answer = self._entered(write, outcome)
        if answer is SAVED:
            lifecycle.finish(session, write)
            if write.event is not None:
                self._tell(write.event)
        return answer

    async def _refuse(self, session: Session, write: Write, outcome: Forbidden | Full) -> NoReturn:
        """The login was not let in, and the session that it was to take may have gone with it."""
        refused = lifecycle.refuse(session, outcome, self._rules.limit)
        self._tell_refused(write.origin.record, refused)
        if session._origin is not None and self._marks is None:
            with suppress(StoreUnavailable):
                found = await self._backend.load(session._origin.record.id, self._now())
                if found is not None:
                    raise refused
            session._lose()
        raise refused

    async def _look_again(self, write: Write) -> Outcome | None:
        """What became of a write whose answer was lost; None where that stays unknown."""
        record = write.origin.record
        try:
            if self._marks is not None:  # it knows its own denial again
                return await self._backend.write(write, self._now())
            found = await self._backend.load(record.id, self._now())
            if write.entry is not None and found is None and write.verb == "create":
                return GONE  # it may have ended since, so its id is not used again
            if write.entry is not None and self._backend.admits is not None:
                # It must be checked all the same.
                return await self._backend.write(write, self._now())
        except StoreUnavailable:
            return None
        return SAVED if found is not None and found.revision == record.revision else None

    async def _end(self, end: End) -> bool:
        try:
            first = await self._backend.end(end, self._now())
        except StoreUnavailable as error:
            self._met_outage("commit", error, end.id)
            raise
        if end.event is not None:
            self._tell(end.event)
        return first


def _outdone() -> Contention:
    return Contention(
        f"session: expected a save to go through in {_TRIES} tries, got refused each time by "
        "other requests of the same session; answer 503 and let the client try again"
    )
