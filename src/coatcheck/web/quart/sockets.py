"""WebSockets that end with their session."""

import asyncio
from functools import partial
from typing import Any

from quart import Websocket

from coatcheck.session import Session
from coatcheck.sessions import AsyncSessions
from coatcheck.web.watched import ENDED, GOODBYE, REASON, Disconnected, Guard, stop_with

__all__ = ["watch"]


def watch(
    websocket: Websocket, task: "asyncio.Task[Any]", sessions: AsyncSessions, session: Session
) -> None:
    """Close it when its session is over, and cancel its task, as Quart does when the client goes.

    The client may take no notice of the close. Whoever receives then waits until it is cancelled.
    """
    guard = Guard.of(sessions, session, partial(_end, websocket, task))
    if guard is None:
        return
    stop_with(task, guard.stop)
    receive = websocket._receive

    async def heard() -> Any:
        try:
            return await guard.heard(receive)
        except Disconnected:
            return await asyncio.get_running_loop().create_future()

    websocket._receive = heard


async def _end(websocket: Websocket, task: "asyncio.Task[Any]") -> None:
    try:
        async with asyncio.timeout(GOODBYE):
            await websocket.close(ENDED, REASON)
    finally:
        task.cancel()
