"""Stores and plain drivers, made alike: each creates, loads and saves the session of a slot."""

import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from msgspec.structs import replace

from benchmarks import records
from benchmarks.plain import AsyncPlain, Plain
from benchmarks.records import NOW
from coatcheck.record import Record
from coatcheck.store import SAVED, AsyncStore, Store

__all__ = [
    "AsyncContestant",
    "AsyncVerb",
    "Contestant",
    "OfAsyncPlain",
    "OfAsyncStore",
    "OfPlain",
    "OfStore",
    "Slot",
    "Verb",
    "slots",
]


@dataclass(slots=True)
class Slot:
    """One session: the record that is stored, and the one that is saved next, in turns."""

    stored: Record
    other: Record

    def turn(self) -> None:
        self.stored, self.other = self.other, self.stored


Verb: TypeAlias = Callable[[Slot], None]
AsyncVerb: TypeAlias = Callable[[Slot], Coroutine[Any, Any, None]]


def slots(number: int) -> list[Slot]:
    """New sessions; the records that take turns are a second apart, as a save moves the end."""
    return [_slot(records.made()) for _ in range(number)]


def _slot(stored: Record) -> Slot:
    seen_at, expires_at = stored.seen_at + 1000, stored.expires_at + 1000
    other = replace(stored, revision=os.urandom(12), seen_at=seen_at, expires_at=expires_at)
    return Slot(stored, other)


class Contestant(Protocol):
    def create(self, slot: Slot) -> None: ...
    def load(self, slot: Slot) -> None: ...
    def save(self, slot: Slot) -> None: ...


class AsyncContestant(Protocol):
    async def create(self, slot: Slot) -> None: ...
    async def load(self, slot: Slot) -> None: ...
    async def save(self, slot: Slot) -> None: ...


class OfStore:
    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, slot: Slot) -> None:
        self._store.create(slot.stored, NOW)

    def load(self, slot: Slot) -> None:
        assert self._store.load(slot.stored.id, NOW) is not None

    def save(self, slot: Slot) -> None:
        assert self._store.save(slot.other, slot.stored.revision, NOW) is SAVED
        slot.turn()


class OfPlain:
    def __init__(self, plain: Plain) -> None:
        self._plain = plain

    def create(self, slot: Slot) -> None:
        self._plain.create(slot.stored.id, slot.stored.payload, slot.stored.expires_at)

    def load(self, slot: Slot) -> None:
        assert self._plain.load(slot.stored.id) is not None

    def save(self, slot: Slot) -> None:
        self._plain.save(slot.other.id, slot.other.payload, slot.other.expires_at)
        slot.turn()


class OfAsyncStore:
    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    async def create(self, slot: Slot) -> None:
        await self._store.create(slot.stored, NOW)

    async def load(self, slot: Slot) -> None:
        assert await self._store.load(slot.stored.id, NOW) is not None

    async def save(self, slot: Slot) -> None:
        assert await self._store.save(slot.other, slot.stored.revision, NOW) is SAVED
        slot.turn()


class OfAsyncPlain:
    def __init__(self, plain: AsyncPlain) -> None:
        self._plain = plain

    async def create(self, slot: Slot) -> None:
        await self._plain.create(slot.stored.id, slot.stored.payload, slot.stored.expires_at)

    async def load(self, slot: Slot) -> None:
        assert await self._plain.load(slot.stored.id) is not None

    async def save(self, slot: Slot) -> None:
        await self._plain.save(slot.other.id, slot.other.payload, slot.other.expires_at)
        slot.turn()
