"""Fixtures that many tests share."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.sites import KINDS, LISTING_KINDS, SERVER_KINDS, SWEEPING_KINDS, Site

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def usual_event_loops() -> Iterator[None]:
    """Sanic's own server gives its process uvloop's loops; the next test has the usual ones."""
    yield
    policy = getattr(asyncio.events, "_event_loop_policy", None)  # asking for it would make one
    if type(policy).__module__.startswith("uvloop"):
        asyncio.set_event_loop_policy(None)


@pytest.fixture(autouse=True)
def usual_log_level() -> None:
    """Frameworks set the level of their process; the next test begins with that of Python."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Sites with options of the test's own, closed at its end."""
    made: list[Site] = []

    def make(kind: str = "memory", **options: Any) -> Site:
        store = options.pop("store", None)
        made.append(Site(kind, tmp_path, options, store))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """A site over each store, sync and async."""
    return make_site(request.param)


@pytest.fixture(params=LISTING_KINDS)
def listing(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """A site over each store that finds sessions by their subject."""
    return make_site(request.param)


@pytest.fixture(params=SWEEPING_KINDS)
def sweeping(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """A site over each store that has to be swept."""
    return make_site(request.param)


@pytest.fixture(params=SERVER_KINDS)
def server(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """A site over each store that keeps its records on the server."""
    return make_site(request.param)
