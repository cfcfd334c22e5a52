"""Quart: `app.session_interface = CoatcheckSessionInterface(sessions)`.

`quart.session` is the session, and so is `current()`. It is committed when the `after_request`
functions are through, before the response is sent; a response that is a 5xx keeps only a
`logout()`. Quart does not come to that point with every error, so those of the app's methods are
followed through which all of them pass: in testing and in debug mode, too, they keep only a
`logout()`, and where the store was out of reach the answer is 503. What is cancelled keeps only a
`logout()`, too.

A WebSocket has its session on connect: it is committed with the acceptance, whose headers carry the
cookie. A handshake that is refused by a close can set no cookie, so it keeps only a `logout()`.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from functools import partial, wraps
from typing import Any, Self, cast
from weakref import WeakSet

from quart import (
    Quart,
    Request,
    Response,
    Websocket,
    current_app,
    g,
    has_request_context,
    has_websocket_context,
    request,
    websocket,
)
from quart.sessions import SessionInterface, SessionMixin
from quart.wrappers.response import ResponseBody
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from coatcheck import context, csrf
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, async_admit
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.asgi import facts, peer
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange, Head, abandon
from coatcheck.web.headers import joined_cookie, merge_str
from coatcheck.web.pallets import (
    Advice,
    CookieFacts,
    PalletsSession,
    SkippedSession,
    refuse,
    write_head,
)
from coatcheck.web.watched import (
    ENDED,
    GOODBYE,
    REASON,
    Disconnected,
    Guard,
    are_events,
    stop_with,
    this_task,
)

__all__ = ["CoatcheckSessionInterface", "login_required", "require_login", "setup_csrf"]

Answer = Response | WerkzeugResponse
_VISIT = "_coatcheck"  # of the request or WebSocket


class CoatcheckSessionInterface(CookieFacts, SessionInterface):
    """Makes `quart.session` a session of these.

    `named` gives further sessions, in `current(name)`. On paths that `skip` lists nothing is
    opened. `client` makes a `Client` of the request or WebSocket, for device lists; by default the
    peer's address and its User-Agent. `sweep` is how often, in seconds, what expired is removed
    while the app is served, from its first request on; None leaves that to you. With `watch`, a
    WebSocket is closed with 4401 when its (main) session ends, a response of text/event-stream
    ends too, and the messages that come count as activity.
    """

    null_session_class = SkippedSession

    def __init__(
        self,
        sessions: AsyncSessions,
        *,
        named: Mapping[str, AsyncSessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[Request | Websocket], Client] | None = None,
        sweep: float | None = 600.0,
        watch: bool = False,
    ) -> None:
        where = type(self).__name__
        self._watch = watch
        self.sessions = sessions
        self._every = checked_sessions(AsyncSessions, sessions, named, where)
        self._cookie = sessions.cookie
        self._advice = Advice(sessions.cookie, sessions.lifetime)
        self._skip = Patterns(f"{where}(skip=…)", skip)
        self._client = client or _peer
        self._sweep = sweep if sweep is None else checked_interval(sweep)
        self._apps = WeakSet[Quart]()
        self._sweeper: asyncio.Task[None] | None = None

    async def open_session(self, app: Quart, request: Any) -> SessionMixin | None:
        scope = request.scope
        met: _Visit | None = getattr(request, _VISIT, None)
        if met is not None:  # another context of the same request
            return cast("PalletsSession", met.exchange.session)
        if self._skip and self._skip.match(facts(scope).path):
            return None
        is_first = app not in self._apps
        if is_first:
            self._join(app)
        if self._sweep is not None and (self._sweeper is None or self._sweeper.done()):
            self._start_sweeping(app)
        header, client = joined_cookie(scope["headers"]), partial(self._client, request)
        opened = (await AsyncExchange.open(self._every, header, client)).opened
        session = PalletsSession(opened[None])
        exchange = AsyncExchange(self._every, {**opened, None: session})
        visit = _Visit(exchange, is_first, self._watch)
        setattr(request, _VISIT, visit)
        if isinstance(request, Websocket):
            visit.attend_handshake(request)
        return session

    async def save_session(
        self, app: Quart, session: SessionMixin, response: Answer | None
    ) -> None:
        visit = _visit()
        assert visit is not None
        await visit.answer(response)
        if visit.is_first:
            self._advice.on_settings(app)
        self._advice.on_permanence(visit.exchange.session)

    def _join(self, app: Quart) -> None:
        """Follow this app's errors, whether it handles them, they become a 500, or go on."""
        self._apps.add(app)
        for name, follow in _FOLLOWED.items():
            setattr(app, name, follow(app, getattr(app, name)))

    def _start_sweeping(self, app: Quart) -> None:
        """Until the app's lifespan ends; without one there would be no end."""
        if hasattr(app, "shutdown_event") and not app.shutdown_event.is_set():
            self._sweeper = asyncio.create_task(self._keep_sweeping(), context=Context())
            app.after_serving_funcs.insert(0, partial(_cancel, self._sweeper))

    async def _keep_sweeping(self) -> None:
        async with sweeping(self._every, self._sweep):
            await asyncio.Event().wait()


class _Visit:
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
                    response.response = _Events(response.response, self.exchange)

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
                _watch(websocket, task, *self.exchange.main)

        websocket._accept = accept_with_cookie


