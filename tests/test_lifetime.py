"""`Lifetime`: one value from which cookie, record and store take their times."""

from datetime import timedelta
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError, Lifetime
from coatcheck.lifetime import LONGEST, expiry, touch_interval
from tests.sites import Site

DAY = 86_400
NOW = 1_800_000_000_000


def test_seconds_and_timedelta_are_the_same() -> None:
    """In milliseconds, whole ones."""
    plain = Lifetime(idle=90, absolute=3600.5, remember=DAY)
    spans = Lifetime(
        idle=timedelta(seconds=90),
        absolute=timedelta(seconds=3600, milliseconds=500),
        remember=timedelta(days=1),
    )
    for lifetime in (plain, spans):
        assert (90_000, DAY * 1000) == (lifetime.idle_ms(False), lifetime.idle_ms(True))
        assert NOW + 3_600_500 == lifetime.deadline(NOW, False)
        assert NOW + DAY * 1000 == lifetime.deadline(NOW, True)


def test_the_defaults_are_an_hour_a_day_and_thirty_days() -> None:
    """Idle, absolute, and remembered."""
    lifetime = Lifetime()

    assert (3_600_000, 30 * DAY * 1000) == (lifetime.idle_ms(False), lifetime.idle_ms(True))
    assert (DAY * 1000, 30 * DAY * 1000) == (
        lifetime.deadline(0, False),
        lifetime.deadline(0, True),
    )


def test_no_limit_is_four_hundred_days() -> None:
    """The longest that browsers keep a cookie."""
    lifetime = Lifetime(idle=None, absolute=None, remember=None)

    assert (None, None) == (lifetime.idle_ms(False), lifetime.idle_ms(True))
    assert LONGEST == lifetime.deadline(0, False) == lifetime.deadline(0, True)
    assert (True, True) == (lifetime.is_open_ended(False), lifetime.is_open_ended(True))
    assert (False, False) == (Lifetime().is_open_ended(False), Lifetime().is_open_ended(True))


@pytest.mark.parametrize("option", ["idle", "absolute", "remember"])
@pytest.mark.parametrize(
    "span",
    [
        0,
        -1,
        0.5,
        nan,
        inf,
        -inf,
        401 * DAY,
        10**400,
        timedelta(0),
        timedelta(days=401),
        timedelta.max,
        True,
        "3600",
        b"1",
        [1],
    ],
    ids=repr,
)
def test_a_limit_that_cannot_work_is_refused(option: str, span: Any) -> None:
    """When it is made, by its name."""
    with pytest.raises(ConfigurationError, match=rf"Lifetime\.{option}: expected"):
        Lifetime(**{option: span})


@pytest.mark.parametrize("span", [1, 400 * DAY, timedelta(seconds=1), timedelta(days=400)])
def test_the_ends_of_the_range_are_in_it(span: Any) -> None:
    """A second, and what browsers keep."""
    assert Lifetime(idle=span).idle_ms(False) in (1000, LONGEST)


@given(st.integers(0, LONGEST), st.none() | st.integers(1000, LONGEST), st.integers(0, LONGEST))
def test_no_session_outlives_its_hard_end(seen_at: int, idle: int | None, deadline: int) -> None:
    """Whichever comes first."""
    assert expiry(seen_at, idle, deadline) <= deadline
    assert idle is None or expiry(seen_at, idle, deadline) <= seen_at + idle
    assert expiry(seen_at, idle, deadline) in (deadline, seen_at + (idle or 0))


def test_last_seen_is_as_old_as_a_twentieth_of_the_idle_time() -> None:
    """Of an hour where there is no idle time."""
    assert (180_000, 180_000, 50) == (
        touch_interval(3_600_000),
        touch_interval(None),
        touch_interval(1000),
    )


def test_a_token_moves_an_end_that_only_the_cookie_sets() -> None:
    """Without an absolute limit a rotation brings a new cookie, and 400 new days."""
    site = Site("memory", Path(), {"lifetime": Lifetime(idle=None, absolute=None)})
    owner = site.browser()
    owner.login()
    site.clock.move(100 * DAY)
    owner.visit(lambda s: s.rotate())

    assert [int(site.clock() * 1000) + LONGEST] == [record.expires_at for record in site.records()]
    assert f"Max-Age={400 * DAY}" in owner.answers[-1]


def test_a_rotation_does_not_move_an_absolute_end() -> None:
    """The cookie's age is what is left of it, rounded up."""
    site = Site("memory", Path())
    owner = site.browser()
    owner.login()
    site.clock.move(1000.5)
    owner.visit(lambda s: s.rotate())

    assert f"Max-Age={DAY - 1000}" in owner.answers[-1]


def test_a_session_with_a_shorter_end_than_idle_ends_then() -> None:
    """However often it is used."""
    site = Site("memory", Path(), {"lifetime": Lifetime(idle=3600, absolute=600)})
    owner = site.browser()
    owner.login()
    site.clock.move(599.999)
    assert "user:42" == owner.visit(lambda s: s.subject).subject
    site.clock.move(0.001)

    assert None is owner.begin().subject


def test_a_clock_that_goes_back_ends_nothing_and_prolongs_nothing() -> None:
    """Last-seen moves forwards only."""
    site = Site("memory", Path())
    owner = site.browser()
    owner.login()
    (before,) = site.records()
    site.clock.move(-600)
    owner.visit(lambda s: s.update(a=1))

    assert [(before.seen_at, before.expires_at)] == [
        (record.seen_at, record.expires_at) for record in site.records()
    ]
