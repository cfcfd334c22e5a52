"""Where and with what was measured."""

import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["described", "versions"]

_PACKAGES = (
    "coatcheck",
    "starlette",
    "starsessions",
    "itsdangerous",
    "cryptography",
    "msgspec",
    "uvicorn",
    "h11",
    "httptools",
    "uvloop",
    "aiosqlite",
    "redis",
    "hiredis",
    "psycopg",
    "asyncpg",
    "pymemcache",
    "aiomcache",
    "flask",
    "flask-session",
    "quart",
    "django",
    "django-redis",
    "fastapi",
    "litestar",
    "falcon",
    "bottle",
    "beaker",
    "pyramid",
    "pyramid-session-redis",
    "aiohttp",
    "aiohttp-session",
    "tornado",
    "sanic",
    "waitress",
)


def described(command: str) -> str:
    """One paragraph, to stand above the tables."""
    packages = ", ".join(f"{name} {found}" for name, found in versions().items())
    day = datetime.now(UTC).date().isoformat()
    return (
        f"Measured on {day} by `{command}`: {os.cpu_count()} cores of {_processor()}, {_system()}, "
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; {packages}. Medians of interleaved rounds."
    )


def versions() -> dict[str, str]:
    """Of the packages that are installed; those that are not change what uvicorn runs on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)
