"""Connecting to a host in time, for drivers whose own way has no limit.

The system looks a name up for as long as it likes, so that happens in a thread, one for each name
at a time, which nobody waits for longer than they may. A name may have several addresses, and one
that swallows everything must leave time for the next.
"""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeAlias

from coatcheck import forks

__all__ = ["Server", "connect", "left"]

Server: TypeAlias = tuple[str, int] | str
"""A host and a port, or the path of a socket."""

_Place: TypeAlias = tuple[Any, ...]
_Socket: TypeAlias = socket.socket

_looking: dict[tuple[str, int], Future[list[_Place]]] = {}
forks.in_child(_looking.clear)  # where nobody is looking anything up


def left(until: float) -> float:
    """Seconds until then; raises TimeoutError where that is past."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


def connect(
    server: Server, until: float, ready: Callable[[_Socket, float], _Socket] | None = None
) -> _Socket:
    """To the first place that takes a connection, which `ready` then makes ready by the moment that
    it is given; `OSError` where none does in time."""
    failed: OSError | None = None
    places = _places_of(server, until)
    for number, place in enumerate(places):
        ends = time.monotonic() + left(until) / (len(places) - number)
        try:
            return _connect(place, ends, ready)
        except OSError as error:
            failed = error
    raise failed or OSError("the host has no address")


def _connect(
    place: _Place, until: float, ready: Callable[[_Socket, float], _Socket] | None
) -> _Socket:
    sock = socket.socket(*place[:3])
    try:
        sock.settimeout(left(until))
        sock.connect(place[-1])
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock if ready is None else ready(sock, until)
    except BaseException:
        sock.close()
        raise


def _places_of(server: Server, until: float) -> list[_Place]:
    if isinstance(server, str):
        return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, server)]
    with suppress(OSError):  # an address needs no looking up
        return _look_up(server, socket.AI_NUMERICHOST)
    looking = _looking.get(server)
    if looking is None or looking.done():
        looking = _looking[server] = Future()
        try:
            threading.Thread(target=_find, args=(server, looking), daemon=True).start()
        except RuntimeError as error:  # there are too many, or the interpreter ends
            looking.set_exception(OSError(f"no thread looks the host's name up: {error}"))
    return looking.result(timeout=left(until))


def _look_up(server: tuple[str, int], flags: int = 0) -> list[_Place]:
    try:
        return [*socket.getaddrinfo(*server, type=socket.SOCK_STREAM, flags=flags)]
    except ValueError as error:  # of a name that cannot be one
        raise OSError(f"no host can have that name: {error}") from error


def _find(server: tuple[str, int], found: "Future[list[_Place]]") -> None:
    try:
        found.set_result(_look_up(server))
    except Exception as error:  # noqa: BLE001 - whoever waits gets it
        found.set_exception(error)
