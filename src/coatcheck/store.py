"""What a store is: five verbs, and what absence means to each.

Every verb takes `now` (milliseconds since the epoch, UTC). A record with `expires_at <= now` is
absent to all five, swept or not, whatever the backend's own clock thinks. A store that cannot be
reached, or does not answer in time, raises `StoreUnavailable`; it never answers "absent" instead.
A store never retries a write by itself: a retried write whose first answer was lost would refuse
itself. No verb changes anything when it raises, as far as the backend can tell.

Stores may be called from many threads at once (`Store`), or from many tasks of one event loop and
from one event loop after another (`AsyncStore`); they are made without a running loop and connect
on first use. What one store keeps is defined by its client and namespace, so two objects made
alike are the same store.

What a store can do beyond the five verbs is a protocol of its own here: `Listable`, `Sweepable`,
`Admitting`, `Watchable`, `Advising`. Four attributes say what kind it is: `shared = False`
that other processes do not see what it keeps, `evicts = True` that it may forget live records when
it is full, `why_not` why it is not `Listable`, for the error that says so, and `patience` how many
seconds its slowest single call may take; `Sessions` then grants a whole `open` or `commit` no more,
and the store asks `coatcheck.patience.left` before it waits.
`coatcheck.testing.StoreContract` tests all of this; a store of your own subclasses it.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from coatcheck.record import Record
from coatcheck.token import Token

__all__ = [
    "AHEAD",
    "FORBIDDEN",
    "FULL",
    "GONE",
    "SAVED",
    "Admitting",
    "Advising",
    "AsyncAdmitting",
    "AsyncCarrierStore",
    "AsyncListable",
    "AsyncStore",
    "AsyncSweepable",
    "Carrier",
    "CarrierStore",
    "Entered",
    "Entry",
    "Forbidden",
    "Full",
    "Gone",
    "Listable",
    "Risk",
    "Saved",
    "Store",
    "Sweepable",
    "Watchable",
]


class _Answer(enum.Enum):
    SAVED = "saved"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    FULL = "full"


SAVED: Final = _Answer.SAVED
GONE: Final = _Answer.GONE
FORBIDDEN: Final = _Answer.FORBIDDEN
FULL: Final = _Answer.FULL
Saved = Literal[_Answer.SAVED]
Gone = Literal[_Answer.GONE]
Forbidden = Literal[_Answer.FORBIDDEN]
Full = Literal[_Answer.FULL]

AHEAD = 60_000
"""Milliseconds that a mark or a login may lie ahead; what lies further is a wrong clock's."""


@runtime_checkable
class Store(Protocol):
    """Where sessions are kept; every edge case of every verb."""

    def load(self, id: str, now: int) -> Record | None:
        """The live record of that id, or None. Reading prolongs nothing."""
        ...

    def create(self, record: Record, now: int) -> None:
        """Write where no live record is; what has expired there is replaced.

        Raises `Collision` where a live record has that id, which stays as it was. A record with a
        subject is as durable as a deletion when it returns: it may say that another one ended.
        """
        ...

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        """Replace the live record of `record.id`, only if its revision is `expected`.

        `SAVED` when replaced; the live record found instead, when its revision is another;
        `GONE` when there is none. It never creates: that is how ended means ended. Comparing
        and replacing are one step that nothing comes between.
        """
        ...

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        """Prolong the live record, only if its revision is still that one, which stays.

        Times move forwards only: an earlier one leaves the later one there, each by itself.
        True where a live record had that revision, else False; it never creates.
        """
        ...

    def delete(self, id: str, now: int) -> bool:
        """Remove the record of that id, whatever its revision. Whether a live one was there.

        Removing nothing is fine. When it returns, the end is as durable as the store can make it.
        """
        ...

    def close(self) -> None:
        """Let go of what this object opened itself; closing twice is fine."""
        ...


@runtime_checkable
class AsyncStore(Protocol):
    """`Store`, awaited. A cancelled call leaves the record whole: written or not, never half."""

    async def load(self, id: str, now: int) -> Record | None: ...
    async def create(self, record: Record, now: int) -> None: ...
    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record: ...
    async def touch(
        self,
        id: str,
        revision: bytes,
        seen_at: int,
        expires_at: int,
        now: int,
    ) -> bool: ...
    async def delete(self, id: str, now: int) -> bool: ...
    async def close(self) -> None: ...


@runtime_checkable
class Listable(Protocol):
    """A store that finds records by subject, through an index that nobody above it knows of."""

    def by_subject(self, subject: str, now: int) -> list[Record]:
        """Every live record of that subject, in no order; empty where there is none."""
        ...

    def page(self, after: str, limit: int, now: int) -> list[Record]:
        """At most `limit` live records whose id is greater than `after`, in order of id.

        Start with the empty string, go on with the last id; an empty page is the end. A record
        that lives through the whole walk is met exactly once.
        """
        ...


