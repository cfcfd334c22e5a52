"""The login gate, and what other sites may not send."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from quart import Quart, Response, current_app, g, request

from coatcheck import context, csrf
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, async_admit
from coatcheck.web.asgi import facts
from coatcheck.web.pallets import refuse
from coatcheck.web.quart.visits import at_hand, opened

__all__ = ["login_required", "require_login", "setup_csrf"]


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
        session, asked = (opened() or {}).get(None), facts(at_hand().scope)
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
    session = (opened() or {}).get(None)
    verdict = await async_admit(gate, facts(at_hand().scope), session, everywhere=everywhere)
    if isinstance(verdict, Refused):
        return _response(verdict)
    if verdict.user is not None:
        g.user = verdict.user
    return None


def _response(refused: Refused) -> Response:
    response = current_app.response_class()
    refuse(response, refused)
    return response
