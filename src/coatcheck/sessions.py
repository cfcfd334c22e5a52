"""`Sessions` and `AsyncSessions`: two thin drivers that carry out what `lifecycle` decides.

They have the same statements, `await` apart; a test compares their syntax trees, so a change to
one is a change to both. A request has two moments of I/O: `open` before the app and `commit`
before the response's first byte.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Literal, Self

from coatcheck import events, lifecycle
from coatcheck.cookie import Cookie
from coatcheck.errors import Collision, ConfigurationError, Contention, StoreUnavailable
from coatcheck.events import Event, Handler
from coatcheck.lifecycle import Claim, Ending, Rules, Write
from coatcheck.lifetime import Lifetime
from coatcheck.record import NewerFormat, Record, Unreadable, read_payload
from coatcheck.session import Client, ClientSource, Session
from coatcheck.store import (
    GONE,
    SAVED,
    AsyncCarrierStore,
    AsyncListable,
    AsyncStore,
    AsyncSweepable,
    Carrier,
    CarrierStore,
    Gone,
    Listable,
    Saved,
    Store,
    Sweepable,
)
from coatcheck.turns import AsyncTurns, Turns

__all__ = ["AsyncSessions", "SessionInfo", "Sessions"]

_TRIES = 24
_LONGEST_PAUSE = 0.02
_SWEEP_BATCH = 1000


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session as lists show it: nothing here opens it. Times are aware, in UTC."""

    id: str
    subject: str | None
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    login_at: datetime | None
    client: Client


