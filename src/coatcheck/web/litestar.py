"""Litestar: a plugin that puts each request's session where `request.session` finds it.

Litestar runs its middleware after routing, once for each route, around the handler that turns
errors into responses. So the session is committed with an error's response as with any other. The
plugin's `config` is a session backend's configuration as Litestar knows them: `SessionAuth` and the
test client take it.

`request.clear_session()` and `request.set_session()` replace what the scope holds. What they meant
is done to the session before the response's first byte.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException, WebSocketException
from litestar.handlers import BaseRouteHandler
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig, BaseSessionBackend
from litestar.middleware.session.base import SessionMiddleware as _SessionMiddleware
from litestar.types import ASGIApp, Empty, Message, Receive, Scope, Send

from coatcheck import typed
from coatcheck.context import current
from coatcheck.gate import LoginGate, Refused, async_admit, unauthorized
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import checked_interval, sweeping
from coatcheck.web import asgi
from coatcheck.web.configured import checked_sessions
from coatcheck.web.headers import Head, merge_bytes

__all__ = ["CoatcheckPlugin", "login_required", "provide_session", "provide_subject"]

Connection = ASGIConnection[Any, Any, Any, Any]

_OPENED = "coatcheck"


class CoatcheckPlugin:
    """For `Litestar(plugins=[…])`: each request's session, and sweeping while the app runs.

    `named` gives further sessions, in `scope["sessions"][name]` and `current(name)`. On paths
    that `skip` lists, and for handlers with `skip_session=True`, nothing is opened. `client` makes
    a `Client` of the connection, for device lists; by default the peer's address and its
    User-Agent. `sweep` is how often, in seconds, what expired is removed; None leaves that to you.
    With `watch`, WebSockets and streams of events end with their (main) session.

    `config` is for `SessionAuth(session_backend_config=…)` and `TestClient(session_config=…)`.
    """

    def __init__(
        self,
        sessions: AsyncSessions,
        *,
        named: Mapping[str, AsyncSessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[Connection], Client] | None = None,
        sweep: float | None = 600.0,
        watch: bool = False,
    ) -> None:
        self._every = checked_sessions(AsyncSessions, sessions, named, "CoatcheckPlugin")
        self._sweep = sweep if sweep is None else checked_interval(sweep)
        listed = skip if isinstance(skip, str) else tuple(skip)
        Patterns("CoatcheckPlugin(skip=…)", listed)  # raises for what is none
        source: Any = None if client is None else lambda scope: client(ASGIConnection(scope))
        self.config = _Config(
            sessions,
            partial(
                asgi.SessionMiddleware,
                sessions=sessions,
                named=named,
                skip=listed,
                client=source,
                sweep=None,
                watch=watch,
            ),
        )

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Litestar calls it: the session goes around all other middleware."""
        app_config.middleware.insert(0, self.config.middleware)
        app_config.lifespan.append(self._sweeping)
        return app_config

    def _sweeping(self, app: object) -> AbstractAsyncContextManager[None]:
        return sweeping(self._every, self._sweep)


class _Backend(BaseSessionBackend["_Config"]):
    """What Litestar's test clients need to look into a session, and to fill one."""

    def get_session_id(self, connection: Connection) -> str | None:
        return None

    async def load_from_connection(self, connection: Connection) -> dict[str, Any]:
        return dict(await self._open(connection))

    async def store_in_message(
        self, scope_session: Any, message: Message, connection: Connection
    ) -> None:
        session = await self._open(connection)
        _replace(session, scope_session)
        cookies = await self.config.sessions.commit(session)
        headers: Any = message["headers"]  # type: ignore[typeddict-item]
        headers[:] = merge_bytes(headers, Head(cookies, True))

    async def _open(self, connection: Connection) -> Session:
        value = connection.cookies.get(self.config.key)
        header = None if value is None else f"{self.config.key}={value}"
        return await self.config.sessions.open(header)


class _Config(BaseBackendConfig[_Backend]):
    """The cookie's attributes are those of the sessions', for whoever reads them here."""

    _backend_class = _Backend
    exclude = None
    exclude_opt_key = "skip_session"

    def __init__(
        self, sessions: AsyncSessions, around: Callable[[asgi.App], asgi.SessionMiddleware]
    ) -> None:
        self.sessions = sessions
        self.around = around
        cookie, longest = sessions.cookie, sessions.lifetime.deadline(0, remember=False)
        self.key, self.max_age = cookie.full_name, longest // 1000
        self.path, self.domain = cookie.path, cookie.domain
        self.secure, self.httponly = cookie.secure, True
        self.samesite: Any = cookie.samesite

    @property
    def middleware(self) -> DefineMiddleware:
        return DefineMiddleware(_Middleware, backend=_Backend(self))


class _Middleware(_SessionMiddleware[_Backend]):
    """Of Litestar's own kind, by which its other plugins know that there are sessions."""

    def __init__(self, app: ASGIApp, backend: _Backend) -> None:
        super().__init__(app, backend)
        inside: Any = self._inside
        self._opening = backend.config.around(inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts: Any = scope
        if facts.get(_OPENED) is self.backend.config:  # SessionAuth brings us once more
            await self.app(scope, receive, send)
        else:
            facts[_OPENED] = self.backend.config
            await self._opening(facts, receive, send)  # type: ignore[arg-type]

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        session: object = scope.get("session")
        if not isinstance(session, Session):
            await self.app(scope, receive, send)
            return

        def adopting(message: Message) -> Any:
            _adopt(scope, session)
            return send(message)

        try:
            await self.app(scope, receive, adopting)
        finally:
            _adopt(scope, session)  # once the response has begun it raises SessionClosed


def _adopt(scope: Any, session: Session) -> None:
    """Do to the session what was done to the scope, and put it back there."""
    found = scope["session"]
    if found is not session:
        scope["session"] = session
        _replace(session, found)


def _replace(session: Session, values: Any) -> None:
    if values is Empty:
        if session:  # messages for the next page outlive a clear that clears nothing else
            session.clear()
        return
    plain = values if isinstance(values, Mapping) else typed.simplify(values)
    for key in session:
        if key not in plain:
            del session[key]
    for key, value in plain.items():
        if key not in session or session[key] is not value:
            session[key] = value


def login_required(
    gate: LoginGate,
) -> Callable[[Connection, BaseRouteHandler], Any]:
    """A guard, for a handler, a controller or a router: who comes must pass the gate.

    The gate's `public=` does not count here. Where it has `user=`, what that loads is
    `request.user`.
    """

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        scope: Any = connection.scope
        facts = asgi.facts(scope)
        verdict = await async_admit(gate, facts, scope.get("session"), everywhere=True)
        if isinstance(verdict, Refused):
            raise _refusal(verdict, scope)
        if verdict.user is not None:
            scope["user"] = verdict.user

    return guard


def _refusal(refused: Refused, scope: Any) -> Exception:
    if scope["type"] == "websocket":
        return WebSocketException(detail="log in first", code=1008)
    headers = dict(refused.headers)
    if refused.status == 401:
        return NotAuthorizedException("log in first", headers=headers)
    return HTTPException(status_code=refused.status, headers=headers)


async def provide_session() -> Session:
    """A dependency: the request's session, `Provide(provide_session)`."""
    return current()


async def provide_subject(scope: Scope) -> str:
    """A dependency: who is logged in; 401 for anybody else."""
    subject = current().subject
    if subject is None:
        raise _refusal(unauthorized(), scope)
    return subject
