"""The store's options, checked, from arguments or from a URL."""

from typing import Any, NamedTuple

from coatcheck.errors import ConfigurationError
from coatcheck.stores._url import CALL, CONNECT, StoreURL, seconds

__all__ = ["POOL", "PREFIX", "Options", "checked_prefix", "options_of_url"]

PREFIX = "coatcheck:"
POOL = 50

_MOST_CONNECTIONS = 10_000
_MOST_REPLICAS = 100


class Options(NamedTuple):
    """Seconds for a call and for a connection; how many connections, and how many replicas that
    confirm, None being what the place makes of it."""

    timeout: float
    connect_timeout: float
    pool_size: int
    replicas: int | None

    @property
    def patience(self) -> float:
        """Seconds that a call with its connection may take."""
        return self.timeout + self.connect_timeout

    @property
    def durable(self) -> int:
        """How many connections may wait for replicas at once."""
        return max(1, self.pool_size // 2)

    def checked(self) -> "Options":
        """Itself; raises `ConfigurationError`."""
        seconds("timeout", self.timeout, "RedisStore")
        seconds("connect_timeout", self.connect_timeout, "RedisStore")
        _check("pool_size", self.pool_size, 1, _MOST_CONNECTIONS)
        if self.replicas is not None:
            _check("replicas", self.replicas, 0, _MOST_REPLICAS)
        return self


def _check(option: str, given: int, least: int, most: int) -> None:
    if type(given) is not int or not least <= given <= most:
        raise ConfigurationError(
            f"RedisStore: expected {option} to be a number from {least} to {most}, got {given!r}; "
            "pass 1, say"
        )


def checked_prefix(prefix: str) -> str:
    """Itself; raises `ConfigurationError`."""
    if not isinstance(prefix, str) or not _is_text(prefix):
        raise ConfigurationError(
            f"RedisStore: expected prefix to be text, got {prefix!r}; pass {PREFIX!r}, say"
        )
    return prefix


def _is_text(prefix: str) -> bool:
    try:
        prefix.encode()
    except UnicodeEncodeError:  # half of a character
        return False
    return True


def options_of_url(url: StoreURL) -> dict[str, Any]:
    """What the URL has of them."""
    replicas = url.number("replicas", _MOST_REPLICAS + 1, most=_MOST_REPLICAS + 1)
    return {
        "prefix": url.text("prefix", PREFIX),
        "timeout": url.seconds("timeout", CALL),
        "connect_timeout": url.seconds("connect_timeout", CONNECT),
        "pool_size": url.number("pool_size", POOL),
        "replicas": None if replicas > _MOST_REPLICAS else replicas,
    }
