"""Tornado: its signed cookie, which holds a text; what is in it is the app's."""

import json
from typing import Any

from tornado.web import Application, RequestHandler

from benchmarks.acts import OK, Act, fill, write
from benchmarks.frameworks.place import ACTS, SECRET, Build, ours_async
from coatcheck import AsyncSessions
from coatcheck.web.tornado import SessionMixin, setup

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


class _OurUntouched(SessionMixin, RequestHandler):
    async def get(self) -> None:
        self.write(OK)


class _OurPage(SessionMixin, RequestHandler):
    def initialize(self, act: Act) -> None:
        self.act = act

    async def get(self) -> None:
        self.write(self.act(self.session))


def _app(page: type[RequestHandler] = _Signed, untouched: type[RequestHandler] = _Untouched) -> Any:
    pages = [(f"/{name}", page, {"act": act}) for name, act in ACTS.items()]
    return Application([*pages, ("/untouched", untouched)], cookie_secret=SECRET)


def _coatcheck(sessions: AsyncSessions) -> Any:
    app = _app(_OurPage, _OurUntouched)
    setup(app, sessions)
    return app


APPS: dict[str, Build] = {
    "bare": lambda place: _app(),
    "signed cookie": lambda place: _app(),
    **ours_async(_coatcheck),
}
