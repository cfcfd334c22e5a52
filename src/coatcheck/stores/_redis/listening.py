"""Hear on one connection which sessions end, and notice when it hears nothing any more.

The scripts publish an id on the store's channel in the very step that ends it. A connection that
subscribed may only ask PING, so that is the beat: each second one goes out, and a second in which
nothing came, not even its answer, is the end. RESP 2 is spoken, which every server can.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis import exceptions

from coatcheck.stores._redis.commands import Raw
from coatcheck.stores._redis.common import packed

__all__ = ["PROTOCOL", "listen"]

PROTOCOL = 2

BEAT = 1.0
"""Seconds between two signs of life."""


async def listen(
    connection: Any,
    channel: bytes,
    tell: Callable[[str], None],
    ready: Callable[[], None],
    check: Callable[[], Awaitable[None]],
) -> None:
    """Tell of each id, and check at each beat, until cancelled or until one of both raises."""
    loop = asyncio.get_running_loop()
    await _say(connection, (b"SUBSCRIBE", channel))
    due, heard = loop.time() + BEAT, False
    while True:
        message = await connection.read_response(
            timeout=max(0.0, due - loop.time()), disconnect_on_error=False
        )
        if message is not None:
            heard = True
            _hear(message, tell, ready)
        elif heard:
            due, heard = loop.time() + BEAT, False
            await _say(connection, (b"PING",))
            await check()
        else:
            raise exceptions.TimeoutError("no sign of life from the server that was listened to")


async def _say(connection: Any, raw: Raw) -> None:
    await connection.send_packed_command(packed(connection, [raw]), check_health=False)


def _hear(message: Any, tell: Callable[[str], None], ready: Callable[[], None]) -> None:
    match message:
        case [b"message", _, id]:
            tell(id.decode("ascii", "replace"))
        case [b"subscribe", *_]:
            ready()
