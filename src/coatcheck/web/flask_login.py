"""Flask-Login on our sessions: `connect_flask_login(app)`, after `login_manager.init_app(app)`.

Flask-Login keeps who is logged in as a value of the session, `_user_id`; here the session's subject
decides, and the value follows it. So what ends a session logs its user out, on every device by
`revoke_all` too, and `login_user` brings a fresh token.

There is no second cookie. `login_user(remember=True)` is `session.login(remember=True)`, which
keeps the session longer, and a remember cookie that a browser still has is not looked at: nothing
logs in a user whose session was revoked or has expired.
"""

import warnings
from datetime import timedelta
from typing import Any

from flask import Flask
from flask import session as flask_session
from flask_login import LoginManager, signals  # type: ignore[import-untyped]

from coatcheck.errors import ConfigurationError
from coatcheck.web.flask import CoatcheckSessionInterface
from coatcheck.web.pallets import PalletsSession, span

__all__ = ["connect_flask_login"]

_EXTENSION = "coatcheck.flask_login"
_KEYS = ("_user_id", "_fresh", "_id")
_NO_COOKIE = "no;cookie"  # no header can have it: the semicolon ends a cookie


def connect_flask_login(app: Flask, *, prefix: str = "") -> None:
    """Keep Flask-Login and the sessions of this app in step.

    The subject is `prefix` and what the user's `get_id()` returns. A subject that begins otherwise
    is nobody to Flask-Login. Raises `ConfigurationError` where the app has no `LoginManager` yet,
    or another session interface.
    """
    manager = getattr(app, "login_manager", None)
    if not isinstance(manager, LoginManager):
        raise _wrong("an app with a LoginManager", manager, "call login_manager.init_app(app)")
    interface = app.session_interface
    if not isinstance(interface, CoatcheckSessionInterface):
        remedy = "set app.session_interface = CoatcheckSessionInterface(sessions)"
        raise _wrong("a CoatcheckSessionInterface", interface, remedy)
    if _EXTENSION in app.extensions:
        raise _wrong("one call", "a second", "take one out")
    _forget_remember_cookie(app, manager, interface)
    _protect_users_only(manager)
    # The app keeps what its signals call, which keep no hold of it themselves.
    steps = app.extensions[_EXTENSION] = _Steps(manager, interface, prefix)
    for signal, step in [
        (signals.user_accessed, steps.align),
        (signals.user_logged_in, steps.log_in),
        (signals.user_login_confirmed, steps.confirm),
        (signals.user_logged_out, steps.log_out),
        (signals.session_protected, steps.protect),
    ]:
        signal.connect(step, app)


class _Steps:
    """What each signal of Flask-Login means to the session."""

    def __init__(self, manager: Any, interface: CoatcheckSessionInterface, prefix: str) -> None:
        self._manager = manager
        self._lifetime = interface.sessions.lifetime
        self._prefix = prefix

    def align(self, app: Flask, **more: Any) -> None:
        """The user is about to be loaded: the value follows the subject.

        Where there is a value alone, the app wrote it by hand, as FlaskLoginClient does: that is
        a login.
        """
        session = _session()
        if session is None:
            return
        user_id = session.get("_user_id")
        meant = None if user_id is None else self._subject(user_id)
        if session.subject is None and meant is not None:
            session.login(meant)
        elif session.subject is not None and session.subject != meant:
            self._take_over(session, session.subject)
        elif session.get("_fresh") and self._is_old(session):
            session["_fresh"] = False

    def log_in(self, app: Flask, **more: Any) -> None:
        session = _session()
        if session is None:
            return
        # Flask-Login says nothing of it otherwise, and leaves an older remember cookie alone too.
        remember = True if session.pop("_remember", None) == "set" else None
        duration = session.pop("_remember_seconds", None)
        if duration is not None and timedelta(seconds=duration) != span(self._lifetime.remember):
            _warn("login_user(duration=…)")
        kept = {key: session[key] for key in _KEYS}
        session.login(self._subject(kept["_user_id"]), remember=remember)
        session.update(kept)  # another user's values went, and these with them

    def confirm(self, app: Flask, **more: Any) -> None:
        """The password was asked for again, so it is a login again."""
        session = _session()
        if session is not None and session.subject is not None:
            session.login(session.subject)

    def log_out(self, app: Flask, **more: Any) -> None:
        session = _session()
        if session is not None and session.subject is not None:
            session.logout()

    def protect(self, app: Flask, **more: Any) -> None:
        """The client is another one; where that is to end the session, Flask-Login left a mark."""
        session = _session()
        if session is not None and session.get("_remember") == "clear":
            session.logout()

    def _subject(self, user_id: object) -> str:
        return f"{self._prefix}{user_id}"

    def _take_over(self, session: PalletsSession, subject: str) -> None:
        """The app logged in by `session.login`."""
        for key in _KEYS:
            session.pop(key, None)
        if subject.startswith(self._prefix):
            session["_user_id"] = subject.removeprefix(self._prefix)
            session["_fresh"] = True
            session["_id"] = self._manager._session_identifier_generator()

    def _is_old(self, session: PalletsSession) -> bool:
        """A remembered login is fresh for as long as one that is not remembered can last."""
        limit, since = span(self._lifetime.absolute), session.login_at
        return limit is not None and since is not None and session.opened_at - since > limit


def _session() -> PalletsSession | None:
    """The request's; None on a path in `skip=`."""
    found: object = flask_session._get_current_object()  # type: ignore[attr-defined]
    return found if isinstance(found, PalletsSession) else None


def _forget_remember_cookie(app: Flask, manager: Any, interface: CoatcheckSessionInterface) -> None:
    """Flask-Login looks for no cookie, and sets none; it would read each request's session."""
    duration = app.config.get("REMEMBER_COOKIE_DURATION")
    seconds = timedelta(seconds=duration) if isinstance(duration, int) else duration
    if duration is not None and seconds != span(interface.sessions.lifetime.remember):
        _warn("REMEMBER_COOKIE_DURATION")
    if app.config.get("REMEMBER_COOKIE_REFRESH_EACH_REQUEST"):
        _warn("REMEMBER_COOKIE_REFRESH_EACH_REQUEST")
    app.config["REMEMBER_COOKIE_NAME"] = _NO_COOKIE
    functions = app.after_request_funcs.get(None, [])
    functions[:] = [each for each in functions if getattr(each, "__self__", None) is not manager]


def _protect_users_only(manager: Any) -> None:
    """Flask-Login would mark, or end, the sessions in which nobody is its user, time and again."""
    has_failed = manager._session_protection_failed
    manager._session_protection_failed = lambda: "_user_id" in flask_session and has_failed()


def _warn(what: str) -> None:
    warnings.warn(
        f"{what}: expected nothing that says how long a user is remembered, got this, which has no "
        "effect; take it out, or give Sessions lifetime=Lifetime(remember=…)",
        RuntimeWarning,
        stacklevel=4,
    )


def _wrong(expected: str, got: object, remedy: str) -> ConfigurationError:
    shown = got if isinstance(got, str) else type(got).__name__
    return ConfigurationError(f"connect_flask_login: expected {expected}, got {shown}; {remedy}")
