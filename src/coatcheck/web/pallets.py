"""What Flask and Quart share: the session as their users and extensions know it, and the settings.

Both keep the cookie's attributes and its age in `app.config`. Ours are on `Sessions`, so what was
set there and says otherwise is warned about, with what to do.
"""

import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NoReturn

from flask.sessions import NullSession, SessionMixin
from msgspec.structs import replace

from coatcheck.cookie import Cookie
from coatcheck.errors import ConfigurationError
from coatcheck.gate import Refused
from coatcheck.lifetime import Lifetime, Span, milliseconds
from coatcheck.login import Login
from coatcheck.record import Body
from coatcheck.session import Flash, Session
from coatcheck.state import Origin
from coatcheck.web.exchange import Head
from coatcheck.web.headers import merge_str
from coatcheck.web.messages import packed, unpacked

__all__ = [
    "Advice",
    "CookieFacts",
    "PalletsSession",
    "SkippedSession",
    "refuse",
    "span",
    "write_head",
]

_FLASHES = "_flashes"
_PERMANENCE = "_permanent"  # where Flask keeps it, too


class PalletsSession(Session, SessionMixin):
    """A `Session` that is a `SessionMixin` too: what `flask.session` and `quart.session` stand for.

    The messages of `flash()` and `get_flashed_messages()` are the session's own, so that two
    requests that leave one at a time lose none.
    """

    _used = False
    _was_modified = False  # by what is committed
    _permanent: bool | None = None  # what this request asked for
    _asked_to_remember = False  # by the login itself

    def __init__(self, session: Session) -> None:
        self.__dict__ = session.__dict__  # another face of the same session

    @property
    def permanent(self) -> bool:
        """Whether this request, or the one that logged in, asked for a permanent session.

        Set to True, it makes a login of this request one with `remember=True`.
        """
        return bool(self.get(_PERMANENCE) if self._permanent is None else self._permanent)

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if self._closed:
            self._change()  # which says that it comes too late
        self._permanent = bool(value)
        if self._login is not None:
            self._remember(self._login)

    def login(self, subject: str, *, remember: bool | None = None, **options: Any) -> None:
        super().login(subject, remember=remember, **options)
        if self._login is not None:
            self._asked_to_remember = self._login.remember
            self._remember(self._login)

    def _remember(self, login: Login) -> None:
        remember = self._asked_to_remember or self._permanent is True
        self._login = replace(login, remember=remember)
        if self._permanent:
            self[_PERMANENCE] = True
        else:
            self.pop(_PERMANENCE, None)

    def has_lost_permanence(self) -> bool:
        """Whether the request asked for a permanent session, and this one is no remembered one."""
        return self._permanent is True and self._origin is not None and not self._is_remembered()

    def _is_remembered(self) -> bool:
        if self._login is not None:
            return self._login.remember
        return self._origin is not None and self._origin.head.remember

    @property
    def new(self) -> bool:  # type: ignore[override]
        """`is_new`: whether the store does not hold this session yet."""
        return self.is_new

    @property
    def modified(self) -> bool:
        """Whether this request changed anything so far. It may be set, as Flask's users do after a
        change in place; such a change is noticed without."""
        self._use()
        begun = self._origin is None and self._exists()
        changed = self._was_modified or begun or self._is_changed() or self._said_goodbye
        return changed or bool(self._edits.changed_in_place())

    @modified.setter
    def modified(self, value: bool) -> None: ...

    @property
    def accessed(self) -> bool:
        """Whether anything of the session was read or changed. Setting it does nothing: Flask sets
        it wherever `flask.session` is named, for `session.permanent = True` too."""
        return self._used

    @accessed.setter
    def accessed(self, value: bool) -> None: ...

    def _use(self) -> None:
        self._used = True
        super()._use()

    def _committed(self, origin: Origin, stored: Body) -> None:
        self._was_modified = self._was_modified or self._origin is None or self._is_changed()
        super()._committed(origin, stored)

    def flash(self, text: Any, category: str = "info") -> None:
        """Leave a message for the next page: text, or any value that a session can keep."""
        super().flash(*packed(text, category))

    def flashes(self) -> list[Flash]:
        return [Flash(*unpacked(text, category)) for text, category in super().flashes()]

    # `flash()` of the frameworks reads the list of messages, appends to it and assigns it.

    def __contains__(self, key: object) -> bool:
        return bool(self._messages()) if key == _FLASHES else super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        if key != _FLASHES:
            return super().__getitem__(key)
        if messages := self._messages():
            return messages
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key != _FLASHES:
            super().__setitem__(key, value)
            return
        there, wanted = self._messages(), [tuple(message) for message in value]
        if wanted[: len(there)] != there:
            self.flashes()
            there = []
        for category, text in wanted[len(there) :]:
            self.flash(text, category)

    def __delitem__(self, key: str) -> None:
        if key != _FLASHES:
            super().__delitem__(key)
        elif not self.flashes():
            raise KeyError(key)

    def _messages(self) -> list[tuple[str, Any]]:
        """What is unread, as the frameworks keep it: category and message."""
        self._use()
        unread = (*self._unread(), *self._flashed)
        return [unpacked(text, category)[::-1] for _, category, text in unread]


