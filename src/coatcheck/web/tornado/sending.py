"""What a handler sends, after the commit: its head, its body, or another response in its place."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from tornado.httputil import HTTPHeaders
from tornado.web import Finish, HTTPError, RequestHandler

from coatcheck.gate import Refused
from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.headers import merge_str
from coatcheck.web.tornado.application import setup_of
from coatcheck.web.tornado.events import Events
from coatcheck.web.watched import Guard, are_events

__all__ = ["Sending", "answer"]


class Sending(RequestHandler):
    """A handler whose response goes out when its request's session is committed."""

    _exchange: AsyncExchange | None = None
    _error: BaseException | None = None  # what the handler raised, unless it is a response
    _sending: "asyncio.Task[None] | None" = None  # the commit, and what goes out after it
    _replaced = False  # whether another response than the handler's has gone out

    def flush(self, include_footers: bool = False) -> "asyncio.Future[None]":
        """Send what was written so far; the first time after the commit."""
        if self._exchange is None or self._exchange.head is not None:
            self._complete_head()
            return super().flush(include_footers)
        if self._sending is None:
            self._sending = _task(self._commit_and_flush())
        return self._sending

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> "asyncio.Future[None]":
        """Send the rest of the response; after the commit, unless a flush did that."""
        exchange = self._exchange
        if exchange is None or exchange.head is not None or self._finished:
            sent = super().finish(chunk)
            if exchange is not None:
                exchange.end()
            return sent
        if chunk is not None:
            self.write(chunk)
        is_plain = self._sending is None and self._error is None
        if is_plain and exchange.settled(self.get_status()) is not None:
            return Sending.finish(self)  # nothing is to be committed
        self._finished = True  # to everybody else
        self._sending = _task(self._commit_and_finish(self._sending))
        return self._sending

    def send_error(self, status_code: int = 500, **options: Any) -> None:
        """Answer with an error page."""
        error = options.get("exc_info", (None, None))[1]
        self._error = None if isinstance(error, HTTPError) else error
        super().send_error(status_code, **options)

    async def _commit_and_flush(self) -> None:
        if not await self._commit(self.get_status()):
            raise Finish  # the handler need not go on
        sent = Sending.flush(self)
        self._watch_events(sent)
        await sent

    def _watch_events(self, sent: "asyncio.Future[None]") -> None:
        """The response has begun; a stream of events ends with its session."""
        exchange, kind = self._exchange, self._headers.get("Content-Type")
        if exchange is not None and setup_of(self.application).watch and are_events(kind):
            events = Events(self, sent)
            guard = Guard.of(*exchange.main, events.end)
            if guard is not None:
                events.begin(guard)

    async def _commit_and_finish(self, flushing: "asyncio.Task[None] | None") -> None:
        if flushing is not None:
            await asyncio.wait([flushing])
        else:
            await self._commit(self.get_status())
        if self._replaced:
            return
        self._finished = False
        try:
            sent = Sending.finish(self)
        except Exception:  # noqa: BLE001 - as in the handler itself, it is told and answered
            self._tell_error()
        else:
            await sent

    async def _commit(self, status: int) -> bool:
        """Whether the handler's response may go out; else another one has."""
        if self._exchange is None:
            return True
        try:
            failed = self._error is not None
            decide = self._exchange.fail(self._error) if failed else self._exchange.respond(status)
            head = await decide
        except Exception:  # noqa: BLE001 - as in the handler itself, it is told and answered
            self._replaced, self._finished = True, False
            self._tell_error()
            return False
        if head.refused is not None:
            self._replaced, self._finished = True, False
            answer(self, head.refused)
        return not self._replaced

    def _tell_error(self) -> None:
        """What Tornado does with what a handler raises."""
        self.log_exception(*sys.exc_info())
        if not self._finished:
            self.send_error(500, exc_info=sys.exc_info())

    def _complete_head(self) -> None:
        """Put what the response owes to its sessions into its headers, before they go out."""
        head = None if self._exchange is None else self._exchange.head
        if head is not None and head.vary and not self._headers_written:
            merged = merge_str(list(self._headers.get_all()), head)
            self._headers = HTTPHeaders()
            for name, value in merged:
                self._headers.add(name, value)


def answer(handler: RequestHandler, refused: Refused) -> None:
    """A whole response in the handler's place."""
    handler.clear()
    handler.set_status(refused.status)
    handler.set_header("Content-Type", "text/plain; charset=utf-8")
    for name, value in refused.headers:
        handler.set_header(name, value)
    handler.finish(refused.body)


def _task(sending: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Nobody has to await it: what it raises is for those who do."""
    task = asyncio.get_running_loop().create_task(sending)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
