"""What is special to Redis: values and scripts, the index, faults, what a server is told of.

Servers are real. `open_store` gives a store whose verbs are called without await, whichever its
kind; what is past the store is looked at through the server's own socket.
"""

import asyncio
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from coatcheck import patience
from coatcheck.errors import Collision, ConfigurationError, StoreUnavailable
from coatcheck.record import NewerFormat, Record
from coatcheck.store import GONE, SAVED, Risk
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores._redis.commands import Commands
from coatcheck.stores._redis.routes import Routes
from coatcheck.stores._redis.value import HEADER, decode, encode
from coatcheck.stores.redis import AsyncRedisStore, RedisStore
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract import changed, ident, record
from tests.forks import c_fork
from tests.services import redis as services
from tests.services.process import PATIENCE, until
from tests.services.proxy import Proxy
from tests.stopwatch import Stopwatch
from tests.threads import no_threads

HOUR, MINUTE, DAY = 3_600_000, 60_000, 86_400_000
LONGEST = 1.5
"""Seconds that a call may take: connecting and the answer, by their defaults."""
SLACK = 0.7
"""Seconds that a busy machine may add."""

KINDS = ["sync", "async"]


class Open(Protocol):
    def __call__(self, source: Any, **options: Any) -> Any: ...


class Verbs:
    """A store's verbs; of an asynchronous one, each run to its end in one event loop."""

    def __init__(self, store: Any, runner: asyncio.Runner | None) -> None:
        self.store = store
        self.runner = runner

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self.store, verb)
        if self.runner is None or verb in ("advise", "patience"):
            return method
        run = self.runner.run
        # In the caller's context, where the limit of its request is.
        return lambda *arguments: run(method(*arguments), context=copy_context())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_store(kind: str) -> Iterator[Open]:
    """Stores of either kind, from a URL, or from a server's port with options."""
    opened: list[Verbs] = []
    runner = asyncio.Runner() if kind == "async" else None

    def make(source: Any, **options: Any) -> Any:
        if isinstance(source, str):
            store: Any = (async_from_url if runner else from_url)(source)
        else:
            library: Any = redis.asyncio if runner else redis
            maker: Any = AsyncRedisStore if runner else RedisStore
            store = maker(library.Redis(host=services.HOST, port=source), **options)
        opened.append(Verbs(store, runner))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
    if runner is not None:
        runner.close()


@pytest.fixture
def store(open_store: Open, tmp_path: Path) -> Any:
    return open_store(services.url(tmp_path))


@pytest.fixture
def key(tmp_path: Path) -> Callable[[str], bytes]:
    """The key of an id, or of an index."""
    return lambda name: (services.prefix(tmp_path) + name).encode()


def ask(*words: Any) -> Any:
    """Of the shared server, past the store."""
    return services.single().ask(*words)


def limited(folder: Path) -> str:
    """The shared server's URL, with the time limits that a store has by default."""
    prefix = services.prefix(folder)
    return f"redis://{services.HOST}:{services.single().port}/0?prefix={prefix}"


def score(key: bytes, id: str) -> float | None:
    answer = ask("ZSCORE", key, bytes.fromhex(id))
    return None if answer is None else float(answer)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    with Stopwatch() as watch:
        yield
    assert watch.seconds < seconds + SLACK


def refused(call: Callable[[], object], *, within_seconds: float = LONGEST) -> str:
    """The message of the outage that the call meets, in time."""
    with within(within_seconds), pytest.raises(StoreUnavailable) as caught:
        call()
    return str(caught.value)


# The value.

times = st.integers(1, 2**53 - 1)
records = st.builds(
    Record,
    id=st.just(ident(1)),
    revision=st.binary(min_size=12, max_size=12),
    subject=st.none() | st.text(min_size=1).filter(lambda text: len(text.encode()) <= 255),
    login_at=st.none() | times,
    seen_at=times,
    expires_at=times,
    payload=st.binary(max_size=64),
)


@given(records, times)
def test_what_is_decoded_is_what_was_encoded(given_record: Record, indexed_until: int) -> None:
    """Every field, whatever the index has."""
    assert given_record == decode(given_record.id, encode(given_record, indexed_until))


@given(records)
def test_a_header_alone_decodes(given_record: Record) -> None:
    """All but the payload survives a cut at its longest."""
    header = decode(given_record.id, encode(given_record)[:HEADER])

    assert header is not None
    assert (given_record.subject, given_record.expires_at) == (header.subject, header.expires_at)


@given(st.binary(max_size=80))
def test_what_is_no_record_is_absent(value: bytes) -> None:
    """Whatever the bytes: a record, nothing, or a newer format."""
    try:
        found = decode(ident(1), value)
    except NewerFormat:
        assert value[0] > 1
    else:
        assert found is None or value[0] == 1


def test_the_server_drops_a_record_at_its_end(store: Any, key: Callable[[str], bytes]) -> None:
    """Its time to live is what is left until `expires_at`, after each verb that writes."""
    first = record(expires_at=NOW + HOUR)
    left = []
    store.create(first, NOW)
    left.append(ask("PTTL", key(first.id)))
    second = changed(first, expires_at=NOW + 2 * HOUR)
    store.save(second, first.revision, NOW)
    left.append(ask("PTTL", key(first.id)))
    store.touch(first.id, second.revision, NOW, NOW + 3 * HOUR, NOW + HOUR)
    left.append(ask("PTTL", key(first.id)))

    assert all(
        expected - 2000 < got <= expected
        for expected, got in zip([HOUR, 2 * HOUR, 2 * HOUR], left, strict=True)
    )


