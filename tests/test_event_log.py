"""Each event is one line of the log, and no text that others chose can forge another."""

import dataclasses
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import Client, Sessions, events
from coatcheck.event_log import line
from coatcheck.events import CopiedCookie, Event, LoggedIn, Outage, Refused
from coatcheck.stores.memory import MemoryStore

KINDS: list[type[Event]] = sorted(
    (kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)),
    key=lambda kind: kind.__name__,
)
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[^" ]+)')


def parsed(text: str) -> tuple[str, dict[str, str]]:
    """A line's name and fields, as a collector of logs reads them; all of it is read."""
    name = text.partition(" ")[0]
    found = FIELD.findall(text)
    assert text == name + "".join(f" {key}={value}" for key, value in found), text
    return name, {key: json.loads(raw) if raw[0] == '"' else raw for key, raw in found}


def sample(kind: type[Event]) -> Event:
    """One of that kind, with something in each field."""
    made: dict[str, Any] = {
        "Client": Client("203.0.113.9", "Mozilla/5.0 (X11)"),
        "int": 3,
        "float": 0.25,
        "datetime": NOON,
    }
    values = {
        field.name: next((v for k, v in made.items() if str(field.type).find(k) >= 0), "some text")
        for field in dataclasses.fields(kind)
    }
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_a_line(kind: type[Event]) -> None:
    """Its name in snake case, and every field."""
    name, fields = parsed(line(sample(kind)))

    assert kind.__name__.lower() == name.replace("_", "")
    assert {key: str(value) for key, value in sample(kind).fields().items()} == fields
    assert len(dataclasses.fields(kind)) <= len(fields)


def test_a_client_is_two_fields_and_what_is_none_is_left_out() -> None:
    """Times as ISO 8601 has them."""
    copied = CopiedCookie(
        session_id="0" * 32,
        shown=Client("203.0.113.9", "Thief/2"),
        known=Client(),
        login_at=None,
        seen_at=NOON,
        renewed_at=NOON,
    )

    assert (
        f"copied_cookie session_id={'0' * 32} shown_address=203.0.113.9 shown_agent=Thief/2 "
        "seen_at=2026-07-01T12:00:00+00:00 renewed_at=2026-07-01T12:00:00+00:00"
    ) == line(copied)


@given(st.text(), st.text())
def test_no_text_forges_a_line_or_a_field(subject: str, error: str) -> None:
    """Whatever it is made of, it is read back as it was, and stays where it belongs."""
    text = line(Outage(subject=subject, moment="open", error=error))

    assert [text] == text.splitlines()
    assert text.isascii()
    assert text.isprintable()
    assert ("outage", {"subject": subject, "moment": "open", "error": error}) == parsed(text)


def test_the_record_carries_the_event(caplog: pytest.LogCaptureFixture) -> None:
    """For a formatter that writes JSON; a per cent sign in it formats nothing."""
    event = LoggedIn(subject="%s %d")
    with caplog.at_level(logging.INFO, "coatcheck"):
        Sessions(MemoryStore())._tell(event)
    (record,) = caplog.records

    assert ('logged_in subject="%s %d"', logging.INFO) == (record.getMessage(), record.levelno)
    assert event is record.__dict__["session_event"]


NOISE = {"refused", "skipped"}
ALERTS = {
    "contended",
    "copied_cookie",
    "login_refused",
    "outage",
    "recovered",
    "risky_configuration",
    "unreadable",
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_levels(kind: type[Event], caplog: pytest.LogCaptureFixture) -> None:
    """A warning is what somebody should look at; a refused cookie is what happens all day."""
    with caplog.at_level(logging.DEBUG, "coatcheck"):
        Sessions(MemoryStore())._tell(sample(kind))
    (record,) = caplog.records
    usual = logging.DEBUG if kind.name in NOISE else logging.INFO

    assert (logging.WARNING if kind.name in ALERTS else usual) == record.levelno


def test_a_sweep_that_found_nothing_is_noise(caplog: pytest.LogCaptureFixture) -> None:
    """Most rounds of a sweeper do."""
    with caplog.at_level(logging.DEBUG, "coatcheck"):
        Sessions(MemoryStore()).sweep()
    (record,) = caplog.records

    assert ("swept count=0", logging.DEBUG) == (record.getMessage(), record.levelno)


def test_what_is_not_logged_is_not_written() -> None:
    """A refused cookie costs no formatting."""

    class Refusing(Refused):
        __slots__ = ()

        def fields(self) -> dict[str, str | int | float]:
            raise AssertionError

    Sessions(MemoryStore())._tell(Refusing(reason="unknown"))
