"""An application's sessions: what `setup` tells its handlers of them."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from tornado.httputil import HTTPServerRequest
from tornado.web import Application

from coatcheck.errors import ConfigurationError
from coatcheck.paths import Patterns, as_routed
from coatcheck.session import Client
from coatcheck.sessions import AsyncSessions
from coatcheck.sweeper import AsyncSweeper, checked_interval
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import AsyncExchange

__all__ = ["Setup", "peer", "setup", "setup_of"]

_SETTING = "coatcheck"


def setup(
    app: Application,
    sessions: AsyncSessions,
    *,
    named: Mapping[str, AsyncSessions] | None = None,
    skip: Iterable[str] = (),
    client: Callable[[HTTPServerRequest], Client] | None = None,
    sweep: float | None = 600.0,
    watch: bool = False,
) -> None:
    """Give the application's handlers with a `SessionMixin` these sessions.

    `named` gives further sessions, as `self.sessions[name]` and `current(name)`. On paths that
    `skip` lists nothing is opened. `client` makes a `Client` of the request, for device lists; by
    default its `remote_ip` and User-Agent. `sweep` is how often, in seconds, what expired is
    removed, from the first request on; None leaves that to you. With `watch`, a WebSocket is closed
    with 4401 when its (main) session ends, a response of text/event-stream ends too, and the
    messages that come count as activity.
    """
    every = checked_sessions(AsyncSessions, sessions, named, "setup")
    patterns = Patterns("setup(skip=…)", skip)
    interval = sweep if sweep is None else checked_interval(sweep)
    app.settings[_SETTING] = Setup(every, patterns, client or peer, interval, watch)


class Setup:
    """What an application's handlers share."""

    def __init__(
        self,
        every: Mapping[str | None, AsyncSessions],
        skip: Patterns,
        client: Callable[[HTTPServerRequest], Client],
        interval: float | None,
        watch: bool,
    ) -> None:
        self.watch = watch
        self._every = every
        self._skip = skip
        self._client = client
        each = every.values()
        self._sweepers = [] if interval is None else [AsyncSweeper(one, interval) for one in each]

    async def open(self, request: HTTPServerRequest) -> AsyncExchange | None:
        """The request's sessions, or None where its path is skipped."""
        for sweeper in self._sweepers:
            sweeper.start()
        if self._skip.match(as_routed(request.path)):
            return None
        cookies = "; ".join(request.headers.get_list("Cookie")) or None
        return await AsyncExchange.open(self._every, cookies, partial(self._client, request))


def setup_of(app: Application) -> Setup:
    """What its handlers share; ConfigurationError where `setup` was not called."""
    found = app.settings.get(_SETTING)
    if not isinstance(found, Setup):
        raise ConfigurationError(
            "SessionMixin: expected an application with sessions, got one without; call "
            "setup(app, sessions)"
        )
    return found


def peer(request: HTTPServerRequest) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(request.remote_ip, request.headers.get("User-Agent"))
