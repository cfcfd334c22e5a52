"""Django: an app, a session engine and a middleware.

INSTALLED_APPS = [..., "coatcheck.web.django"]
MIDDLEWARE = [..., "coatcheck.web.django.SessionMiddleware", ...]
SESSION_ENGINE = "coatcheck.web.django"
SESSION_COOKIE_NAME = "__Host-sessionid"
SESSION_COOKIE_SECURE = True
COATCHECK_STORE = "redis://localhost:6379/0"
"""

from django.utils.safestring import SafeString  # type: ignore[import-untyped]

from coatcheck import values
from coatcheck.sessions import AsyncSessions, Sessions
from coatcheck.web.django.conf import configured
from coatcheck.web.django.csrf import CSRFMiddleware
from coatcheck.web.django.gate import LoginMiddleware, login_required
from coatcheck.web.django.middleware import SessionMiddleware
from coatcheck.web.django.store import SessionStore

__all__ = [
    "CSRFMiddleware",
    "LoginMiddleware",
    "SessionMiddleware",
    "SessionStore",
    "async_sessions",
    "login_required",
    "sessions",
]

values.register(SafeString, "django.SafeString", encode=str.__str__, decode=SafeString)


def sessions() -> Sessions:
    """What the settings say, to list and to revoke: a subject is `str(user.pk)`."""
    return configured().main.sync


def async_sessions() -> AsyncSessions:
    """`sessions` for asynchronous code."""
    return configured().main.asynchronous
