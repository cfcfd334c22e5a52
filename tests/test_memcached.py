"""What is special to Memcached: its clock, its tokens, its forgetting, several servers, and faults.

The servers are real, and what crosses a call comes from a proxy that holds the call back meanwhile.
"""

import asyncio
import gc
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pymemcache import Client, HashClient, PooledClient  # type: ignore[import-untyped]
from pymemcache.client.retrying import RetryingClient  # type: ignore[import-untyped]

from coatcheck import AsyncSessions, KeyRing, Sessions, patience
from coatcheck.errors import (
    Collision,
    ConfigurationError,
    SessionTooLarge,
    StoreUnavailable,
)
from coatcheck.record import NewerFormat, Record, dump
from coatcheck.store import GONE, SAVED, Listable, Sweepable
from coatcheck.stores import _address, async_from_url, from_url
from coatcheck.stores._memcached import wire
from coatcheck.stores.cookie import AsyncCookieStore, CookieStore
from coatcheck.stores.memcached import AsyncMemcachedStore, MemcachedStore, _seconds
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract import changed, ident, record
from tests.forks import c_fork, in_child
from tests.services import memcached
from tests.services.memcached import Local, Memcached, Secured
from tests.services.process import folder_for, free_port
from tests.services.proxy import Proxy
from tests.threads import no_threads

DAY = 86_400_000
FIRST, SECOND = record(ident(1), payload=b"first"), record(ident(2), payload=b"second")

# Python 3.12 and later warn of any fork beside threads, which the proxy's is.
forks_beside_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Awaited:
    """An asynchronous store's verbs, each run to its end in one event loop."""

    def __init__(self, store: AsyncMemcachedStore) -> None:
        self.store = store
        self.runner = asyncio.Runner()

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda *arguments: self.runner.run(getattr(self.store, verb)(*arguments))

    def close(self) -> None:
        with self.runner:
            self.runner.run(self.store.close())


Make = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Stores of one kind, in a namespace of the test's own, closed at its end."""
    made: list[Any] = []

    def one(servers: Any = None, **options: Any) -> Any:
        options = {"prefix": memcached.prefix(tmp_path), **options}
        where = clients(memcached.shared().name if servers is None else servers)
        if request.param == "sync":
            made.append(MemcachedStore(where, **options))
        else:
            made.append(Awaited(AsyncMemcachedStore(where, **options)))
        return made[-1]

    yield one
    for store in made:
        store.close()


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[MemcachedStore]:
    """Another process's store, as it were: the same namespace, with no proxy between."""
    prefix = memcached.prefix(tmp_path)
    with closing(MemcachedStore(Client(memcached.shared().name), prefix=prefix)) as store:
        yield store


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(memcached.shared().port) as between:
        yield between


@pytest.fixture
def server() -> Iterator[Memcached]:
    """A server that the test may kill, freeze or start again."""
    private = Memcached().start()
    yield private
    private.kill()


def clients(servers: Any) -> Any:
    """A client for an address, or for each of several; anything else as it is."""
    if isinstance(servers, list):
        return [clients(each) for each in servers]
    return Client(servers) if isinstance(servers, str) else servers


def address(proxy: Proxy) -> str:
    return f"127.0.0.1:{proxy.port}"


def cluster(store: Any) -> Any:
    """What the store of either kind asks."""
    inner: Any = store.store if isinstance(store, Awaited) else store
    return getattr(inner, "memcached", inner)._cluster


def key(tmp_path: Path, of: Record) -> str:
    return memcached.prefix(tmp_path) + of.id


def just_before(proxy: Proxy, command: bytes, act: Callable[[], object]) -> None:
    """Do it once, when the next such command has been sent and has not arrived."""

    def look(data: bytes) -> None:
        if data.startswith(command):
            proxy.on_request = None
            act()

    proxy.on_request = look


def calls_on(first: Record) -> dict[str, tuple[Any, ...]]:
    """Each verb with what it may be given."""
    return {
        "load": (first.id, NOW),
        "create": (first, NOW),
        "save": (changed(first), first.revision, NOW),
        "touch": (first.id, first.revision, NOW + 1, NOW + DAY, NOW),
        "delete": (first.id, NOW),
    }


class TestTimes:
    """The server forgets a record when it ends, a moment later at most."""

    @pytest.mark.parametrize(
        ("milliseconds", "seconds"),
        [
            (-1, -1),
            (0, -1),
            (1, 2),
            (999, 2),
            (1000, 2),
            (1001, 3),
            (90_500, 92),
            (29 * DAY, 29 * 86_400 + 1),
            (30 * DAY - 1000, 30 * 86_400),
        ],
    )
    def test_seconds_are_rounded_up_and_one_more(self, milliseconds: int, seconds: int) -> None:
        """Told at the end of the server's second, one second would be a moment."""
        assert seconds == _seconds(record(expires_at=NOW + milliseconds), NOW)

    @pytest.mark.parametrize("milliseconds", [30 * DAY, 31 * DAY, 400 * DAY])
    def test_more_than_a_month_is_told_as_a_date(self, milliseconds: int) -> None:
        """Memcached takes it for one anyway."""
        ends = time.time() + milliseconds / 1000

        assert ends + 1 <= _seconds(record(expires_at=NOW + milliseconds), NOW) <= ends + 60

    def test_no_date_is_later_than_the_server_can_count(self) -> None:
        """It would take it for no end, or for a past one."""
        assert 2**31 - 1 == _seconds(record(expires_at=NOW + 100 * 365 * DAY), NOW)

    @pytest.mark.parametrize("days", [1 / 86_400, 1, 29, 30, 31, 400])
    def test_the_server_keeps_it_as_long_as_it_lives(
        self, make: Make, tmp_path: Path, days: float
    ) -> None:
        """By its own clock, not a moment less and a few seconds more at most."""
        began = time.monotonic()
        make().create(record(expires_at=NOW + int(days * DAY)), NOW)
        left = memcached.shared().seconds_left(key(tmp_path, record()))
        lived = days * 86_400

        assert left is not None
        assert lived - (time.monotonic() - began) <= left <= lived + 5

    def test_a_save_moves_the_servers_time_in_both_directions(
        self, make: Make, tmp_path: Path
    ) -> None:
        """The record saved last says when it ends."""
        store, left = make(), memcached.shared().seconds_left
        first = record(expires_at=NOW + DAY)
        store.create(first, NOW)
        second = changed(first, expires_at=NOW + 600_000)
        store.save(second, first.revision, NOW)
        assert 500 < (left(key(tmp_path, first)) or 0) < 610
        store.save(changed(second, expires_at=NOW + 31 * DAY), second.revision, NOW)

        assert 31 * 86_400 - 100 < (left(key(tmp_path, first)) or 0) < 31 * 86_400 + 10

    def test_a_touch_moves_the_servers_time_forwards_only(self, make: Make, tmp_path: Path) -> None:
        """What came late leaves it where it is."""
        store, left = make(), memcached.shared().seconds_left
        first = record(expires_at=NOW + 600_000)
        store.create(first, NOW)

        assert store.touch(first.id, first.revision, NOW, NOW + 1_200_000, NOW) is True
        assert 1100 < (left(key(tmp_path, first)) or 0) < 1210
        assert store.touch(first.id, first.revision, NOW + 1, NOW + 300_000, NOW) is True
        assert 1100 < (left(key(tmp_path, first)) or 0) < 1210

    def test_what_has_ended_is_not_kept_for_ever(self, make: Make, tmp_path: Path) -> None:
        """To Memcached, nought seconds would be for ever."""
        store = make()
        store.create(record(ident(1), expires_at=NOW), NOW)
        other = record(ident(2))
        store.create(other, NOW)
        assert store.save(changed(other, expires_at=NOW - 1), other.revision, NOW) is SAVED

        assert [] == memcached.shared().keys(memcached.prefix(tmp_path))


