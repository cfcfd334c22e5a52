"""What a response of Django's gets from its sessions."""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from http.cookies import Morsel
from typing import Any

from django.http import HttpResponse  # type: ignore[import-untyped]

from coatcheck import context
from coatcheck.gate import Refused
from coatcheck.sessions import AsyncSessions
from coatcheck.watching import Watch
from coatcheck.web.exchange import AsyncExchange, Exchange, Head
from coatcheck.web.headers import merge_str
from coatcheck.web.streams import AsyncStream, Stream, WatchedStream
from coatcheck.web.watched import are_events

__all__ = ["add", "attend", "refusal"]


def add(request: Any, response: Any, head: Head) -> None:
    """Give the response what it owes to its sessions."""
    if not head.vary:
        return
    merged = merge_str(list(response.items()), head._replace(cookies=()))
    if head.cookies:
        # Django 5.1's cache keeps such a response where the request had some cookie.
        request._cache_update_cache = False
        merged = merge_str(merged, Head(head.cookies, False))
    for name, _ in list(response.items()):
        del response[name]
    kept = len(merged) - len(head.cookies)
    for name, value in merged[:kept]:
        response[name] = value
    for _, value in merged[kept:]:
        cookie = _Cookie(value)
        response.cookies[cookie.key] = cookie


class _Cookie(Morsel[str]):
    """A Set-Cookie header to the letter, and taken apart for those who look."""

    def __init__(self, header: str) -> None:
        super().__init__()
        self._header = header
        pair, *attributes = header.split("; ")
        name, _, value = pair.partition("=")
        self.set(name, value, value)
        for attribute in attributes:
            name, _, value = attribute.partition("=")
            if self.isReservedKey(name):
                self[name] = value or True

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._header,)

    def OutputString(self, attrs: Any = None) -> str:  # noqa: N802
        return self._header

    def output(self, attrs: Any = None, header: str = "Set-Cookie:") -> str:
        return f"{header} {self._header}".lstrip()


def refusal(refused: Refused, instead_of: Any = None) -> Any:
    """A whole response of our own; it closes what the one that it replaces would have closed."""
    answer = HttpResponse(refused.body, "text/plain; charset=utf-8", refused.status)
    for name, value in refused.headers:
        answer[name] = value
    if instead_of is not None:
        answer._resource_closers.extend(instead_of._resource_closers)
    return answer


def attend(
    response: Any, exchange: Exchange | AsyncExchange, watching: AsyncSessions | None
) -> None:
    """While the parts of a stream come, `current()` is at hand; what is changed in place is lost by
    then, so say so. A file is left to the server, which may have a faster way to send it. Events
    end where the session does, if there is something to watch it by."""
    if not response.streaming or getattr(response, "file_to_stream", None) is not None:
        return
    # What a stream that is left early still does is a part of the request.
    closers = [partial(_close, exchange, close) for close in response._resource_closers]
    response._resource_closers[:] = closers
    parts = response.streaming_content
    if response.is_async:
        kind: Callable[..., AsyncStream[bytes]] = AsyncStream
        if watching is not None and are_events(response.get("Content-Type")):
            kind = partial(WatchedStream, Watch(watching, exchange.session))
        response.streaming_content = _parts_of(kind(parts, exchange.opened, exchange.end))
    else:
        response.streaming_content = Stream(parts, exchange.opened, exchange.end)


async def _parts_of(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Django awaits no close(). A watch begins in the task that sends the stream, and ends with it;
    that of a middleware may be over before."""
    async for part in stream:
        yield part


def _close(exchange: Exchange | AsyncExchange, close: Callable[[], None]) -> None:
    bound = context.bind(exchange.opened)
    try:
        close()
    finally:
        context.unbind(bound)