class _Configured:
    """The options that both drivers share, checked once."""

    _store: object

    def __init__(
        self,
        *,
        carrier: Carrier | None,
        name: str | None,
        cookie: Cookie,
        lifetime: Lifetime,
        max_bytes: int,
        outage: Literal["refuse", "anonymous"],
        renew_after: float | timedelta | None,
        on_event: Handler | None,
        clock: Callable[[], float],
    ) -> None:
        _check_options(cookie, lifetime, max_bytes, outage)
        self.name = cookie.name if name is None else name
        self.cookie = cookie
        self.lifetime = lifetime
        self._carrier = carrier
        self._outage = outage
        self._on_event = on_event
        self._clock = clock
        self._rules = Rules(
            name=_name_bytes(self.name),
            cookie=cookie,
            lifetime=lifetime,
            max_bytes=max_bytes,
            renew_after=_renewal_ms(renew_after, carrier),
            carrier=carrier,
        )

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same sessions."""
        return bool(getattr(self._store, "shared", True))

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _tell(self, *told: Event) -> None:
        for event in told:
            events.send(self._on_event, event)

    def _begin(self, client: ClientSource, now: int) -> Session:
        session = Session(self._rules.name, now, client)
        if self._carrier is not None:
            session._carried = True
        return session

    def _without_store(self, session: Session, error: StoreUnavailable) -> Session:
        self._tell(events.Outage(moment="open", error=str(error)))
        if self._outage == "anonymous":
            session.degraded = True
        else:
            session._fault = error
        return session

    def _contended(self, write: Write, tries: int) -> None:
        if tries:
            record = write.origin.record
            self._tell(events.Contended(session_id=record.id, subject=record.subject, tries=tries))


class Sessions(_Configured):
    """The sessions of one site, for synchronous code. Thread-safe; make one and keep it.

    `name` binds tokens to this site where several share a store; by default it is the cookie's.
    `max_bytes` limits one session's values. `outage` says what a request whose store is out of
    reach gets: "refuse" raises `StoreUnavailable` on the session's first use, "anonymous" gives an
    empty read-only session with `degraded` set. `renew_after` (seconds, off by default) changes
    the token every so often. `on_event` is called with each `coatcheck.events.Event`. `clock`
    gives seconds since the epoch. A malformed option raises `ConfigurationError`.
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
        renew_after: float | timedelta | None = None,
        on_event: Handler | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            carrier=store if isinstance(store, CarrierStore) else None,
            name=name,
            cookie=cookie,
            lifetime=lifetime,
            max_bytes=max_bytes,
            outage=outage,
            renew_after=renew_after,
            on_event=on_event,
            clock=clock,
        )
        self._store: Store | None = store.revocations if isinstance(store, CarrierStore) else store
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
        claims = lifecycle.claims(self._rules, values)
        try:
            found = [(claim, self._load(claim, now)) for claim in claims]
            endings, told = lifecycle.resume(self._rules, session, found, now)
        except StoreUnavailable as error:
            return self._without_store(session, error)
        for ending in endings:
            self._end_found(ending, now)
        self._tell(*told)
        return session

    def commit(self, session: Session, *, failed: bool = False) -> list[str]:
        """Write what the request did; the values of the Set-Cookie headers that it owes.

        Call it before the response's first byte; calling it earlier, and more than once, is fine,
        the last call's answer being the whole one. `failed` says that the response is an error:
        then edits and login are dropped, and only `logout()` is kept. Raises `StoreUnavailable`
        or `Contention` (answer 503, and set no cookie), `UnsupportedValue`, `SessionTooLarge`,
        `CookieTooLarge`; whichever it is, nothing of this request's edits was written.
        """
        if failed:
            lifecycle.abandon(session)
        plan = lifecycle.settle(self._rules, session, self._now())
        if plan.end is not None:
            if not self._end(plan.end, self._now()) and plan.end.replaced:
                lifecycle.replay(session, GONE)
                plan = lifecycle.settle(self._rules, session, self._now())
            lifecycle.ended(session)
        if plan.write is not None:
            with self._turns.take(plan.write.origin.record.id):
                self._carry_out(session, plan.write)
        return lifecycle.cookies(self._rules, session)

    def list_for(self, subject: str) -> list[SessionInfo]:
        """The subject's live sessions, the last seen first."""
        store = self._listable()
        return _infos(store.by_subject(subject, self._now()))

    def revoke(self, session_id: str, subject: str | None = None) -> bool:
        """End one session; with a subject, only if it is theirs. Whether it was there."""
        store, now = self._revocable(subject), self._now()
        if not _is_id(session_id):
            return False
        if self._carrier is not None:
            self._end(lifecycle.revocation(session_id, now), now)
            return True
        record = store.load(session_id, now)
        if record is None or (subject is not None and record.subject != subject):
            return False
        ended = store.delete(session_id, now)
        if ended:
            self._tell(events.Revoked(session_id=session_id, subject=record.subject))
        return ended

    def revoke_all(self, subject: str, *, keep: str | None = None) -> int:
        """End all of the subject's sessions but `keep`; how many there were."""
        store, now = self._listable(), self._now()
        ended = 0
        for record in store.by_subject(subject, now):
            if record.id != keep:
                ended += self.revoke(record.id, subject)
        return ended

    def sweep(self) -> int:
        """Remove what has expired, in batches; how many. 0 where the store does so by itself."""
        swept = removed = self._sweep_batch()
        while removed:
            removed = self._sweep_batch()
            swept += removed
        if swept:
            self._tell(events.Swept(count=swept))
        return swept

    def ping(self) -> None:
        """Ask the store for nothing; raises `StoreUnavailable` where it does not answer."""
        if self._store is not None:
            self._store.load("0" * 32, self._now())

    def close(self) -> None:
        """Close the store; it closes only what it opened itself."""
        if self._store is not None:
            self._store.close()

    # The store, asked.

    def _load(self, claim: Claim, now: int) -> Record | None:
        return None if self._store is None else self._store.load(claim.token.id, now)

    def _carry_out(self, session: Session, write: Write) -> None:
        """Write; where another request was faster, begin again with what it left."""
        for tries in range(_TRIES):
            answer = self._answer(write, self._now())
            if answer is SAVED:
                lifecycle.finish(session, write)
                self._contended(write, tries)
                self._tell(*filter(None, [write.event]))
                return
            if answer is None:
                return
            lifecycle.replay(session, answer)
            plan = lifecycle.settle(self._rules, session, self._now())
            if plan.write is None:
                return
            write = plan.write
            if tries:
                self._pause(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - jitter
        self._contended(write, _TRIES)
        raise Contention(
            f"session: expected a save to go through in {_TRIES} tries, got refused each time by "
            "other requests of the same session; answer 503 and let the client try again"
        )

    def _answer(self, write: Write, now: int) -> Saved | Gone | Record | None:
        """The store's answer to the write; None where it is unknown and the request goes on."""
        try:
            return self._write(write, now)
        except Collision:
            return GONE
        except StoreUnavailable as error:
            record = write.origin.record
            if not write.essential:
                self._tell(
                    events.Skipped(session_id=record.id, subject=record.subject, error=str(error))
                )
                return None
            self._tell(events.Outage(moment="commit", error=str(error)))
            if write.minted and self._was_written(record, now):
                return SAVED
            raise

    def _write(self, write: Write, now: int) -> Saved | Gone | Record:
        record, store = write.origin.record, self._store
        if store is None:
            return SAVED
        if self._carrier is not None:
            return SAVED if store.load(record.id, now) is None else GONE
        if write.verb == "touch":
            store.touch(record.id, record.revision, record.seen_at, record.expires_at, now)
            return SAVED
        if write.expected is None:
            store.create(record, now)
            return SAVED
        answer = store.save(record, write.expected, now)
        if isinstance(answer, Record) and answer.revision == record.revision:
            return SAVED  # it was saved before, and only the answer was lost
        return answer

    def _was_written(self, record: Record, now: int) -> bool:
        """Whether a write whose answer was lost went through after all."""
        try:
            found = None if self._store is None else self._store.load(record.id, now)
        except StoreUnavailable:
            return False
        return found is not None and found.revision == record.revision

    def _end(self, end: lifecycle.End, now: int) -> bool:
        """End a session for good; False where a carried one was ended by somebody before."""
        first = True
        if self._store is not None and self._carrier is None:
            self._store.delete(end.id, now)
        elif self._store is not None:
            first = self._deny(self._store, end, now)
        self._tell(*filter(None, [end.event]))
        return first

    def _deny(self, store: Store, end: lifecycle.End, now: int) -> bool:
        try:
            store.create(lifecycle.denial(end, now), now)
        except Collision:
            return False
        return True

    def _end_found(self, ending: Ending, now: int) -> None:
        """End a copied or unreadable session; in an outage it stays refused and is met again."""
        try:
            if self._store is not None and self._carrier is None:
                self._store.delete(ending.id, now)
        except StoreUnavailable as error:
            self._tell(events.Outage(moment="end", error=str(error)))
        self._tell(ending.event)

    def _sweep_batch(self) -> int:
        store = self._store
        return store.sweep(_SWEEP_BATCH, self._now()) if isinstance(store, Sweepable) else 0

    def _listable(self) -> Listable:
        store: object = self._store
        if self._carrier is None and isinstance(store, Listable):
            return store
        raise _cannot("list sessions by subject")

    def _revocable(self, subject: str | None) -> Store:
        if self._store is None or (self._carrier is not None and subject is not None):
            raise _cannot("end a session of another browser" + (" by subject" if subject else ""))
        return self._store


class AsyncSessions(_Configured):
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
        renew_after: float | timedelta | None = None,
        on_event: Handler | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            carrier=store if isinstance(store, AsyncCarrierStore) else None,
            name=name,
            cookie=cookie,
            lifetime=lifetime,
            max_bytes=max_bytes,
            outage=outage,
            renew_after=renew_after,
            on_event=on_event,
            clock=clock,
        )
        self._store: AsyncStore | None = (
            store.revocations if isinstance(store, AsyncCarrierStore) else store
        )
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
        claims = lifecycle.claims(self._rules, values)
        try:
            found = [(claim, await self._load(claim, now)) for claim in claims]
            endings, told = lifecycle.resume(self._rules, session, found, now)
        except StoreUnavailable as error:
            return self._without_store(session, error)
        for ending in endings:
            await self._end_found(ending, now)
        self._tell(*told)
        return session

    async def commit(self, session: Session, *, failed: bool = False) -> list[str]:
        """Write what the request did; the values of the Set-Cookie headers that it owes.

        Call it before the response's first byte; calling it earlier, and more than once, is fine,
        the last call's answer being the whole one. `failed` says that the response is an error:
        then edits and login are dropped, and only `logout()` is kept. Raises `StoreUnavailable`
        or `Contention` (answer 503, and set no cookie), `UnsupportedValue`, `SessionTooLarge`,
        `CookieTooLarge`; whichever it is, nothing of this request's edits was written.
        """
        if failed:
            lifecycle.abandon(session)
        plan = lifecycle.settle(self._rules, session, self._now())
        if plan.end is not None:
            if not await self._end(plan.end, self._now()) and plan.end.replaced:
                lifecycle.replay(session, GONE)
                plan = lifecycle.settle(self._rules, session, self._now())
            lifecycle.ended(session)
        if plan.write is not None:
            async with self._turns.take(plan.write.origin.record.id):
                await self._carry_out(session, plan.write)
        return lifecycle.cookies(self._rules, session)

    async def list_for(self, subject: str) -> list[SessionInfo]:
        """The subject's live sessions, the last seen first."""
        store = self._listable()
        return _infos(await store.by_subject(subject, self._now()))

    async def revoke(self, session_id: str, subject: str | None = None) -> bool:
        """End one session; with a subject, only if it is theirs. Whether it was there."""
        store, now = self._revocable(subject), self._now()
        if not _is_id(session_id):
            return False
        if self._carrier is not None:
            await self._end(lifecycle.revocation(session_id, now), now)
            return True
        record = await store.load(session_id, now)
        if record is None or (subject is not None and record.subject != subject):
            return False
        ended = await store.delete(session_id, now)
        if ended:
            self._tell(events.Revoked(session_id=session_id, subject=record.subject))
        return ended

    async def revoke_all(self, subject: str, *, keep: str | None = None) -> int:
        """End all of the subject's sessions but `keep`; how many there were."""
        store, now = self._listable(), self._now()
        ended = 0
        for record in await store.by_subject(subject, now):
            if record.id != keep:
                ended += await self.revoke(record.id, subject)
        return ended

    async def sweep(self) -> int:
        """Remove what has expired, in batches; how many. 0 where the store does so by itself."""
        swept = removed = await self._sweep_batch()
        while removed:
            removed = await self._sweep_batch()
            swept += removed
        if swept:
            self._tell(events.Swept(count=swept))
        return swept

    async def ping(self) -> None:
        """Ask the store for nothing; raises `StoreUnavailable` where it does not answer."""
        if self._store is not None:
            await self._store.load("0" * 32, self._now())

    async def close(self) -> None:
        """Close the store; it closes only what it opened itself."""
        if self._store is not None:
            await self._store.close()

    # The store, asked.

    async def _load(self, claim: Claim, now: int) -> Record | None:
        return None if self._store is None else await self._store.load(claim.token.id, now)

    async def _carry_out(self, session: Session, write: Write) -> None:
        """Write; where another request was faster, begin again with what it left."""
        for tries in range(_TRIES):
            answer = await self._answer(write, self._now())
            if answer is SAVED:
                lifecycle.finish(session, write)
                self._contended(write, tries)
                self._tell(*filter(None, [write.event]))
                return
            if answer is None:
                return
            lifecycle.replay(session, answer)
            plan = lifecycle.settle(self._rules, session, self._now())
            if plan.write is None:
                return
            write = plan.write
            if tries:
                await self._pause(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - jitter
        self._contended(write, _TRIES)
        raise Contention(
            f"session: expected a save to go through in {_TRIES} tries, got refused each time by "
            "other requests of the same session; answer 503 and let the client try again"
        )

    async def _answer(self, write: Write, now: int) -> Saved | Gone | Record | None:
        """The store's answer to the write; None where it is unknown and the request goes on."""
        try:
            return await self._write(write, now)
        except Collision:
            return GONE
        except StoreUnavailable as error:
            record = write.origin.record
            if not write.essential:
                self._tell(
                    events.Skipped(session_id=record.id, subject=record.subject, error=str(error))
                )
                return None
            self._tell(events.Outage(moment="commit", error=str(error)))
            if write.minted and await self._was_written(record, now):
                return SAVED
            raise

    async def _write(self, write: Write, now: int) -> Saved | Gone | Record:
        record, store = write.origin.record, self._store
        if store is None:
            return SAVED
        if self._carrier is not None:
            return SAVED if await store.load(record.id, now) is None else GONE
        if write.verb == "touch":
            await store.touch(record.id, record.revision, record.seen_at, record.expires_at, now)
            return SAVED
        if write.expected is None:
            await store.create(record, now)
            return SAVED
        answer = await store.save(record, write.expected, now)
        if isinstance(answer, Record) and answer.revision == record.revision:
            return SAVED  # it was saved before, and only the answer was lost
        return answer

    async def _was_written(self, record: Record, now: int) -> bool:
        """Whether a write whose answer was lost went through after all."""
        try:
            found = None if self._store is None else await self._store.load(record.id, now)
        except StoreUnavailable:
            return False
        return found is not None and found.revision == record.revision

    async def _end(self, end: lifecycle.End, now: int) -> bool:
        """End a session for good; False where a carried one was ended by somebody before."""
        first = True
        if self._store is not None and self._carrier is None:
            await self._store.delete(end.id, now)
        elif self._store is not None:
            first = await self._deny(self._store, end, now)
        self._tell(*filter(None, [end.event]))
        return first

    async def _deny(self, store: AsyncStore, end: lifecycle.End, now: int) -> bool:
        try:
            await store.create(lifecycle.denial(end, now), now)
        except Collision:
            return False
        return True

    async def _end_found(self, ending: Ending, now: int) -> None:
        """End a copied or unreadable session; in an outage it stays refused and is met again."""
        try:
            if self._store is not None and self._carrier is None:
                await self._store.delete(ending.id, now)
        except StoreUnavailable as error:
            self._tell(events.Outage(moment="end", error=str(error)))
        self._tell(ending.event)

    async def _sweep_batch(self) -> int:
        store = self._store
        return (
            await store.sweep(_SWEEP_BATCH, self._now()) if isinstance(store, AsyncSweepable) else 0
        )

    def _listable(self) -> AsyncListable:
        store: object = self._store
        if self._carrier is None and isinstance(store, AsyncListable):
            return store
        raise _cannot("list sessions by subject")

    def _revocable(self, subject: str | None) -> AsyncStore:
        if self._store is None or (self._carrier is not None and subject is not None):
            raise _cannot("end a session of another browser" + (" by subject" if subject else ""))
        return self._store


def _infos(found: Sequence[Record]) -> list[SessionInfo]:
    infos = [info for info in map(_info, found) if info is not None]
    return sorted(infos, key=lambda info: info.seen_at, reverse=True)


def _info(record: Record) -> SessionInfo | None:
    try:
        head = read_payload(record.payload)
    except (NewerFormat, Unreadable):
        return None
    return SessionInfo(
        record.id,
        record.subject,
        _datetime(head.created_at),
        _datetime(record.seen_at),
        _datetime(record.expires_at),
        None if record.login_at is None else _datetime(record.login_at),
        Client(head.address, head.agent),
    )


def _datetime(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _is_id(text: object) -> bool:
    return isinstance(text, str) and len(text) == 32 and not text.strip("0123456789abcdef")


def _cannot(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Sessions: expected a store that can {what}, got one that cannot; "
        "use a server-side store, or give the cookie store revocations="
    )


def _check_options(cookie: object, lifetime: object, max_bytes: object, outage: object) -> None:
    if not isinstance(cookie, Cookie):
        raise _wrong("cookie", "a coatcheck.Cookie", cookie, 'pass Cookie("name")')
    if not isinstance(lifetime, Lifetime):
        raise _wrong("lifetime", "a coatcheck.Lifetime", lifetime, "pass Lifetime(idle=3600)")
    if type(max_bytes) is not int or max_bytes < 1:
        raise _wrong("max_bytes", "a positive int", max_bytes, "pass bytes, such as 65536")
    if outage not in ("refuse", "anonymous"):
        raise _wrong("outage", '"refuse" or "anonymous"', outage, "choose one of the two")


def _wrong(option: str, expected: str, got: object, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"Sessions: expected {option} to be {expected}, got {got!r}; {remedy}"
    )


def _name_bytes(name: object) -> bytes:
    if not isinstance(name, str) or not 1 <= len(name.encode("utf-8", "replace")) <= 255:
        raise _wrong("name", "1 to 255 bytes of text", name, "pass a short name of the site")
    return name.encode()


def _renewal_ms(renew_after: float | timedelta | None, carrier: Carrier | None) -> int | None:
    """Renewals must lie further apart than the grace that the previous proof enjoys."""
    if renew_after is None:
        return None
    seconds = renew_after.total_seconds() if isinstance(renew_after, timedelta) else renew_after
    if carrier is not None:
        raise _wrong("renew_after", "None", seconds, "a cookie that is the record has no proof")
    if not isinstance(seconds, int | float) or not seconds * 1000 > 2 * lifecycle.GRACE:
        raise _wrong("renew_after", "more than 120 seconds", seconds, "pass 900, say")
    return round(seconds * 1000)
