"""Sessions in a table of PostgreSQL, 13 or newer: shared by any number of machines.

Every write is one statement that locks its row, compares and changes, in a transaction and a round
trip of its own; nothing relies on what a connection remembers, so that a pooler may stand between.
Asynchronous calls made in one turn of the event loop leave together, as one statement over all of
their rows. A login is one transaction that takes its subject's turn. Ending a session, and
beginning one with its login, waits for the server's disk (and its synchronous replicas) even where
the server is set up not to. What ends a session tells those who listen.

The stores hold their connections themselves, since they bound every wait. They take a connection
string of libpq's, and connect on first use. That use also makes the tables where they are missing,
and refuses, with `ConfigurationError`, one that is not ours, or of a newer coatcheck.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from coatcheck.coalesce import Coalescer
from coatcheck.errors import StoreUnavailable
from coatcheck.record import Record
from coatcheck.store import Entered, Entry, Forbidden, Full, Gone, Risk, Saved
from coatcheck.stores._advice import Advice
from coatcheck.stores._url import CALL, CONNECT, StoreURL, missing_driver

try:
    from coatcheck.stores._postgres import listening
    from coatcheck.stores._postgres.link import Unit
    from coatcheck.stores._postgres.logins import Logins
    from coatcheck.stores._postgres.options import (
        Options,
        check_flag,
        conninfo_of,
        options,
        settings_of,
    )
    from coatcheck.stores._postgres.pools import AsyncPool, Pool
    from coatcheck.stores._postgres.rows import can_be, key_of
    from coatcheck.stores._postgres.schema import Found, Schema
    from coatcheck.stores._postgres.verbs import (
        LOCKED,
        SLICE,
        Create,
        Delete,
        Load,
        Locked,
        Save,
        Touch,
        Verbs,
    )
except ModuleNotFoundError as error:
    raise missing_driver("coatcheck.stores.postgres", "postgres", error) from error

__all__ = ["AsyncPostgresStore", "PostgresStore", "async_from_url", "from_url", "schema"]

C = TypeVar("C")
W = TypeVar("W", bound="Create | Save | Touch | Delete")
A = TypeVar("A")

_TABLE = "coatcheck_sessions"


def schema(table: str = _TABLE, *, unlogged: bool = False) -> str:
    """SQL that makes the tables, for those whose application may not; running it twice is fine."""
    return Schema(table, unlogged=unlogged).script()


class _Made(ABC):
    """What both stores are made of."""

    shared = True
    """Other processes see what this one keeps, if they name the same server and table."""

    def __init__(
        self,
        conninfo: str,
        *,
        table: str = _TABLE,
        timeout: float = CALL,
        connect_timeout: float = CONNECT,
        pool_size: int = 4,
        unlogged: bool = False,
        create: bool = True,
        prepared: bool = True,
        listen: str = "",
    ) -> None:
        checked = options(
            conninfo,
            listen=listen,
            timeout=timeout,
            connect_timeout=connect_timeout,
            pool_size=pool_size,
            create=create,
            prepared=prepared,
        )
        check_flag("unlogged", unlogged)
        made = Schema(table, unlogged=unlogged)
        self.evicts = unlogged
        self.patience = checked.timeout + checked.connect_timeout
        self._advice = Advice()
        self._verbs = Verbs(made.sessions, made.marks)
        self._logins = Logins(made.sessions, made.marks)
        self._start(checked, made)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    @abstractmethod
    def _start(self, options: Options, schema: Schema) -> None:
        """Make what asks the server."""

    def advise(self, tell: Callable[[Risk], None]) -> None:
        """Call `tell` with each risk that the server's configuration is, when it is reached."""
        self._advice.advise(tell)

    def _found(self, found: Found) -> None:
        for risk in found.risks():
            self._advice.found(risk)


class _Alone(NamedTuple):
    """What waits until nobody else holds its row, or its subject."""

    key: bytes
    unit: Unit[Sequence[Any]]


