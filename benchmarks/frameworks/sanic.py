"""Sanic, which has no session of its own."""

from collections.abc import Awaitable, Callable
from typing import Any

from sanic import HTTPResponse, Request, Sanic, text

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, Build

__all__ = ["APPS"]

View = Callable[[Request], Awaitable[HTTPResponse]]


def _view(act: Act) -> View:
    async def view(request: Request) -> HTTPResponse:
        return text(act(request.ctx.session))

    return view


async def _untouched(request: Request) -> HTTPResponse:
    return text(OK)


def _app(name: str) -> Any:
    app: Any = Sanic(name, configure_logging=False)
    for path, act in ACTS.items():
        app.add_route(_view(act), f"/{path}", name=path)
    app.add_route(_untouched, "/untouched", name="untouched")
    return app


APPS: dict[str, Build] = {
    "bare": lambda place: _app("bare"),
}
