"""Django: its own engines. Its settings are global, so that a process has one row."""

import os
from collections.abc import Callable
from typing import Any

import django  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.core.management import call_command  # type: ignore[import-untyped]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, SECRET, STORES, Build, Place, Store

__all__ = ["APPS"]

_SESSIONS = "django.contrib.sessions"
_COMMON = "django.middleware.common.CommonMiddleware"
_MEMORY = "django.core.cache.backends.locmem.LocMemCache"
_REDIS = "django.core.cache.backends.redis.RedisCache"
_DJANGO_REDIS = "django_redis.cache.RedisCache"


def _view(act: Act) -> Callable[[Any], HttpResponse]:
    return lambda request: HttpResponse(act(request.session), content_type="text/plain")


def _untouched(request: HttpRequest) -> HttpResponse:
    return HttpResponse(OK, content_type="text/plain")


urlpatterns = [
    *(path(name, _view(act)) for name, act in ACTS.items()),
    path("untouched", _untouched),
]


def _app(place: Place, sessions: str | None, middleware: str | None, **chosen: Any) -> Any:
    """What counts a response's bytes is in every row, as it is in every new project."""
    settings.configure(
        SECRET_KEY=SECRET,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[each for each in (middleware, _COMMON) if each],
        INSTALLED_APPS=[each for each in (sessions,) if each],
        DATABASES={"default": _sqlite(place)},
        LOGGING_CONFIG=None,
        **chosen,
    )
    django.setup()
    if sessions == _SESSIONS:
        call_command("migrate", verbosity=0)
    return get_wsgi_application()


def _sqlite(place: Place) -> dict[str, Any]:
    options = {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", "timeout": 60}
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{place.folder}/django.sqlite3",
        "OPTIONS": options,
        "CONN_MAX_AGE": None,
    }


def _engine(engine: str, cache: str = _MEMORY) -> Build:
    def build(place: Place) -> Any:
        return _app(
            place,
            _SESSIONS,
            f"{_SESSIONS}.middleware.SessionMiddleware",
            SESSION_ENGINE=f"{_SESSIONS}.backends.{engine}",
            SESSION_FILE_PATH=str(place.folder),
            CACHES={"default": {"BACKEND": cache, "LOCATION": place.redis}},
        )

    return build


def _coatcheck(store: Store) -> Build:
    def build(place: Place) -> Any:
        os.environ["COATCHECK_KEYS"] = SECRET
        cookie = "cookie:?keys=COATCHECK_KEYS&revocations=none"
        return _app(
            place,
            "coatcheck.web.django",
            "coatcheck.web.django.SessionMiddleware",
            SESSION_ENGINE="coatcheck.web.django",
            SESSION_COOKIE_NAME="__Host-sessionid",
            SESSION_COOKIE_SECURE=True,
            COATCHECK_STORE=cookie if store == "cookie" else place.url(store),
        )

    return build


APPS: dict[str, Build] = {
    "bare": lambda place: _app(place, None, None),
    "signed cookie": _engine("signed_cookies"),
    "cache, memory": _engine("cache"),
    "database, SQLite": _engine("db"),
    "files": _engine("file"),
    "cache, Redis": _engine("cache", _REDIS),
    "cache, django-redis": _engine("cache", _DJANGO_REDIS),
    "cached database, Redis": _engine("cached_db", _REDIS),
    **{f"coatcheck, {store}": _coatcheck(store) for store in STORES},
}
