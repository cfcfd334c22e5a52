"""Stores, one file each, and `from_url` for those who configure by URL.

memory:                      this process's memory
sqlite:///sessions.sqlite3   a file beside the current folder; four slashes for an absolute path
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from coatcheck.errors import ConfigurationError
from coatcheck.store import AsyncStore, Store

__all__ = ["async_from_url", "from_url"]


def from_url(url: str) -> Store:
    """The store that the URL names; raises `ConfigurationError`, which never shows a password."""
    return cast("Store", _made(url, prefix=""))


def async_from_url(url: str) -> AsyncStore:
    """`from_url` for asynchronous code."""
    return cast("AsyncStore", _made(url, prefix="Async"))


def _made(url: str, *, prefix: str) -> object:
    scheme = url.partition(":")[0] if isinstance(url, str) else ""
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"from_url: expected a URL that begins with one of {', '.join(_SCHEMES)}, "
            f"got one that begins with {scheme[:20]!r}; write it as 'sqlite:///sessions.sqlite3'"
        )
    return _SCHEMES[scheme](url, prefix)


def _memory(url: str, prefix: str) -> object:
    if url not in ("memory:", "memory://"):
        raise ConfigurationError(
            "from_url: expected 'memory:', got a URL with more parts; leave them out"
        )
    return _class("memory", prefix + "MemoryStore")()


def _sqlite(url: str, prefix: str) -> object:
    parts = urlsplit(url)
    path = unquote(parts.path[1:])
    if parts.netloc or parts.query or parts.fragment or not path:
        raise ConfigurationError(
            "from_url: expected 'sqlite:///path', got a URL with other parts; write three slashes "
            "and a path, four for an absolute one, with '?' and '#' in it as %3F and %23"
        )
    return _class("sqlite", prefix + "SQLiteStore")(path)


def _class(module: str, name: str) -> Callable[..., Any]:
    return cast("Callable[..., Any]", getattr(import_module(f"coatcheck.stores.{module}"), name))


_SCHEMES: dict[str, Callable[[str, str], object]] = {"memory": _memory, "sqlite": _sqlite}
