"""A response's body that is made while it goes out: its parts find `current()` as the app did.

The sessions are bound while a part is made and while the body is closed, and never in between:
there the server's own code runs, or another request. Once the body is exhausted or closed, `end`
is called, which says what was changed in place too late: `exchange.end`.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, Self, TypeVar, cast

from coatcheck import context
from coatcheck.watching import Watch
from coatcheck.web.watched import stop_with, this_task

__all__ = ["AsyncStream", "Stream", "WatchedStream"]

T = TypeVar("T")

_END: Any = object()


class _Bound:
    """The sessions of a body, and its end."""

    def __init__(self, sessions: context.Bound, end: Callable[[], None]) -> None:
        self._sessions = sessions
        self._end: Callable[[], None] | None = end

    @contextmanager
    def _at_hand(self) -> Iterator[None]:
        bound = context.bind(self._sessions)
        try:
            yield
        finally:
            context.unbind(bound)

    def _finish(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end()


class Stream(_Bound, Generic[T]):
    """The parts of a body, for a server that closes what it iterated (PEP 3333)."""

    def __init__(
        self, parts: Iterable[T], sessions: context.Bound, end: Callable[[], None]
    ) -> None:
        super().__init__(sessions, end)
        self._parts = parts
        self._made: Iterator[T]

    def __iter__(self) -> Self:
        with self._at_hand():
            self._made = iter(self._parts)
        return self

    def __next__(self) -> T:
        with self._at_hand():
            part = next(self._made, _END)
        if part is _END:
            self._finish()
            raise StopIteration
        return part

    def close(self) -> None:
        """The response is over, whether all of it went out or not."""
        if hasattr(self._parts, "close"):
            with self._at_hand():
                self._parts.close()
        self._finish()


class AsyncStream(_Bound, Generic[T]):
    """The parts of a body that is iterated asynchronously, for a server that may close it."""

    def __init__(
        self, parts: AsyncIterable[T], sessions: context.Bound, end: Callable[[], None]
    ) -> None:
        super().__init__(sessions, end)
        self._parts = parts
        self._made: AsyncIterator[T]

    def __aiter__(self) -> Self:
        with self._at_hand():
            self._made = aiter(self._parts)
        return self

    async def __anext__(self) -> T:
        with self._at_hand():
            part = await anext(self._made, _END)
        if part is _END:
            self._finish()
            raise StopAsyncIteration
        return part

    async def close(self) -> None:
        """The response is over, whether all of it went out or not."""
        if hasattr(self._parts, "close"):
            with self._at_hand():
                await self._parts.close()
        self._finish()


class WatchedStream(AsyncStream[T]):
    """`AsyncStream` of events that end with their session.

    Whoever makes an event is then cancelled where they wait, as by a time limit, and the body is
    exhausted. It is watched from its first step until it is closed. Where a server closes nothing
    that it stops to iterate, the end of its task does.
    """

    def __init__(
        self,
        watch: Watch,
        parts: AsyncIterable[T],
        sessions: context.Bound,
        end: Callable[[], None],
    ) -> None:
        super().__init__(parts, sessions, end)
        self._watch = watch
        self._leave: Callable[[], object] | None = None

    def __aiter__(self) -> Self:
        super().__aiter__()
        self._watch.start()
        self._leave = stop_with(this_task(), self.close)
        return self

    async def __anext__(self) -> T:
        over = self._watch.over
        part = _END if over.done() else await self._next()
        if part is _END or over.done():
            await self.close()
            raise StopAsyncIteration
        return part

    async def _next(self) -> T:
        """`_END` where there is none, or where the session is over first."""
        try:
            async with asyncio.timeout(None) as limit:
                return await self._within(limit)
        except StopAsyncIteration:
            return cast("T", _END)
        except TimeoutError:
            if not limit.expired():
                raise
            return cast("T", _END)

    async def _within(self, limit: asyncio.Timeout) -> T:
        def interrupt(_: object) -> None:
            with suppress(RuntimeError):  # the part was made just now
                limit.reschedule(0)

        self._watch.over.add_done_callback(interrupt)
        try:
            return await super().__anext__()
        finally:
            self._watch.over.remove_done_callback(interrupt)

    async def close(self) -> None:
        leave, self._leave = self._leave, None
        if leave is None:
            return
        leave()
        try:
            await self._close_made()
            await super().close()
        finally:
            await self._watch.stop()

    async def _close_made(self) -> None:
        """A generator has no `close`, and may wait at its `yield`."""
        if hasattr(self._made, "aclose"):
            with self._at_hand():
                await self._made.aclose()
