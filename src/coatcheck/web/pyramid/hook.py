"""From a request to its response, through Pyramid's tweens, callbacks and execution policy.

The tween next to the ingress opens the session, binds `current()`, and answers 503 where an outage
was raised through all of Pyramid. The session is committed by the last of the request's response
callbacks, which run behind every tween, and for error pages too. A finished callback looks at the
response again, once subscribers to `NewResponse` have had it; a request that got no response at all
keeps only a `logout()`. What runs behind the tweens can meet an outage too, so the execution policy
is followed by ours.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from typing import Any

from pyramid.interfaces import (  # type: ignore[import-untyped]
    PHASE3_CONFIG,
    IExecutionPolicy,
)
from pyramid.response import Response  # type: ignore[import-untyped]
from pyramid.router import default_execution_policy  # type: ignore[import-untyped]
from pyramid.settings import aslist  # type: ignore[import-untyped]
from pyramid.tweens import EXCVIEW, INGRESS  # type: ignore[import-untyped]

from coatcheck import context
from coatcheck.errors import ConfigurationError, Contention, StoreUnavailable
from coatcheck.gate import Admitted, LoginGate, Refused, Verdict, admit
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import Sessions
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import UNAVAILABLE, Exchange
from coatcheck.web.headers import READ, merge_str
from coatcheck.web.pyramid.security import CSRFStoragePolicy
from coatcheck.web.pyramid.session import PyramidSession
from coatcheck.web.streams import Stream
from coatcheck.web.wsgi import Upkeep, facts, is_whole, peer

__all__ = [
    "gate_tween_factory",
    "includeme",
    "login_required",
    "session_tween_factory",
    "set_coatcheck_sessions",
    "set_login_gate",
]

Handler = Callable[[Any], Any]

_TWEEN = "coatcheck.web.pyramid.session_tween_factory"
_GATE_TWEEN = "coatcheck.web.pyramid.gate_tween_factory"
_LAST = PHASE3_CONFIG + 1


def includeme(config: Any) -> None:
    """Add the directives, the storage of CSRF tokens in our sessions, and the 503 of an outage."""
    config.add_directive("set_coatcheck_sessions", set_coatcheck_sessions)
    config.add_directive("set_login_gate", set_login_gate)
    config.set_csrf_storage_policy(CSRFStoragePolicy())
    config.action(None, partial(_follow_policy, config.registry), order=_LAST)


def set_coatcheck_sessions(
    config: Any,
    sessions: Sessions,
    *,
    named: Mapping[str, Sessions] | None = None,
    skip: Iterable[str] = (),
    client: Callable[[Any], Client] | None = None,
    sweep: float | None = 600.0,
) -> None:
    """Make `request.session` a `PyramidSession` of these.

    `named` gives further sessions, in `request.named_sessions[name]` and `current(name)`. On paths
    that `skip` lists, the session is opened only where it is asked for. `client`
    makes a `Client` of the request, for device lists; by default the peer's address and its
    User-Agent. `sweep` is how often, in seconds, a daemon thread removes what expired; None leaves
    that to you. Raises `ConfigurationError`.
    """
    every = checked_sessions(Sessions, sessions, named, "set_coatcheck_sessions")
    _check_tweens(config, _TWEEN)
    patterns = Patterns("set_coatcheck_sessions(skip=…)", skip)
    hook = _Hook(every, patterns, client or (lambda request: peer(request.environ)), sweep)
    _register(config, _TWEEN, hook)
    config.set_session_factory(hook.session)
    config.add_tween(_TWEEN, under=INGRESS)
    if named:
        config.add_request_method(hook.named, "named_sessions", reify=True)


def set_login_gate(config: Any, gate: LoginGate) -> None:
    """Let only logged-in users through to the whole site, by this gate.

    Where the gate has `user=`, what it loads is `request.user`.
    """
    _check_tweens(config, _GATE_TWEEN)
    _register(config, _GATE_TWEEN, gate)
    config.add_tween(_GATE_TWEEN, under=_TWEEN, over=EXCVIEW)


def _register(config: Any, tween: str, value: object) -> None:
    """Keep for a tween what it needs; of two, Pyramid takes the app's or complains."""
    config.action(("coatcheck", tween), lambda: config.registry.__setitem__(tween, value))


def _check_tweens(config: Any, tween: str) -> None:
    """A list of tweens in the settings replaces what directives add, silently."""
    listed = aslist(config.registry.settings.get("pyramid.tweens") or [])
    if listed and tween not in listed:
        raise ConfigurationError(
            f"pyramid.tweens: expected {tween} in the list of this setting, got {listed!r}; "
            "add it, the tween of the sessions first"
        )


class _Hook:
    """What was configured, and the session factory."""

    def __init__(
        self,
        every: Mapping[str | None, Sessions],
        skip: Patterns,
        client: Callable[[Any], Client],
        sweep: float | None,
    ) -> None:
        self.every = every
        self.skip = skip
        self.client = client
        self.upkeep = Upkeep(every, sweep, "set_coatcheck_sessions")

    def session(self, request: Any) -> Session:
        return self.visit(request)[None]

    def named(self, request: Any) -> dict[str, Session]:
        visit = self.visit(request)
        return {name: visit[name] for name in self.every if name is not None}

    def visit(self, request: Any) -> "_Visit":
        """The request's, begun where it has none yet: subrequests pass by the tweens."""
        found: _Visit | None = vars(request).get("_coatcheck")
        if found is None:
            found = vars(request)["_coatcheck"] = _Visit(self, request)
            request.add_response_callback(_respond)
            request.add_finished_callback(_finish)
        return found


