"""An ASGI server's part."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.outside.talk import PATIENCE, Answer, Headers, Pending

Message = dict[str, Any]


class AsgiDriver:
    """An ASGI server's part, on one event loop."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.runner = asyncio.Runner()

    def begin(self, body: bytes, headers: Headers, on_start: Callable[[Answer], object]) -> Pending:
        pending = _AsgiPending(self, body, headers, on_start)
        self.runner.run(pending.reach_the_body())
        return pending

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self.runner.run(call(*arguments))

    def close(self) -> None:
        self.runner.close()


class _AsgiPending:
    def __init__(
        self, driver: AsgiDriver, body: bytes, headers: Headers, on_start: Callable[[Answer], Any]
    ) -> None:
        self.driver = driver
        self.body = body
        self.headers = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers]
        self.on_start = on_start
        self.answer = Answer()

    async def reach_the_body(self) -> None:
        self.asked, self.released, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self.serve())
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait({self.task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

    async def serve(self) -> None:
        scope = asgi_scope(method="POST", headers=self.headers)
        try:
            await self.driver.app(scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - a server survives everything
            self.answer.error = error

    async def receive(self) -> Message:
        if self.asked.is_set():
            await self.over.wait()  # there is one body; a server then tells when the client left
            return {"type": "http.disconnect"}
        self.asked.set()
        await asyncio.wait_for(self.released.wait(), PATIENCE)
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = [(k.decode(), v.decode("latin-1")) for k, v in message["headers"]]
            self.on_start(self.answer)
        else:
            self.answer.body += message.get("body", b"")
            if not message.get("more_body"):
                self.over.set()

    def release(self) -> None:
        self.released.set()

    def end(self) -> Answer:
        self.released.set()
        self.driver.runner.run(asyncio.wait_for(self.task, PATIENCE))
        return self.answer


def asgi_scope(**parts: Any) -> dict[str, Any]:
    """The scope of a plain request, with any part replaced."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("203.0.113.9", 4711),
        "server": ("site.example", 443),
        "extensions": {},
        **parts,
    }
