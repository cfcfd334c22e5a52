"""The login gate: a rule over a session and a request's facts. It knows no framework.

Closed by default: every path needs a login but the login page itself, what `public=` lists, and
CORS preflights, which carry no cookie. A page that a person navigates to is sent to the login
page (303) with a `next` that leads back; scripts get 401, which they can see. What a request is,
browsers say in Fetch Metadata (`Sec-Fetch-Mode`); older clients are told apart by `Accept`.
"""

import inspect
import math
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from coatcheck.errors import ConfigurationError
from coatcheck.paths import Patterns, is_plain
from coatcheck.session import Session

__all__ = [
    "Admitted",
    "LoginGate",
    "Refused",
    "Request",
    "Verdict",
    "admit",
    "async_admit",
    "safe_next",
]

Loader = Callable[[str], Any | Awaitable[Any]]

_SKEW = 60.0
"""Seconds by which a login may lie ahead; one that lies further came of a wrong clock."""

_SAFE_NEXT = re.compile(r"/(?![/\\])[!-\[\]-~]*")


@dataclass(frozen=True, slots=True)
class Request:
    """The facts of a request that a rule looks at. Header names are lower-case; a header that came
    several times is one, joined by commas (RFC 9110, section 5.3)."""

    method: str  # of a WebSocket's handshake under ASGI: ""
    path: str
    query: str
    root: str  # what the app is mounted under; not part of `path`
    header: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may go on. `subject` is who it is, or None where no login was asked for; `user`
    is what the gate's loader made of it."""

    subject: str | None
    user: Any = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to give instead of the app's."""

    status: int
    headers: tuple[tuple[str, str], ...]
    reason: str = ""

    @property
    def body(self) -> str:
        """The status, and why, for whoever sees no more; a redirect has none."""
        return "" if self.status == 303 else f"{self.status} {self.reason}".rstrip() + "\n"


Verdict = Admitted | Refused


class LoginGate:
    """Who may pass: `login` is the path of the login page, `public` lists paths open to all.

    `user` loads the user of a subject, plain or async; where it returns None the session ends
    and the request counts as anonymous.

    `fresh` is how many seconds ago the subject may have proved who they are, and `level` how sure
    the app must be of it, at the least (OWASP ASVS 5.0, 7.5.1, 7.5.3). Who is logged in but misses
    these is sent to `step_up`, a page that every login may see, which asks for what is missing
    and calls `login` again; by default the login page. Scripts are told by the 401 what is
    missing (RFC 9470).

    CORS preflights carry no cookie and pass; anybody can send one, so where a view answers OPTIONS
    as it answers GET, turn `preflights` off and put the CORS middleware outside the gate. With
    `no_store` no cache keeps what the gate let through (`Cache-Control: no-store`), unless the app
    says how to. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        login: str = "/login",
        public: Iterable[str] = (),
        user: Loader | None = None,
        fresh: float | None = None,
        level: int | None = None,
        step_up: str | None = None,
        *,
        preflights: bool = True,
        no_store: bool = False,
    ) -> None:
        _check_page("login", login)
        _check_page("step_up", login if step_up is None else step_up)
        if level is not None and not (type(level) is int and 1 <= level <= 255):
            raise ConfigurationError(
                f"LoginGate: expected level to be a number from 1 to 255 or None, got {level!r}; "
                "pass 2, say"
            )
        if fresh is not None and not (type(fresh) in (int, float) and 0 < fresh < math.inf):
            raise ConfigurationError(
                f"LoginGate: expected fresh to be seconds above 0 or None, got {fresh!r}; "
                "pass 300, say"
            )
        self.login = login
        self.user = user
        self.fresh = fresh
        self.level = level
        self.step_up = login if step_up is None else step_up
        self.preflights = preflights
        self.no_store = no_store
        self._public = Patterns("LoginGate(public=…)", public)

    def judge(self, request: Request, session: Session) -> Verdict:
        """Whether the request may go on, whatever its path: for one that is not public."""
        subject = session.subject
        if subject is None:
            return self.refuse(request)
        is_enough = self._is_fresh(session) and self._is_sure(session)
        if request.path != self.step_up and not is_enough:
            return self._send(request, self.step_up, self._challenge())
        session._is_private = session._is_private or self.no_store
        return Admitted(subject)

    def is_public(self, request: Request) -> bool:
        """Whether everybody may see this path: the login page, `public=`, and preflights."""
        if request.path == self.login or self._public.match(request.path):
            return True
        if not self.preflights or request.method != "OPTIONS":
            return False
        marks = ("origin", "access-control-request-method")
        return all(request.header(name) is not None for name in marks)

    def refuse(self, request: Request) -> Refused:
        """The answer to a request that is not logged in: 303 for a page, 401 for a script."""
        return self._send(request, self.login, "")

    def _send(self, request: Request, page: str, challenge: str) -> Refused:
        target = _with_way_back(request, page)
        if request.header("hx-request") == "true":
            return unauthorized(("HX-Redirect", target), challenge=challenge)
        if not _is_navigation(request):
            return unauthorized(challenge=challenge)
        return Refused(303, (("Location", target), _NO_STORE))

    def _is_fresh(self, session: Session) -> bool:
        since = session.authenticated_at
        if self.fresh is None or since is None:
            return self.fresh is None
        age = (session.opened_at - since).total_seconds()
        return -_SKEW <= age <= self.fresh

    def _is_sure(self, session: Session) -> bool:
        return self.level is None or (session.level or 0) >= self.level

    def _challenge(self) -> str:
        # RFC 9470, section 3; an assurance level is named by its number here.
        challenge = ', error="insufficient_user_authentication"'
        if self.level is not None:
            challenge += f', acr_values="{self.level}"'
        return challenge if self.fresh is None else f'{challenge}, max_age="{int(self.fresh)}"'


def admit(
    rule: LoginGate, request: Request, session: object, *, everywhere: bool = False
) -> Verdict:
    """Apply the rule, and load the user; where the loader finds none, the session ends.

    A public path does not touch the session.
    `everywhere` is for a single view: there `public=` does not count. `session` is what the request
    holds in the session's place; where that is none of ours, `ConfigurationError`, and for an
    asynchronous loader too.
    """
    if not everywhere and rule.is_public(request):
        return Admitted(None)
    session = _checked_session(session)
    verdict = rule.judge(request, session)
    if isinstance(verdict, Refused) or verdict.subject is None or rule.user is None:
        return verdict
    user = rule.user(verdict.subject)
    if inspect.isawaitable(user):
        if inspect.iscoroutine(user):
            user.close()
        raise ConfigurationError(
            "LoginGate: expected user= to be a plain function in synchronous code, got an "
            "asynchronous one; give it a plain one"
        )
    return _with_user(rule, request, session, verdict.subject, user)


async def async_admit(
    rule: LoginGate, request: Request, session: object, *, everywhere: bool = False
) -> Verdict:
    """`admit` where the user's loader may be asynchronous."""
    if not everywhere and rule.is_public(request):
        return Admitted(None)
    session = _checked_session(session)
    verdict = rule.judge(request, session)
    if isinstance(verdict, Refused) or verdict.subject is None or rule.user is None:
        return verdict
    user = rule.user(verdict.subject)
    user = await user if inspect.isawaitable(user) else user
    return _with_user(rule, request, session, verdict.subject, user)


