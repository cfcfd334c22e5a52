"""Sessions in Redis or Valkey: a server alone, one that Sentinels watch, or a Cluster.

A session is one value at `{prefix}{id}`, whose time to live in the server is the session's own, so
the server drops what expired. Each verb that writes is one script on that one key, which compares
liveness and revision itself.

A subject's sessions are indexed in a sorted set at `{prefix}subject:{subject}`, which in a Cluster
lives elsewhere than they do. So both cannot change at once, and the order keeps the promise that
listing misses no live session: **an id is in the index before its record has the subject, and until
after the record's end.** What the index holds too much is passed over and taken out by who reads
it. An id is entered for longer than its record lives, so most saves and touches are one round trip;
the script that prolongs a record beyond what the index holds answers that the index comes first.

A login goes the same way, and is checked last: the index, where a subject's not-before mark is too,
seats it or refuses it in one step, and what was refused is deleted (`_redis.admission`).

The script that ends a session, or gives it to another subject, publishes its id on the channel
`{prefix}ended` in the same step, whoever runs it; `watch` listens there.

Ending a session, a login, a mark, and creating a session with a subject wait for `replicas` of the
server.
"""

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest

from coatcheck.errors import Collision
from coatcheck.record import Record
from coatcheck.store import GONE, SAVED, Entered, Entry, Forbidden, Full, Gone, Risk, Saved
from coatcheck.stores._url import CALL, CONNECT, StoreURL, missing_driver

try:
    from coatcheck.stores._redis.async_line import AsyncLine
    from coatcheck.stores._redis.line import Line
    from coatcheck.stores._redis.place import AsyncClient, Client, place_of_url
except ModuleNotFoundError as error:
    raise missing_driver(__name__, "redis", error) from error
from coatcheck.stores._redis.admission import Admission
from coatcheck.stores._redis.commands import Commands
from coatcheck.stores._redis.index import ending, entries, listing
from coatcheck.stores._redis.options import POOL, PREFIX, Options, checked_prefix, options_of_url
from coatcheck.stores._redis.scripts import INDEX_FIRST
from coatcheck.stores._redis.value import decode, indexed_until

__all__ = ["AsyncRedisStore", "RedisStore", "async_from_url", "from_url"]


