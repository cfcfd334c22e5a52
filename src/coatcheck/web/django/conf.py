"""What Django's settings say, as `Sessions` and `AsyncSessions`.

A process may serve WSGI and ASGI, or run a synchronous view under either, so both kinds are made of
`COATCHECK_STORE`: of a URL two stores that meet in one place, and of a dotted path whatever is
there. Stores are made once in a process, sessions anew when a test overrides a setting.
"""

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from django.conf import settings  # type: ignore[import-untyped]
from django.core.signals import setting_changed  # type: ignore[import-untyped]
from django.utils.module_loading import import_string  # type: ignore[import-untyped]

from coatcheck.cookie import Cookie
from coatcheck.errors import ConfigurationError
from coatcheck.gate import LoginGate
from coatcheck.lifetime import Lifetime
from coatcheck.sessions import AsyncSessions, Sessions
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.web.django.pairs import Configured, Pair, paired

__all__ = [
    "configured",
    "cookie",
    "gate",
    "lifetime",
    "main",
    "named",
    "options",
    "sweep",
    "watch",
]

_making = threading.Lock()
_made: Configured | None = None


def configured() -> Configured:
    """What the settings say now. Raises `ConfigurationError`."""
    return _made or _make()


def _make() -> Configured:
    global _made
    with _making:
        if _made is None:
            client = getattr(settings, "COATCHECK_CLIENT", None)
            _made = Configured(
                main(),
                named(),
                skip=getattr(settings, "COATCHECK_SKIP", ()),
                client=_imported("COATCHECK_CLIENT", client) if client else None,
                sweep=sweep(),
                watch=watch(),
            )
        return _made


def _forget(*, setting: str, **details: Any) -> None:
    """A test overrides a setting: what was made of the old one is made anew."""
    global _made
    if setting.startswith(("SESSION_", "COATCHECK_")) and _made is not None:
        for sweeper in _made.sweepers:
            sweeper.stop()
        _made = None


setting_changed.connect(_forget, dispatch_uid="coatcheck")


def main() -> Pair:
    """The sessions of `COATCHECK_STORE`."""
    place = getattr(settings, "COATCHECK_STORE", None)
    if not isinstance(place, str) or not place:
        raise ConfigurationError(
            "COATCHECK_STORE: expected a store's URL, or the dotted path of a Sessions, got "
            f"{type(place).__name__}; set it, as to 'sqlite:////var/lib/site/sessions.sqlite3'"
        )
    if ":" not in place:
        return _found("COATCHECK_STORE", place, settings.SESSION_COOKIE_NAME)
    given: dict[str, Any] = {"lifetime": lifetime(), **options(), "cookie": cookie()}
    threaded, awaited = _stores(place)
    return Pair(Sessions(threaded, **given), AsyncSessions(awaited, **given))


@cache
def _stores(url: str) -> tuple[Any, Any]:
    """One for each kind of code. They live as long as the process, as a database's connections."""
    threaded = from_url(url)
    if isinstance(threaded, MemoryStore):
        return threaded, AsyncMemoryStore(threaded)
    return threaded, async_from_url(url)


def named() -> dict[str, Pair]:
    """The further sessions of `COATCHECK_NAMED`."""
    paths: Mapping[str, str] = getattr(settings, "COATCHECK_NAMED", {})
    return {name: _found(f"COATCHECK_NAMED[{name!r}]", path) for name, path in paths.items()}


def _found(setting: str, path: str, cookie_name: str | None = None) -> Pair:
    found = _imported(setting, path)
    pair = paired(setting, found)
    for each in pair:
        if each is not None and cookie_name not in (None, each.cookie.full_name):
            raise ConfigurationError(
                f"SESSION_COOKIE_NAME: expected {each.cookie.full_name!r}, the cookie of "
                f"{path}, got {cookie_name!r}; Django's test client reads it: make them agree"
            )
    return pair


