"""A response's body that is made while it goes out: its parts find `current()` as the app did.

The sessions are bound while a part is made and while the body is closed, and never in between:
there the server's own code runs, or another request. Once the body is exhausted or closed, `end`
is called, which says what was changed in place too late: `exchange.end`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar

from coatcheck import context

__all__ = ["AsyncStream", "Stream"]

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
