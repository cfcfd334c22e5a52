"""Tornado: its signed cookie, which holds a text; what is in it is the app's."""

import json
from typing import Any

from tornado.web import Application, RequestHandler

from benchmarks.acts import OK, Act, fill, write
from benchmarks.frameworks.place import ACTS, SECRET, Build

__all__ = ["APPS"]


class _Untouched(RequestHandler):
    def get(self) -> None:
        self.write(OK)


class _Signed(RequestHandler):
    def initialize(self, act: Act) -> None:
        self.act = act

    def get(self) -> None:
        session = json.loads(self.get_signed_cookie("session") or b"{}")
        text = self.act(session)
        if self.act in (fill, write):
            self.set_signed_cookie("session", json.dumps(session))
        self.write(text)


def _app(page: type[RequestHandler], untouched: type[RequestHandler], **settings: Any) -> Any:
    pages = [(f"/{name}", page, {"act": act}) for name, act in ACTS.items()]
    return Application([*pages, ("/untouched", untouched)], cookie_secret=SECRET, **settings)


APPS: dict[str, Build] = {
    "bare": lambda place: _app(_Signed, _Untouched),
    "signed cookie": lambda place: _app(_Signed, _Untouched),
}
