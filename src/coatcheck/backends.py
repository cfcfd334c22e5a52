"""Where a plan is carried out: on a store that keeps the records, or beside a cookie that is one.

Both answer the same four calls. `Kept` passes them on to the store. `Carried` has nothing to keep
but the ids that ended, in `revocations`, where creating an id's denial is the one step that decides
between two requests that end it.
"""

from typing import TypeAlias

from coatcheck import lifecycle
from coatcheck.errors import Collision, Contention
from coatcheck.lifecycle import End, Write
from coatcheck.record import Record
from coatcheck.store import (
    FORBIDDEN,
    GONE,
    SAVED,
    Admitting,
    AsyncAdmitting,
    AsyncStore,
    Entered,
    Entry,
    Forbidden,
    Full,
    Gone,
    Saved,
    Store,
)
from coatcheck.token import Domain

__all__ = ["Answer", "AsyncCarried", "AsyncKept", "Carried", "Kept", "Outcome"]

Answer: TypeAlias = Saved | Gone | Record
Outcome: TypeAlias = Answer | Entered | Forbidden | Full

_TRIES = 24


class Kept:
    """Sessions whose records a store keeps."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.admits = store if isinstance(store, Admitting) else None
        self.load = store.load

    def write(self, write: Write, now: int) -> Outcome:
        """`SAVED` or `Entered`, or what was found instead, or why a login was refused."""
        record = write.origin.record
        if write.entry is not None and self.admits is not None:
            return self._admit(self.admits, write, write.entry, now)
        if write.verb == "save":
            answer = self._store.save(record, write.expected, now)
            if isinstance(answer, Record) and answer.revision == record.revision:
                return SAVED  # it was saved before, and only the answer was lost
            return answer
        if write.verb == "touch":
            touched = self._store.touch(
                record.id, record.revision, record.seen_at, record.expires_at, now
            )
            return SAVED if touched else GONE
        try:
            self._store.create(record, now)
        except Collision:
            return GONE
        return SAVED

    def _admit(self, store: Admitting, write: Write, entry: Entry, now: int) -> Outcome:
        try:
            return store.admit(write.origin.record, write.expected, entry, now)
        except Collision:
            return GONE

    def end(self, end: End, now: int) -> bool:
        """End a session for good; whether nobody did so before in a way that matters."""
        self._store.delete(end.id, now)
        return True

    def drop(self, id: str, now: int) -> None:
        """Delete a record that must not stay."""
        self._store.delete(id, now)


class AsyncKept:
    """`Kept`, awaited."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self.admits = store if isinstance(store, AsyncAdmitting) else None
        self.load = store.load

    async def write(self, write: Write, now: int) -> Outcome:
        record = write.origin.record
        if write.entry is not None and self.admits is not None:
            return await self._admit(self.admits, write, write.entry, now)
        if write.verb == "save":
            answer = await self._store.save(record, write.expected, now)
            if isinstance(answer, Record) and answer.revision == record.revision:
                return SAVED  # it was saved before, and only the answer was lost
            return answer
        if write.verb == "touch":
            touched = await self._store.touch(
                record.id, record.revision, record.seen_at, record.expires_at, now
            )
            return SAVED if touched else GONE
        try:
            await self._store.create(record, now)
        except Collision:
            return GONE
        return SAVED

    async def _admit(self, store: AsyncAdmitting, write: Write, entry: Entry, now: int) -> Outcome:
        try:
            return await store.admit(write.origin.record, write.expected, entry, now)
        except Collision:
            return GONE

    async def end(self, end: End, now: int) -> bool:
        await self._store.delete(end.id, now)
        return True

    async def drop(self, id: str, now: int) -> None:
        await self._store.delete(id, now)


