"""What is said between a test, a driver and an adapter."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from coatcheck import Session

PATIENCE = 20.0
"""Seconds after which a test gives up on something that must come."""

Headers = list[tuple[str, str]]
Act = Callable[[Session], object]
View = Callable[[Session, bytes], "Reply"]


class Reply(NamedTuple):
    """What a view answers; `raised` says how: as an error that the framework turns into it."""

    status: int = 200
    body: bytes = b"ok"
    headers: tuple[tuple[str, str], ...] = ()
    raised: bool = False


@dataclass
class Answer:
    """What came back. An app that raised before it answered gets a server's bare 500."""

    status: int = 500
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    error: BaseException | None = None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str | None:
        found = self.all(name)
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None

    @property
    def cookies(self) -> list[str]:
        return self.all("set-cookie")


class Pending(Protocol):
    """A request whose session is open and whose app waits for the body."""

    def release(self) -> None:
        """Let the body come."""

    def end(self) -> Answer:
        """Let the body come, and wait for the whole answer."""


class Driver(Protocol):
    """Plays the server to an app."""

    def begin(self, body: bytes, headers: Headers, on_start: Callable[[Answer], object]) -> Pending:
        """A request begins; `on_start` is called with the head when it goes out."""

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call of `Sessions` or `AsyncSessions`, to its end."""

    def close(self) -> None: ...


class Framework(NamedTuple):
    """How a framework is driven, and the adapter that builds its app."""

    driver: Callable[[Any], Driver]
    build: Callable[[Any, View], Any]
    is_async: bool
