"""What a store finds wrong with its server is told once, as an event or else a warning."""

import logging
from collections.abc import Callable

import pytest

from coatcheck import Sessions
from coatcheck.events import Event, RiskyConfiguration
from coatcheck.store import Advising, Risk
from coatcheck.stores.memory import MemoryStore

RISK = Risk("maxmemory-policy allkeys-lru", "users may be logged out; set noeviction")


class Advised(MemoryStore):
    """A store that tells of a risk when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Callable[[Risk], None]] = []

    def advise(self, tell: Callable[[Risk], None]) -> None:
        self.listeners.append(tell)

    def find(self, risk: Risk) -> None:
        for tell in self.listeners:
            tell(risk)


def test_a_risk_is_an_event() -> None:
    """With the setting as it stands and what can come of it."""
    told: list[Event] = []
    store = Advised()
    Sessions(store, on_event=told.append)
    assert isinstance(store, Advising)
    store.find(RISK)

    assert [RiskyConfiguration(setting=RISK.setting, consequence=RISK.consequence)] == told


def test_each_sessions_of_a_store_is_told() -> None:
    """Two sites on one store both run the risk."""
    told: list[str] = []
    store = Advised()
    Sessions(store, name="a", on_event=lambda event: told.append("a"))
    Sessions(store, name="b", on_event=lambda event: told.append("b"))
    store.find(RISK)

    assert ["a", "b"] == told


def test_without_a_handler_it_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody sets a handler before something went wrong."""
    store = Advised()
    Sessions(store)
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        store.find(RISK)

    assert [f"{RISK.setting}: {RISK.consequence}"] == caplog.messages


def test_with_a_handler_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, not twice."""
    store = Advised()
    Sessions(store, on_event=lambda event: None)
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        store.find(RISK)

    assert [] == caplog.messages
