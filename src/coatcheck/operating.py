"""What a site's operators and its account pages ask of the sessions: lists, ends, sweeping."""

from types import EllipsisType

from coatcheck import events, lifecycle
from coatcheck.committing import AsyncCommitting, Committing
from coatcheck.lifetime import LONGEST
from coatcheck.listing import SessionInfo, check_after, describe, describe_in_order, is_id
from coatcheck.login import is_subject
from coatcheck.options import cannot
from coatcheck.record import Record
from coatcheck.store import (
    Admitting,
    AsyncAdmitting,
    AsyncListable,
    AsyncStore,
    AsyncSweepable,
    Listable,
    Store,
    Sweepable,
)

__all__ = ["AsyncOperating", "Operating"]

_SWEEP_BATCH = 1000


class Operating(Committing):
    """What `Sessions` does outside a request, or for the sessions of other browsers."""

    _store: Store | None

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

    def revoke(self, session_id: str, subject: str | EllipsisType | None = ...) -> bool:
        """End one session; with a subject, only if it is theirs. Whether it was there.

        `None` is nobody's: a request that is not logged in ends no user's session with
        `revoke(id, request.session.subject)`. Without the argument anybody's is ended.
        """
        store, now = self._revocable(subject), self._now()
        if not is_id(session_id):
            return False
        if self._carrier is not None:
            return self._end(lifecycle.revocation(session_id, now))
        record = store.load(session_id, now)
        if record is not None and subject is not ... and record.subject != subject:
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

    def _of(self, subject: str) -> list[Record]:
        """What a store has of the subject; it is not asked for one that cannot log in."""
        store = self._listable()
        return store.by_subject(subject, self._now()) if is_subject(subject) else []

    def _listable(self) -> Listable:
        store: object = self._store
        if self._carrier is None and isinstance(store, Listable):
            return store
        raise cannot("list sessions by subject", self._carrier, store)

    def _revocable(self, subject: str | EllipsisType | None) -> Store:
        if self._store is None or (self._carrier is not None and subject is not ...):
            raise cannot(
                "end a session of another browser" + ("" if subject is ... else " by subject"),
                self._carrier,
            )
        return self._store


class AsyncOperating(AsyncCommitting):
    """What `AsyncSessions` does outside a request, or for the sessions of other browsers."""

    _store: AsyncStore | None

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

    async def revoke(self, session_id: str, subject: str | EllipsisType | None = ...) -> bool:
        """End one session; with a subject, only if it is theirs. Whether it was there.

        `None` is nobody's: a request that is not logged in ends no user's session with
        `revoke(id, request.session.subject)`. Without the argument anybody's is ended.
        """
        store, now = self._revocable(subject), self._now()
        if not is_id(session_id):
            return False
        if self._carrier is not None:
            return await self._end(lifecycle.revocation(session_id, now))
        record = await store.load(session_id, now)
        if record is not None and subject is not ... and record.subject != subject:
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

    async def _of(self, subject: str) -> list[Record]:
        """What a store has of the subject; it is not asked for one that cannot log in."""
        store = self._listable()
        return await store.by_subject(subject, self._now()) if is_subject(subject) else []

    def _listable(self) -> AsyncListable:
        store: object = self._store
        if self._carrier is None and isinstance(store, AsyncListable):
            return store
        raise cannot("list sessions by subject", self._carrier, store)

    def _revocable(self, subject: str | EllipsisType | None) -> AsyncStore:
        if self._store is None or (self._carrier is not None and subject is not ...):
            raise cannot(
                "end a session of another browser" + ("" if subject is ... else " by subject"),
                self._carrier,
            )
        return self._store
