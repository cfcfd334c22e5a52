"""What is special to PostgreSQL: the table, batches, locks, poolers, forks, faults, failover."""

import asyncio
import ctypes
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from coatcheck import patience
from coatcheck.errors import Collision, ConfigurationError, StoreUnavailable
from coatcheck.record import Record
from coatcheck.sealing import KeyRing
from coatcheck.store import FORBIDDEN, GONE, SAVED, Advising, Entered, Entry, Risk
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores._postgres.link import Unit
from coatcheck.stores._postgres.statements import silence
from coatcheck.stores._postgres.waiting import drive
from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.postgres import AsyncPostgresStore, PostgresStore, schema
from coatcheck.testing import AsyncStoreContract, StoreContract, changed, ident, record, revision
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract import login
from tests.services import postgres
from tests.services.certificates import certificates
from tests.services.postgres import PASSWORD, PgBouncer, Postgres
from tests.services.process import until
from tests.services.proxy import Proxy
from tests.stopwatch import Stopwatch
from tests.threads import no_threads

T = TypeVar("T")

HOUR = 3_600_000
SECRET = "hunter2/7f3a"
LONG = 10.0
LATER = 1e9  # on the monotonic clock

# The second is one that Python's hooks hear nothing of, as uWSGI's.
forks = pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["python", "c"])

# Python 3.12 and later warn of any fork beside threads, which is what some of these are about.
forks_beside_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Either:
    """A store of either kind, its verbs called without await."""

    def __init__(self, kind: str, conninfo: str, **options: Any) -> None:
        made = PostgresStore if kind == "sync" else AsyncPostgresStore
        self.store: Any = made(conninfo, **{"timeout": LONG, "connect_timeout": LONG, **options})
        self.runner = None if kind == "sync" else asyncio.Runner()

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            answer = getattr(self.store, verb)(*arguments)
            return answer if self.runner is None else self.runner.run(_awaited(answer))

        return call

    def within(self, seconds: float, verb: str, *arguments: Any) -> Any:
        """A call of a request that has so many seconds left."""
        if self.runner is None:
            with patience.limit(seconds):
                return getattr(self.store, verb)(*arguments)

        async def call() -> Any:
            with patience.limit(seconds):
                return await getattr(self.store, verb)(*arguments)

        return self.runner.run(call())

    def end(self) -> None:
        self.close()
        if self.runner is not None:
            self.runner.close()


async def _together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*calls)


async def _awaited(answer: Any) -> Any:
    return await answer


@pytest.fixture(scope="module")
def server() -> Postgres:
    """The server that all tests share."""
    return postgres.server()


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server of this file's own, to break. Whoever breaks it leaves it running."""
    with Postgres() as started:
        yield started


@pytest.fixture
def table(tmp_path: Path) -> str:
    return f"{postgres.prefix(tmp_path)}sessions"


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, table: str) -> Iterator[Callable[..., Either]]:
    """Stores of either kind on this test's table, ended with it."""
    made: list[Either] = []

    def new(conninfo: str, **options: Any) -> Either:
        made.append(Either(request.param, conninfo, **{"table": table, **options}))
        return made[-1]

    yield new
    for each in made:
        each.end()


@pytest.fixture
def store(server: Postgres, table: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(server.conninfo(), table=table, timeout=LONG)) as opened:
        yield opened


@pytest.fixture
def twin(server: Postgres, table: str) -> AsyncPostgresStore:
    return AsyncPostgresStore(server.conninfo(), table=table, timeout=LONG)


