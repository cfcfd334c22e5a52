"""An ASGI socket or stream that ends with its session.

    a WebSocket, once accepted       is closed with 4401; each message that comes is activity
    a response of text/event-stream  ends

`Watched` stands between the server and whatever commits the session, so that what begins has been
committed. When the session is over the client is told, once the message on its way to it has gone;
`receive` gives the app a disconnect, also where it waits for one; and what the app still sends
raises `Disconnected`, an `OSError` as servers raise it after a disconnect (ASGI, HTTP and
WebSocket message format 2.4), which frameworks know. Whatever else passes through untouched.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from coatcheck.session import Session
from coatcheck.sessions import AsyncSessions
from coatcheck.watching import Watch

__all__ = ["ENDED", "REASON", "Disconnected", "Watched"]

Message = MutableMapping[str, Any]

ENDED = 4401
"""The close code of a WebSocket whose session is over: of those for private use (RFC 6455, 7.4.2)
the one that reads like HTTP's 401."""
REASON = "session ended"

_EVENTS = b"text/event-stream"


class Disconnected(OSError):
    """The session is over, and so is its socket or stream."""


class Watched:
    """One request's `receive` and `send`. `stop` is to be awaited when the app is done."""

    def __init__(
        self,
        sessions: AsyncSessions,
        session: Session,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._sessions = sessions
        self._session = session
        self._receive = receive
        self._send = send
        self._watch: Watch | None = None
        self._turn: asyncio.Lock
        self._coming: asyncio.Future[Message] | None = None  # what the server was asked for
        self._telling: asyncio.Task[None] | None = None
        self._is_socket = self._is_over = False

    def receive(self) -> Awaitable[Message]:
        return self._receive() if self._watch is None else self._received(self._watch)

    def send(self, message: Message) -> Awaitable[None]:
        if self._watch is not None:
            return self._sent(self._watch, message)
        return self._begin(message) if _begins(message) else self._send(message)

    async def stop(self) -> None:
        """The app is done, or was cancelled. Nothing of the watch is left when this returns."""
        if self._watch is None:
            return
        if self._watch.ended is not None:  # just now
            self._tell()
        waiting = [task for task in (self._telling, self._coming) if task is not None]
        if self._coming is not None:
            self._coming.cancel()
        try:
            if waiting:
                await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            await self._watch.stop()

    @staticmethod
    def caused(error: BaseException | None) -> bool:
        """Whether the app raised this because its socket or stream is over.

        A framework makes an error of its own of ours, and a task group wraps that.
        """
        while error is not None and not isinstance(error, Disconnected):
            if isinstance(error, BaseExceptionGroup):
                return all(map(Watched.caused, error.exceptions))
            error = error.__cause__ or error.__context__
        return error is not None

    async def _begin(self, message: Message) -> None:
        await self._send(message)
        if self._session._origin is None:
            return
        self._is_socket = message["type"] == "websocket.accept"
        self._turn = asyncio.Lock()
        self._watch = Watch(self._sessions, self._session)
        self._watch.start()
        self._watch.over.add_done_callback(self._tell)

    def _tell(self, _: object = None) -> None:
        if self._telling is None and not self._is_over:
            self._telling = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        async with self._turn:
            if self._is_over:
                return
            self._is_over = True
            if self._is_socket:
                await self._send({"type": "websocket.close", "code": ENDED, "reason": REASON})
            else:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _sent(self, watch: Watch, message: Message) -> None:
        async with self._turn:
            if watch.ended is None:
                self._is_over = self._is_over or _ends(message)
                await self._send(message)
            elif not _ends(message):
                raise Disconnected(REASON)

    async def _received(self, watch: Watch) -> Message:
        while watch.ended is None:
            coming = self._coming
            if coming is None:
                coming = self._coming = asyncio.ensure_future(_awaited(self._receive))
            if not coming.done():
                await asyncio.wait((coming, watch.over), return_when=asyncio.FIRST_COMPLETED)
            if coming.done() and self._coming is coming:  # else another receive has got it
                self._coming = None
                return self._noted(watch, coming.result())
        if self._is_socket:
            return {"type": "websocket.disconnect", "code": ENDED, "reason": REASON}
        return {"type": "http.disconnect"}

    def _noted(self, watch: Watch, message: Message) -> Message:
        if message["type"] == "websocket.receive":
            watch.seen()
        return message


async def _awaited(receive: Callable[[], Awaitable[Message]]) -> Message:
    return await receive()


def _begins(message: Message) -> bool:
    """Whether it opens a socket, or a stream of events."""
    if message["type"] != "http.response.start":
        return bool(message["type"] == "websocket.accept")
    return any(
        name.lower() == b"content-type" and value.lower().startswith(_EVENTS)
        for name, value in message.get("headers", ())
    )


def _ends(message: Message) -> bool:
    if message["type"] == "http.response.body":
        return message.get("more_body", False) is False
    return bool(message["type"] == "websocket.close")