class TestRaces:
    """What another process does between the look at a value and the `cas` of it."""

    @pytest.fixture
    def slow(self, make: Make, proxy: Proxy) -> Any:
        store = make(address(proxy))
        store.create(FIRST, NOW)
        return store

    def test_a_save_crossed_by_a_save_finds_the_other(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """It answers with the record that was faster, which stays."""
        faster = changed(FIRST, payload=b"faster")
        just_before(proxy, b"cas", lambda: direct.save(faster, FIRST.revision, NOW))

        assert faster == slow.save(changed(FIRST), FIRST.revision, NOW)
        assert faster == direct.load(FIRST.id, NOW)

    def test_a_save_crossed_by_a_touch_goes_through(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """A touch leaves the revision, so nobody was faster."""
        just_before(
            proxy,
            b"cas",
            lambda: direct.touch(FIRST.id, FIRST.revision, NOW + 9, NOW + DAY, NOW),
        )
        saved = changed(FIRST, payload=b"saved")

        assert SAVED is slow.save(saved, FIRST.revision, NOW)
        assert saved == direct.load(FIRST.id, NOW)

    @pytest.mark.parametrize("verb", ["save", "touch"])
    def test_what_a_delete_crosses_revives_nothing(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore, verb: str
    ) -> None:
        """Ended means ended."""
        just_before(proxy, b"cas", lambda: direct.delete(FIRST.id, NOW))
        if verb == "save":
            assert GONE is slow.save(changed(FIRST), FIRST.revision, NOW)
        else:
            assert False is slow.touch(FIRST.id, FIRST.revision, NOW + 1, NOW + DAY, NOW)

        assert direct.load(FIRST.id, NOW) is None

    def test_a_touch_crossed_by_a_touch_keeps_the_later_times(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """Each by itself, and both have touched it."""
        just_before(
            proxy,
            b"cas",
            lambda: direct.touch(FIRST.id, FIRST.revision, NOW + 9, NOW + DAY, NOW),
        )

        assert True is slow.touch(FIRST.id, FIRST.revision, NOW + 5, NOW + 2 * DAY, NOW)
        found = direct.load(FIRST.id, NOW)
        assert found is not None
        assert (NOW + 9, NOW + 2 * DAY) == (found.seen_at, found.expires_at)

    def test_a_touch_crossed_by_a_save_does_nothing(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """The revision is another's."""
        saved = changed(FIRST, payload=b"saved")
        just_before(proxy, b"cas", lambda: direct.save(saved, FIRST.revision, NOW))

        assert False is slow.touch(FIRST.id, FIRST.revision, NOW + 5, NOW + DAY, NOW)
        assert saved == direct.load(FIRST.id, NOW)

    def test_a_delete_crossed_by_a_save_still_ends_it(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """A delete is not compared."""
        just_before(proxy, b"delete", lambda: direct.save(changed(FIRST), FIRST.revision, NOW))

        assert True is slow.delete(FIRST.id, NOW)
        assert direct.load(FIRST.id, NOW) is None

    def test_of_two_deletes_one_ended_it(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """The other one found nothing when it arrived."""
        just_before(proxy, b"delete", lambda: direct.delete(FIRST.id, NOW))

        assert False is slow.delete(FIRST.id, NOW)

    def test_a_create_over_what_expired_gives_way_to_another(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """Of two, one creates, also where an expired record is in the way."""
        later = FIRST.expires_at
        other = record(FIRST.id, expires_at=later + DAY, payload=b"other")
        just_before(proxy, b"cas", lambda: direct.create(other, later))
        with pytest.raises(Collision):
            slow.create(record(FIRST.id, expires_at=later + DAY), later)

        assert other == direct.load(FIRST.id, later)

    def test_a_create_goes_on_where_what_was_in_the_way_went(
        self, slow: Any, proxy: Proxy, direct: MemcachedStore
    ) -> None:
        """It had collided with a record that was deleted before it looked."""
        just_before(proxy, b"gets", lambda: direct.delete(FIRST.id, NOW))
        second = record(FIRST.id, payload=b"second")
        slow.create(second, NOW)

        assert second == direct.load(FIRST.id, NOW)


class TestForeignValues:
    """What somebody else put where a record would be."""

    @pytest.fixture(
        params=[b"", b"\x00", b"\x01", b"\x01\xc1", dump(SECOND), dump(FIRST)[:-1]],
        ids=["empty", "zero", "short", "cut", "another's", "a byte short"],
    )
    def foreign(self, request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
        """Nothing that is a record of that id."""
        memcached.shared().set(key(tmp_path, FIRST), request.param)
        value: bytes = request.param
        return value

    def test_it_is_absent(self, make: Make, foreign: bytes) -> None:
        """To every verb that looks for a record."""
        store = make()

        assert store.load(FIRST.id, NOW) is None
        assert GONE is store.save(changed(FIRST), FIRST.revision, NOW)
        assert store.touch(FIRST.id, FIRST.revision, NOW, NOW + DAY, NOW) is False
        assert store.delete(FIRST.id, NOW) is False

    def test_create_replaces_it(self, make: Make, foreign: bytes) -> None:
        """As what has expired."""
        store = make()
        store.create(FIRST, NOW)

        assert FIRST == store.load(FIRST.id, NOW)

    def test_a_newer_format_is_an_outage_and_stays(self, make: Make, tmp_path: Path) -> None:
        """Nobody is logged out because a process is older than another."""
        store, newer = make(), b"\x02" + dump(FIRST)[1:]
        memcached.shared().set(key(tmp_path, FIRST), newer)
        for verb in ("load", "create", "save", "touch"):
            with pytest.raises(NewerFormat):
                getattr(store, verb)(*calls_on(FIRST)[verb])

        assert newer == memcached.shared().get(key(tmp_path, FIRST))

    def test_the_end_of_a_session_ends_a_newer_format_too(self, make: Make, tmp_path: Path) -> None:
        """A logout that crosses a newer worker's save is one all the same."""
        store = make()
        memcached.shared().set(key(tmp_path, FIRST), b"\x02" + dump(FIRST)[1:])

        assert (True, None) == (store.delete(FIRST.id, NOW), store.load(FIRST.id, NOW))


class TestSize:
    """Memcached takes no value beyond its item size, a megabyte by default."""

    def test_a_value_that_can_never_be_kept_says_so(self, make: Make) -> None:
        """It is no outage; the error names the server's setting, and what was there stays."""
        store = make()
        store.create(FIRST, NOW)
        big = changed(FIRST, payload=bytes(2_000_000))
        with pytest.raises(SessionTooLarge, match=r"max_bytes.*-I"):
            store.save(big, FIRST.revision, NOW)
        with pytest.raises(SessionTooLarge):
            store.create(record(ident(3), payload=bytes(2_000_000)), NOW)

        assert [FIRST, None] == [store.load(each, NOW) for each in (FIRST.id, ident(3))]

    def test_it_concerns_its_own_caller_alone(self, tmp_path: Path) -> None:
        """Those of the same message go through."""
        records = [record(ident(n)) for n in range(8)]
        records[3] = record(ident(3), payload=bytes(2_000_000))

        async def together() -> list[Any]:
            store = async_from_url(memcached.url(tmp_path))
            assert isinstance(store, AsyncMemcachedStore)
            made = [store.create(each, NOW) for each in records]
            answers = await asyncio.gather(*made, return_exceptions=True)
            await store.close()
            return answers

        answers = asyncio.run(together())
        assert [n == 3 for n in range(8)] == [isinstance(a, SessionTooLarge) for a in answers]
        assert [None] * 7 == [a for a in answers if a is None]

    def test_large_values_pass_in_both_directions(self, make: Make) -> None:
        """Up to what the server takes, in many pieces."""
        store = make()
        large = record(payload=os.urandom(900_000))
        store.create(large, NOW)

        assert large == store.load(large.id, NOW)

    def test_many_large_values_at_once_block_nobody(self, tmp_path: Path) -> None:
        """Reads and writes do not wait for each other's full buffers."""
        payload = os.urandom(200_000)
        records = [record(ident(n), payload=payload) for n in range(128)]

        async def together() -> list[Any]:
            store = AsyncMemcachedStore(
                clients(memcached.shared().name),
                prefix=memcached.prefix(tmp_path),
                timeout=10,
                pool_size=1,
            )
            await asyncio.gather(*[store.create(each, NOW) for each in records[:64]])
            calls: list[Any] = [store.load(each.id, NOW) for each in records[:64]]
            calls += [store.create(each, NOW) for each in records[64:]]
            answers = await asyncio.gather(*calls)
            await store.close()
            return answers

        assert records[:64] + [None] * 64 == asyncio.run(together())


class TestForgetting:
    """A full server forgets what was not used for long; that is a logout, never an error."""

    def test_what_was_evicted_is_absent(self, make: Make) -> None:
        """And every call goes on working."""
        full = Memcached("-m", "2").start()
        store = make(full.name)
        records = [record(ident(n), payload=bytes(20_000)) for n in range(300)]
        for each in records:
            store.create(each, NOW)
        found = [store.load(each.id, NOW) for each in records]
        evicted, kept = records[found.index(None)], records[-1]

        assert kept == store.load(kept.id, NOW)
        assert GONE is store.save(changed(evicted), evicted.revision, NOW)
        assert store.load(evicted.id, NOW) is None
        assert store.delete(evicted.id, NOW) is False
        full.kill()

    def test_a_server_that_evicts_nothing_refuses_when_full(self, make: Make) -> None:
        """With -M a full server is an outage for what is new, and keeps what is there."""
        full = Memcached("-m", "2", "-M").start()
        store = make(full.name)
        first = record(ident(0), payload=bytes(20_000))
        store.create(first, NOW)
        with pytest.raises(StoreUnavailable, match="out of memory"):  # noqa: PT012
            for n in range(1, 300):
                store.create(record(ident(n), payload=bytes(20_000)), NOW)

        assert first == store.load(first.id, NOW)
        full.kill()

    def test_a_restart_logs_everybody_out_and_no_more(self, make: Make, server: Memcached) -> None:
        """The very next request works, on a new connection."""
        store = make(server.name)
        store.create(FIRST, NOW)
        server.kill()
        server.start()

        assert store.load(FIRST.id, NOW) is None
        assert GONE is store.save(changed(FIRST), FIRST.revision, NOW)
        store.create(FIRST, NOW)
        assert FIRST == store.load(FIRST.id, NOW)

    def test_a_write_is_the_first_call_after_a_restart(self, make: Make, server: Memcached) -> None:
        """It is not spent on finding out that its connection is dead."""
        store = make(server.name)
        store.create(FIRST, NOW)
        server.kill()
        server.start()
        store.create(SECOND, NOW)

        assert SECOND == store.load(SECOND.id, NOW)


class TestSeveralServers:
    """Each session has one server, and no other is asked."""

    @pytest.fixture
    def servers(self) -> Iterator[list[Memcached]]:
        started = [Memcached().start() for _ in range(2)]
        yield started
        for each in started:
            each.kill()

    RECORDS = [record(ident(n)) for n in range(40)]  # noqa: RUF012 - frozen, and never changed

    def test_sessions_are_spread(
        self, make: Make, servers: list[Memcached], tmp_path: Path
    ) -> None:
        """Over all servers, each on one."""
        store = make([each.name for each in servers])
        for each in self.RECORDS:
            store.create(each, NOW)
        kept = [set(each.keys(memcached.prefix(tmp_path))) for each in servers]

        assert {key(tmp_path, each) for each in self.RECORDS} == kept[0] | kept[1]
        assert set() == kept[0] & kept[1]
        assert min(map(len, kept)) > 5

    def test_every_process_finds_them_alike(
        self, make: Make, servers: list[Memcached], tmp_path: Path
    ) -> None:
        """Sync or async, whatever the order of the list."""
        names = [each.name for each in servers]
        store = make(names)
        for each in self.RECORDS:
            store.create(each, NOW)
        with closing(
            MemcachedStore(clients(names[::-1]), prefix=memcached.prefix(tmp_path))
        ) as other:
            assert self.RECORDS == [other.load(each.id, NOW) for each in self.RECORDS]

    def test_one_more_server_moves_few(self) -> None:
        """Those that it keeps from now on, and no other changes its place."""
        names = [f"10.0.0.{n}:11211" for n in range(1, 5)]
        three, four = MemcachedStore(clients(names[:3])), MemcachedStore(clients(names))
        places = [
            [store._cluster.place(ident(n))[0].name for n in range(400)] for store in (three, four)
        ]
        moved = {after for before, after in zip(*places, strict=True) if before != after}
        count = sum(before != after for before, after in zip(*places, strict=True))

        assert {names[3]} == moved
        assert 60 < count < 140

    def test_a_place_does_not_depend_on_the_process(self) -> None:
        """Written down once, so that no release moves anybody."""
        store = MemcachedStore(clients(["a:1", "b:2", "[::1]:3"]))

        assert ["[::1]:3", "[::1]:3", "b:2", "[::1]:3", "[::1]:3", "[::1]:3", "b:2", "[::1]:3"] == [
            store._cluster.place(ident(n))[0].name for n in range(8)
        ]

    @pytest.mark.parametrize("how", ["kill", "freeze"])
    def test_one_that_is_away_is_an_outage_of_its_own_sessions(
        self, make: Make, servers: list[Memcached], how: str
    ) -> None:
        """The others go on; nothing is looked for or put elsewhere, and no time is lost."""
        store = make([each.name for each in servers], timeout=0.4)
        for each in self.RECORDS:
            store.create(each, NOW)
        getattr(servers[0], how)()
        ours = [r for r in self.RECORDS if place(store, r) == servers[0].name]
        others = [r for r in self.RECORDS if place(store, r) == servers[1].name]
        for each in ours[:2]:
            with pytest.raises(StoreUnavailable):
                store.load(each.id, NOW)
            with pytest.raises(StoreUnavailable):
                store.create(each, NOW)

        assert others == [store.load(each.id, NOW) for each in others]
        assert len(others) > 5

    def test_a_session_that_ended_does_not_return_with_its_server(
        self, make: Make, servers: list[Memcached]
    ) -> None:
        """Logging out fails while the server is away, so it never seems to have worked."""
        store = make([each.name for each in servers], timeout=0.4)
        for each in self.RECORDS:
            store.create(each, NOW)
        gone = next(r for r in self.RECORDS if place(store, r) == servers[0].name)
        servers[0].freeze()
        with pytest.raises(StoreUnavailable):
            store.delete(gone.id, NOW)
        servers[0].thaw()

        assert store.delete(gone.id, NOW) in (True, False)
        assert store.load(gone.id, NOW) is None

    def test_a_hung_server_holds_nobody_else_up(self, servers: list[Memcached]) -> None:
        """What one turn asks of the others is answered at once."""
        servers[0].freeze()

        async def main() -> list[bool]:
            store = AsyncMemcachedStore(clients([each.name for each in servers]), timeout=3)
            ids = [ident(n) for n in range(200)]
            calls = [asyncio.ensure_future(store.load(each, NOW)) for each in ids]
            expected = [cluster(store).place(each)[0].name == servers[1].name for each in ids]
            async with asyncio.timeout(10):
                await asyncio.gather(
                    *[call for call, fine in zip(calls, expected, strict=True) if fine]
                )
            answered = [call.done() for call in calls]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await store.close()
            assert expected == answered
            return expected

        assert 50 < sum(asyncio.run(main())) < 150


def place(store: Any, of: Record) -> str:
    """The server that keeps that record."""
    name: str = cluster(store).place(of.id)[0].name
    return name


class TestFaults:
    """Whatever breaks is `StoreUnavailable`, in time; and the next request works."""

    @pytest.fixture
    def store(self, make: Make, proxy: Proxy) -> Any:
        store = make(address(proxy), timeout=0.5)
        store.create(FIRST, NOW)
        store.create(SECOND, NOW)
        return store

    def test_an_answer_cut_anywhere_is_an_outage(self, store: Any, proxy: Proxy) -> None:
        """However much of it came: never absent, never half a record."""
        answer = len(b"VALUE  0  \r\n\r\nEND\r\n") + len(dump(FIRST))
        for at in range(answer):
            proxy.heal()
            proxy.cut_after = at
            with pytest.raises(StoreUnavailable):
                store.load(FIRST.id, NOW)
        proxy.heal()

        assert FIRST == store.load(FIRST.id, NOW)

    @pytest.mark.parametrize("verb", ["load", "create", "save", "touch", "delete"])
    @pytest.mark.parametrize("fault", ["cut_after", "reset_after"])
    def test_every_verb_survives_a_lost_answer(
        self, store: Any, proxy: Proxy, verb: str, fault: str
    ) -> None:
        """The connection ends where the answer should begin."""
        setattr(proxy, fault, 0)
        with pytest.raises(StoreUnavailable):
            getattr(store, verb)(*calls_on(FIRST)[verb])
        proxy.heal()

        assert SECOND == store.load(SECOND.id, NOW)

    @pytest.mark.parametrize("command", [b"cas", b"add", b"delete"])
    def test_a_write_whose_answer_is_lost_is_not_sent_again(
        self, store: Any, proxy: Proxy, command: bytes
    ) -> None:
        """Nobody knows whether it was done."""
        sent: list[bytes] = []

        def look(data: bytes) -> None:
            if data.startswith(command):
                sent.append(data)
                proxy.cut_after = 0

        proxy.on_request = look
        verb = {b"cas": "save", b"add": "create", b"delete": "delete"}[command]
        with pytest.raises(StoreUnavailable):
            getattr(store, verb)(*calls_on(FIRST)[verb])

        assert 1 == len(sent)

    def test_a_server_that_dribbles_is_late_all_the_same(self, store: Any, proxy: Proxy) -> None:
        """The limit is for the whole answer, which would take a minute here."""
        proxy.dribble, proxy.delay = True, 0.1
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"within 0\.5 s"):
            store.load(FIRST.id, NOW)

        assert time.monotonic() - began < 2

    def test_a_late_answer_is_nobodys(self, store: Any, proxy: Proxy) -> None:
        """The next call has a connection of its own."""
        proxy.delay = 0.8
        with pytest.raises(StoreUnavailable):
            store.load(FIRST.id, NOW)
        proxy.heal()

        assert [SECOND] * 5 == [store.load(SECOND.id, NOW) for _ in range(5)]

    def test_a_frozen_server_is_an_outage_until_it_thaws(
        self, make: Make, server: Memcached
    ) -> None:
        """Also for those who connect meanwhile."""
        store = make(server.name, timeout=0.4)
        store.create(FIRST, NOW)
        server.freeze()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=server.name):
                store.load(FIRST.id, NOW)
        server.thaw()

        assert FIRST == store.load(FIRST.id, NOW)

    def test_a_dead_server_is_an_outage_until_it_is_back(
        self, make: Make, server: Memcached
    ) -> None:
        """Nothing has to be restarted, and nothing is remembered against it."""
        store = make(server.name)
        store.create(FIRST, NOW)
        server.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="ConnectionRefusedError"):
                store.load(FIRST.id, NOW)
        server.start()

        assert store.load(FIRST.id, NOW) is None

    def test_connections_that_were_cut_while_idle_are_not_used(
        self, store: Any, proxy: Proxy
    ) -> None:
        """Their end is noticed before anything is sent."""
        proxy.cut_all()
        assert SAVED is store.save(changed(FIRST), FIRST.revision, NOW)
        proxy.cut_all()

        assert SECOND == store.load(SECOND.id, NOW)

    def test_a_connection_that_was_idle_for_long_is_not_trusted(
        self, store: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A firewall may have forgotten it, and would let the call hang."""
        before = proxy.connections
        store.load(FIRST.id, NOW)
        assert before == proxy.connections
        monkeypatch.setattr(wire, "_TRUSTED", 0.0)
        store.load(FIRST.id, NOW)

        assert before + 1 == proxy.connections

    def test_a_name_that_nobody_knows_is_an_outage(self, make: Make) -> None:
        """It may be known soon."""
        with pytest.raises(StoreUnavailable, match=r"nowhere\.invalid:11211"):
            make("nowhere.invalid").load(FIRST.id, NOW)

    def test_a_process_out_of_threads_has_an_outage(self, make: Make) -> None:
        """A name is looked up in one; when there is one again, it is."""
        store = make(f"localhost:{memcached.shared().port}")
        with no_threads(), pytest.raises(StoreUnavailable, match="thread"):
            store.load(FIRST.id, NOW)

        assert store.load(FIRST.id, NOW) is None

    def test_a_process_out_of_descriptors_has_an_outage(self, make: Make) -> None:
        """Until some are free again; nothing else is said about it."""
        store = make()
        store.load(FIRST.id, NOW)
        cluster(store).close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(StoreUnavailable, match="Too many open files"):
                store.load(FIRST.id, NOW)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        assert store.load(FIRST.id, NOW) is None

    def test_a_server_of_another_kind_is_an_outage(self, make: Make) -> None:
        """What it says is not repeated, for it may be anything."""
        with ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as other:
            threading.Thread(target=other.serve_forever).start()
            try:
                with pytest.raises(StoreUnavailable) as raised:
                    make(f"127.0.0.1:{other.server_port}").load(FIRST.id, NOW)
            finally:
                other.shutdown()

        assert "HTML" not in str(raised.value)

    def test_a_server_without_tokens_is_told_apart(self, make: Make) -> None:
        """Nothing could be compared there; the error says what to change."""
        without = Memcached("-C").start()
        store = make(without.name)
        store.create(FIRST, NOW)
        with pytest.raises(StoreUnavailable, match="started with -C"):
            store.save(changed(FIRST), FIRST.revision, NOW)
        without.kill()

    def test_a_server_that_wants_a_password_says_so(self, make: Make, tmp_path: Path) -> None:
        """It may let us in when it was started otherwise, so it is an outage."""
        users = folder_for("nobody", "memcached") / "users"
        users.write_text("user:password\n")
        strict = Memcached("-Y", str(users)).start()
        with pytest.raises(StoreUnavailable, match="CLIENT_ERROR unauthenticated"):
            make(strict.name).load(FIRST.id, NOW)
        strict.kill()


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class TestNames:
    """A name may have several addresses, and may take long to look up."""

    @pytest.fixture
    def named(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Has every name lead to these ports, in that order, once `ready` is set."""

        def look_up(*ports: int, ready: threading.Event | None = None) -> list[None]:
            asked: list[None] = []

            def places(server: tuple[str, int], flags: int = 0) -> list[Any]:
                if flags:
                    raise socket.gaierror("no address, but a name")
                asked.append(None)
                if ready is not None:
                    ready.wait()
                kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
                return [(*kind, ("127.0.0.1", port)) for port in ports]

            monkeypatch.setattr(_address, "_look_up", places)
            return asked

        return look_up

    @pytest.fixture
    def hole(self) -> Iterator[int]:
        """A port that swallows whatever is sent to it."""
        with socket.socket() as listener, socket.socket() as filling:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            filling.connect(listener.getsockname())
            yield listener.getsockname()[1]

    def test_where_the_first_address_refuses_the_next_is_tried(
        self, make: Make, named: Any
    ) -> None:
        """As where `localhost` leads to ::1 first."""
        named(free_port(), memcached.shared().port)
        store = make("cache.example")
        store.create(FIRST, NOW)

        assert FIRST == store.load(FIRST.id, NOW)

    def test_an_address_that_swallows_everything_leaves_time_for_the_next(
        self, make: Make, named: Any, hole: int
    ) -> None:
        """It gets its share of the time to connect."""
        named(hole, memcached.shared().port)

        assert make("cache.example", connect_timeout=0.5).load(FIRST.id, NOW) is None

    def test_connecting_takes_no_longer_than_the_request_may(self, hole: int) -> None:
        """Whatever time the store would give it."""
        began = time.monotonic()
        with closing(MemcachedStore(Client(f"127.0.0.1:{hole}"), connect_timeout=30)) as store:
            with patience.limit(0.2), pytest.raises(StoreUnavailable):
                store.load(FIRST.id, NOW)

            assert time.monotonic() - began < 5

    def test_a_name_is_looked_up_once_at_a_time(self, make: Make, named: Any) -> None:
        """Nobody waits for that longer than for a connection, and no threads pile up."""
        ready = threading.Event()
        asked = named(memcached.shared().port, ready=ready)
        store = make("cache.example", connect_timeout=0.1)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="none within"):
                store.load(FIRST.id, NOW)
        ready.set()

        assert store.load(FIRST.id, NOW) is None
        assert len(asked) in (1, 2)


class TestTimeLimits:
    """What a request has left is what a call may take."""

    def test_patience_is_what_one_call_may_take(self, make: Make) -> None:
        """The time to connect and the time for an answer."""
        store = make(timeout=0.25, connect_timeout=0.5)

        assert 0.75 == (store.store if isinstance(store, Awaited) else store).patience

    def test_a_request_with_little_time_left_waits_no_longer(self, server: Memcached) -> None:
        """In threads."""
        with closing(MemcachedStore(Client(server.name), timeout=30)) as store:
            server.freeze()
            began = time.monotonic()
            with patience.limit(0.2), pytest.raises(StoreUnavailable):
                store.load(FIRST.id, NOW)

            assert time.monotonic() - began < 5

    def test_a_request_without_time_left_asks_nothing(self, proxy: Proxy) -> None:
        """It is refused before anything is sent."""
        with closing(MemcachedStore(Client(address(proxy)))) as store:
            with patience.limit(-1), pytest.raises(StoreUnavailable):
                store.delete(FIRST.id, NOW)

            assert 0 == proxy.connections

    def test_a_verb_of_several_round_trips_has_one_limit(self, make: Make, proxy: Proxy) -> None:
        """Each answer comes in time, and all together do not."""
        store = make(address(proxy), timeout=0.6, connect_timeout=0.1)
        store.create(FIRST, NOW)
        proxy.delay = 0.5
        with pytest.raises(StoreUnavailable):
            store.save(changed(FIRST), FIRST.revision, NOW)
        proxy.heal()

    def test_a_write_that_was_given_up_is_not_done_later(self, server: Memcached) -> None:
        """When its server thaws, the thread has given it up too."""

        async def main() -> None:
            store = AsyncMemcachedStore(Client(server.name), timeout=30)
            await store.create(FIRST, NOW)
            server.freeze()
            with patience.limit(0.2), pytest.raises(StoreUnavailable):
                await store.save(changed(FIRST), FIRST.revision, NOW)
            server.thaw()
            await store.close()  # after its threads
            assert FIRST == await store.load(FIRST.id, NOW)
            await store.close()

        asyncio.run(main())

    def test_whoever_waits_for_a_connection_waits_no_longer(self, server: Memcached) -> None:
        """Sixteen threads, one connection, and a server that says nothing."""
        with closing(MemcachedStore(Client(server.name), timeout=0.3, pool_size=1)) as store:
            store.create(FIRST, NOW)
            server.freeze()

            def load(_: int) -> bool:
                with pytest.raises(StoreUnavailable):
                    store.load(FIRST.id, NOW)
                return True

            began = time.monotonic()
            with ThreadPoolExecutor(16) as threads:
                assert all(threads.map(load, range(16)))
            assert time.monotonic() - began < 2
            server.thaw()
            assert FIRST == store.load(FIRST.id, NOW)


class TestWays:
    """What a ready client says of the way to its server."""

    @pytest.fixture
    def secured(self) -> Iterator[Secured]:
        started = Secured()
        started.start()
        yield started
        started.kill()

    def test_over_tls(self, make: Make, secured: Secured) -> None:
        """A large value, on one connection, and another when that one is cut."""
        with Proxy(secured.port) as proxy:
            store = make(Client(f"localhost:{proxy.port}", tls_context=secured.context))
            large = record(payload=os.urandom(300_000))
            store.create(large, NOW)
            assert (large, 1) == (store.load(large.id, NOW), proxy.connections)
            proxy.cut_all()
            assert (large, 2) == (store.load(large.id, NOW), proxy.connections)

    def test_a_certificate_that_nobody_signed_is_an_outage(
        self, make: Make, secured: Secured
    ) -> None:
        """As it is where TLS meets none."""
        suspicious = ssl.create_default_context()
        for port in (secured.port, memcached.shared().port):
            store = make(Client(f"localhost:{port}", tls_context=suspicious))
            with pytest.raises(StoreUnavailable, match="SSL"):
                store.load(FIRST.id, NOW)

    def test_a_handshake_that_hangs_ends_in_time(self, make: Make, secured: Secured) -> None:
        """It is part of connecting."""
        client = Client(f"localhost:{secured.port}", tls_context=secured.context)
        store = make(client, connect_timeout=0.3)
        secured.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.load(FIRST.id, NOW)

        assert time.monotonic() - began < 2

    def test_by_the_path_of_a_socket(self, make: Make) -> None:
        """Where the server is on the same machine."""
        local = Local()
        local.start()
        store = make(Client(local.path))
        store.create(FIRST, NOW)

        assert FIRST == store.load(FIRST.id, NOW)
        local.kill()


class TestThreads:
    """One store serves all threads of a process."""

    def test_threads_share_a_bounded_number_of_connections(
        self, proxy: Proxy, tmp_path: Path
    ) -> None:
        """Each call has one to itself."""
        prefix = memcached.prefix(tmp_path)
        records = [record(ident(n), payload=b"%d" % n) for n in range(16)]

        def use(mine: Record) -> list[Record | None]:
            store.create(mine, NOW)
            return [store.load(mine.id, NOW) for _ in range(20)]

        with (
            closing(
                MemcachedStore(Client(address(proxy)), prefix=prefix, timeout=10, pool_size=4)
            ) as store,
            ThreadPoolExecutor(16) as threads,
        ):
            assert [[each] * 20 for each in records] == list(threads.map(use, records))

        assert 1 <= proxy.connections <= 4

    def test_close_closes_what_is_idle_and_the_store_opens_again(
        self, make: Make, server: Memcached
    ) -> None:
        """As after a pause."""
        store = make(server.name)
        store.create(FIRST, NOW)
        if isinstance(store, Awaited):
            store.runner.run(store.store.close())
        else:
            store.close()

        assert FIRST == store.load(FIRST.id, NOW)


class TestForks:
    """A child never uses a connection of its parent's."""

    @forks_beside_threads
    @pytest.mark.parametrize("divide", [os.fork, c_fork])
    def test_parent_and_child_have_connections_of_their_own(
        self, make: Make, proxy: Proxy, divide: Callable[[], int]
    ) -> None:
        """The parent's goes on after the child has ended."""
        store = make(address(proxy))
        store.create(FIRST, NOW)
        assert 1 == proxy.connections

        def child() -> bool:
            mine = store
            if isinstance(store, Awaited):
                mine = Awaited(store.store)
            found = [mine.load(FIRST.id, NOW) for _ in range(3)]
            mine.close()
            return found == [FIRST] * 3

        assert in_child(child, divide)
        assert 2 == proxy.connections
        assert FIRST == store.load(FIRST.id, NOW)
        assert 2 == proxy.connections

    @forks_beside_threads
    def test_a_child_is_not_short_of_what_other_threads_hold(self, server: Memcached) -> None:
        """Those threads are not in the child, and would never give it back."""
        with closing(MemcachedStore(Client(server.name), timeout=20, pool_size=1)) as store:
            store.create(FIRST, NOW)
            server.freeze()
            with ThreadPoolExecutor(1) as threads:
                busy = threads.submit(store.load, FIRST.id, NOW)
                reading, writing = os.pipe()
                slots = store._cluster.servers[0]._slots
                while slots.acquire(blocking=False):
                    slots.release()
                forked = os.fork()
                if forked == 0:
                    os.read(reading, 1)  # until the server has thawed
                    os._exit(0 if store.load(FIRST.id, NOW) == FIRST else 1)
                server.thaw()
                os.write(writing, b".")
                assert 0 == os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])
                assert FIRST == busy.result()
            os.close(reading)
            os.close(writing)


class TestLoops:
    """Event loops come and go, and may be several."""

    def test_one_loop_after_another_uses_the_same_connection(
        self, proxy: Proxy, tmp_path: Path
    ) -> None:
        """A connection belongs to no loop, so closed loops leave nothing behind."""
        store = AsyncMemcachedStore(Client(address(proxy)), prefix=memcached.prefix(tmp_path))
        asyncio.run(store.create(FIRST, NOW))

        assert [FIRST] * 3 == [asyncio.run(store.load(FIRST.id, NOW)) for _ in range(3)]
        assert 1 == proxy.connections
        asyncio.run(store.close())

    def test_a_store_that_is_dropped_unclosed_leaves_nothing(self) -> None:
        """Neither a warning nor a connection."""
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        stores = (
            AsyncMemcachedStore(Client(memcached.shared().name)),
            MemcachedStore(Client(memcached.shared().name)),
        )
        asyncio.run(stores[0].load(FIRST.id, NOW))
        stores[1].load(FIRST.id, NOW)
        assert before + 2 == len(os.listdir("/proc/self/fd"))
        del stores
        gc.collect()

        assert before == len(os.listdir("/proc/self/fd"))

    def test_no_more_connections_stay_idle_than_the_pool_holds(self, tmp_path: Path) -> None:
        """Where more were needed for a moment, as a reading and a writing one are here."""
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        prefix = memcached.prefix(tmp_path)
        store = AsyncMemcachedStore(Client(memcached.shared().name), prefix=prefix, pool_size=1)

        async def both() -> None:
            await asyncio.gather(store.create(FIRST, NOW), store.load(FIRST.id, NOW))

        asyncio.run(both())
        assert before + 1 == len(os.listdir("/proc/self/fd"))
        asyncio.run(store.close())
        assert before == len(os.listdir("/proc/self/fd"))

    def test_loops_in_two_threads_share_a_store(self, tmp_path: Path) -> None:
        """At the same time."""
        store = AsyncMemcachedStore(
            Client(memcached.shared().name), prefix=memcached.prefix(tmp_path)
        )
        asyncio.run(store.create(FIRST, NOW))

        async def many() -> list[Record | None]:
            return await asyncio.gather(*[store.load(FIRST.id, NOW) for _ in range(100)])

        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda _: asyncio.run(many()), range(2)))
        assert [[FIRST] * 100] * 2 == answers
        asyncio.run(store.close())

    def test_what_one_turn_reads_is_asked_in_one_message(
        self, proxy: Proxy, tmp_path: Path
    ) -> None:
        """A hundred and twenty-eight loads, of keys as long as they may be, twice two alike."""
        asked: list[bytes] = []
        prefix = (memcached.prefix(tmp_path) * 12)[:200]

        async def main() -> list[Record | None]:
            store = AsyncMemcachedStore(Client(address(proxy)), prefix=prefix)
            await store.create(FIRST, NOW)
            proxy.on_request = asked.append
            ids = [FIRST.id, *(ident(n) for n in range(10, 136)), FIRST.id]
            found = await asyncio.gather(*[store.load(each, NOW) for each in ids])
            await store.close()
            return found

        assert [FIRST, *[None] * 126, FIRST] == asyncio.run(main())
        assert (1, 127) == (b"".join(asked).count(b"gets "), b"".join(asked).count(prefix.encode()))

    def test_a_cut_message_is_an_outage_of_all_that_asked(
        self, proxy: Proxy, tmp_path: Path
    ) -> None:
        """Each of them is told by itself; nobody gets half an answer, or another's."""

        async def main() -> list[Any]:
            store = AsyncMemcachedStore(Client(address(proxy)), prefix=memcached.prefix(tmp_path))
            await store.create(FIRST, NOW)
            await store.create(SECOND, NOW)
            proxy.cut_after = len(dump(FIRST)) + 100
            calls = [store.load(each.id, NOW) for each in (FIRST, SECOND) * 8]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            proxy.heal()
            assert SECOND == await store.load(SECOND.id, NOW)
            await store.close()
            return answers

        answers = asyncio.run(main())
        assert all(isinstance(each, StoreUnavailable) for each in answers)
        assert 16 == len({id(each) for each in answers})

    def test_a_cancelled_call_leaves_no_half_answer(self, proxy: Proxy, tmp_path: Path) -> None:
        """Whoever comes next gets its own."""

        async def main() -> list[Record | None]:
            store = AsyncMemcachedStore(Client(address(proxy)), prefix=memcached.prefix(tmp_path))
            await store.create(FIRST, NOW)
            await store.create(SECOND, NOW)
            asked = threading.Event()
            proxy.on_request = lambda _: asked.set()
            proxy.delay = 0.1
            call = asyncio.ensure_future(store.load(FIRST.id, NOW))
            await asyncio.to_thread(asked.wait, 10)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            proxy.heal()
            found = [await store.load(SECOND.id, NOW) for _ in range(5)]
            await store.close()
            return found

        assert [SECOND] * 5 == asyncio.run(main())

    def test_a_loop_that_ends_in_the_middle_leaves_no_half_answer(
        self, proxy: Proxy, tmp_path: Path
    ) -> None:
        """What it had asked is cancelled, and its connection closed."""
        store = AsyncMemcachedStore(Client(address(proxy)), prefix=memcached.prefix(tmp_path))

        async def give_up() -> None:
            await store.create(FIRST, NOW)
            await store.create(SECOND, NOW)
            proxy.delay = 0.2
            call = asyncio.ensure_future(store.load(FIRST.id, NOW))
            await asyncio.wait([call], timeout=0.05)

        asyncio.run(give_up())
        proxy.heal()
        assert SECOND == asyncio.run(store.load(SECOND.id, NOW))
        assert 2 == proxy.connections
        asyncio.run(store.close())


class TestOptions:
    """What cannot work is refused when the store is made."""

    @pytest.mark.parametrize(
        "given",
        [
            [],
            None,
            "localhost:11211",
            [object()],
            {Client("localhost")},
            HashClient(["localhost"]),
            RetryingClient(Client("localhost"), attempts=2),
            Client("localhost", ignore_exc=True),
            [Client("a"), PooledClient("b", ignore_exc=True)],
        ],
    )
    def test_what_could_undo_a_logout_is_refused(self, given: Any) -> None:
        """Only a client of one server, which asks once and tells what failed, will do."""
        for kind in (MemcachedStore, AsyncMemcachedStore):
            with pytest.raises(ConfigurationError, match=r"Client\('localhost:11211'\)"):
                kind(given)

    def test_a_client_with_a_prefix_of_its_own_is_refused(self) -> None:
        """The store has one, and would drop the other."""
        with pytest.raises(ConfigurationError, match="prefix="):
            MemcachedStore(Client("localhost", key_prefix=b"app:"))

    @pytest.mark.parametrize("kind", [Client, PooledClient])
    def test_of_a_client_the_address_is_taken(
        self, make: Make, server: Memcached, kind: Any
    ) -> None:
        """The limits are the store's, and the client's connection is left alone."""
        client = kind(server.name)
        store = make(client, timeout=0.3)
        store.create(FIRST, NOW)
        assert client.version()
        client.close()
        server.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"within 0\.3 s"):
            store.load(FIRST.id, NOW)

        assert time.monotonic() - began < 2

    def test_a_server_that_is_there_twice_is_refused(self, make: Make) -> None:
        """It would be a mistake in the list."""
        with pytest.raises(ConfigurationError, match="once"):
            make(["localhost", "LOCALHOST:11211"])

    @pytest.mark.parametrize("prefix", ["a b", "a\n", "a\r\nflush_all", "x" * 201, "\x7f", 5])
    def test_a_prefix_that_cannot_begin_a_key_is_refused(self, make: Make, prefix: Any) -> None:
        """No space and no control character may be in a key."""
        with pytest.raises(ConfigurationError, match="prefix"):
            make(prefix=prefix)

    @pytest.mark.parametrize("prefix", ["", "x" * 200, "ü" * 100, "{%}*"])
    def test_a_prefix_may_be_any_other_text(self, make: Make, prefix: str) -> None:
        """Up to its longest."""
        store = make(prefix=prefix)
        mine = record(os.urandom(16).hex())
        store.create(mine, NOW)

        assert mine == store.load(mine.id, NOW)

    @pytest.mark.parametrize("id", ["x" * 32, "0" * 31, "0\r\nflush_all\r\n", ""])
    def test_only_ids_reach_a_server(self, make: Make, proxy: Proxy, id: str) -> None:
        """Whatever else is asked for, nothing that is no key is sent."""
        store = make(address(proxy))
        if id == "":
            assert store.load(id, NOW) is None
        else:
            with pytest.raises(ValueError, match="hexadecimal"):
                store.load(id, NOW)
            assert 0 == proxy.from_client

    @pytest.mark.parametrize("option", ["timeout", "connect_timeout"])
    @pytest.mark.parametrize("given", [0, -1, 3601, "1", None, True, float("nan")])
    def test_time_outs_are_seconds(self, make: Make, option: str, given: Any) -> None:
        """There is no way to wait for ever."""
        with pytest.raises(ConfigurationError, match=option):
            make(**{option: given})

    @pytest.mark.parametrize("given", [0, -1, 1.5, "4", None, True, 10_001])
    def test_a_pool_has_a_size(self, make: Make, given: Any) -> None:
        """At least one connection, and not without a bound."""
        with pytest.raises(ConfigurationError, match="pool_size"):
            make(pool_size=given)


