"""Pyramid: `config.include("coatcheck.web.pyramid")`, `config.set_coatcheck_sessions(sessions)`.

`request.session` is opened when it is first asked for, so a request that does without it costs
nothing. It is committed by the last of the request's response callbacks, which run behind every
tween, and for error pages too. The response gets its headers in a finished callback, when the
subscribers to `NewResponse` have read what they want; a request that got no response at all keeps
only a `logout()`. The tween next to the ingress binds `current()`, and answers 503 where an outage
was raised through all of Pyramid. What runs behind the tweens can meet one too, so the execution
policy is followed by ours.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from typing import Any

from pyramid.authorization import (  # type: ignore[import-untyped]
    ACLHelper,
    Authenticated,
    Everyone,
)
from pyramid.i18n import TranslationString  # type: ignore[import-untyped]
from pyramid.interfaces import (  # type: ignore[import-untyped]
    PHASE3_CONFIG,
    ICSRFStoragePolicy,
    IExecutionPolicy,
    ISecurityPolicy,
    ISession,
)
from pyramid.request import RequestLocalCache  # type: ignore[import-untyped]
from pyramid.response import Response  # type: ignore[import-untyped]
from pyramid.router import default_execution_policy  # type: ignore[import-untyped]
from pyramid.settings import aslist  # type: ignore[import-untyped]
from pyramid.tweens import EXCVIEW, INGRESS  # type: ignore[import-untyped]
from zope.interface import implementer  # type: ignore[import-untyped]

from coatcheck import base64url, context, values
from coatcheck.errors import ConfigurationError, Contention, StoreUnavailable
from coatcheck.gate import Admitted, LoginGate, Refused, Verdict, admit
from coatcheck.session import Client, Flash, Session
from coatcheck.sessions import Sessions
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import UNAVAILABLE, Exchange, Head
from coatcheck.web.headers import merge_str
from coatcheck.web.messages import category_of, packed, unpacked
from coatcheck.web.streams import Stream
from coatcheck.web.wsgi import Upkeep, facts, is_whole, peer

__all__ = [
    "CSRFStoragePolicy",
    "PyramidSession",
    "SessionSecurityPolicy",
    "includeme",
    "login_required",
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
    client: Callable[[Any], Client] | None = None,
    sweep: float | None = 600.0,
) -> None:
    """Make `request.session` a `PyramidSession` of these.

    `named` gives further sessions, in `request.named_sessions[name]` and `current(name)`. `client`
    makes a `Client` of the request, for device lists; by default the peer's address and its
    User-Agent. `sweep` is how often, in seconds, a daemon thread removes what expired; None leaves
    that to you. Raises `ConfigurationError`.
    """
    every = checked_sessions(Sessions, sessions, named, "set_coatcheck_sessions")
    _check_tweens(config, _TWEEN)
    hook = _Hook(every, client or (lambda request: peer(request.environ)), sweep)
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


@implementer(ISession)
class PyramidSession(Session):
    """A `Session` that is Pyramid's `ISession` too. Its messages have the queue for a category."""

    def __init__(self, session: Session) -> None:
        self.__dict__ = session.__dict__  # another face of the same session

    @property
    def created(self) -> int:
        """When it was first stored, or opened where it is new, in seconds since the epoch."""
        return int((self.created_at or self.opened_at).timestamp())

    @property
    def new(self) -> bool:
        return self.is_new

    def changed(self) -> None:
        """Nothing is to be done: a value changed in place is noticed."""
        self._use()

    def invalidate(self) -> None:
        """`logout()`: the session ends, and what is left is a new, empty one."""
        self.logout()

    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Leave a message for the next page that calls `pop_flash(queue)`, or `flashes()`.

        It may be any value that a session can keep, and comes back as it was.
        """
        if allow_duplicate or msg not in self.peek_flash(queue):
            super().flash(*packed(msg, queue))

    def pop_flash(self, queue: str = "") -> list[Any]:
        """The queue's messages; reading them removes them, and no others."""
        found = self._queued(queue)
        if found:
            self._change()
            stored = [flash[0] for flash in found if flash not in self._flashed]
            self._flashes_read = self._flashes_read.union(stored)
            self._flashed = tuple(flash for flash in self._flashed if flash not in found)
        return [unpacked(text, category)[0] for _, category, text in found]

    def peek_flash(self, queue: str = "") -> list[Any]:
        """The queue's messages, which stay."""
        return [unpacked(text, category)[0] for _, category, text in self._queued(queue)]

    def flashes(self) -> list[Flash]:
        """The messages of every queue; reading them removes them."""
        return [Flash(*unpacked(text, category)) for text, category in super().flashes()]

    def new_csrf_token(self) -> str:
        """A new token; the forms that hold older ones are good no longer."""
        self["_csrf_"] = os.urandom(16)
        return self.get_csrf_token()

    def get_csrf_token(self) -> str:
        """The token as it stays until login, rotation or `new_csrf_token`.

        `csrf_token` is the same one under a mask, for pages that are compressed (BREACH).
        """
        _ = self.csrf_token  # a session that has a token must exist
        return base64url.encode(bytes(16) + self._csrf_secret())

    def _csrf_secret(self) -> bytes:
        salt = int.from_bytes(self.get("_csrf_", b""))
        return (int.from_bytes(super()._csrf_secret()) ^ salt).to_bytes(16)

    def _queued(self, queue: str) -> list[tuple[str, str, str]]:
        self._use()
        unread = (*self._unread(), *self._flashed)
        return [flash for flash in unread if category_of(flash[1]) == queue]


