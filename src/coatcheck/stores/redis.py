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

Ending a session, and creating one with a subject, waits for `replicas` of the server.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from heapq import nsmallest
from typing import Any, TypeAlias

from coatcheck.errors import Collision, StoreUnavailable
from coatcheck.record import NewerFormat, Record
from coatcheck.store import GONE, SAVED, Gone, Risk, Saved
from coatcheck.stores._url import CALL, CONNECT, StoreURL, missing_driver

try:
    from coatcheck.stores._redis.line import AsyncLine, Line
    from coatcheck.stores._redis.place import AsyncClient, Client, place_of_url
except ModuleNotFoundError as error:
    raise missing_driver(__name__, "redis", error) from error
from coatcheck.stores._redis.options import POOL, PREFIX, Options, checked_prefix, options_of_url
from coatcheck.stores._redis.scripts import INDEX_FIRST, Commands, Seen
from coatcheck.stores._redis.value import decode, indexed_until

__all__ = ["AsyncRedisStore", "RedisStore", "async_from_url", "from_url"]

PIECE = 500
"""How many records of a list are read at once."""

_Entry: TypeAlias = tuple[str, float]
"""An id in an index, and its score."""


class RedisStore:
    """Thread-safe, and safe to fork. Lists.

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
        header = self._line.ask_durably(self._commands.remove(id, self._line.replicas))
        try:
            found = None if header is None else decode(id, header)
        except NewerFormat:
            return True
        if found is not None and found.subject is not None:
            with suppress(StoreUnavailable):  # it has ended, whatever the index says
                self._line.ask(self._commands.unindex(found.subject, id))
        return found is not None and found.expires_at > now

    def by_subject(self, subject: str, now: int) -> list[Record]:
        """In pieces, each within the time of a call."""
        found: list[Record] = []
        indexed = _entries(self._line.ask(self._commands.indexed(subject, now)))
        for entries in _pieces(indexed):
            values = self._line.ask_all([self._commands.read(each) for each, _ in entries])
            records, seen = _met(subject, entries, values, now)
            found += records
            if seen:
                with suppress(StoreUnavailable):  # the next reader can do it
                    self._line.ask(self._commands.settle(subject, seen))
        return found

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
    """`RedisStore` for asynchronous code, with a client of `redis.asyncio`.

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
        header = await self._line.ask_durably(self._commands.remove(id, self._line.replicas))
        try:
            found = None if header is None else decode(id, header)
        except NewerFormat:
            return True
        if found is not None and found.subject is not None:
            with suppress(StoreUnavailable):  # it has ended, whatever the index says
                await self._line.ask(self._commands.unindex(found.subject, id))
        return found is not None and found.expires_at > now

    async def by_subject(self, subject: str, now: int) -> list[Record]:
        found: list[Record] = []
        indexed = _entries(await self._line.ask(self._commands.indexed(subject, now)))
        for entries in _pieces(indexed):
            values = await self._line.ask_all([self._commands.read(each) for each, _ in entries])
            records, seen = _met(subject, entries, values, now)
            found += records
            if seen:
                with suppress(StoreUnavailable):  # the next reader can do it
                    await self._line.ask(self._commands.settle(subject, seen))
        return found

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


def _pieces(entries: Sequence[_Entry]) -> Iterator[Sequence[_Entry]]:
    """So that a long list holds nobody up."""
    return (entries[start : start + PIECE] for start in range(0, len(entries), PIECE))


def _entries(answer: Sequence[Any]) -> list[_Entry]:
    """Ids and scores: by RESP 3 in pairs, by RESP 2 in turn."""
    pairs = (
        answer
        if answer and isinstance(answer[0], list)
        else zip(answer[::2], answer[1::2], strict=True)
    )
    return [(member.hex(), float(score)) for member, score in pairs if len(member) == 16]


def _met(
    subject: str,
    entries: Sequence[_Entry],
    values: Sequence[bytes | None],
    now: int,
) -> tuple[list[Record], list[Seen]]:
    """The subject's records; and what the index is to be told: who was met, who is not theirs.

    What is there but expired stays in the index, since another machine's clock may be behind.
    """
    records: list[Record] = []
    seen: list[Seen] = []
    for (each, score), value in zip(entries, values, strict=True):
        record = None if value is None else decode(each, value)
        theirs = record is not None and record.subject == subject
        pending = not score.is_integer()
        if theirs is pending:
            seen.append((each, score, theirs))
        if record is not None and theirs and record.expires_at > now:
            records.append(record)
    return records, seen


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
