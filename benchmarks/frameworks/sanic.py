"""Sanic, which has no session of its own."""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from sanic import HTTPResponse, Request, Sanic, text

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, Build, ours_async
from coatcheck import AsyncSessions
from coatcheck.web.sanic import setup

__all__ = ["APPS"]

_numbers = count()

View = Callable[[Request], Awaitable[HTTPResponse]]


def _view(act: Act) -> View:
    async def view(request: Request) -> HTTPResponse:
        return text(act(request.ctx.session))

    return view


async def _untouched(request: Request) -> HTTPResponse:
    return text(OK)


def _app() -> Any:
    """Sanic knows its apps by name, so that each has its own."""
    app: Any = Sanic(f"benchmarks-{next(_numbers)}", configure_logging=False)
    for path, act in ACTS.items():
        app.add_route(_view(act), f"/{path}", name=path)
    app.add_route(_untouched, "/untouched", name="untouched")
    return app


def _coatcheck(sessions: AsyncSessions) -> Any:
    app = _app()
    setup(app, sessions)
    return app


APPS: dict[str, Build] = {
    "bare": lambda place: _app(),
    **ours_async(_coatcheck),
}