def _watch(
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


class _Events(ResponseBody):
    """A body of events, which ends with its session."""

    def __init__(self, body: ResponseBody, exchange: AsyncExchange) -> None:
        self._body = body
        self._watch = _cancelled_with(exchange)
        self._parts: AsyncIterator[Any]
        self._limit: asyncio.Timeout

    async def __aenter__(self) -> Self:
        self._parts = aiter(await self._body.__aenter__())
        self._limit = await self._watch.__aenter__()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        part = await anext(self._parts)
        if self._limit.expired():  # whoever made it was cancelled, and goes on all the same
            raise StopAsyncIteration
        return part

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> Any:
        try:
            return await self._watch.__aexit__(kind, error, trace)
        finally:
            await self._body.__aexit__(kind, error, trace)


@asynccontextmanager
async def _cancelled_with(exchange: AsyncExchange) -> AsyncIterator[asyncio.Timeout]:
    """Cancel the block when the session is over, as Quart does when its client has gone; what
    follows it goes on."""
    limit = asyncio.timeout(None)

    async def end() -> None:
        limit.reschedule(0)

    guard = None
    try:
        async with limit:
            guard = Guard.of(*exchange.main, end)
            yield limit
    except TimeoutError:
        if not limit.expired():
            raise
    finally:
        if guard is not None:
            await guard.stop()


def _stopped(app: Quart, dispatch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """See what is no error to Quart, which is its being cancelled."""

    async def full_dispatch(*context: Any) -> Any:
        try:
            return await dispatch(*context)
        except Exception:
            raise  # `_followed` sees it next
        except BaseException:
            visit = _visit()
            if visit is not None:
                await abandon(visit.exchange)
            raise

    return full_dispatch


def _judged(
    app: Quart, judge: Callable[[Exception], Awaitable[Any]]
) -> Callable[[Exception], Awaitable[Any]]:
    """See each error that a handler of the app may take."""

    async def handle_user_exception(error: Exception) -> Any:
        visit = _visit()
        if visit is not None:
            visit.cause = error
        return await judge(error)

    return handle_user_exception


def _followed(
    app: Quart, handle: Callable[[Exception], Awaitable[Answer | None]]
) -> Callable[[Exception], Awaitable[Answer | None]]:
    """See each error that no handler of the app took, whether it becomes a response or goes on."""

    async def handle_exception(error: Exception) -> Answer | None:
        visit = _visit()
        if visit is None:
            return await handle(error)
        visit.error = error
        try:
            response = await handle(error)
        except Exception:
            if (await visit.exchange.fail(error)).refused is None:
                raise
            response = app.response_class()
        if response is not None:
            await visit.answer(response)  # where an `after_request` function failed, it was not yet
        return response

    return handle_exception


_FOLLOWED: dict[str, Callable[[Quart, Any], Any]] = {
    "full_dispatch_request": _stopped,
    "full_dispatch_websocket": _stopped,
    "handle_user_exception": _judged,
    "handle_exception": _followed,
    "handle_websocket_exception": _followed,
}


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _visit() -> _Visit | None:
    """That of the request or WebSocket at hand; None outside, and on a path in `skip=`."""
    if has_request_context() or has_websocket_context():
        return getattr(_asked(), _VISIT, None)
    return None


def _asked() -> Any:
    return request if has_request_context() else websocket


def _opened() -> Mapping[str | None, Session] | None:
    visit = _visit()
    return None if visit is None else visit.exchange.opened


context.follow(_opened)


def _peer(request: Request | Websocket) -> Client:
    return peer(request.scope)  # type: ignore[arg-type]


def require_login(gate: LoginGate) -> Callable[[], Awaitable[Response | None]]:
    """For a whole app or a blueprint: `app.before_request(require_login(gate))`, and
    `app.before_websocket(…)`.

    Where the gate has `user=`, what it loads is `g.user`.
    """

    async def before_request() -> Response | None:
        return await _refusal(gate)

    return before_request


def login_required(gate: LoginGate) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a single view or WebSocket: it must pass the gate, whose `public=` does not count here.

    Where the gate has `user=`, what it loads is `g.user`.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        async def guarded(*args: Any, **options: Any) -> Any:
            refusal = await _refusal(gate, everywhere=True)
            return refusal or await current_app.ensure_async(view)(*args, **options)

        return guarded

    return decorate


def setup_csrf(app: Quart, protection: CrossOriginProtection) -> None:
    """Refuse what other sites send to the app, WebSockets too, before its other functions.

    With `tokens=True`, templates have `csrf_token()` for the field of that name.
    """

    async def before() -> Response | None:
        session, asked = (_opened() or {}).get(None), facts(_asked().scope)
        refused = await csrf.async_check(protection, asked, session, _token_in_form)
        return None if refused is None else _response(refused)

    app.before_request_funcs[None].insert(0, before)
    app.before_websocket_funcs[None].insert(0, before)
    if protection.tokens:
        app.add_template_global(_csrf_token, "csrf_token")


async def _token_in_form() -> str | None:
    return (await request.form).get(csrf.FIELD)


def _csrf_token() -> str:
    return context.current().csrf_token


async def _refusal(gate: LoginGate, *, everywhere: bool = False) -> Response | None:
    """The answer to a request that the gate does not let through."""
    session = (_opened() or {}).get(None)
    verdict = await async_admit(gate, facts(_asked().scope), session, everywhere=everywhere)
    if isinstance(verdict, Refused):
        return _response(verdict)
    if verdict.user is not None:
        g.user = verdict.user
    return None


def _response(refused: Refused) -> Response:
    response = current_app.response_class()
    refuse(response, refused)
    return response