def test_a_newer_format_is_an_outage_and_stays(store: Any, key: Callable[[str], bytes]) -> None:
    """Each verb leaves it alone, but for the one that ends it."""
    first = record()
    value = b"\x02" + encode(first)[1:]
    ask("SET", key(first.id), value)
    calls: list[Callable[[], object]] = [
        lambda: store.load(first.id, NOW),
        lambda: store.create(first, NOW),
        lambda: store.save(changed(first), first.revision, NOW),
        lambda: store.touch(first.id, first.revision, NOW, NOW + HOUR, NOW),
    ]
    for call in calls:
        with pytest.raises(NewerFormat):
            call()
    assert value == ask("GET", key(first.id))

    assert store.delete(first.id, NOW) is True
    assert store.load(first.id, NOW) is None


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"\x01short", b"\x00" * 60, b"\x01" + b"\xff" * 60]
)
def test_what_is_unreadable_is_absent(
    store: Any, key: Callable[[str], bytes], value: bytes
) -> None:
    """To each verb; a create replaces it."""
    first = record()
    ask("SET", key(first.id), value)

    assert store.load(first.id, NOW) is None
    assert store.touch(first.id, first.revision, NOW, NOW + HOUR, NOW) is False
    assert GONE is store.save(changed(first), first.revision, NOW)
    store.create(first, NOW)
    assert first == store.load(first.id, NOW)


def test_scripts_are_sent_again_where_the_server_forgot_them(store: Any) -> None:
    """As after a restart or a failover; each verb still does what it shall, once."""
    first = record(subject="user:1")
    ask("SCRIPT", "FLUSH")
    store.create(first, NOW)
    second = changed(first)
    ask("SCRIPT", "FLUSH")
    assert SAVED is store.save(second, first.revision, NOW)
    ask("SCRIPT", "FLUSH")
    assert store.touch(first.id, second.revision, NOW, NOW + 3 * HOUR, NOW) is True
    ask("SCRIPT", "FLUSH")

    assert store.delete(first.id, NOW) is True


# The index.


def test_the_index_comes_before_the_record(store: Any, key: Callable[[str], bytes]) -> None:
    """Where it cannot be written, no record has the subject, so no listing can miss one."""
    ask("SET", key("subject:user:1"), "no index")
    with pytest.raises(StoreUnavailable, match="prefix"):
        store.create(record(subject="user:1"), NOW)
    assert store.load(record().id, NOW) is None
    first = record()
    store.create(first, NOW)
    with pytest.raises(StoreUnavailable):
        store.save(changed(first, subject="user:1"), first.revision, NOW)

    assert first == store.load(first.id, NOW)


def test_the_index_outlives_its_records(store: Any, key: Callable[[str], bytes]) -> None:
    """Its own end is never before a record's, and each key has one."""
    index = key("subject:user:1")
    for number, lives in enumerate([3 * HOUR, HOUR]):
        store.create(record(ident(number), subject="user:1", expires_at=NOW + lives), NOW)
    shorter = changed(record(ident(0)), subject="user:1", expires_at=NOW + MINUTE)
    store.save(shorter, store.load(ident(0), NOW).revision, NOW)

    assert ask("PTTL", index) > 3 * HOUR
    assert all(ask("PTTL", key(ident(number))) > 0 for number in (0, 1))


def test_most_saves_and_touches_leave_the_index_alone(
    store: Any, key: Callable[[str], bytes]
) -> None:
    """It holds an id for longer than the record lives; beyond that it is written first."""
    first, index = record(subject="user:1"), key("subject:user:1")
    store.create(first, NOW)
    before = score(index, first.id)
    later = NOW + HOUR // 2
    second = changed(first, seen_at=later, expires_at=later + HOUR)
    store.save(second, first.revision, later)
    store.touch(first.id, second.revision, later + 1, later + 1 + HOUR, later + 1)
    assert before == score(index, first.id)
    end = NOW + HOUR * 3 // 2
    assert store.touch(first.id, second.revision, end - 1, end - 1 + HOUR, end - 1) is True

    after = score(index, first.id)
    assert before is not None
    assert after is not None
    assert after >= end - 1 + HOUR > before
    assert [first.id] == [found.id for found in store.by_subject("user:1", end)]


def test_a_save_beyond_the_index_writes_it_first(store: Any, key: Callable[[str], bytes]) -> None:
    """Also where the time is prolonged by more than the slack at once."""
    first = record(subject="user:1")
    store.create(first, NOW)
    second = changed(first, expires_at=NOW + 1000 * HOUR)
    assert SAVED is store.save(second, first.revision, NOW)

    assert (score(key("subject:user:1"), first.id) or 0) >= NOW + 1000 * HOUR
    assert [second] == store.by_subject("user:1", NOW + 999 * HOUR)


def test_a_reader_confirms_who_is_there(store: Any, key: Callable[[str], bytes]) -> None:
    """A pending id whose record was met is confirmed, its time being the same."""
    first, index = record(subject="user:1"), key("subject:user:1")
    store.create(first, NOW)
    pending = score(index, first.id) or 0.0
    assert not pending.is_integer()
    store.by_subject("user:1", NOW)

    assert pending - 0.5 == score(index, first.id)


def test_a_reader_removes_who_is_gone(store: Any, key: Callable[[str], bytes]) -> None:
    """Of a confirmed id without a record; a pending one may be a login on its way, so it stays."""
    index = key("subject:user:1")
    ask("ZADD", index, NOW + HOUR, bytes.fromhex(ident(1)))
    ask("ZADD", index, NOW + HOUR + 0.5, bytes.fromhex(ident(2)))
    assert [] == store.by_subject("user:1", NOW)

    assert [None, NOW + HOUR + 0.5] == [score(index, ident(number)) for number in (1, 2)]


def test_a_reader_removes_who_became_another(store: Any, key: Callable[[str], bytes]) -> None:
    """A record that another subject has now is no longer in the first one's index."""
    first, index = record(subject="user:1"), key("subject:user:1")
    store.create(first, NOW)
    store.by_subject("user:1", NOW)
    store.save(changed(first, subject="user:2"), first.revision, NOW)
    assert score(index, first.id) is not None
    store.by_subject("user:1", NOW)

    assert score(index, first.id) is None
    assert score(key("subject:user:2"), first.id) is not None


