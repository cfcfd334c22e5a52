"""One Memcached server, asked through pymemcache, from threads and on behalf of event loops.

`Server` keeps so many of pymemcache's clients, each of which is one connection, since its own pool
raises an error where a thread would have to wait for one. Whoever takes a client is alone with it
until it has the answer. A client whose call failed, took too long or was answered with nonsense is
closed and never put back: what comes late would be the next call's answer. Before an idle one is
used it is looked at: where the server has gone away meanwhile, another is made. The child of a fork
begins with none; to close its parent's there tells the server nothing.

`Turns` carries what one turn of an event loop asks over to some threads, reads in one message, each
write by itself, since it waits for two round trips. They are the server's own, so one that hangs
holds up no other.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar
from weakref import WeakSet

from pymemcache import Client, exceptions  # type: ignore[import-untyped]

from coatcheck import forks, patience
from coatcheck.coalesce import Coalescer
from coatcheck.errors import CoatcheckError, SessionTooLarge, StoreUnavailable
from coatcheck.stores._address import left
from coatcheck.stores._memcached.wire import Address, Limits, Wire
from coatcheck.stores._threads import Threads

__all__ = ["Item", "Server", "Turns"]

T = TypeVar("T")

_READERS, _WRITERS = 2, 14

Item: TypeAlias = tuple[bytes, bytes]
"""A value, and the token by which `cas` knows whether it is still that one."""


class _Connection:
    """A client of pymemcache, and its wire."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self.wire = Wire(address, limits)
        self.client = Client(address.server, socket_module=self.wire, default_noreply=False)


class Server:
    """Thread-safe. A call raises `StoreUnavailable`, in time, or `SessionTooLarge`."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self.name = address.name
        self.limits = limits
        self._address = address
        self._start()
        _servers.add(self)

    def _start(self) -> None:
        self._slots = threading.Semaphore(self.limits.connections)
        self._idle: deque[_Connection] = deque()

    def gets(self, key: bytes) -> Item | None:
        return self.gets_many([key]).get(key)

    def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, Item]:
        """Those that are there."""
        found: dict[bytes, Item] = self._ask(_gets, keys)
        return found

    def add(self, key: bytes, value: bytes, seconds: int) -> bool:
        """Whether nothing was there."""
        return self._ask(Client.add, key, value, seconds) is True

    def cas(self, key: bytes, value: bytes, token: bytes, seconds: int) -> bool:
        """Whether the value was still that one."""
        return self._ask(Client.cas, key, value, token, seconds) is True

    def delete(self, key: bytes) -> bool:
        """Whether something was there."""
        return self._ask(Client.delete, key) is True

    def close(self) -> None:
        while (connection := self._taken()) is not None:
            connection.client.close()

    def _ask(self, command: Callable[..., Any], *arguments: Any) -> Any:
        forks.notice()
        until = time.monotonic() + patience.left(self.limits.patience)
        connection = None
        try:
            self._wait(until)
            try:
                connection = self._taken() or _Connection(self._address, self.limits)
                connection.wire.begin(until)
                answer = command(connection.client, *arguments)
                self._idle.append(connection)
                connection = None
            finally:
                if connection is not None:
                    connection.client.close()
                self._slots.release()
        except Exception as error:
            raise self._meaning(error) from error
        return answer

    def _wait(self, until: float) -> None:
        if not self._slots.acquire(timeout=min(left(until), self.limits.call)):
            raise TimeoutError("no connection free in time")

    def _taken(self) -> _Connection | None:
        """The one that was used last, of those that are fit."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.wire.is_fit():
                return connection
            connection.client.close()

    def _meaning(self, error: Exception) -> CoatcheckError:
        if isinstance(error, CoatcheckError):
            return error
        got = _said(error)
        if got.startswith("SERVER_ERROR object too large"):
            return SessionTooLarge(
                "MemcachedStore: expected a session that the server takes, got one above its item "
                "size; keep less in it, lower max_bytes, or raise the server's -I (1m by default)"
            )
        if isinstance(error, TimeoutError):
            got = f"none within {self.limits.call} s (and {self.limits.connect} s to connect)"
        return StoreUnavailable(
            f"MemcachedStore: expected an answer from {self.name}, got {got}; look at the server, "
            "its memory (-m) and the network, or raise the time-outs"
        )


def _gets(client: Any, keys: Sequence[bytes]) -> dict[bytes, Item]:
    found: dict[bytes, Item] = client.gets_many(keys)
    if any(token == b"0" for _, token in found.values()):
        raise StoreUnavailable(
            "MemcachedStore: expected a value with a token, got one without, as the server was "
            "started with -C; start it without"
        )
    return found


def _said(error: Exception) -> str:
    """What came instead of an answer; what is no Memcached's is not repeated."""
    if isinstance(error, exceptions.MemcacheUnexpectedCloseError):
        return "the end of the connection"
    for kind, word in _ERRORS.items():
        if type(error) is kind:
            return f"{word} {error.args[0][:80].decode('ascii', 'replace')}"
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else "something else"


_ERRORS = {
    exceptions.MemcacheServerError: "SERVER_ERROR",
    exceptions.MemcacheClientError: "CLIENT_ERROR",
}


class _Write(NamedTuple):
    """What a task asks for, and when its time is up."""

    work: Callable[[], Any]
    until: float

    def attempt(self) -> Any:
        try:
            with patience.limit(self.until - time.monotonic()):
                return self.work()
        except Exception as error:  # noqa: BLE001 - it is the caller's own
            return error


class Turns:
    """What the tasks of event loops ask of one server, together."""

    def __init__(self, server: Server) -> None:
        limits = server.limits
        writers = min(_WRITERS, limits.connections)
        self._server = server
        self._patience = limits.patience
        self._threads = Threads(_READERS + writers, "coatcheck-memcached")
        self._reads: Coalescer[bytes, Item | None] = Coalescer(
            self._read, patience=limits.patience, at_once=_READERS
        )
        self._writes: Coalescer[_Write, Any] = Coalescer(
            self._write, patience=limits.patience, most=1, at_once=writers
        )

    async def gets(self, key: bytes) -> Item | None:
        return await self._reads.ask(key)

    async def do(self, work: Callable[[], T]) -> T:
        """What the work answers, which waits for the server in a thread."""
        until = time.monotonic() + patience.left(self._patience)
        answer: T = await self._writes.ask(_Write(work, until))
        return answer

    def stop(self) -> None:
        self._threads.stop()

    async def _read(self, keys: Sequence[bytes]) -> list[Item | None]:
        each_once = list(dict.fromkeys(keys))
        found = await self._threads.run(partial(self._server.gets_many, each_once))
        return [found.get(key) for key in keys]

    async def _write(self, writes: Sequence[_Write]) -> list[Any]:
        return await self._threads.run(partial(_attempt_all, writes))


def _attempt_all(writes: Iterable[_Write]) -> list[Any]:
    return [write.attempt() for write in writes]


def _be_born() -> None:
    """In the child of a fork, where no other thread of its parent's is."""
    for server in list(_servers):
        server._start()


_servers: WeakSet[Server] = WeakSet()
forks.in_child(_be_born)
