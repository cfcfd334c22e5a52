"""Falcon, which has no session and points to Beaker."""

from collections.abc import Callable
from typing import Any

import falcon

from benchmarks.acts import OK, Act
from benchmarks.frameworks.beaker import beakers, saving
from benchmarks.frameworks.place import ACTS, Build, ours
from coatcheck import Sessions
from coatcheck.web.falcon import SessionMiddleware

__all__ = ["APPS"]


class _Page:
    def __init__(self, session: Callable[[falcon.Request], Any], act: Act) -> None:
        self._session = session
        self._act = act

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.text = self._act(self._session(request))


class _Untouched:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.text = OK


def _app(pages: dict[str, Any], **options: Any) -> Any:
    app = falcon.App(media_type=falcon.MEDIA_TEXT, **options)
    for name, page in pages.items():
        app.add_route(f"/{name}", page)
    app.add_route("/untouched", _Untouched())
    return app


def _on_beaker() -> Any:
    def session(request: falcon.Request) -> Any:
        return request.env["beaker.session"]

    return _app({name: _Page(session, saving(act)) for name, act in ACTS.items()})


def _coatcheck(sessions: Sessions) -> Any:
    def session(request: falcon.Request) -> Any:
        return request.context.session

    pages = {name: _Page(session, act) for name, act in ACTS.items()}
    return _app(pages, middleware=[SessionMiddleware(sessions)])


APPS: dict[str, Build] = {
    "bare": lambda place: _app({}),
    **beakers(_on_beaker),
    **ours(_coatcheck),
}
