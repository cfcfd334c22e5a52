"""What a response gets from its sessions, and what takes its place."""

from typing import Any

from sanic import HTTPResponse
from sanic.response import BaseHTTPResponse, ResponseStream

from coatcheck.gate import Refused
from coatcheck.web.exchange import Head
from coatcheck.web.headers import merge_str

__all__ = ["Answer", "Failing", "Response", "add_headers", "become"]

Response = BaseHTTPResponse | ResponseStream


def add_headers(response: Response, head: Head) -> None:
    merged = merge_str(list(response.headers.items()), head)
    response.headers.clear()
    response.headers.extend(merged)


def become(response: BaseHTTPResponse, refused: Refused, head: Head) -> None:
    """Make a whole response of our own of it."""
    response.status = refused.status
    response.body = refused.body.encode()
    response.content_type = "text/plain; charset=utf-8"
    response.headers.clear()
    response.headers.extend(refused.headers)
    add_headers(response, head)


class Answer(HTTPResponse):
    """An answer in the app's place: it is sent whole, and what the app still sends is not."""

    __slots__ = ()

    def __init__(self, refused: Refused, head: Head) -> None:
        super().__init__()
        become(self, refused, head)

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        await super().send(end_stream=True)  # once it has ended, Sanic sends no more of it


class Failing(HTTPResponse):
    """What cannot be sent, so that Sanic makes a response of the error."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        super().__init__(status=500)
        self._error = error

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        raise self._error