class RedisStore:
    """Thread-safe, and safe to fork. Lists, admits.

    Of the client (a `redis.Redis`, also one that a Sentinel made, or a `redis.RedisCluster`) only
    the settings are taken; the connections are the store's own. `timeout` and `connect_timeout`
    are seconds for a call and for a connection. At most `pool_size` connections are in use at
    once. `replicas` is how many of them confirm the end of a session; by default 1 where the
    server can fail over (Sentinel, Cluster), else 0.
    """

    shared = True

    def __init__(
        self,
        client: Client,
        *,
        prefix: str = PREFIX,
        timeout: float = CALL,
        connect_timeout: float = CONNECT,
        pool_size: int = POOL,
        replicas: int | None = None,
    ) -> None:
        options = Options(timeout, connect_timeout, pool_size, replicas).checked()
        self._commands = Commands(checked_prefix(prefix))
        self._line = Line(client, options)
        self.patience = options.patience

    def load(self, id: str, now: int) -> Record | None:
        return _live(id, self._line.ask(self._commands.read(id)), now)

    def create(self, record: Record, now: int) -> None:
        if record.subject is None:
            answer = self._line.ask(self._commands.add(record, 0, now))
        else:
            until = indexed_until(record.seen_at, record.expires_at)
            index = self._commands.index(record.subject, record.id, until, now)
            self._line.ask_durably(index)
            answer = self._line.ask_durably(self._commands.add(record, until, now))
        _check_created(record.id, answer)

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        answer = self._line.ask(self._commands.replace(record, expected, 0, now))
        if answer == INDEX_FIRST and record.subject is not None:
            until = indexed_until(record.seen_at, record.expires_at)
            self._line.ask(self._commands.index(record.subject, record.id, until, now))
            answer = self._line.ask(self._commands.replace(record, expected, until, now))
        return _outcome(record.id, answer)

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        times = (seen_at, expires_at)
        answer = self._line.ask(self._commands.prolong(id, revision, *times, 0, now))
        found = decode(id, answer) if isinstance(answer, bytes) else None
        if found is not None and found.subject is not None:  # the index first
            until = indexed_until(max(seen_at, found.seen_at), max(expires_at, found.expires_at))
            self._line.ask(self._commands.index(found.subject, id, until, now))
            answer = self._line.ask(self._commands.prolong(id, revision, *times, until, now))
        return bool(answer == 1)

    def delete(self, id: str, now: int) -> bool:
        steps = ending(self._commands, self._line.replicas, id, now)
        return self._line.follow(steps)

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        login = Admission(self._commands, self._line.replicas, record, entry, now)
        return self._line.follow(login.steps(expected))

    def forbid(self, subject: str, before: int, keep: str | None, until: int, now: int) -> None:
        self._line.ask_durably(self._commands.mark(subject, before, keep, until, now))

    def by_subject(self, subject: str, now: int) -> list[Record]:
        """In pieces, each within the time of a call."""
        indexed = entries(self._line.ask(self._commands.indexed(subject, now)))
        return self._line.follow(listing(self._commands, subject, indexed, now))

    def page(self, after: str, limit: int, now: int) -> list[Record]:
        """Each page reads the keys of the whole store: for operators, not for requests."""
        while True:
            ids: set[str] = set()
            for node in self._line.masters():
                cursor = 0
                while True:
                    answer = self._line.ask_node(node, self._commands.scan(cursor))
                    ids = _smallest(ids, self._commands.ids_of(answer[1]), after, limit)
                    cursor = int(answer[0])
                    if not cursor:
                        break
            if not ids:
                return []
            wanted = sorted(ids)
            values = self._line.ask_all([self._commands.read(each) for each in wanted])
            if records := _all_live(wanted, values, now):
                return records
            after = wanted[-1]

    def advise(self, tell: Callable[[Risk], None]) -> None:
        """Tell of settings of the server under which a promise may break, once it is reached."""
        self._line.advice.advise(tell)

    def close(self) -> None:
        """Close the store's connections; using it again opens others."""
        self._line.close()


