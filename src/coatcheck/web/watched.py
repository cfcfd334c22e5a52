"""A socket or stream that ends with its session.

    a WebSocket, once accepted       is closed with 4401; each message that comes is activity
    a response of text/event-stream  ends

`Guard` ends a socket or stream by whatever call its framework has for that, and from then on lets
the app hear nothing: the client may take no notice of a close. `Watched` does so for ASGI's
messages. It stands between the server and whatever commits the session, so that what begins has
been committed. When the session is over the client is told, once the message on its way to it has
gone; `receive` gives the app a disconnect, also where it waits for one; and what the app still
sends raises `Disconnected`, an `OSError` as servers raise it after a disconnect (ASGI, HTTP and
WebSocket message format 2.4), which frameworks know. Whatever else passes through untouched.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any, Self, TypeVar

from coatcheck.session import Session
from coatcheck.sessions import AsyncSessions
from coatcheck.watching import Watch

__all__ = [
    "ENDED",
    "GOODBYE",
    "REASON",
    "Disconnected",
    "Guard",
    "Watched",
    "are_events",
    "stop_soon",
    "stop_with",
    "this_task",
]

T = TypeVar("T")
Message = MutableMapping[str, Any]

ENDED = 4401
"""The close code of a WebSocket whose session is over: of those for private use (RFC 6455, 7.4.2)
the one that reads like HTTP's 401."""
REASON = "session ended"

GOODBYE = 2.0
"""How long, in seconds, a client that reads nothing is waited for."""

# Of Python's servers, of Starlette and Litestar, and of Falcon; a web.* file imports one of them.
_DISCONNECTS = {"OSError", "ClientDisconnect", "WebSocketDisconnect", "WebSocketDisconnected"}

_EVENTS = "text/event-stream"

_leaving: set[asyncio.Task[None]] = set()  # a loop alone would not keep them alive


class Disconnected(OSError):
    """The session is over, and so is its socket or stream."""


