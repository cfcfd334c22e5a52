"""ASGI: Starlette, FastAPI, and any other app.

The session is opened before the app runs, and committed when the app sends the start of its
response, before that message goes on. A response that is a 5xx, and an exception that reaches the
middleware, keep nothing of the request but a `logout()`. Where the store was out of reach and the
app did not answer for that itself, the answer is 503.

A WebSocket has its session on connect: it is committed with `websocket.accept`, whose headers
carry the cookie. A handshake that is refused by a close can set no cookie, so it keeps only a
`logout()`, like an error.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial, wraps
from typing import Any

from coatcheck import context, gate
from coatcheck.errors import ConfigurationError, Contention, StoreUnavailable
from coatcheck.gate import Admitted, LoginGate, Refused, Verdict
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import AsyncSweeper, checked_interval
from coatcheck.web.configured import checked_sessions
from coatcheck.web.headers import RETRY_AFTER, joined_cookie, merge_bytes

__all__ = ["LoginMiddleware", "SessionMiddleware", "login_required"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_Pairs = tuple[tuple[AsyncSessions, Session], ...]

_SERVED = frozenset({"http", "websocket"})
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class SessionMiddleware:
    """Puts the request's session into `scope["session"]`, and commits it in time.

    `named` gives further sessions, in `scope["sessions"][name]` and `current(name)`. On paths
    that `skip` lists nothing is opened. `client` makes a `Client` of the scope, for device lists;
    by default the peer's address and its User-Agent. `sweep` is how often, in seconds, what
    expired is removed while the app's lifespan lasts; None leaves that to you.
    """

    def __init__(
        self,
        app: App,
        sessions: AsyncSessions,
        *,
        named: Mapping[str, AsyncSessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[Scope], Client] | None = None,
        sweep: float | None = 600.0,
    ) -> None:
        self.app = app
        every = checked_sessions(AsyncSessions, sessions, named)
        self._sessions = sessions
        self._named = tuple((name, each) for name, each in every.items() if name is not None)
        self._skip = Patterns("SessionMiddleware(skip=…)", skip) or None
        self._client = client or _peer
        self._sweep = None if sweep is None else checked_interval(sweep)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            async with self._sweeping():
                await self.app(scope, receive, send)
            return
        if kind not in _SERVED or (self._skip is not None and self._skip.match(_path(scope))):
            await self.app(scope, receive, send)
            return
        header = joined_cookie(scope["headers"])
        client = partial(self._client, scope)
        if self._named:
            scope["sessions"] = {}
        session = scope["session"] = await self._sessions.open(header, client)
        opened: dict[str | None, Session] = {None: session}
        pairs: _Pairs = ((self._sessions, session),)
        for name, sessions in self._named:
            each = scope["sessions"][name] = opened[name] = await sessions.open(header, client)
            pairs += ((sessions, each),)
        response = _Response(scope, send, pairs)
        bound = context.bind(opened)
        try:
            await self.app(scope, receive, response.send)
            if not response.started:
                await response.failed()
        except Exception as error:
            if response.started or not response.is_outage(error):
                await response.failed()
                raise
            await response.unavailable(await response.failed())
        finally:
            context.unbind(bound)
        for _, each in pairs:
            each.check_closed()

    def _every(self) -> list[AsyncSessions]:
        return [self._sessions, *(sessions for _, sessions in self._named)]

    @asynccontextmanager
    async def _sweeping(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if self._sweep is not None:
                for sessions in self._every():
                    await stack.enter_async_context(AsyncSweeper(sessions, self._sweep))
            yield


class _Response:
    """One request's answer on its way out; `send` is what the app gets."""

    __slots__ = ("_pairs", "_replaced", "_scope", "_send", "started")

    def __init__(self, scope: Scope, send: Send, pairs: _Pairs) -> None:
        self._scope = scope
        self._send = send
        self._pairs = pairs
        self._replaced = False  # by a 503: what the app still sends is dropped
        self.started = False

    def send(self, message: Message) -> Awaitable[None]:
        # A plain function that returns the server's awaitable: a body part costs one call.
        if self.started:
            return _dropped() if self._replaced else self._send(message)
        if len(self._pairs) > 1 or message["type"] not in _STARTS:
            return self._first(message)
        # Most responses have nothing to commit: they need no coroutine of ours.
        sessions, session = self._pairs[0]
        if session.accessed:
            failed = message.get("status", 101) >= 500
            if failed or session._fault is not None or not sessions.is_idle(session):
                return self._first(message)
            _add_headers(message, [])
        session.close()
        self.started = True
        return self._send(message)

    async def _first(self, message: Message) -> None:
        kind = message["type"]
        if kind in _STARTS:
            cookies: list[str] = []
            try:
                await self._commit(cookies, status=message.get("status", 101))
            except (StoreUnavailable, Contention):
                await self.unavailable(await self.failed())
                return
            if any([session.accessed for _, session in self._pairs]):  # noqa: C419 - half the price
                _add_headers(message, cookies)
            self.started = True
        elif kind == "websocket.close":
            await self.failed()
            self.started = True
        await self._send(message)

    async def _commit(self, cookies: list[str], *, status: int) -> None:
        if len(self._pairs) > 1 and status < 500:
            for sessions, session in self._pairs:
                sessions.rehearse(session)  # what cannot be committed is met before anything is
        for sessions, session in self._pairs:
            if session._fault is not None:
                # A framework's 500 hides the outage; a 503 is the app's own answer to it.
                if status >= 500 and status != 503 and session.accessed:
                    raise session._fault
            elif session.accessed:
                cookies += await sessions.commit(session, failed=status >= 500)
        self._close()

    def is_outage(self, error: Exception) -> bool:
        """Whether the store is to blame for the app's error, whatever the app made of it."""
        met = any(session.accessed and session._fault is not None for _, session in self._pairs)
        return met or isinstance(error, StoreUnavailable | Contention)

    async def failed(self) -> list[str]:
        """The app raised, or refused a handshake: only a logout() is kept; its cookies."""
        cookies: list[str] = []
        if self.started:
            return cookies
        for sessions, session in self._pairs:
            if session.accessed and session._fault is None:
                with suppress(StoreUnavailable, Contention):  # told as events; the answer is fixed
                    cookies += await sessions.commit(session, failed=True)
        self._close()
        return cookies

    async def unavailable(self, cookies: Iterable[str] = ()) -> None:
        """Answer 503 in the app's place; what else it sends is dropped."""
        self.started = self._replaced = True
        self._close()
        refused = Refused(503, (("Retry-After", RETRY_AFTER), ("Cache-Control", "no-store")))
        await _answer(refused, self._scope, self._send, list(cookies))

    def _close(self) -> None:
        for _, session in self._pairs:
            session.close()


