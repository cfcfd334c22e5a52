"""From a request to its response, through Falcon's middleware under WSGI."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeGuard

import falcon

from coatcheck import context
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import AsyncSessions, Sessions
from coatcheck.sweeper import Sweeper
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import UNAVAILABLE, Exchange
from coatcheck.web.falcon.responses import add_headers, replace
from coatcheck.web.streams import Stream

__all__ = ["SessionMiddleware", "handle_outage", "is_open", "peer", "show"]


class SessionMiddleware:
    """Puts the request's session into `req.context.session`, and commits it in time.

    For `falcon.App(middleware=[…])`; listed first, so that its `process_response` is the last.
    `named` gives further sessions, in `req.context.sessions[name]` and `current(name)`. On paths
    that `skip` lists nothing is opened. `client` makes a `Client` of the request, for device lists;
    by default the peer's address and its User-Agent. `sweep` is how often, in seconds, a daemon
    thread removes what expired; None leaves that to you.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        named: Mapping[str, Sessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[falcon.Request], Client] | None = None,
        sweep: float | None = 600.0,
    ) -> None:
        self._sessions = checked_sessions(Sessions, sessions, named)
        self._skip = Patterns("SessionMiddleware(skip=…)", skip)
        self._client = client or peer
        every = self._sessions.values()
        self._sweepers = [] if sweep is None else [Sweeper(each, sweep) for each in every]

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        around = req.env.get("coatcheck.session")
        if is_open(around, self._sessions[None]):
            show(req, around, req.env["coatcheck.sessions"])
            return
        exchange = None if self._skip.match(req.path) else self._open(req)
        # Also where nothing was opened: where an error went past Falcon, the thread's last request
        # left its own.
        bound = context.bind(None if exchange is None else exchange.opened)
        req.context.coatcheck = exchange, bound

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        if not hasattr(req.context, "coatcheck"):  # another answered earlier, or commits it
            return
        exchange, bound = req.context.coatcheck
        try:
            if exchange is not None:
                self._respond(exchange, resp)
        finally:
            context.unbind(bound)

    def _open(self, req: falcon.Request) -> Exchange:
        for sweeper in self._sweepers:
            sweeper.start()
        header, client = req.env.get("HTTP_COOKIE"), partial(self._client, req)
        exchange = Exchange.open(self._sessions, header, client)
        show(req, exchange.session, exchange.named)
        return exchange

    def _respond(self, exchange: Exchange, resp: falcon.Response) -> None:
        try:
            resp.render_body()
            head = exchange.respond(resp.status_code)
        except Exception as error:
            head = exchange.fail(error)
            if head.refused is None:
                resp.stream = None
                add_headers(resp, head)
                raise  # Falcon makes a response of it, with these headers
        if head.refused is not None:
            replace(resp, head.refused)
        add_headers(resp, head)
        if resp.stream is None or hasattr(resp.stream, "read"):
            exchange.end()
        else:
            resp.stream = Stream(resp.stream, exchange.opened, exchange.end)


def handle_outage(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    """An error handler for `StoreUnavailable` and `Contention`, whatever raised them: 503."""
    raise falcon.HTTPError(UNAVAILABLE.status, headers=dict(UNAVAILABLE.headers))


def is_open(found: object, sessions: Sessions | AsyncSessions) -> TypeGuard[Session]:
    """Whether a middleware around the app has opened our session, and is to commit it."""
    return isinstance(found, Session) and sessions._began(found) and context.is_bound(found)


def show(req: falcon.Request, session: Session, named: Mapping[str, Session]) -> None:
    """Put the sessions where Falcon's users look for them."""
    req.context.session = session
    req.context.sessions = named


def peer(req: falcon.Request) -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(req.remote_addr, req.user_agent)