class Guard:
    """Calls `end`, once, when the session is over; `stop` is to be awaited when the socket or
    stream is."""

    def __init__(
        self, sessions: AsyncSessions, session: Session, end: Callable[[], Awaitable[object]]
    ) -> None:
        self._end = end
        self._ending: asyncio.Future[object] | None = None
        self._watch = Watch(sessions, session)
        self._watch.start()
        self._watch.over.add_done_callback(self._begin_end)
        self.over = self._watch.over

    @classmethod
    def of(
        cls, sessions: AsyncSessions, session: Session, end: Callable[[], Awaitable[object]]
    ) -> Self | None:
        """None where the session is not stored, so that it cannot end."""
        return None if session._origin is None else cls(sessions, session, end)

    def hears(self) -> bool:
        """A message came: whether it is for the app. Then it is activity."""
        if self.over.done():
            return False
        self._watch.seen()
        return True

    async def heard(self, receive: Callable[[], Awaitable[T]]) -> T:
        """What is received; a message, where it is not None or an empty list. Raises `Disconnected`
        where the session is over by then, once the client was told."""
        if not self.over.done():
            message = await receive()
            if self.hears() if message not in (None, []) else not self.over.done():
                return message
        await self._ended()
        raise Disconnected(REASON)

    def _begin_end(self, _: object = None) -> "asyncio.Future[object]":
        if self._ending is None:
            self._ending = asyncio.ensure_future(_awaited(self._end))
        return self._ending

    async def _ended(self) -> None:
        """A client that reads nothing is not waited for beyond a moment."""
        await asyncio.wait((self._begin_end(),), timeout=GOODBYE)

    async def stop(self) -> None:
        """Watch no longer; what is being ended is ended when this returns, or given up."""
        try:
            if self.over.done():  # perhaps just now
                await self._ended()
        finally:
            await self._leave()

    async def _leave(self) -> None:
        try:
            if self._ending is not None:
                self._ending.cancel()
                await asyncio.gather(self._ending, return_exceptions=True)
        finally:  # anyio cancels every wait of a scope, and not the first alone
            await self._watch.stop()


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
        self._guard: Guard | None = None
        self._turn: asyncio.Lock
        self._coming: asyncio.Future[Message] | None = None  # what the server was asked for
        self._is_socket = self._is_over = False

    def receive(self) -> Awaitable[Message]:
        return self._receive() if self._guard is None else self._received(self._guard)

    def send(self, message: Message) -> Awaitable[None]:
        if self._guard is not None:
            return self._sent(self._guard, message)
        return self._begin(message) if _begins(message) else self._send(message)

    async def receive_from(self, queue: Callable[[], Awaitable[Message]]) -> Message:
        """For the app, where the framework fills a queue from `receive`: that may hold what came
        before the end, and is not to be heard any more."""
        message = await queue()
        is_over = self._guard is not None and self._guard.over.done()
        return self._goodbye() if is_over else message

    async def stop(self) -> None:
        """The app is done, or was cancelled. Nothing of the watch is left when this returns."""
        if self._guard is None:
            return
        try:
            if self._coming is not None:
                self._coming.cancel()
                await asyncio.gather(self._coming, return_exceptions=True)
        finally:
            await self._guard.stop()

    @staticmethod
    def caused(error: BaseException | None) -> bool:
        """Whether the app raised this because its socket or stream is over.

        A framework makes a disconnect of its own of ours, and a task group wraps that. What else
        is raised while ours is handled is the app's: its clean-up failed.
        """
        while error is not None and not isinstance(error, Disconnected):
            if isinstance(error, BaseExceptionGroup):
                return all(map(Watched.caused, error.exceptions))
            is_disconnect = type(error).__name__ in _DISCONNECTS
            error = error.__cause__ or (error.__context__ if is_disconnect else None)
        return error is not None

    async def _begin(self, message: Message) -> None:
        await self._send(message)
        self._is_socket = message["type"] == "websocket.accept"
        self._turn = asyncio.Lock()
        self._guard = Guard.of(self._sessions, self._session, self._end)

    async def _end(self) -> None:
        async with self._turn:
            if self._is_over:
                return
            self._is_over = True
            if self._is_socket:
                await self._send({"type": "websocket.close", "code": ENDED, "reason": REASON})
            else:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _sent(self, guard: Guard, message: Message) -> None:
        async with self._turn:
            if not guard.over.done():
                self._is_over = self._is_over or _ends(message)
                await self._send(message)
            elif not _ends(message):
                raise Disconnected(REASON)

    async def _received(self, guard: Guard) -> Message:
        while not guard.over.done():
            coming = self._coming
            if coming is None:
                coming = self._coming = asyncio.ensure_future(_awaited(self._receive))
            if not coming.done():
                await asyncio.wait((coming, guard.over), return_when=asyncio.FIRST_COMPLETED)
            if coming.done() and self._coming is coming:  # else another receive has got it
                self._coming = None
                message = coming.result()
                if message["type"] != "websocket.receive" or guard.hears():
                    return message
        return self._goodbye()

    def _goodbye(self) -> Message:
        if self._is_socket:
            return {"type": "websocket.disconnect", "code": ENDED, "reason": REASON}
        return {"type": "http.disconnect"}


def are_events(content_type: str | None) -> bool:
    """Whether a response of this type is a stream of events, which ends with its session (HTML,
    9.2, "Server-sent events")."""
    return content_type is not None and content_type.lower().startswith(_EVENTS)


def stop_soon(stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Where a framework's hook when a socket or stream is over cannot await."""
    stopping = asyncio.get_running_loop().create_task(stop())
    _leaving.add(stopping)
    stopping.add_done_callback(_leaving.discard)


def stop_with(
    task: "asyncio.Task[Any]", stop: Callable[[], Coroutine[Any, Any, None]]
) -> Callable[[], object]:
    """Where it has none: the task is over then. Call what this returns where it was stopped before,
    as the task may have other work."""

    def stop_later(_: object) -> None:
        stop_soon(stop)

    task.add_done_callback(stop_later)
    return partial(task.remove_done_callback, stop_later)


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def _awaited(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


def _begins(message: Message) -> bool:
    """Whether it opens a socket, or a stream of events."""
    if message["type"] != "http.response.start":
        return bool(message["type"] == "websocket.accept")
    return any(
        name.lower() == b"content-type" and are_events(value.decode("latin-1"))
        for name, value in message.get("headers", ())
    )


def _ends(message: Message) -> bool:
    if message["type"] == "http.response.body":
        return message.get("more_body", False) is False
    return bool(message["type"] == "websocket.close")