# A message is translated where it is shown.
values.register(
    TranslationString,
    "translationstring.TranslationString",
    encode=TranslationString.__getstate__,
    decode=lambda state: TranslationString(*state),
)


class _Hook:
    """What was configured, and the session factory."""

    def __init__(
        self,
        every: Mapping[str | None, Sessions],
        client: Callable[[Any], Client],
        sweep: float | None,
    ) -> None:
        self.every = every
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
    """One request's sessions by name, opened when one is asked for; `current()` looks in here."""

    def __init__(self, hook: _Hook, request: Any) -> None:
        self._every = hook.every
        self._header: str | None = request.environ.get("HTTP_COOKIE")
        self._client: Callable[[], Client] | None = partial(hook.client, request)
        self.exchange: Exchange | None = None
        self.bound: Any = None
        self.is_answered = False  # or failed
        self.response: Any = None

    def __getitem__(self, name: str | None) -> Session:
        return self._opened().opened[name]

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._every)

    def __len__(self) -> int:
        return len(self._every)

    def _opened(self) -> Exchange:
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
        self.response = response

    def finish(self, environ: dict[str, Any]) -> None:
        """Pyramid is done with the request. Where it has no response, it failed."""
        self.is_answered, self._client = True, None
        if self.bound is not None:
            context.unbind(self.bound)
        head = self.met.fail()  # what was decided, where there is a response
        if self.response is not None:
            response, self.response = self.response, None
            self._complete(response, head, environ)

    def _complete(self, response: Any, head: Head, environ: dict[str, Any]) -> None:
        """Give the response what it owes, `Vary` also where it was read after the commit."""
        if any(session.accessed for session in self.met.opened.values()):
            response.headerlist = merge_str(response.headerlist, head.cookies, vary=True)
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
    response.body = b"" if refused.status == 303 else f"{refused.status}\n".encode()
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


@implementer(ICSRFStoragePolicy)
class CSRFStoragePolicy:
    """Pyramid's CSRF checks with our tokens: masked anew on each page, new after each login."""

    def new_csrf_token(self, request: Any) -> str:
        token: str = request.session.new_csrf_token()
        return token

    def get_csrf_token(self, request: Any) -> str:
        token: str = request.session.csrf_token
        return token

    def check_csrf_token(self, request: Any, token: str) -> bool:
        good: bool = request.session.check_csrf(token)
        return good


@implementer(ISecurityPolicy)
class SessionSecurityPolicy:
    """Pyramid's security over `session.subject`, for `config.set_security_policy`.

    `user` loads the user of a subject, who is then `request.identity`; where it returns None the
    session ends, and nobody is logged in. Without it the identity is the subject. Permissions are
    those of the context's ACL, whose principals are `Everyone`, `Authenticated` and the subject;
    override `permits` for others.
    """

    def __init__(self, user: Callable[[str], Any] | None = None) -> None:
        self._user = user
        self._loaded = RequestLocalCache(lambda request: {})
        self._acl = ACLHelper()

    def identity(self, request: Any) -> Any:
        subject = request.session.subject
        if subject is None or self._user is None:
            return subject
        loaded: dict[str, Any] = self._loaded.get_or_create(request)
        if subject not in loaded:
            loaded[subject] = self._user(subject)
        if loaded[subject] is None:
            request.session.logout()
        return loaded[subject]

    def authenticated_userid(self, request: Any) -> str | None:
        subject: str | None = request.session.subject
        return None if self.identity(request) is None else subject

    def permits(self, request: Any, context: Any, permission: str) -> Any:
        subject = self.authenticated_userid(request)
        principals = [Everyone] if subject is None else [Everyone, Authenticated, subject]
        return self._acl.permits(context, principals, permission)

    def remember(
        self, request: Any, userid: str, *, remember: bool = False, **_: Any
    ) -> list[tuple[str, str]]:
        """`session.login`; the response gets its cookie by itself."""
        request.session.login(userid, remember=remember)
        return []

    def forget(self, request: Any, **_: Any) -> list[tuple[str, str]]:
        """`session.logout`."""
        request.session.logout()
        return []
