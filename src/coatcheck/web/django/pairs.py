"""`Sessions` and `AsyncSessions` side by side: a Django process may need both."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from coatcheck.errors import ConfigurationError
from coatcheck.paths import Patterns
from coatcheck.session import Client
from coatcheck.sessions import AsyncSessions, Sessions
from coatcheck.sweeper import Sweeper
from coatcheck.web.configured import checked_sessions

__all__ = ["Configured", "Pair", "paired"]

ClientOf = Callable[[Any], Client]


class Pair(NamedTuple):
    """The sessions of one cookie, for synchronous and for asynchronous code; one may be missing."""

    threaded: Sessions | None
    awaited: AsyncSessions | None

    @property
    def sync(self) -> Sessions:
        if self.threaded is None:
            raise _missing("Sessions", "AsyncSessions", "synchronous")
        return self.threaded

    @property
    def asynchronous(self) -> AsyncSessions:
        if self.awaited is None:
            raise _missing("AsyncSessions", "Sessions", "asynchronous")
        return self.awaited

    @property
    def either(self) -> Sessions | AsyncSessions:
        """Whichever is there: they have the same options."""
        return self.threaded or self.asynchronous


class Configured:
    """What the middleware works with, under None the main sessions."""

    def __init__(
        self,
        main: Pair,
        named: Mapping[str, Pair] | None = None,
        *,
        skip: Iterable[str] = (),
        client: ClientOf | None = None,
        sweep: float | None = 600.0,
        watch: bool = False,
    ) -> None:
        self.pairs: dict[str | None, Pair] = {None: main}
        self.pairs.update(named or {})
        self.skip = Patterns("COATCHECK_SKIP", skip)
        self.client = client or peer
        self.watch = watch
        found = [pair.threaded for pair in self.pairs.values() if pair.threaded is not None]
        self.sweepers = [] if sweep is None else [Sweeper(each, sweep) for each in found]

    @property
    def main(self) -> Pair:
        return self.pairs[None]

    @cached_property
    def sync(self) -> Mapping[str | None, Sessions]:
        every = {name: pair.sync for name, pair in self.pairs.items()}
        return checked_sessions(Sessions, every[None], _named(every))

    @cached_property
    def asynchronous(self) -> Mapping[str | None, AsyncSessions]:
        every = {name: pair.asynchronous for name, pair in self.pairs.items()}
        return checked_sessions(AsyncSessions, every[None], _named(every))

    def watching(self, request: Any) -> AsyncSessions | None:
        """By what events are watched, with `COATCHECK_WATCH`. Nothing is under WSGI, which has no
        loop; under ASGI it is also where this middleware was made synchronous by another."""
        return self.main.asynchronous if self.watch and hasattr(request, "scope") else None


def peer(request: Any) -> Client:
    """The default `COATCHECK_CLIENT`: who connected, and their User-Agent."""
    return Client(request.META.get("REMOTE_ADDR"), request.META.get("HTTP_USER_AGENT"))


def paired(setting: str, found: object) -> Pair:
    """One `Sessions` or `AsyncSessions`, or a tuple of both, as a pair."""
    each = found if isinstance(found, tuple) else (found,)
    threaded = [one for one in each if isinstance(one, Sessions)]
    awaited = [one for one in each if isinstance(one, AsyncSessions)]
    if len(threaded) + len(awaited) != len(each) or max(len(threaded), len(awaited)) != 1:
        raise ConfigurationError(
            f"{setting}: expected Sessions, AsyncSessions or a tuple of the two, got "
            f"{type(found).__name__}; make them with Sessions(store)"
        )
    return Pair(threaded[0] if threaded else None, awaited[0] if awaited else None)


def _named(every: Mapping[str | None, Any]) -> dict[str, Any]:
    return {name: sessions for name, sessions in every.items() if name is not None}


def _missing(wanted: str, got: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"COATCHECK_STORE: expected {wanted} for {kind} code, got {got} alone; give a store's "
        "URL, or the dotted path of a tuple of both"
    )
