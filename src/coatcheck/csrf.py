"""Cross-site request forgery: a rule over a request's facts, and a token. It knows no framework.

A browser says in `Sec-Fetch-Site` who made a request: this origin, another one, or the user. Pages
cannot set that header, so it decides wherever it comes. Browsers send it to HTTPS and localhost
only, and old ones not at all; there `Origin` must name the host that was asked for. A request with
neither header comes from an old browser or from none: it passes, unless the rule is strict. That is
the algorithm of Go 1.25's `http.CrossOriginProtection` (https://words.filippo.io/csrf/), and what
OWASP's cheat sheet on CSRF has under "Fetch Metadata".

Safe methods pass (RFC 9110, 9.2.1), but not a WebSocket: its handshake is a GET that carries the
cookie, and no policy of browsers keeps another origin from reading what is said over it.

A token, which only pages of the session know, is a second line for those who want one: for old
browsers, of which some forms come with neither header. Nothing here reads `X-Forwarded-Host`.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.event_log import structured
from coatcheck.gate import Refused, Request
from coatcheck.paths import Patterns
from coatcheck.session import Session

__all__ = ["FIELD", "HEADER", "CrossOriginProtection", "async_check", "check"]

HEADER: Final = "x-csrf-token"
"""The header of a script's request that carries the session's token; in lower case."""
FIELD: Final = "csrf_token"
"""The field of a form that carries it."""

_logger = logging.getLogger("coatcheck")

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_WEB: Final = frozenset({"http", "https"})
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_LONGEST: Final = 300  # a host has 253 characters at most (RFC 1035)
_AUTHORITY: Final = r"(?P<host>[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://" + _AUTHORITY)


class CrossOriginProtection:
    """Which requests other sites may not make in a user's name.

    `trusted_origins` are those whose pages may, exactly, as `"https://app.example"`; so is this
    site's own, where a proxy rewrites `Host`. Paths in `skip` are not protected at all: for
    webhooks, which prove by other means who calls. `strict` refuses a request that says by neither
    header where it comes from, as OWASP recommends; clients that are no browsers then have to send
    `Origin`. With `tokens`, a request must carry the session's `csrf_token` too. Raises
    `ConfigurationError`.
    """

    def __init__(
        self,
        *,
        trusted_origins: Iterable[str] = (),
        skip: Iterable[str] = (),
        strict: bool = False,
        tokens: bool = False,
    ) -> None:
        if isinstance(trusted_origins, str) or not isinstance(trusted_origins, Iterable):
            raise _not_an_origin(trusted_origins)
        self.strict = strict
        self.tokens = tokens
        self._trusted = frozenset(_trusted(each) for each in trusted_origins)
        self._skip = Patterns("CrossOriginProtection(skip=…)", skip)

    def judge(self, request: Request) -> Refused | None:
        """The answer to a request of another origin; None for one that may go on.

        It looks at no session, so it can be asked before one is opened.
        """
        if self.is_exempt(request) or self._is_of_this_origin(request) or self._trusts(request):
            return None
        _log(request)
        return _refuse("cross-origin request")

    def judge_token(self, session: object, text: str | None) -> Refused | None:
        """The answer to a request that has not this session's token; None where it has.

        `session` is what the request holds in the session's place; `ConfigurationError` where that
        is none. In an outage nobody can tell, which raises `StoreUnavailable`.
        """
        if not isinstance(session, Session):
            raise ConfigurationError(
                "CrossOriginProtection(tokens=True): expected a session in the request, got "
                f"{type(session).__name__}; put the check inside SessionMiddleware (or what stands "
                "for it in your framework), and make skip= of what is in the sessions' skip="
            )
        if session.degraded:
            raise StoreUnavailable("CSRF token: expected a store that answers, got an outage")
        return None if session.check_csrf(text) else _refuse("CSRF token")

    def wants_token(self, request: Request) -> bool:
        """Whether this request is one that must carry a token. A WebSocket has no form."""
        return self.tokens and not _is_websocket(request) and not self.is_exempt(request)

    def is_exempt(self, request: Request) -> bool:
        """Whether nothing is asked of it: a safe method, or a path in `skip=`."""
        is_safe = request.method in _SAFE and not _is_websocket(request)
        return is_safe or self._skip.match(request.path)

    def _is_of_this_origin(self, request: Request) -> bool:
        site = request.header("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = request.header("origin")
        if origin is None:
            return not self.strict
        # The request's own scheme is unknown behind a proxy: http://host may pass for https://host.
        # Browsers that send no Sec-Fetch-Site to HTTPS are older than 2023; HSTS helps them.
        return _names_host(origin, request.header("host"))

    def _trusts(self, request: Request) -> bool:
        return _normal(request.header("origin") or "") in self._trusted


def check(
    rule: CrossOriginProtection,
    request: Request,
    session: object,
    field: Callable[[], str | None],
) -> Refused | None:
    """Apply the rule: the answer to give, or None where the request may go on.

    `field` reads the form's field of that name; it is called where a token is needed and no header
    carries one, or an empty one. Without `tokens` neither it nor the session is looked at.
    """
    refused = rule.judge(request)
    if refused is not None or not rule.wants_token(request):
        return refused
    return rule.judge_token(session, request.header(HEADER) or field())


async def async_check(
    rule: CrossOriginProtection,
    request: Request,
    session: object,
    field: Callable[[], Awaitable[str | None]],
) -> Refused | None:
    """`check` where reading a form takes waiting."""
    refused = rule.judge(request)
    if refused is not None or not rule.wants_token(request):
        return refused
    return rule.judge_token(session, request.header(HEADER) or await field())


def _is_websocket(request: Request) -> bool:
    """A handshake has no method under ASGI; elsewhere it is an upgraded GET, and some servers take
    other safe methods for one. An upgrade of any other method is looked at as what it is."""
    if request.method in _SAFE:
        return "websocket" in (request.header("upgrade") or "").lower()
    return request.method == ""


def _log(request: Request) -> None:
    """For whoever asks why a form is refused. It is no event: no session is concerned."""
    if _logger.isEnabledFor(logging.DEBUG):
        asked = {name: request.header(name) for name in ("origin", "host", "sec-fetch-site")}
        fields = {name.replace("-", "_"): text for name, text in asked.items() if text is not None}
        _logger.debug("%s", structured("cross_origin_refused", {"path": request.path, **fields}))


def _refuse(what: str) -> Refused:
    headers = (("Vary", "Sec-Fetch-Site, Origin"), ("Cache-Control", "no-store"))
    return Refused(403, headers, f"Forbidden: {what}")


def _normal(origin: str) -> str | None:
    """The origin as browsers write it; None for what is none, such as "null"."""
    is_plain = len(origin) <= _LONGEST and origin.isascii()
    found = _ORIGIN.fullmatch(origin.lower()) if is_plain else None
    if found is None:
        return None
    scheme, host, port = found["scheme"], found["host"], found["port"]
    is_default = port is None or port == _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}" if is_default else f"{scheme}://{host}:{port}"


def _names_host(origin: str, host: str | None) -> bool:
    """Whether it is an origin of the web with the host that was asked for."""
    found = _normal(origin)
    scheme = "" if found is None else found.partition(":")[0]
    return scheme in _WEB and host is not None and found == _normal(f"{scheme}://{host}")


def _trusted(origin: object) -> str:
    normal = _normal(origin) if isinstance(origin, str) else None
    if normal is None:
        raise _not_an_origin(origin)
    return normal


def _not_an_origin(got: object) -> ConfigurationError:
    return ConfigurationError(
        "CrossOriginProtection: expected trusted_origins to be a list of scheme://host[:port] as "
        f"browsers send them, got {got!r}; write them as in ['https://app.example'], without a "
        "path or a wildcard, and names outside ASCII in punycode"
    )
