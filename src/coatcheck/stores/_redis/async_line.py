"""The store's way to its servers from tasks: `Line` for event loops.

What one turn of an event loop asks of one node leaves as one pipeline, and each event loop has
connections of its own, which close with it. What must be confirmed by replicas goes alone, on a
connection that nobody else waits for. The time limits are `Line`'s; a connection whose call was
cancelled is closed too.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis import exceptions

from coatcheck import patience
from coatcheck.coalesce import Coalescer
from coatcheck.errors import StoreUnavailable
from coatcheck.stores._redis import look
from coatcheck.stores._redis.commands import Command, Raw, Step, Steps
from coatcheck.stores._redis.common import (
    FAILURES,
    LOOK,
    ROLE,
    Shared,
    check_role,
    not_sent,
    only,
    packed,
    raised,
)
from coatcheck.stores._redis.errors import leads_no_more, unavailable
from coatcheck.stores._redis.home import Home, drop, hurried
from coatcheck.stores._redis.listening import PROTOCOL, listen
from coatcheck.stores._redis.options import Options
from coatcheck.stores._redis.place import place_of
from coatcheck.stores._redis.pool import Pool, Rest
from coatcheck.stores._redis.routes import Asked, Node, exchange

__all__ = ["AsyncLine"]

R = TypeVar("R")


class AsyncLine(Shared):
    """For the tasks of event loops."""

    def __init__(self, client: object, options: Options) -> None:
        super().__init__(place_of(client, asynchronous=True), options)
        self._homes: dict[asyncio.AbstractEventLoop, Home] = {}
        self._queues: dict[Node, Coalescer[Command, Any]] = {}

    async def ask(self, command: Command) -> Any:
        return await self._queue(command).ask(command)

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        return await asyncio.gather(*[self._queue(each).ask(each) for each in commands])

    async def ask_durably(self, command: Command) -> Any:
        """The answer, once as many replicas have it as shall."""
        if not self.replicas:
            return await self.ask(command)
        loop = asyncio.get_running_loop()
        until = loop.time() + patience.left(self.options.patience)
        ends = (await self._home(loop)).ends
        try:
            async with asyncio.timeout_at(until):
                await ends.acquire()
        except TimeoutError as error:
            raise unavailable(self._none_free) from error
        try:
            left = until - loop.time()
            return raised((await self._run(self._durable(command, left), left))[0])
        finally:
            ends.release()

    async def follow(self, steps: Steps[R]) -> R:
        answers = None
        while True:
            try:
                step = steps.send(answers)
            except StopIteration as done:
                result: R = done.value
                return result
            try:
                answers = await self._ask_step(step)
            except StoreUnavailable:
                if step.needed:
                    raise
                answers = None

    async def _ask_step(self, step: Step) -> list[Any]:
        if step.durable:
            return [await self.ask_durably(each) for each in step.commands]
        return await self.ask_all(step.commands)

    async def masters(self) -> list[Node]:
        await self._run(self._routes.read(), patience.left(self.options.patience))
        return self._routes.masters

    async def ask_node(self, node: Node, raw: Raw) -> Any:
        left = patience.left(self.options.patience)
        answered = await self._ask(node, [raw], asyncio.get_running_loop().time() + left)
        return raised(only(answered))

    async def watch(
        self, channel: bytes, tell: Callable[[str], None], ready: Callable[[], None]
    ) -> None:
        """Hear of what is published there, on a connection of its own, until that fails."""
        home = await self._home(asyncio.get_running_loop())
        node, connection = await self._listener(home.pool)
        home.listeners.add(connection)
        try:
            await listen(connection, channel, tell, ready, partial(self._follows, home.pool, node))
        except FAILURES as error:
            home.pool.forget(node)
            self._routes.failed(node)
            raise unavailable(error) from error
        finally:
            home.listeners.discard(connection)
            drop(connection)

    async def close(self) -> None:
        here = asyncio.get_running_loop()
        homes, self._homes = self._homes, {}
        for loop, home in homes.items():
            if loop is here:
                await home.end()
            elif loop.is_closed():
                home.abandon()
            else:
                loop.call_soon_threadsafe(home.drop)

    def _queue(self, command: Command) -> Coalescer[Command, Any]:
        """One for each node, so that who asks a healthy one waits for no other."""
        node = self._routes.node_of(command.key)
        queue = self._queues.get(node)
        if queue is None:
            queue = self._queues[node] = Coalescer(self._send, patience=self.options.patience)
        return queue

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = await self._run(
            exchange(self._routes, commands), self.options.patience
        )
        return answers

    async def _run(self, talk: Any, left: float) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + left
        answered = None
        while True:
            try:
                asked: Asked = talk.send(answered)
            except StopIteration as done:
                return done.value
            now = loop.time()
            until = now + (end - now) * asked.share
            asking = [self._ask(node, raws, until) for node, raws in asked.by_node.items()]
            answers = [await asking[0]] if len(asking) == 1 else await asyncio.gather(*asking)
            answered = dict(zip(asked.by_node, answers, strict=True))

    async def _ask(self, node: Node, raws: list[Raw], until: float) -> list[Any] | Exception:
        """What the node answers, or how it failed; never raises, but when it is cancelled."""
        loop = asyncio.get_running_loop()
        home = await self._home(loop)
        connection = None
        try:
            async with asyncio.timeout_at(until) as limit, home.slots:
                soon = min(until, loop.time() + self.options.connect_timeout)
                limit.reschedule(soon)
                rest, connection = await self._ready(home.pool, node, soon)
                limit.reschedule(min(until, loop.time() + self.options.timeout))
                answers = await _awaited_answers(connection, raws)
            if self._is_to_look(rest.node):
                await self._look(rest.node, connection, until)
            if leads_no_more(answers):
                home.pool.forget(rest.node)
            elif connection.is_connected:
                rest.give(connection)
                connection = None
            return answers
        except FAILURES as error:
            if connection is None:
                return not_sent(error)
            home.pool.forget(rest.node)
            return error
        finally:
            if connection is not None:
                drop(connection)

    async def _home(self, loop: asyncio.AbstractEventLoop) -> Home:
        return self._homes.get(loop) or await self._settle(loop)

    async def _settle(self, loop: asyncio.AbstractEventLoop) -> Home:
        for other, home in list(self._homes.items()):
            if other.is_closed() and self._homes.pop(other, None) is not None:
                home.abandon()
        home = self._homes[loop] = Home(self.options)
        await home.watch()
        return home

    async def _ready(self, pool: Pool, node: Node, until: float) -> tuple[Rest, Any]:
        if self.place.sentinels is not None:
            node = pool.leader() or await self._master(pool, until)
        rest = pool.of(node)
        return rest, rest.take() or await self._connect(node)

    async def _listener(self, pool: Pool) -> tuple[Node, Any]:
        """A connection to listen on, and to whom. Any node of a Cluster hears all, so another one
        is as good where the first is away."""
        node = random.choice(await self.masters())  # noqa: S311 - it hides nothing
        until = asyncio.get_running_loop().time() + self.options.connect_timeout
        try:
            async with asyncio.timeout_at(until):
                if self.place.sentinels is not None:
                    node = pool.leader() or await self._master(pool, until)
                return node, await self._connect(node, protocol=PROTOCOL)
        except FAILURES as error:
            self._routes.failed(node)
            raise unavailable(error) from error

    async def _follows(self, pool: Pool, node: Node) -> None:
        """Raise where the Sentinels name another master: this one hears nothing any more."""
        if self.place.sentinels is None:
            return
        until = asyncio.get_running_loop().time() + self.options.connect_timeout
        if (pool.leader() or await self._master(pool, until)) != node:
            raise exceptions.ReadOnlyError("the server that was listened to is no master any more")

    async def _connect(self, node: Node, **settings: Any) -> Any:
        connection = self._to(self.place.server, node, **settings)
        if self.place.sentinels is None:
            return (await self._connected(connection, []))[0]
        connection, answers = await self._connected(connection, [ROLE])
        try:
            check_role(answers[0])
        except exceptions.ReadOnlyError:
            drop(connection)
            raise
        return connection

    def _to(self, connections: Any, node: Node, **settings: Any) -> Any:
        # The limits are set around the whole of a call, not for each piece.
        limits = {"socket_timeout": None, "socket_connect_timeout": None}
        return connections.to(node, hurried(connections.kind), **limits, **settings)

    async def _connected(self, connection: Any, raws: list[Raw]) -> tuple[Any, list[Any]]:
        try:
            await connection.connect()
            return connection, await _awaited_answers(connection, raws)
        except BaseException:
            drop(connection)
            raise

    async def _master(self, pool: Pool, until: float) -> Node:
        failed: Exception = exceptions.ConnectionError("no Sentinel answered")
        for number, node in enumerate(list(self._sentinels)):
            now = time.monotonic()
            share = (until - now) / (len(self._sentinels) - number + 1)
            try:
                async with asyncio.timeout(share):
                    master = self._named(await self._word_of(pool.of(node)), node)
            except FAILURES as error:
                failed = error
            else:
                pool.follow(master, now)
                return master
        raise failed

    async def _word_of(self, rest: Rest) -> Any:
        assert self.place.sentinels is not None
        sentinel = rest.take() or self._to(self.place.sentinels, rest.node)
        sentinel, answers = await self._connected(sentinel, [self._who_is_master])
        rest.give(sentinel)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    async def _look(self, node: Node, connection: Any, until: float) -> None:
        soon = min(until, asyncio.get_running_loop().time() + LOOK)
        try:
            async with asyncio.timeout_at(soon):
                self._advise(node, await _awaited_answers(connection, look.QUESTIONS))
        except Exception:  # noqa: BLE001 - looking never fails a request
            drop(connection)


async def _awaited_answers(connection: Any, raws: Sequence[Raw]) -> list[Any]:
    if raws:
        await connection.send_packed_command(packed(connection, raws), check_health=False)
    return [await _awaited_answer(connection) for _ in raws]


async def _awaited_answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except exceptions.ResponseError as refusal:
        return refusal
