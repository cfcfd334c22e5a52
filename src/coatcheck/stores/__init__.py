"""Stores, one file each, and `from_url` for those who configure by URL.

memory:                                  this process's memory
sqlite:///sessions.sqlite3               a file beside the current folder; four slashes: absolute
file:///sessions                         a folder of files, likewise
redis://host:6379/0                      Redis or Valkey; rediss:// over TLS, unix:///path by socket
redis+sentinel://host,host/name/0        the master that Sentinels know by that name
redis+cluster://host,host                a Cluster, found from any of its nodes
postgresql://user@host/database          PostgreSQL
memcached://host:11211                   Memcached
cookie:?keys=COATCHECK_KEYS&revocations=none   sealed cookies, with keys from the environment

`valkey` may stand for `redis`, and `postgres` for `postgresql`. Each store's page has its options.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from coatcheck.errors import ConfigurationError
from coatcheck.sealing import KeyRing
from coatcheck.stores._url import StoreURL

if TYPE_CHECKING:
    from coatcheck.store import AsyncCarrierStore, AsyncStore, CarrierStore, Store

__all__ = ["async_from_env", "async_from_url", "from_env", "from_url"]

_REDIS = [
    base + topology
    for base in ("redis", "rediss", "valkey", "valkeys")
    for topology in ("", "+sentinel", "+cluster")
]
_MODULES = {
    "memory": "memory",
    "sqlite": "sqlite",
    "file": "file",
    **dict.fromkeys([*_REDIS, "unix"], "redis"),
    "postgresql": "postgres",
    "postgres": "postgres",
    "memcached": "memcached",
    "cookie": "cookie",
}


def from_url(url: str) -> "Store | CarrierStore":
    """The store that the URL names, with time-outs that are safe; it opens nothing yet.

    Raises `ConfigurationError`, which never shows a password, for a URL that cannot be, and where
    the store's driver is not installed.
    """
    return cast("Store | CarrierStore", _made(url, "from_url"))


def async_from_url(url: str) -> "AsyncStore | AsyncCarrierStore":
    """`from_url` for asynchronous code."""
    return cast("AsyncStore | AsyncCarrierStore", _made(url, "async_from_url"))


def from_env(variable: str = "COATCHECK_STORE") -> "Store | CarrierStore":
    """`from_url` with the URL that an environment variable holds; it must be set."""
    return from_url(_from_environment(variable))


def async_from_env(variable: str = "COATCHECK_STORE") -> "AsyncStore | AsyncCarrierStore":
    """`from_env` for asynchronous code."""
    return async_from_url(_from_environment(variable))


def _from_environment(variable: str) -> str:
    url = os.environ.get(variable, "")
    if not url:
        raise ConfigurationError(
            f"from_env: expected the environment variable {variable} to hold a store's URL, got "
            "none; set it, as to sqlite:////var/lib/app/sessions.sqlite3"
        )
    return url


def _made(url: str, maker: str) -> Any:
    parsed = StoreURL(url if isinstance(url, str) else "")
    scheme = parsed.scheme
    if scheme not in _MODULES:  # which is not shown: without a scheme, a password may come first
        raise ConfigurationError(
            f"from_url: expected a URL that begins with one of {', '.join(_MODULES)}, "
            "got another; write it as 'sqlite:///sessions.sqlite3'"
        )
    try:
        module = import_module(f"coatcheck.stores.{_MODULES[scheme]}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(str(error)) from error
    store = _carrier(parsed, maker) if scheme == "cookie" else getattr(module, maker)(parsed)
    parsed.done()
    return store


def _carrier(url: StoreURL, maker: str) -> object:
    """cookie:?keys=VARIABLE&revocations=none, or another store's URL, quoted, for revocations."""
    cookie = import_module("coatcheck.stores.cookie")
    if url.hosts or url.path or url.user:
        url.refuse("'cookie:?…'", "a URL with more parts", "leave them out")
    variable = url.text("keys", "COATCHECK_KEYS") or ""
    keys = os.environ.get(variable, "").replace(",", " ").split()
    if not keys:
        url.refuse(
            f"the environment variable {variable!r} to hold keys, the newest first",
            "none",
            "set it to what `coatcheck key` prints, or name another with keys=",
        )
    revocations = url.text("revocations")
    if revocations is None:
        url.refuse(
            "revocations=",
            "none",
            "give the quoted URL of the store that keeps which sessions ended, or revocations=none "
            "where a copied cookie may go on after logout",
        )
    kept = None if revocations == "none" else _made(revocations, maker)
    kind = cookie.CookieStore if maker == "from_url" else cookie.AsyncCookieStore
    return kind(KeyRing(*keys), revocations=kept)
