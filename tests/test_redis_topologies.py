"""Sentinels and Clusters that fail over, lose nodes and move slots while sessions are in use.

Each test has servers of its own. Threads or tasks go on saving while it happens. Then whatever was
acknowledged is there, as far as the servers kept it; no session comes back whose end was confirmed;
no call took longer than it may; and the first request after all is well again works.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from coatcheck.errors import StoreUnavailable
from coatcheck.record import Record
from coatcheck.store import GONE, SAVED
from coatcheck.stores import async_from_url, from_url
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract import changed, ident, record
from tests.services.process import until
from tests.services.redis import HOST, Cluster, Redis, Sentinels
from tests.stopwatch import Stopwatch

LONGEST = 1.5
SLACK = 1.0
"""Seconds that a busy machine may add."""

_PAUSE = 0.02  # seconds after a refusal: those who are to heal need the processor, too

HOUR = 3_600_000
SESSIONS = 8

KINDS = ["sync", "async"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Load:
    """Sessions that are saved again and again, and others that are ended, by one store."""

    def __init__(self, url: str, kind: str) -> None:
        self.kind = kind
        self.store: Any = (async_from_url if kind == "async" else from_url)(url)
        self.saved: dict[str, Record] = {}
        """What was acknowledged last, of each session."""
        self.asked: dict[str, list[Record]] = {}
        """What was asked for after that, and may have been written."""
        self.ended: list[str] = []
        self.acknowledged = 0
        self.refused = 0
        self.longest = 0.0
        self._next = SESSIONS
        self._stopping = threading.Event()
        self._runner = asyncio.Runner() if kind == "async" else None

    def call(self, verb: str, *arguments: Any) -> Any:
        """One verb, in this thread."""
        method = getattr(self.store, verb)
        if self._runner is None:
            return method(*arguments)
        return self._runner.run(method(*arguments))

    def begin(self) -> None:
        for number in range(SESSIONS):
            first = record(ident(number), subject="user:1")
            self.call("create", first, NOW)
            self.saved[first.id] = first
            self.asked[first.id] = []

    def close(self) -> None:
        self.call("close")
        if self._runner is not None:
            self._runner.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Under load inside; each session is one thread's, or one task's."""
        threads = (
            [threading.Thread(target=asyncio.run, args=(self._tasks(),))]
            if self.kind == "async"
            else [threading.Thread(target=self._thread, args=(n,)) for n in range(SESSIONS)]
        )
        with Stopwatch() as self._watch:
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._stopping.set()
                for thread in threads:
                    thread.join()

    def goes_on(self) -> None:
        """Wait until the load meets no outage any more."""
        before = self.acknowledged
        until(lambda: self.acknowledged > before + 4 * SESSIONS, "saves that go through")

    def _thread(self, number: int) -> None:
        walk = self._walk(number)
        answer: Any = None
        while not self._stopping.is_set():
            verb, *arguments = walk.send(answer)
            started = self._watch.seconds
            try:
                answer = getattr(self.store, verb)(*arguments)
            except StoreUnavailable as error:
                answer = error
            self._count(self._watch.seconds - started, answer)
            if isinstance(answer, StoreUnavailable):
                self._stopping.wait(_PAUSE)

    async def _task(self, number: int) -> None:
        walk = self._walk(number)
        answer: Any = None
        while not self._stopping.is_set():
            verb, *arguments = walk.send(answer)
            started = self._watch.seconds
            try:
                answer = await getattr(self.store, verb)(*arguments)
            except StoreUnavailable as error:
                answer = error
            self._count(self._watch.seconds - started, answer)
            if isinstance(answer, StoreUnavailable):
                await asyncio.sleep(_PAUSE)

    async def _tasks(self) -> None:
        await asyncio.gather(*map(self._task, range(SESSIONS)))

    def _count(self, seconds: float, answer: Any) -> None:
        self.longest = max(self.longest, seconds)
        if isinstance(answer, StoreUnavailable):
            self.refused += 1
        else:
            self.acknowledged += 1

    def _walk(self, number: int) -> Any:
        """What a session's requests ask: saves, and now and then another session's whole life."""
        mine = ident(number)
        rounds = 0
        while True:
            rounds += 1
            new = changed(self.saved[mine], payload=b"%d" % rounds)
            self.asked[mine].append(new)
            answer = yield ("save", new, self.saved[mine].revision, NOW)
            if answer is SAVED:
                self.saved[mine], self.asked[mine] = new, []
            elif isinstance(answer, Record):  # what was saved before with its answer lost
                self.saved[mine] = answer
            if rounds % 2 == 0:
                yield from self._whole_life()

    def _whole_life(self) -> Any:
        self._next += 1
        other = ident(self._next)
        created = yield ("create", record(other, subject="user:2"), NOW)
        if not isinstance(created, StoreUnavailable):
            ended = yield ("delete", other, NOW)
            if not isinstance(ended, StoreUnavailable):
                self.ended.append(other)

    def check(self) -> None:
        """The first request works, and what is there is what was promised."""
        found = [self.call("load", ident(number), NOW) for number in range(SESSIONS)]
        back = [each for each in self.ended if self.call("load", each, NOW) is not None]

        assert [] == back
        assert self.ended
        for each in found:
            assert each is not None
            assert each in (self.saved[each.id], *self.asked[each.id])
        assert SESSIONS == len(self.call("by_subject", "user:1", NOW))
        assert self.longest < LONGEST + SLACK


