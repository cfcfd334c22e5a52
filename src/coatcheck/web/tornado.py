"""Tornado: a mixin for handlers, and `setup`, which tells it of an application's sessions.

The session is opened in `prepare`. It is committed when the handler finishes, or first flushes.
Both are plain calls in Tornado, and a commit is not, so they only say what is to be sent: the head
goes out when the commit is done, and the future that they return is done when it is out. Till then
the handler counts as finished, as Tornado's own code and that of applications expects after
`finish()`, `redirect()` or `render()`. A commit that fails is an error of the handler's like any
other. A 5xx, and an exception that is no response, keep nothing of the request but a `logout()`.
Where the store was out of reach and the app did not answer for that itself, the answer is 503.

A WebSocket's handshake does not wait: Tornado takes the connection away in the same breath. So its
session is committed before the handshake begins, after `prepare`.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.web import Application, Finish, HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

from coatcheck import context, csrf, gate
from coatcheck.csrf import CrossOriginProtection
from coatcheck.errors import ConfigurationError
from coatcheck.gate import LoginGate, Refused, async_admit
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import AsyncSweeper, checked_interval
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.headers import merge_str
from coatcheck.web.watched import ENDED, REASON, Guard, are_events, stop_soon

__all__ = ["CSRFMixin", "LoginMixin", "SessionMixin", "login_required", "setup"]

_SETTING = "coatcheck"


def setup(
    app: Application,
    sessions: AsyncSessions,
    *,
    named: Mapping[str, AsyncSessions] | None = None,
    skip: Iterable[str] = (),
    client: Callable[[HTTPServerRequest], Client] | None = None,
    sweep: float | None = 600.0,
    watch: bool = False,
) -> None:
    """Give the application's handlers with a `SessionMixin` these sessions.

    `named` gives further sessions, as `self.sessions[name]` and `current(name)`. On paths that
    `skip` lists nothing is opened. `client` makes a `Client` of the request, for device lists; by
    default its `remote_ip` and User-Agent. `sweep` is how often, in seconds, what expired is
    removed, from the first request on; None leaves that to you. With `watch`, a WebSocket is closed
    with 4401 when its (main) session ends, a response of text/event-stream ends too, and the
    messages that come count as activity.
    """
    every = checked_sessions(AsyncSessions, sessions, named, "setup")
    patterns = Patterns("setup(skip=…)", skip)
    interval = sweep if sweep is None else checked_interval(sweep)
    app.settings[_SETTING] = _Setup(every, patterns, client or peer, interval, watch)


class _Setup:
    """What an application's handlers share."""

    def __init__(
        self,
        every: Mapping[str | None, AsyncSessions],
        skip: Patterns,
        client: Callable[[HTTPServerRequest], Client],
        interval: float | None,
        watch: bool,
    ) -> None:
        self.watch = watch
        self._every = every
        self._skip = skip
        self._client = client
        each = every.values()
        self._sweepers = [] if interval is None else [AsyncSweeper(one, interval) for one in each]

    async def open(self, request: HTTPServerRequest) -> AsyncExchange | None:
        """The request's sessions, or None where its path is skipped."""
        for sweeper in self._sweepers:
            sweeper.start()
        if self._skip.match(_path(request)):
            return None
        cookies = "; ".join(request.headers.get_list("Cookie")) or None
        return await AsyncExchange.open(self._every, cookies, partial(self._client, request))


