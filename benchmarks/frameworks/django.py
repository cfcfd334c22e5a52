"""Django: its own engines. Its settings are global, so that a process has one row."""

from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks.acts import OK, Act
from benchmarks.frameworks.place import ACTS, SECRET, Build, Place

__all__ = ["APPS"]

_SESSIONS = "django.contrib.sessions"


def _view(act: Act) -> Callable[[Any], HttpResponse]:
    return lambda request: HttpResponse(act(request.session), content_type="text/plain")


def _untouched(request: HttpRequest) -> HttpResponse:
    return HttpResponse(OK, content_type="text/plain")


urlpatterns = [
    *(path(name, _view(act)) for name, act in ACTS.items()),
    path("untouched", _untouched),
]


def _app(place: Place, middleware: str | None, apps: list[str], **chosen: Any) -> Any:
    """The middleware that counts a response's bytes is in every row, as in Django's template."""
    settings.configure(
        SECRET_KEY=SECRET,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[*([middleware] if middleware else []), "django.middleware.common.CommonMiddleware"],
        INSTALLED_APPS=apps,
        DATABASES={"default": _sqlite(place)},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        LOGGING_CONFIG=None,
    )
    for name, value in chosen.items():
        setattr(settings, name, value)
    django.setup()
    if apps:
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


def _engine(engine: str, cache: str | None = None, **chosen: Any) -> Build:
    def build(place: Place) -> Any:
        options = {name: value(place) for name, value in chosen.items()}
        if cache is not None:
            options["CACHES"] = {"default": {"BACKEND": cache, "LOCATION": place.redis}}
        options["SESSION_ENGINE"] = f"{_SESSIONS}.backends.{engine}"
        return _app(place, f"{_SESSIONS}.middleware.SessionMiddleware", [_SESSIONS], **options)

    return build


_REDIS, _DJANGO_REDIS = "django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache"

APPS: dict[str, Build] = {
    "bare": lambda place: _app(place, None, []),
    "signed cookie": _engine("signed_cookies"),
    "cache, memory": _engine("cache"),
    "database, SQLite": _engine("db"),
    "files": _engine("file", SESSION_FILE_PATH=lambda place: str(place.folder)),
    "cache, Redis": _engine("cache", _REDIS),
    "cache, django-redis": _engine("cache", _DJANGO_REDIS),
    "cached database, Redis": _engine("cached_db", _REDIS),
}