class AsyncRedisStore:
    """`RedisStore` for asynchronous code, with a client of `redis.asyncio`. It can be watched.

    What one turn of an event loop asks leaves as one pipeline.
    """

    shared = True

    def __init__(
        self,
        client: AsyncClient,
        *,
        prefix: str = PREFIX,
        timeout: float = CALL,
        connect_timeout: float = CONNECT,
        pool_size: int = POOL,
        replicas: int | None = None,
    ) -> None:
        options = Options(timeout, connect_timeout, pool_size, replicas).checked()
        self._commands = Commands(checked_prefix(prefix))
        self._line = AsyncLine(client, options)
        self.patience = options.patience

    async def load(self, id: str, now: int) -> Record | None:
        return _live(id, await self._line.ask(self._commands.read(id)), now)

    async def create(self, record: Record, now: int) -> None:
        if record.subject is None:
            answer = await self._line.ask(self._commands.add(record, 0, now))
        else:
            until = indexed_until(record.seen_at, record.expires_at)
            index = self._commands.index(record.subject, record.id, until, now)
            await self._line.ask_durably(index)
            answer = await self._line.ask_durably(self._commands.add(record, until, now))
        _check_created(record.id, answer)

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        answer = await self._line.ask(self._commands.replace(record, expected, 0, now))
        if answer == INDEX_FIRST and record.subject is not None:
            until = indexed_until(record.seen_at, record.expires_at)
            await self._line.ask(self._commands.index(record.subject, record.id, until, now))
            answer = await self._line.ask(self._commands.replace(record, expected, until, now))
        return _outcome(record.id, answer)

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        times = (seen_at, expires_at)
        answer = await self._line.ask(self._commands.prolong(id, revision, *times, 0, now))
        found = decode(id, answer) if isinstance(answer, bytes) else None
        if found is not None and found.subject is not None:  # the index first
            until = indexed_until(max(seen_at, found.seen_at), max(expires_at, found.expires_at))
            await self._line.ask(self._commands.index(found.subject, id, until, now))
            answer = await self._line.ask(self._commands.prolong(id, revision, *times, until, now))
        return bool(answer == 1)

    async def delete(self, id: str, now: int) -> bool:
        steps = ending(self._commands, self._line.replicas, id, now)
        return await self._line.follow(steps)

    async def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        login = Admission(self._commands, self._line.replicas, record, entry, now)
        return await self._line.follow(login.steps(expected))

    async def forbid(
        self, subject: str, before: int, keep: str | None, until: int, now: int
    ) -> None:
        await self._line.ask_durably(self._commands.mark(subject, before, keep, until, now))

    async def watch(self, tell: Callable[[str], None], ready: Callable[[], None]) -> None:
        await self._line.watch(self._commands.channel, tell, ready)

    async def by_subject(self, subject: str, now: int) -> list[Record]:
        indexed = entries(await self._line.ask(self._commands.indexed(subject, now)))
        return await self._line.follow(listing(self._commands, subject, indexed, now))

    async def page(self, after: str, limit: int, now: int) -> list[Record]:
        while True:
            ids: set[str] = set()
            for node in await self._line.masters():
                cursor = 0
                while True:
                    answer = await self._line.ask_node(node, self._commands.scan(cursor))
                    ids = _smallest(ids, self._commands.ids_of(answer[1]), after, limit)
                    cursor = int(answer[0])
                    if not cursor:
                        break
            if not ids:
                return []
            wanted = sorted(ids)
            values = await self._line.ask_all([self._commands.read(each) for each in wanted])
            if records := _all_live(wanted, values, now):
                return records
            after = wanted[-1]

    def advise(self, tell: Callable[[Risk], None]) -> None:
        self._line.advice.advise(tell)

    async def close(self) -> None:
        await self._line.close()


def _live(id: str, value: bytes | None, now: int) -> Record | None:
    record = None if value is None else decode(id, value)
    return record if record is not None and record.expires_at > now else None


def _all_live(ids: Sequence[str], values: Sequence[bytes | None], now: int) -> list[Record]:
    found = (_live(each, value, now) for each, value in zip(ids, values, strict=True))
    return [record for record in found if record is not None]


def _check_created(id: str, answer: object) -> None:
    if isinstance(answer, bytes):
        decode(id, answer)  # a newer format: it says so
    if answer != 1:
        raise Collision(f"RedisStore: session {id} is there already")


def _outcome(id: str, answer: object) -> Saved | Gone | Record:
    if answer == 1:
        return SAVED
    found = decode(id, answer) if isinstance(answer, bytes) else None
    return GONE if found is None else found


def _smallest(ids: set[str], found: Iterable[str], after: str, limit: int) -> set[str]:
    """Of both, the `limit` smallest that come after."""
    return set(nsmallest(limit, ids.union(each for each in found if each > after)))


def from_url(url: StoreURL) -> RedisStore:
    """redis://user:password@host:6379/0, rediss:// over TLS, unix:///path?db=0,
    redis+sentinel://host,host/name/0, redis+cluster://host,host"""
    return RedisStore(place_of_url(url, asynchronous=False), **options_of_url(url))


def async_from_url(url: StoreURL) -> AsyncRedisStore:
    """redis://user:password@host:6379/0 and the others"""
    return AsyncRedisStore(place_of_url(url, asynchronous=True), **options_of_url(url))