def _checked_session(found: object) -> Session:
    if not isinstance(found, Session):
        raise ConfigurationError(
            f"LoginGate: expected a session in the request, got {type(found).__name__}; put the "
            "gate inside SessionMiddleware (or what stands for it in your framework), and make "
            "public= of what is in skip="
        )
    return found


def _with_user(
    rule: LoginGate, request: Request, session: Session, subject: str, user: object
) -> Verdict:
    if user is None:
        session.logout()
        return rule.refuse(request)
    return Admitted(subject, user)


def _check_page(option: str, page: object) -> None:
    if not isinstance(page, str) or not _is_page(page):
        raise ConfigurationError(
            f"LoginGate: expected {option} to be a path of this site, got {page!r}; "
            "write it as '/login'"
        )


def _with_way_back(request: Request, page: str) -> str:
    """The page, with the way back where the request can be repeated."""
    target = safe_next(quote(_root(request)) + page, default=page)
    back = safe_next(_page_of(request), default="")
    return f"{target}?next={quote(back, safe='/')}" if back else target


def _is_page(login: str) -> bool:
    ordinary = is_plain(login) and not set(login) & set("?#")
    return login != "" and ordinary and safe_next(login, default="") == login


_NO_STORE = ("Cache-Control", "no-store")


def safe_next(text: str | None, default: str = "/") -> str:
    """The text where it is a path of this site, with or without a query; else the default.

    For the `next` that a login page was given: "//evil.example" and "/\\evil.example", which
    browsers read as another host, are refused, as is anything with a blank or a control character.
    """
    if text is not None and len(text) <= 2048 and _SAFE_NEXT.fullmatch(text):
        return text
    return default


def _page_of(request: Request) -> str:
    """The path to come back to: the page's own, which htmx names in a header; '' for none."""
    if request.header("hx-request") == "true":
        return _path_of(request.header("hx-current-url") or "")
    if request.method != "GET":
        return ""
    path = quote(_root(request) + request.path, safe="/-._~!$&'()*+,;=:@")
    return f"{path}?{request.query}" if request.query else path


def _root(request: Request) -> str:
    """What the app is mounted under; some write it with a slash at the end."""
    return request.root.rstrip("/")


def _path_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _is_navigation(request: Request) -> bool:
    """Whether a person is looking: a document that the browser was asked to show."""
    mode = request.header("sec-fetch-mode")
    if mode is not None:
        return mode == "navigate"
    if (request.header("x-requested-with") or "").lower() == "xmlhttprequest":
        return False
    return "text/html" in (request.header("accept") or "")


def unauthorized(*headers: tuple[str, str], challenge: str = "") -> Refused:
    # RFC 9110, section 11.6.1: a 401 must name a scheme; browsers show no dialog for this one.
    scheme = f'Session realm="login"{challenge}'
    return Refused(401, (("WWW-Authenticate", scheme), _NO_STORE, *headers))
