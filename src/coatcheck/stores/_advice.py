"""What a store found risky in how its server is set up: told to each listener, each risk once."""

import threading
from collections.abc import Callable

from coatcheck.store import Risk

__all__ = ["Advice"]

Listener = Callable[[Risk], None]


class Advice:
    """The risks found and who wants to know of them, in whichever order they come. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._risks: dict[Risk, None] = {}
        self._listeners: list[Listener] = []

    def advise(self, tell: Listener) -> None:
        """Tell of what was found so far now, and of what is found later then."""
        with self._lock:
            self._listeners.append(tell)
            found = list(self._risks)
        for risk in found:
            tell(risk)

    def found(self, risk: Risk) -> None:
        """Tell every listener, unless the same was found before."""
        with self._lock:
            if risk in self._risks:
                return
            self._risks[risk] = None
            listeners = list(self._listeners)
        for tell in listeners:
            tell(risk)
