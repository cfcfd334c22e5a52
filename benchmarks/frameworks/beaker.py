"""Beaker, what WSGI apps have whose framework has no session; it is told to save."""

from collections.abc import Callable, Mapping
from typing import Any

from beaker.middleware import SessionMiddleware  # type: ignore[import-untyped]

from benchmarks.acts import Act, fill, write
from benchmarks.frameworks.place import DAY, SECRET, Build, Place

__all__ = ["beakers", "saving"]


def saving(act: Act) -> Act:
    def acted(session: Any) -> str:
        text = act(session)
        if act in (fill, write):
            session.save()
        return text

    return acted


def beakers(app: Callable[[], Any]) -> Mapping[str, Build]:
    """The app, whose views find `beaker.session` in the environ, with each of Beaker's kinds."""

    def build(options: Callable[[Place], dict[str, Any]]) -> Build:
        def made(place: Place) -> Any:
            settings = {"timeout": DAY, "lock_dir": f"{place.folder}/beaker", **options(place)}
            named = {f"session.{name}": value for name, value in settings.items()}
            return SessionMiddleware(app(), named)

        return made

    return {
        "Beaker, signed cookie": build(
            lambda place: {"type": "cookie", "validate_key": SECRET, "data_serializer": "json"}
        ),
        "Beaker, memory": build(lambda place: {"type": "memory"}),
        "Beaker, files": build(
            lambda place: {"type": "file", "data_dir": f"{place.folder}/beaker"}
        ),
        "Beaker, Redis": build(lambda place: {"type": "ext:redis", "url": place.redis}),
    }
