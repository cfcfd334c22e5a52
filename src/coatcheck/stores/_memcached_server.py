"""One Memcached server, asked from threads or from event loops, never for longer than allowed.

The time limits are for a whole call, not for each piece of its answer: a server that sends a byte
now and then is as late as one that sends none. In event loops what one turn asks leaves together;
reads and writes go apart, since large values in both directions at once could make both sides wait
for each other. A server that is away is an outage of its own sessions, and of no others.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar, cast

from coatcheck import patience
from coatcheck.coalesce import Coalescer
from coatcheck.errors import CoatcheckError, StoreUnavailable
from coatcheck.stores._memcached_pool import Link, Pool, connect, connect_async, left
from coatcheck.stores._memcached_protocol import Answer, Answers, Broken, Command

__all__ = ["AsyncServer", "Limits", "Server"]

A = TypeVar("A", bound=Answer)

_LARGEST_PIECE = 65_536


class Limits(NamedTuple):
    """Seconds to connect and for one call, and how many connections there are to one server."""

    connect: float
    call: float
    connections: int

    @property
    def patience(self) -> float:
        return self.connect + self.call


class _Server:
    def __init__(self, host: str, port: int, limits: Limits) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._host, self._port = host, port
        self._limits = limits
        self._pool = Pool(limits.connections)

    def disconnect(self) -> None:
        self._pool.close()

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, TimeoutError):
            got = f"none within {self._limits.call} s (and {self._limits.connect} s to connect)"
        else:
            got = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        unavailable = StoreUnavailable(
            f"MemcachedStore: expected an answer from {self.name}, got {got}; look at the server "
            "and the network, or raise the time-outs"
        )
        unavailable.__cause__ = error
        return unavailable


class Server(_Server):
    """For threads. Each call has a connection of its own while it lasts."""

    def ask(self, command: Command[A]) -> A:
        """The answer, in time. Raises `StoreUnavailable`, or what a too large value deserves."""
        until = time.monotonic() + patience.left(self._limits.patience)
        try:
            if not self._pool.slots.acquire(timeout=min(left(until), self._limits.call)):
                raise TimeoutError("no connection free in time")
            try:
                answer = self._answer(command, until)
            finally:
                self._pool.slots.release()
        except (OSError, Broken) as error:
            raise self._unavailable(error) from error
        if isinstance(answer, CoatcheckError):
            raise answer
        return cast("A", answer)

    def _answer(self, command: Command[Any], until: float) -> Answer | CoatcheckError:
        link = self._pool.take()
        if link is None:
            until_connected = min(until, time.monotonic() + self._limits.connect)
            link = connect(self._host, self._port, until_connected)
        answers = Answers([command])
        try:
            _exchange(link, command, answers, min(until, time.monotonic() + self._limits.call))
        except BaseException:
            link.close()
            raise
        self._pool.put(link)
        return answers.found[0]


def _exchange(link: Link, command: Command[Any], answers: Answers, until: float) -> None:
    link.settimeout(left(until))
    link.sendall(command.request)  # the time-out of this is for all that it sends
    link.settimeout(left(until))
    while not answers.feed(link.recv(_LARGEST_PIECE)):
        link.settimeout(left(until))


class AsyncServer(_Server):
    """For event loops, one after another or several at once."""

    def __init__(self, host: str, port: int, limits: Limits) -> None:
        super().__init__(host, port, limits)
        at_once = max(1, limits.connections // 2)
        self._reads: Coalescer[Command[Any], Any] = Coalescer(
            self._send, patience=limits.patience, at_once=at_once
        )
        self._writes: Coalescer[Command[Any], Any] = Coalescer(
            self._send, patience=limits.patience, at_once=at_once
        )

    async def ask(self, command: Command[A]) -> A:
        """`Server.ask`, awaited."""
        calls = self._writes if command.words else self._reads
        return cast("A", await calls.ask(command))

    async def _send(self, commands: Sequence[Command[Any]]) -> Sequence[Answer | Exception]:
        answers = Answers(commands)
        try:
            link = self._pool.take()
            if link is None:
                until = time.monotonic() + self._limits.connect
                link = await connect_async(self._host, self._port, until)
            await self._exchange(link, commands, answers)
        except (OSError, Broken) as error:
            unanswered = range(len(commands) - len(answers.found))
            return [*answers.found, *(self._unavailable(error) for _ in unanswered)]
        return answers.found

    async def _exchange(
        self, link: Link, commands: Sequence[Command[Any]], answers: Answers
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.call):
                await loop.sock_sendall(link, b"".join([each.request for each in commands]))
                while not answers.feed(await loop.sock_recv(link, _LARGEST_PIECE)):
                    pass
        except BaseException:
            link.close()
            raise
        self._pool.put(link)
