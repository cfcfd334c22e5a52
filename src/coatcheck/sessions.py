"""`Sessions` and `AsyncSessions`: two thin drivers that carry out what `lifecycle` decides.

They have the same statements, `await` apart; a test compares their syntax trees, so a change to
one is a change to both. A request has two moments of I/O: `open` before the app and `commit`
before the response's first byte.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Literal, NoReturn, Self

from coatcheck import events, lifecycle
from coatcheck.backends import Answer, AsyncCarried, AsyncKept, Carried, Kept, Outcome
from coatcheck.cookie import Cookie
from coatcheck.delivery import AsyncDelivery, Delivery
from coatcheck.errors import Contention, StoreUnavailable
from coatcheck.events import Handler
from coatcheck.lifecycle import End, Ending, Plan, Write
from coatcheck.lifetime import LONGEST, Lifetime
from coatcheck.listing import SessionInfo, check_after, describe, describe_in_order, is_id
from coatcheck.login import is_subject
from coatcheck.options import Configured, cannot, check_store
from coatcheck.record import Record
from coatcheck.session import ClientSource, Session
from coatcheck.site_data import Directive
from coatcheck.store import (
    FORBIDDEN,
    FULL,
    GONE,
    SAVED,
    Admitting,
    AsyncAdmitting,
    AsyncCarrierStore,
    AsyncListable,
    AsyncStore,
    AsyncSweepable,
    CarrierStore,
    Forbidden,
    Full,
    Listable,
    Store,
    Sweepable,
)
from coatcheck.telemetry import telemetry
from coatcheck.turns import AsyncTurns, Turns

__all__ = ["AsyncSessions", "SessionInfo", "Sessions"]

_TRIES = 24
_LONGEST_PAUSE = 0.02
_SWEEP_BATCH = 1000
_random = random.Random()  # noqa: S311 - jitter; its own, so that an app's seed means what it says


class Sessions(Configured):
    """The sessions of one site, for synchronous code. Thread-safe; make one and keep it.

    `name` binds tokens to this site where several share a store; by default it is the cookie's.
    `limit` is how many sessions a subject may have; `over_limit` says what a login does that is
    one too many: "end" ends the oldest, "refuse" raises `LoginRefused` (OWASP ASVS 5.0, 7.1.2).
    `max_bytes` limits one session's values. `outage` says what a request whose store is out of
    reach gets: "refuse" raises `StoreUnavailable` on the session's first use, "anonymous" gives an
    empty read-only session with `degraded` set. `renew_after` (seconds, off by default) changes
    the token every so often. `on_event` is called with each `coatcheck.events.Event`, in a thread
    of its own. `clock` gives seconds since the epoch. `clear_site_data` names what the browser is
    asked to throw away with a logout, as ("cache", "storage"). A malformed option raises
    `ConfigurationError`.
    """

    def __init__(
        self,
        store: Store | CarrierStore,
        *,
        name: str | None = None,
        cookie: Cookie = Cookie(),  # noqa: B008 - frozen
        lifetime: Lifetime = Lifetime(),  # noqa: B008 - frozen
        max_bytes: int = 65_536,
        outage: Literal["refuse", "anonymous"] = "refuse",
        limit: int | None = None,
        over_limit: Literal["end", "refuse"] = "end",
        renew_after: float | timedelta | None = None,
        on_event: Handler | None = None,
        clock: Callable[[], float] = time.time,
        clear_site_data: Sequence[Directive] = (),
    ) -> None:
        check_store(store, Store)
        carrier = store if isinstance(store, CarrierStore) else None
        super().__init__(
            carrier=carrier,
            name=name,
            cookie=cookie,
            lifetime=lifetime,
            max_bytes=max_bytes,
            outage=outage,
            limit=limit,
            over_limit=over_limit,
            renew_after=renew_after,
            on_event=on_event,
            clock=clock,
            clear_site_data=clear_site_data,
        )
        self._delivery: Delivery = Delivery(on_event)
        self._store: Store | None
        self._backend: Kept | Carried
        self._marks: Carried | None = None
        kept = store.revocations if isinstance(store, CarrierStore) else store
        self._store = kept
        self._telemetry = telemetry(self.name, store if kept is None else kept)
        calls = None if kept is None else self._measured(kept)
        if carrier or calls is None:
            self._backend = self._marks = Carried(calls, self._rules.domain)
        else:
            self._backend = Kept(calls)
        self._attend()
        self._turns = Turns()
        self._pause = time.sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, cookie_header: str | bytes | None, client: ClientSource = None) -> Session:
        """The session of the request that carries this Cookie header; a new one where none is good.

        One read of the store where the header holds a token, none where it does not. Never raises
        for what came, and not for an outage either: that waits for the session's first use.
        """
        now = self._now()
        session = self._begin(client, now)
        values = self.cookie.read(cookie_header)
        if not values:
            return session
        session._presented = True
        found = []
        with self._limit:
            try:
                claims = lifecycle.claims(self._rules, values)
                with self._span("coatcheck.open", claims[0].token.id if claims else None):
                    for claim in claims:
                        record = self._backend.load(claim.token.id, now)
                        if record is None and self._marks is not None:
                            record = self._marks.denial(claim.carried, now)
                        if self._down:
                            self._recovered()
                        found.append((claim, record))
                endings, told = lifecycle.resume(self._rules, session, found, now)
            except StoreUnavailable as error:
                return self._without_store(session, error)
            for ending in endings:
                self._end_found(ending, now)
        if told:
            self._tell(*told)
        return session

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
                with self._limit, self._span("coatcheck.commit", plan.id):
                    self._carry_out(session, plan)
            finally:
                session._committing = False
        return lifecycle.cookies(self._rules, session)

    def list_for(self, subject: str, *, current: str | None = None) -> list[SessionInfo]:
        """The subject's live sessions, the last seen first; the one of the id `current` says so."""
        return describe(self._of(subject), current)

    def list_all(self, *, after: str = "", limit: int = 100) -> list[SessionInfo]:
        """At most `limit` of all live sessions, in order of their ids; go on with the last id as
        `after`. An empty list is the end. For operators: some stores read all keys for a page.
        An `after` that is neither an id nor empty raises `ConfigurationError`."""
        check_after(after)
        store = self._listable()
        while records := store.page(after, limit, self._now()):
            if found := describe_in_order(records):
                return found
            after = records[-1].id
        return []

    def is_alive(self, session: Session) -> bool:
        """Whether the session has not ended since it was opened or committed here: for a stream or
        a worker that outlives its request.

        It ends when it is logged out or revoked, when it expires, and when it becomes another
        subject's; one that is not stored has nothing that could end. One read of the store. Raises
        `StoreUnavailable`: an outage is no end.
        """
        origin, now = session._origin, self._now()
        if origin is None:
            return True
        with self._limit:
            found = self._look_up(origin.record, now)
        return lifecycle.end_of(self._rules, origin.record, found, now) is None

    def revoke(self, session_id: str, subject: str | None = None) -> bool:
        """End one session; with a subject, only if it is theirs. Whether it was there."""
        store, now = self._revocable(subject), self._now()
        if not is_id(session_id):
            return False
        if self._carrier is not None:
            return self._end(lifecycle.revocation(session_id, now))
        record = store.load(session_id, now)
        if record is not None and subject is not None and record.subject != subject:
            return False
        # What is not there may have ended by a delete that was not confirmed, and is now.
        ended = store.delete(session_id, now)
        if ended and record is not None:
            self._tell(events.Revoked(session_id=session_id, subject=record.subject))
        return ended

    def revoke_all(self, subject: str, *, keep: str | None = None) -> int:
        """End all of the subject's sessions but `keep`; how many there were.

        A login of theirs whose request had been opened by now is refused, but that of the id
        `keep`. A request that does both calls `login()` first. A `keep` that is no id keeps none.
        With the cookie store, which keeps the mark in its revocations, nobody knows how many there
        are: 0.
        """
        keep = keep if is_id(keep) else None
        now = self._now()
        before = lifecycle.before(self.is_shared, now)
        if self._marks is not None and self._store is not None:
            if is_subject(subject):
                self._marks.forbid(subject, before, keep, now)
                self._tell(events.Revoked(subject=subject))
            return 0
        store = self._listable()
        if isinstance(store, Admitting) and is_subject(subject):
            store.forbid(subject, before, keep, before + LONGEST, now)
        # Those too that look expired: a clock that is ahead now may be set right again.
        found = (store.by_subject(subject, 0)) if is_subject(subject) else []
        ended = 0
        for record in found:
            if record.id != keep:
                ended += self.revoke(record.id, subject)
        return ended

    def sweep(self) -> int:
        """Remove what has expired, in batches; how many. 0 where the store does so by itself."""
        store: object = self._store
        swept = 0
        if isinstance(store, Sweepable):
            while removed := store.sweep(_SWEEP_BATCH, self._now()):
                swept += removed
                self._pause(0)  # others go first
            self._tell(events.Swept(count=swept))
        return swept

    def ping(self) -> None:
        """Ask the store for nothing; raises `StoreUnavailable` where it does not answer."""
        if self._store is not None:
            self._store.load("0" * 32, self._now())

    def flush_events(self, timeout: float = 1.0) -> bool:
        """Wait until `on_event` was called with all that was told so far; whether it was, after
        that many seconds."""
        return self._delivery.flush_events(timeout)

    def close(self) -> None:
        """Deliver the events that wait, for a second at most, and close the store.

        It closes only what it opened itself.
        """
        self.flush_events()
        self._delivery.stop()
        if self._store is not None:
            self._store.close()

    # A plan, carried out.

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
            if write.entry is not None:  # a login that was written must be checked all the same
                return self._backend.write(write, self._now())
            found = self._backend.load(record.id, self._now())
        except StoreUnavailable:
            return None
        return SAVED if found is not None and found.revision == record.revision else None

    def _look_up(self, record: Record, now: int) -> Record | None:
        """What the store holds of it now; of what its cookie carries, what denies it."""
        found = self._backend.load(record.id, now)
        if found is None and self._marks is not None:
            found = self._marks.denial(record, now)
        return found

    def _end(self, end: End) -> bool:
        try:
            first = self._backend.end(end, self._now())
        except StoreUnavailable as error:
            self._met_outage("commit", error, end.id)
            raise
        if end.event is not None:
            self._tell(end.event)
        return first

    def _end_found(self, ending: Ending, now: int) -> None:
        """End a copied or unreadable session; in an outage it stays refused and is met again."""
        try:
            self._backend.drop(ending.id, now)
        except StoreUnavailable as error:
            self._met_outage("end", error, ending.id)
        self._tell(ending.event)

    def _of(self, subject: str) -> list[Record]:
        """What a store has of the subject; it is not asked for one that cannot log in."""
        store = self._listable()
        return store.by_subject(subject, self._now()) if is_subject(subject) else []

    def _listable(self) -> Listable:
        store: object = self._store
        if self._carrier is None and isinstance(store, Listable):
            return store
        raise cannot("list sessions by subject", self._carrier, store)

    def _revocable(self, subject: str | None) -> Store:
        if self._store is None or (self._carrier is not None and subject is not None):
            raise cannot(
                "end a session of another browser" + (" by subject" if subject else ""),
                self._carrier,
            )
        return self._store


