"""A response's head on its way out: what was not committed yet is committed then.

From then on its session may end it, whether it is a WebSocket or a stream of events.
"""

from functools import partial
from typing import Any
from weakref import ref

from aiohttp import WSMessage, WSMsgType, web
from multidict import CIMultiDict

from coatcheck.web.aiohttp.events import Events
from coatcheck.web.aiohttp.request import HEAD
from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.headers import merge_str
from coatcheck.web.watched import ENDED, REASON, Guard, are_events, stop_with, this_task

__all__ = ["Head", "watch_response"]


class Head:
    """The head of a request's response, on its way out through the request's writer."""

    __slots__ = ("_exchange", "_outer", "_writer", "decided", "guard", "watched")

    def __init__(self, exchange: AsyncExchange, writer: Any) -> None:
        self._exchange = exchange
        self._writer = ref(writer)  # which keeps us: a circle would cost a collection
        self._outer = vars(writer).get("write_headers")  # where sessions are inside sessions
        writer.write_headers = self.write
        self.decided = False  # the handler is done: what comes now is the answer
        self.watched: web.StreamResponse | None = None  # once its head is out
        self.guard: Guard | None = None

    async def write(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """In the place of the writer's `write_headers`."""
        writer: Any = self._writer()
        if not self.decided:
            await self._commit(int(status_line.split(" ", 2)[1]), writer)
        owed = self._exchange.head
        if owed is not None and owed.vary:
            merged = merge_str(list(headers.items()), owed)
            headers.clear()
            headers.extend(merged)
        write = self._outer or partial(type(writer).write_headers, writer)
        await write(status_line, headers)
        if isinstance(self.watched, web.WebSocketResponse):
            self._watch_socket(self.watched)
        elif self.watched is not None and are_events(headers.get("Content-Type")):
            self._watch_events(writer)

    async def _commit(self, status: int, writer: Any) -> None:
        """For a response that the handler prepares; what it raises ends the handler."""
        try:
            head = await self._exchange.respond(status)
            if head.refused is not None:
                raise web.HTTPServiceUnavailable
        except Exception:
            # Another response takes its place: how this one's body was to be sent is forgotten.
            writer.chunked, writer.length, writer._compress = False, None, None
            raise

    def _watch_socket(self, socket: web.WebSocketResponse) -> None:
        close = partial(socket.close, code=ENDED, message=REASON.encode())
        self.guard = Guard.of(*self._exchange.main, close)
        if self.guard is not None:
            _hear(socket, self.guard)

    def _watch_events(self, writer: Any) -> None:
        events = Events(writer)
        self.guard = Guard.of(*self._exchange.main, events.end)
        if self.guard is None:
            return
        events.begin(self.guard)
        if self.decided:  # a body that is generated goes out when all middlewares are done
            stop_with(this_task(), self.guard.stop)


async def watch_response(request: web.Request, response: web.StreamResponse) -> None:
    """A signal of aiohttp's: this response is about to begin."""
    head = request.get(HEAD)
    if head is not None:
        head.watched = response


def _hear(socket: web.WebSocketResponse, guard: Guard) -> None:
    """Each message that is received counts as activity; after the end there is none."""
    receive = socket.receive

    async def heard(timeout: float | None = None) -> WSMessage:
        message = await receive(timeout)
        is_message = message.type in (WSMsgType.TEXT, WSMsgType.BINARY)
        if is_message and not guard.hears():
            return WSMessage(WSMsgType.CLOSED, None, None)
        return message

    vars(socket)["receive"] = heard
