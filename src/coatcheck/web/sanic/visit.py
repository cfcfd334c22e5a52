"""One request's sessions, as its middleware, its signals and its gates know them."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from sanic import Request
from sanic.exceptions import ServerError
from sanic.response import ResponseStream

from coatcheck import context
from coatcheck.gate import LoginGate, Refused
from coatcheck.web.exchange import AsyncExchange, Head
from coatcheck.web.sanic.events import Events, is_of_events
from coatcheck.web.sanic.responses import Response, add_headers
from coatcheck.web.watched import this_task

__all__ = ["Visit", "visit_of"]


class Visit:
    """One request's sessions, and what became of them so far."""

    __slots__ = (
        "_events",
        "_leave",
        "_task",
        "_watch",
        "cause",
        "ended",
        "exchange",
        "passed",
        "response",
    )

    def __init__(self, exchange: AsyncExchange, leave: Callable[[], object], watch: bool) -> None:
        self.exchange = exchange
        self._task = this_task()
        self._leave = leave  # the task, which may serve other requests of the connection
        self._watch = watch
        self._events: Events | None = None
        self.cause: BaseException | None = None  # what the app raised
        self.response: Response | None = None  # which has our headers
        self.passed: Iterable[LoginGate] = ()  # by the handshake of a WebSocket
        self.ended = False

    async def respond(self, response: Response) -> Head:
        """This response is about to begin: commit, and give it our headers."""
        head = await self.exchange.respond(response.status, self.cause)
        self.response = response
        if head.refused is None and head.vary:
            add_headers(response, head)
        return head

    def watch(self, response: Response) -> None:
        """Where it is of events, it ends with the session from now on."""
        if not self._watch or not is_of_events(response):
            return
        if isinstance(response, ResponseStream):
            response.streaming_fn = partial(self._stream, response.streaming_fn)
        else:
            events = Events(response, self._task)
            self._events = events if events.watch(*self.exchange.main) else None

    async def _stream(self, streaming: Callable[..., Awaitable[None]], response: Any) -> None:
        """What has no connection before it is sent."""
        self.watch(response.response)
        await streaming(response)

    async def leave_events(self) -> None:
        """The handler is done with what it streamed."""
        events, self._events = self._events, None
        if events is not None:
            await events.leave()

    def late_refusal(self) -> Refused | None:
        """Where an outage was met after `request.respond()`, and nothing has gone out yet."""
        return None if self.cause is None else self.exchange._refusal(self.cause)

    def end(self) -> None:
        if not self.ended:  # an error of its own comes through here again
            self.ended = True
            self._leave()
            self.exchange.end()


def visit_of(request: Request[Any, Any]) -> Visit | None:
    visit: Visit | None = getattr(request.ctx, "coatcheck", None)
    return visit


def _bound() -> context.Bound | None:
    try:
        visit = visit_of(Request.get_current())
    except ServerError:
        return None
    return None if visit is None else visit.exchange.opened


context.follow(_bound)
