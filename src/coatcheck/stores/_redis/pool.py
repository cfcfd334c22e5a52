"""Connections that rest between two calls, by the server that they lead to.

A connection may be of no use though it looks well: its server was deposed meanwhile, or a firewall
forgot it. So what one call meets speaks for all: where a call fails, or its server says that it
leads no more, what rests there is closed, and so is what comes back from a call that was under way.

Who leads under Sentinels is only known for a moment. They depose a master that is away, and it may
come back unaware of that; they need longer for it than `RECENT`.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from coatcheck.stores._redis.routes import Node

__all__ = ["Pool", "Rest"]

TRUSTED = 60.0
"""Seconds after which a firewall may have forgotten a connection that rests, without a word."""

RECENT = 0.5
"""Seconds for which the Sentinels' word about who leads is good."""

_Close = Callable[[Any], None]
_IsFit = Callable[[Any], bool]


class Rest:
    """Where the connections to one server rest; the one that was used last goes first."""

    def __init__(self, node: Node, close: _Close, is_fit: _IsFit) -> None:
        self.node = node
        self._close = close
        self._is_fit = is_fit
        self._resting: deque[tuple[float, Any]] = deque()
        self._over = False

    def take(self) -> Any:
        """One that is fit, or None."""
        while True:
            try:
                since, connection = self._resting.pop()
            except IndexError:
                return None
            if time.monotonic() - since < TRUSTED and self._is_fit(connection):
                return connection
            self._close(connection)

    def give(self, connection: Any) -> None:
        self._resting.append((time.monotonic(), connection))
        if self._over:
            self.end()

    def end(self, close: _Close | None = None) -> None:
        """Close all, also those that are in use, once they are given back."""
        self._over = True
        while True:
            try:
                _, connection = self._resting.pop()
            except IndexError:
                return
            (close or self._close)(connection)


class Pool:
    """Thread-safe. `close` closes a connection at once; `is_fit` says whether it looks well."""

    def __init__(self, close: _Close, is_fit: _IsFit) -> None:
        self._close = close
        self._is_fit = is_fit
        self._rests: dict[Node, Rest] = {}
        self._leader: Node | None = None
        self._named_at = -math.inf
        self._over = False

    def of(self, node: Node) -> Rest:
        rest = self._rests.get(node)
        if rest is None:
            rest = self._rests.setdefault(node, Rest(node, self._close, self._is_fit))
        if self._over:
            rest.end()
        return rest

    def forget(self, node: Node) -> None:
        """Use none of its connections again; and ask the Sentinels, if it led."""
        rest = self._rests.pop(node, None)
        if rest is not None:
            rest.end()
        if node == self._leader:
            self._named_at = -math.inf

    def leader(self) -> Node | None:
        """Whom the Sentinels named a moment ago."""
        return self._leader if time.monotonic() - self._named_at < RECENT else None

    def follow(self, leader: Node, asked_at: float) -> None:
        """They named it; of another, nothing is used again."""
        before, self._leader, self._named_at = self._leader, leader, asked_at
        if before is not None and before != leader:
            self.forget(before)

    def end(self, close: _Close | None = None) -> None:
        """Close all there are, and those in use once they are given back."""
        self._over = True
        rests, self._rests = self._rests, {}
        for rest in rests.values():
            rest.end(close)
