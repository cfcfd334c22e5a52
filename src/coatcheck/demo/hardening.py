"""Headers that every answer carries, and pages in the site's own design for bare answers."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coatcheck.demo.pages import render_bare

__all__ = ["PlainAnswers", "SecurityHeaders"]

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",  # WebSockets of this origin too (CSP 3, 6.7.2.8)
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


_OF_A_FILE = {200, 206, 304}
"""What is answered with a static file; else it is with a page of the site."""


class SecurityHeaders:
    """Adds the headers above; what is not a static file is kept in no cache at all.

    That is why the back button shows nothing after a logout.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                is_file = scope["path"].startswith("/static/") and message["status"] in _OF_A_FILE
                headers["Cache-Control"] = "no-cache" if is_file else "no-store"
            await send(message)

        await self.app(scope, receive, send_with_headers)


class PlainAnswers:
    """Shows people a page where a middleware inside answers in a word.

    `SessionMiddleware` does so with 503 in an outage, `CSRFMiddleware` with 403.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "text/html" in Headers(scope=scope).get("accept", ""):
            await self._watch(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def send_page(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_plain(message):
                replaced = True
                await _answer(message, scope, receive, send)
            elif not replaced:
                await send(message)

        await self.app(scope, receive, send_page)


def _is_plain(message: Message) -> bool:
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] in _SHOWN and kind.startswith("text/plain")


_SHOWN = {403: "cross-origin", 503: 503}
"""Which words of the page belong to the status."""


async def _answer(message: Message, scope: Scope, receive: Receive, send: Send) -> None:
    status: int = message["status"]
    page = render_bare("error.html", status=status, code=status, words=_SHOWN[status], detail="")
    retry = Headers(raw=message["headers"]).get("retry-after")
    if retry is not None:
        page.headers["Retry-After"] = retry
    await page(scope, receive, send)
