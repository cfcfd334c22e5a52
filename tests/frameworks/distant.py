"""A store that answers in a later turn of the event loop, as one over a network does."""

import asyncio
from typing import Any

from coatcheck.record import Record
from coatcheck.stores.memory import AsyncMemoryStore


class DistantStore(AsyncMemoryStore):
    """While it is asked, whatever else the loop has to do is done."""

    async def load(self, id: str, now: int) -> Record | None:
        await asyncio.sleep(0)
        return await super().load(id, now)

    async def create(self, record: Record, now: int) -> None:
        await asyncio.sleep(0)
        await super().create(record, now)

    async def save(self, record: Record, expected: bytes, now: int) -> Any:
        await asyncio.sleep(0)
        return await super().save(record, expected, now)

    async def delete(self, id: str, now: int) -> bool:
        await asyncio.sleep(0)
        return await super().delete(id, now)
