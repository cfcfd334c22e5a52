"""Who may go on: the login gate, for the app or for one handler, and what other sites send."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

from sanic import HTTPResponse, Request, Sanic

from coatcheck import csrf
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, async_admit
from coatcheck.gate import Request as Facts
from coatcheck.paths import as_routed
from coatcheck.web.asgi import answer
from coatcheck.web.headers import UNTOUCHED
from coatcheck.web.sanic.sockets import close
from coatcheck.web.sanic.visit import visit_of

__all__ = ["OUTERMOST", "admit_socket", "login_required", "setup_csrf", "setup_gate"]

OUTERMOST = 1_000
"""A priority of Sanic's: the highest is first with the request and last with the response."""

_GATES = "_coatcheck_gates"
"""An attribute of a handler that `login_required` has guarded."""


def setup_csrf(app: Sanic[Any, Any], protection: CrossOriginProtection) -> None:
    """Refuse what other sites send to the app, WebSockets too, before the session is opened.

    With `tokens=True` after that: then call it after `setup`, and before `setup_gate`. A handler
    that streams its request's body takes the token in the header.
    """

    async def check(request: Request[Any, Any]) -> HTTPResponse | None:
        def field() -> str | None:
            found: str | None = request.form.get(csrf.FIELD) if request.form else None
            return found

        session = getattr(request.ctx, "session", None)
        refused = csrf.check(protection, _facts(request), session, field)
        return None if refused is None else _plain(request, refused)

    priority = OUTERMOST - 1 if protection.tokens else OUTERMOST + 1
    app.middleware(check, "request", priority=priority)


def setup_gate(app: Sanic[Any, Any], gate: LoginGate) -> None:
    """Let only logged-in users through, by a `LoginGate`. Call `setup` as well.

    Where the gate has `user=`, what it loads is `request.ctx.user`.
    """

    async def check(request: Request[Any, Any]) -> HTTPResponse | None:
        return await _refusal(gate, request)

    app.middleware(check, "request", priority=OUTERMOST - 1)


def login_required(
    gate: LoginGate,
) -> Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]:
    """For a single handler, `(request, …) -> response`, or that of a WebSocket: it must pass the
    gate, whose `public=` does not count here. For a class of views, in its `decorators`.

    A WebSocket is refused in the handshake. Between this and Sanic's own decorator, put none that
    does not keep a function's attributes, as `functools.wraps` does: then the handshake succeeds,
    and the socket is closed instead.
    """

    def decorate(handler: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        @wraps(handler)
        async def guarded(request: Request[Any, Any], *args: Any, **options: Any) -> Any:
            visit = visit_of(request)
            if visit is None or gate not in visit.passed:
                refusal = await _refusal(gate, request, everywhere=True)
                if refusal is not None:
                    if _socket_handler(request) is not None:
                        await close(args[0], 1008, "log in first")
                    return refusal
            response = handler(request, *args, **options)
            return await response if inspect.isawaitable(response) else response

        setattr(guarded, _GATES, (gate, *getattr(handler, _GATES, ())))
        return guarded

    return decorate


async def admit_socket(request: Request[Any, Any]) -> HTTPResponse | None:
    """A request middleware: ask the gates of a WebSocket's handler, before Sanic answers the
    handshake and calls it."""
    gates = getattr(_socket_handler(request), _GATES, ())
    for gate in gates:
        refusal = await _refusal(gate, request, everywhere=True)
        if refusal is not None:
            return refusal
    if gates:
        visit = visit_of(request)
        assert visit is not None  # else the gate has raised
        visit.passed = gates
    return None


def _socket_handler(request: Request[Any, Any]) -> Any:
    """The app's own, where it is a WebSocket's: Sanic's is a partial around it."""
    handler: Any = None if request.route is None else request.route.handler
    return handler.args[0] if hasattr(handler, "is_websocket") else None


async def _refusal(
    gate: LoginGate, request: Request[Any, Any], *, everywhere: bool = False
) -> HTTPResponse | None:
    session = getattr(request.ctx, "session", None)
    verdict = await async_admit(gate, _facts(request), session, everywhere=everywhere)
    if isinstance(verdict, Refused):
        return _plain(request, verdict)
    if verdict.user is not None:
        request.ctx.user = verdict.user
    return None


def _plain(request: Request[Any, Any], refused: Refused) -> HTTPResponse:
    if _scope_of(request).get("type") == "websocket":
        return _HandshakeAnswer(request, refused)
    headers, kind = dict(refused.headers), "text/plain; charset=utf-8"
    return HTTPResponse(refused.body, refused.status, headers, kind)


class _HandshakeAnswer(HTTPResponse):
    """To a WebSocket under ASGI; Sanic itself only knows how to accept it."""

    __slots__ = ("_refused", "_transport")

    def __init__(self, request: Request[Any, Any], refused: Refused) -> None:
        super().__init__(refused.body, refused.status, dict(refused.headers))
        self._refused = refused
        self._transport: Any = request.transport

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        headers = tuple((name, str(value)) for name, value in self.headers.items())
        refused = Refused(self.status, headers, self._refused.reason)
        await answer(refused, self._transport.scope, self._transport.send, UNTOUCHED)


def _scope_of(request: Request[Any, Any]) -> Mapping[str, Any]:
    """Empty on Sanic's own server."""
    return getattr(request.transport, "scope", {})


def _facts(request: Request[Any, Any]) -> Facts:
    """What a rule looks at."""

    def header(name: str) -> str | None:
        return ", ".join(request.headers.getall(name, [])) if name in request.headers else None

    method = "" if _scope_of(request).get("type") == "websocket" else request.method
    return Facts(method, as_routed(request.path), request.query_string, "", header)
