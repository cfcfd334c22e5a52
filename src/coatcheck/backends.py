"""Where a plan is carried out: on a store that keeps the records, or beside a cookie that is one.

Both answer the same four calls. `Kept` passes them on to the store. `Carried` has nothing to keep
but the ids that ended, in `revocations`, where creating an id's denial is the one step that decides
between two requests that end it.
"""

from typing import TypeAlias

from coatcheck import lifecycle
from coatcheck.errors import Collision
from coatcheck.lifecycle import End, Write
from coatcheck.record import Record
from coatcheck.store import GONE, SAVED, AsyncStore, Gone, Saved, Store

__all__ = ["Answer", "AsyncCarried", "AsyncKept", "Carried", "Kept"]

Answer: TypeAlias = Saved | Gone | Record


class Kept:
    """Sessions whose records a store keeps."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.load = store.load

    def write(self, write: Write, now: int) -> Answer:
        """`SAVED`, or what was found instead."""
        record = write.origin.record
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
        self.load = store.load

    async def write(self, write: Write, now: int) -> Answer:
        record = write.origin.record
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

    async def end(self, end: End, now: int) -> bool:
        await self._store.delete(end.id, now)
        return True

    async def drop(self, id: str, now: int) -> None:
        await self._store.delete(id, now)


class Carried:
    """Sessions that their cookies carry; the store, if any, keeps the ids that ended."""

    def __init__(self, revocations: Store | None) -> None:
        self._revocations = revocations

    def load(self, id: str, now: int) -> Record | None:
        """The denial of that id, or None."""
        return None if self._revocations is None else self._revocations.load(id, now)

    def write(self, write: Write, now: int) -> Answer:
        """Nothing is written; but what was denied meanwhile must not get a new cookie."""
        if write.minted:
            return SAVED  # a new id, which nobody can have denied
        return SAVED if self.load(write.origin.record.id, now) is None else GONE

    def end(self, end: End, now: int) -> bool:
        """Deny the id; False where another request did so first."""
        if self._revocations is None:
            return True
        try:
            self._revocations.create(lifecycle.denial(end, now), now)
        except Collision:
            return False
        return True

    def drop(self, id: str, now: int) -> None:
        """No record is kept here."""


class AsyncCarried:
    """`Carried`, awaited."""

    def __init__(self, revocations: AsyncStore | None) -> None:
        self._revocations = revocations

    async def load(self, id: str, now: int) -> Record | None:
        return None if self._revocations is None else await self._revocations.load(id, now)

    async def write(self, write: Write, now: int) -> Answer:
        if write.minted:
            return SAVED  # a new id, which nobody can have denied
        return SAVED if await self.load(write.origin.record.id, now) is None else GONE

    async def end(self, end: End, now: int) -> bool:
        if self._revocations is None:
            return True
        try:
            await self._revocations.create(lifecycle.denial(end, now), now)
        except Collision:
            return False
        return True

    async def drop(self, id: str, now: int) -> None:
        """No record is kept here."""
