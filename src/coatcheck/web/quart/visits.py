"""One request or WebSocket, from its session to its response; and where `current()` finds it."""

from collections.abc import AsyncIterable, Callable, Mapping
from typing import Any

from quart import (
    Response,
    Websocket,
    has_request_context,
    has_websocket_context,
    request,
    websocket,
)
from quart.wrappers.response import ResponseBody
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from coatcheck import context
from coatcheck.session import Session
from coatcheck.web.exchange import AsyncExchange, Head
from coatcheck.web.headers import merge_str
from coatcheck.web.pallets import write_head
from coatcheck.web.quart.events import Events
from coatcheck.web.quart.sockets import watch
from coatcheck.web.watched import are_events, this_task

__all__ = ["VISIT", "Answer", "Visit", "at_hand", "current_visit", "opened"]

Answer = Response | WerkzeugResponse
VISIT = "_coatcheck"  # of the request or WebSocket


class Visit:
    """One request or WebSocket on its way to a response."""

    __slots__ = ("_answered", "_headless", "_watch", "cause", "error", "exchange", "is_first")

    def __init__(self, exchange: AsyncExchange, is_first: bool, watch: bool) -> None:
        self.exchange = exchange
        self.is_first = is_first
        self._watch = watch
        self.cause: Exception | None = None  # what the app raised, and handled or not
        self.error: Exception | None = None  # what it did not handle
        self._answered: Answer | None = None
        self._headless = False  # a WebSocket whose refusal can have no headers

    async def answer(self, response: Answer | None) -> None:
        """Commit, and put what is owed into the response; an error has several, one after another.

        A 503 that an error handler made is the app's own answer to an outage. A WebSocket that
        is over has none.
        """
        if response is None:
            await self.exchange.fail(self.error)
            self.exchange.end()
        elif response is not self._answered:
            self._answered = response
            head = await self._decide(response.status_code)
            self.cause = None  # its traceback knows us: a circle costs a collection
            write_head(response, head)
            if isinstance(response, Response):
                response.response = _Body(response.response, self.exchange.end)
                if self._watch and are_events(response.content_type):
                    response.response = Events(response.response, self.exchange)

    async def _decide(self, status: int) -> Head:
        if self._headless or (self.error is not None and status != 503):
            return await self.exchange.fail(self.error)
        return await self.exchange.respond(status, self.cause)

    def attend_handshake(self, websocket: Websocket) -> None:
        """Commit when the app accepts, which it may do again and again; watch from then on.

        This is the socket's own task. The one that accepts may be another.
        """
        accept, task = websocket._accept, this_task()
        extensions = websocket.scope.get("extensions") or {}
        self._headless = "websocket.http.response" not in extensions

        async def accept_with_cookie(headers: Headers, subprotocol: str | None) -> None:
            head = await self.exchange.respond(101)
            if head.refused is not None:
                raise HTTPException(response=WerkzeugResponse())  # `answer` makes it a 503
            websocket._accept = accept
            merged = merge_str(list(headers), head)
            await accept(Headers(merged), subprotocol)
            if self._watch:
                watch(websocket, task, *self.exchange.main)

        websocket._accept = accept_with_cookie


class _Body(ResponseBody):
    """A body after which the response is over."""

    def __init__(self, body: ResponseBody, end: Callable[[], None]) -> None:
        self._body = body
        self._end = end

    async def __aenter__(self) -> AsyncIterable[Any]:
        return await self._body.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self._body.__aexit__(kind, error, trace)
        if error is None:
            self._end()


def current_visit() -> Visit | None:
    """That of the request or WebSocket at hand; None outside, and on a path in `skip=`."""
    if has_request_context() or has_websocket_context():
        return getattr(at_hand(), VISIT, None)
    return None


def at_hand() -> Any:
    """Quart's request or WebSocket."""
    return request if has_request_context() else websocket


def opened() -> Mapping[str | None, Session] | None:
    """Its sessions by name, where it has any."""
    visit = current_visit()
    return None if visit is None else visit.exchange.opened


context.follow(opened)