def run(store: AsyncPostgresStore, use: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Use the store in an event loop of its own, and close it there."""

    async def main() -> T:
        try:
            return await use()
        finally:
            await store.close()

    return asyncio.run(main())


def in_child(act: Callable[[], object], fork: Callable[[], int] = os.fork) -> Any:
    """The answer of a child, as JSON."""
    reading, writing = os.pipe()
    child = fork()
    if not child:
        try:
            os.write(writing, json.dumps(act()).encode())
        except BaseException as error:  # noqa: BLE001 - the parent shall see it
            os.write(writing, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


@contextmanager
def locked(server: Postgres, table: str, number: int) -> Iterator[None]:
    """Another's transaction that holds a lock on that row."""
    with server.connect() as other, other.transaction():
        query = f'SELECT FROM "{table}" WHERE id = %s FOR UPDATE'
        other.execute(query.encode(), [ident(number)])
        yield


def took(act: Callable[[], object]) -> float:
    """Seconds until it gave up with `StoreUnavailable`."""
    with Stopwatch() as watch, pytest.raises(StoreUnavailable):
        act()
    return watch.seconds


async def _waits_for_a_lock(server: Postgres, name: str, count: int) -> None:
    """Until so many connections of that name do."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        " AND wait_event_type = 'Lock'"
    )
    happens = functools.partial(server.execute, query, name)
    await asyncio.to_thread(until, lambda: happens() == [(count,)], f"{count} waiting", LONG / 2)


def backends(server: Postgres, name: str) -> int:
    """How many connections of that name the server has."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    count: int = server.execute(query, name)[0][0]
    return count


class TestSchema:
    def test_nothing_is_reached_before_the_first_use(self, make: Callable[..., Either]) -> None:
        """A store may be made before its server is up."""
        make("host=127.0.0.1 port=1 dbname=nowhere")

    def test_the_first_use_makes_the_table(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """With its version in its comment."""
        assert make(server.conninfo()).load(ident(1), NOW) is None
        [(comment,)] = server.execute("SELECT obj_description(%s::regclass)", f'"{table}"')

        assert "coatcheck sessions, version 1" == comment

    def test_ten_processes_may_start_at_once(self, server: Postgres, table: str) -> None:
        """Each makes the table or finds it made, and all work."""
        conninfo = server.conninfo()
        program = (
            "import sys; from coatcheck.stores.postgres import PostgresStore\n"
            "from coatcheck.record import Record; sys.stdin.read(1)\n"
            f"store = PostgresStore({conninfo!r}, table={table!r}, timeout=20)\n"
            "store.create(Record(sys.argv[1], b'one', None, None, 1, 9, b''), 1); store.close()\n"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", program, ident(number)],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number in range(10)
        ]
        for each in processes:
            assert each.stdin is not None
            each.stdin.write(b"g")
            each.stdin.flush()
        said = [each.communicate(timeout=60)[1] for each in processes]

        assert [b""] * 10 == said
        assert [(10,)] == server.execute(f'SELECT count(*) FROM "{table}"')

    def test_ten_threads_that_meet_make_it_once(self, server: Postgres, table: str) -> None:
        """Each sees that the table is missing, with a store of its own."""
        together = threading.Barrier(10)

        def start(number: int) -> None:
            options: Any = {"timeout": LONG, "connect_timeout": LONG}
            store = PostgresStore(server.conninfo(), table=f"{table}{number // 10}", **options)
            with closing(store), store._pool._borrowed(LATER, LATER) as link:
                drive(link.run(store._pool.schema.look(), LONG), LONG)
                together.wait()
                drive(link.run(store._pool.schema.make(), LONG), LONG)

        with ThreadPoolExecutor(10) as threads:
            assert [None] * 50 == list(threads.map(start, range(50)))

    def test_a_store_that_may_not_create_waits_for_the_table(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """An outage that ends when somebody runs the script; twice is fine."""
        either = make(server.conninfo(), create=False)
        with pytest.raises(StoreUnavailable, match="schema"):
            either.load(ident(1), NOW)
        server.execute(schema(table))
        server.execute(schema(table))

        assert either.load(ident(1), NOW) is None

    @pytest.mark.parametrize(
        "name", ["{}.a table", '{}.With"quote', "{}.ünï", "{}.a;b--'", "{}." + "é" * 25]
    )
    def test_names_are_quoted(
        self, make: Callable[..., Either], server: Postgres, table: str, name: str
    ) -> None:
        """In a schema of their own, whatever characters they have."""
        server.execute(f'CREATE SCHEMA IF NOT EXISTS "{table}"')
        either = make(server.conninfo(), table=name.format(table))
        either.admit(login(), b"", Entry(NOW), NOW)
        found = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", table)
        made = name.format("x").removeprefix("x.")

        assert {made, f"{made}_marks"} <= {row[0] for row in found}

    @pytest.mark.parametrize(
        "name", ["", ".", "a.b.c", "a.", "x" * 51, "a\0b", "a\nb", "\ud800", None, 5]
    )
    def test_a_name_that_cannot_be_is_refused(self, name: Any) -> None:
        """When the store is made."""
        with pytest.raises(ConfigurationError, match="expected table"):
            PostgresStore("", table=name)
        with pytest.raises(ConfigurationError, match="expected table"):
            schema(name)

    def test_a_newer_version_is_refused(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """And left as it is."""
        make(server.conninfo()).create(record(), NOW)
        server.execute(f"COMMENT ON TABLE \"{table}\" IS 'coatcheck sessions, version 2'")
        with pytest.raises(ConfigurationError, match="version 2"):
            make(server.conninfo()).load(ident(1), NOW)

        assert [(1,)] == server.execute(f'SELECT count(*) FROM "{table}"')

    @pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
    def test_a_table_that_is_not_ours_is_refused(
        self, make: Callable[..., Either], server: Postgres, table: str, kind: str
    ) -> None:
        """And left as it is."""
        server.execute(f'CREATE {kind} "{table}" AS SELECT 1 AS theirs')
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="another table's name"):
                make(server.conninfo()).load(ident(1), NOW)

        assert [(1,)] == server.execute(f'SELECT * FROM "{table}"')

    def test_a_table_that_was_dropped_is_made_again(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """The request that meets it fails, the next one works."""
        either = make(server.conninfo())
        either.create(record(), NOW)
        server.execute(f'DROP TABLE "{table}"')
        with pytest.raises(StoreUnavailable, match="42P01"):
            either.load(ident(1), NOW)

        assert either.load(ident(1), NOW) is None

    def test_a_database_that_is_not_in_utf_8_is_refused(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """It could not keep every subject."""
        name = f"d{table}"
        server.execute(f'CREATE DATABASE "{name}" ENCODING LATIN1 LOCALE "C" TEMPLATE template0')
        with pytest.raises(ConfigurationError, match="UTF8"):
            make(server.conninfo(dbname=name)).load(ident(1), NOW)

    @pytest.mark.parametrize(
        ("query", "index"),
        [
            (f"id = ANY ('{{{ident(1)}}}'::uuid[])", "pkey"),
            (
                f"subject = 'user:1' AND id >= '{ident(1)}' AND expires_at > 5 ORDER BY id LIMIT 9",
                "by_subject",
            ),
            ("id >= gen_random_uuid() AND expires_at > 5 ORDER BY id LIMIT 9", "pkey"),
            ("due <= 5 AND expires_at <= 5 ORDER BY due LIMIT 9", "by_due"),
        ],
    )
    def test_every_search_has_an_index(
        self, store: PostgresStore, server: Postgres, table: str, query: str, index: str
    ) -> None:
        """Of the statements' conditions none reads the whole table."""
        store.load(ident(1), NOW)
        with server.connect() as connection:
            connection.execute("SET enable_seqscan = off")
            plan = connection.execute(
                f'EXPLAIN SELECT * FROM "{table}" WHERE {query}'.encode()
            ).fetchall()

        assert [True] == [f"{table}_{index}" in row[0] for row in plan if "Index Scan" in row[0]]

    def test_saves_touch_no_index(self, store: PostgresStore, server: Postgres, table: str) -> None:
        """Most of them are HOT updates, though each prolongs the session."""
        first = record(payload=os.urandom(400), subject="user:1")
        for number in range(200):
            store.create(record(ident(number), payload=os.urandom(400)), NOW)
        store.create(first := record(ident(999), payload=os.urandom(400), subject="u"), NOW)
        for number in range(200):
            later = {"seen_at": NOW + number, "expires_at": first.expires_at + 1000}
            second = changed(first, payload=os.urandom(400), **later)
            assert SAVED is store.save(second, first.revision, NOW)
            first = second
            store.touch(first.id, first.revision, NOW + number, first.expires_at + 500, NOW)
        store.close()
        query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s"
        until(lambda: server.execute(query, table)[0][0] == 400, "a report of 400 updates")
        [(_, hot)] = server.execute(query, table)

        assert hot > 380

    def test_a_row_is_small(self, store: PostgresStore, server: Postgres, table: str) -> None:
        """What a record takes beside its payload."""
        for number in range(1000):
            store.create(record(ident(number), subject="user:42", payload=bytes(400)), NOW)
        [(size,)] = server.execute(f'SELECT pg_column_size(kept.*) FROM "{table}" AS kept LIMIT 1')

        assert size - 400 < 120

    def test_a_table_of_before_there_were_marks_gets_one(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """Its sessions stay."""
        make(server.conninfo()).create(login(1), NOW)
        server.execute(f'DROP TABLE "{table}_marks"')
        either = make(server.conninfo())
        either.forbid("user:1", NOW + 1, None, NOW + HOUR, NOW)

        assert FORBIDDEN is either.admit(login(2), b"", Entry(NOW), NOW)
        assert [login(1).id] == [each.id for each in either.by_subject("user:1", NOW)]

    def test_marks_that_are_missing_or_not_ours_are_told(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """By their own name, as the table of sessions is."""
        make(server.conninfo()).load(ident(1), NOW)
        server.execute(f'DROP TABLE "{table}_marks"')
        with pytest.raises(StoreUnavailable, match=f"{table}_marks, got none"):
            make(server.conninfo(), create=False).load(ident(1), NOW)
        server.execute(f'CREATE TABLE "{table}_marks" AS SELECT 1 AS theirs')
        with pytest.raises(ConfigurationError, match=f"another for {table}_marks"):
            make(server.conninfo()).load(ident(1), NOW)


class TestUnlogged:
    def test_an_unlogged_table_may_forget(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """The store says so, and is refused for revocations."""
        either = make(server.conninfo(), unlogged=True)
        either.create(record(), NOW)
        query = "SELECT relpersistence::text FROM pg_class WHERE relname = %s"

        assert [("u",)] == server.execute(query, table)
        assert either.store.evicts
        with pytest.raises(ConfigurationError, match="forgets"):
            CookieStore(KeyRing("k" * 43), revocations=either.store)

    def test_a_logged_table_keeps(self, make: Callable[..., Either], server: Postgres) -> None:
        """That is the default."""
        assert not make(server.conninfo()).store.evicts

    @pytest.mark.parametrize("unlogged", [True, False])
    def test_the_option_must_fit_the_table(
        self, make: Callable[..., Either], server: Postgres, unlogged: bool
    ) -> None:
        """Else a store would promise what its table cannot keep."""
        make(server.conninfo(), unlogged=unlogged).load(ident(1), NOW)
        with pytest.raises(ConfigurationError, match=r"SET (UN)?LOGGED"):
            make(server.conninfo(), unlogged=not unlogged).load(ident(1), NOW)


class TestBatches:
    def test_calls_of_one_turn_leave_together(
        self, server: Postgres, table: str, twin: AsyncPostgresStore
    ) -> None:
        """Sixty-four loads are one message, and sixty-four saves another."""
        records = [record(ident(number)) for number in range(64)]
        requests: list[bytes] = []

        async def use() -> None:
            async def all_at_once(calls: list[Coroutine[Any, Any, Any]]) -> list[Any]:
                return await asyncio.gather(*calls)

            await all_at_once([twin.create(each, NOW) for each in records])
            for _ in range(2):  # the first prepares
                await all_at_once([twin.load(each.id, NOW) for each in records])
            requests.clear()
            await all_at_once([twin.load(each.id, NOW) for each in records])
            assert 1 == len(requests)
            await all_at_once([twin.save(changed(e), e.revision, NOW) for e in records])
            assert 1 < len(requests) <= 4

        with Proxy(server.port) as proxy:
            proxy.on_request = requests.append
            twin = AsyncPostgresStore(server.conninfo(port=proxy.port), table=table, timeout=LONG)
            run(twin, use)

    def test_each_row_is_compared_by_itself(self, twin: AsyncPostgresStore) -> None:
        """In one batch: saved, refused with what is there, expired, and never there."""
        good, other = record(ident(1)), record(ident(2), payload=b"found", subject="user:1")
        expired = record(ident(3), expires_at=NOW + 1)

        async def use() -> list[Any]:
            for each in (good, other, expired):
                await twin.create(each, NOW)
            return await _together(
                twin.save(changed(good), good.revision, NOW + 1),
                twin.save(changed(other), revision(), NOW + 1),
                twin.save(changed(expired, expires_at=NOW + 9), expired.revision, NOW + 1),
                twin.save(record(ident(4)), revision(), NOW + 1),
            )

        assert [SAVED, other, GONE, GONE] == run(twin, use)

    def test_touches_and_deletes_too(self, twin: AsyncPostgresStore) -> None:
        """Each call has its own answer, and its own `now`."""
        good, other = record(ident(1)), record(ident(2), expires_at=NOW + 5)

        async def use() -> list[Any]:
            await asyncio.gather(twin.create(good, NOW), twin.create(other, NOW))
            touched = await asyncio.gather(
                twin.touch(good.id, good.revision, NOW, NOW + HOUR, NOW),
                twin.touch(other.id, other.revision, NOW, NOW + HOUR, NOW + 5),
                twin.touch(ident(3), revision(), NOW, NOW + HOUR, NOW),
            )
            deleted = await asyncio.gather(
                twin.delete(good.id, NOW), twin.delete(other.id, NOW + 5), twin.delete(ident(3), 0)
            )
            return [*touched, *deleted, await twin.page("", 9, 0)]

        assert [True, False, False, True, False, False, []] == run(twin, use)

    def test_a_collision_is_its_callers_alone(self, twin: AsyncPostgresStore) -> None:
        """The others of the batch are created."""

        async def use() -> list[Any]:
            await twin.create(record(ident(2)), NOW)
            made = [twin.create(record(ident(number)), NOW) for number in (1, 2, 3)]
            answers = await asyncio.gather(*made, return_exceptions=True)
            return [type(answer) for answer in answers]

        assert [type(None), Collision, type(None)] == run(twin, use)

    def test_a_locked_row_holds_up_nobody_else(
        self, server: Postgres, table: str, twin: AsyncPostgresStore
    ) -> None:
        """The others of its batch are saved while it waits; it is saved when it can be."""
        records = [record(ident(number)) for number in range(9)]

        async def use() -> list[Any]:
            await asyncio.gather(*(twin.create(each, NOW) for each in records))
            with locked(server, table, 4):
                calls = [
                    asyncio.ensure_future(twin.save(changed(e), e.revision, NOW)) for e in records
                ]
                others = [call for number, call in enumerate(calls) if number != 4]
                await asyncio.gather(*others)
                assert not calls[4].done()
            return [await call for call in calls]

        assert [SAVED] * 9 == run(twin, use)

    def test_a_row_that_stays_locked_holds_up_no_other_that_was(
        self, server: Postgres, table: str, twin: AsyncPostgresStore
    ) -> None:
        """However many wait for it, another is saved as soon as it is free."""
        records = [record(ident(number)) for number in range(2)]

        async def use() -> list[Any]:
            await asyncio.gather(*(twin.create(each, NOW) for each in records))
            with locked(server, table, 0):
                with locked(server, table, 1):
                    stuck = [
                        asyncio.ensure_future(twin.touch(ident(0), revision(), NOW, NOW, NOW))
                        for _ in range(4)
                    ]
                    await _waits_for_a_lock(server, table, 1)
                    other = asyncio.ensure_future(
                        twin.save(changed(records[1]), records[1].revision, NOW)
                    )
                    await _waits_for_a_lock(server, table, 2)
                answers = [await other]
                assert not any(each.done() for each in stuck)
            return [*answers, *await asyncio.gather(*stuck)]

        twin = AsyncPostgresStore(
            server.conninfo(application_name=table), table=table, timeout=LONG, connect_timeout=LONG
        )
        assert [SAVED, False, False, False, False] == run(twin, use)

    @pytest.mark.parametrize("verb", ["save", "touch", "delete"])
    def test_a_row_that_stays_locked_is_given_up(
        self, make: Callable[..., Either], server: Postgres, table: str, verb: str
    ) -> None:
        """In time, with nothing written, and the connection stays in use."""
        either = make(server.conninfo(application_name=table), timeout=0.4)
        first = record()
        either.create(first, NOW)
        arguments = {
            "save": (changed(first), first.revision, NOW),
            "touch": (first.id, first.revision, NOW, NOW + 2 * HOUR, NOW),
            "delete": (first.id, NOW),
        }
        with locked(server, table, 1), pytest.raises(StoreUnavailable, match="57014"):
            getattr(either, verb)(*arguments[verb])

        assert first == either.load(first.id, NOW)

    @pytest.mark.parametrize("by", ["trigger", "policy"])
    def test_an_end_that_the_server_keeps_from_happening_is_told(
        self, make: Callable[..., Either], server: Postgres, table: str, by: str
    ) -> None:
        """Else the session would live on behind a logout that went well."""
        make(server.conninfo()).create(record(), NOW)
        if by == "trigger":
            server.execute(
                f"""
                CREATE FUNCTION "{table}_keep"() RETURNS trigger LANGUAGE plpgsql
                    AS 'BEGIN RETURN NULL; END';
                CREATE TRIGGER keep BEFORE DELETE ON "{table}"
                    FOR EACH ROW EXECUTE FUNCTION "{table}_keep"()
                """
            )
        else:
            server.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
            server.execute(f'CREATE POLICY a ON "{table}" FOR SELECT USING (true)')
            server.execute(f'CREATE POLICY b ON "{table}" FOR UPDATE USING (true)')
        either = make(server.conninfo(user="app", password=PASSWORD))
        server.execute(f'GRANT ALL ON "{table}" TO app')
        with pytest.raises(StoreUnavailable, match="one that stayed"):
            either.delete(ident(1), NOW)

        assert either.load(ident(1), NOW) is not None
        assert either.delete(ident(2), NOW) is False

    @pytest.mark.parametrize("level", ["repeatable read", "serializable"])
    @pytest.mark.parametrize("prepared", [True, False])
    def test_who_waits_for_a_row_is_never_refused_it(
        self, make: Callable[..., Either], server: Postgres, table: str, level: str, prepared: bool
    ) -> None:
        """Whatever the role's default isolation is: its batch would fail with it."""
        option = f"-c default_transaction_isolation={level}".replace(" r", r"\ r")
        conninfo = server.conninfo(application_name=table, options=option)
        either = make(conninfo, prepared=prepared)
        either.create(record(), NOW)
        with ThreadPoolExecutor(1) as threads, server.connect() as other:
            with other.transaction():
                other.execute(f'UPDATE "{table}" SET seen_at = seen_at + 1'.encode())
                ending = threads.submit(either.delete, ident(1), NOW)
                asyncio.run(_waits_for_a_lock(server, table, 1))
            assert True is ending.result()

    def test_crossing_batches_never_deadlock(self, server: Postgres, table: str) -> None:
        """Two stores that write the same sessions in opposite orders, and one that sweeps."""
        records = [record(ident(number)) for number in range(40)]
        stores = [
            AsyncPostgresStore(server.conninfo(), table=table, timeout=LONG) for _ in range(3)
        ]

        async def write(store: AsyncPostgresStore, order: int) -> int:
            saved = 0
            for turn in range(15):
                found = await asyncio.gather(*(store.load(e.id, NOW) for e in records[::order]))
                alive = [each for each in found if each is not None]
                calls = [
                    store.touch(e.id, e.revision, NOW + turn, e.expires_at, NOW)
                    if number % 3 == 0
                    else store.save(changed(e), e.revision, NOW)
                    for number, e in enumerate(alive)
                ]
                saved += sum(answer is SAVED for answer in await asyncio.gather(*calls))
            return saved

        async def use() -> int:
            await asyncio.gather(*(stores[0].create(each, NOW) for each in records))
            done = asyncio.gather(*(write(s, o) for s, o in zip(stores, (1, -1, 1), strict=True)))
            while not done.done():
                await stores[0].sweep(10, NOW)
            for each in stores:
                await each.close()
            return sum(await done)

        before = server.execute("SELECT deadlocks FROM pg_stat_database WHERE datname='postgres'")
        assert asyncio.run(use()) >= 40 * 15 // 2
        assert before == server.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname='postgres'"
        )

    def test_no_save_is_lost_between_batches(self, server: Postgres, table: str) -> None:
        """Every save that went through is one step further, whoever saves."""
        stores = [
            AsyncPostgresStore(server.conninfo(), table=table, timeout=LONG) for _ in range(2)
        ]

        async def count(store: AsyncPostgresStore) -> int:
            saved = 0
            while saved < 10:
                found = await store.load(ident(1), NOW)
                assert found is not None
                further = changed(found, payload=b"%d" % (int(found.payload) + 1))
                saved += await store.save(further, found.revision, NOW) is SAVED
            return saved

        async def use() -> bytes:
            await stores[0].create(record(payload=b"0"), NOW)
            await asyncio.gather(*(count(store) for store in stores for _ in range(4)))
            found = await stores[0].load(ident(1), NOW)
            for each in stores:
                await each.close()
            assert found is not None
            return found.payload

        assert b"80" == asyncio.run(use())

    def test_several_sweep_at_once(self, server: Postgres, table: str) -> None:
        """Each removes others; together they remove all that expired, and none that lives."""
        with closing(PostgresStore(server.conninfo(), table=table, timeout=LONG)) as store:
            for number in range(300):
                store.create(record(ident(number), expires_at=NOW + 1 + number % 2 * HOUR), NOW)

            def sweep(_: int) -> int:
                swept = 0
                while removed := store.sweep(20, NOW + 1):
                    swept += removed
                return swept

            with ThreadPoolExecutor(4) as threads:
                counts = list(threads.map(sweep, range(4)))

            assert 150 == sum(counts)
            assert 150 == len(store.page("", 999, NOW))

    def test_a_locked_row_holds_up_no_sweep(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """It is left for the next one."""
        either = make(server.conninfo(), timeout=0.5)
        for number in range(3):
            either.create(record(ident(number), expires_at=NOW + 1), NOW)
        with locked(server, table, 1):
            assert 2 == either.sweep(9, NOW + 1)

        assert 1 == either.sweep(9, NOW + 1)

    @pytest.mark.parametrize("count", [199, 200, 401])
    def test_a_subject_may_have_any_number_of_sessions(
        self, make: Callable[..., Either], server: Postgres, table: str, count: int
    ) -> None:
        """They are read in slices, each of which has the time of a call."""
        either = make(server.conninfo())
        either.create(record(ident(0), subject="user:1"), NOW)
        either.create(record("f" * 32, subject="user:1"), NOW)
        either.create(record(ident(1), subject="user:2"), NOW)
        server.execute(
            f"""
            INSERT INTO "{table}" SELECT gen_random_uuid(), expires_at, seen_at, login_at, due,
                revision, subject, payload FROM "{table}", generate_series(3, %s)
                WHERE id = '{ident(0)}'
            """,
            count,
        )
        found = {each.id for each in either.by_subject("user:1", NOW)}

        assert count == len(found)
        assert {ident(0), "f" * 32} <= found
        assert ident(1) not in found

    @pytest.mark.parametrize("subject", ["a\0b", "\ud800"])
    def test_a_subject_that_cannot_be_has_none(
        self, make: Callable[..., Either], server: Postgres, subject: str
    ) -> None:
        """It is no outage: the server has no such text."""
        assert [] == make(server.conninfo()).by_subject(subject, NOW)

    @pytest.mark.parametrize("after", ["", ident(2), "f" * 32])
    def test_pages_begin_behind_an_id(self, store: PostgresStore, after: str) -> None:
        """And end at the last there can be; a limit below one is none."""
        everything = [ident(0), ident(2), ident(3), "f" * 32]
        for each in everything:
            store.create(record(each), NOW)

        expected = [each for each in everything if each > after]
        assert expected == [each.id for each in store.page(after, 9, NOW)]
        assert [] == store.page(after, -1, NOW)

    def test_times_may_be_far_away(self, make: Callable[..., Either], server: Postgres) -> None:
        """The hour of an expiry fits, however late it is."""
        either = make(server.conninfo())
        far = record(expires_at=2**62, seen_at=0)
        either.create(far, NOW)

        assert far == either.load(far.id, NOW)
        assert 0 == either.sweep(9, NOW)


class TestLogins:
    @pytest.mark.parametrize("refuse", [False, True])
    def test_of_logins_through_two_stores_exactly_so_many_stay(
        self, server: Postgres, table: str, store: PostgresStore, refuse: bool
    ) -> None:
        """Ten threads of one process, say, and ten tasks of another, with room for three."""
        store.load(ident(1), NOW)
        _slow_down(server, table)
        twin = AsyncPostgresStore(server.conninfo(), table=table, timeout=LONG)
        entry = Entry(NOW, most=3, refuse=refuse)
        logins = [login(n, login_at=NOW + n) for n in range(1, 21)]

        def admit(each: Record) -> Any:
            return store.admit(each, b"", entry, NOW)

        async def use() -> list[Any]:
            return await _together(*(twin.admit(each, b"", entry, NOW) for each in logins[1::2]))

        with ThreadPoolExecutor(11) as threads:
            others = threads.submit(run, twin, use)
            answers = list(threads.map(admit, logins[::2])) + others.result()
        admitted = [
            each.id
            for each, answer in zip(logins[::2] + logins[1::2], answers, strict=True)
            if isinstance(answer, Entered)
        ]
        left = sorted(each.id for each in store.by_subject("user:1", NOW))

        assert left == (sorted(admitted) if refuse else [ident(18), ident(19), ident(20)])
        assert 3 == len(left)

    def test_a_mark_waits_for_a_login_that_is_under_way(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """So whoever set it finds that login; those of others it does not wait for."""
        conninfo = server.conninfo(application_name=table)
        entering, forbidding = make(conninfo), make(conninfo)
        entering.create(login(1), NOW)
        newer = login(2, login_at=NOW + 1)
        mark = (NOW + 2, None, NOW + HOUR, NOW + 2)
        with ThreadPoolExecutor(2) as threads:
            with locked(server, table, 1):
                entered = threads.submit(entering.admit, newer, b"", Entry(NOW, most=1), NOW)
                asyncio.run(_waits_for_a_lock(server, table, 1))
                forbidding.forbid("user:2", *mark)
                forbidden = threads.submit(forbidding.forbid, "user:1", *mark)
                asyncio.run(_waits_for_a_lock(server, table, 2))
            forbidden.result()

            assert [newer] == forbidding.by_subject("user:1", NOW)
            assert Entered((ident(1),)) == entered.result()

    @pytest.mark.parametrize(
        ("meanwhile", "ended", "left"),
        [
            ("UPDATE {} SET revision = 'other' WHERE id = %s", (ident(1),), [2]),
            ("UPDATE {} SET subject = 'user:2' WHERE id = %s", (), [1, 2]),
            ("DELETE FROM {} WHERE id = %s", (), [2]),
        ],
    )
    def test_a_session_that_is_to_end_is_met_as_it_is_by_then(
        self,
        make: Callable[..., Either],
        server: Postgres,
        table: str,
        meanwhile: str,
        ended: tuple[str, ...],
        left: list[int],
    ) -> None:
        """A save that comes between does not rescue it; but it may have become another's."""
        either = make(server.conninfo(application_name=table))
        either.create(login(1), NOW)
        newer = login(2, login_at=NOW + 1)
        with ThreadPoolExecutor(1) as threads, server.connect() as other:
            with other.transaction():
                other.execute(meanwhile.format(f'"{table}"').encode(), [ident(1)])
                entering = threads.submit(either.admit, newer, b"", Entry(NOW, most=1), NOW)
                asyncio.run(_waits_for_a_lock(server, table, 1))
            assert Entered(ended) == entering.result()

        assert [ident(number) for number in left] == [each.id for each in either.page("", 9, NOW)]

    def test_a_login_meets_what_was_saved_meanwhile(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """It is refused with the newer record, as a save would be, and ends nobody."""
        either = make(server.conninfo(application_name=table))
        first = record(ident(2))
        either.create(first, NOW)
        either.create(login(1), NOW)
        second = changed(first, subject="user:1", login_at=NOW + 1)
        with ThreadPoolExecutor(1) as threads, server.connect() as other:
            with other.transaction():
                query = (
                    f"UPDATE \"{table}\" SET payload = 'newer', revision = 'other' WHERE id = %s"
                )
                other.execute(query.encode(), [first.id])
                entering = threads.submit(
                    either.admit, second, first.revision, Entry(NOW, most=1), NOW
                )
                asyncio.run(_waits_for_a_lock(server, table, 1))
            assert b"newer" == entering.result().payload

        assert 2 == len(either.page("", 9, NOW))

    def test_a_login_whose_id_is_taken_meanwhile_ends_nobody(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """By a record that could not be seen yet when it was judged."""
        either = make(server.conninfo(application_name=table))
        either.create(login(1), NOW)
        newer = login(2, login_at=NOW + 1)
        query = f"""
            INSERT INTO "{table}" SELECT '{ident(2)}', expires_at, seen_at, NULL, due, 'other',
                NULL, payload FROM "{table}"
        """
        with ThreadPoolExecutor(1) as threads, server.connect() as other:
            with other.transaction():
                other.execute(query.encode())
                entering = threads.submit(either.admit, newer, b"", Entry(NOW, most=1), NOW)
                asyncio.run(_waits_for_a_lock(server, table, 1))
            with pytest.raises(Collision):
                entering.result()

        assert [ident(1)] == [each.id for each in either.by_subject("user:1", NOW)]

    def test_a_refused_login_leaves_what_it_was_to_replace(
        self, make: Callable[..., Either], server: Postgres
    ) -> None:
        """Only what has its very revision is its own, and goes."""
        either = make(server.conninfo())
        either.create(first := record(), NOW)
        either.forbid("user:1", NOW + 1, None, NOW + HOUR, NOW)
        second = changed(first, subject="user:1", login_at=NOW)

        assert FORBIDDEN is either.admit(second, first.revision, Entry(NOW), NOW)
        assert first == either.load(first.id, NOW)

    def test_a_login_replaces_what_expired(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """Where nothing is expected; a save does not."""
        either = make(server.conninfo())
        old = login(1, expires_at=NOW + 1)
        either.create(old, NOW)
        assert GONE is either.admit(changed(old), old.revision, Entry(NOW), NOW + 1)
        newer = login(1)

        assert Entered() == either.admit(newer, b"", Entry(NOW), NOW + 1)
        assert newer == either.load(ident(1), NOW + 1)

    def test_a_login_that_waits_in_vain_leaves_everything(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """Where a session that it would end stays locked; those of others go through meanwhile."""
        either = make(server.conninfo(), timeout=1.0)
        either.create(login(1), NOW)
        entry = Entry(NOW, most=1)
        with locked(server, table, 1):
            with pytest.raises(StoreUnavailable, match="57014"):
                either.admit(login(2), b"", entry, NOW)
            assert Entered() == either.admit(login(3, subject="user:2"), b"", entry, NOW)

        assert [ident(1)] == [each.id for each in either.by_subject("user:1", NOW)]

    def test_sessions_that_change_hands_crosswise_never_deadlock(
        self, server: Postgres, table: str
    ) -> None:
        """Each login would end the other's session, which is becoming its own subject's."""
        conninfo = server.conninfo(application_name=table)
        pair = [login(number, subject=f"user:{number}") for number in (1, 2)]
        entry = Entry(NOW, most=1)

        with (
            closing(PostgresStore(conninfo, table=table, timeout=LONG)) as store,
            ThreadPoolExecutor(2) as threads,
        ):

            def enter(kept: Record, subject: str) -> Any:
                becoming = changed(kept, subject=subject, login_at=NOW + 1)
                return store.admit(becoming, kept.revision, entry, NOW)

            for each in pair:
                store.create(each, NOW)
            with locked(server, table, 1), locked(server, table, 2):
                entering = [threads.submit(enter, pair[0], "user:2")]
                asyncio.run(_waits_for_a_lock(server, table, 1))
                entering.append(threads.submit(enter, pair[1], "user:1"))
                asyncio.run(_waits_for_a_lock(server, table, 2))

            assert [Entered((ident(2),)), GONE] == [each.result() for each in entering]

    def test_an_end_that_the_server_keeps_from_happening_is_told(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """Else there would be one session more than the limit says."""
        either = make(server.conninfo())
        either.create(login(1), NOW)
        server.execute(
            f"""
            CREATE FUNCTION "{table}_keep"() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN RETURN NULL; END';
            CREATE TRIGGER keep BEFORE DELETE ON "{table}"
                FOR EACH ROW EXECUTE FUNCTION "{table}_keep"()
            """
        )
        with pytest.raises(StoreUnavailable, match="one that stayed"):
            either.admit(login(2, login_at=NOW + 1), b"", Entry(NOW, most=1), NOW)

    def test_marks_that_lapsed_are_swept(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """With the sessions, without being counted as such."""
        either = make(server.conninfo())
        either.forbid("user:1", NOW, None, NOW + 5, NOW)
        either.forbid("user:2", NOW, ident(1), NOW + 6, NOW)
        either.create(record(expires_at=NOW + 5), NOW)

        assert [1, 0] == [either.sweep(9, NOW + 5) for _ in range(2)]
        assert [("user:2",)] == server.execute(f'SELECT subject FROM "{table}_marks"')

    @pytest.mark.parametrize("subject", ["a\0b", "\ud800"])
    def test_a_subject_that_cannot_be_needs_no_mark(
        self, make: Callable[..., Either], server: Postgres, subject: str
    ) -> None:
        """It is no outage: nobody can log in as that."""
        make(server.conninfo()).forbid(subject, NOW, None, NOW + HOUR, NOW)


def _slow_down(server: Postgres, table: str) -> None:
    """Each row is written a while before its transaction ends, so that those meet that can."""
    server.execute(
        f"""
        CREATE FUNCTION "{table}_slow"() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END';
        CREATE TRIGGER slow AFTER INSERT ON "{table}"
            FOR EACH ROW EXECUTE FUNCTION "{table}_slow"()
        """
    )


class TestWatching:
    """One process listens, another writes."""

    def test_each_end_and_change_of_hands_is_told(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """Nothing else is: not what expired, nor what is only saved, prolonged or begun."""
        either = make(server.conninfo())
        old, plain = login(1), record(ident(2))
        entry = Entry(NOW, most=1)

        def act() -> None:
            either.create(old, NOW)
            either.create(plain, NOW)
            either.create(record(ident(3), expires_at=NOW + 1), NOW)
            either.create(record(ident(4), expires_at=NOW + 1), NOW)
            either.touch(old.id, old.revision, NOW + 1, NOW + 2 * HOUR, NOW)
            either.save(saved := changed(old), old.revision, NOW)
            either.admit(changed(saved), saved.revision, entry, NOW)
            either.delete(ident(3), NOW + 1)
            either.sweep(9, NOW + 1)
            either.admit(login(5, subject="user:2"), b"", entry, NOW)
            becoming = changed(plain, subject="user:1", login_at=NOW + 1)
            either.admit(becoming, plain.revision, entry, NOW)
            either.save(changed(becoming, subject="user:3"), becoming.revision, NOW)
            either.delete(ident(5), NOW)

        async def use(heard: "_Heard") -> None:
            await asyncio.to_thread(act)
            await heard.until(4)

        told = _watched(server.conninfo(), table, use)
        assert [ident(1), ident(2), ident(2), ident(5)] == sorted(told[:2]) + told[2:]

    def test_a_refused_login_is_told_if_it_was_written(
        self, store: PostgresStore, server: Postgres, table: str
    ) -> None:
        """By an earlier call, whose answer was lost."""
        lost = login(1)

        def act() -> None:
            store.admit(lost, b"", Entry(NOW), NOW)
            store.forbid("user:1", NOW + 1, None, NOW + HOUR, NOW)
            assert FORBIDDEN is store.admit(lost, b"", Entry(NOW), NOW)

        async def use(heard: "_Heard") -> None:
            await asyncio.to_thread(act)
            await heard.until(1)

        assert [ident(1)] == _watched(server.conninfo(), table, use)

    def test_nothing_is_told_where_nobody_listens(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """Since those who tell can commit only one after another."""
        either = make(server.conninfo())
        either.create(login(1), NOW)
        with server.connect() as other:
            [(number,)] = server.execute("SELECT %s::regclass::oid::int8", f'"{table}"')
            other.execute(f"LISTEN coatcheck_{number}".encode())
            either.delete(ident(1), NOW)
            other.execute(f"NOTIFY coatcheck_{number}, 'end'".encode())

            assert ["end"] == [each.payload for each in other.notifies(timeout=LONG, stop_after=1)]

    def test_who_listens_waits_for_what_ends_in_silence(
        self, store: PostgresStore, server: Postgres, table: str
    ) -> None:
        """It was begun when nobody listened; when it can be seen, nothing is missed any more."""
        store.load(ident(1), NOW)
        conninfo = server.conninfo(application_name=table)
        lock = silence("5", f"'\"{table}\"'::regclass::oid")

        async def main() -> bool:
            with server.connect() as other:
                with other.transaction():
                    other.execute(f"SELECT pg_try_advisory_xact_lock{lock}".encode())
                    heard = _Heard(AsyncPostgresStore(conninfo, table=table, timeout=LONG))
                    await _waits_for_a_lock(server, table, 1)
                    waited = not heard.ready.is_set()
                await heard.is_ready()
            await heard.end()
            return waited

        assert asyncio.run(main())

    def test_a_line_that_ends_is_told_and_can_be_had_again(
        self, server: Postgres, table: str
    ) -> None:
        """As when its server's process is ended."""
        conninfo = server.conninfo(application_name=table)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"

        async def use(heard: "_Heard") -> None:
            await asyncio.to_thread(server.execute, end, table)
            with pytest.raises(StoreUnavailable, match=r"57P01|closed"):
                await asyncio.wait_for(heard.task, LONG)

        for _ in range(2):
            assert [] == _watched(conninfo, table, use)

    def test_a_line_that_is_half_dead_is_noticed(self, server: Postgres, table: str) -> None:
        """Nothing comes through, and nobody says so; within two seconds."""
        with Proxy(server.port) as proxy:

            async def use(heard: "_Heard") -> None:
                proxy.silent = True
                with (
                    Stopwatch() as watch,
                    pytest.raises(StoreUnavailable, match="expected an answer"),
                ):
                    await asyncio.wait_for(heard.task, LONG)
                assert watch.seconds < 2 + 1.5
                proxy.heal()

            conninfo = server.conninfo(port=proxy.port, application_name=table)
            assert [] == _watched(conninfo, table, use)
            until(lambda: backends(server, table) == 0, "the end of its connection")

    def test_a_table_that_was_made_anew_ends_the_line(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """What ends in it would be told elsewhere."""

        async def use(heard: "_Heard") -> None:
            server.execute(f'DROP TABLE "{table}"')
            server.execute(schema(table))
            with pytest.raises(StoreUnavailable, match="got another"):
                await asyncio.wait_for(heard.task, LONG)

        assert [] == _watched(server.conninfo(), table, use)

    def test_a_pooler_is_refused_and_can_be_passed_by(
        self, server: Postgres, bouncer: PgBouncer, table: str
    ) -> None:
        """It would give the connection that listens to others; `listen` says where to go."""

        async def use(heard: "_Heard") -> None:
            await heard.store.create(record(), NOW)
            await heard.store.delete(ident(1), NOW)
            await heard.until(1)

        options: Any = {"prepared": False}
        with pytest.raises(StoreUnavailable, match="listen="):
            _watched(bouncer.conninfo(), table, use, **options)
        direct = f"port={server.port}"

        assert [ident(1)] == _watched(bouncer.conninfo(), table, use, listen=direct, **options)

    def test_who_stops_leaves_no_connection(self, server: Postgres, table: str) -> None:
        """Nor a lock, so that nothing is told any more."""

        async def use(heard: "_Heard") -> None:
            assert 1 == backends(server, table)

        assert [] == _watched(server.conninfo(application_name=table), table, use)
        until(lambda: backends(server, table) == 0, "the end of its connection")

    def test_the_line_is_told_what_differs(self) -> None:
        """The rest is the other connections'; a host's address is not another host's."""
        given = f"host=a hostaddr=10.0.0.1 port=1 user=me password={SECRET}"
        lines = [
            PostgresStore(given, listen=listen)._pool.options.lines[0]
            for listen in ("", "port=2", "host=b", "postgresql://you@c:3/")
        ]
        names = ("host", "hostaddr", "port", "user", "password")

        assert [
            ("a", "10.0.0.1", "1", "me", SECRET),
            ("a", "10.0.0.1", "2", "me", SECRET),
            ("b", None, "5432", "me", SECRET),
            ("c", None, "3", "you", SECRET),
        ] == [tuple(line.get(name) for name in names) for line in lines]


class _Heard:
    """What a store that watches is told."""

    def __init__(self, store: AsyncPostgresStore) -> None:
        self.store = store
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.all: list[str] = []
        self.ready = asyncio.Event()
        self.task = asyncio.ensure_future(store.watch(self.told.put_nowait, self.ready.set))

    async def is_ready(self) -> None:
        """Raises what ended it instead."""
        ready = asyncio.ensure_future(self.ready.wait())
        await asyncio.wait([ready, self.task], return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            ready.cancel()
            self.task.result()

    async def until(self, count: int) -> None:
        """So many ids."""
        async with asyncio.timeout(LONG):
            while len(self.all) < count:
                self.all.append(await self.told.get())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.store.close()


def _watched(
    conninfo: str, table: str, use: Callable[[_Heard], Coroutine[Any, Any, None]], **options: Any
) -> list[str]:
    """What a watch is told from when it is ready until what is used is done."""

    async def main() -> list[str]:
        given = {"table": table, "timeout": LONG, "connect_timeout": LONG, **options}
        heard = _Heard(AsyncPostgresStore(conninfo, **given))
        try:
            await heard.is_ready()
            await use(heard)
        finally:
            await heard.end()
        return heard.all + [heard.told.get_nowait() for _ in range(heard.told.qsize())]

    return asyncio.run(main())


class TestPrepared:
    def test_plans_are_kept_by_name(self, server: Postgres, table: str) -> None:
        """Where they may be, a statement is planned once for a connection."""
        assert 0 < self._named(server, table, prepared=True)

    def test_nothing_is_kept_where_it_may_not_be(self, server: Postgres, table: str) -> None:
        """No statement has a name."""
        assert 0 == self._named(server, table, prepared=False)

    def _named(self, server: Postgres, table: str, *, prepared: bool) -> int:
        asked: list[bytes] = []
        with Proxy(server.port) as proxy:
            proxy.on_request = asked.append
            conninfo = server.conninfo(port=proxy.port)
            with closing(PostgresStore(conninfo, table=table, prepared=prepared)) as store:
                store.load(ident(1), NOW)
                store.load(ident(1), NOW)
        return b"".join(asked).count(b"coatcheck_")


@pytest.fixture(scope="module")
def bouncer(server: Postgres) -> Iterator[PgBouncer]:
    """Two connections in transaction mode, for everybody."""
    started = PgBouncer(server).start()
    yield started
    started.stop()


class TestPostgresStoreBehindPgBouncer(StoreContract):
    @pytest.fixture
    def store(self, bouncer: PgBouncer, table: str) -> Iterator[PostgresStore]:
        options: Any = {"timeout": LONG, "connect_timeout": LONG, "prepared": False}
        with closing(PostgresStore(bouncer.conninfo(), table=table, **options)) as store:
            yield store


class TestAsyncPostgresStoreBehindPgBouncer(AsyncStoreContract):
    @pytest.fixture
    def store(self, bouncer: PgBouncer, table: str) -> AsyncPostgresStore:
        options: Any = {"timeout": LONG, "connect_timeout": LONG, "prepared": False}
        return AsyncPostgresStore(bouncer.conninfo(), table=table, **options)


class TestPgBouncer:
    def test_settings_do_not_leak_to_others(
        self, make: Callable[..., Either], bouncer: PgBouncer, table: str
    ) -> None:
        """Who gets the connection next finds it as if nobody had been there."""
        either = make(bouncer.conninfo(), prepared=False)
        for number in range(6):
            either.create(record(ident(number), subject="user:1"), NOW)
            either.delete(ident(number), NOW)
        names = ("statement_timeout", "plan_cache_mode", "enable_seqscan", "synchronous_commit")
        with psycopg.connect(bouncer.conninfo(), autocommit=True, prepare_threshold=None) as other:
            found = [other.execute(f"SHOW {name}".encode()).fetchone() for name in names]

        assert [("0",), ("auto",), ("on",), ("on",)] == found

    def test_a_name_never_stands_for_the_statement_of_another(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """Where `prepared=False` was forgotten, two sites that meet on a connection get errors."""
        make(server.conninfo()).create(record(), NOW)
        make(server.conninfo(), table=f"{table}2").load(ident(1), NOW)
        bouncer = PgBouncer(server).start()
        mine, theirs = make(bouncer.conninfo()), make(bouncer.conninfo(), table=f"{table}2")

        def hold() -> psycopg.Connection[Any]:
            """Take one of the two connections."""
            holder = psycopg.connect(bouncer.conninfo(), prepare_threshold=None)
            holder.execute("SELECT 1")
            return holder

        try:
            with hold() as first:
                assert mine.load(ident(1), NOW) is not None
                assert mine.delete(ident(2), NOW) is False
                second = hold()
                first.commit()
                assert theirs.load(ident(1), NOW) is None
                assert theirs.delete(ident(2), NOW) is False
                second.commit()
                third = hold()
                for act in (mine.load, mine.delete):
                    with pytest.raises(StoreUnavailable, match="prepared=False"):
                        act(ident(1), NOW)
                second.close()
                third.close()
        finally:
            bouncer.stop()


class TestDurability:
    """What a server that does not wait by default is told for which call."""

    @pytest.fixture
    def watched(self, own: Postgres, table: str) -> Iterator[Callable[[], list[str]]]:
        """What synchronous_commit was in each write of this test's table."""
        own.execute(schema(table))
        own.execute(
            f"""
            CREATE TABLE "{table}_log" (at serial, said text);
            CREATE FUNCTION "{table}_watch"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO "{table}_log" (said) VALUES (current_setting('synchronous_commit'));
                RETURN NULL;
            END $$;
            CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON "{table}"
                FOR EACH ROW EXECUTE FUNCTION "{table}_watch"()
            """
        )
        yield lambda: [row[0] for row in own.execute(f'SELECT said FROM "{table}_log" ORDER BY at')]
        own.execute(f'DROP TABLE "{table}" CASCADE')

    @pytest.mark.parametrize(
        ("default", "end"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
    )
    def test_an_end_waits_for_the_disk(
        self,
        make: Callable[..., Either],
        own: Postgres,
        watched: Callable[[], list[str]],
        default: str,
        end: str,
    ) -> None:
        """And a login's beginning; other writes are as durable as the server says."""
        either = make(own.conninfo(options=f"-c synchronous_commit={default}"))
        first = record()
        either.create(first, NOW)
        either.save(second := changed(first), first.revision, NOW)
        either.touch(first.id, second.revision, NOW, NOW, NOW)
        either.delete(first.id, NOW)
        either.create(record(ident(2), subject="user:1"), NOW)
        either.admit(login(3), b"", Entry(NOW), NOW)

        assert [default, default, default, end, end, end] == watched()


class TestFaults:
    def test_a_wrong_password_can_be_mended(
        self, make: Callable[..., Either], own: Postgres, table: str
    ) -> None:
        """It is an outage, and no message holds it."""
        own.execute(schema(table))
        own.execute(f'GRANT ALL ON "{table}" TO app')
        either = make(own.conninfo(user="app", password=SECRET))
        with pytest.raises(StoreUnavailable, match="set the password") as caught:
            either.load(ident(1), NOW)
        own.execute(f"ALTER ROLE app PASSWORD '{SECRET}'")

        assert SECRET not in str(caught.value)
        assert either.load(ident(1), NOW) is None
        own.execute(f"ALTER ROLE app PASSWORD '{PASSWORD}'")

    @pytest.mark.parametrize(
        ("parts", "said"),
        [
            ({"dbname": "nowhere"}, "create what is missing"),
            ({"port": 1}, "look at the server"),
            ({"host": "no-such-host.invalid"}, "look at the server"),
            ({"host": "no..such"}, "look at the server"),
            ({"user": "app", "password": PASSWORD}, "42501"),
        ],
    )
    def test_what_is_missing_is_an_outage(
        self, make: Callable[..., Either], own: Postgres, parts: dict[str, Any], said: str
    ) -> None:
        """With a remedy, and without the connection string."""
        with pytest.raises(StoreUnavailable, match=said) as caught:
            make(own.conninfo(**parts)).load(ident(1), NOW)

        assert "dbname=" not in str(caught.value)
        assert PASSWORD not in str(caught.value)

    def test_a_process_out_of_threads_has_an_outage(
        self, make: Callable[..., Either], own: Postgres
    ) -> None:
        """A name is looked up in one; when there is one again, it is."""
        either = make(own.conninfo(host="localhost"))
        with no_threads(), pytest.raises(StoreUnavailable, match="thread"):
            either.load(ident(1), NOW)

        assert either.load(ident(1), NOW) is None

    def test_too_many_connections(self, make: Callable[..., Either], table: str) -> None:
        """An outage until one is free."""
        settings = {"max_connections": "4", "superuser_reserved_connections": "0"}
        with Postgres(**settings) as crowded:
            either = make(crowded.conninfo(dbname="postgres"))
            others = [crowded.connect() for _ in range(4)]
            with pytest.raises(StoreUnavailable, match="max_connections"):
                either.load(ident(1), NOW)
            for each in others:
                each.close()
            until(lambda: not _fails(lambda: either.load(ident(1), NOW)), "a free connection")

    def test_a_server_that_is_frozen_costs_no_more_than_the_limit(
        self, make: Callable[..., Either], own: Postgres
    ) -> None:
        """On an open connection, then on new ones; and the next request after it works."""
        either = make(own.conninfo(), timeout=0.3, connect_timeout=0.4)
        either.create(record(), NOW)
        own.freeze()
        try:
            first = took(lambda: either.load(ident(1), NOW))
            second = took(lambda: either.load(ident(1), NOW))
        finally:
            own.thaw()

        assert 0.25 < first < 0.69
        assert 0.35 < second < 1.4
        assert either.load(ident(1), NOW) is not None

    def test_a_server_that_dribbles_costs_no_more_than_the_limit(
        self, make: Callable[..., Either], server: Postgres
    ) -> None:
        """The limit is for the whole answer, not for each byte."""
        with Proxy(server.port) as proxy:
            either = make(server.conninfo(port=proxy.port), timeout=0.4)
            either.create(record(), NOW)
            proxy.delay, proxy.dribble = 0.1, True
            assert 0.3 < took(lambda: either.load(ident(1), NOW)) < 1.0
            proxy.heal()

            assert either.load(ident(1), NOW) is not None

    def test_who_never_greets_costs_no_more_than_the_limit(
        self, make: Callable[..., Either]
    ) -> None:
        """Something listens, and says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            either = make(f"host=127.0.0.1 port={silent.getsockname()[1]}", connect_timeout=0.3)

            assert 0.25 < took(lambda: either.load(ident(1), NOW)) < 1.0

    def test_a_silent_host_leaves_time_for_the_next(
        self, make: Callable[..., Either], server: Postgres
    ) -> None:
        """It gets its share; afterwards the one that worked comes first."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            ports = f"{silent.getsockname()[1]},{server.port}"
            either = make(
                server.conninfo(host="127.0.0.1,127.0.0.1", port=ports), connect_timeout=0.8
            )
            with Stopwatch() as first:
                either.create(record(), NOW)
            either.close()
            with Stopwatch() as second:
                assert either.load(ident(1), NOW) is not None

            assert second.seconds < 0.35 < first.seconds < 0.8

    @pytest.mark.skipif(
        not psycopg.capabilities.has_cancel_safe(), reason="needs libpq 17 to cancel"
    )
    @pytest.mark.parametrize("verb", ["create", "delete"])
    def test_a_standby_that_is_gone_keeps_no_connection_waiting(
        self, make: Callable[..., Either], own: Postgres, table: str, verb: str
    ) -> None:
        """A commit that waits for it in vain is cancelled on the server, once it is given up."""
        either = make(own.conninfo(application_name=table), timeout=0.3)
        login = record(subject="user:1")
        either.create(login, NOW)
        arguments = {"create": (record(ident(2), subject="user:1"), NOW), "delete": (login.id, NOW)}
        own.set(synchronous_standby_names="nobody")
        try:
            shown = "SHOW synchronous_standby_names"
            until(lambda: own.execute(shown) == [("nobody",)], "a server that waits")
            assert took(lambda: getattr(either, verb)(*arguments[verb])) < 1.3
            until(lambda: backends(own, table) == 0, "the end of its connection", 5)
            assert either.load(ident(3), NOW) is None
        finally:
            own.execute("ALTER SYSTEM RESET synchronous_standby_names")
            own.execute("SELECT pg_reload_conf()")

    @pytest.mark.skipif(
        not psycopg.capabilities.has_cancel_safe(), reason="needs libpq 17 to cancel"
    )
    def test_whoever_cancels_holds_up_nobody(self, own: Postgres, table: str) -> None:
        """The server may be frozen: the call ends in time, and what was to cancel ends after it."""
        before = threading.active_count()
        with closing(PostgresStore(own.conninfo(), table=table, timeout=0.2)) as store:
            store.create(record(), NOW)
            own.freeze()
            try:
                assert took(lambda: store.load(ident(1), NOW)) < 0.5
                until(lambda: threading.active_count() <= before, "the end of its thread", 5)
            finally:
                own.thaw()

    def test_what_a_request_has_left_is_the_limit(
        self, make: Callable[..., Either], own: Postgres
    ) -> None:
        """However long one call could take."""
        either = make(own.conninfo())
        either.create(record(), NOW)
        own.freeze()
        try:
            assert took(lambda: either.within(0.2, "load", ident(1), NOW)) < 0.6
            assert took(lambda: either.within(-1, "load", ident(1), NOW)) < 0.1
        finally:
            own.thaw()

    def test_what_has_no_time_left_is_not_sent(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """And costs no connection."""
        with Proxy(server.port) as proxy:
            either = make(server.conninfo(port=proxy.port))
            either.create(first := record(), NOW)
            asked: list[bytes] = []
            proxy.on_request = asked.append
            for verb in ("page", "sweep"):  # which no queue holds back
                with pytest.raises(StoreUnavailable, match="within 0"):
                    either.within(0, verb, *(("", 9, NOW) if verb == "page" else (9, NOW)))
            with pytest.raises(StoreUnavailable):
                either.within(0, "save", changed(first), first.revision, NOW)
            assert [] == asked
            assert first == either.load(first.id, NOW)
            assert 1 == proxy.connections

    def test_who_has_little_time_costs_nobody_else_a_connection(
        self, server: Postgres, table: str
    ) -> None:
        """That it got no answer says nothing about the server."""
        with (
            closing(PostgresStore(server.conninfo(), table=table, timeout=LONG)) as store,
            ThreadPoolExecutor(2) as threads,
        ):
            store.create(record(), NOW)
            with server.connect() as other, other.transaction():
                other.execute(f'LOCK TABLE "{table}"'.encode())
                sweep = threads.submit(store.sweep, 9, NOW)
                until(lambda: not store._pool._idle, "a call under way")
                link = store._pool._connect(LATER)
                store._pool._idle.extend([link, store._pool._connect(LATER)])
                with patience.limit(0.2), pytest.raises(StoreUnavailable):
                    store.load(ident(1), NOW)
            assert 0 == sweep.result()
            assert link in store._pool._idle

    def test_an_answer_that_came_while_the_loop_was_busy_counts(
        self, server: Postgres, table: str
    ) -> None:
        """However late the loop looks; other work in it is no outage."""
        twin = AsyncPostgresStore(server.conninfo(application_name=table), table=table, timeout=1)

        async def use() -> Any:
            await twin.create(record(), NOW)
            with server.connect() as other, other.transaction():
                other.execute(f'LOCK TABLE "{table}"'.encode())
                loading = asyncio.ensure_future(twin.load(ident(1), NOW))
                await _waits_for_a_lock(server, table, 1)
            busy = time.monotonic() + 1.1
            until(lambda: time.monotonic() > busy, "the end of other work")
            return await loading

        assert ident(1) == run(twin, use).id

    @pytest.mark.parametrize("verb", ["load", "save", "by_subject"])
    def test_the_first_request_after_a_restart_works(
        self, make: Callable[..., Either], own: Postgres, verb: str
    ) -> None:
        """Idle connections that have ended are not used for anything."""
        either = make(own.conninfo())
        first = record(subject="user:1")
        either.create(first, NOW)
        own.restart()
        second = changed(first)
        arguments = {
            "load": (first.id, NOW),
            "save": (second, first.revision, NOW),
            "by_subject": ("user:1", NOW),
        }
        expected = {"load": first, "save": SAVED, "by_subject": [first]}

        assert expected[verb] == getattr(either, verb)(*arguments[verb])
        own.execute(f"DROP TABLE {either.store._pool.schema.sessions}")

    def test_while_the_server_is_down_there_is_an_outage(
        self, make: Callable[..., Either], own: Postgres
    ) -> None:
        """After a kill too; the first request after it works."""
        either = make(own.conninfo())
        either.load(ident(1), NOW)
        own.kill()
        with pytest.raises(StoreUnavailable):
            either.load(ident(1), NOW)
        own.start()

        assert either.load(ident(1), NOW) is None

    def test_a_read_whose_connection_breaks_is_asked_again(
        self, make: Callable[..., Either], server: Postgres
    ) -> None:
        """Once, on a new connection."""
        with Proxy(server.port) as proxy:
            either = make(server.conninfo(port=proxy.port))
            either.create(record(), NOW)

            proxy.lose = 0

            assert either.load(ident(1), NOW) is not None
            assert 2 == proxy.connections

    def test_a_write_whose_connection_breaks_is_not_sent_again(
        self, make: Callable[..., Either], server: Postgres, table: str
    ) -> None:
        """It may have been done; the caller is told that nobody knows."""
        with Proxy(server.port) as proxy:
            either = make(server.conninfo(port=proxy.port))
            first = record()
            either.create(first, NOW)
            saved = changed(first)
            either.save(saved, first.revision, NOW)  # so that its statement is prepared
            asked: list[bytes] = []
            proxy.on_request = asked.append
            proxy.lose = 0
            with pytest.raises(StoreUnavailable):
                either.save(changed(saved, payload=b"new"), saved.revision, NOW)
            assert (1, 1) == (len(asked), proxy.connections)
            proxy.heal()

            [(payload,)] = server.execute(f'SELECT payload FROM "{table}"')
            found = either.load(first.id, NOW)
            assert found.payload == payload

    @pytest.mark.parametrize("fault", ["silent", "read-only"])
    def test_idle_connections_go_with_one_that_is_nowhere(
        self, server: Postgres, table: str, fault: str
    ) -> None:
        """The others would lead to the same server; the next request shall look for a better."""
        with Proxy(server.port) as proxy, ThreadPoolExecutor(2) as threads:
            conninfo = server.conninfo(port=proxy.port)
            with closing(PostgresStore(conninfo, table=table, timeout=0.5)) as store:
                store.create(record(), NOW)
                with server.connect() as other, other.transaction():
                    other.execute(f'LOCK TABLE "{table}"'.encode())
                    sweeps = [threads.submit(store.sweep, 9, NOW) for _ in range(2)]
                    until(lambda: proxy.connections == 2, "two connections")
                assert [0, 0] == [each.result() for each in sweeps]
                assert 2 == len(store._pool._idle)
                if fault == "silent":
                    proxy.silent = True
                    took(lambda: store.load(ident(1), NOW))
                else:
                    _make_read_only(store)
                    took(lambda: store.delete(ident(1), NOW))
                proxy.heal()

                assert [] == list(store._pool._idle)

    def test_a_read_only_server_is_an_outage(
        self, make: Callable[..., Either], own: Postgres
    ) -> None:
        """Until it is no more; the next request works."""
        either = make(own.conninfo())
        either.create(record(), NOW)
        own.set(default_transaction_read_only="on")
        shown = "SHOW default_transaction_read_only"
        until(lambda: own.execute(shown) == [("on",)], "a read-only server")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="read-only"):
                either.delete(ident(1), NOW)
        with own.connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET ALL")
            connection.execute("SELECT pg_reload_conf()")
        until(lambda: own.execute(shown) == [("off",)], "a writable server")

        assert either.delete(ident(1), NOW) is True

    def test_a_failover_is_followed(self, make: Callable[..., Either]) -> None:
        """The next request finds the new primary; a standby is never read from."""
        with Postgres() as first, first.standby() as second:
            ports = f"{second.port},{first.port}"
            both = make(first.conninfo(host="127.0.0.1,127.0.0.1", port=ports))
            both.create(record(), NOW)
            with pytest.raises(StoreUnavailable, match="read-only"):
                make(second.conninfo()).load(ident(1), NOW)
            written = first.execute("SELECT pg_current_wal_lsn()")[0][0]
            replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            until(lambda: second.execute(replayed, written) == [(True,)], "a replay")
            first.kill()
            second.promote()

            assert both.load(ident(1), NOW) is not None
            assert both.delete(ident(1), NOW) is True


def _make_read_only(store: PostgresStore) -> None:
    """The sessions of its idle connections, as a server that was demoted has them."""
    for link in store._pool._idle:
        step = (b"SET default_transaction_read_only = on", ())
        drive(link.run(Unit(steps=[step], read=len, once=True), LONG), LONG)


def _fails(act: Callable[[], object]) -> bool:
    try:
        act()
    except StoreUnavailable:
        return True
    return False


class TestConnections:
    def test_there_are_no_more_than_the_pool_has(self, server: Postgres, table: str) -> None:
        """Threads wait for each other."""
        conninfo = server.conninfo(application_name=table)
        options: Any = {"table": table, "timeout": LONG, "pool_size": 2}
        with closing(PostgresStore(conninfo, **options)) as store:
            store.create(record(), NOW)
            with ThreadPoolExecutor(8) as threads:
                found = list(threads.map(lambda _: store.load(ident(1), NOW), range(200)))
            assert None not in found
            assert backends(server, table) <= 2

        until(lambda: backends(server, table) == 0, "the end of its connections")

    def test_who_gets_no_turn_in_time_gives_up(self, server: Postgres, table: str) -> None:
        """Within the limit of a call."""
        with (
            closing(PostgresStore(server.conninfo(), table=table, pool_size=1)) as store,
            ThreadPoolExecutor(2) as threads,
        ):
            store.create(record(), NOW)
            with server.connect() as other, other.transaction():
                other.execute(f'LOCK TABLE "{table}"'.encode())
                waiting = threads.submit(store.sweep, 9, NOW)  # which is given more time
                until(lambda: not store._pool._idle, "a call under way")
                assert took(lambda: store.load(ident(1), NOW)) < 1.4

            assert 0 == waiting.result()
            assert store.load(ident(1), NOW) is not None

    def test_tasks_share_few_connections(self, server: Postgres, table: str) -> None:
        """However many there are; those of an ended loop go with it."""
        conninfo = server.conninfo(application_name=table)
        twin = AsyncPostgresStore(conninfo, table=table, timeout=LONG, pool_size=2)

        async def use() -> int:
            await twin.create(record(), NOW)
            for _ in range(5):
                await asyncio.gather(*(twin.load(ident(n), NOW) for n in range(300)))
                await asyncio.gather(*(twin.by_subject("user:1", NOW) for n in range(20)))
            return backends(server, table)

        assert asyncio.run(use()) <= 2
        asyncio.run(twin.load(ident(1), NOW))

        assert backends(server, table) <= 1

    def test_two_loops_at_once(self, twin: AsyncPostgresStore) -> None:
        """In two threads, each with connections of its own."""

        def work(number: int) -> Any:
            async def use() -> list[Any]:
                first = record(ident(number))
                await twin.create(first, NOW)
                return [await twin.load(first.id, NOW) for _ in range(50)]

            return asyncio.run(use())

        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(work, range(2)))

        assert [[ident(0)] * 50, [ident(1)] * 50] == [[r.id for r in each] for each in answers]
        asyncio.run(twin.close())

    def test_a_cancelled_call_gives_its_turn_back(self, server: Postgres, table: str) -> None:
        """And its connection is not used again."""
        twin = AsyncPostgresStore(server.conninfo(), table=table, timeout=LONG, pool_size=1)

        async def use() -> Any:
            await twin.create(record(), NOW)
            for _ in range(5):
                calls = [asyncio.ensure_future(twin.page("", 9, NOW)) for _ in range(3)]
                await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            return await twin.load(ident(1), NOW)

        assert ident(1) == run(twin, use).id

    def test_an_ended_loop_is_not_waited_for(self, own: Postgres, table: str) -> None:
        """A call that is cancelled under a frozen server ends at once."""
        twin = AsyncPostgresStore(own.conninfo(), table=table, timeout=LONG)

        async def use() -> None:
            await twin.create(record(), NOW)
            own.freeze()
            loading = asyncio.ensure_future(twin.load(ident(1), NOW))
            paging = asyncio.ensure_future(twin.page("", 9, NOW))
            await asyncio.wait([loading, paging], timeout=0.05)

        begun = time.monotonic()
        try:
            asyncio.run(use())
            assert time.monotonic() - begun < 2
        finally:
            own.thaw()

    def test_closing_may_be_followed_by_more(
        self, make: Callable[..., Either], server: Postgres
    ) -> None:
        """It opens what it needs again."""
        either = make(server.conninfo())
        either.create(record(), NOW)
        either.close()

        assert either.load(ident(1), NOW) is not None

    @pytest.mark.parametrize("kind", ["PostgresStore", "AsyncPostgresStore"])
    def test_a_process_ends_quietly(self, server: Postgres, table: str, kind: str) -> None:
        """That never closed its store."""
        program = (
            "import asyncio, inspect\n"
            f"from coatcheck.stores.postgres import {kind}\n"
            f"store = {kind}({server.conninfo()!r}, table={table!r})\n"
            f"answer = store.load('{ident(1)}', 1)\n"
            "if inspect.isawaitable(answer): asyncio.run(answer)\n"
        )
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
        ended = subprocess.run(command, capture_output=True, timeout=20, check=False)

        assert (0, b"", b"") == (ended.returncode, ended.stdout, ended.stderr)


@forks_beside_threads
class TestForks:
    @forks
    def test_a_child_opens_its_own(
        self, server: Postgres, table: str, fork: Callable[[], int]
    ) -> None:
        """And leaves those of its parent alone, also when it ends."""
        conninfo = server.conninfo(application_name=table)
        pids = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY pid"
        with closing(PostgresStore(conninfo, table=table, timeout=LONG)) as store:
            store.create(record(), NOW)
            before = server.execute(pids, table)
            assert "00000001" == in_child(lambda: _id_of(store.load(ident(1), NOW)), fork)
            assert [None, 2] == in_child(
                lambda: [store.load(ident(2), NOW), backends(server, table)], fork
            )
            assert None is in_child(lambda: store.close(), fork)
            assert store.load(ident(1), NOW) is not None

            until(lambda: server.execute(pids, table) == before, "the end of the child's own")

    def test_a_child_keeps_no_socket_of_its_parent(self, store: PostgresStore) -> None:
        """Else the server would not learn of the parent's end while the child lives."""
        store.create(record(), NOW)
        socket = store._pool._idle[0]._pgconn.socket

        assert "[Errno 9]" in in_child(lambda: _error_of(lambda: os.fstat(socket)))
        assert os.fstat(socket)

    @forks
    def test_a_child_of_an_event_loop_opens_its_own(
        self, server: Postgres, table: str, fork: Callable[[], int]
    ) -> None:
        """In a loop of its own; the parent's goes on."""
        conninfo = server.conninfo(application_name=table)
        twin = AsyncPostgresStore(conninfo, table=table, timeout=LONG)

        async def load() -> int:
            await twin.load(ident(1), NOW)
            return backends(server, table)

        with asyncio.Runner() as runner:
            assert 1 == runner.run(load())
            assert 2 == in_child(lambda: _in_another_loop(load), fork)
            assert 1 == runner.run(load())
            runner.run(twin.close())

    @forks
    def test_a_childs_child_keeps_its_files(
        self, server: Postgres, table: str, fork: Callable[[], int]
    ) -> None:
        """A number that was a connection's in the first process is a file's in the second."""
        store = PostgresStore(server.conninfo(), table=table, timeout=LONG)
        with closing(store), store._pool._borrowed(LATER, LATER) as link:
            number = link._pgconn.socket

            def act() -> object:
                link.close()
                os.dup2(os.open(os.devnull, os.O_RDONLY), number)
                return in_child(again, fork)

            def again() -> object:
                link.close()
                return "[Errno" in _error_of(lambda: os.fstat(number))

            assert False is in_child(act, fork)

    def test_a_child_that_collects_garbage_says_nothing(self, server: Postgres, table: str) -> None:
        """When the store goes, and at the end of the interpreter."""
        conninfo = server.conninfo(application_name=table)
        program = (
            "import os, sys\n"
            "from coatcheck.stores.postgres import PostgresStore\n"
            f"stores = [PostgresStore({conninfo!r}, table={table!r}) for _ in range(2)]\n"
            f"before = [store.load('{ident(1)}', 1) for store in stores]\n"
            "links = [store._pool._idle[0] for store in stores]\n"
            "child = os.fork()\n"
            "if not child: del stores[0], links[0]; sys.exit()\n"
            "os.waitpid(child, 0)\n"
            "print([link.is_stale() for link in links])\n"
        )
        command = [sys.executable, "-W", "error", "-c", program]
        ended = subprocess.run(command, capture_output=True, timeout=20, check=False)

        assert (b"[False, False]\n", b"") == (ended.stdout, ended.stderr)

    def test_a_child_of_a_busy_parent_works(self, server: Postgres, table: str) -> None:
        """Whatever its parent's threads were in the middle of."""
        with (
            closing(PostgresStore(server.conninfo(), table=table, timeout=LONG)) as store,
            ThreadPoolExecutor(4) as threads,
        ):
            store.create(record(), NOW)
            ended = threading.Event()

            def load() -> int:
                count = 0
                while not ended.is_set():
                    assert store.load(ident(1), NOW) is not None
                    count += 1
                return count

            busy = [threads.submit(load) for _ in range(4)]
            children = [in_child(lambda: _id_of(store.load(ident(1), NOW))) for _ in range(5)]
            ended.set()

            assert ["00000001"] * 5 == children
            assert all(each.result() for each in busy)


def _in_another_loop(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Of a thread's own: the child of a fork may be in the middle of its parent's."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: asyncio.run(act())).result()


def _error_of(act: Callable[[], object]) -> str:
    try:
        return str(act())
    except OSError as error:
        return str(error)


def _id_of(found: Record | None) -> str:
    return "None" if found is None else found.id[-8:]


class TestOptions:
    @pytest.mark.parametrize(
        "conninfo",
        [
            f"postgresql://user:{SECRET}@host:port:port/x",
            f"host=a password={SECRET} pasword=x",
            f"host=a password='{SECRET}",
            f"postgresql://user:{SECRET}@host/db?no_such_option=1",
            f"host=a port={SECRET}",
            f"host=a password={SECRET} connect_timeout=3",
            f"host=a password={SECRET} target_session_attrs=standby",
            f"host=a password={SECRET} target_session_attrs=prefer-standby",
            f"host=a password={SECRET} target_session_attrs=read-only",
            f"host=a password={SECRET} target_session_attrs=any",
            f"postgresql://user:{SECRET}@a/b?target_session_attrs=",
            f"postgresql://user:{SECRET}@a/b?sslmode=",
            f"host=a password={SECRET} sslmode=''",
            f"host=a password={SECRET} user=\ud800",
            f"host=a,b,c port=1,2 password={SECRET}",
            f"host=a password={SECRET}\0 sslmode=verify-full",
            "nonsense",
            None,
            5,
        ],
    )
    @pytest.mark.parametrize("made", [PostgresStore, AsyncPostgresStore])
    def test_a_string_that_cannot_be_is_refused_unseen(self, made: Any, conninfo: Any) -> None:
        """When the store is made; neither the error nor what it came from shows a secret."""
        with pytest.raises(ConfigurationError) as caught:
            made(conninfo)

        shown = [str(caught.value), str(caught.value.__cause__), str(caught.value.__context__)]
        assert [] == [text for text in shown if "hunter2" in text]

    @pytest.mark.parametrize(
        "options",
        [
            {"timeout": 0},
            {"timeout": "1"},
            {"connect_timeout": -1},
            {"connect_timeout": float("nan")},
            {"pool_size": 0},
            {"pool_size": True},
            {"pool_size": 1.5},
            {"unlogged": "no"},
            {"create": "no"},
            {"prepared": 0},
        ],
    )
    def test_an_option_that_cannot_be_is_refused(self, options: dict[str, Any]) -> None:
        """When the store is made."""
        with pytest.raises(ConfigurationError, match="expected"):
            PostgresStore("host=a", **options)

    def test_a_url_holds_everything(self) -> None:
        """Ours, and what is passed on to libpq, host by host."""
        store: Any = from_url(
            f"postgres://us%40er:{SECRET.replace('/', '%2F')}@one:1,[::1]/data%20base"
            "?timeout=2&connect_timeout=3&pool_size=7&prefix=app.x_&unlogged=yes&create=no"
            "&prepared=no&sslmode=verify-full&sslrootcert=/ca.pem&application_name=shop"
        )
        options = store._pool.options
        kept = {
            "user": "us@er",
            "password": SECRET,
            "dbname": "data base",
            "sslmode": "verify-full",
        }

        assert (2.0, 3.0, 7, False, False) == options[2:]
        assert (5.0, True, '"app"."x_sessions"') == (
            store.patience,
            store.evicts,
            store._pool.schema.sessions,
        )
        assert [("one", "1"), ("::1", "5432")] == [(a["host"], a["port"]) for a in options.attempts]
        assert [] == [a for a in options.attempts if not kept.items() <= a.items()]
        assert "read-write" == options.attempts[0]["target_session_attrs"]

    def test_a_socket_can_be_named(self, own: Postgres, tmp_path: Path) -> None:
        """By the folder that it is in, as a host or as an option."""
        quoted = str(own.folder).replace("/", "%2F")
        for url in (
            f"postgresql://postgres@{quoted}:{own.port}/postgres",
            f"postgresql://postgres@/postgres?host={quoted}&port={own.port}",
        ):
            with closing(_made(url)) as store:
                assert store.load(ident(1), NOW) is None

    @pytest.mark.parametrize("by", ["PGHOST", "PGSERVICE"])
    def test_hosts_of_the_environment_are_tried_one_by_one(
        self, own: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
    ) -> None:
        """As those of the string are, since libpq would look their names up without a limit."""
        service = tmp_path / "services"
        service.write_text(f"[shop]\nhost=127.0.0.1,localhost\nport=1,{own.port}\nuser=postgres\n")
        named = {
            "PGHOST": {"PGHOST": "127.0.0.1,localhost", "PGPORT": f"1,{own.port}"},
            "PGSERVICE": {"PGSERVICE": "shop", "PGSERVICEFILE": str(service)},
        }
        for name, value in named[by].items():
            monkeypatch.setenv(name, value)
        with closing(PostgresStore("user=postgres dbname=postgres", timeout=LONG)) as store:
            assert store.load(ident(1), NOW) is None
            hosts = [(each["host"], each["port"]) for each in store._pool.options.attempts]
            assert [("127.0.0.1", "1"), ("localhost", str(own.port))] == hosts

    @pytest.mark.parametrize("conninfo", ["service=shop", "postgresql:///x?service=shop"])
    def test_a_service_in_the_string_needs_a_host_there(self, conninfo: str) -> None:
        """What the service says of it would be seen by libpq alone."""
        with pytest.raises(ConfigurationError, match="PGSERVICE"):
            PostgresStore(conninfo)
        PostgresStore("service=shop host=a")

    @pytest.mark.parametrize(
        "query",
        [
            "password=x",
            "dbname=x",
            "sslmode=",
            "require_auth=",
            "channel_binding=",
            "sslrootcert=",
            "target_session_attrs=",
            "application_name=%00",
            "prefix=%00",
            "replication=yes",
            "timeout=x",
            "unlogged=1",
            "pool_size=-1",
        ],
    )
    @pytest.mark.parametrize("made", [from_url, async_from_url])
    def test_an_option_that_a_url_cannot_have_is_refused(self, made: Any, query: str) -> None:
        """A misspelt one would be silently ignored otherwise."""
        with pytest.raises(ConfigurationError):
            made(f"postgresql://user:{SECRET}@host/db?{query}")

    def test_a_repr_shows_no_secret(self) -> None:
        """Nor does that of its parts."""
        store = PostgresStore(f"host=a password={SECRET}")

        assert "PostgresStore(…)" == repr(store)
        assert SECRET not in repr(store._pool.options)

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
    def test_a_server_is_known_by_its_certificate(
        self, make: Callable[..., Either], tmp_path: Path, name: str
    ) -> None:
        """verify-full is libpq's, with the name that was given."""
        server = Postgres()
        files = certificates(server.folder)
        for path in (files.certificate, files.key):
            _give(path)
        server.configure(
            ssl="on", ssl_cert_file=str(files.certificate), ssl_key_file=str(files.key)
        )
        with server:
            trusted = {"sslmode": "verify-full", "host": name}
            either = make(server.conninfo(sslrootcert=files.authority, **trusted))
            either.create(record(), NOW)
            query = (
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE ssl AND application_name = 'coatcheck'"
            )

            assert None not in [either.load(ident(1), NOW) for _ in range(3)]
            assert [(1,)] == server.execute(query)
            other = certificates(tmp_path)
            with pytest.raises(StoreUnavailable, match="certificate"):
                make(server.conninfo(sslrootcert=other.authority, **trusted)).load(ident(1), NOW)


def _give(path: Path) -> None:
    """To the user that root runs the server as."""
    if os.geteuid() == 0:
        shutil.chown(path, postgres.USER, postgres.USER)


def _made(url: str) -> PostgresStore:
    store = from_url(url)
    assert isinstance(store, PostgresStore)
    return store


class TestAdvice:
    def test_risky_settings_are_told_once(self, make: Callable[..., Either], own: Postgres) -> None:
        """When the server is first reached."""
        told: list[Risk] = []
        either = make(own.conninfo(options="-c synchronous_commit=off"))
        assert isinstance(either.store, Advising)
        either.store.advise(told.append)
        assert [] == told
        for _ in range(3):
            either.load(ident(1), NOW)

        assert ["fsync off", "synchronous_commit off"] == sorted(risk.setting for risk in told)


class TestAlembic:
    @pytest.fixture
    def include_name(self) -> Callable[..., bool]:
        """The hook as the page has it."""
        page = Path(__file__).parents[1] / "docs/how-to/store-postgres.md"
        blocks = re.findall(
            r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        )
        names: dict[str, Any] = {}
        exec(next(block for block in blocks if "def include_name" in block), names)
        hook: Callable[..., bool] = names["include_name"]
        return hook

    def test_our_table_is_not_proposed_for_dropping(
        self, server: Postgres, include_name: Callable[..., bool]
    ) -> None:
        """By the hook on this store's page, which leaves it out; without it, it would be."""
        server.execute("CREATE DATABASE alembic")
        conninfo = server.conninfo(dbname="alembic")
        with closing(PostgresStore(conninfo, timeout=LONG)) as store:
            store.load(ident(1), NOW)
        url = f"postgresql+psycopg://{postgres.USER}@127.0.0.1:{server.port}/alembic"
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            proposed = [
                [change[0] for change in self._changes(connection, **options)]
                for options in ({}, {"include_name": include_name})
            ]
        engine.dispose()

        assert [True, False] == ["remove_table" in changes for changes in proposed]

    def _changes(self, connection: sqlalchemy.Connection, **options: Any) -> list[Any]:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, sqlalchemy.MetaData()))