class SkippedSession(NullSession):
    """What a request on a path in `skip=` has: always empty, and not to be changed."""

    def _fail(self, *args: Any, **options: Any) -> NoReturn:
        raise ConfigurationError(
            "session: expected a change on a path that has a session, got one on a path in skip=; "
            "take the path out of skip="
        )

    __setitem__ = __delitem__ = clear = pop = popitem = update = setdefault = _fail


class CookieFacts:
    """What extensions ask a session interface about its cookie, answered from `Sessions`."""

    _cookie: Cookie

    def get_cookie_name(self, app: Any) -> str:
        return self._cookie.full_name

    def get_cookie_domain(self, app: Any) -> str | None:
        return self._cookie.domain

    def get_cookie_path(self, app: Any) -> str:
        return self._cookie.path

    def get_cookie_httponly(self, app: Any) -> bool:
        return True

    def get_cookie_secure(self, app: Any) -> bool:
        return self._cookie.secure

    def get_cookie_samesite(self, app: Any) -> str:
        return self._cookie.samesite.title()

    def get_cookie_partitioned(self, app: Any) -> bool:
        return self._cookie.partitioned

    def get_expiration_time(self, app: Any, session: Any) -> datetime | None:
        return session.expires_at  # type: ignore[no-any-return]


def write_head(response: Any, head: Head) -> None:
    """Put what the response owes into it; where an answer goes out in its place, that too."""
    if head.refused is not None:
        refuse(response, head.refused)
    if head.vary:
        merged = merge_str(list(response.headers), head)
        response.headers.clear()
        response.headers.extend(merged)


def refuse(response: Any, refused: Refused) -> None:
    """Make this answer of a response of Flask, Quart or Werkzeug."""
    response.headers.clear()
    response.headers.extend([*refused.headers, ("Content-Type", "text/plain; charset=utf-8")])
    response.status_code = refused.status
    response.set_data(refused.body)


class Advice:
    """Warns, once each, of what an app says in Flask's words and the sessions do not do."""

    def __init__(self, cookie: Cookie, lifetime: Lifetime) -> None:
        self._cookie = cookie
        self._lifetime = lifetime
        self._has_told = lifetime.remember in (lifetime.idle, lifetime.absolute)

    def on_settings(self, app: Any) -> None:
        """Of each setting in `app.config` that is not the default and says what is not so."""
        for setting, got, ours, remedy in _contradictions(app, self._cookie, self._lifetime):
            _warn(
                f"{setting}: expected {ours!r}, as the sessions have it, got {got!r}, which has "
                f"no effect; {remedy}"
            )

    def on_permanence(self, session: Session) -> None:
        """Of a `session.permanent = True` that made no login a remembered one."""
        if self._has_told or not isinstance(session, PalletsSession):
            return
        if session.has_lost_permanence():
            self._has_told = True
            _warn(
                "session.permanent: expected to be set in a request that logs in, which it makes "
                "a remembered one, got one without a login, where it has no effect; how long a "
                "session lives is Sessions(lifetime=Lifetime(…))"
            )


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _contradictions(
    app: Any, cookie: Cookie, lifetime: Lifetime
) -> Iterator[tuple[str, object, object, str]]:
    path = "SESSION_COOKIE_PATH" if app.config["SESSION_COOKIE_PATH"] else "APPLICATION_ROOT"
    rows: list[tuple[Any, ...]] = [
        ("SESSION_COOKIE_NAME", "Cookie(name)", cookie.name, cookie.full_name),
        ("SESSION_COOKIE_DOMAIN", "Cookie(domain=…)", cookie.domain, f".{cookie.domain}"),
        (path, "Cookie(path=…)", cookie.path),
        ("SESSION_COOKIE_SECURE", "Cookie() and no Cookie.insecure", cookie.secure),
        ("SESSION_COOKIE_SAMESITE", "Cookie(samesite=…)", cookie.samesite.title()),
        ("SESSION_COOKIE_PARTITIONED", "Cookie(partitioned=…)", cookie.partitioned),
    ]
    for setting, option, *fits in rows:
        got = app.config.get(setting)
        if got != app.default_config.get(setting) and got not in fits:
            yield setting, got, fits[0], f"take it out, or give Sessions cookie={option}"
    if not app.config["SESSION_COOKIE_HTTPONLY"]:
        yield "SESSION_COOKIE_HTTPONLY", False, True, "take it out; no script may read the cookie"
    got = app.permanent_session_lifetime
    limits = (lifetime.idle, lifetime.absolute, lifetime.remember)
    is_default = got == app.default_config["PERMANENT_SESSION_LIFETIME"]
    if not is_default and got not in [span(limit) for limit in limits]:
        remedy = "take it out, or give Sessions lifetime=Lifetime(idle=…, absolute=…, remember=…)"
        yield "PERMANENT_SESSION_LIFETIME", str(got), lifetime, remedy


def span(limit: Span) -> timedelta | None:
    """One of a `Lifetime`'s limits."""
    found = milliseconds("limit", limit)
    return None if found is None else timedelta(milliseconds=found)
