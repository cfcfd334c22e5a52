"""What the parts of the contract share."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

import pytest

from coatcheck.errors import Collision
from coatcheck.store import Store

__all__ = ["Contract", "bound"]


class Contract:
    """The store, what it declares, and calls that are made together."""

    lists: ClassVar[bool] = True
    """Whether the store is `Listable`; a store that cannot says so here."""
    sweeps: ClassVar[bool] = True
    """Whether the store is `Sweepable`; one whose server drops what expired is not."""
    admits: ClassVar[bool] = True
    """Whether the store is `Admitting`; a store that cannot says so here."""

    @pytest.fixture
    def store(self) -> Any:
        """An empty store."""
        pytest.fail("override the store fixture to give an empty store")

    @pytest.fixture
    def verbs(self, store: Any) -> Any:
        """The store's verbs, called without await."""
        assert isinstance(store, Store)
        return store

    def _at_once(self, verbs: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
        """The answers of these calls made together; an error counts as an answer.

        A call is a verb's name, or a function of the verbs, and the arguments.
        """
        start = threading.Barrier(len(calls))

        def call(verb: Any, *arguments: Any) -> Any:
            start.wait()
            try:
                return bound(verbs, verb)(*arguments)
            except Collision as error:
                return error

        with ThreadPoolExecutor(len(calls)) as pool:
            return [done.result() for done in [pool.submit(call, *each) for each in calls]]

    def _needs(self, declared: bool) -> None:
        if not declared:
            pytest.skip("the store declares that it cannot")


def bound(verbs: Any, verb: Any) -> Callable[..., Any]:
    """The verb of that name, or the function, given the verbs."""
    found: Callable[..., Any] = partial(verb, verbs) if callable(verb) else getattr(verbs, verb)
    return found
