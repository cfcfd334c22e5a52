"""One connection to PostgreSQL, as generators that do no waiting of their own.

They drive libpq by its non-blocking functions, and yield what they wait for: `READ`, or
`READ | WRITE`. Whoever drives them waits, a thread or a task, and for no longer than it wants. So
one piece of code serves both, and a limit holds for a call as a whole, however a server dribbles.

What is asked leaves in one piece and comes back in one round trip: libpq's pipeline mode sends
settings, statements and a Sync together. Up to the Sync they are one transaction, which is all that
a pooler in transaction mode needs to keep it on one server. The settings hold for that transaction
alone: the server gives up a little before we do, so that a statement that waits for a lock neither
goes on for nobody nor costs a connection; plans are made once and reach rows by their indexes.

A link that failed in any way is closed by its owner, never used again. What was asked on it and is
not answered yet is cancelled then, since a commit that waits for a synchronous standby outlasts the
server's limit: it ends at no time-out, and at no closed connection. That takes a connection and a
moment more, in a thread that nobody waits for. It needs libpq 17 or newer: psycopg's older way to
cancel would stop the whole process meanwhile.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from coatcheck.stores._postgres.errors import refused
from coatcheck.stores._postgres.waiting import READ, WRITE, Waits, drive, is_readable
from coatcheck.stores._url import CONNECT

__all__ = ["Link", "Step", "Unit", "abandon_all"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Step: TypeAlias = tuple[bytes, Sequence[bytes | None]]

_SOONER = 0.9  # of the time that is left, after which the server gives up
_BINARY = 1
_BROKEN = pq.ConnStatus.BAD
_READING, _WRITING = pq.PollingStatus.READING, pq.PollingStatus.WRITING
_SYNC = pq.ExecStatus.PIPELINE_SYNC
_GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)

# This transaction's alone. Under a stricter one, whoever waited for a row would be refused it, with
# its whole batch. It comes first: once anything is read, it is too late.
_ISOLATION = b"SET transaction_isolation = 'read committed'"
_SETTINGS = (
    "SELECT set_config('statement_timeout', $1::text, true),"
    " set_config('plan_cache_mode', 'force_generic_plan', true),"
    " set_config('enable_seqscan', 'off', true)"
)
# 'on' waits for the disk, and for synchronous replicas where there are any. Only remote_apply is
# stronger, so what is set to that stays.
_DURABLE = (
    f"{_SETTINGS}, set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"
)
_PLAIN_SETTINGS, _DURABLE_SETTINGS = _SETTINGS.encode(), _DURABLE.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit(Generic[T_co]):
    """One transaction: its statements with their parameters, in libpq's binary format."""

    steps: Sequence[Step]
    read: Callable[[Sequence[PGresult]], T_co]
    """What the answers of the steps mean."""
    writes: bool = True
    """Whether it needs an isolation of its own; what only reads is never refused."""
    durable: bool = False
    """Whether its commit waits for the disk whatever the server's default is."""
    patience: float = 1
    """How many times as long as other calls it may take."""
    once: bool = False
    """Whether it is so rare that its statements are not kept by name."""


