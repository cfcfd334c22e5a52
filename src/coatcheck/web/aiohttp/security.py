"""The login gate, and what other sites may not send."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from coatcheck import csrf
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import Admitted, LoginGate, Refused, Verdict, async_admit
from coatcheck.web.aiohttp.request import EXCHANGE, USER, facts, response_of

__all__ = ["csrf_middleware", "login_middleware", "login_required"]


def csrf_middleware(protection: CrossOriginProtection) -> Middleware:
    """A middleware that refuses what other sites send, WebSockets too.

    It comes before `session_middleware`, where what it refuses costs no look into the store; with
    `tokens=True` after. A form is parsed as by `request.post()`; where the handler reads the parts
    of a multipart body by itself, the token comes in the header.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        async def field() -> str | None:
            try:
                found = (await request.post()).get(csrf.FIELD)
            except (ValueError, LookupError, RuntimeError):  # what aiohttp's parsers raise
                return None
            return found if isinstance(found, str) else None

        exchange = request.get(EXCHANGE)
        session = None if exchange is None else exchange.session
        refused = await csrf.async_check(protection, facts(request), session, field)
        return await handler(request) if refused is None else response_of(refused)

    return middleware


def login_middleware(gate: LoginGate) -> Middleware:
    """A middleware that lets only those through whom the gate admits.

    It comes after `session_middleware`. What the gate's `user=` loads is `get_user(request)`.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        verdict = await _judge(gate, request)
        return response_of(verdict) if isinstance(verdict, Refused) else await handler(request)

    return middleware


def login_required(
    gate: LoginGate,
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """For a single handler: a function, a method, or a method of a `web.View`.

    It must pass the gate, whose `public=` does not count here.
    """

    def decorate(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(handler)
        async def guarded(*args: Any) -> Any:
            request = args[-1].request if isinstance(args[-1], web.View) else args[-1]
            verdict = await _judge(gate, request, everywhere=True)
            return response_of(verdict) if isinstance(verdict, Refused) else await handler(*args)

        return guarded

    return decorate


async def _judge(rule: LoginGate, request: web.Request, *, everywhere: bool = False) -> Verdict:
    exchange = request.get(EXCHANGE)
    session = None if exchange is None else exchange.session
    verdict = await async_admit(rule, facts(request), session, everywhere=everywhere)
    if isinstance(verdict, Admitted) and verdict.user is not None:
        request[USER] = verdict.user
    return verdict