class SessionMixin(RequestHandler):
    """Gives a handler its request's session, as `self.session`, and commits it in time.

    It stands first among the bases: `class Home(SessionMixin, RequestHandler)`, or before
    `WebSocketHandler`, `StaticFileHandler` and others. A `prepare` of your own awaits
    `super().prepare()` first.
    """

    _exchange: AsyncExchange | None = None
    _error: BaseException | None = None  # what the handler raised, unless it is a response
    _sending: "asyncio.Task[None] | None" = None  # the commit, and what goes out after it
    _replaced = False  # whether another response than the handler's has gone out

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        before = cls.__mro__[: cls.__mro__.index(SessionMixin)]
        for base in before:
            if issubclass(base, RequestHandler) and not issubclass(base, SessionMixin):
                raise ConfigurationError(
                    f"{cls.__name__}: expected SessionMixin before {base.__name__} among the "
                    f"bases, got it after; write class {cls.__name__}(SessionMixin, …)"
                )

    @property
    def session(self) -> Session:
        """The request's session.

        LookupError before `prepare`, on a path in `skip=`, and where a `prepare` of your own did
        not await `super().prepare()`.
        """
        return self._opened().session

    @property
    def sessions(self) -> dict[str, Session]:
        """The further sessions that `setup(named=…)` gave, by name."""
        return self._opened().named

    def _opened(self) -> AsyncExchange:
        if self._exchange is None:
            raise LookupError(
                f"{type(self).__name__}: expected a request with a session, got none; await "
                "super().prepare() in your prepare(), and use it on no path in skip="
            )
        return self._exchange

    def get_current_user(self) -> Any:
        """The session's subject, or None; it is `self.current_user` unless that is set."""
        return None if self._exchange is None else self.session.subject

    async def prepare(self) -> None:
        """Open the session, before the handler's method runs."""
        self._exchange = await _setup_of(self.application).open(self.request)
        if self._exchange is not None:
            # Each request is a task with a context of its own; both end together.
            context.bind(self._exchange.opened)
        await _done(super().prepare())

    async def _get(self, *args: Any, **options: Any) -> None:
        """Whatever GET is to the next base; to a WebSocket's, the handshake."""
        if not isinstance(self, WebSocketHandler):
            await _done(super().get(*args, **options))
        elif await self._commit(101):
            guard = self._guard(self)
            try:
                await _done(super().get(*args, **options))  # which lasts as long as the socket
            finally:
                if guard is not None:
                    await guard.stop()
            if self._exchange is not None:
                self._exchange.end()

    def _guard(self, socket: WebSocketHandler) -> Guard | None:
        """Close it when its session is over; each message that comes counts as activity."""
        if self._exchange is None or not _setup_of(self.application).watch:
            return None

        async def close() -> None:
            socket.close(ENDED, REASON)

        guard = Guard.of(*self._exchange.main, close)
        if guard is not None:
            vars(socket)["on_message"] = _heard(socket.on_message, guard)
        return guard

    if not TYPE_CHECKING:  # which sees the get() of the next base, plain or not
        get = _get

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
            return SessionMixin.finish(self)  # nothing is to be committed
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
        sent = SessionMixin.flush(self)
        self._watch_events(sent)
        await sent

    def _watch_events(self, sent: "asyncio.Future[None]") -> None:
        """The response has begun; a stream of events ends with its session."""
        exchange, kind = self._exchange, self._headers.get("Content-Type")
        if exchange is not None and _setup_of(self.application).watch and are_events(kind):
            events = _Events(self, sent)
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
            sent = SessionMixin.finish(self)
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
            _answer(self, head.refused)
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


