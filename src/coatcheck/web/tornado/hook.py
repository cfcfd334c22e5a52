"""The mixin that opens a handler's session; a WebSocket's ends the socket, too."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from coatcheck import context
from coatcheck.errors import ConfigurationError
from coatcheck.session import Session
from coatcheck.web.exchange import AsyncExchange
from coatcheck.web.tornado.application import setup_of
from coatcheck.web.tornado.sending import Sending
from coatcheck.web.watched import ENDED, REASON, Guard

__all__ = ["SessionMixin", "done"]


class SessionMixin(Sending):
    """Gives a handler its request's session, as `self.session`, and commits it in time.

    It stands first among the bases: `class Home(SessionMixin, RequestHandler)`, or before
    `WebSocketHandler`, `StaticFileHandler` and others. A `prepare` of your own awaits
    `super().prepare()` first.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        before = cls.__mro__[: cls.__mro__.index(SessionMixin)]
        for base in before:
            if issubclass(base, RequestHandler) and not issubclass(base, SessionMixin):
                raise ConfigurationError(
                    f"{cls.__name__}: expected SessionMixin before {base.__name__} among the "
                    f"bases, got it after; write class {cls.__name__}(SessionMixin, …)"
                )

    @property
    def session(self) -> Session:
        """The request's session.

        LookupError before `prepare`, on a path in `skip=`, and where a `prepare` of your own did
        not await `super().prepare()`.
        """
        return self._opened().session

    @property
    def sessions(self) -> dict[str, Session]:
        """The further sessions that `setup(named=…)` gave, by name."""
        return self._opened().named

    def _opened(self) -> AsyncExchange:
        if self._exchange is None:
            raise LookupError(
                f"{type(self).__name__}: expected a request with a session, got none; await "
                "super().prepare() in your prepare(), and use it on no path in skip="
            )
        return self._exchange

    def get_current_user(self) -> Any:
        """The session's subject, or None; it is `self.current_user` unless that is set."""
        return None if self._exchange is None else self.session.subject

    async def prepare(self) -> None:
        """Open the session, before the handler's method runs."""
        self._exchange = await setup_of(self.application).open(self.request)
        if self._exchange is not None:
            # Each request is a task with a context of its own; both end together.
            context.bind(self._exchange.opened)
        await done(super().prepare())

    async def _get(self, *args: Any, **options: Any) -> None:
        """Whatever GET is to the next base; to a WebSocket's, the handshake."""
        if not isinstance(self, WebSocketHandler):
            await done(super().get(*args, **options))
        elif await self._commit(101):
            guard = self._guard(self)
            try:
                await done(super().get(*args, **options))  # which lasts as long as the socket
            finally:
                if guard is not None:
                    await guard.stop()
            if self._exchange is not None:
                self._exchange.end()

    def _guard(self, socket: WebSocketHandler) -> Guard | None:
        """Close it when its session is over; each message that comes counts as activity."""
        if self._exchange is None or not setup_of(self.application).watch:
            return None

        async def close() -> None:
            socket.close(ENDED, REASON)

        guard = Guard.of(*self._exchange.main, close)
        if guard is not None:
            vars(socket)["on_message"] = _heard(socket.on_message, guard)
        return guard

    if not TYPE_CHECKING:  # which sees the get() of the next base, plain or not
        get = _get


def _heard(on_message: Callable[[Any], Any], guard: Guard) -> Callable[[Any], Any]:
    def heard(message: str | bytes) -> Any:
        return on_message(message) if guard.hears() else None

    return heard


async def done(result: Awaitable[None] | None) -> None:
    """Tornado's methods return something to await, or nothing."""
    if result is not None:
        await result
