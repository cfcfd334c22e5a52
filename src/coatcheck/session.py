"""`Session`: a mapping that records what is meant to happen, and never does I/O.

The values and what was done to them are an `Edits`; `login`, `logout`, `rotate` and messages are
intents of the same kind. `lifecycle` turns all of them into one write, or does them again on a
newer record when another request of the session was faster.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar

import msgspec

from coatcheck import login as logins
from coatcheck import token as tokens
from coatcheck import typed
from coatcheck.client import Client, ClientSource
from coatcheck.edits import Edits, Replay, encode
from coatcheck.errors import SessionClosed, StoreUnavailable, UnsupportedValue
from coatcheck.lifetime import Lifetime
from coatcheck.login import Kept, Login
from coatcheck.record import Assurance, Body, Head, Record
from coatcheck.record import to_datetime as _datetime
from coatcheck.sealing import Sealer
from coatcheck.token import Domain, Token

__all__ = [
    "Client",
    "ClientSource",
    "Flash",
    "Origin",
    "Refusal",
    "Session",
    "Terms",
]

T = TypeVar("T")
Refusal = Literal["malformed", "unknown", "expired"]


class Flash(NamedTuple):
    """A message for the next page."""

    text: str
    category: str


class Origin(msgspec.Struct, frozen=True):
    """The stored session that this request's edits start from."""

    token: Token
    record: Record
    head: Head
    sealer: Sealer
    proof: bytes  # the digest of the token's proof


class Terms(NamedTuple):
    """What one session has in the place of what its `Sessions` were given."""

    lifetime: Lifetime
    persistent: bool


_MISSING: Final = object()
_EMPTY: Final = Body({}, [])


