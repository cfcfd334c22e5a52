"""System checks: `manage.py check` says which setting breaks a promise, and what to set instead.

coatcheck.E001   COATCHECK_STORE, or another setting of ours, leads nowhere
coatcheck.E002   SESSION_COOKIE_* would make a cookie that browsers drop or others can read
coatcheck.E003   SESSION_COOKIE_AGE is no lifetime
coatcheck.E004   MIDDLEWARE has not our SessionMiddleware, or Django's own beside it
coatcheck.E005   SESSION_ENGINE is not ours
coatcheck.E006   COATCHECK_GATE is no LoginGate, or no LoginMiddleware applies it in its place
coatcheck.W001   SESSION_SERIALIZER is set, and not used
coatcheck.W002   (--deploy) the sessions are in one process's memory
"""

from collections.abc import Callable
from typing import Any

from django.apps import apps  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.core.checks import Error, Warning  # type: ignore[import-untyped]  # noqa: A004
from django.utils.module_loading import import_string  # type: ignore[import-untyped]

from coatcheck.errors import ConfigurationError
from coatcheck.web.django import conf
from coatcheck.web.django.gate import LoginMiddleware
from coatcheck.web.django.middleware import SessionMiddleware
from coatcheck.web.django.store import SessionStore

__all__ = ["check_processes", "check_settings"]


def check_settings(app_configs: Any, **options: Any) -> list[Any]:
    """Everything that would otherwise fail, or be ignored, at the first request."""
    found = _failures("E002", conf.cookie) + _failures("E003", conf.lifetime)
    if not found:
        found += _failures("E001", _make_all)
    return [*found, *_middleware(), *_engine(), *_gate(), *_serializer()]


def check_processes(app_configs: Any, **options: Any) -> list[Any]:
    """What matters where several processes serve."""
    if _failures("E001", _make_all):
        return []
    if conf.configured().main.either.is_shared:
        return []
    return [
        Warning(
            "COATCHECK_STORE: expected a store that several processes share, got one process's "
            "memory, so users will seem to log out at random",
            hint="Use SQLite, Redis, or another shared store.",
            id="coatcheck.W002",
        )
    ]


def _failures(id: str, make: Callable[[], object]) -> list[Any]:
    try:
        make()
    except ConfigurationError as error:
        return [Error(str(error), id=f"coatcheck.{id}")]
    return []


def _make_all() -> None:
    """Also those kinds of sessions that only a server would ask for."""
    made = conf.configured()
    if made.main.threaded is not None:
        made.sync  # noqa: B018
    if made.main.awaited is not None:
        made.asynchronous  # noqa: B018
    if made.watch:
        made.main.asynchronous  # noqa: B018


def _middleware() -> list[Any]:
    ours = "coatcheck.web.django.SessionMiddleware"
    kinds = [_kind(path) for path in settings.MIDDLEWARE]
    if any(kind is not None and issubclass(kind, SessionMiddleware) for kind in kinds):
        stock = "django.contrib.sessions.middleware.SessionMiddleware"
        wrong, hint = stock in settings.MIDDLEWARE, f"Remove {stock!r}."
    else:
        wrong, hint = True, f"Put {ours!r} where Django's SessionMiddleware stands."
    if not wrong:
        return []
    return [
        Error(
            f"MIDDLEWARE: expected {ours} and no other SessionMiddleware: Django's own answers an "
            "outage with 500 and deletes the cookies that it does not know",
            hint=hint,
            id="coatcheck.E004",
        )
    ]


def _kind(path: str) -> type | None:
    try:
        found = import_string(path)
    except ImportError:
        return None  # Django says so itself
    return found if isinstance(found, type) else None


def _engine() -> list[Any]:
    store = _kind(f"{settings.SESSION_ENGINE}.SessionStore")
    if store is not None and issubclass(store, SessionStore):
        return []
    return [
        Error(
            f"SESSION_ENGINE: expected 'coatcheck.web.django', got {settings.SESSION_ENGINE!r}; "
            "logging in by the test client and clearsessions would use other sessions",
            id="coatcheck.E005",
        )
    ]


def _gate() -> list[Any]:
    kinds = [_kind(path) or object for path in settings.MIDDLEWARE]
    gates = [kind for kind in kinds if issubclass(kind, LoginMiddleware)]
    if not gates:
        return _unapplied() if getattr(settings, "COATCHECK_GATE", None) is not None else []
    inside = kinds[kinds.index(gates[0]) :]
    late = [kind.__name__ for kind in inside if issubclass(kind, _before_the_gate())]
    if late:
        return _misplaced(" and ".join(late))
    return _failures("E006", conf.gate) if any(kind.gate is None for kind in gates) else []


def _before_the_gate() -> tuple[type, ...]:
    if not apps.is_installed("django.contrib.auth"):
        return (SessionMiddleware,)
    users = _kind("django.contrib.auth.middleware.AuthenticationMiddleware")
    return (SessionMiddleware, users or SessionMiddleware)


def _misplaced(late: str) -> list[Any]:
    return [
        Error(
            f"MIDDLEWARE: expected LoginMiddleware after {late}, got it before: it would find no "
            "session, or not ask Django whether the user is still there",
            hint="Put it below.",
            id="coatcheck.E006",
        )
    ]


def _unapplied() -> list[Any]:
    return [
        Error(
            "COATCHECK_GATE: expected LoginMiddleware in MIDDLEWARE, got none, so every page is "
            "open",
            hint="Add 'coatcheck.web.django.LoginMiddleware', or take the setting out.",
            id="coatcheck.E006",
        )
    ]


def _serializer() -> list[Any]:
    if not settings.is_overridden("SESSION_SERIALIZER"):
        return []
    return [
        Warning(
            "SESSION_SERIALIZER: expected Django's default, got another, which is not used: "
            "values are kept exactly, and further types by coatcheck.values.register",
            id="coatcheck.W001",
        )
    ]
