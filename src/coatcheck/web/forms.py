"""The CSRF token in a form's body, for protocols without a form parser: raw ASGI and WSGI.

Only the first `LIMIT` bytes are looked at, and what was read is handed on. A body that is longer
has to have its token in that part, or in a header. URL-encoded forms are parsed by the standard
library, multipart ones by python-multipart where that is installed (Starlette takes it for its own
forms); nothing is parsed by hand. Parsers may disagree about a body without harm: whoever does not
know the token cannot put it where any of them finds it.
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from io import BufferedReader, BytesIO, RawIOBase
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from coatcheck.csrf import FIELD

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["LIMIT", "AsgiBody", "token_in", "wsgi_token"]

LIMIT: Final = 65536
"""Bytes of a body that are looked at."""

_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_MOST_FIELDS: Final = 1000  # as Starlette and Django have it; 64 KiB of "&" would cost 20 ms
_LENGTH: Final = re.compile(r"[0-9]{1,18}")

Message = MutableMapping[str, Any]


class AsgiBody:
    """A request's body, whose first part may be looked at before the app gets it by `receive`."""

    __slots__ = ("_headers", "_read", "_rest", "receive")

    def __init__(
        self, headers: Iterable[tuple[bytes, bytes]], receive: Callable[[], Awaitable[Message]]
    ) -> None:
        self._headers = headers
        self._rest = self.receive = receive
        self._read = deque[Message]()

    async def token(self) -> str | None:
        """The token in a form. Reads no more than it looks at, and no body but a form's."""
        named = (value for name, value in self._headers if name == b"content-type")
        content_type = next(named, b"").decode("latin-1")
        if not _is_form(content_type):
            return None
        self.receive = self._replay
        return token_in(content_type, await self._start())

    async def _start(self) -> bytes:
        """The body's first part, which is put together: a message of one byte costs hundreds."""
        start = bytearray()
        message: Message = {}
        for _ in range(LIMIT):  # messages; so even empty ones come to an end
            message = await self._rest()
            start += message.get("body", b"")
            if len(start) >= LIMIT or not message.get("more_body", False):
                break
        body = bytes(start)
        if message["type"] == "http.request":
            self._read.append({**message, "body": body})
        else:  # the client left
            self._read += [{"type": "http.request", "body": body, "more_body": True}, message]
        return body

    async def _replay(self) -> Message:
        return self._read.popleft() if self._read else await self._rest()


def wsgi_token(environ: "WSGIEnvironment") -> str | None:
    """The token in a form's body, which the app finds unread."""
    content_type: str = environ.get("CONTENT_TYPE", "")
    if not _is_form(content_type):
        return None
    stream, length = environ["wsgi.input"], _length(environ)
    start = _read(stream, LIMIT if length is None else min(length, LIMIT))
    is_all = len(start) < LIMIT or len(start) == length
    whole = BytesIO(start) if is_all else BufferedReader(_Rest(start, stream, length))
    environ["wsgi.input"] = whole
    return token_in(content_type, start)


def _read(stream: Any, size: int) -> bytes:
    """So many bytes, or all; a stream without a buffer gives fewer at a time."""
    parts = bytearray()
    while len(parts) < size and (part := stream.read(size - len(parts))):
        parts += part
    return bytes(parts)


def _length(environ: "WSGIEnvironment") -> int | None:
    """Bytes of the body; None where its stream ends by itself, as servers say that can tell."""
    if environ.get("wsgi.input_terminated"):
        return None
    text = environ.get("CONTENT_LENGTH") or ""
    return int(text) if _LENGTH.fullmatch(text) else 0


class _Rest(RawIOBase):
    """A body whose start has been read, and which is never read beyond its end."""

    def __init__(self, start: bytes, stream: Any, length: int | None) -> None:
        self._start = start
        self._stream = stream
        self._left = None if length is None else length - len(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part, self._start = self._start[: len(buffer)], self._start[len(buffer) :]
        if not part:
            size = len(buffer) if self._left is None else min(len(buffer), self._left)
            part = self._stream.read(size) if size else b""
            self._left = None if self._left is None else self._left - len(part)
        buffer[: len(part)] = part
        return len(part)


def token_in(content_type: str, body: bytes) -> str | None:
    """The first field of the token's name in a body of this Content-Type; garbage has none."""
    body = body[:LIMIT]
    try:
        if _kind(content_type) == _URLENCODED:
            return _urlencoded(body)
        return _multipart(content_type, body) if _is_form(content_type) else None
    except ValueError:  # more fields than any form has, or bytes that are no form
        return None


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_form(content_type: str) -> bool:
    return _kind(content_type) in (_URLENCODED, _MULTIPART)


def _urlencoded(body: bytes) -> str | None:
    fields = parse_qsl(body.decode("latin-1"), max_num_fields=_MOST_FIELDS)
    return next((value for name, value in fields if name == FIELD), None)


def _multipart(content_type: str, body: bytes) -> str | None:
    try:
        from python_multipart import FormParser
        from python_multipart.multipart import parse_options_header
    except ImportError:
        return None
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    found: list[bytes] = []
    numbers = count(1)

    def on_part(part: Any) -> None:
        if next(numbers) > _MOST_FIELDS:
            raise ValueError(f"form: expected at most {_MOST_FIELDS} fields, got more")

    def on_field(field: Any) -> None:
        on_part(field)
        if field.field_name == FIELD.encode():
            found.append(field.value)

    parser = FormParser(_MULTIPART, on_field, on_part, boundary=boundary)
    try:
        parser.write(body)
    finally:
        parser.close()
    return found[0].decode("latin-1") if found else None