@pytest.fixture
def under_load(kind: str) -> Iterator[Callable[[str], Load]]:
    made: list[Load] = []

    def make(url: str) -> Load:
        made.append(Load(url, kind))
        made[-1].begin()
        return made[-1]

    yield make
    for load in made:
        load.close()


# Sentinels.


def sentinel_url(watched: Sentinels) -> str:
    hosts = ",".join(f"{HOST}:{port}" for port in watched.sentinel_ports)
    return f"redis+sentinel://{hosts}/{watched.service_name}/0"


def test_a_failover_by_hand_is_followed(under_load: Callable[[str], Load]) -> None:
    """The old master is a replica then, whose connections are used no more."""
    with Sentinels() as watched:
        load = under_load(sentinel_url(watched))
        with load.running():
            load.goes_on()
            watched.failover()
            load.goes_on()
        load.check()


def test_a_dead_master_is_replaced(under_load: Callable[[str], Load]) -> None:
    """Killed under load; the connections to it fail, and the next ones lead to another."""
    with Sentinels(replicas=2) as watched:
        load = under_load(sentinel_url(watched))
        with load.running():
            load.goes_on()
            old = watched.master()
            old.service.kill()
            until(lambda: watched.master() is not old, "a failover", 120.0)
            watched.wait_until_healed()
            load.goes_on()
        assert load.refused
        load.check()


def test_frozen_sentinels_are_passed_over(under_load: Callable[[str], Load]) -> None:
    """In time for the connection, while one of them answers."""
    with Sentinels() as watched:
        load = under_load(sentinel_url(watched))
        load.call("close")
        for sentinel in watched.sentinels[:2]:
            sentinel.service.freeze()
        with Stopwatch() as watch:
            found = load.call("load", ident(0), NOW)

        assert load.saved[ident(0)] == found
        assert watch.seconds < LONGEST + SLACK
        for sentinel in watched.sentinels[:2]:
            sentinel.service.thaw()


def test_a_deposed_master_that_comes_back_is_not_asked(kind: str) -> None:
    """It still takes itself for the master, over a connection that rested meanwhile."""
    with Sentinels(replicas=2) as watched:
        load = Load(sentinel_url(watched), kind)
        elsewhere: Any = from_url(sentinel_url(watched))
        load.begin()
        old = watched.master()
        old.service.freeze()
        until(lambda: watched.master() is not old, "a failover", 120.0)
        until(lambda: _ends(elsewhere, ident(0)), "an end that a replica confirms")
        old.service.thaw()
        found = load.call("load", ident(0), NOW)
        saved = load.call("save", changed(load.saved[ident(0)]), load.saved[ident(0)].revision, NOW)
        load.close()
        elsewhere.close()

    assert (None, GONE) == (found, saved)