def cookie() -> Cookie:
    """The cookie of `SESSION_COOKIE_*`."""
    if not settings.is_overridden("SESSION_COOKIE_SECURE"):
        raise ConfigurationError(
            "SESSION_COOKIE_SECURE: expected a decision, got Django's default, which sends the "
            "cookie over plain HTTP too; set True, or False where there is no HTTPS"
        )
    if not settings.SESSION_COOKIE_HTTPONLY:
        raise ConfigurationError(
            "SESSION_COOKIE_HTTPONLY: expected True, got False; no script needs the cookie: give "
            "pages what they need in another way"
        )
    kind = Cookie if settings.SESSION_COOKIE_SECURE else Cookie.insecure
    # Django's documentation writes ".example.com", where the dot has no meaning any more.
    domain = (settings.SESSION_COOKIE_DOMAIN or "").removeprefix(".") or None
    made = kind(
        settings.SESSION_COOKIE_NAME,
        domain=domain,
        path=settings.SESSION_COOKIE_PATH,
        samesite=settings.SESSION_COOKIE_SAMESITE,
        persistent=not settings.SESSION_EXPIRE_AT_BROWSER_CLOSE,
    )
    if made.full_name != settings.SESSION_COOKIE_NAME:
        raise ConfigurationError(
            f"SESSION_COOKIE_NAME: expected {made.full_name!r}, a name by which browsers refuse "
            f"what others plant, got {settings.SESSION_COOKIE_NAME!r}; set it so"
        )
    return made


def lifetime() -> Lifetime:
    """A session ends `SESSION_COOKIE_AGE` after it was last used, and after its login too, unless
    `SESSION_SAVE_EVERY_REQUEST` says that one in use goes on."""
    age = settings.SESSION_COOKIE_AGE
    return Lifetime(idle=age, absolute=None if settings.SESSION_SAVE_EVERY_REQUEST else age)


_KNOWN = {"clear_site_data", "clock", "lifetime", "limit", "max_bytes", "name"}
_KNOWN |= {"on_event", "outage", "over_limit", "renew_after"}


def options() -> dict[str, Any]:
    """`COATCHECK_OPTIONS`: what else `Sessions` takes."""
    given = dict(getattr(settings, "COATCHECK_OPTIONS", {}))
    unknown = sorted(set(given) - _KNOWN)
    if unknown:
        raise ConfigurationError(
            f"COATCHECK_OPTIONS: expected some of {sorted(_KNOWN)}, got {unknown}; the cookie is "
            "what SESSION_COOKIE_* say"
        )
    return given


def sweep() -> float | None:
    """`COATCHECK_SWEEP`: how often, in seconds, what expired is removed; None leaves it to you."""
    seconds: float | None = getattr(settings, "COATCHECK_SWEEP", 600.0)
    return seconds


def watch() -> bool:
    """`COATCHECK_WATCH`: whether streams of events end with their session, under ASGI."""
    given = getattr(settings, "COATCHECK_WATCH", False)
    if not isinstance(given, bool):
        raise ConfigurationError(
            f"COATCHECK_WATCH: expected True or False, got {type(given).__name__}; with True a "
            "response of text/event-stream ends with its session, under ASGI"
        )
    return given


def gate() -> LoginGate:
    """The rule of `COATCHECK_GATE`, for `LoginMiddleware`."""
    path = getattr(settings, "COATCHECK_GATE", None)
    found = _imported("COATCHECK_GATE", path) if isinstance(path, str) else path
    if isinstance(path, str) and isinstance(found, LoginGate):
        return found
    raise ConfigurationError(
        f"COATCHECK_GATE: expected the dotted path of a LoginGate, got {type(found).__name__}; "
        "make one, as gate = LoginGate(login='/login/'), and write 'mysite.web.gate'"
    )


def _imported(setting: str, path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise ConfigurationError(
            f"{setting}: expected a dotted path that can be imported, got {path!r}: {error}; "
            "write it as 'mysite.web.sessions'"
        ) from error
