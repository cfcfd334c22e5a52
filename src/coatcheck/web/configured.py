"""What every adapter checks when it is made."""

from collections.abc import Mapping
from typing import TypeVar

from coatcheck.errors import ConfigurationError
from coatcheck.sessions import AsyncSessions, Sessions

__all__ = ["checked_sessions"]

S = TypeVar("S", Sessions, AsyncSessions)


def checked_sessions(
    kind: type[S],
    sessions: S,
    named: Mapping[str, S] | None,
    where: str = "SessionMiddleware",
) -> dict[str | None, S]:
    """The main sessions under None, and the named ones; each must have a cookie of its own.

    `where` is the adapter's name, for the messages of a `ConfigurationError`.
    """
    every: dict[str | None, S] = {None: sessions}
    every.update(named or {})
    cookies: set[str] = set()
    for name, each in every.items():
        if not isinstance(each, kind):
            raise ConfigurationError(
                f"{where}: expected {kind.__name__}, got {type(each).__name__}; "
                f"make them with {kind.__name__}(store)"
            )
        if each.cookie.full_name in cookies:
            raise ConfigurationError(
                f"{where}(named=…): expected a cookie of its own for {name!r}, got "
                f"{each.cookie.full_name!r} once more; give it another name, as Cookie({name!r})"
            )
        cookies.add(each.cookie.full_name)
        others = (other for other in every.values() if other is not each)
        if any(each.shares_tokens_with(other) for other in others):
            raise ConfigurationError(
                f"{where}(named=…): expected a name of its own for {name!r} on a store "
                f"that it shares, got {each.name!r} twice; give one of the sessions another name="
            )
    return every