def test_a_reader_that_is_late_changes_nothing(key: Callable[[str], bytes], tmp_path: Path) -> None:
    """What was written since it looked, it neither removes nor confirms."""
    index, commands = key("subject:user:1"), Commands(services.prefix(tmp_path))
    for number in (1, 2):
        ask(*commands.index("user:1", ident(number), NOW + HOUR, NOW).raw(whole=True))
    seen = [(ident(1), float(NOW + HOUR), False), (ident(2), NOW + MINUTE + 0.5, True)]
    ask(*commands.settle("user:1", seen).raw(whole=True))

    assert [NOW + HOUR + 0.5] * 2 == [score(index, ident(number)) for number in (1, 2)]


def test_writing_the_index_again_makes_an_id_pending(
    store: Any, key: Callable[[str], bytes], tmp_path: Path
) -> None:
    """Until at least the later of both times; so a reader that saw it confirmed is late."""
    index, commands = key("subject:user:1"), Commands(services.prefix(tmp_path))
    ask("ZADD", index, NOW + HOUR, bytes.fromhex(ident(1)))
    ask(*commands.index("user:1", ident(1), NOW + MINUTE, NOW).raw(whole=True))

    assert NOW + HOUR + 1.5 == score(index, ident(1))


def test_a_reader_is_late_though_all_seems_as_it_was(
    store: Any, key: Callable[[str], bytes], tmp_path: Path
) -> None:
    """A session that was another's meanwhile is the subject's again, and confirmed again."""
    first, commands = record(subject="user:1"), Commands(services.prefix(tmp_path))
    store.create(first, NOW)
    store.by_subject("user:1", NOW)
    seen = score(key("subject:user:1"), first.id)
    assert seen is not None
    second = changed(first, subject="user:2")
    store.save(second, first.revision, NOW)
    third = changed(second, subject="user:1")
    store.save(third, second.revision, NOW)
    store.by_subject("user:1", NOW)
    ask(*commands.settle("user:1", [(first.id, seen, False)]).raw(whole=True))

    assert [third] == store.by_subject("user:1", NOW)


def test_a_reader_with_a_fast_clock_removes_nobody(store: Any, key: Callable[[str], bytes]) -> None:
    """What it takes for expired may live on by the clock of another machine."""
    first, index = record(subject="user:1"), key("subject:user:1")
    store.create(first, NOW)
    store.by_subject("user:1", NOW)
    assert [] == store.by_subject("user:1", NOW + HOUR)

    assert score(index, first.id) is not None


def test_what_lapsed_goes_at_the_next_write(store: Any, key: Callable[[str], bytes]) -> None:
    """A day late, for a clock that is ahead will be set right; the others stay."""
    index = key("subject:user:1")
    for number, end in enumerate([NOW - DAY, NOW - DAY + 1, NOW + HOUR]):
        ask("ZADD", index, end, bytes.fromhex(ident(number)))
    store.create(record(ident(3), subject="user:1"), NOW)

    assert [ident(1), ident(2), ident(3)] == [
        member.hex() for member in ask("ZRANGE", index, 0, -1)
    ]


def test_an_end_leaves_nothing(store: Any, tmp_path: Path) -> None:
    """Neither record nor index."""
    store.create(record(subject="user:1"), NOW)
    assert b"user:1" in services.dump(tmp_path)
    store.delete(record().id, NOW)

    assert b"" == services.dump(tmp_path)


def test_an_end_needs_no_index(store: Any, key: Callable[[str], bytes]) -> None:
    """A session ends though its index cannot be written."""
    store.create(record(subject="user:1"), NOW)
    ask("SET", key("subject:user:1"), "no index")

    assert store.delete(record().id, NOW) is True
    assert store.load(record().id, NOW) is None