def _ends(store: Any, id: str) -> bool:
    try:
        store.delete(id, NOW)
    except StoreUnavailable:
        return False
    return True


# Clusters.


def cluster_url(nodes: Cluster) -> str:
    return "redis+cluster://" + ",".join(f"{HOST}:{port}" for port in nodes.ports)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as nodes:
        yield nodes


def _key(id: str) -> str:
    return f"coatcheck:{id}"


def test_slots_on_the_move_are_followed(
    cluster: Cluster, under_load: Callable[[str], Load]
) -> None:
    """Keys that are still here, that are there already, and that nobody has yet."""
    load = under_load(cluster_url(cluster))
    slot, source = cluster.slot_of(_key(ident(0))), cluster.master_of(_key(ident(0)))
    target = next(node for node in cluster.masters() if node is not source)
    with load.running():
        load.goes_on()
        cluster.start_moving(slot, target)
        load.goes_on()
        cluster.move_keys(slot, target)
        load.goes_on()
        cluster.finish_moving(slot, target)
        load.goes_on()

    assert 0 == load.refused
    load.check()


def test_a_dead_node_is_replaced(cluster: Cluster, under_load: Callable[[str], Load]) -> None:
    """Killed under load; the other nodes' sessions go on meanwhile, and so do its own after it."""
    load = under_load(cluster_url(cluster))
    master = cluster.master_of(_key(ident(0)))
    everybody = map(ident, range(SESSIONS))
    other = next(each for each in everybody if cluster.master_of(_key(each)) is not master)
    with load.running():
        load.goes_on()
        master.service.kill()
        before = load.saved[other]
        until(lambda: load.saved[other] != before, "a save on another node")
        cluster.wait_until_healed()
        load.goes_on()
    assert load.refused
    load.check()


def test_a_node_that_died_unnoticed_is_not_asked(cluster: Cluster, kind: str) -> None:
    """Where no request came between its death and its replacement, the first one works too."""
    load = Load(cluster_url(cluster), kind)
    load.begin()
    master = cluster.master_of(_key(ident(0)))
    master.service.kill()
    cluster.wait_until_healed()

    assert load.saved[ident(0)] == load.call("load", ident(0), NOW)
    load.close()


def test_a_frozen_node_stalls_its_own_sessions_alone(cluster: Cluster) -> None:
    """Tasks that ask the other nodes wait for nobody."""
    master = cluster.master_of(_key(ident(0)))
    ids = [ident(number) for number in range(40)]
    elsewhere = [each for each in ids if cluster.master_of(_key(each)) is not master]
    store: Any = async_from_url(cluster_url(cluster) + "?replicas=0")

    async def scenario() -> list[Any]:
        for each in ids:
            await store.create(record(each), NOW)
        master.service.freeze()
        try:
            stalled = asyncio.ensure_future(store.load(ident(0), NOW))
            answers = await asyncio.gather(*[store.load(each, NOW) for each in elsewhere])
            assert not stalled.done()
            with pytest.raises(StoreUnavailable):
                await stalled
            return answers
        finally:
            master.service.thaw()
            await store.close()

    assert elsewhere == [found.id for found in asyncio.run(scenario())]


def test_a_seed_that_is_down_is_passed_over(cluster: Cluster, kind: str) -> None:
    """Any node that answers has the map."""
    first, *others = cluster.ports
    with Redis() as gone:
        port = gone.port
    load = Load(f"redis+cluster://{HOST}:{port},{HOST}:{others[0]},{HOST}:{first}", kind)
    load.begin()

    assert load.saved[ident(1)] == load.call("load", ident(1), NOW)
    load.close()