class Link:
    """Made by `open`. `prepared` says whether statements are kept on the server by name."""

    def __init__(self, pgconn: PGconn, prepared: bool) -> None:
        self._pgconn = pgconn
        self._prepared = prepared
        self._names: dict[bytes, bytes] = {}
        self._is_asked = False  # and has not answered yet
        self._process = os.getpid()
        _links.add(self)

    @classmethod
    def open(cls, conninfo: str, prepared: bool) -> "Waits[Link]":
        pgconn = pq.PGconn.connect_start(conninfo.encode())
        try:
            link = cls(pgconn, prepared)
            yield from link._connect()
        except BaseException:
            pgconn.finish()
            raise
        return link

    def _connect(self) -> Waits[None]:
        pgconn = self._pgconn
        while (status := self._poll()) != pq.PollingStatus.OK:
            yield pgconn.socket, READ if status == _READING else WRITE
        pgconn.nonblocking = 1
        pgconn.enter_pipeline_mode()

    def _poll(self) -> int:
        pgconn = self._pgconn
        if pgconn.status != _BROKEN:
            status = pgconn.connect_poll()
            if status != pq.PollingStatus.FAILED:
                return status
        raise psycopg.OperationalError(pgconn.get_error_message("utf-8"))

    @property
    def encoding(self) -> str:
        """What the database stores text in."""
        return (self._pgconn.parameter_status(b"server_encoding") or b"").decode()

    @property
    def process(self) -> int:
        """The number of the server's process, as whoever greeted told it."""
        return self._pgconn.backend_pid

    def is_stale(self) -> bool:
        """Whether an idle link has something to read: its end, or the server's last words."""
        try:
            return is_readable(self._pgconn.socket)
        except (psycopg.Error, OSError):
            return True

    def close(self) -> None:
        """At once: nothing is waited for."""
        if self._process != os.getpid():
            self.abandon()
        elif not (self._is_asked and self._withdraw()):
            self._pgconn.finish()

    def _withdraw(self) -> bool:
        """Cancel and close, in a thread; whether there can be one."""
        if self._pgconn.status != _BROKEN and psycopg.capabilities.has_cancel_safe():
            with suppress(RuntimeError):  # there are too many threads, or the interpreter ends
                threading.Thread(target=self._cancel_and_close, daemon=True).start()
                return True
        return False

    def _cancel_and_close(self) -> None:
        """In this order, since a pooler knows by the connection what to cancel."""
        with suppress(psycopg.Error, OSError):
            drive(self._cancel(), CONNECT)
        self._pgconn.finish()

    def _cancel(self) -> Waits[None]:
        request = self._pgconn.cancel_conn()
        try:
            request.start()
            while (status := request.poll()) in (_READING, _WRITING):
                yield request.socket, READ if status == _READING else WRITE
        finally:
            request.finish()

    def abandon(self) -> None:
        """In the child of a fork: the server must not hear of it. (libpq's object, too, tells the
        server nothing when it goes in another process than the one that made it.)"""
        if self in _links:  # and once only: the number may be another file's by then
            _links.discard(self)
            with suppress(psycopg.Error, OSError):
                os.close(self._pgconn.socket)

    def run(self, unit: Unit[T], seconds: float) -> Waits[T]:
        """What the unit reads from its answers; raises the driver's error for a failed one."""
        self._is_asked = True
        self._send(unit, seconds)
        yield from self._flush()
        results = yield from self._receive()
        return unit.read(results[-len(unit.steps) :])

    def hear(self) -> Waits[list[str]]:
        """What notifications say; waits for the first."""
        while not (heard := list(self._heard())):
            yield self._pgconn.socket, READ
            self._pgconn.consume_input()
        return heard

    def _heard(self) -> Iterator[str]:
        while (notification := self._pgconn.notifies()) is not None:
            yield notification.extra.decode()

    def _send(self, unit: Unit[T], seconds: float) -> None:
        settings = _DURABLE_SETTINGS if unit.durable else _PLAIN_SETTINGS
        limit = b"%d" % max(1, int(seconds * 1000 * _SOONER))
        if unit.writes:
            self._ask(self._prepare(_ISOLATION, unit), _ISOLATION, ())
        # Not before: to prepare what reads sets the isolation, too.
        steps = [(settings, [limit]), *unit.steps]
        names = [self._prepare(statement, unit) for statement, _ in steps]
        for name, (statement, parameters) in zip(names, steps, strict=True):
            self._ask(name, statement, parameters)
        self._pgconn.pipeline_sync()

    def _prepare(self, statement: bytes, unit: Unit[T]) -> bytes | None:
        """Its name, where it has one."""
        if unit.once or not self._prepared:
            return None
        name = self._names.get(statement)
        if name is None:
            name = self._names[statement] = _name(statement)
            self._pgconn.send_prepare(name, statement)
        return name

    def _ask(self, name: bytes | None, statement: bytes, values: Sequence[bytes | None]) -> None:
        formats = [_BINARY] * len(values)
        if name is None:
            self._pgconn.send_query_params(statement, values, None, formats, _BINARY)
        else:
            self._pgconn.send_query_prepared(name, values, formats, _BINARY)

    def _flush(self) -> Waits[None]:
        while self._pgconn.flush():
            yield self._pgconn.socket, READ | WRITE
            # The server may answer already, and take nothing more before that is read.
            self._pgconn.consume_input()

    def _receive(self) -> Waits[list[PGresult]]:
        results: list[PGresult] = []
        failure: psycopg.Error | None = None
        while True:
            result = yield from self._next()
            if result.status == _SYNC:
                self._is_asked = False
                break
            if result.status in _GOOD:
                results.append(result)
            elif failure is None:  # what follows it was left out by the server, and says so
                failure = self._failure(result)
        if failure is not None:
            raise failure
        return results

    def _next(self) -> Waits[PGresult]:
        pgconn = self._pgconn
        while True:
            while pgconn.is_busy():
                yield pgconn.socket, READ
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is not None:
                return result
            if pgconn.status == _BROKEN:
                raise psycopg.OperationalError(pgconn.get_error_message("utf-8"))

    def _failure(self, result: PGresult) -> psycopg.Error:
        code = result.error_field(pq.DiagnosticField.SQLSTATE)
        if code is None:
            return psycopg.OperationalError(result.get_error_message("utf-8"))
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        return refused(code.decode(), message.decode("utf-8", "replace"))


def _name(statement: bytes) -> bytes:
    """Where a pooler mixes connections up, a name may be another process's: then it stands for the
    same text, or for nothing."""
    return b"coatcheck_" + hashlib.blake2b(statement, digest_size=16).hexdigest().encode()


def abandon_all() -> None:
    """Those of other processes."""
    for link in list(_links):
        if link._process != os.getpid():
            link.abandon()


_links: WeakSet[Link] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=abandon_all)
