"""ASGI: Starlette, FastAPI, and any other app.

The session is opened before the app runs, and committed when the app sends the start of its
response, before that message goes on. A response that is a 5xx, and an exception that reaches the
middleware, keep nothing of the request but a `logout()`. Where the store was out of reach and the
app did not answer for that itself, the answer is 503.

A WebSocket has its session on connect: it is committed with `websocket.accept`, whose headers
carry the cookie. A handshake that is refused by a close can set no cookie, so it keeps only a
`logout()`, like an error. With `watch=True` an open socket, and a stream of events, end with their
session: `web.watched`.
"""

import asyncio
import inspect
import sys
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    MutableMapping,
)
from functools import partial, wraps
from typing import Any
from urllib.parse import unquote

from coatcheck import context, csrf, gate
from coatcheck.csrf import CrossOriginProtection
from coatcheck.errors import ConfigurationError
from coatcheck.gate import Admitted, LoginGate, Refused, Verdict, async_admit
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange, abandon
from coatcheck.web.forms import AsgiBody
from coatcheck.web.headers import READ, UNTOUCHED, Head, joined_cookie, merge_bytes
from coatcheck.web.watched import Watched

__all__ = ["CSRFMiddleware", "LoginMiddleware", "SessionMiddleware", "login_required"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SERVED = frozenset({"http", "websocket"})
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class SessionMiddleware:
    """Puts the request's session into `scope["session"]`, and commits it in time.

    `named` gives further sessions, in `scope["sessions"][name]` and `current(name)`. On paths
    that `skip` lists nothing is opened. `client` makes a `Client` of the scope, for device lists;
    by default the peer's address and its User-Agent. `sweep` is how often, in seconds, what
    expired is removed while the app's lifespan lasts; None leaves that to you. With `watch`, a
    WebSocket is closed with 4401 within a second when its (main) session ends, a response of
    text/event-stream ends too, and the messages that come count as activity.
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
        watch: bool = False,
    ) -> None:
        self.app = app
        self._watch = watch
        self._sessions = checked_sessions(AsyncSessions, sessions, named)
        self._skip = Patterns("SessionMiddleware(skip=…)", skip) or None
        self._client = client or peer
        self._sweep = sweep if sweep is None else checked_interval(sweep)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            async with sweeping(self._sessions, self._sweep):
                await self.app(scope, receive, send)
            return
        if kind not in _SERVED or (self._skip is not None and self._skip.match(_path(scope))):
            await self.app(scope, receive, send)
            return
        if "session" in scope and self._is_open(scope["session"]):
            await self.app(scope, receive, send)
            return
        header, client = joined_cookie(scope["headers"]), partial(self._client, scope)
        if header is None:  # which needs no coroutine
            exchange = AsyncExchange.fresh(self._sessions, client)
        else:
            exchange = await AsyncExchange.open(self._sessions, header, client)
        scope["session"] = exchange.session
        if len(self._sessions) > 1:
            scope["sessions"] = exchange.named
        watched = None
        if self._watch:
            watched = Watched(self._sessions[None], exchange.session, receive, send)
            receive, send = watched.receive, watched.send
        response = Outgoing(scope, send, exchange)
        bound = context.bind(exchange.opened)
        try:
            await self.app(scope, receive, response.send)
            if not response.started:
                await exchange.fail()
        except asyncio.CancelledError:
            await abandon(exchange)
            raise
        except Exception as error:
            if watched is not None and watched.caused(error):
                """The app was told, and stopped."""
            elif response.started or not await response.refused(error):
                raise
        finally:
            context.unbind(bound)
            if watched is not None:
                await watched.stop()
        exchange.end()

    def _is_open(self, found: object) -> bool:
        """Whether a middleware around this one has opened our session, and is to commit it."""
        if not isinstance(found, Session):
            return False
        return self._sessions[None]._began(found) and context.is_bound(found)


class Outgoing:
    """One request's answer on its way out; `send` is what the app gets."""

    __slots__ = ("_around", "_exchange", "_replaced", "_scope", "_send", "started")

    def __init__(self, scope: Scope, send: Send, exchange: AsyncExchange) -> None:
        self._scope = scope
        self._send = send
        self._exchange = exchange
        self._around = sys.exception()  # whoever calls the app may be handling one
        self._replaced = False  # by a 503: what the app still sends is dropped
        self.started = False

    def send(self, message: Message) -> Awaitable[None]:
        # A plain function that returns the server's awaitable: a body part costs one call.
        if self.started:
            return _dropped() if self._replaced else self._send(message)
        # Most responses have nothing to commit: they need no coroutine of ours.
        is_start = message["type"] in _STARTS
        head = self._exchange.settled(message.get("status", 101)) if is_start else None
        if head is None or head.refused is not None:
            return self._first(message)
        self.started = True
        return self._send(_with_headers(message, head) if head.vary else message)

    async def _first(self, message: Message) -> None:
        kind = message["type"]
        if kind in _STARTS:
            head = await self._exchange.respond(message.get("status", 101), self._cause())
            if head.refused is not None:
                await self._refuse(head.refused, head)
                return
            if head.vary:
                message = _with_headers(message, head)
            self.started = True
        elif kind == "websocket.close":
            if await self.refused(self._cause()):
                return
            self.started = True
        await self._send(message)

    def _cause(self) -> BaseException | None:
        """A framework that answers an error by itself does so while it handles the error."""
        error = sys.exception()
        return None if error is self._around else error

    async def refused(self, error: BaseException | None) -> bool:
        """The app raised before its response began: whether a 503 answers for it."""
        head = await self._exchange.fail(error)
        if head.refused is not None:
            await self._refuse(head.refused, head)
        return head.refused is not None

    async def _refuse(self, refused: Refused, head: Head) -> None:
        self.started = self._replaced = True
        await answer(refused, self._scope, self._send, head)


class CSRFMiddleware:
    """Refuses what other sites make a browser do, by a `CrossOriginProtection`.

    It belongs outside `SessionMiddleware`, where what it refuses costs no look into the store; with
    `tokens=True` inside, as the token is the session's. The token is read from the header
    `X-CSRF-Token`, or from the form; a body that a view reads itself reaches it whole.
    """

    def __init__(self, app: App, protection: CrossOriginProtection) -> None:
        self.app = app
        self.protection = protection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _SERVED:
            await self.app(scope, receive, send)
            return
        body = AsgiBody(scope["headers"], receive)
        asked, session = facts(scope), scope.get("session")
        refused = await csrf.async_check(self.protection, asked, session, body.token)
        if refused is not None:
            await answer(refused, scope, send, UNTOUCHED)
        else:
            await self.app(scope, body.receive, send)


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
                await answer(verdict, scope, send)
                return
        await self.app(scope, receive, send)


def login_required(
    gate: LoginGate,
) -> Callable[[Callable[..., Any]], Callable[..., Coroutine[Any, Any, Any]]]:
    """For a single view of Starlette's kind, `(request, …) -> response`: it must pass the gate.

    The gate's `public=` does not count here, and its login page is the site's, also for a view
    below a `Mount`. A plain view runs in a thread, as Starlette does it. A WebSocket that does not
    pass is closed with code 1008.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @wraps(view)
        async def guarded(*args: Any, **options: Any) -> Any:
            scope = _scope_among((*args, *options.values()))
            verdict = await _judge(gate, scope, everywhere=True)
            if isinstance(verdict, Refused):
                return _starlette_refusal(verdict, scope)
            if inspect.iscoroutinefunction(view):
                return await view(*args, **options)
            return await asyncio.to_thread(view, *args, **options)

        return guarded

    return decorate


def _scope_among(arguments: Iterable[object]) -> Scope:
    """Of the request, whatever the view calls it: FastAPI gives it by name."""
    from starlette.requests import HTTPConnection

    for each in arguments:
        if isinstance(each, HTTPConnection):
            return each.scope
    raise ConfigurationError(
        "login_required: expected the request among the view's arguments, got none; give the view "
        "a parameter for the request, or in FastAPI use LoggedIn"
    )


def _starlette_refusal(refused: Refused, scope: Scope) -> Any:
    """FastAPI takes nothing else for a response; whose views are guarded has Starlette."""
    from starlette.exceptions import WebSocketException
    from starlette.responses import PlainTextResponse

    if scope["type"] == "websocket":
        raise WebSocketException(1008, "log in first")
    return PlainTextResponse(refused.body, refused.status, dict(refused.headers))


async def _judge(rule: LoginGate, scope: Scope, *, everywhere: bool = False) -> Verdict:
    request = facts(scope, everywhere=everywhere)
    verdict = await async_admit(rule, request, scope.get("session"), everywhere=everywhere)
    if isinstance(verdict, Admitted) and verdict.user is not None:
        scope["user"] = verdict.user
    return verdict


def facts(scope: Scope, *, everywhere: bool = False) -> gate.Request:
    """What the gate looks at. An app's paths are those below what it is mounted under.

    `everywhere` is for a single view: its paths are the site's, as a Mount may only group routes.
    """
    mount = "app_root_path" if everywhere and "app_root_path" in scope else "root_path"
    query = scope.get("query_string", b"").decode("latin-1")
    method = "" if scope["type"] == "websocket" else scope["method"]
    root, header = scope.get(mount, ""), partial(_header, scope)
    return gate.Request(method, _path(scope, mount), query, root, header)


def _path(scope: Scope, mount: str = "root_path") -> str:
    """The path below what is mounted there."""
    path: str = scope["path"]
    if _is_routed_by_litestar(scope):
        if not getattr(scope["route_handler"], "is_mount", False):
            return path  # the root is off
        path = unquote((scope.get("raw_path") or b"").decode("latin-1"))  # so is the mount
    root: str = scope.get(mount, "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def _is_routed_by_litestar(scope: Scope) -> bool:
    """Whether Litestar, whose middleware stands behind its router, runs us; and not an app that is
    mounted in it, which has the rest of the path for its own."""
    return "route_handler" in scope and hasattr(scope.get("app"), "asgi_router")


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.encode("latin-1")
    found: list[bytes] = [v for k, v in scope["headers"] if k == wanted]
    return b", ".join(found).decode("latin-1") if found else None


def peer(scope: Scope) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    client = scope.get("client")
    return Client(client[0] if client else None, _header(scope, "user-agent"))


def _with_headers(message: Message, head: Head) -> Message:
    # Another message: a cache inside, such as Litestar's, may keep the app's and give it to others.
    return {**message, "headers": merge_bytes(message.get("headers", ()), head)}


async def answer(refused: Refused, scope: Scope, send: Send, head: Head = READ) -> None:
    """A whole response of our own; a WebSocket's handshake gets it too, where it can."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        kind = "websocket.http.response"
    body = refused.body.encode()
    headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in refused.headers]
    headers.append((b"content-type", b"text/plain; charset=utf-8"))
    headers.append((b"content-length", str(len(body)).encode()))
    headers = merge_bytes(headers, head)
    await send({"type": f"{kind}.start", "status": refused.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else body
    await send({"type": f"{kind}.body", "body": body})


async def _dropped() -> None:
    """A message that follows an answer which was not the app's."""