class PostgresStore(_Made):
    """Thread-safe, and safe after a fork. Lists, sweeps, admits, advises.

    `conninfo` is libpq's: a URL, or words such as "host=db dbname=app". `table` may be
    schema-qualified. `timeout` and `connect_timeout` are seconds; `pool_size` is how many
    connections are opened at most. `unlogged` tables are faster, and empty after a crash of the
    server. `create` makes the tables where they are missing. `prepared=False` is for poolers that
    give each transaction another connection. `listen` is the asynchronous twin's.
    """

    def _start(self, options: Options, schema: Schema) -> None:
        self._pool = Pool(options, schema, self._found)

    def load(self, id: str, now: int) -> Record | None:
        [found] = self._pool.run(self._verbs.load([Load(key_of(id), now)]), again=True)
        return found

    def create(self, record: Record, now: int) -> None:
        [refused] = self._pool.run(self._verbs.create([Create(key_of(record.id), record, now)]))
        if refused is not None:
            raise refused

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        [answer] = self._pool.run(
            self._verbs.save([Save(key_of(record.id), record, expected, now)], wait=True)
        )
        assert answer is not LOCKED
        return answer

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        call = Touch(key_of(id), revision, seen_at, expires_at, now)
        [touched] = self._pool.run(self._verbs.touch([call], wait=True))
        return touched is True

    def delete(self, id: str, now: int) -> bool:
        [was_there] = self._pool.run(self._verbs.delete([Delete(key_of(id), now)], wait=True))
        if isinstance(was_there, StoreUnavailable):
            raise was_there
        return was_there is True

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        [answer] = self._pool.run(self._logins.admit(record, expected, entry, now))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def forbid(self, subject: str, before: int, keep: str | None, until: int, now: int) -> None:
        if can_be(subject):
            self._pool.run(self._logins.forbid(subject, before, keep, until, now))

    def by_subject(self, subject: str, now: int) -> list[Record]:
        found: list[Record] = []
        while can_be(subject) and len(found) % SLICE == 0:
            after = found[-1].id if found else ""
            some = self._pool.run(self._verbs.by_subject(subject, after, now), again=True)
            if not some:
                break
            found += some
        return found

    def page(self, after: str, limit: int, now: int) -> list[Record]:
        return self._pool.run(self._verbs.page(after, limit, now), again=True)

    def sweep(self, limit: int, now: int) -> int:
        return self._pool.run(self._verbs.sweep(limit, now))

    def close(self) -> None:
        """Close the connections; using the store again opens new ones."""
        self._pool.close()