class LoginMiddleware:
    """Lets only logged-in users through, by a `LoginGate`. It belongs inside `SessionMiddleware`.

    Where the gate has `user=`, what it loads is `scope["user"]`, so `request.user` in Starlette.
    """

    def __init__(self, app: App, gate: LoginGate) -> None:
        self.app = app
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            verdict = await _judge(self.gate, scope)
            if isinstance(verdict, Refused):
                await _answer(verdict, scope, send)
                return
        await self.app(scope, receive, send)


def login_required(
    gate: LoginGate,
) -> Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]:
    """For a single view of Starlette's kind, `(request, …) -> response`: it must pass the gate.

    The gate's `public=` does not count here. A plain view runs in a thread, as Starlette does it.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        @wraps(view)
        async def guarded(request: Any, *args: Any, **options: Any) -> Any:
            verdict = await _judge(gate, request.scope, everywhere=True)
            if isinstance(verdict, Refused):
                return _starlette_response(verdict)
            if inspect.iscoroutinefunction(view):
                return await view(request, *args, **options)
            return await asyncio.to_thread(view, request, *args, **options)

        return guarded

    return decorate


def _starlette_response(refused: Refused) -> Any:
    """FastAPI takes nothing else for a response; whose views are guarded has Starlette."""
    from starlette.responses import PlainTextResponse

    body = "" if refused.status == 303 else f"{refused.status}\n"
    return PlainTextResponse(body, refused.status, dict(refused.headers))


async def _judge(rule: LoginGate, scope: Scope, *, everywhere: bool = False) -> Verdict:
    request = _facts(scope)
    if not everywhere and rule.is_public(request):
        return Admitted(None)
    session = scope.get("session")
    if not isinstance(session, Session):
        raise ConfigurationError(
            "LoginMiddleware: expected a session in the scope, got none; put it inside "
            "SessionMiddleware, and make public= of what is in skip="
        )
    verdict = rule.judge(request, session)
    if isinstance(verdict, Refused) or verdict.subject is None or rule.user is None:
        return verdict
    user = rule.user(verdict.subject)
    user = await user if inspect.isawaitable(user) else user
    if user is None:
        session.logout()
        return rule.refuse(request)
    scope["user"] = user
    return verdict


def _facts(scope: Scope) -> gate.Request:
    query = scope.get("query_string", b"").decode("latin-1")
    method, root = scope.get("method", ""), scope.get("root_path", "")
    return gate.Request(method, _path(scope), query, root, partial(_header, scope))


def _path(scope: Scope) -> str:
    """The path below what the app is mounted under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.encode("latin-1")
    found: bytes | None = next((v for k, v in scope["headers"] if k == wanted), None)
    return None if found is None else found.decode("latin-1")


def _peer(scope: Scope) -> Client:
    client = scope.get("client")
    return Client(client[0] if client else None, _header(scope, "user-agent"))


def _add_headers(message: Message, cookies: list[str]) -> None:
    # The message is replaced in place, as the specification lets middleware do; the list is not.
    message["headers"] = merge_bytes(message.get("headers", ()), cookies, vary=True)


async def _answer(
    refused: Refused, scope: Scope, send: Send, cookies: list[str] | None = None
) -> None:
    """A whole response of our own; a WebSocket's handshake gets it too, where it can."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        kind = "websocket.http.response"
    body = b"" if refused.status == 303 else f"{refused.status}\n".encode()
    headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in refused.headers]
    headers.append((b"content-type", b"text/plain; charset=utf-8"))
    headers.append((b"content-length", str(len(body)).encode()))
    headers = merge_bytes(headers, cookies or [], vary=True)
    await send({"type": f"{kind}.start", "status": refused.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else body
    await send({"type": f"{kind}.body", "body": body})


async def _dropped() -> None:
    """A message that follows an answer which was not the app's."""
