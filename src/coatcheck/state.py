"""What a session starts from and what is meant to happen to it, before and after a commit.

`Session` fills it in, and `lifecycle` reads and sets it: nothing here is for applications. An
intent stays until a commit has carried it out (`_committed`), the request has failed (`_drop`), or
the session was lost to another request (`_lose`).
"""

from typing import Final, Literal, NamedTuple

import msgspec

from coatcheck import token as tokens
from coatcheck.client import ClientSource
from coatcheck.edits import Edits
from coatcheck.errors import SessionClosed, StoreUnavailable
from coatcheck.lifetime import Lifetime
from coatcheck.login import Login
from coatcheck.record import Assurance, Body, Head, Record
from coatcheck.sealing import Sealer
from coatcheck.token import Domain, Token

__all__ = ["Origin", "Refusal", "State", "Terms"]

Refusal = Literal["malformed", "unknown", "expired"]


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


_EMPTY: Final = Body({}, [])


class State:
    """Of one session, in one request."""

    # Defaults live on the class: a request without a session costs one small object.
    accessed: bool
    degraded: bool
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