class AsyncSessions(Configured):
    """`Sessions` for asynchronous code: the same options, the same promises."""

    def __init__(
        self,
        store: AsyncStore | AsyncCarrierStore,
        *,
        name: str | None = None,
        cookie: Cookie = Cookie(),  # noqa: B008 - frozen
        lifetime: Lifetime = Lifetime(),  # noqa: B008 - frozen
        max_bytes: int = 65_536,
        outage: Literal["refuse", "anonymous"] = "refuse",
        limit: int | None = None,
        over_limit: Literal["end", "refuse"] = "end",
        renew_after: float | timedelta | None = None,
        on_event: Handler | None = None,
        clock: Callable[[], float] = time.time,
        clear_site_data: Sequence[Directive] = (),
    ) -> None:
        check_store(store, AsyncStore)
        carrier = store if isinstance(store, AsyncCarrierStore) else None
        super().__init__(
            carrier=carrier,
            name=name,
            cookie=cookie,
            lifetime=lifetime,
            max_bytes=max_bytes,
            outage=outage,
            limit=limit,
            over_limit=over_limit,
            renew_after=renew_after,
            on_event=on_event,
            clock=clock,
            clear_site_data=clear_site_data,
        )
        self._delivery: AsyncDelivery = AsyncDelivery(on_event)
        self._store: AsyncStore | None
        self._backend: AsyncKept | AsyncCarried
        self._marks: AsyncCarried | None = None
        kept = store.revocations if isinstance(store, AsyncCarrierStore) else store
        self._store = kept
        self._telemetry = telemetry(self.name, store if kept is None else kept)
        calls = None if kept is None else self._measured(kept)
        if carrier or calls is None:
            self._backend = self._marks = AsyncCarried(calls, self._rules.domain)
        else:
            self._backend = AsyncKept(calls)
        self._attend()
        self._turns = AsyncTurns()
        self._pause = asyncio.sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self, cookie_header: str | bytes | None, client: ClientSource = None) -> Session:
        """The session of the request that carries this Cookie header; a new one where none is good.

        One read of the store where the header holds a token, none where it does not. Never raises
        for what came, and not for an outage either: that waits for the session's first use.
        """
        now = self._now()
        session = self._begin(client, now)
        values = self.cookie.read(cookie_header)
        if not values:
            return session
        session._presented = True
        found = []
        with self._limit:
            try:
                claims = lifecycle.claims(self._rules, values)
                with self._span("coatcheck.open", claims[0].token.id if claims else None):
                    for claim in claims:
                        record = await self._backend.load(claim.token.id, now)
                        if record is None and self._marks is not None:
                            record = await self._marks.denial(claim.carried, now)
                        if self._down:
                            self._recovered()
                        found.append((claim, record))
                endings, told = lifecycle.resume(self._rules, session, found, now)
            except StoreUnavailable as error:
                return self._without_store(session, error)
            for ending in endings:
                await self._end_found(ending, now)
        if told:
            self._tell(*told)
        return session

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
                with self._limit, self._span("coatcheck.commit", plan.id):
                    await self._carry_out(session, plan)
            finally:
                session._committing = False
        return lifecycle.cookies(self._rules, session)

    async def list_for(self, subject: str, *, current: str | None = None) -> list[SessionInfo]:
        """The subject's live sessions, the last seen first; the one of the id `current` says so."""
        return describe(await self._of(subject), current)

    async def list_all(self, *, after: str = "", limit: int = 100) -> list[SessionInfo]:
        """At most `limit` of all live sessions, in order of their ids; go on with the last id as
        `after`. An empty list is the end. For operators: some stores read all keys for a page.
        An `after` that is neither an id nor empty raises `ConfigurationError`."""
        check_after(after)
        store = self._listable()
        while records := await store.page(after, limit, self._now()):
            if found := describe_in_order(records):
                return found
            after = records[-1].id
        return []

    async def is_alive(self, session: Session) -> bool:
        """Whether the session has not ended since it was opened or committed here: for a stream or
        a worker that outlives its request.

        It ends when it is logged out or revoked, when it expires, and when it becomes another
        subject's; one that is not stored has nothing that could end. One read of the store. Raises
        `StoreUnavailable`: an outage is no end.
        """
        origin, now = session._origin, self._now()
        if origin is None:
            return True
        with self._limit:
            found = await self._look_up(origin.record, now)
        return lifecycle.end_of(self._rules, origin.record, found, now) is None

    async def revoke(self, session_id: str, subject: str | None = None) -> bool:
        """End one session; with a subject, only if it is theirs. Whether it was there."""
        store, now = self._revocable(subject), self._now()
        if not is_id(session_id):
            return False
        if self._carrier is not None:
            return await self._end(lifecycle.revocation(session_id, now))
        record = await store.load(session_id, now)
        if record is not None and subject is not None and record.subject != subject:
            return False
        # What is not there may have ended by a delete that was not confirmed, and is now.
        ended = await store.delete(session_id, now)
        if ended and record is not None:
            self._tell(events.Revoked(session_id=session_id, subject=record.subject))
        return ended

    async def revoke_all(self, subject: str, *, keep: str | None = None) -> int:
        """End all of the subject's sessions but `keep`; how many there were.

        A login of theirs whose request had been opened by now is refused, but that of the id
        `keep`. A request that does both calls `login()` first. A `keep` that is no id keeps none.
        With the cookie store, which keeps the mark in its revocations, nobody knows how many there
        are: 0.
        """
        keep = keep if is_id(keep) else None
        now = self._now()
        before = lifecycle.before(self.is_shared, now)
        if self._marks is not None and self._store is not None:
            if is_subject(subject):
                await self._marks.forbid(subject, before, keep, now)
                self._tell(events.Revoked(subject=subject))
            return 0
        store = self._listable()
        if isinstance(store, AsyncAdmitting) and is_subject(subject):
            await store.forbid(subject, before, keep, before + LONGEST, now)
        # Those too that look expired: a clock that is ahead now may be set right again.
        found = (await store.by_subject(subject, 0)) if is_subject(subject) else []
        ended = 0
        for record in found:
            if record.id != keep:
                ended += await self.revoke(record.id, subject)
        return ended

    async def sweep(self) -> int:
        """Remove what has expired, in batches; how many. 0 where the store does so by itself."""
        store: object = self._store
        swept = 0
        if isinstance(store, AsyncSweepable):
            while removed := await store.sweep(_SWEEP_BATCH, self._now()):
                swept += removed
                await self._pause(0)  # others go first
            self._tell(events.Swept(count=swept))
        return swept

    async def ping(self) -> None:
        """Ask the store for nothing; raises `StoreUnavailable` where it does not answer."""
        if self._store is not None:
            await self._store.load("0" * 32, self._now())

    async def flush_events(self, timeout: float = 1.0) -> bool:
        """Wait until `on_event` was called with all that was told so far; whether it was, after
        that many seconds."""
        return await self._delivery.flush_events(timeout)

    async def close(self) -> None:
        """Deliver the events that wait, for a second at most, and close the store.

        It closes only what it opened itself.
        """
        await self.flush_events()
        self._delivery.stop()
        if self._store is not None:
            await self._store.close()

    # A plan, carried out.

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
            if write.entry is not None:  # a login that was written must be checked all the same
                return await self._backend.write(write, self._now())
            found = await self._backend.load(record.id, self._now())
        except StoreUnavailable:
            return None
        return SAVED if found is not None and found.revision == record.revision else None

    async def _look_up(self, record: Record, now: int) -> Record | None:
        """What the store holds of it now; of what its cookie carries, what denies it."""
        found = await self._backend.load(record.id, now)
        if found is None and self._marks is not None:
            found = await self._marks.denial(record, now)
        return found

    async def _end(self, end: End) -> bool:
        try:
            first = await self._backend.end(end, self._now())
        except StoreUnavailable as error:
            self._met_outage("commit", error, end.id)
            raise
        if end.event is not None:
            self._tell(end.event)
        return first

    async def _end_found(self, ending: Ending, now: int) -> None:
        """End a copied or unreadable session; in an outage it stays refused and is met again."""
        try:
            await self._backend.drop(ending.id, now)
        except StoreUnavailable as error:
            self._met_outage("end", error, ending.id)
        self._tell(ending.event)

    async def _of(self, subject: str) -> list[Record]:
        """What a store has of the subject; it is not asked for one that cannot log in."""
        store = self._listable()
        return await store.by_subject(subject, self._now()) if is_subject(subject) else []

    def _listable(self) -> AsyncListable:
        store: object = self._store
        if self._carrier is None and isinstance(store, AsyncListable):
            return store
        raise cannot("list sessions by subject", self._carrier, store)

    def _revocable(self, subject: str | None) -> AsyncStore:
        if self._store is None or (self._carrier is not None and subject is not None):
            raise cannot(
                "end a session of another browser" + (" by subject" if subject else ""),
                self._carrier,
            )
        return self._store


def _outdone() -> Contention:
    return Contention(
        f"session: expected a save to go through in {_TRIES} tries, got refused each time by "
        "other requests of the same session; answer 503 and let the client try again"
    )