@runtime_checkable
class AsyncListable(Protocol):
    """`Listable`, awaited."""

    async def by_subject(self, subject: str, now: int) -> list[Record]: ...
    async def page(self, after: str, limit: int, now: int) -> list[Record]: ...


@runtime_checkable
class Sweepable(Protocol):
    """A store that does not drop what expired by itself."""

    def sweep(self, limit: int, now: int) -> int:
        """Remove at most `limit` expired records; how many it removed. 0 means none is left."""
        ...


@runtime_checkable
class AsyncSweepable(Protocol):
    """`Sweepable`, awaited."""

    async def sweep(self, limit: int, now: int) -> int: ...


class Entry(NamedTuple):
    """What a login has to pass."""

    opened_at: int
    """When its request was opened: a not-before mark that is later refuses it."""
    most: int | None = None
    """How many live sessions its subject may have, this one included; None is any number."""
    refuse: bool = False
    """Where that is too many: whether to refuse this one, or else to end the oldest."""


class Entered(NamedTuple):
    """The login was written."""

    ended: Sequence[str] = ()
    """The ids of the sessions that ended for it."""


@runtime_checkable
class Admitting(Protocol):
    """A store that can forbid a subject's logins, and limit how many they have (OWASP ASVS 5.0,
    7.1.2, 7.4.1): it writes a login and checks it against both in one step that nothing comes
    between, or so that nobody can tell the difference.

    A mark forbids what was *opened* before it: whoever sets one and then ends all that
    `by_subject` finds has ended every login that had begun by then, also those still on their way.
    """

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        """`save` of a record that has a subject, or `create` where `expected` is empty; as durable
        as a deletion.

        In this order: `FORBIDDEN` where a mark of its subject is later than `entry.opened_at` and
        keeps another id; what `save` and `create` answer and raise where they do not write; `FULL`
        where it is one too many; else `Entered`. Where the live record has this very revision it
        was written by an earlier call whose answer was lost, and is checked again. What is not
        admitted is not there when this returns, and a record that it was to replace may have gone
        with it.

        Where the oldest are to end, the newest by `login_at` stay, whoever is admitted last; of two
        that are as old, the greater id; one of more than a minute ahead counts as the oldest. Where
        the login itself is not among them the answer is `FULL`.
        """
        ...

    def forbid(self, subject: str, before: int, keep: str | None, until: int, now: int) -> None:
        """Set the subject's mark: refuse their logins whose requests were opened before `before`,
        but that of the id `keep`.

        It is kept at least until `until`. Of two marks the later one counts; of two that are
        alike the one set last. One that lies more than a minute ahead was set by a clock that was
        wrong: while it lies that far ahead it refuses nobody, and any other takes its place. When
        it returns, the mark is as durable as a deletion.
        """
        ...


@runtime_checkable
class AsyncAdmitting(Protocol):
    """`Admitting`, awaited."""

    async def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record: ...
    async def forbid(
        self, subject: str, before: int, keep: str | None, until: int, now: int
    ) -> None: ...


@runtime_checkable
class Watchable(Protocol):
    """An asynchronous store that says at once when a session ends or becomes another subject's, in
    whatever process."""

    async def watch(self, tell: Callable[[str], None], ready: Callable[[], None]) -> None:
        """Call `tell` with the id of each session that was deleted, or saved with another subject,
        until cancelled; `ready` once nothing is missed any more. Both are called in the event loop
        of the caller, and are plain functions that return at once.

        Raises `StoreUnavailable` when the line breaks or cannot be had: what ended meanwhile is not
        told, so the caller looks for itself, and may call again. Ids may come twice, or of sessions
        that nobody watches; an expiry is not told. It holds one connection of its own.
        """
        ...


class Risk(NamedTuple):
    """A setting of the store's server under which a promise may break."""

    setting: str
    """The setting as it stands, such as "maxmemory-policy allkeys-lru"."""
    consequence: str
    """What can happen, and what to set instead."""


@runtime_checkable
class Advising(Protocol):
    """A store that looks at how its server is set up, once, when it first reaches it."""

    def advise(self, tell: Callable[[Risk], None]) -> None:
        """Call `tell` with each risk: those found so far now, and others when they are found.

        A server that does not let itself be asked has none. Looking never fails a request.
        """
        ...


class Carrier(Protocol):
    """What keeps whole records in the cookie instead of on the server.

    `name` is that of the `Sessions`: a value made for one name opens for no other.
    """

    def seal(self, token: Token, record: Record, name: bytes) -> str:
        """The cookie value that carries the record; only the token's id and seed count."""
        ...

    def open(self, value: str, name: bytes) -> tuple[Token, Record] | None:
        """What `seal` put in, or None for anything else. Never raises."""
        ...


@runtime_checkable
class CarrierStore(Carrier, Protocol):
    """A carrier beside the store where the ids that ended are kept, or None."""

    @property
    def revocations(self) -> Store | None: ...


@runtime_checkable
class AsyncCarrierStore(Carrier, Protocol):
    """`CarrierStore` beside an `AsyncStore`."""

    @property
    def revocations(self) -> AsyncStore | None: ...