class _Events(HTTPConnection):
    """The connection of a stream of events. Once the session is over, its client has gone."""

    def __init__(self, handler: RequestHandler, sent: "asyncio.Future[None]") -> None:
        self._handler = handler
        self._connection: Any = handler.request.connection
        self._sent = sent
        self._is_whole = self._is_over = False
        self._guard: Guard

    def begin(self, guard: Guard) -> None:
        self._guard = guard
        self._connection.set_close_callback(self._left)
        self._handler.request.connection = self

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        if self._is_over:
            return _refused()
        self._sent = self._connection.write(chunk)
        return self._sent

    def finish(self) -> None:
        stop_soon(self._guard.stop)
        if not self._is_over:
            self._is_whole = True
            self._connection.finish()

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        if not self._is_over:
            self._connection.set_close_callback(callback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _left(self) -> None:
        stop_soon(self._guard.stop)
        self._handler.on_connection_close()

    async def end(self) -> None:
        if self._is_whole:
            return
        self._is_over = True
        self._connection.set_close_callback(None)
        IOLoop.current().add_callback(self._handler.on_connection_close)
        transforms, self._handler._transforms = self._handler._transforms, []
        try:
            await asyncio.wait([self._sent])  # it answers for one write at a time
            rest = b""
            for transform in transforms:  # what compresses has an end of its own
                rest = transform.transform_chunk(rest, True)
            self._connection.write(rest)
        finally:
            self._connection.finish()


def _refused() -> "asyncio.Future[None]":
    """As Tornado refuses what is written to a connection that is closed."""
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    refused.set_exception(StreamClosedError())
    refused.exception()  # nobody has to await it
    return refused


class CSRFMixin(SessionMixin):
    """A `SessionMixin` that refuses what other sites send, by its `protection`.

    It stands before a `LoginMixin`. With `tokens=True`, `xsrf_form_html()` gives the field with the
    session's token; the application's own setting `xsrf_cookies` stays off then.
    """

    protection: CrossOriginProtection

    async def prepare(self) -> None:
        """Refuse, or open the session and look at the token."""
        asked = facts(self.request)
        self._obey(self.protection.judge(asked))
        await super().prepare()
        session = None if self._exchange is None else self._exchange.session
        field = partial(self.get_body_argument, csrf.FIELD, None)
        self._obey(csrf.check(self.protection, asked, session, field))

    def xsrf_form_html(self) -> str:
        """The hidden field of a form, for `{% module xsrf_form_html() %}` too."""
        if not self.protection.tokens:
            return super().xsrf_form_html()
        return f'<input type="hidden" name="{csrf.FIELD}" value="{self.session.csrf_token}"/>'

    def _obey(self, refused: Refused | None) -> None:
        if refused is not None:
            _answer(self, refused)
            raise Finish


class LoginMixin(SessionMixin):
    """A `SessionMixin` that lets only those through whom its `gate` admits.

    `self.current_user` is what the gate's `user=` loads, where it has one, and else the subject.
    """

    gate: LoginGate

    def get_current_user(self) -> Any:
        """The subject, or None; None also where the gate loads users and was not asked to."""
        return None if self.gate.user is not None else super().get_current_user()

    async def prepare(self) -> None:
        """Open the session, and ask the gate."""
        await super().prepare()
        await _pass(self.gate, self)


Method = Callable[..., Awaitable[None] | None]


def login_required(gate: LoginGate) -> Callable[[Method], Method]:
    """For a single method of a handler with a `SessionMixin`: it must pass the gate.

    The gate's `public=` does not count here. `self.current_user` is as in `LoginMixin`.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        async def guarded(self: Any, *args: Any, **options: Any) -> None:
            await _pass(gate, self, everywhere=True)
            await _done(method(self, *args, **options))

        return guarded

    return decorate


async def _pass(rule: LoginGate, handler: SessionMixin, *, everywhere: bool = False) -> None:
    """Let the request go on, or answer it and end it."""
    session = None if handler._exchange is None else handler._exchange.session
    verdict = await async_admit(rule, facts(handler.request), session, everywhere=everywhere)
    if isinstance(verdict, Refused):
        _answer(handler, verdict)
        raise Finish
    if verdict.subject is not None:
        handler.current_user = verdict.subject if verdict.user is None else verdict.user


def _answer(handler: RequestHandler, refused: Refused) -> None:
    """A whole response in the handler's place."""
    handler.clear()
    handler.set_status(refused.status)
    handler.set_header("Content-Type", "text/plain; charset=utf-8")
    for name, value in refused.headers:
        handler.set_header(name, value)
    handler.finish(refused.body)


def _setup_of(app: Application) -> _Setup:
    found = app.settings.get(_SETTING)
    if not isinstance(found, _Setup):
        raise ConfigurationError(
            "SessionMixin: expected an application with sessions, got one without; call "
            "setup(app, sessions)"
        )
    return found


def _heard(on_message: Callable[[Any], Any], guard: Guard) -> Callable[[Any], Any]:
    def heard(message: str | bytes) -> Any:
        return on_message(message) if guard.hears() else None

    return heard


async def _done(result: Awaitable[None] | None) -> None:
    """Tornado's methods return something to await, or nothing."""
    if result is not None:
        await result


def _task(sending: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Nobody has to await it: what it raises is for those who do."""
    task = asyncio.get_running_loop().create_task(sending)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def facts(request: HTTPServerRequest) -> gate.Request:
    """What the gate looks at."""
    method, header = request.method or "", request.headers.get
    return gate.Request(method, _path(request), request.query, "", header)


def _path(request: HTTPServerRequest) -> str:
    """Decoded, but for a %2F and a %25: Tornado's routes tell them from a slash and a percent."""
    kept = re.sub("%(25|2F)", r"%25\1", request.path, flags=re.IGNORECASE)
    return unquote(kept)


def peer(request: HTTPServerRequest) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(request.remote_ip, request.headers.get("User-Agent"))
