"""A row's app, made and asked."""

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.frameworks.driving import Driver
from benchmarks.frameworks.place import Place
from benchmarks.frameworks.rows import FRAMEWORKS

__all__ = ["built", "sign_in"]


def built(framework: str, row: str, place: Place) -> Any:
    """The app of that row, as the framework's server takes it."""
    logging.disable(logging.CRITICAL)
    own = place.folder / f"{framework}, {row}".replace(" ", "-")
    own.mkdir()
    module = import_module(f"benchmarks.frameworks.{FRAMEWORKS[framework].module}")
    return module.APPS[row](Place(own, place.redis))


def sign_in(driver: Driver) -> str:
    """A browser's first request: the cookie it is given."""
    answer = driver.ask("/fill", None)
    assert answer.status == 200, answer
    return answer.cookie
