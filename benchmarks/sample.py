"""What every row works on: one session, one request, one response."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["BODY", "VALUES", "App", "Message", "Scope", "receive", "request", "respond", "send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

VALUES: dict[str, Any] = {
    "user": {"id": 4217, "name": "Ada Lovelace", "email": "ada@example.org", "staff": False},
    "visits": 17,
    "locale": "en-GB",
    "theme": "dark",
    "cart": [{"sku": "TEA-0042", "count": 2}, {"sku": "CUP-0007", "count": 1}],
    "recent": [
        "/shop/teas/darjeeling",
        "/shop/teas/assam",
        "/shop/cups/porcelain",
        "/shop/sale/teapots",
    ],
    "return_to": "/shop/checkout?step=address&coupon=SPRING-2026&utm_source=newsletter",
}
"""The session: 7 keys, 404 bytes as JSON."""

BODY = b"ok"

_HEADERS = [
    (b"host", b"shop.example.org"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br"),
]


def cookie_header(cookie: str) -> bytes:
    """A Cookie header as browsers send it: ours stands between two others."""
    return f"_ga=GA1.2.1234567890.1700000000; {cookie}; theme=dark".encode("ascii")


def request(cookie: str | None) -> Scope:
    """The ASGI scope of a GET; without a cookie it has no Cookie header."""
    headers = [*_HEADERS, (b"cookie", cookie_header(cookie))] if cookie else [*_HEADERS]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/shop",
        "raw_path": b"/shop",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 52_000),
        "server": ("127.0.0.1", 8000),
    }


async def respond(send: Send) -> None:
    """The response of every row; its headers are new ones, since middleware may change them."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    """The server's side, which drops what it gets."""
