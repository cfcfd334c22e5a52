"""What is measured in each framework, and what is a pair.

A pair is what a framework's users have now, and what they would have instead: cookies stand beside
our cookie store, and beside our memory store too where the framework has nothing but cookies;
memory beside memory, Redis beside Redis, files and tables beside SQLite. Sanic has no session of
its own, and sanic-session sets no cookie on the Sanic of today, so it has no pair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "ALONE",
    "BARE",
    "FRAMEWORKS",
    "SCENARIOS",
    "Framework",
    "Protocol",
    "row",
    "wanted_rows",
]

Protocol: TypeAlias = Literal["wsgi", "asgi", "sanic", "aiohttp", "tornado"]
"""How the framework is called in process, and by which server it is served."""

BARE = "bare"
ALONE = "alone"
"""The column of what a bare app takes."""

SCENARIOS = {
    "read": "/read",
    "write": "/write",
    "untouched": "/untouched",
    "anonymous": "/untouched",
}
"""What is asked for; all but the anonymous bring their cookie."""

_COOKIE, _MEMORY, _SQLITE, _REDIS = (
    f"coatcheck, {store}" for store in ("cookie", "memory", "SQLite", "Redis")
)


@dataclass(frozen=True, slots=True)
class Framework:
    """`module` has the apps of all rows, by name."""

    module: str
    protocol: Protocol
    pairs: tuple[tuple[str, str], ...]
    """The peer's row, and ours."""
    alone: bool = False
    """Whether a process can hold only one of the rows: Django has global settings, and a second
    Sanic does not start."""
    others: tuple[str, ...] = ()
    """Rows without a peer."""

    def rows(self) -> list[str]:
        peers, ours = zip(*self.pairs, strict=True) if self.pairs else ((), ())
        return list(dict.fromkeys([BARE, *peers, *sorted(ours), *self.others]))


FRAMEWORKS: dict[str, Framework] = {
    "Flask": Framework(
        "flask",
        "wsgi",
        (
            ("signed cookie", _COOKIE),
            ("signed cookie", _MEMORY),
            ("Flask-Session, files", _SQLITE),
            ("Flask-Session, Redis", _REDIS),
        ),
    ),
    "Quart": Framework("quart", "asgi", (("signed cookie", _COOKIE), ("signed cookie", _MEMORY))),
    "Django": Framework(
        "django",
        "wsgi",
        (
            ("signed cookie", _COOKIE),
            ("cache, memory", _MEMORY),
            ("database, SQLite", _SQLITE),
            ("files", _SQLITE),
            ("cache, Redis", _REDIS),
            ("cache, django-redis", _REDIS),
            ("cached database, Redis", _REDIS),
        ),
        alone=True,
    ),
    "Starlette": Framework(
        "starlette",
        "asgi",
        (
            ("signed cookie", _COOKIE),
            ("signed cookie", _MEMORY),
            ("starsessions, memory", _MEMORY),
            ("starsessions, Redis", _REDIS),
        ),
    ),
    "FastAPI": Framework(
        "fastapi", "asgi", (("signed cookie", _COOKIE), ("signed cookie", _MEMORY))
    ),
    "Litestar": Framework(
        "litestar",
        "asgi",
        (
            ("encrypted cookie", _COOKIE),
            ("memory", _MEMORY),
            ("files", _SQLITE),
            ("Redis", _REDIS),
        ),
    ),
    "Falcon": Framework(
        "falcon",
        "wsgi",
        (
            ("Beaker, signed cookie", _COOKIE),
            ("Beaker, memory", _MEMORY),
            ("Beaker, files", _SQLITE),
            ("Beaker, Redis", _REDIS),
        ),
    ),
    "Bottle": Framework(
        "bottle",
        "wsgi",
        (
            ("signed cookie", _COOKIE),
            ("signed cookie", _MEMORY),
            ("Beaker, memory", _MEMORY),
            ("Beaker, files", _SQLITE),
            ("Beaker, Redis", _REDIS),
        ),
    ),
    "Pyramid": Framework(
        "pyramid",
        "wsgi",
        (
            ("signed cookie", _COOKIE),
            ("signed cookie", _MEMORY),
            ("pyramid-session-redis", _REDIS),
        ),
    ),
    "aiohttp": Framework(
        "aiohttp",
        "aiohttp",
        (
            ("aiohttp-session, encrypted cookie", _COOKIE),
            ("aiohttp-session, encrypted cookie", _MEMORY),
            ("aiohttp-session, Redis", _REDIS),
        ),
    ),
    "Tornado": Framework(
        "tornado", "tornado", (("signed cookie", _COOKIE), ("signed cookie", _MEMORY))
    ),
    "Sanic": Framework("sanic", "sanic", (), alone=True, others=(_COOKIE, _MEMORY)),
}


def row(framework: str, name: str) -> str:
    """What a row is called in the tables."""
    return f"{framework}: {name}"


def wanted_rows(wanted: Callable[[str], bool]) -> dict[str, list[str]]:
    """By framework, the rows that are wanted, with what they are compared with."""
    found = {}
    for name, framework in FRAMEWORKS.items():
        rows = framework.rows()
        chosen = {each for each in rows if wanted(row(name, each))}
        partners = {each for pair in framework.pairs if chosen & {*pair} for each in pair}
        if chosen:
            found[name] = [each for each in rows if each in {BARE} | chosen | partners]
    return found
