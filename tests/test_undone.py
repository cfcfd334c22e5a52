"""What a server loses can be undone, ends too: shown here as the stores' pages tell it.

These are no laws. If one of them fails, a page says too much.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from coatcheck.store import SAVED
from coatcheck.stores import from_url
from coatcheck.stores.postgres import PostgresStore
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract import changed, ident, record
from tests.services.postgres import Postgres
from tests.services.process import until
from tests.services.proxy import Proxy
from tests.services.redis import HOST, Redis

ENDED, SAVED_LATE, KEPT = FIRST = [record(ident(number)) for number in (1, 2, 3)]


def _store(port: int, **options: Any) -> Any:
    query = "&".join(f"{name}={value}" for name, value in {"timeout": 10, **options}.items())
    return closing(from_url(f"redis://{HOST}:{port}?{query}"))


def _fill(store: Any) -> None:
    for each in FIRST:
        store.create(each, NOW)


def _go_on(store: Any) -> None:
    """An end and a save, both answered with success."""
    late = changed(SAVED_LATE, payload=b"late")
    assert store.delete(ENDED.id, NOW)
    assert SAVED is store.save(late, SAVED_LATE.revision, NOW)
    assert [None, late, KEPT] == _found(store)


def _found(store: Any) -> list[Any]:
    return [store.load(each.id, NOW) for each in FIRST]


@pytest.fixture
def master() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def test_a_failover_without_replicas_to_wait_for_undoes_all_that_had_not_arrived(
    master: Redis,
) -> None:
    """`replicas=0`: what ended is back, and a save is lost."""
    with (
        Proxy(master.port) as line,
        Redis(f"replicaof {HOST} {line.port}") as replica,
        _store(master.port, replicas=0) as before,
        _store(replica.port, replicas=0) as after,
    ):
        _fill(before)
        until(lambda: master.ask("WAIT", 1, 100), "the replica's copy")
        line.refuse = True
        line.cut_all()
        _go_on(before)
        master.service.kill()
        replica.ask("REPLICAOF", "NO", "ONE")

        assert FIRST == _found(after)


def test_a_crash_with_snapshots_alone_undoes_all_since_the_last(master: Redis) -> None:
    """Where the append-only file is off."""
    with _store(master.port) as store:
        _fill(store)
        master.ask("SAVE")
        _go_on(store)
        master.service.kill()
        master.service.start()

        assert FIRST == _found(store)


def test_a_crash_empties_unlogged_tables() -> None:
    """Everybody is logged out, and nothing that ended is back."""
    with (
        Postgres() as server,
        closing(PostgresStore(server.conninfo(), unlogged=True, timeout=10)) as store,
    ):
        _fill(store)
        _go_on(store)
        server.service.kill()
        server.service.start()

        assert [None, None, None] == _found(store)
