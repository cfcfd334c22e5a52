"""The session interface: sessions are opened and committed where Quart asks for it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from quart import Quart, Request, Websocket
from quart.sessions import SessionInterface, SessionMixin

from coatcheck.paths import Patterns
from coatcheck.session import Client
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web.asgi import facts, peer
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.headers import joined_cookie
from coatcheck.web.pallets import Advice, CookieFacts, PalletsSession, SkippedSession
from coatcheck.web.quart.errors import FOLLOWED
from coatcheck.web.quart.visits import VISIT, Answer, Visit, current_visit

__all__ = ["CoatcheckSessionInterface"]


class CoatcheckSessionInterface(CookieFacts, SessionInterface):
    """Makes `quart.session` a session of these.

    `named` gives further sessions, in `current(name)`. On paths that `skip` lists nothing is
    opened. `client` makes a `Client` of the request or WebSocket, for device lists; by default the
    peer's address and its User-Agent. `sweep` is how often, in seconds, what expired is removed
    while the app is served, from its first request on; None leaves that to you. With `watch`, a
    WebSocket is closed with 4401 when its (main) session ends, a response of text/event-stream
    ends too, and the messages that come count as activity.
    """

    null_session_class = SkippedSession

    def __init__(
        self,
        sessions: AsyncSessions,
        *,
        named: Mapping[str, AsyncSessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[Request | Websocket], Client] | None = None,
        sweep: float | None = 600.0,
        watch: bool = False,
    ) -> None:
        where = type(self).__name__
        self._watch = watch
        self.sessions = sessions
        self._every = checked_sessions(AsyncSessions, sessions, named, where)
        self._cookie = sessions.cookie
        self._advice = Advice(sessions.cookie, sessions.lifetime)
        self._skip = Patterns(f"{where}(skip=…)", skip)
        self._client = client or _peer
        self._sweep = sweep if sweep is None else checked_interval(sweep)
        self._apps = WeakSet[Quart]()
        self._sweeper: asyncio.Task[None] | None = None

    async def open_session(self, app: Quart, request: Any) -> SessionMixin | None:
        scope = request.scope
        met: Visit | None = getattr(request, VISIT, None)
        if met is not None:  # another context of the same request
            return cast("PalletsSession", met.exchange.session)
        if self._skip and self._skip.match(facts(scope).path):
            return None
        is_first = app not in self._apps
        if is_first:
            self._join(app)
        if self._sweep is not None and (self._sweeper is None or self._sweeper.done()):
            self._start_sweeping(app)
        header, client = joined_cookie(scope["headers"]), partial(self._client, request)
        opened = (await AsyncExchange.open(self._every, header, client)).opened
        session = PalletsSession(opened[None])
        exchange = AsyncExchange(self._every, {**opened, None: session})
        visit = Visit(exchange, is_first, self._watch)
        setattr(request, VISIT, visit)
        if isinstance(request, Websocket):
            visit.attend_handshake(request)
        return session

    async def save_session(
        self, app: Quart, session: SessionMixin, response: Answer | None
    ) -> None:
        visit = current_visit()
        assert visit is not None
        await visit.answer(response)
        if visit.is_first:
            self._advice.on_settings(app)
        self._advice.on_permanence(visit.exchange.session)

    def _join(self, app: Quart) -> None:
        """Follow this app's errors, whether it handles them, they become a 500, or go on."""
        self._apps.add(app)
        for name, follow in FOLLOWED.items():
            setattr(app, name, follow(app, getattr(app, name)))

    def _start_sweeping(self, app: Quart) -> None:
        """Until the app's lifespan ends; without one there would be no end."""
        if hasattr(app, "shutdown_event") and not app.shutdown_event.is_set():
            self._sweeper = asyncio.create_task(self._keep_sweeping(), context=Context())
            app.after_serving_funcs.insert(0, partial(_cancel, self._sweeper))

    async def _keep_sweeping(self) -> None:
        async with sweeping(self._every, self._sweep):
            await asyncio.Event().wait()


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _peer(request: Request | Websocket) -> Client:
    return peer(request.scope)  # type: ignore[arg-type]
