"""Bottle: its signed cookie, and Beaker as its documentation recommends."""

import json
from collections.abc import Callable
from typing import Any

import bottle  # type: ignore[import-untyped]

from benchmarks.acts import OK, Act, fill, write
from benchmarks.frameworks.beaker import beakers, saving
from benchmarks.frameworks.place import ACTS, SECRET, Build, ours
from coatcheck import Sessions
from coatcheck.web import wsgi

__all__ = ["APPS"]


def _app(view: Callable[[Act], Callable[[], str]]) -> Any:
    app = bottle.Bottle()
    for name, act in ACTS.items():
        app.route(f"/{name}", callback=view(act))
    app.route("/untouched", callback=lambda: OK)
    return app


def _signed(act: Act) -> Callable[[], str]:
    """Its cookies hold texts; what is in them is the app's."""

    def view() -> str:
        session = json.loads(bottle.request.get_cookie("session", secret=SECRET) or "{}")
        text = act(session)
        if act in (fill, write):
            bottle.response.set_cookie("session", json.dumps(session), secret=SECRET)
        return text

    return view


def _in_environ(key: str) -> Callable[[Act], Callable[[], str]]:
    def view(act: Act) -> Callable[[], str]:
        return lambda: act(bottle.request.environ[key])

    return view


def _on_beaker() -> Any:
    view = _in_environ("beaker.session")
    return _app(lambda act: view(saving(act)))


def _coatcheck(sessions: Sessions) -> Any:
    return wsgi.SessionMiddleware(_app(_in_environ("coatcheck.session")), sessions)


APPS: dict[str, Build] = {
    "bare": lambda place: _app(_signed),
    "signed cookie": lambda place: _app(_signed),
    **beakers(_on_beaker),
    **ours(_coatcheck),
}
