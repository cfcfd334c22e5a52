"""Bodies under ASGI: the request ends with its body, and events end with their session."""

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any

import falcon.asgi

from coatcheck.watching import Watch
from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.streams import AsyncStream, WatchedStream
from coatcheck.web.watched import are_events

__all__ = ["end_with_body"]

_BLOCK = 8 * 1024
"""How many bytes of a file are read at a time, as Falcon does it."""


def end_with_body(resp: falcon.asgi.Response, exchange: AsyncExchange, *, watch: bool) -> None:
    """The request ends where its body does; with `watch` events end where the session does."""
    events = partial(WatchedStream, Watch(*exchange.main)) if watch else AsyncStream
    if isinstance(resp.sse, AsyncIterable):
        resp.sse = events(resp.sse, exchange.opened, exchange.end)
    elif watch and resp.stream is not None and are_events(resp.content_type):
        resp.stream = events(_parts_of(resp.stream), exchange.opened, exchange.end)
    elif isinstance(resp.stream, AsyncIterable) and not hasattr(resp.stream, "read"):
        resp.stream = AsyncStream(resp.stream, exchange.opened, exchange.end)
    else:
        exchange.end()


def _parts_of(stream: Any) -> AsyncIterable[bytes]:
    """Falcon reads from a file, and iterates what is none."""
    return _read(stream) if hasattr(stream, "read") else stream


async def _read(file: Any) -> AsyncIterator[bytes]:
    try:
        while part := await file.read(_BLOCK):
            yield part
    finally:
        if hasattr(file, "close"):
            await file.close()
