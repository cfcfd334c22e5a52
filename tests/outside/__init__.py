"""Sites seen from outside: behind a framework, over its own protocol, as a browser sees them.

A law test says what a request does to its session, as a function of the session; the framework's
adapter runs it in a view. The adapter (one file each in `frameworks/`) builds an app whose every
path reads the whole body, then calls `view(session, body)` and answers with the `Reply` that it
returns. A driver plays the server. A request is begun and ended apart: in between, its session is
open and its app waits for the body, so that requests overlap where a test begins several before it
ends the first.

A further framework is one more file there, and one more line in its `__init__`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coatcheck import AsyncSessions, Session, Sessions
from coatcheck.events import Event
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from tests.outside.asgi import asgi_scope
from tests.outside.frameworks import FRAMEWORKS
from tests.outside.talk import PATIENCE, Act, Answer, Pending, Reply
from tests.outside.wsgi import wsgi_call, wsgi_environ
from tests.sites import STORES

__all__ = [
    "COMBINATIONS",
    "FRAMEWORKS",
    "PATIENCE",
    "Act",
    "Answer",
    "Browser",
    "Pending",
    "Reply",
    "Site",
    "asgi_scope",
    "wsgi_call",
    "wsgi_environ",
]

KINDS = ["memory", "sqlite", "redis"]
"""Of store, behind every framework."""
ALL_KINDS = [*KINDS, "file", "postgres"]
"""Behind the two protocols that most frameworks stand on."""

COMBINATIONS = [
    (framework, kind)
    for framework in FRAMEWORKS
    for kind in (ALL_KINDS if framework in ("asgi", "wsgi") else KINDS)
]


class Site:
    """A site behind a framework, with a clock to move and a look into its store past it all."""

    def __init__(
        self,
        framework: str,
        kind: str,
        folder: Path,
        *,
        store: MemoryStore | None = None,
        url: str | None = None,
        **options: Any,
    ) -> None:
        chosen = FRAMEWORKS[framework]
        self.clock = Clock()
        self.told: list[Event] = []
        self.shelf: Any = store or STORES[kind](folder)
        made: Any = self.shelf
        if url is not None:  # another way to the same server
            made = async_from_url(url) if chosen.is_async else from_url(url)
        elif chosen.is_async and kind == "memory":
            made = AsyncMemoryStore(self.shelf)
        elif kind != "memory":
            made = STORES[f"{kind}-async" if chosen.is_async else kind](folder)
        make: Any = AsyncSessions if chosen.is_async else Sessions
        self.sessions = make(made, clock=self.clock, on_event=self.told.append, **options)
        self.inside = Sessions(self.shelf, clock=self.clock)
        self._acts: list[Act] = []
        self._driver = chosen.driver(chosen.build(self.sessions, self._view))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._driver.run(self.sessions.close)
        self._driver.close()
        self.inside.close()

    def begin(
        self,
        act: Act,
        cookie: str | bytes | None = None,
        on_start: Callable[[Answer], object] = lambda head: None,
    ) -> Pending:
        """A request that will do this to its session is opened."""
        self._acts.append(act)
        text = cookie.decode("latin-1") if isinstance(cookie, bytes) else cookie
        headers = [] if text is None else [("Cookie", text)]
        return self._driver.begin(b"%d" % (len(self._acts) - 1), headers, on_start)

    def _view(self, session: Session, body: bytes) -> Reply:
        reply = self._acts[int(body)](session)
        return reply if isinstance(reply, Reply) else Reply()

    def browser(self, cookie: str | None = None) -> "Browser":
        return Browser(self, cookie)

    def stored(self, cookie: str | None) -> Session:
        """The session that the store holds under this cookie now."""
        return self.inside.open(cookie)

    def records(self) -> list[Any]:
        found: list[Any] = self.shelf.page("", 10_000, int(self.clock() * 1000))
        return found

    def call(self, verb: str, *arguments: Any) -> Any:
        """A method of the sessions: list_for, revoke, revoke_all, sweep."""
        return self._driver.run(getattr(self.sessions, verb), *arguments)

    @property
    def events(self) -> list[Event]:
        """What was told so far."""
        assert self._driver.run(self.sessions.flush_events, 20.0)
        return self.told

    @property
    def cookie_name(self) -> str:
        return str(self.sessions.cookie.full_name)


@dataclass
class Browser:
    """What keeps a cookie."""

    site: Site
    cookie: str | None = None

    def visit(self, act: Act = lambda session: None) -> Answer:
        """A whole request that does this to its session, and must not raise."""
        answer = self.take(self.site.begin(act, self.cookie))
        assert answer.error is None, answer.error
        return answer

    def fail(self, act: Act) -> Answer:
        """A whole request whose app may raise."""
        return self.take(self.site.begin(act, self.cookie))

    def begin(self, act: Act) -> Pending:
        return self.site.begin(act, self.cookie)

    def take(self, pending: Pending) -> Answer:
        """The response of a begun request arrives, and its cookies with it."""
        answer = pending.end()
        for header in answer.cookies:
            pair, *attributes = header.split("; ")
            self.cookie = None if "Max-Age=0" in attributes else pair
        return answer

    def together(self, acts: Sequence[Act]) -> list[Answer]:
        """All are opened before the first is released, and then all run at once."""
        begun = [self.begin(act) for act in acts]
        for pending in begun:
            pending.release()
        return [pending.end() for pending in begun]

    def login(self, subject: str = "user:42", **options: Any) -> Answer:
        return self.visit(lambda session: session.login(subject, **options))

    def logout(self) -> Answer:
        return self.visit(lambda session: session.logout())

    def seen(self) -> tuple[str | None, dict[str, Any]]:
        """Subject and values, as a new request sees them."""
        found: list[Any] = []
        self.visit(lambda session: found.extend([session.subject, dict(session)]))
        return found[0], found[1]

    def copy(self) -> "Browser":
        return Browser(self.site, self.cookie)
