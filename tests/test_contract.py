"""Every store of ours under the contract that we ship."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck.stores import async_from_url, from_url
from coatcheck.stores.file import AsyncFileStore, FileStore
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.stores.sqlite import AsyncSQLiteStore, SQLiteStore
from coatcheck.testing import AsyncStoreContract, StoreContract
from tests.services import memcached, postgres, redis

REDIS = {
    "alone": redis.url,
    "TLS": redis.secured_url,
    "Sentinels": redis.sentinel_url,
    "Cluster": redis.cluster_url,
    "Valkey": redis.valkey_url,
    "Valkey Cluster": redis.valkey_cluster_url,
}


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestAsyncMemoryStore(AsyncStoreContract):
    @pytest.fixture
    def store(self) -> AsyncMemoryStore:
        return AsyncMemoryStore()


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "sessions.sqlite3", timeout=10)


class TestAsyncSQLiteStore(AsyncStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> AsyncSQLiteStore:
        return AsyncSQLiteStore(tmp_path / "sessions.sqlite3", timeout=10)


class TestRedisStore(StoreContract):
    sweeps = False

    @pytest.fixture(params=list(REDIS.values()), ids=list(REDIS))
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
        opened: Any = from_url(request.param(tmp_path))
        yield opened
        opened.close()


class TestAsyncRedisStore(AsyncStoreContract):
    sweeps = False

    @pytest.fixture(params=list(REDIS.values()), ids=list(REDIS))
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        return async_from_url(request.param(tmp_path))


class TestFileStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "sessions", timeout=10)


class TestAsyncFileStore(AsyncStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> AsyncFileStore:
        return AsyncFileStore(tmp_path / "sessions", timeout=10)


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Any]:
        opened: Any = from_url(postgres.url(tmp_path))
        yield opened
        opened.close()


class TestAsyncPostgresStore(AsyncStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Any:
        return async_from_url(postgres.url(tmp_path))


class TestMemcachedStore(StoreContract):
    admits = False
    lists = False
    sweeps = False

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Any]:
        opened: Any = from_url(memcached.url(tmp_path))
        yield opened
        opened.close()


class TestAsyncMemcachedStore(AsyncStoreContract):
    admits = False
    lists = False
    sweeps = False

    @pytest.fixture
    def store(self, tmp_path: Path) -> Any:
        return async_from_url(memcached.url(tmp_path))
