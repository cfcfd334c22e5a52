"""What belongs to one event loop: its connections, which close when it ends.

A loop that ends in order closes the asynchronous generators that were begun in it, and one of them
holds the connections. Those of a loop that was just closed can only be taken from it by hand.
"""

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import suppress
from functools import cache
from typing import Any

import redis.asyncio.connection

from coatcheck.stores._redis.options import Options
from coatcheck.stores._redis.pool import Pool

__all__ = ["Home", "drop", "hurried"]

_DELAY = 0.25  # seconds, as RFC 8305 has it


class Home:
    """What belongs to one event loop: its connections. They close when it ends."""

    def __init__(self, options: Options) -> None:
        self.slots = asyncio.Semaphore(options.pool_size)
        self.ends = asyncio.Semaphore(options.durable)
        self.pool = Pool(drop, _is_fit)
        self.listeners: set[Any] = set()
        self._watch: AsyncGenerator[None, None] | None = None

    async def watch(self) -> None:
        """Be told of the loop's end: it closes the asynchronous generators that it has begun."""
        self._watch = self._until_the_end()
        await anext(self._watch)

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.drop()
            await asyncio.sleep(0)  # for the transports, which close in the next turn

    async def end(self) -> None:
        """Close all, in the loop, before that ends."""
        if self._watch is not None:
            await self._watch.aclose()

    def drop(self) -> None:
        """Close all, in the loop, where nothing can be awaited."""
        self.pool.end()
        for connection in list(self.listeners):  # whoever listens meets an end
            drop(connection)

    def abandon(self) -> None:
        """Close all, of a loop that is closed: nothing can be awaited there any more."""
        self.pool.end(_abandon)
        for connection in list(self.listeners):
            _abandon(connection)


def _is_fit(connection: Any) -> bool:
    """Whether neither an end nor a reset has come; a server that went away sends one of them."""
    reader, writer = connection._reader, connection._writer
    if reader is None or writer is None:
        return False
    return not (reader.at_eof() or reader.exception() or writer.transport.is_closing())


@cache
def hurried(kind: Hashable) -> Any:
    """The same kind of connection; of a host's addresses it tries the next while one is silent.

    asyncio's own loops can do that. Others, such as uvloop, refuse the very option.
    """
    base: Any = kind
    if not issubclass(base, redis.asyncio.connection.Connection):
        return base

    class Hurried(base):  # type: ignore[misc]
        def _connection_arguments(self) -> dict[str, Any]:
            arguments = super()._connection_arguments()
            if not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
                return {**arguments}
            return {**arguments, "happy_eyeballs_delay": _DELAY}

    return Hurried


def drop(connection: Any) -> None:
    """At once: a server that is frozen would not answer a goodbye."""
    writer = connection._writer
    connection._reader = connection._writer = None
    if writer is not None:
        writer.transport.abort()


def _abandon(connection: Any) -> None:
    transport = connection._writer.transport
    with suppress(Exception):
        drop(connection)  # fails where it would call the loop; but no longer watches the socket
    lower = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    with suppress(Exception):
        lower._call_connection_lost(None)
