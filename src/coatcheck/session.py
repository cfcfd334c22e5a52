"""`Session`: a mapping that records what is meant to happen, and never does I/O.

The values and what was done to them are an `Edits`; `login`, `logout`, `rotate` and messages are
intents of the same kind. `lifecycle` turns all of them into one write, or does them again on a
newer record when another request of the session was faster.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Self, TypeVar

from coatcheck import login as logins
from coatcheck import token as tokens
from coatcheck import typed
from coatcheck.client import Client, ClientSource
from coatcheck.edits import Replay, encode
from coatcheck.errors import SessionClosed, UnsupportedValue
from coatcheck.lifetime import Lifetime
from coatcheck.login import Kept
from coatcheck.record import to_datetime as _datetime
from coatcheck.state import Refusal, State

__all__ = [
    "Client",
    "ClientSource",
    "Flash",
    "Session",
]

T = TypeVar("T")


class Flash(NamedTuple):
    """A message for the next page."""

    text: str
    category: str


_MISSING: Final = object()


class Session(State, MutableMapping[str, Any]):
    """What one browser has with us between requests. Made by `Sessions.open`, never by hand.

    Every use, reading included, raises `StoreUnavailable` where the store could not be reached
    when the request was opened; every change raises `SessionClosed` once the response has begun.
    """

    accessed = False
    """Whether anything of the session was read or changed: it decides touch and `Vary`."""
    degraded = False
    """Whether the store is out of reach and `outage="anonymous"`: empty and read-only."""

    def __repr__(self) -> str:
        return f"<Session {self._origin.record.id if self._origin else 'new'}>"

    # The mapping.

    def __getitem__(self, key: str) -> Any:
        self._use()
        return self._edits.read(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
        self._edits.assign(_checked(key), value)

    def __delitem__(self, key: str) -> None:
        self._change()
        self._edits.remove(key)

    def __iter__(self) -> Iterator[str]:
        self._use()
        return iter(list(self._edits.data))

    def __len__(self) -> int:
        self._use()
        return len(self._edits.data)

    def __contains__(self, key: object) -> bool:
        self._use()
        return key in self._edits.data

    def __bool__(self) -> bool:
        """Whether there is anything in it: a value, or who is logged in."""
        return len(self) > 0 or self.subject is not None

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:
        self.update(other)
        return self

    def popitem(self) -> tuple[str, Any]:
        """Remove the key that was added last, as a dict does. KeyError where there is none."""
        for key in reversed(list(self)):
            return key, self.pop(key)
        raise KeyError("popitem(): the session is empty")

    def clear(self) -> None:
        """Empty the session. Of a logged-in session it is `logout()`."""
        self._change()
        if self.subject is not None:
            self.logout()
        else:
            self._wipe()

    def edit(self, key: str, function: Callable[[Any], Any], *, default: Any = _MISSING) -> Any:
        """Set `key` to `function(value)`, and do so again where another request got there first.

        The function must be pure: it may run several times, each time on a copy of its own.
        Without a default a missing key raises KeyError, and an edit whose key another request
        removed meanwhile is dropped. Returns the new value.
        """
        self._change()
        begin_with = None if default is _MISSING else encode(key, default)
        self._edits.edit(_checked(key), Replay(function, begin_with))
        return self._edits.read(key)

    def write(self, key: str, value: object) -> None:
        """Keep a dataclass, a msgspec struct or a pydantic model, as plain values."""
        self[key] = typed.simplify(value)

    def read(self, key: str, *, type: type[T]) -> T:
        """What `write` kept, as `type`. KeyError where there is none; `UnsupportedValue` where it
        does not fit the type."""
        return typed.restore(self[key], type)

    # Who it is.

    def login(
        self,
        subject: str,
        *,
        remember: bool | None = None,
        lifetime: Lifetime | None = None,
        level: int = 1,
        methods: Sequence[str] = (),
        authenticated_at: datetime | None = None,
    ) -> None:
        """Make this session the subject's, under a fresh token; the old one dies with the commit.

        The values are kept, unless they were another subject's. A subject is 1 to 255 bytes of
        text without control characters, such as "user:42". Logging in again, after asking for the
        password once more, say, begins both limits anew and is how the level rises.

        `lifetime` is for this login alone; `remember` then chooses its `remember`. Where one is
        not given, it stays as the same subject's login before said; but another `remember` than
        that one's, alone, brings the usual lifetime. `level` says how
        sure you are (1 to 255), `methods` by what means. `authenticated_at` is when the subject
        proved who they are, where that was somewhere else and before (`auth_time` of OpenID
        Connect); one in the future counts as now. What is none of that raises `UnsupportedValue`.
        """
        self._change()
        kept = self._entered(subject, remember)
        login = logins.login(
            subject,
            remember=kept.remember,
            lifetime=kept.lifetime if lifetime is None else lifetime,
            level=level,
            methods=methods,
            authenticated_at=authenticated_at,
        )
        if self.subject not in (None, subject):
            self._wipe()
        self._login, self._lowered = login, None
        self._remint()

    def lower(self, level: int) -> None:
        """Let the level fall to this one; it stays where it is lower. Only `login` raises it."""
        self._change()
        most = logins.checked_level(level)
        self._lowered = most if self._lowered is None else min(most, self._lowered)

    def logout(self) -> None:
        """End the session here and in the store. What is left is a new, empty, anonymous one."""
        self._change()
        if self._muted and (self._lost is None or self._carried):
            return
        self._ended = self._origin or self._lost or self._ended
        self._muted = False
        self._said_goodbye = self._said_goodbye or self._presented
        self._cookie = None
        self._become_new()

    def rotate(self) -> None:
        """Give the session a new seed and proof; the old token dies with the commit, no grace.

        For every change of privilege that is not a login (ASVS 7.2.4).
        """
        self._change()
        self._rotate = True
        self._remint()

    @property
    def subject(self) -> str | None:
        """Who the session is logged in as, or None."""
        self._use()
        if self._login is not None:
            return self._login.subject
        return self._origin.record.subject if self._origin is not None else None

    @property
    def id(self) -> str | None:
        """The public id: it names the session in lists, events and logs, and opens nothing.

        None while nothing is to be stored.
        """
        self._use()
        if self._origin is not None and not (self._carried and self._is_reseeded()):
            return self._origin.record.id
        return self._token().id if self._origin is not None or self._exists() else None

    @property
    def is_new(self) -> bool:
        """Whether the store does not hold this session yet."""
        self._use()
        return self._origin is None

    @property
    def refused(self) -> Refusal | None:
        """Why the cookie that came was not good, or None where it was, or none came."""
        self._use()
        return self._refused

    @property
    def created_at(self) -> datetime | None:
        """When the session was first stored; None for a new one."""
        self._use()
        return None if self._origin is None else _datetime(self._origin.head.created_at)

    @property
    def seen_at(self) -> datetime | None:
        """When the session was last seen, to a twentieth of the idle time."""
        self._use()
        return None if self._origin is None else _datetime(self._origin.record.seen_at)

    @property
    def expires_at(self) -> datetime | None:
        """When the session ends unless it is used again."""
        self._use()
        return None if self._origin is None else _datetime(self._origin.record.expires_at)

    @property
    def login_at(self) -> datetime | None:
        """When the subject last logged in; None where it is not logged in."""
        self._use()
        if self._login is not None:
            return self.opened_at
        stored = self._origin.record.login_at if self._origin is not None else None
        return None if stored is None else _datetime(stored)

    @property
    def authenticated_at(self) -> datetime | None:
        """When the subject last proved who they are; None where it is not logged in."""
        assurance = self._assurance()
        return self.login_at if assurance is None else _datetime(assurance.authenticated_at)

    @property
    def level(self) -> int | None:
        """How sure the app is of who is logged in, as `login` said; None where it is not."""
        if self.subject is None:
            return None
        assurance = self._assurance()
        level = 1 if assurance is None else assurance.level
        return level if self._lowered is None else min(level, self._lowered)

    @property
    def methods(self) -> tuple[str, ...]:
        """By what means they proved who they are, as `login` said."""
        assurance = self._assurance()
        return () if assurance is None else assurance.methods

    @property
    def opened_at(self) -> datetime:
        """When this request was opened, by the clock of `Sessions`."""
        return _datetime(self._opened_at)

    # Messages for the next page, and forms.

    def flash(self, text: str, category: str = "info") -> None:
        """Leave a message for the next page that calls `flashes()`."""
        self._change()
        for part in (text, category):
            _check_text(part, "flash()")
        self._flashed = (*self._flashed, (tokens.nonce(), category, text))

    def flashes(self) -> list[Flash]:
        """The messages left so far; reading them removes them, and no others."""
        self._use()
        unread = self._unread()
        if unread or self._flashed:
            self._change()
            self._flashes_read = self._flashes_read.union(flash[0] for flash in unread)
            unread += self._flashed
            self._flashed = ()
        return [Flash(text, category) for _, category, text in unread]

    @property
    def csrf_token(self) -> str:
        """A token for this session's forms, masked anew at each read; it counts as a write."""
        self._use()
        if self._origin is None and self._replaced is None:
            self._ensure()
        return tokens.mask_csrf(self._csrf_secret())

    def check_csrf(self, text: str | None) -> bool:
        """Whether the text is a `csrf_token` of this session, compared in constant time.

        A field that is missing (None) is not, and raises nothing.
        """
        self._use()
        unknown = self._origin is None and self._next is None and self._replaced is None
        if unknown or not isinstance(text, str):
            return False
        return tokens.check_csrf(text, self._csrf_secret())

    def close(self) -> None:
        """The response begins: from now on a change raises `SessionClosed`."""
        self._closed = True
        self._client = None  # it may know the request, which knows us: a circle costs a collection

    def check_closed(self) -> None:
        """Raise `SessionClosed` where an object was changed in place after the last commit.

        An adapter calls it when the response is over.
        """
        changed = self._edits.changed_in_place()
        if changed:
            raise SessionClosed(
                f"session[{changed[0]!r}]: expected no change after the response began, got one "
                "in place, which is lost; change it before the response starts, or commit earlier"
            )

    def _entered(self, subject: str, remember: bool | None) -> Kept:
        """What the login before of this subject said of how long it lasts, for one that says this
        of `remember`. What is stored knows the lifetime for its own kind alone."""
        if self.subject != subject:
            return Kept(bool(remember))
        if self._login is not None:
            before = self._login.remember if remember is None else remember
            return Kept(before, self._login.lifetime)
        kept = logins.kept(self._origin.record, self._origin.head) if self._origin else Kept()
        return kept if remember in (None, kept.remember) else Kept(bool(remember))


def _checked(key: str) -> str:
    if type(key) is not str:
        raise UnsupportedValue(
            f"session: expected a key of type str, got {type(key).__name__}; use a string"
        )
    _check_text(key, "session")
    return key


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except (UnicodeEncodeError, AttributeError):
        raise UnsupportedValue(
            f"{where}: expected text that UTF-8 can write, got {type(text).__name__} that it "
            "cannot; use str without lone surrogates"
        ) from None