class TestURL:
    """`from_url` and `async_from_url`."""

    @pytest.fixture(params=[from_url, async_from_url])
    def read(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    def test_it_names_servers_and_options(self, read: Any) -> None:
        """All of them."""
        store = read(
            "memcached://a:1,[::1]:2,c/?prefix=p:&timeout=0.25&connect_timeout=0.5&pool_size=3"
        )

        servers = cluster(store).servers

        assert ["a:1", "[::1]:2", "c:11211"] == [each.name for each in servers]
        assert (0.75, b"p:") == (store.patience, cluster(store)._prefix)
        assert (0.5, 0.25, 3) == servers[0].limits

    def test_the_defaults_are_safe(self, read: Any) -> None:
        """A second to connect, half a second for an answer."""
        store = read("memcached://localhost")

        assert (1.0, 0.5, 16) == cluster(store).servers[0].limits
        assert b"coatcheck:" == cluster(store)._prefix

    @pytest.mark.parametrize(
        "url",
        [
            "memcached://localhost/0",
            "memcached://user:s3cret@localhost",
            "memcached://:s3cret@localhost",
            "memcached://localhost/?timeuot=3",
            "memcached://localhost/?timeout=0",
            "memcached://localhost/?pool_size=0",
            "memcached://localhost/?prefix=a%20b",
            "memcached://localhost:0",
            "memcached://localhost,localhost",
            "memcached://localhost#x",
        ],
    )
    def test_what_it_cannot_say_is_refused(self, read: Any, url: str) -> None:
        """And no secret is shown."""
        with pytest.raises(ConfigurationError) as raised:
            read(url)

        assert "s3cret" not in str(raised.value)

    def test_both_kinds_see_the_same_sessions(self, tmp_path: Path) -> None:
        """Made from one URL."""
        sync, twin = (make(memcached.url(tmp_path)) for make in (from_url, async_from_url))
        assert isinstance(sync, MemcachedStore)
        assert isinstance(twin, AsyncMemcachedStore)
        sync.create(FIRST, NOW)

        assert FIRST == asyncio.run(twin.load(FIRST.id, NOW))
        assert FIRST.id.encode() in memcached.dump(tmp_path)
        assert b"first" in memcached.dump(tmp_path)
        sync.close()
        asyncio.run(twin.close())


class TestWhatItCannot:
    """It says so, and why."""

    def test_it_declares_what_it_is(self) -> None:
        """It is shared, it evicts, it neither lists nor sweeps."""
        for store in (
            MemcachedStore(Client("localhost")),
            AsyncMemcachedStore(Client("localhost")),
        ):
            assert (True, True) == (store.shared, store.evicts)
            assert not isinstance(store, Listable)
            assert not isinstance(store, Sweepable)

    @pytest.mark.parametrize("call", ["list_for", "revoke_all"])
    def test_lists_are_refused_with_the_reason(self, call: str) -> None:
        """By both kinds of Sessions, before anything is asked."""
        with pytest.raises(ConfigurationError, match="Memcached cannot list its keys"):
            getattr(Sessions(MemcachedStore(Client("localhost"))), call)("user:42")
        with pytest.raises(ConfigurationError, match="Memcached cannot list its keys"):
            asyncio.run(
                getattr(AsyncSessions(AsyncMemcachedStore(Client("localhost"))), call)("user:42")
            )

    def test_a_session_can_be_revoked_by_its_id(self, direct: MemcachedStore) -> None:
        """That needs no list."""
        now = int(time.time() * 1000)
        direct.create(record(expires_at=now + DAY), now)
        sessions = Sessions(direct)

        assert [True, False] == [sessions.revoke(record().id) for _ in range(2)]

    def test_a_cookie_stores_revocations_are_not_kept_here(self) -> None:
        """An id that was forgotten would open again."""
        keys = KeyRing("k" * 43)
        with pytest.raises(ConfigurationError, match="forgets when it is full"):
            CookieStore(keys, revocations=MemcachedStore(Client("localhost")))
        with pytest.raises(ConfigurationError, match="forgets when it is full"):
            AsyncCookieStore(keys, revocations=AsyncMemcachedStore(Client("localhost")))


class TestSessions:
    """Seen from a site: what is forgotten is a logout, what is away is not."""

    def test_a_restart_is_a_logout_and_an_outage_is_not(self, server: Memcached) -> None:
        """The cookie that opened a session opens nothing after a restart, without an error."""
        with closing(MemcachedStore(Client(server.name), timeout=0.4)) as store:
            sessions = Sessions(store)
            session = sessions.open(None)
            session.login("user:42")
            cookie = sessions.commit(session)[0].partition(";")[0]
            assert "user:42" == sessions.open(cookie).subject
            server.freeze()
            with pytest.raises(StoreUnavailable):
                _ = sessions.open(cookie).subject
            server.thaw()
            assert "user:42" == sessions.open(cookie).subject
            server.kill()
            server.start()
            found = sessions.open(cookie)

            assert (None, "unknown") == (found.subject, found.refused)
