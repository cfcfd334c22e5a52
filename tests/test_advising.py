"""What a store finds wrong with its server is told once, as an event and in the log."""

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
    sessions = Sessions(store, on_event=told.append)
    assert isinstance(store, Advising)
    store.find(RISK)
    assert sessions.flush_events()

    assert [RiskyConfiguration(setting=RISK.setting, consequence=RISK.consequence)] == told


def test_each_sessions_of_a_store_is_told() -> None:
    """Two sites on one store both run the risk."""
    told: list[str] = []
    store = Advised()
    one = Sessions(store, name="a", on_event=lambda event: told.append("a"))
    other = Sessions(store, name="b", on_event=lambda event: told.append("b"))
    store.find(RISK)
    assert one.flush_events()
    assert other.flush_events()

    assert ["a", "b"] == sorted(told)


def test_it_is_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody sets a handler before something went wrong."""
    store = Advised()
    Sessions(store)
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        store.find(RISK)

    assert [
        f'risky_configuration setting="{RISK.setting}" consequence="{RISK.consequence}"'
    ] == caplog.messages