class AsyncPostgresStore(_Made):
    """`PostgresStore` for asynchronous code; `pool_size` counts for each event loop. Watches.

    `listen` says what differs from `conninfo` in the connection that `watch` listens on, which must
    reach the server directly: "port=5432", say, where the other leads to a pooler.
    """

    def _start(self, options: Options, schema: Schema) -> None:
        self._pool = AsyncPool(options, schema, self._found)
        self._lines = AsyncPool(options._replace(attempts=options.lines), schema, self._found)
        verbs = self._verbs
        self._loads = Coalescer(self._sender(verbs.load, again=True), patience=self.patience)
        self._creates = self._writes(verbs.create)
        self._saves: Coalescer[Save, Saved | Gone | Record | Locked] = self._writes(verbs.save)
        self._touches = self._writes(verbs.touch)
        self._deletes = self._writes(verbs.delete)
        # One for each row, and no more than half, so that rows that stay locked hold up no other
        # that was locked for a moment, and never take all connections. So for each subject.
        self._alone = self._one_by_one(options)
        self._entries = self._one_by_one(options)

    async def load(self, id: str, now: int) -> Record | None:
        return await self._loads.ask(Load(key_of(id), now))

    async def create(self, record: Record, now: int) -> None:
        await self._creates.ask(Create(key_of(record.id), record, now))

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        call = Save(key_of(record.id), record, expected, now)
        answer = await self._saves.ask(call)
        if answer is not LOCKED:
            return answer
        again: Saved | Gone | Record = await self._wait_for(call, self._verbs.save)
        return again

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        call = Touch(key_of(id), revision, seen_at, expires_at, now)
        touched = await self._touches.ask(call)
        if touched is LOCKED:
            touched = await self._wait_for(call, self._verbs.touch)
        return touched is True

    async def delete(self, id: str, now: int) -> bool:
        call = Delete(key_of(id), now)
        was_there = await self._deletes.ask(call)
        if was_there is LOCKED:
            was_there = await self._wait_for(call, self._verbs.delete)
        return was_there is True

    async def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        subject = (record.subject or "").encode()
        unit = self._logins.admit(record, expected, entry, now)
        answer: Entered | Forbidden | Full | Gone | Record = await self._entries.ask(
            _Alone(subject, unit)
        )
        return answer

    async def forbid(
        self, subject: str, before: int, keep: str | None, until: int, now: int
    ) -> None:
        if can_be(subject):
            unit = self._logins.forbid(subject, before, keep, until, now)
            await self._entries.ask(_Alone(subject.encode(), unit))

    async def by_subject(self, subject: str, now: int) -> list[Record]:
        found: list[Record] = []
        while can_be(subject) and len(found) % SLICE == 0:
            after = found[-1].id if found else ""
            some = await self._pool.run(self._verbs.by_subject(subject, after, now), again=True)
            if not some:
                break
            found += some
        return found

    async def page(self, after: str, limit: int, now: int) -> list[Record]:
        return await self._pool.run(self._verbs.page(after, limit, now), again=True)

    async def watch(self, tell: Callable[[str], None], ready: Callable[[], None]) -> None:
        async with self._lines.apart() as link:
            await listening.watch(link, self._lines.schema.sessions, tell, ready)

    async def sweep(self, limit: int, now: int) -> int:
        return await self._pool.run(self._verbs.sweep(limit, now))

    async def close(self) -> None:
        """Close the connections of every event loop; using the store again opens new ones."""
        await self._pool.close()

    def _writes(
        self, unit: Callable[[Sequence[W]], Unit[Sequence[A | Exception]]]
    ) -> Coalescer[W, A]:
        return Coalescer(self._sender(unit), patience=self.patience, key=_key)

    def _sender(
        self, unit: Callable[[Sequence[C]], Unit[Sequence[A | Exception]]], *, again: bool = False
    ) -> Callable[[Sequence[C]], Awaitable[Sequence[A | Exception]]]:
        async def send(calls: Sequence[C]) -> Sequence[A | Exception]:
            return await self._pool.run(unit(calls), again=again)

        return send

    async def _wait_for(self, call: W, unit: Callable[..., Unit[Sequence[Any]]]) -> Any:
        """The answer of a call that found its row locked."""
        return await self._alone.ask(_Alone(call.key, unit([call], wait=True)))

    def _one_by_one(self, options: Options) -> Coalescer[_Alone, Any]:
        return Coalescer(
            self._do_alone,
            patience=self.patience,
            most=1,
            at_once=max(1, options.pool_size // 2),
            key=_key,
        )

    async def _do_alone(self, calls: Sequence[_Alone]) -> Sequence[Any]:
        return await self._pool.run(calls[0].unit)


def _key(call: Create | Save | Touch | Delete | _Alone) -> bytes:
    return call.key


def from_url(url: StoreURL) -> PostgresStore:
    """postgresql://user:password@host:port/database; timeout=0.5, connect_timeout=1, pool_size=4,
    prefix=coatcheck_, unlogged=no, create=yes, prepared=yes, listen=port=5432, and libpq's own,
    such as sslmode"""
    return PostgresStore(conninfo_of(url), **settings_of(url))


def async_from_url(url: StoreURL) -> AsyncPostgresStore:
    """postgresql://user:password@host:port/database"""
    return AsyncPostgresStore(conninfo_of(url), **settings_of(url))
