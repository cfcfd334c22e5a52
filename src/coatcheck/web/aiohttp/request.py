"""A request: its sessions, its user, and the facts that rules look at."""

from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from coatcheck import gate
from coatcheck.cookie import join
from coatcheck.gate import Refused
from coatcheck.session import Client, Session
from coatcheck.web.exchange import AsyncExchange

__all__ = [
    "EXCHANGE",
    "HEAD",
    "USER",
    "cookies_of",
    "facts",
    "get_session",
    "get_user",
    "path_of",
    "peer",
    "response_of",
]


def _key(name: str, kind: type) -> Any:
    """A key of the request's storage; aiohttp knew nothing but texts before 3.14."""
    return web.RequestKey(name, kind) if hasattr(web, "RequestKey") else name


EXCHANGE = _key("coatcheck.exchange", AsyncExchange)
HEAD = _key("coatcheck.head", object)
USER = _key("coatcheck.user", object)


def get_session(request: web.Request, name: str | None = None) -> Session:
    """The request's session, or the one of that name from `named=`. Not awaited.

    Raises LookupError where there is none: on a path in `skip=`, and without the middleware.
    """
    exchange = request.get(EXCHANGE)
    if exchange is None:
        raise LookupError(
            "get_session(): expected a request with a session, got none; add setup(app, sessions), "
            "and call it on a path that is not in its skip="
        )
    if name not in exchange.opened:
        raise LookupError(
            f"get_session(): expected one of {sorted(exchange.named)}, got {name!r}; "
            "add it to named="
        )
    found: Session = exchange.opened[name]
    return found


def get_user(request: web.Request) -> Any:
    """What the gate's `user=` loaded for this request, or None."""
    return request.get(USER)


def facts(request: web.Request) -> gate.Request:
    """What the gate looks at. A sub-app's prefix is part of the path."""
    query = request.rel_url.raw_query_string

    def header(name: str) -> str | None:
        return ", ".join(request.headers.getall(name, ())) if name in request.headers else None

    return gate.Request(request.method, path_of(request), query, "", header)


def path_of(request: web.Request) -> str:
    """Decoded, but for a %2F and a %25: aiohttp's routes tell them from a slash and a percent."""
    return request.rel_url.path_safe


def cookies_of(request: web.Request) -> bytes | None:
    """Of all its Cookie headers, or None without any."""
    return join(value for name, value in request.raw_headers if name.lower() == b"cookie")


def peer(request: web.Request) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(request.remote, request.headers.get("User-Agent"))


def response_of(refused: Refused) -> web.Response:
    """What a refusal is to aiohttp."""
    headers = CIMultiDict(refused.headers)
    return web.Response(status=refused.status, headers=headers, text=refused.body)