class _Visit(Mapping[str | None, Session]):
    """One request's sessions by name; `current()` looks in here."""

    def __init__(self, hook: _Hook, request: Any) -> None:
        self._every = hook.every
        self._header: str | None = request.environ.get("HTTP_COOKIE")
        self._client: Callable[[], Client] | None = partial(hook.client, request)
        self.exchange: Exchange | None = None
        self.bound: Any = None
        self.is_answered = False  # or failed
        self.response: Any = None

    def __getitem__(self, name: str | None) -> Session:
        return self.open().opened[name]

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._every)

    def __len__(self) -> int:
        return len(self._every)

    def open(self) -> Exchange:
        """The sessions, opened the first time that it is called."""
        if self.exchange is None:
            opened = Exchange.open(self._every, self._header, self._client).opened
            faces = {name: PyramidSession(session) for name, session in opened.items()}
            self.exchange = Exchange(self._every, faces)
            if self.is_answered:
                self.exchange.fail()  # it can be read, and a change raises
        return self.exchange

    @property
    def met(self) -> Exchange:
        """What was opened, or nothing: some other use of a store may still have met an outage."""
        return self.exchange or Exchange({}, {})

    def respond(self, response: Any, cause: BaseException | None) -> None:
        """Commit. The response is not sent before `finish`, and may still change till then."""
        self.is_answered = True
        head = self.met.respond(response.status_int, cause)
        if head.refused is not None:
            _give(response, head.refused)
        if head.vary:
            response.headerlist = merge_str(response.headerlist, head)
        self.response = response

    def finish(self, environ: dict[str, Any]) -> None:
        """Pyramid is done with the request. Where it has no response, it failed."""
        self.is_answered, self._client = True, None
        if self.bound is not None:
            context.unbind(self.bound)
        self.met.fail()
        if self.response is not None:
            response, self.response = self.response, None
            self._complete(response, environ)

    def _complete(self, response: Any, environ: dict[str, Any]) -> None:
        """A subscriber to `NewResponse` may have read the session, or given another body."""
        if any(session.accessed for session in self.met.opened.values()):
            response.headerlist = merge_str(response.headerlist, READ)
        if is_whole(response.app_iter, environ):
            self.met.end()
        else:
            length = response.content_length  # which a new body takes away
            response.app_iter = Stream(response.app_iter, self, lambda: self.met.end())
            response.content_length = length


def session_tween_factory(handler: Handler, registry: Any) -> Handler:
    """`current()` while Pyramid runs, and 503 where an outage comes through."""
    hook: _Hook = registry[_TWEEN]

    def tween(request: Any) -> Any:
        hook.upkeep.begin(request.environ)
        visit = hook.visit(request)
        visit.bound = context.bind(visit)
        if not hook.skip.match(facts(request.environ).path):
            visit.open()  # now, since a token is judged as it was when its request came
        try:
            return handler(request)
        except Exception as error:
            head = visit.met.fail(error)
            if head.refused is None:
                raise
            return _give(Response(), head.refused)

    return tween


def _respond(request: Any, response: Any) -> None:
    """Commit, after the other response callbacks: they may still change the session."""
    others = request.response_callbacks
    while others:
        others.popleft()(request, response)
    cause = getattr(request, "exception", None)  # of which a view made this response
    vars(request)["_coatcheck"].respond(response, cause)


def _finish(request: Any) -> None:
    vars(request)["_coatcheck"].finish(request.environ)


def _follow_policy(registry: Any) -> None:
    """Answer 503 where what runs behind the tweens met an outage."""
    policy = registry.queryUtility(IExecutionPolicy, default=default_execution_policy)

    def followed(environ: Any, router: Any) -> Any:
        try:
            return policy(environ, router)
        except (StoreUnavailable, Contention):
            return _give(Response(), UNAVAILABLE)

    registry.registerUtility(followed, IExecutionPolicy)


def _give(response: Any, refused: Refused) -> Any:
    """Make the response this one, in the app's place."""
    getattr(response.app_iter, "close", lambda: None)()
    response.status = refused.status
    response.headerlist = [*refused.headers, ("Content-Type", "text/plain; charset=utf-8")]
    response.body = refused.body.encode()
    return response


def gate_tween_factory(handler: Handler, registry: Any) -> Handler:
    """What `set_login_gate` puts between the sessions and the site."""
    gate: LoginGate = registry[_GATE_TWEEN]

    def tween(request: Any) -> Any:
        verdict = _judge(gate, request, everywhere=False)
        return _give(Response(), verdict) if isinstance(verdict, Refused) else handler(request)

    return tween


def login_required(gate: LoginGate) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a single view, as `@view_config(decorator=login_required(gate))`: it must pass the gate.

    The gate's `public=` does not count here.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(context: Any, request: Any) -> Any:
            verdict = _judge(gate, request, everywhere=True)
            if isinstance(verdict, Refused):
                return _give(Response(), verdict)
            return view(context, request)

        return guarded

    return decorate


def _judge(gate: LoginGate, request: Any, *, everywhere: bool) -> Verdict:
    asked = facts(request.environ)
    is_open = not everywhere and gate.is_public(asked)  # then the session stays unopened
    session = None if is_open else request.session
    verdict = admit(gate, asked, session, everywhere=everywhere)
    if isinstance(verdict, Admitted) and verdict.user is not None:
        request.user = verdict.user
    return verdict
