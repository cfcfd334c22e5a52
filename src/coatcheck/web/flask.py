"""Flask: `app.session_interface = CoatcheckSessionInterface(sessions)`.

`flask.session` is the session, and so is `current()`. It is committed when the `after_request`
functions are through, before the response is given to the server; a response that is a 5xx keeps
only a `logout()`. Flask does not come to that point with every error, so those of the app's methods
are followed through which all of them pass: in testing and in debug mode, too, they keep only a
`logout()`, and where the store was out of reach the answer is 503.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any
from weakref import WeakSet

from flask import Flask, Request, Response, current_app, g, has_request_context, request
from flask.sessions import SessionInterface, SessionMixin

from coatcheck import context, csrf
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, admit
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import Sessions
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import Exchange
from coatcheck.web.pallets import (
    Advice,
    CookieFacts,
    PalletsSession,
    SkippedSession,
    refuse,
    write_head,
)
from coatcheck.web.wsgi import Upkeep, facts, peer

__all__ = ["CoatcheckSessionInterface", "login_required", "require_login", "setup_csrf"]

_VISIT = "_coatcheck"  # of the request; its environ may serve other contexts too


class CoatcheckSessionInterface(CookieFacts, SessionInterface):
    """Makes `flask.session` a session of these.

    `named` gives further sessions, in `current(name)`. On paths that `skip` lists nothing is
    opened. `client` makes a `Client` of the request, for device lists; by default the peer's
    address and its User-Agent. `sweep` is how often, in seconds, a daemon thread removes what
    expired; None leaves that to you.
    """

    null_session_class = SkippedSession

    def __init__(
        self,
        sessions: Sessions,
        *,
        named: Mapping[str, Sessions] | None = None,
        skip: Iterable[str] = (),
        client: Callable[[Request], Client] | None = None,
        sweep: float | None = 600.0,
    ) -> None:
        where = type(self).__name__
        self.sessions = sessions
        self._every = checked_sessions(Sessions, sessions, named, where)
        self._cookie = sessions.cookie
        self._advice = Advice(sessions.cookie, sessions.lifetime)
        self._skip = Patterns(f"{where}(skip=…)", skip)
        self._client = client or _peer
        self._upkeep = Upkeep(self._every, sweep, where)
        self._apps = WeakSet[Flask]()
        self._joining = threading.Lock()

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        environ = request.environ
        if self._skip and self._skip.match(facts(environ).path):
            return None
        self._upkeep.begin(environ)
        is_first = app not in self._apps and self._join(app)
        header, client = environ.get("HTTP_COOKIE"), partial(self._client, request)
        opened = Exchange.open(self._every, header, client).opened
        session = PalletsSession(opened[None])
        exchange = Exchange(self._every, {**opened, None: session})
        setattr(request, _VISIT, _Visit(exchange, is_first))
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        visit = _visit()
        assert visit is not None
        visit.answer(response)
        if visit.is_first:
            self._advice.on_settings(app)
        self._advice.on_permanence(visit.exchange.session)

    def _join(self, app: Flask) -> bool:
        """Follow this app's errors; whether that is new."""
        with self._joining:
            if app in self._apps:
                return False
            self._apps.add(app)
            _follow_errors(app)
            return True


class _Visit:
    """One request on its way to a response."""

    __slots__ = ("_answered", "cause", "error", "exchange", "is_first")

    def __init__(self, exchange: Exchange, is_first: bool) -> None:
        self.exchange = exchange
        self.is_first = is_first
        self.cause: Exception | None = None  # what the app raised, and handled or not
        self.error: Exception | None = None  # what it did not handle
        self._answered: Response | None = None

    def answer(self, response: Response) -> None:
        """Commit, and put what is owed into the response; an error has several, one after another.

        A 503 that an error handler made is the app's own answer to an outage.
        """
        if response is self._answered:
            return
        self._answered = response
        if self.error is None or response.status_code == 503:
            head = self.exchange.respond(response.status_code, self.cause)
        else:
            head = self.exchange.fail(self.error)
        self.cause = None  # its traceback knows us: a circle costs a collection
        if head.refused is not None:
            _close_body(response)
        write_head(response, head)
        response.call_on_close(self.exchange.end)