class Carried:
    """Sessions that their cookies carry; the store, if any, keeps the ids that ended."""

    admits = None

    def __init__(self, revocations: Store | None, domain: Domain) -> None:
        self._revocations = revocations
        self._domain = domain

    def load(self, id: str, now: int) -> Record | None:
        """The denial of that id, or None."""
        return None if self._revocations is None else self._revocations.load(id, now)

    def write(self, write: Write, now: int) -> Outcome:
        """Nothing is written of it; but what ended meanwhile must not get a new cookie.

        What takes a new id ends under the old one once nothing else can refuse it. A mark that is
        set after it was looked at is younger than the seed, and ends it all the same.
        """
        record = write.origin.record
        if not write.minted:
            return SAVED if self.load(record.id, now) is None else GONE
        if record.subject is not None and not self._lets_in(record.subject, write, now):
            return GONE if write.entry is None else FORBIDDEN
        if write.end is not None and not self.end(write.end, now):
            return GONE
        return SAVED

    def end(self, end: End, now: int) -> bool:
        """Deny the id; False where another request did so first."""
        if self._revocations is None:
            return True
        denial = lifecycle.denial(end, now)
        try:
            self._revocations.create(denial, now)
        except Collision:  # it may be ours, if only the answer was lost
            found = self.load(end.id, now)
            return found is not None and found.revision == denial.revision
        return True

    def drop(self, id: str, now: int) -> None:
        """No record is kept here."""

    def denial(self, record: Record | None, now: int) -> Record | None:
        """What denies the cookie because all that its subject had has ended, or None."""
        if record is None or record.login_at is None:
            return None
        seed_at = lifecycle.seed_at(record)
        mark = self.load(lifecycle.mark_id(self._domain, record.subject or ""), now)
        if not lifecycle.forbids(mark, record.id, seed_at, now):
            return None
        end = lifecycle.revocation(record.id, now)
        if lifecycle.is_ahead(seed_at, now):
            self.end(end, now)  # when that time comes, the mark could not tell
        return lifecycle.denial(end, now)

    def forbid(self, subject: str, before: int, keep: str | None, now: int) -> None:
        """Deny all that the subject has by now, but the session that is kept."""
        named = lifecycle.mark_id(self._domain, subject)
        for _ in range(_TRIES):
            found = self.load(named, now)
            mark = lifecycle.mark(self._domain, subject, keep, before, found, now)
            if self._put(mark, found, now):
                return
        raise _outdone("revoke_all()")

    def _lets_in(self, subject: str, write: Write, now: int) -> bool:
        """Whether the subject's mark lets it in, and then knows of it where it has to."""
        named = lifecycle.mark_id(self._domain, subject)
        for _ in range(_TRIES):
            found = self.load(named, now)
            if not lifecycle.lets_in(found, write, now):
                return False
            noted = lifecycle.noted(found, write, now)
            if noted is None or self._put(noted, found, now):
                return True
        raise _outdone("session")

    def _put(self, mark: Record, found: Record | None, now: int) -> bool:
        """One step that nothing comes between, as durable as the store can make it."""
        store = self._revocations
        if store is None:
            return True
        if found is None:
            try:
                store.create(mark, now)
            except Collision:
                return False
            return True
        if isinstance(store, Admitting):
            answer: object = store.admit(mark, found.revision, Entry(now), now)
            return isinstance(answer, Entered)
        return store.save(mark, found.revision, now) is SAVED


class AsyncCarried:
    """`Carried`, awaited."""

    admits = None

    def __init__(self, revocations: AsyncStore | None, domain: Domain) -> None:
        self._revocations = revocations
        self._domain = domain

    async def load(self, id: str, now: int) -> Record | None:
        return None if self._revocations is None else await self._revocations.load(id, now)

    async def write(self, write: Write, now: int) -> Outcome:
        record = write.origin.record
        if not write.minted:
            return SAVED if await self.load(record.id, now) is None else GONE
        if record.subject is not None and not await self._lets_in(record.subject, write, now):
            return GONE if write.entry is None else FORBIDDEN
        if write.end is not None and not await self.end(write.end, now):
            return GONE
        return SAVED

    async def end(self, end: End, now: int) -> bool:
        if self._revocations is None:
            return True
        denial = lifecycle.denial(end, now)
        try:
            await self._revocations.create(denial, now)
        except Collision:  # it may be ours, if only the answer was lost
            found = await self.load(end.id, now)
            return found is not None and found.revision == denial.revision
        return True

    async def drop(self, id: str, now: int) -> None:
        """No record is kept here."""

    async def denial(self, record: Record | None, now: int) -> Record | None:
        if record is None or record.login_at is None:
            return None
        seed_at = lifecycle.seed_at(record)
        mark = await self.load(lifecycle.mark_id(self._domain, record.subject or ""), now)
        if not lifecycle.forbids(mark, record.id, seed_at, now):
            return None
        end = lifecycle.revocation(record.id, now)
        if lifecycle.is_ahead(seed_at, now):
            await self.end(end, now)  # when that time comes, the mark could not tell
        return lifecycle.denial(end, now)

    async def forbid(self, subject: str, before: int, keep: str | None, now: int) -> None:
        named = lifecycle.mark_id(self._domain, subject)
        for _ in range(_TRIES):
            found = await self.load(named, now)
            mark = lifecycle.mark(self._domain, subject, keep, before, found, now)
            if await self._put(mark, found, now):
                return
        raise _outdone("revoke_all()")

    async def _lets_in(self, subject: str, write: Write, now: int) -> bool:
        """Whether the subject's mark lets it in, and then knows of it where it has to."""
        named = lifecycle.mark_id(self._domain, subject)
        for _ in range(_TRIES):
            found = await self.load(named, now)
            if not lifecycle.lets_in(found, write, now):
                return False
            noted = lifecycle.noted(found, write, now)
            if noted is None or await self._put(noted, found, now):
                return True
        raise _outdone("session")

    async def _put(self, mark: Record, found: Record | None, now: int) -> bool:
        store = self._revocations
        if store is None:
            return True
        if found is None:
            try:
                await store.create(mark, now)
            except Collision:
                return False
            return True
        if isinstance(store, AsyncAdmitting):
            answer: object = await store.admit(mark, found.revision, Entry(now), now)
            return isinstance(answer, Entered)
        return await store.save(mark, found.revision, now) is SAVED


def _outdone(what: str) -> Contention:
    return Contention(
        f"{what}: expected to get through in {_TRIES} tries, got refused each time by others of "
        "the same subject; try again"
    )
