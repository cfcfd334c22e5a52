"""Tornado, on its own server, with a body that is read as it comes: only then a handler has begun
before its body is there."""

from typing import Any

from tornado.web import Application, Finish, HTTPError, RequestHandler, stream_request_body

from coatcheck import AsyncSessions
from coatcheck.web.tornado import SessionMixin, setup
from tests.outside.sockets import TornadoDriver, about_to_read
from tests.outside.talk import Framework, View


def build(sessions: AsyncSessions, view: View, mixin: Any = SessionMixin) -> Application:
    @stream_request_body
    class Handler(mixin, RequestHandler):  # type: ignore[misc]
        async def prepare(self) -> None:
            await super().prepare()  # type: ignore[misc]
            self.body = b""
            about_to_read()

        def data_received(self, chunk: bytes) -> None:
            self.body += chunk

        def post(self) -> None:
            reply = view(self.session, self.body)
            if reply.raised and reply.status >= 400:
                raise HTTPError(reply.status)
            self.set_status(reply.status)
            for name, value in reply.headers:
                self.add_header(name, value)
            self.write(reply.body)
            if reply.raised:
                raise Finish

    app = Application([("/", Handler)])
    setup(app, sessions, sweep=None)
    return app


FRAMEWORKS = {"tornado": Framework(TornadoDriver, build, is_async=True)}
