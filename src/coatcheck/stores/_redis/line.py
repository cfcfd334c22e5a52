"""The store's way to its servers from threads: connections, time limits, and who waits for what.

Each call has a connection to itself, of at most `pool_size`; a child of a fork begins with none.
What must be confirmed by replicas takes no more than half of the connections.

A connection takes at most `connect_timeout`, an answer `timeout`, and a call both together, or what
its request has left. One that failed in any way is closed. Where Sentinels know the master they are
asked once in half a second, and after each failure; connections to one whom they name no more are
not used.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar
from weakref import WeakSet

from redis import exceptions

from coatcheck import forks, patience
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
from coatcheck.stores._redis.options import Options
from coatcheck.stores._redis.place import place_of
from coatcheck.stores._redis.pool import Pool, Rest
from coatcheck.stores._redis.routes import Asked, Node, exchange
from coatcheck.stores._redis.timed import timed

__all__ = ["Line"]

R = TypeVar("R")


class Line(Shared):
    """For threads."""

    def __init__(self, client: object, options: Options) -> None:
        super().__init__(place_of(client, asynchronous=False), options)
        self._kind = timed(self.place.server.kind)
        self._start()
        _lines.add(self)

    def _start(self) -> None:
        self._slots = threading.Semaphore(self.options.pool_size)
        self._ends = threading.Semaphore(self.options.durable)
        self._pool = Pool(_close, _is_fit)

    def ask(self, command: Command) -> Any:
        left = patience.left(self.options.patience)
        return raised(self._run(exchange(self._routes, [command]), left)[0])

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, in order; the first error is raised."""
        left = patience.left(self.options.patience)
        return [raised(answer) for answer in self._run(exchange(self._routes, commands), left)]

    def ask_durably(self, command: Command) -> Any:
        """The answer, once as many replicas have it as shall."""
        if not self.replicas:
            return self.ask(command)
        forks.notice()
        ends, until = self._ends, time.monotonic() + patience.left(self.options.patience)
        if not ends.acquire(timeout=max(0.0, until - time.monotonic())):
            raise unavailable(self._none_free)
        try:
            left = until - time.monotonic()
            return raised(self._run(self._durable(command, left), left)[0])
        finally:
            ends.release()

    def follow(self, steps: Steps[R]) -> R:
        """Ask step after step, and give what they come to."""
        answers = None
        while True:
            try:
                step = steps.send(answers)
            except StopIteration as done:
                result: R = done.value
                return result
            try:
                answers = self._ask_step(step)
            except StoreUnavailable:
                if step.needed:
                    raise
                answers = None

    def _ask_step(self, step: Step) -> list[Any]:
        if step.durable:
            return [self.ask_durably(each) for each in step.commands]
        return self.ask_all(step.commands)

    def masters(self) -> list[Node]:
        self._run(self._routes.read(), patience.left(self.options.patience))
        return self._routes.masters

    def ask_node(self, node: Node, raw: Raw) -> Any:
        """Ask one node, whatever its keys."""
        answered = self._ask(node, [raw], time.monotonic() + patience.left(self.options.patience))
        return raised(only(answered))

    def close(self) -> None:
        pool, self._pool = self._pool, Pool(_close, _is_fit)
        pool.end()

    def _run(self, talk: Any, left: float) -> Any:
        """Carry a talk with the servers to its end."""
        end = time.monotonic() + left
        answered = None
        while True:
            try:
                asked: Asked = talk.send(answered)
            except StopIteration as done:
                return done.value
            now = time.monotonic()
            until = now + (end - now) * asked.share
            answered = {node: self._ask(node, raws, until) for node, raws in asked.by_node.items()}

    def _ask(self, node: Node, raws: list[Raw], until: float) -> list[Any] | Exception:
        """What the node answers, or how it failed; never raises."""
        forks.notice()
        slots, pool = self._slots, self._pool
        if not slots.acquire(timeout=max(0.0, until - time.monotonic())):
            return self._none_free
        connection = None
        try:
            rest, connection = self._ready(pool, node, until)
            connection.deadline.until = min(until, time.monotonic() + self.options.timeout)
            answers = _answers(connection, raws)
            if self._is_to_look(rest.node):
                self._look(rest.node, connection, until)
            if leads_no_more(answers):
                pool.forget(rest.node)
            elif connection._sock is not None:
                rest.give(connection)
                connection = None
            return answers
        except FAILURES as error:
            if connection is None:
                return not_sent(error)
            pool.forget(rest.node)
            return error
        finally:
            if connection is not None:
                connection.disconnect()
            slots.release()

    def _ready(self, pool: Pool, node: Node, until: float) -> tuple[Rest, Any]:
        """A connection, and where it rests."""
        until = min(until, time.monotonic() + self.options.connect_timeout)
        if self.place.sentinels is not None:
            node = pool.leader() or self._master(pool, until)
        rest = pool.of(node)
        return rest, rest.take() or self._connect(node, until)

    def _connect(self, node: Node, until: float) -> Any:
        connection = self.place.server.to(node, self._kind)
        if self.place.sentinels is None:
            return self._connected(connection, until, [])[0]
        connection, answers = self._connected(connection, until, [ROLE])
        try:
            check_role(answers[0])
        except exceptions.ReadOnlyError:
            connection.disconnect()
            raise
        return connection

    def _connected(self, connection: Any, until: float, raws: list[Raw]) -> tuple[Any, list[Any]]:
        """The connection, connected, and what it answered first."""
        connection.deadline.until = until
        try:
            connection.connect()
            return connection, _answers(connection, raws)
        except BaseException:
            connection.disconnect()
            raise

    def _master(self, pool: Pool, until: float) -> Node:
        """Ask the Sentinels in turn, each within its share of the time."""
        failed: Exception = exceptions.ConnectionError("no Sentinel answered")
        for number, node in enumerate(list(self._sentinels)):
            now = time.monotonic()
            share = (until - now) / (len(self._sentinels) - number + 1)
            try:
                master = self._named(self._word_of(pool.of(node), now + share), node)
            except FAILURES as error:
                failed = error
            else:
                pool.follow(master, now)
                return master
        raise failed

    def _word_of(self, rest: Rest, until: float) -> Any:
        """What a Sentinel answers."""
        assert self.place.sentinels is not None
        kind = timed(self.place.sentinels.kind)
        sentinel = rest.take() or self.place.sentinels.to(rest.node, kind)
        sentinel, answers = self._connected(sentinel, until, [self._who_is_master])
        rest.give(sentinel)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    def _look(self, node: Node, connection: Any, until: float) -> None:
        connection.deadline.until = min(until, time.monotonic() + LOOK)
        try:
            self._advise(node, _answers(connection, look.QUESTIONS))
        except Exception:  # noqa: BLE001 - looking never fails a request
            connection.disconnect()


def _close(connection: Any) -> None:
    connection.disconnect()


def _is_fit(connection: Any) -> bool:
    """Whether nothing came while it rested: a server that went away has ended it."""
    return connection._sock is not None and connection._sock.is_quiet()


def _answers(connection: Any, raws: Sequence[Raw]) -> list[Any]:
    if raws:
        connection.send_packed_command(packed(connection, raws), check_health=False)
    return [_answer(connection) for _ in raws]


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as refusal:
        return refusal


def _be_born() -> None:
    """In the child of a fork: its parent's connections are closed here without a word to the
    server, and those in use by threads that are not here are forgotten."""
    for line in list(_lines):
        line._start()


_lines: WeakSet[Line] = WeakSet()
forks.in_child(_be_born)
