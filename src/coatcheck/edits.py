"""A session's values, and what a request did to them, so that it can be done again.

The values are kept encoded, key by key. Reading one decodes it and remembers the object; assigning
one encodes it at once, so that what cannot be kept is refused on that line. What was done to a key
is remembered as an *operation*, to be repeated on newer values when another request of the session
was faster:

    set      the key was assigned: the last to commit wins
    removed  the key was deleted
    replays  pure functions of the stored value: run again, so all of them count

An object that can change in place is encoded again at the commit; where that differs from what was
read, the key counts as assigned. The encoding is canonical, so a value merely read never differs.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from coatcheck import values
from coatcheck.errors import UnsupportedValue

__all__ = ["Edits", "Replay"]


class Replay(msgspec.Struct, frozen=True):
    """A pure function of a key's value, and the encoded value to begin with where there is none."""

    function: Callable[[Any], Any]
    default: bytes | None


class _Repeated:
    """An operation that is not computed again, only repeated."""


_SET: Final = _Repeated()
_REMOVED: Final = _Repeated()
_Operation = _Repeated | list[Replay]


class Edits:
    """`data` is what would be stored now, `operations` what was done (in place: once `settle` has
    looked). Both may be read, and are changed by the methods alone."""

    __slots__ = ("_live", "_loose", "_stale", "_wiped", "data", "operations")

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self._live: dict[str, Any] = {}
        self._loose: dict[str, Any] = {}  # those of them that can change in place
        self._stale: dict[str, tuple[Any, bytes]] = {}  # objects that a rebase replaced
        self.operations: dict[str, _Operation] = {}
        self._wiped = False

    def start(self, stored: dict[str, bytes]) -> None:
        """Begin with these values, and with nothing done to them."""
        self.data = stored.copy()
        if self._live or self._stale:
            self._live, self._loose, self._stale = {}, {}, {}
        if self.operations or self._wiped:
            self.forget()

    def forget(self) -> None:
        """What was done is stored now."""
        self.operations = {}
        self._wiped = False

    def read(self, key: str) -> Any:
        live = self._live
        if key in live:
            return live[key]
        value = live[key] = _decode(key, self.data[key])
        if not values.is_fixed(value):
            self._loose[key] = value
        return value

    def assign(self, key: str, value: object) -> None:
        self.data[key] = encode(key, value)
        self.operations[key] = _SET
        self._stale.pop(key, None)
        self._hold(key, value)

    def _hold(self, key: str, value: object) -> None:
        """Remember the object that the app sees."""
        self._live[key] = value
        if not values.is_fixed(value):
            self._loose[key] = value
        elif self._loose:
            self._loose.pop(key, None)

    def remove(self, key: str) -> None:
        del self.data[key]
        self._live.pop(key, None)
        self._loose.pop(key, None)
        self._stale.pop(key, None)
        self.operations[key] = _REMOVED

    def wipe(self) -> None:
        """Remove every key, and those too that another request may be adding."""
        self.start({})
        self._wiped = True

    def edit(self, key: str, replay: Replay) -> None:
        """Run the function now, and again in each `rebase`. KeyError: no value and no default."""
        self._settle(key)
        if key not in self.data and replay.default is None:
            raise KeyError(key)
        self._run(key, replay)
        before = self.operations.get(key)
        if before is None:
            self.operations[key] = [replay]
        elif isinstance(before, list):
            before.append(replay)
        else:
            self.operations[key] = _SET

    def settle(self) -> None:
        """Find what was changed in place; raises `UnsupportedValue` for what cannot be kept."""
        if self._loose:
            for key in self._loose:
                self._settle(key)
        if self._stale:
            for key in self._changed_though_stale():
                self.assign(key, self._stale[key][0])

    def changed_in_place(self) -> list[str]:
        """The keys whose objects are no longer what `data` says."""
        if not self._loose and not self._stale:
            return []
        return [key for key in self._loose if self._differs(key)] + self._changed_though_stale()

    def _changed_though_stale(self) -> list[str]:
        return [key for key, (value, was) in self._stale.items() if encode(key, value) != was]

    def rebase(self, stored: dict[str, bytes]) -> None:
        """Begin with these values instead, and do again what was done."""
        mine, live, loose = self.data, self._live, self._loose
        self.data = {} if self._wiped else stored.copy()
        self._live, self._loose = {}, {}
        for key, operation in self.operations.items():
            self._repeat(key, operation, mine)
        # The app may still hold the objects it read. Where nothing differs they stay the ones;
        # elsewhere a change to one of them counts as an assignment.
        for key, value in live.items():
            if self.data.get(key) == mine[key]:
                self._hold(key, value)
            elif key in loose:
                self._stale[key] = value, mine[key]

    def _repeat(self, key: str, operation: _Operation, mine: dict[str, bytes]) -> None:
        if isinstance(operation, list):
            for replay in operation:
                if key in self.data or replay.default is not None:
                    self._run(key, replay)
        elif operation is _SET:
            self.data[key] = mine[key]
        else:
            self.data.pop(key, None)

    def _run(self, key: str, replay: Replay) -> None:
        before = self.data.get(key, replay.default)
        # Decoded anew each time: the function may change what it gets.
        value = replay.function(None if before is None else _decode(key, before))
        self.data[key] = encode(key, value)
        self._hold(key, value)

    def _settle(self, key: str) -> None:
        if key in self._loose and self._differs(key):
            self.data[key] = encode(key, self._loose[key])
            self.operations[key] = _SET

    def _differs(self, key: str) -> bool:
        return encode(key, self._loose[key]) != self.data[key]


def encode(key: str, value: object) -> bytes:
    """The value's bytes; raises `UnsupportedValue`, which names the key."""
    try:
        return values.encode(value)
    except UnsupportedValue as error:
        raise UnsupportedValue(f"session[{key!r}]: {error}") from None


def _decode(key: str, data: bytes) -> Any:
    try:
        return values.decode(data)
    except ValueError as error:
        raise UnsupportedValue(f"session[{key!r}]: {error}") from error
