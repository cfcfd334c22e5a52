"""Streams of events that end with their session."""

import asyncio
from typing import Any

from aiohttp import ClientConnectionResetError

from coatcheck.web.watched import REASON, Guard

__all__ = ["Events"]


class Events:
    """A stream of events in the hands of a request's writer, until its session is over."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._write, self._write_eof = writer.write, writer.write_eof
        self._turn = asyncio.Lock()
        self._is_whole = False

    def begin(self, guard: Guard) -> None:
        self._over = guard.over
        self._writer.write, self._writer.write_eof = self.write, self.write_eof

    async def write(self, chunk: Any, **options: Any) -> None:
        async with self._turn:
            self._check()
            await self._write(chunk, **options)

    async def write_eof(self, chunk: bytes = b"") -> None:
        async with self._turn:
            self._check()
            self._is_whole = True
            await self._write_eof(chunk)

    async def end(self) -> None:
        """The client gets the end. To the app, and to aiohttp, it has gone then."""
        async with self._turn:
            if not self._is_whole:
                await self._write_eof()
                self._writer.transport.close()  # the end of a response without chunks (HTTP/1.0)

    def _check(self) -> None:
        if self._over.done():
            raise ClientConnectionResetError(REASON)
