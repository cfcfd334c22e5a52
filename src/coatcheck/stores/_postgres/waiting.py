"""Waiting for a socket, in a thread or in a task.

What is waited for comes from a generator that yields a socket and what it must be ready for, and
that goes on when it is. The limit is one for the whole generator. What is there when the time is up
still counts, since a thread or an event loop may have been busy with other work.
"""

import asyncio
import select
import time
from collections.abc import Generator
from typing import TypeAlias, TypeVar

__all__ = ["READ", "WRITE", "Wait", "Waits", "async_drive", "drive", "is_readable"]

T = TypeVar("T")

READ, WRITE = 1, 2
Wait: TypeAlias = tuple[int, int]
Waits: TypeAlias = Generator[Wait, None, T]


def is_readable(socket: int) -> bool:
    """Whether there is something to read at this moment, an end included."""
    return _wait_for((socket, READ), 0)


def drive(waits: Waits[T], seconds: float) -> T:
    """Run it to its end in this thread; raises TimeoutError where that takes longer."""
    deadline = time.monotonic() + seconds
    try:
        wait = _first(waits, seconds)
        while _wait_for(wait, max(deadline - time.monotonic(), 0)):
            wait = waits.send(None)
        raise TimeoutError
    except StopIteration as done:
        answer: T = done.value
        return answer
    finally:
        waits.close()


async def async_drive(waits: Waits[T], seconds: float) -> T:
    """`drive`, in a task."""
    try:
        wait = _first(waits, seconds)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await _async_wait_for(wait)
                    wait = waits.send(None)
        except TimeoutError:
            while _wait_for(wait, 0):
                wait = waits.send(None)
            raise
    except StopIteration as done:
        answer: T = done.value
        return answer
    finally:
        waits.close()


def _first(waits: Waits[T], seconds: float) -> Wait:
    """Begin, where there is any time."""
    if seconds <= 0:
        raise TimeoutError
    return next(waits)


def _wait_for(wait: Wait, seconds: float) -> bool:
    socket, what = wait
    if not hasattr(select, "poll"):  # Windows, where `select` has no limit of file numbers
        reading = [socket] if what & READ else []
        writing = [socket] if what & WRITE else []
        return any(select.select(reading, writing, reading or writing, seconds))
    poll = select.poll()
    reads, writes = what & READ and select.POLLIN, what & WRITE and select.POLLOUT
    poll.register(socket, reads | writes)
    return bool(poll.poll(-(-seconds * 1000 // 1)))


async def _async_wait_for(wait: Wait) -> None:
    socket, what = wait
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        if what & READ:
            loop.add_reader(socket, _wake, ready)
        if what & WRITE:
            loop.add_writer(socket, _wake, ready)
        await ready
    finally:
        loop.remove_reader(socket)
        loop.remove_writer(socket)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
