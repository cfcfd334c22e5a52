"""`Sessions` and `AsyncSessions`: two thin drivers that carry out what `lifecycle` decides.

They have the same statements, `await` apart; a test compares their syntax trees, so a change to
one is a change to both. A request has two moments of I/O: `open` before the app, which stands here,
and `commit` before the response's first byte, in `committing`. What operators and account pages ask
is in `operating`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self

from coatcheck import lifecycle
from coatcheck.backends import AsyncCarried, AsyncKept, Carried, Kept
from coatcheck.cookie import Cookie
from coatcheck.delivery import AsyncDelivery, Delivery
from coatcheck.errors import StoreUnavailable
from coatcheck.events import Handler
from coatcheck.lifecycle import Ending
from coatcheck.lifetime import Lifetime
from coatcheck.listing import SessionInfo
from coatcheck.operating import AsyncOperating, Operating
from coatcheck.options import check_store
from coatcheck.record import Record
from coatcheck.session import ClientSource, Session
from coatcheck.site_data import Directive
from coatcheck.store import AsyncCarrierStore, AsyncStore, CarrierStore, Store
from coatcheck.telemetry import telemetry
from coatcheck.turns import AsyncTurns, Turns

__all__ = ["AsyncSessions", "SessionInfo", "Sessions"]


class Sessions(Operating):
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
        with self._in_time:
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
        with self._in_time:
            found = self._look_up(origin.record, now)
        return lifecycle.end_of(self._rules, origin.record, found, now) is None

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

    def _look_up(self, record: Record, now: int) -> Record | None:
        """What the store holds of it now; of what its cookie carries, what denies it."""
        found = self._backend.load(record.id, now)
        if found is None and self._marks is not None:
            found = self._marks.denial(record, now)
        return found

    def _end_found(self, ending: Ending, now: int) -> None:
        """End a copied or unreadable session; in an outage it stays refused and is met again."""
        try:
            self._backend.drop(ending.id, now)
        except StoreUnavailable as error:
            self._met_outage("end", error, ending.id)
        self._tell(ending.event)


class AsyncSessions(AsyncOperating):
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
        with self._in_time:
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
        with self._in_time:
            found = await self._look_up(origin.record, now)
        return lifecycle.end_of(self._rules, origin.record, found, now) is None

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

    async def _look_up(self, record: Record, now: int) -> Record | None:
        """What the store holds of it now; of what its cookie carries, what denies it."""
        found = await self._backend.load(record.id, now)
        if found is None and self._marks is not None:
            found = await self._marks.denial(record, now)
        return found

    async def _end_found(self, ending: Ending, now: int) -> None:
        """End a copied or unreadable session; in an outage it stays refused and is met again."""
        try:
            await self._backend.drop(ending.id, now)
        except StoreUnavailable as error:
            self._met_outage("end", error, ending.id)
        self._tell(ending.event)
