"""Streams of events that end with their session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from quart.wrappers.response import ResponseBody

from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.watched import Guard

__all__ = ["Events"]


class Events(ResponseBody):
    """A body of events, which ends with its session."""

    def __init__(self, body: ResponseBody, exchange: AsyncExchange) -> None:
        self._body = body
        self._watch = _cancelled_with(exchange)
        self._parts: AsyncIterator[Any]
        self._limit: asyncio.Timeout

    async def __aenter__(self) -> Self:
        self._parts = aiter(await self._body.__aenter__())
        self._limit = await self._watch.__aenter__()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        part = await anext(self._parts)
        if self._limit.expired():  # whoever made it was cancelled, and goes on all the same
            raise StopAsyncIteration
        return part

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> Any:
        try:
            return await self._watch.__aexit__(kind, error, trace)
        finally:
            await self._body.__aexit__(kind, error, trace)


@asynccontextmanager
async def _cancelled_with(exchange: AsyncExchange) -> AsyncIterator[asyncio.Timeout]:
    """Cancel the block when the session is over, as Quart does when its client has gone; what
    follows it goes on."""
    limit = asyncio.timeout(None)

    async def end() -> None:
        limit.reschedule(0)

    guard = None
    try:
        async with limit:
            guard = Guard.of(*exchange.main, end)
            yield limit
    except TimeoutError:
        if not limit.expired():
            raise
    finally:
        if guard is not None:
            await guard.stop()
