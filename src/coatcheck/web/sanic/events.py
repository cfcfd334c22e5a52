"""A response of text/event-stream that ends with its session."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from sanic.exceptions import RequestCancelled
from sanic.response import BaseHTTPResponse

from coatcheck.session import Session
from coatcheck.sessions import AsyncSessions
from coatcheck.web.sanic.responses import Response
from coatcheck.web.watched import GOODBYE, REASON, Guard, are_events, stop_with

__all__ = ["Events", "is_of_events"]


class Events:
    """The connection of a response of events. When the session is over, the response is.

    To the handler it is as where the client has gone: it is cancelled, and what it still sends
    raises `RequestCancelled`.
    """

    def __init__(self, response: BaseHTTPResponse, task: "asyncio.Task[Any]") -> None:
        self._response = response
        self._stream: Any = response.stream
        self._task: asyncio.Task[Any] | None = task  # until the handler is done
        self._turn = asyncio.Lock()
        self._is_whole = self._is_cancelled = False

    def watch(self, sessions: AsyncSessions, session: Session) -> bool:
        """Begin; False where the session is not stored."""
        guard = Guard.of(sessions, session, self._end)
        if guard is None or self._task is None:
            return False
        self._guard = guard
        self._forget = stop_with(self._task, guard.stop)
        self._response.stream = cast("Any", self)
        return True

    @property
    def send(self) -> Callable[..., Awaitable[None]] | None:
        """What a response calls of its stream; None where it ended by itself."""
        return None if self._stream.send is None and not self._guard.over.done() else self._send

    async def _send(self, data: bytes, end_stream: bool) -> None:
        async with self._turn:
            if not self._guard.over.done():
                self._is_whole = end_stream
                await self._stream.send(data, end_stream=end_stream)
            elif data or not end_stream:
                raise RequestCancelled(REASON)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(GOODBYE), self._turn:
                if not self._is_whole:
                    await self._stream.send(b"", end_stream=True)
        finally:
            if self._task is not None and not self._is_whole:
                self._is_cancelled = self._task.cancel()

    async def leave(self) -> None:
        """The task serves other requests of the connection from now on."""
        task, self._task = self._task, None
        self._forget()
        await self._guard.stop()
        if self._is_cancelled and task is not None:
            task.uncancel()  # the handler took no notice


def is_of_events(response: Response) -> bool:
    kind = response.headers.get("content-type", response.content_type)
    return are_events(kind if kind is None else str(kind))
