"""Who watches a Redis is told of ends at once, whoever ends, and notices when it hears no more."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from coatcheck.errors import StoreUnavailable
from coatcheck.store import Entered, Entry, Watchable
from coatcheck.stores import async_from_url, from_url
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract import changed, ident, login, record
from tests.services import redis as services
from tests.services.process import PATIENCE, until
from tests.stopwatch import Stopwatch

HOUR = 3_600_000
BEAT = 0.2
LAST = ident(99)


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life come more often, so that nobody waits for a second."""
    monkeypatch.setattr("coatcheck.stores._redis.listening.BEAT", BEAT)


@pytest.fixture
def own() -> Iterator[services.Redis]:
    """A server that the test may break."""
    with services.Redis() as server:
        yield server


def url_of(server: services.Redis) -> str:
    return f"redis://{services.HOST}:{server.port}/0"


class Watch:
    """What is told, and how it ended."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.told: list[str] = []
        self.ready = asyncio.Event()
        self._news = asyncio.Event()
        self.task = asyncio.ensure_future(store.watch(self._tell, self.ready.set))

    def _tell(self, id: str) -> None:
        self.told.append(id)
        self._news.set()

    async def until(self, ids: list[str]) -> None:
        """Until all of these were told; nodes of a Cluster tell in no order."""
        async with asyncio.timeout(PATIENCE):
            while not set(ids) <= set(self.told):
                self._news.clear()
                await self._news.wait()

    async def outage(self) -> str:
        """The message of the outage that it ends with."""
        with pytest.raises(StoreUnavailable) as caught:
            await asyncio.wait_for(self.task, PATIENCE)
        return str(caught.value)


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[Watch]:
    """A store that is watched, once it misses nothing."""
    store: Any = async_from_url(url)
    watch = Watch(store)
    await asyncio.wait_for(watch.ready.wait(), PATIENCE)
    yield watch
    watch.task.cancel()
    with suppress(asyncio.CancelledError, StoreUnavailable):
        await watch.task
    await store.close()


def change_much(url: str) -> list[str]:
    """By another client, of the other kind; the ids of which a watch is told."""
    store: Any = from_url(url)
    kept, left, turned, entered, oldest = (record(ident(n)) for n in range(5))
    for each in (kept, left, turned, entered):
        store.create(each, NOW)
    store.save(changed(kept, payload=b"new"), kept.revision, NOW)
    store.touch(kept.id, kept.revision, NOW + 5, NOW + 2 * HOUR, NOW)
    store.delete(left.id, NOW)
    store.delete(left.id, NOW)
    store.save(changed(turned, subject="user:2"), turned.revision, NOW)
    other = changed(entered, subject="user:1", login_at=NOW + 1)
    store.admit(other, entered.revision, Entry(NOW), NOW)
    store.admit(login(4, login_at=NOW - 1), b"", Entry(NOW), NOW)
    assert Entered([oldest.id]) == store.admit(login(5), b"", Entry(NOW, most=2), NOW)
    store.close()
    end(url, LAST)
    return sorted([left.id, turned.id, entered.id, oldest.id, LAST])


def end(url: str, id: str) -> None:
    """A session of that id that is no more."""
    store: Any = from_url(url)
    store.create(record(id), NOW)
    store.delete(id, NOW)
    store.close()


@pytest.mark.parametrize(
    "way", ["url", "secured_url", "sentinel_url", "cluster_url", "valkey_url", "valkey_cluster_url"]
)
def test_ends_and_changes_of_subject_are_told(tmp_path: Path, way: str) -> None:
    """Deletes, those of a limit too, and a login; no save, touch, or end of nothing."""
    url = getattr(services, way)(tmp_path)

    async def scenario() -> tuple[list[str], list[str]]:
        async with watching(url) as watch:
            expected = await asyncio.to_thread(change_much, url)
            await watch.until(expected)
            return expected, sorted(watch.told)

    expected, told = asyncio.run(scenario())
    assert expected == told


def test_the_asynchronous_store_alone_is_watchable(tmp_path: Path) -> None:
    """A thread has nothing to wait with."""
    url = services.url(tmp_path)
    stores: list[object] = [async_from_url(url), from_url(url)]

    assert [True, False] == [isinstance(each, Watchable) for each in stores]


def test_others_prefixes_are_not_heard(tmp_path: Path) -> None:
    """Each has a channel of its own."""
    mine, others = services.url(tmp_path), services.url(tmp_path / "others")

    async def scenario() -> list[str]:
        async with watching(mine) as watch:
            await asyncio.to_thread(end, others, ident(1))
            await asyncio.to_thread(end, mine, LAST)
            await watch.until([LAST])
            return watch.told

    assert [LAST] == asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_server_that_goes_away_is_an_outage(
    beating: None, own: services.Redis, fault: str
) -> None:
    """At once where it says so; within two beats where it is silent."""

    async def scenario() -> float:
        async with watching(url_of(own)) as watch:
            getattr(own.service, fault)()
            with Stopwatch() as stopwatch:
                await watch.outage()
            return stopwatch.seconds

    try:
        assert asyncio.run(scenario()) < 2 * BEAT + 0.7
    finally:
        own.service.thaw()


def test_a_server_that_is_not_there_is_an_outage(own: services.Redis) -> None:
    """It was never ready."""
    own.stop()

    async def scenario() -> bool:
        watch = Watch(async_from_url(url_of(own)))
        await watch.outage()
        return watch.ready.is_set()

    assert asyncio.run(scenario()) is False


def test_a_master_that_is_deposed_is_an_outage(
    beating: None, own: services.Redis, request: pytest.FixtureRequest
) -> None:
    """Though it is well: another leads now, and what ends there is not heard here."""
    watched, name = services.sentinels(), request.node.name
    hosts = ",".join(f"{services.HOST}:{port}" for port in watched.sentinel_ports)
    url = f"redis+sentinel://{hosts}/{name}/0?replicas=0"

    def monitor(server: services.Redis) -> None:
        for sentinel in watched.sentinels:
            with suppress(redis.ResponseError):
                sentinel.ask("SENTINEL", "REMOVE", name)
            sentinel.ask("SENTINEL", "MONITOR", name, services.HOST, server.port, 2)

    async def scenario() -> tuple[str, list[str]]:
        async with watching(url) as watch:
            await asyncio.to_thread(monitor, services.single())
            message = await watch.outage()
        async with watching(url) as watch:
            await asyncio.to_thread(end, url, LAST)
            await watch.until([LAST])
            return message, watch.told

    monitor(own)
    message, told = asyncio.run(scenario())
    for sentinel in watched.sentinels:
        sentinel.ask("SENTINEL", "REMOVE", name)
    assert "no master any more" in message
    assert [LAST] == told


def test_a_user_without_channels_ends_sessions_untold(own: services.Redis) -> None:
    """What it may not publish harms no end; who may not subscribe is told what is missing."""
    own.ask("ACL", "SETUSER", "mute", "on", ">word", "~*", "+@all", "resetchannels")
    url = f"redis://mute:word@{services.HOST}:{own.port}/0"

    async def scenario() -> tuple[bool, str]:
        store: Any = async_from_url(url)
        await store.create(record(), NOW)
        ended = await store.delete(record().id, NOW)
        message = await Watch(store).outage()
        await store.close()
        return ended, message

    ended, message = asyncio.run(scenario())
    assert ended is True
    assert "SUBSCRIBE" in message


def test_a_watch_that_is_over_leaves_no_connection(own: services.Redis) -> None:
    """Whether it was cancelled, or its store closed, which it meets as an outage."""

    async def scenario() -> None:
        async with watching(url_of(own)):
            pass
        async with watching(url_of(own)) as watch:
            await watch.store.close()
            await watch.outage()

    asyncio.run(scenario())
    until(lambda: not own.ask("PUBSUB", "CHANNELS"), "an end of the connections")


def test_a_watch_ends_with_its_loop(own: services.Redis) -> None:
    """Nothing is left open, though nobody closed the store."""

    async def scenario() -> None:
        watch = Watch(async_from_url(url_of(own)))
        await asyncio.wait_for(watch.ready.wait(), PATIENCE)

    asyncio.run(scenario())
    until(lambda: not own.ask("PUBSUB", "CHANNELS"), "an end of the connection")