def _follow_errors(app: Flask) -> None:
    """See each error, whether a handler of the app takes it, it becomes a 500, or goes on."""
    dispatch, judge, handle = (
        app.full_dispatch_request,
        app.handle_user_exception,
        app.handle_exception,
    )

    def full_dispatch_request() -> Response:
        try:
            return dispatch()
        except Exception:
            raise  # `handle_exception` is next
        except BaseException as stop:
            visit = _visit()
            if visit is not None:
                visit.exchange.fail(stop)
            raise

    def handle_user_exception(error: Exception) -> Any:
        visit = _visit()
        if visit is not None:
            visit.cause = error
        return judge(error)

    def handle_exception(error: Exception) -> Response:
        visit = _visit()
        if visit is None:
            return handle(error)
        visit.error = error
        try:
            response = handle(error)
        except Exception:
            if visit.exchange.fail(error).refused is None:
                raise
            response = app.response_class()
        visit.answer(response)  # where an `after_request` function failed, it has not been yet
        return response

    app.full_dispatch_request = full_dispatch_request  # type: ignore[method-assign]
    app.handle_user_exception = handle_user_exception  # type: ignore[assignment, method-assign]
    app.handle_exception = handle_exception  # type: ignore[assignment, method-assign]


def _close_body(response: Response) -> None:
    close = getattr(response.response, "close", None)
    if close is not None:
        close()


def _visit() -> _Visit | None:
    """That of the request at hand; None outside, and on a path in `skip=`."""
    return getattr(request, _VISIT, None) if has_request_context() else None


def _opened() -> Mapping[str | None, Session] | None:
    visit = _visit()
    return None if visit is None else visit.exchange.opened


context.follow(_opened)


def _peer(request: Request) -> Client:
    return peer(request.environ)


def require_login(gate: LoginGate) -> Callable[[], Response | None]:
    """For a whole app or a blueprint: `app.before_request(require_login(gate))`.

    Where the gate has `user=`, what it loads is `g.user`.
    """

    def before_request() -> Response | None:
        return _refusal(gate)

    return before_request


def login_required(gate: LoginGate) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a single view: it must pass the gate, whose `public=` does not count here.

    Where the gate has `user=`, what it loads is `g.user`.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(*args: Any, **options: Any) -> Any:
            refusal = _refusal(gate, everywhere=True)
            return refusal or current_app.ensure_sync(view)(*args, **options)

        return guarded

    return decorate


def setup_csrf(app: Flask, protection: CrossOriginProtection) -> None:
    """Refuse what other sites send to the app, before its other `before_request` functions.

    With `tokens=True`, templates have `csrf_token()` for the field of that name.
    """

    def before_request() -> Response | None:
        session = (_opened() or {}).get(None)
        refused = csrf.check(protection, facts(request.environ), session, _token_in_form)
        return None if refused is None else _response(refused)

    app.before_request_funcs.setdefault(None, []).insert(0, before_request)
    if protection.tokens:
        app.add_template_global(_csrf_token, "csrf_token")


def _token_in_form() -> str | None:
    return request.form.get(csrf.FIELD)


def _csrf_token() -> str:
    return context.current().csrf_token


def _refusal(gate: LoginGate, *, everywhere: bool = False) -> Response | None:
    """The answer to a request that the gate does not let through."""
    session = (_opened() or {}).get(None)
    verdict = admit(gate, facts(request.environ), session, everywhere=everywhere)
    if isinstance(verdict, Refused):
        return _response(verdict)
    if verdict.user is not None:
        g.user = verdict.user
    return None


def _response(refused: Refused) -> Response:
    response = current_app.response_class()
    refuse(response, refused)
    return response
