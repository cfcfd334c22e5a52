"""HTTP sessions for Python: sync and async, with one set of promises."""

from coatcheck.context import current
from coatcheck.cookie import Cookie
from coatcheck.errors import (
    CoatcheckError,
    Collision,
    ConfigurationError,
    Contention,
    CookieTooLarge,
    LoginRefused,
    SessionClosed,
    SessionTooLarge,
    StoreError,
    StoreUnavailable,
    UnsupportedValue,
)
from coatcheck.lifetime import Lifetime
from coatcheck.sealing import KeyRing
from coatcheck.session import Client, Flash, Session
from coatcheck.sessions import AsyncSessions, SessionInfo, Sessions

__all__ = [
    "AsyncSessions",
    "Client",
    "CoatcheckError",
    "Collision",
    "ConfigurationError",
    "Contention",
    "Cookie",
    "CookieTooLarge",
    "Flash",
    "KeyRing",
    "Lifetime",
    "LoginRefused",
    "Session",
    "SessionClosed",
    "SessionInfo",
    "SessionTooLarge",
    "Sessions",
    "StoreError",
    "StoreUnavailable",
    "UnsupportedValue",
    "current",
]
