"""What belongs to one event loop: its connections, which close when it ends.

A loop that ends in order closes the asynchronous generators that were begun in it, and one of them
holds the connections. Those of a loop that was just closed can only be taken from it by hand.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from coatcheck.stores._redis.routes import Node

__all__ = ["Home", "drop"]


class Home:
    """What belongs to one event loop: its connections. They close when it ends."""

    def __init__(self, pool_size: int) -> None:
        self.slots = asyncio.Semaphore(pool_size)
        self.idle: dict[Node, list[Any]] = {}
        self._over = False
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

    def take(self, node: Node) -> Any:
        idle = self.idle.setdefault(node, [])
        while idle:
            connection = idle.pop()
            if connection._reader is not None and not connection._reader.at_eof():
                return connection
            drop(connection)
        return None

    def give(self, node: Node, connection: Any) -> None:
        if self._over:  # it was closed meanwhile
            drop(connection)
        else:
            self.idle.setdefault(node, []).append(connection)

    async def end(self) -> None:
        """Close all, in the loop, before that ends."""
        if self._watch is not None:
            await self._watch.aclose()

    def drop(self) -> None:
        """Close all, in the loop, where nothing can be awaited."""
        for connection in self._taken():
            drop(connection)

    def abandon(self) -> None:
        """Close all, of a loop that is closed: nothing can be awaited there any more."""
        for connection in self._taken():
            _abandon(connection)

    def _taken(self) -> list[Any]:
        self._over = True
        idle, self.idle = self.idle, {}
        return [connection for connections in idle.values() for connection in connections]


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
