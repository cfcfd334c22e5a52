"""A row's app, made and asked."""

import logging
from importlib import import_module
from typing import Any

from benchmarks.frameworks.driving import Answer, Asgi, Driver, Wsgi
from benchmarks.frameworks.place import Place
from benchmarks.frameworks.rows import FRAMEWORKS
from benchmarks.sample import VALUES

__all__ = ["built", "driver", "sign_in"]


def built(framework: str, row: str, place: Place) -> Any:
    """The app of that row, as the framework's server takes it."""
    logging.disable(logging.CRITICAL)
    own = place.folder / f"{framework}, {row}".replace(" ", "-")
    own.mkdir()
    module = import_module(f"benchmarks.frameworks.{FRAMEWORKS[framework].module}")
    return module.APPS[row](Place(own, place.redis))


def driver(framework: str, app: Any) -> Driver:
    """What asks the app in process. A process imports no framework but the one it measures."""
    protocol = FRAMEWORKS[framework].protocol
    if protocol == "wsgi":
        return Wsgi(app)
    if protocol in ("asgi", "sanic"):
        return Asgi(app)
    module = import_module(f"benchmarks.frameworks.{protocol}_driver")
    made: Driver = getattr(module, protocol.title())(app)
    return made


def sign_in(driver: Driver) -> str:
    """A browser's cookie. The session proves to be one: what is written is read, by nobody else."""
    cookie = _asked(driver, "/fill", None).cookie
    first = _asked(driver, "/seen", cookie).body
    written = _asked(driver, "/write", cookie).cookie or cookie
    second, nobody = _asked(driver, "/seen", written).body, _asked(driver, "/seen", None).body
    assert first == str(VALUES["visits"]).encode(), first
    assert second.isdigit(), second
    assert second != first
    assert nobody == b"None", nobody
    return cookie


def _asked(driver: Driver, path: str, cookie: str | None) -> Answer:
    answer = driver.ask(path, cookie)
    assert answer.status == 200, answer
    return answer
