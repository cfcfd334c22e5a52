"""Connections to one Memcached server, for threads and for event loops alike.

A connection is a bare socket. Between two calls it belongs to no thread and to no event loop, so
whichever comes next may take it, and nothing is left behind in a loop that was closed. Whoever
takes one is alone with it until the last answer is read. A connection whose call failed, was
cancelled or took too long is closed and never put back: its late answer would be the next call's.

Before an idle connection is used it is looked at: where the server has gone away meanwhile, its end
is there to be read, and another connection is opened instead. One that was idle for long is not
used either, since a firewall may have forgotten it without a word.

The child of a fork forgets what its parent opened. To close a descriptor tells the server nothing
as long as the parent has it too.
"""

import asyncio
import os
import queue
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any
from weakref import WeakSet

__all__ = ["Link", "Pool", "connect", "connect_async", "left"]

_TRUSTED = 60.0
"""Seconds after which an idle connection may have been forgotten on its way."""

_Where = tuple[Any, ...]


class Link(socket.socket):
    """One connection, to be closed or put back by whoever took it."""

    __slots__ = ("used_at",)

    def __init__(self, place: _Where) -> None:
        super().__init__(*place[:3])
        self.used_at = time.monotonic()
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def is_fit(self) -> bool:
        """Whether nothing has come since its last answer, neither an end nor a late word."""
        if time.monotonic() - self.used_at > _TRUSTED:
            return False
        try:
            self.setblocking(False)
            self.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def __del__(self) -> None:
        if self.fileno() >= 0:
            self.close()  # without the warning that a socket dropped open is worth


class Pool:
    """The connections to one server that are idle, and `slots` for so many callers at a time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self.slots = threading.Semaphore(self._size)
        self._idle: deque[Link] = deque()

    def take(self) -> Link | None:
        """The connection that was used last, if it is fit; None where one is to be opened."""
        with suppress(IndexError):
            while True:
                link = self._idle.pop()
                if link.is_fit():
                    return link
                link.close()
        return None

    def put(self, link: Link) -> None:
        """Put back one that has nothing more to tell."""
        link.used_at = time.monotonic()
        self._idle.append(link)
        if len(self._idle) > self._size:
            self._close_one()

    def close(self) -> None:
        """Close what is idle; what is in use is closed or put back by who uses it."""
        while self._idle:
            self._close_one()

    def _close_one(self) -> None:
        with suppress(IndexError):
            self._idle.popleft().close()


def left(until: float) -> float:
    """Seconds until then; raises TimeoutError where that is past."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


def connect(host: str, port: int, until: float) -> Link:
    """A new connection to the first of the host's addresses that takes one; OSError where none."""
    places = _known(host, port) or _look_up(host, port, until)
    for number, place in enumerate(places, 1):
        link = Link(place)
        try:
            # A share for each address: one that swallows everything leaves time for the next.
            link.settimeout(left(until) / (len(places) - number + 1))
            link.connect(place[-1])
        except OSError:
            link.close()
            if number == len(places):
                raise
        else:
            return link
    raise OSError("the host has no address")


async def connect_async(host: str, port: int, until: float) -> Link:
    """`connect`, awaited."""
    loop = asyncio.get_running_loop()
    places = _known(host, port)
    if not places:
        async with asyncio.timeout(left(until)):
            places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, place in enumerate(places, 1):
        link = Link(place)
        try:
            link.setblocking(False)
            async with asyncio.timeout(left(until) / (len(places) - number + 1)):
                await loop.sock_connect(link, place[-1])
        except OSError:
            link.close()
            if number == len(places):
                raise
        else:
            return link
    raise OSError("the host has no address")


def _known(host: str, port: int) -> list[_Where]:
    """Where an address leads, which needs no looking up; nothing for a name."""
    try:
        return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=_NUMERIC)]
    except OSError:
        return []


_NUMERIC = socket.AI_NUMERICHOST


def _look_up(host: str, port: int, until: float) -> list[_Where]:
    """Where a name leads. Asking for it obeys no limit, so a thread does that, and is left behind
    where it takes too long."""
    answers: queue.SimpleQueue[list[_Where] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put([*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, name="coatcheck-memcached", daemon=True).start()
    try:
        found = answers.get(timeout=left(until))
    except queue.Empty:
        raise TimeoutError("no address in time") from None
    if isinstance(found, OSError):
        raise found
    return found


def _be_born() -> None:
    """In the child of a fork: connections, and the slots of threads that are not here."""
    for pool in list(_pools):
        pool._start()


_pools: WeakSet[Pool] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_be_born)
