"""What every store promises, as tests: subclass one of the two classes."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coatcheck.store import (
    SAVED,
    Admitting,
    AsyncAdmitting,
    AsyncListable,
    AsyncStore,
    AsyncSweepable,
    Listable,
    Sweepable,
)
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract.base import bound
from coatcheck.testing.contract.lists import ListContract
from coatcheck.testing.contract.logins import LoginContract
from coatcheck.testing.contract.records import HOUR, changed, ident, login, record, revision
from coatcheck.testing.contract.verbs import VerbContract

__all__ = [
    "HOUR",
    "AsyncStoreContract",
    "StoreContract",
    "changed",
    "ident",
    "login",
    "record",
    "revision",
]


class StoreContract(VerbContract, ListContract, LoginContract):
    """What every `Store` promises. Subclass it as `Test…` and override the `store` fixture."""

    def test_is_what_it_declares(self, verbs: Any, store: Any) -> None:
        """Its capabilities are those that the class attributes say."""
        assert (self.lists, self.sweeps, self.admits) == self._capabilities(store)

    def _capabilities(self, store: object) -> tuple[bool, ...]:
        return tuple(isinstance(store, each) for each in (Listable, Sweepable, Admitting))

    def test_close_twice_is_fine(self, verbs: Any) -> None:
        """Closing what is closed does nothing."""
        verbs.close()
        verbs.close()


class AsyncStoreContract(StoreContract):
    """What every `AsyncStore` promises: the same, awaited, from one event loop after another."""

    @pytest.fixture
    def verbs(self, store: Any) -> Iterator[Any]:
        assert isinstance(store, AsyncStore)
        with asyncio.Runner() as runner:
            yield _Awaited(store, runner)
            runner.run(store.close())

    def _capabilities(self, store: object) -> tuple[bool, ...]:
        kinds = (AsyncListable, AsyncSweepable, AsyncAdmitting)
        return tuple(isinstance(store, each) for each in kinds)

    def _at_once(self, verbs: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
        async def together() -> list[Any]:
            made = [bound(verbs.store, verb)(*arguments) for verb, *arguments in calls]
            return await asyncio.gather(*made, return_exceptions=True)

        return list(verbs.runner.run(together()))

    async def _end_all(self, store: Any, now: int) -> None:
        await store.forbid("user:1", now, None, now + HOUR, now)
        for each in await store.by_subject("user:1", now):
            await store.delete(each.id, now)

    def test_works_from_one_loop_after_another(self, store: Any) -> None:
        """Made without a loop, it serves each loop that comes, as test clients have them."""
        first = record()
        asyncio.run(store.create(first, NOW))
        second = changed(first)
        assert SAVED is asyncio.run(store.save(second, first.revision, NOW))

        assert second == asyncio.run(store.load(first.id, NOW))
        asyncio.run(store.close())

    def test_a_cancelled_call_leaves_the_record_whole(self, verbs: Any) -> None:
        """Written or not, never half; and the others of the same turn are not disturbed."""
        one, other = record(ident(1)), record(ident(2))
        verbs.create(one, NOW)
        verbs.create(other, NOW)
        saved_one, saved_other = changed(one, payload=b"new"), changed(other, payload=b"new")

        async def cancel_one() -> Any:
            cancelled = asyncio.ensure_future(verbs.store.save(saved_one, one.revision, NOW))
            going_on = asyncio.ensure_future(verbs.store.save(saved_other, other.revision, NOW))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            return await going_on

        assert SAVED is verbs.runner.run(cancel_one())
        assert verbs.load(ident(1), NOW) in (one, saved_one)
        assert saved_other == verbs.load(ident(2), NOW)


class _Awaited:
    """An asynchronous store's verbs, each run to its end."""

    def __init__(self, store: Any, runner: asyncio.Runner) -> None:
        self.store = store
        self.runner = runner

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda *arguments: self.runner.run(getattr(self.store, verb)(*arguments))