def test_a_long_list_is_read_in_pieces(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own limit, and others come in between."""
    monkeypatch.setattr("coatcheck.stores._redis.index.PIECE", 3)
    options, at_once = services.url(tmp_path).partition("?")[2], []
    everybody = [ident(number) for number in range(10)]
    with Proxy(services.single().port) as proxy:
        store = open_store(f"redis://{services.HOST}:{proxy.port}?{options}")
        for each in everybody:
            store.create(record(each, subject="user:1"), NOW)
        proxy.on_request = lambda data: at_once.append(data.count(b"\r\nGET\r\n"))
        found = store.by_subject("user:1", NOW)

    assert everybody == sorted(each.id for each in found)
    assert [3, 3, 3, 1] == [count for count in at_once if count]


def test_pages_are_of_this_prefix_alone(open_store: Open, tmp_path: Path) -> None:
    """Though its letters have a meaning in patterns, and others' keys look alike."""
    mine = quote(services.prefix(tmp_path) + "a*[?]\\^-b:")
    others = services.prefix(tmp_path) + "aXXXXb:"
    base = services.url(tmp_path).partition("?")[0]
    store, other = open_store(f"{base}?prefix={mine}"), open_store(f"{base}?prefix={others}")
    store.create(record(ident(1), subject="x" * 24), NOW)
    other.create(record(ident(2)), NOW)

    assert [ident(1)] == [each.id for each in store.page("", 10, NOW)]


def test_pages_go_on_behind_what_expired(store: Any) -> None:
    """A page that would hold none alive is not the end of the walk."""
    for number in range(5):
        store.create(record(ident(number), expires_at=NOW + MINUTE + (number == 4)), NOW)

    assert [ident(4)] == [each.id for each in store.page("", 2, NOW + MINUTE)]


def test_threads_may_meet_a_failing_cluster_at_once(switching: None) -> None:
    """Nodes fail in one while another chooses whom to ask."""
    nodes = [(f"host{number}", 1) for number in range(8)]
    routes = Routes(nodes, cluster=True)
    over = threading.Event()

    def fail() -> None:
        while not over.is_set():
            for node in nodes:
                routes.failed(node)
            routes._failed.clear()

    failing = threading.Thread(target=fail)
    failing.start()
    try:
        candidates = [routes._candidates() for _ in range(20_000)]
    finally:
        over.set()
        failing.join()

    assert all(sorted(nodes) == sorted(each) for each in candidates)


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# Time limits and faults.


@pytest.fixture
def own() -> Iterator[services.Redis]:
    """A server that the test may break."""
    with services.Redis() as server:
        yield server


def test_a_frozen_server_is_an_outage_in_time(own: services.Redis, open_store: Open) -> None:
    """A call ends after its time, and the next one works when the server does."""
    store = open_store(own.port)
    store.create(record(), NOW)
    own.service.freeze()
    try:
        for within_seconds in (0.5, LONGEST):
            message = refused(lambda: store.load(record().id, NOW), within_seconds=within_seconds)
            assert "time" in message
    finally:
        own.service.thaw()

    assert store.load(record().id, NOW) is not None


def test_a_restarted_server_is_used_at_once(own: services.Redis, open_store: Open) -> None:
    """Connections that it left are noticed before they are used."""
    store = open_store(own.port)
    store.create(record(), NOW)
    own.service.kill()
    refused(lambda: store.load(record().id, NOW))
    own.service.start()
    store.create(record(), NOW)
    own.service.kill()
    own.service.start()

    store.create(record(), NOW)


def test_nobody_there_is_an_outage(own: services.Redis, open_store: Open) -> None:
    """Refused at once, with what to look at; and it works when the server comes."""
    own.stop()
    store = open_store(own.port)
    assert "look at the server" in refused(lambda: store.load(record().id, NOW))
    own.service.start()

    assert store.load(record().id, NOW) is None


@pytest.mark.parametrize(
    "fault",
    [
        {"dribble": True, "delay": 0.2},
        {"delay": 3.0},
        {"silent": True},
        {"cut_after": 3},
        {"reset_after": 3},
        {"refuse": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("connected", [True, False])
def test_a_broken_network_is_an_outage_in_time(
    open_store: Open, tmp_path: Path, fault: dict[str, Any], connected: bool
) -> None:
    """Whatever happens to the bytes, also while it connects; and then it works again."""
    options = limited(tmp_path).partition("?")[2]
    with Proxy(services.single().port) as proxy:
        store = open_store(f"redis://{services.HOST}:{proxy.port}/0?{options}&protocol=3")
        if connected:
            store.create(record(), NOW)
        else:
            open_store(services.url(tmp_path)).create(record(), NOW)
        for name, value in fault.items():
            setattr(proxy, name, value)
        if "refuse" in fault:
            proxy.cut_all()
        refused(lambda: store.load(record().id, NOW))
        proxy.heal()

        assert record().id == store.load(record().id, NOW).id


def found_at(places: Callable[[], list[Any]]) -> Any:
    """A resolver that knows only `some.example`."""
    resolve = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in ("some.example", b"some.example"):
            return resolve(host, *arguments, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return places()

    return look_up


@pytest.mark.parametrize("base", ["redis://{}", "redis+sentinel://{}/name", "redis+cluster://{}"])
def test_a_name_that_is_looked_up_for_long_is_an_outage_in_time(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    """The system's own limit may be half a minute."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", found_at(lambda: [][over.wait() :]))
    store = open_store(base.format("some.example"))
    try:
        refused(lambda: store.load(record().id, NOW))
    finally:
        over.set()


def test_an_address_that_swallows_everything_leaves_time_for_the_next(
    own: services.Redis, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host has several, and the first is down."""
    with full_port() as port:
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        places = [(*stream, (services.HOST, each)) for each in (port, own.port)]
        monkeypatch.setattr(socket, "getaddrinfo", found_at(lambda: places))

        assert open_store("redis://some.example").load(record().id, NOW) is None


@contextmanager
def full_port() -> Iterator[int]:
    """A port at which nothing is taken and nothing refused."""
    with socket.socket() as listener, ExitStack() as others:
        listener.bind((services.HOST, 0))
        listener.listen(0)
        for _ in range(4):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_name_that_no_thread_looks_up_is_an_outage(open_store: Open) -> None:
    """Until there is a thread again."""
    store = open_store(f"redis://localhost:{services.single().port}/0")
    with no_threads(), pytest.raises(StoreUnavailable, match="thread"):
        store.load(record().id, NOW)

    assert store.load(record().id, NOW) is None


def test_a_name_that_no_host_can_have_is_an_outage(open_store: Open) -> None:
    """Python refuses to look it up."""
    refused(lambda: open_store("redis://a..b").load(record().id, NOW))


@pytest.fixture
def proxy(own: services.Redis) -> Iterator[Proxy]:
    with Proxy(own.port) as standing_between:
        yield standing_between


def leave_idle(store: Any, count: int) -> None:
    """Have the store make so many connections, and rest them."""
    line = store.store._line
    node, sleep = line._routes.node_of(b""), (b"EVAL", _BUSY, 0)

    async def together() -> None:
        await asyncio.gather(*[line.ask_node(node, sleep) for _ in range(count)])

    if store.runner is not None:
        store.runner.run(together())
        return
    threads = [threading.Thread(target=line.ask_node, args=(node, sleep)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


_BUSY = b"for i = 1, 1000000 do end"
"""A script that takes long enough for another connection to be made meanwhile."""


def test_one_call_that_fails_speaks_for_all_that_rest(
    own: services.Redis, proxy: Proxy, open_store: Open
) -> None:
    """What the network forgot is one outage, however many connections there were."""
    store = open_store(proxy.port)
    leave_idle(store, 4)
    assert proxy.open_connections > 2
    proxy.silent, proxy.refuse = True, True
    other = Proxy(own.port)
    other.port = proxy.port
    with other:
        refused(lambda: store.load(record().id, NOW), within_seconds=0.5)

        assert store.load(record().id, NOW) is None


def test_a_connection_that_was_reset_while_it_rested_is_noticed(
    proxy: Proxy, open_store: Open
) -> None:
    """As load balancers do when they find it idle."""
    store = open_store(proxy.port)
    leave_idle(store, 4)
    proxy.cut_all()

    assert store.load(record().id, NOW) is None


def test_a_connection_that_rested_for_long_is_not_used(
    proxy: Proxy, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall may have forgotten it without a word."""
    store = open_store(proxy.port)
    store.load(record().id, NOW)
    store.load(record().id, NOW)
    assert 1 == proxy.connections
    monkeypatch.setattr("coatcheck.stores._redis.pool.TRUSTED", 0.0)
    store.load(record().id, NOW)

    assert 2 == proxy.connections


def test_a_server_that_became_a_replica_is_left(
    own: services.Redis, proxy: Proxy, open_store: Open
) -> None:
    """Where its name leads to another now: with the refusal all its connections go."""
    with services.Redis() as other:
        store = open_store(proxy.port)
        leave_idle(store, 4)
        own.ask("REPLICAOF", services.HOST, other.port)
        proxy.server_port = other.port
        assert "replica" in refused(lambda: store.create(record(), NOW))
        store.create(record(), NOW)

        assert other.ask("EXISTS", f"coatcheck:{record().id}") == 1


def test_a_request_gets_no_more_than_it_has_left(own: services.Redis, open_store: Open) -> None:
    """The limit of a whole request counts where it is shorter."""
    store = open_store(own.port, timeout=5.0)
    store.load(record().id, NOW)
    own.service.freeze()
    try:
        with patience.limit(0.2):
            refused(lambda: store.load(record().id, NOW), within_seconds=0.2)
            refused(lambda: store.delete(record().id, NOW), within_seconds=0.0)
    finally:
        own.service.thaw()


def test_a_thread_waits_for_a_connection_no_longer_than_its_time(own: services.Redis) -> None:
    """Where all are in use, it is told what to raise."""
    store = RedisStore(redis.Redis(port=own.port), pool_size=1, timeout=PATIENCE)
    store.load(record().id, NOW)
    own.service.freeze()
    other = threading.Thread(target=store.load, args=(record().id, NOW))
    try:
        other.start()
        until(lambda: not store._line._slots._value, "a call of the other thread")
        with patience.limit(0.2):
            message = refused(lambda: store.load(record().id, NOW), within_seconds=0.2)
    finally:
        own.service.thaw()
        other.join()
        store.close()

    assert "pool_size" in message


def test_threads_share_a_store(tmp_path: Path) -> None:
    """Each gets its own answers."""
    store: Any = from_url(services.url(tmp_path))
    wrong: list[int] = []

    def use(number: int) -> None:
        mine = record(ident(number), payload=b"%d" % number)
        store.create(mine, NOW)
        wrong.extend(number for _ in range(50) if store.load(mine.id, NOW) != mine)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()

    assert [] == wrong


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("divide", [os.fork, c_fork])
@pytest.mark.parametrize("secured", [False, True])
def test_a_fork_has_connections_of_its_own(
    tmp_path: Path, secured: bool, divide: Callable[[], int]
) -> None:
    """The child uses the store and closes it, and the parent's connection is as it was."""
    url = services.secured_url(tmp_path) if secured else services.url(tmp_path)
    store: Any = from_url(url)
    mine, other = record(payload=b"parent"), record(ident(2), payload=b"child")
    store.create(mine, NOW)
    before = _connection(store)
    reading, writing = os.pipe()
    child = divide()
    if not child:
        try:
            store.create(other, NOW)
            said = json.dumps([store.load(other.id, NOW) == other, _connection(store)])
            store.close()
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        same, connection = json.loads(pipe.read())
    os.waitpid(child, 0)

    assert same is True
    assert before != connection
    assert before == _connection(store)
    assert mine == store.load(mine.id, NOW)
    store.close()


def _connection(store: Any) -> int:
    """The server's number of the connection that a store uses next."""
    line = store._line
    return int(line.ask_node(line.masters()[0], (b"CLIENT", b"ID")))


def test_two_event_loops_use_a_store_at_once(tmp_path: Path) -> None:
    """In two threads, each with connections of its own."""
    store: Any = async_from_url(services.url(tmp_path))
    wrong: list[int] = []

    async def use(number: int) -> None:
        mine = record(ident(number), payload=b"%d" % number)
        await store.create(mine, NOW)
        wrong.extend([number for _ in range(50) if await store.load(mine.id, NOW) != mine])

    threads = [threading.Thread(target=lambda n=n: asyncio.run(use(n))) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong


@pytest.mark.parametrize("secured", [False, True])
def test_a_loop_that_is_not_of_asyncio_uses_a_store(tmp_path: Path, secured: bool) -> None:
    """uvloop, which uvicorn chooses where it is installed, knows fewer options."""
    url = services.secured_url(tmp_path) if secured else services.url(tmp_path)
    store: Any = async_from_url(url)
    mine = record()

    async def use() -> Record | None:
        await store.create(mine, NOW)
        found: Record | None = await store.load(mine.id, NOW)
        await store.close()
        return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(use())

    assert mine == found


@pytest.mark.parametrize("secured", [False, True])
def test_a_loop_that_was_just_closed_leaves_nothing_open(tmp_path: Path, secured: bool) -> None:
    """No warning of it, and the next loop has the store."""
    url = services.secured_url(tmp_path) if secured else services.url(tmp_path)
    store: Any = async_from_url(url)
    for _ in range(2):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(store.load(record().id, NOW))
        loop.close()
    asyncio.run(store.close())

    assert {} == store._line._homes


def test_a_store_may_be_closed_while_it_is_used(tmp_path: Path) -> None:
    """What is under way is answered, and its connection closed then."""
    store: Any = async_from_url(services.url(tmp_path))

    async def scenario() -> None:
        await store.create(record(), NOW)
        loading = asyncio.ensure_future(store.load(record().id, NOW))
        for _ in range(3):
            await asyncio.sleep(0)
        await store.close()
        assert await loading is not None

    asyncio.run(scenario())
    asyncio.run(store.close())


def test_a_cancelled_end_is_whole(tmp_path: Path) -> None:
    """Its connection is not used again, for an answer is on its way there."""
    store: Any = async_from_url(services.url(tmp_path) + "&replicas=1")

    async def scenario() -> None:
        await store.create(record(), NOW)
        task = asyncio.create_task(store.delete(record().id, NOW))
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await store.load(ident(9), NOW) is None
        await store.close()

    asyncio.run(scenario())


# What servers refuse.


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], "maxmemory"),
        (["REPLICAOF", services.HOST, "1"], "replica"),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], "min-replicas-to-write"),
        (["CONFIG", "SET", "requirepass", "secret"], "password"),
        (["ACL", "SETUSER", "default", "-@all", "+get", "+ping", "+hello"], "let its user"),
    ],
    ids=["oom", "readonly", "noreplicas", "noauth", "noperm"],
)
def test_a_refusal_is_an_outage_with_a_remedy(
    own: services.Redis, open_store: Open, setting: list[str], word: str
) -> None:
    """Named in the message; nothing is written."""
    own.ask(*setting)
    store = open_store(own.port)

    assert word in refused(lambda: store.create(record(), NOW))


def test_a_busy_server_is_an_outage_with_a_remedy(own: services.Redis, open_store: Open) -> None:
    """Somebody's script that does not end; when it is killed the store works."""
    own.ask("CONFIG", "SET", "busy-reply-threshold", 10)
    store = open_store(own.port)
    store.load(record().id, NOW)
    with own.client() as client:
        connection: Any = client.connection_pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        until(lambda: "SCRIPT KILL" in _message(lambda: store.load(record().id, NOW)), "BUSY")
        own_kill = own.client()
        own_kill.script_kill()
        own_kill.close()
        connection.disconnect()
    until(lambda: _message(lambda: store.load(record().id, NOW)) == "None", "an end of BUSY")


def _message(call: Callable[[], object]) -> str:
    try:
        return str(call())
    except StoreUnavailable as error:
        return str(error)


def test_a_wrong_password_is_an_outage_without_the_password(
    open_store: Open, tmp_path: Path
) -> None:
    """It may be mended on the server; nothing shows it."""
    url = services.secured_url(tmp_path)
    login, at, rest = url.rpartition("@")
    store = open_store(f"{login}wrong-secret{at}{rest}")
    message = refused(lambda: store.load(record().id, NOW))

    assert "check the user and the password" in message
    assert "secret" not in message + repr(store.store.__dict__)


@pytest.mark.parametrize(("renamed", "protocol"), [("HELLO", 3), ("AUTH", 2)])
def test_a_server_that_quotes_what_it_does_not_know_shows_no_password(
    open_store: Open, renamed: str, protocol: int
) -> None:
    """One that is too old for HELLO, say: neither in the message nor in what a log has of it."""
    with services.Redis(f'rename-command {renamed} ""') as server:
        login = f"default:5ecret@{services.HOST}:{server.port}"
        store = open_store(f"redis://{login}?protocol={protocol}")
        with pytest.raises(StoreUnavailable, match="unknown command") as caught:
            store.create(record(), NOW)

    assert "5ecret" not in "".join(traceback.format_exception(caught.value))


# Ends that last.


def test_an_end_that_no_replica_confirms_is_an_outage(
    store: Any, open_store: Open, tmp_path: Path
) -> None:
    """It is made all the same, and asking again does not make it safer."""
    safe = open_store(f"{limited(tmp_path)}&replicas=1")
    store.create(record(), NOW)
    for _ in range(2):
        message = refused(lambda: safe.delete(record().id, NOW))
        assert "expected 1 replicas to confirm" in message

    assert store.load(record().id, NOW) is None


def test_a_login_that_no_replica_confirms_is_an_outage(open_store: Open, tmp_path: Path) -> None:
    """As a new session; what has no subject, and a save, wait for nobody."""
    store = open_store(f"{limited(tmp_path)}&replicas=1")
    refused(lambda: store.create(record(ident(2), subject="user:1"), NOW))
    first = record()
    store.create(first, NOW)

    assert SAVED is store.save(changed(first, subject="user:1"), first.revision, NOW)


def test_an_end_waits_for_the_replica(own: services.Redis, open_store: Open) -> None:
    """One that is frozen confirms nothing; when it goes on, it does, of earlier ends too."""
    with services.Redis(f"replicaof {services.HOST} {own.port}") as replica:
        until(lambda: replica.ask("ROLE")[3] == b"connected", "a replica's link")
        store = open_store(own.port, replicas=1)
        store.create(record(subject="user:1"), NOW)
        assert replica.ask("EXISTS", f"coatcheck:{record().id}") == 1
        replica.service.freeze()
        refused(lambda: store.delete(record().id, NOW))
        refused(lambda: store.delete(record().id, NOW))
        replica.service.thaw()
        until(lambda: _message(lambda: store.delete(record().id, NOW)) == "False", "an answer")

        assert replica.ask("EXISTS", f"coatcheck:{record().id}") == 0


def test_a_full_server_removes_what_is_absent(own: services.Redis, open_store: Open) -> None:
    """Without replicas there is nothing to write for it."""
    own.ask("CONFIG", "SET", "maxmemory", "1")

    assert open_store(own.port).delete(record().id, NOW) is False


def test_ends_that_wait_for_replicas_hold_up_no_thread(own: services.Redis) -> None:
    """They leave half of the connections to the others."""
    store = RedisStore(redis.Redis(port=own.port), pool_size=2, replicas=1)
    store.load(record().id, NOW)
    ends = [
        threading.Thread(target=_message, args=(partial(store.delete, ident(n), NOW),))
        for n in range(6)
    ]
    for end in ends:
        end.start()
    until(lambda: own.ask("INFO", "clients")["blocked_clients"] > 0, "an end that waits")
    store.load(record().id, NOW)
    waiting = sum(end.is_alive() for end in ends)
    for end in ends:
        end.join()
    store.close()

    assert 6 == waiting


def test_ends_that_wait_for_replicas_hold_up_no_task(own: services.Redis) -> None:
    """They leave half of the connections to the others."""
    options = f"pool_size=2&replicas=1&timeout={PATIENCE}"
    store: Any = async_from_url(f"redis://{services.HOST}:{own.port}?{options}")

    async def scenario() -> None:
        await store.load(record().id, NOW)
        ends = [asyncio.ensure_future(store.delete(ident(number), NOW)) for number in range(6)]
        while own.ask("INFO", "clients")["blocked_clients"] == 0:
            await asyncio.sleep(0)
        with within(0.0):
            await store.load(record().id, NOW)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        await store.close()

    asyncio.run(scenario())


# Risks.


def risks_of(store: Any, calls: int = 3) -> list[str]:
    told: list[Risk] = []
    store.advise(told.append)
    for number in range(calls):
        store.load(ident(number), NOW)
    return [risk.setting for risk in told]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"appendonly": "yes"}, []),
        ({"appendonly": "no"}, ["appendonly no"]),
        ({"appendonly": "yes", "appendfsync": "no"}, ["appendfsync no"]),
        (
            {"appendonly": "yes", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            ["maxmemory-policy allkeys-lru"],
        ),
        (
            {"appendonly": "yes", "maxmemory": "100mb", "maxmemory-policy": "volatile-ttl"},
            ["maxmemory-policy volatile-ttl"],
        ),
        ({"appendonly": "yes", "maxmemory-policy": "volatile-ttl"}, []),
    ],
)
def test_risks_are_told_once(
    open_store: Open, settings: dict[str, str], expected: list[str]
) -> None:
    """Those of the server's settings, at the first use, by either protocol."""
    with services.Redis(**settings) as server:
        for protocol in (2, 3):
            store = open_store(f"redis://{services.HOST}:{server.port}?protocol={protocol}")
            assert expected == risks_of(store)
            assert expected == risks_of(store)


def test_replicas_that_nobody_waits_for_are_a_risk(own: services.Redis, open_store: Open) -> None:
    """Told, unless the store waits for them."""
    own.ask("CONFIG", "SET", "appendonly", "yes")
    with services.Redis(f"replicaof {services.HOST} {own.port}"):
        until(lambda: len(own.ask("ROLE")[2]) == 1, "a replica's link")

        assert ["replicas=0"] == risks_of(open_store(own.port))
        assert [] == risks_of(open_store(own.port, replicas=1))


def test_a_server_that_is_not_to_be_asked_has_no_risks(
    own: services.Redis, open_store: Open
) -> None:
    """And the first request does not fail of it."""
    own.ask("ACL", "SETUSER", "default", "-config", "-info")

    assert [] == risks_of(open_store(own.port))


def test_a_look_that_failed_is_repeated(proxy: Proxy, open_store: Open) -> None:
    """The call that it came with is answered all the same."""
    store = open_store(proxy.port)
    proxy.on_request = lambda data: setattr(proxy, "silent", b"CONFIG" in data)
    assert [] == risks_of(store, calls=1)
    proxy.heal()

    assert ["appendonly no"] == risks_of(store)


def test_looks_that_always_fail_end(proxy: Proxy, open_store: Open) -> None:
    """Else each call would be so much slower."""
    store, asked = open_store(proxy.port), []

    def swallow(data: bytes) -> None:
        proxy.silent = b"CONFIG" in data
        asked.extend([data] * proxy.silent)

    proxy.on_request = swallow
    for _ in range(6):
        store.load(record().id, NOW)
        proxy.silent = False

    assert 3 == len(asked)


def test_a_new_master_is_looked_at() -> None:
    """Its settings are its own."""
    with services.Sentinels(appendonly="yes") as watched:
        hosts = ",".join(f"{services.HOST}:{port}" for port in watched.sentinel_ports)
        store: Any = from_url(f"redis+sentinel://{hosts}/{watched.service_name}")
        assert [] == risks_of(store)
        watched.failover().ask("CONFIG", "SET", "appendonly", "no")
        until(lambda: risks_of(store), "a risk of the new master")
        store.close()


# Ways there.


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("way", ["url", "secured_url", "sentinel_url", "cluster_url"])
def test_every_way_leads_there(open_store: Open, tmp_path: Path, way: str, protocol: int) -> None:
    """All verbs, by either protocol: TLS with a user, Sentinels, a Cluster."""
    store = open_store(getattr(services, way)(tmp_path) + f"&protocol={protocol}")
    made = [record(ident(number), subject="user:1") for number in range(20)]
    for each in made:
        store.create(each, NOW)
    later = changed(made[0], expires_at=NOW + 10 * HOUR)

    assert SAVED is store.save(later, made[0].revision, NOW)
    assert store.touch(ident(1), made[1].revision, NOW, NOW + 10 * HOUR, NOW) is True
    assert {each.id for each in made} == {each.id for each in store.by_subject("user:1", NOW)}
    assert [each.id for each in made[:7]] == [each.id for each in store.page("", 7, NOW)]
    assert all(store.delete(each.id, NOW) for each in made)
    assert [] == store.by_subject("user:1", NOW)
    store.create(made[0], NOW)
    with pytest.raises(Collision):
        store.create(made[0], NOW)


def test_a_socket_leads_there(open_store: Open, tmp_path: Path) -> None:
    """By its path, with a database and an empty password."""
    server, own_prefix = services.single(), services.prefix(tmp_path)
    store = open_store(f"unix://{server.unix_socket}?db=1&prefix={own_prefix}")
    store.create(record(), NOW)
    other = open_store(f"redis://:@{services.HOST}:{server.port}/1?prefix={own_prefix}")

    assert other.load(record().id, NOW) is not None
    assert open_store(services.url(tmp_path)).load(record().id, NOW) is None
    other.delete(record().id, NOW)


def test_a_server_that_tls_does_not_trust_is_an_outage(open_store: Open, tmp_path: Path) -> None:
    """Unless it is told to trust anyone."""
    url = services.secured_url(tmp_path)
    base, _, options = url.partition("?")
    unknown = "&".join(each for each in options.split("&") if "ca_certs" not in each)
    refused(lambda: open_store(f"{base}?{unknown}").load(record().id, NOW))

    anyone = "&ssl_cert_reqs=none&ssl_check_hostname=no"
    assert open_store(f"{base}?{unknown}{anyone}").load(record().id, NOW) is None


def test_a_url_of_a_single_server_for_a_cluster_says_so(open_store: Open) -> None:
    """Of the first key that lives elsewhere."""
    store = open_store(services.cluster().ports[0])
    messages = {_message(lambda n=n: store.load(ident(n), NOW)) for n in range(20)}  # type: ignore[misc]

    assert any("redis+cluster://" in message for message in messages)


def test_a_name_that_no_sentinel_knows_is_an_outage(open_store: Open, tmp_path: Path) -> None:
    """Named in the message."""
    url = services.sentinel_url(tmp_path).replace("/coatcheck/", "/unheard-of/")

    assert "unheard-of" in refused(lambda: open_store(url).load(record().id, NOW))


BAD_URLS = [
    "redis://one,two/0",
    "redis://host/first",
    "redis://host/0?decode_responses=yes",
    "redis://host/0?retry_on_timeout=yes",
    "redis://host/0?pool_size=0",
    "redis://host/0?replicas=many",
    "redis://host/0?protocol=4",
    "redis://host/0?protocol=1",
    "redis://host/0?protocol=0",
    "redis://host/0?ssl_ca_certs=x",
    "rediss://host/0?ssl_cert_reqs=maybe",
    "redis+sentinel://host",
    "redis+sentinel://host/name/first",
    "redis+cluster://host/1",
    "unix://host/path",
    "unix:///",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_cannot_be_is_refused(open_store: Open, url: str) -> None:
    """Before anything is opened, without its secrets."""
    scheme, _, rest = url.partition("://")
    with pytest.raises(ConfigurationError) as caught:
        open_store(f"{scheme}://user:secret@{rest}" if "///" not in url else url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"connect_timeout": "1"},
        {"pool_size": 0},
        {"replicas": -1},
        {"replicas": True},
        {"prefix": b"bytes"},
        {"prefix": "\ud800"},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(open_store: Open, options: dict[str, Any]) -> None:
    """By its name."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        open_store(1, **options)


def test_a_host_that_is_no_sentinel_is_passed_over(open_store: Open, tmp_path: Path) -> None:
    """It answers with an error; the next one is asked."""
    url = services.sentinel_url(tmp_path).replace("://", f"://{services.HOST}:{{}},")

    assert open_store(url.format(services.single().port)).load(record().id, NOW) is None


@pytest.mark.parametrize("with_hiredis", [True, False])
def test_commands_are_packed_with_hiredis_and_without(
    store: Any, monkeypatch: pytest.MonkeyPatch, with_hiredis: bool
) -> None:
    """Bytes, texts and numbers, short and long."""
    if not with_hiredis:
        monkeypatch.setattr("coatcheck.stores._redis.common.pack_command", None)
    first = record(subject="user:é", payload=bytes(range(256)) * 400)
    store.create(first, NOW)

    assert [first] == store.by_subject("user:é", NOW)


# Ready clients.


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Synchronous clients of each kind, of somebody who likes retries and text."""
    port = services.single().port
    tastes: Any = {"decode_responses": True, "retry": _RETRY}
    watchers = [(services.HOST, port) for port in services.sentinels().sentinel_ports]
    sentinel: Any = _Sentinel(watchers, **tastes)
    made: dict[str, Any] = {
        "single": redis.Redis(port=port, **tastes),
        "sentinel": sentinel.master_for(services.Sentinels.service_name),
        "cluster": redis.RedisCluster(
            host=services.HOST, port=services.cluster().ports[0], **tastes
        ),
    }
    yield made
    for client in made.values():
        client.close()
    for client in sentinel.sentinels:
        client.close()


_Sentinel: Any = Sentinel
_RETRY = Retry(NoBackoff(), 5)


@pytest.mark.parametrize("which", ["single", "sentinel", "cluster"])
def test_a_client_lends_its_settings_alone(
    clients: dict[str, Any], tmp_path: Path, which: str
) -> None:
    """Its retries and its decoding are no concern of the store's, which leaves it open."""
    client = clients[which]
    store = RedisStore(client, prefix=services.prefix(tmp_path))
    first = record(subject="user:1")
    store.create(first, NOW)
    assert [first] == store.by_subject("user:1", NOW)
    assert store.delete(first.id, NOW) is True
    store.close()

    assert client.ping() is True


def test_an_asynchronous_client_lends_its_settings_alone(tmp_path: Path) -> None:
    """Those of Sentinels and of Clusters too; none of them ever connects itself."""
    sentinel: Any = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        [(services.HOST, port) for port in services.sentinels().sentinel_ports]
    )
    clients: list[Any] = [
        redis.asyncio.Redis(port=services.single().port, decode_responses=True),
        sentinel.master_for(services.Sentinels.service_name),
        redis.asyncio.RedisCluster(host=services.HOST, port=services.cluster().ports[1]),
    ]

    async def scenario(client: Any) -> list[Record]:
        store = AsyncRedisStore(client, prefix=services.prefix(tmp_path))
        await store.create(first, NOW)
        found = await store.by_subject("user:1", NOW)
        await store.delete(first.id, NOW)
        await store.close()
        return found

    first = record(subject="user:1")
    assert [[first]] * 3 == [asyncio.run(scenario(client)) for client in clients]


def test_a_client_of_the_other_kind_is_refused() -> None:
    """And what is no client at all; the message says which it wants."""
    with pytest.raises(ConfigurationError, match=r"redis\.asyncio\.Redis"):
        AsyncRedisStore(redis.Redis())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"a redis\.Redis"):
        RedisStore(redis.asyncio.Redis())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="got a str"):
        RedisStore("redis://user:secret@host")  # type: ignore[arg-type]


def test_a_client_that_changes_addresses_is_refused() -> None:
    """The store goes to those that the Cluster names."""
    client = redis.asyncio.RedisCluster(host="somewhere", address_remap=lambda address: address)

    with pytest.raises(ConfigurationError, match="address_remap"):
        AsyncRedisStore(client)


def test_a_client_of_the_replicas_is_refused() -> None:
    """They lag behind, so that an ended session would still be met there."""
    with pytest.raises(ConfigurationError, match="master_for"):
        RedisStore(_Sentinel([(services.HOST, 1)]).slave_for("name"))


def test_a_store_that_was_closed_opens_again(store: Any) -> None:
    """On its next use."""
    store.create(record(), NOW)
    store.close()

    assert store.load(record().id, NOW) is not None
