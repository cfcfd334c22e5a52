"""Quart: its signed cookie."""

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Quart, session
from quart.sessions import SecureCookieSession, SessionInterface

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, SECRET, Build, ours_async
from coatcheck.web.quart import CoatcheckSessionInterface

__all__ = ["APPS"]


def _app(interface: Any = None) -> Quart:
    app = Quart("benchmarks", static_folder=None)
    app.secret_key = SECRET
    if interface is not None:
        app.session_interface = interface
    for name, act in ACTS.items():
        app.add_url_rule(f"/{name}", name, _view(act))
    app.add_url_rule("/untouched", "untouched", _untouched)
    return app


def _view(act: Act) -> Callable[[], Awaitable[str]]:
    async def view() -> str:
        return act(session)

    return view


async def _untouched() -> str:
    return OK


class _NoSession(SessionInterface):
    """The least that Quart asks for."""

    async def open_session(self, app: Quart, request: Any) -> SecureCookieSession:
        return SecureCookieSession()

    async def save_session(self, app: Quart, session: Any, response: Any) -> None:
        pass


APPS: dict[str, Build] = {
    "bare": lambda place: _app(_NoSession()),
    "signed cookie": lambda place: _app(),
    **ours_async(lambda sessions: _app(CoatcheckSessionInterface(sessions))),
}