class Session(MutableMapping[str, Any]):
    """What one browser has with us between requests. Made by `Sessions.open`, never by hand.

    Every use, reading included, raises `StoreUnavailable` where the store could not be reached
    when the request was opened; every change raises `SessionClosed` once the response has begun.
    """

    # Defaults live on the class: a request without a session costs one small object.
    accessed = False
    """Whether anything of the session was read or changed: it decides touch and `Vary`."""
    degraded = False
    """Whether the store is out of reach and `outage="anonymous"`: empty and read-only."""

    _is_private = False  # no cache is to keep the answer: a gate with `no_store` let it through

    # What came.
    _origin: Origin | None = None
    _stored = _EMPTY
    _fault: StoreUnavailable | None = None
    _refused: Refusal | None = None
    _muted = False  # a login replaced the token that came: edits are dropped, no cookie is set
    _replaced: Token | None = None  # that token: forms are made with it, so that a login can come
    _presented = False  # a cookie of our name came
    _terms: Terms | None = None  # of its own; an adapter keeps them among the values
    _carried = False  # the cookie is the whole record: a new seed takes a new id too
    _unseen: bytes | None = None  # the successor, long unseen, of the proof that it came with

    # What is meant to happen.
    _login: Login | None = None
    _rotate = False
    _lowered: int | None = None  # what the level is to be at most
    _has_new_terms = False  # its terms are to change with the commit
    _former: Terms | None = None  # what they were, and what the browser's cookie says
    _wanted = False  # csrf_token was read, so the session must exist
    _wiped = False  # the values and messages that were stored are not to be kept
    _flashed: tuple[tuple[str, str, str], ...] = ()
    _flashes_read: frozenset[str] = frozenset()
    _ended: Origin | None = None  # what logout() ended, until the store knows
    _lost: Origin | None = None  # what another request ended or re-seeded before our commit
    _said_goodbye = False  # logout() of a cookie that came: it goes unless a new one is set
    _next: Token | None = None  # minted, not yet committed

    # What was done.
    _cookie: str | None = None  # the Set-Cookie value that this response owes the browser
    _closed = False
    _failed = False  # the response is an error, which may carry no cookie
    _committing = False

    def __init__(self, domain: Domain, opened_at: int, client: ClientSource = None) -> None:
        self._domain = domain
        self._opened_at = opened_at
        self._client = client
        self._edits = Edits()

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
        not given, it stays as the same subject's login before said. `level` says how
        sure you are (1 to 255), `methods` by what means. `authenticated_at` is when the subject
        proved who they are, where that was somewhere else and before (`auth_time` of OpenID
        Connect); one in the future counts as now. What is none of that raises `UnsupportedValue`.
        """
        self._change()
        kept = self._entered(subject)
        login = logins.login(
            subject,
            remember=kept.remember if remember is None else remember,
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

    # What the lifecycle reads and sets. Nothing below is for applications.

    def _use(self) -> None:
        self.accessed = True
        if self._fault is not None:
            raise StoreUnavailable(str(self._fault)) from self._fault

    def _change(self) -> None:
        self._use()
        if self._closed or self._committing:
            raise SessionClosed(
                "session: expected changes before the response begins, got one after, or while it "
                "is being committed; change it earlier, or keep what streams in something else"
            )
        if self.degraded:
            raise StoreUnavailable(
                "session: expected a store that answers, got an outage, so the session is "
                "read-only; check session.degraded before changing it"
            )

    def _ensure(self) -> None:
        """The session is to exist, empty or not."""
        self._change()
        self._wanted = True

    def _assurance(self) -> Assurance | None:
        """Of the login that is there, or to be; None where nobody is, or an older release wrote."""
        self._use()
        if self._login is not None:
            return self._login.assurance(self._opened_at)
        return None if self._origin is None else self._origin.head.assurance

    def _entered(self, subject: str) -> Kept:
        """What the login before of this subject said of how long it lasts."""
        if self.subject != subject:
            return Kept()
        if self._login is not None:
            return Kept(self._login.remember, self._login.lifetime)
        return logins.kept(self._origin.record, self._origin.head) if self._origin else Kept()

    def _remint(self) -> None:
        """Have another token sent than the one that is minted, under the same id."""
        if self._next is not None:
            self._next = tokens.mint(self._next.id)

    def _set_terms(self, terms: Terms | None) -> None:
        """Give the session limits of its own, or the usual ones, from the commit on; a cookie that
        no longer fits is renewed."""
        self._change()
        if not self._has_new_terms:
            self._former = self._terms
        self._terms, self._has_new_terms = terms, True

    def _exists(self) -> bool:
        """Whether a new session has anything to be stored for."""
        return bool(self._edits.data or self._flashed or self._login or self._wanted)

    def _is_changed(self) -> bool:
        """Whether the stored session must be written again for the app's sake."""
        messages = self._flashed or self._flashes_read
        intents = self._wiped or self._login is not None or self._rotate or self._has_new_terms
        lowered = self._lowered is not None
        return bool(intents or lowered or messages or self._edits.operations)

    def _is_reseeded(self) -> bool:
        return self._rotate or self._login is not None

    def _token(self) -> Token:
        """The token that the next commit sends, minted once."""
        if self._next is None:
            keep_id = self._origin is not None and not self._carried
            self._next = tokens.mint(self._origin.token.id if self._origin and keep_id else None)
        return self._next

    def _csrf_secret(self) -> bytes:
        token = self._replaced
        if token is None or self._is_reseeded():
            stays = self._origin is not None and not self._is_reseeded()
            token = self._origin.token if self._origin and stays else self._token()
        return self._domain.csrf_secret(token.seed)

    def _body(self) -> Body:
        """The content that a commit stores now."""
        messages = self._stored.flashes or self._flashed
        return Body(self._edits.data, [*self._unread(), *self._flashed] if messages else [])

    def _unread(self) -> list[tuple[str, str, str]]:
        stored = () if self._wiped else self._stored.flashes
        return [flash for flash in stored if flash[0] not in self._flashes_read]

    def _start_from(self, origin: Origin | None, stored: Body) -> None:
        """Begin with what the store holds, and with nothing done to it."""
        self._origin = origin
        self._stored = stored
        self._edits.start(stored.values)

    def _rebase(self, origin: Origin | None, stored: Body) -> None:
        """Begin with what the store holds now, and do again to it what the request did."""
        self._origin = origin
        self._stored = stored
        self._edits.rebase(stored.values)

    def _lose(self) -> None:
        """Another request ended or re-seeded the session first.

        A login goes on under a new id with this request's own edits; all else is dropped, and
        the response sets no cookie, so it cannot overwrite the other's.
        """
        self._cookie = None
        self._lost = self._origin
        if self._login is None:
            self._become_new()
            self._muted = True
        else:
            self._rebase(None, _EMPTY)
            self._next = self._token().moved()
            if not self._has_new_terms:
                self._terms = None  # they were the lost one's

    def _committed(self, origin: Origin, stored: Body) -> None:
        """The store holds what the request did: nothing is left to do."""
        self._origin = origin
        self._stored = Body(stored.values.copy(), stored.flashes)
        self._forget_intents()

    def _drop(self) -> None:
        """Undo what the request did since its last commit, except logout()."""
        if self._has_new_terms:
            self._terms = self._former
        self._forget_intents()
        self._edits.start(self._stored.values)

    def _become_new(self) -> None:
        """Empty and anonymous, with nothing stored."""
        self._refused = self._replaced = self._terms = None
        self._unseen = None
        self._forget_intents()
        self._start_from(None, _EMPTY)

    def _wipe(self) -> None:
        """Empty the session: its values, its messages, those being added, and its own limits."""
        self._edits.wipe()
        self._wiped = True
        self._flashed = ()
        if self._terms is not None:
            self._set_terms(None)

    def _forget_intents(self) -> None:
        self._edits.forget()
        self._flashed, self._flashes_read = (), frozenset()
        self._wiped = self._rotate = self._has_new_terms = self._wanted = False
        self._login = self._lowered = self._next = self._former = None


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
