"""Every store of ours under the contract that we ship."""

from pathlib import Path

import pytest

from coatcheck.stores.file import AsyncFileStore, FileStore
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.stores.sqlite import AsyncSQLiteStore, SQLiteStore
from coatcheck.testing import AsyncStoreContract, StoreContract


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
        return SQLiteStore(tmp_path / "sessions.sqlite3")


class TestAsyncSQLiteStore(AsyncStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> AsyncSQLiteStore:
        return AsyncSQLiteStore(tmp_path / "sessions.sqlite3")


class TestFileStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "sessions")


class TestAsyncFileStore(AsyncStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> AsyncFileStore:
        return AsyncFileStore(tmp_path / "sessions")
