"""Who may go on: the login gate, for the app or for one responder, and what other sites send."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import falcon
import falcon.asgi

from coatcheck import csrf
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, Verdict, admit, async_admit
from coatcheck.gate import Request as Facts

__all__ = [
    "AsyncCSRFMiddleware",
    "AsyncLoginMiddleware",
    "CSRFMiddleware",
    "LoginMiddleware",
    "async_login_required",
    "login_required",
]


class CSRFMiddleware:
    """Refuses what other sites send, by a `CrossOriginProtection`.

    Listed before `SessionMiddleware`, where what it refuses costs no look into the store; with
    `tokens=True` after. A URL-encoded form is parsed as by `req.get_media()`; with any other body
    the token comes in the header.
    """

    def __init__(self, protection: CrossOriginProtection) -> None:
        self.protection = protection

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        def field() -> str | None:
            return _field(req.get_media(default_when_empty=None)) if _is_form(req) else None

        _refuse(csrf.check(self.protection, _facts(req), _session_of(req), field))


class AsyncCSRFMiddleware:
    """`CSRFMiddleware` for `falcon.asgi.App`; a WebSocket that it refuses is closed."""

    def __init__(self, protection: CrossOriginProtection) -> None:
        self.protection = protection

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await self._check(req, _facts(req))

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        await self._check(req, replace(_facts(req), method=""))  # over HTTP/2 nothing tells of it

    async def _check(self, req: falcon.asgi.Request, asked: Facts) -> None:
        async def field() -> str | None:
            return _field(await req.get_media(default_when_empty=None)) if _is_form(req) else None

        _refuse(await csrf.async_check(self.protection, asked, _session_of(req), field))


def _is_form(req: falcon.Request) -> bool:
    kind = (req.content_type or "").partition(";")[0].strip().lower()
    return kind == falcon.MEDIA_URLENCODED


def _field(media: Any) -> str | None:
    found = media.get(csrf.FIELD) if isinstance(media, dict) else None
    return found if isinstance(found, str) else None


def _refuse(refused: Refused | None) -> None:
    if refused is not None:
        raise falcon.HTTPForbidden(description=refused.reason, headers=dict(refused.headers))


class LoginMiddleware:
    """Lets only logged-in users through, by a `LoginGate`; listed after `SessionMiddleware`.

    Where the gate has `user=`, what it loads is `req.context.user`.
    """

    def __init__(self, gate: LoginGate) -> None:
        self.gate = gate

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        _obey(req, admit(self.gate, _facts(req), _session_of(req)))


class AsyncLoginMiddleware:
    """`LoginMiddleware` for `falcon.asgi.App`; a WebSocket that it refuses is closed."""

    def __init__(self, gate: LoginGate) -> None:
        self.gate = gate

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        _obey(req, await async_admit(self.gate, _facts(req), _session_of(req)))

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        _obey(req, await async_admit(self.gate, _facts(req), _session_of(req)))


def login_required(
    gate: LoginGate,
) -> Callable[[falcon.Request, falcon.Response, object, dict[str, Any]], None]:
    """A hook for `@falcon.before(…)`: the responder, or each of the resource's, must pass the gate.

    The gate's `public=` does not count here.
    """

    def hook(
        req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        _obey(req, admit(gate, _facts(req), _session_of(req), everywhere=True))

    return hook


def async_login_required(
    gate: LoginGate,
) -> Callable[[falcon.asgi.Request, falcon.asgi.Response, object, dict[str, Any]], Awaitable[None]]:
    """`login_required` for responders of `falcon.asgi.App`, `on_websocket` included."""

    async def hook(
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        params: dict[str, Any],
    ) -> None:
        _obey(req, await async_admit(gate, _facts(req), _session_of(req), everywhere=True))

    return hook


def _obey(req: falcon.Request, verdict: Verdict) -> None:
    """Falcon is short-circuited by an exception: an error, which the app renders as its others."""
    if isinstance(verdict, Refused):
        kind = falcon.HTTPError if verdict.status >= 400 else falcon.HTTPStatus
        raise kind(verdict.status, headers=dict(verdict.headers))
    if verdict.user is not None:
        req.context.user = verdict.user


def _session_of(req: falcon.Request) -> object:
    return getattr(req.context, "session", None)


def _facts(req: falcon.Request) -> Facts:
    """What the gate looks at: the path that Falcon routes, which a middleware may have changed.

    Under ASGI that has the root in it.
    """
    root = req.root_path
    if req.path == root or req.path.startswith(root + "/"):
        root = ""
    return Facts(req.method, req.path, req.query_string, root, req.get_header)
