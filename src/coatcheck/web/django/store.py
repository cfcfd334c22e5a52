"""`SessionStore`: Django's API over a `Session`.

In a request the middleware gives it the session of its exchange: every change is recorded there,
and written once, before the response's first byte. Made by hand, `SessionStore(session_key)` opens
the session by itself when it is first used; then `save`, `create`, `cycle_key`, `flush` and
`delete` write at once, as Django's tests, its test client and shells expect.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from django.contrib.sessions.backends.base import (  # type: ignore[import-untyped]
    CreateError,
    SessionBase,
    UpdateError,
)

from coatcheck.lifetime import Lifetime
from coatcheck.session import Session
from coatcheck.web.django.conf import configured
from coatcheck.web.django.mapping import Values
from coatcheck.web.django.pairs import Pair

__all__ = ["SessionStore"]

_MISSING: Final = object()


class SessionStore(SessionBase):  # type: ignore[misc]
    """What `request.session` is. `session_key` is the token, a secret; `id` is its public name."""

    _session_now: Session | None = None
    _in_request = False
    _pair: Pair | None = None
    _came: str | bytes | None = None
    _failure: Exception | None = None
    """Of the last `save`: what the app answers for it may hide an outage."""

    @classmethod
    def _of_request(cls, session: Session, pair: Pair, header: str | bytes | None) -> Self:
        """The store of a request, whose session the middleware opens and commits."""
        store = cls()
        store._in_request, store._pair, store._came = True, pair, header
        store._begin(session)
        return store

    # What is ours.

    @property
    def id(self) -> str | None:
        """The session's public name, for lists and rows of your own; None while there is none."""
        return self._opened().id

    @property
    def subject(self) -> str | None:
        """Who is logged in: `str(user.pk)`, or None."""
        return self._opened().subject

    def edit(self, key: str, function: Callable[[Any], Any], *, default: Any = _MISSING) -> Any:
        """Set `key` to `function(value)`, and do so again where another request got there first."""
        self.modified = True
        options = {} if default is _MISSING else {"default": default}
        return self._opened().edit(key, function, **options)

    # The key.

    def _get_key(self) -> str | None:
        session = self._session_now
        if session is None:
            return self._given
        if session._carried:
            return self._sealed(session)
        if session._is_reseeded():
            return session._token().text()
        return None if session._origin is None else session._origin.token.text()

    def _set_key(self, value: str | None) -> None:
        self._given = value if self._validate_session_key(value) else None
        self._session_now = None

    session_key = property(_get_key)
    _session_key = property(_get_key, _set_key)

    def _sealed(self, session: Session) -> str | None:
        """Of the cookie store, whose cookie is the whole session."""
        if session._cookie is not None:
            return session._cookie.partition(";")[0].partition("=")[2]
        came = [self._given, *self._twins.either.cookie.read(self._came)]
        return None if session._origin is None else came[-1]

    # The mapping; the methods of `SessionBase` use it.

    def _get_session(self, no_load: bool = False) -> Values:
        self.accessed = True
        if self._session_now is None:
            self._begin(self._twins.sync.open(self._header(self._given)))
        return self._values

    async def _aget_session(self, no_load: bool = False) -> Values:
        self.accessed = True
        if self._session_now is None:
            self._begin(await self._twins.asynchronous.open(self._header(self._given)))
        return self._values

    _session = property(_get_session)

    def _begin(self, session: Session) -> None:
        self._session_now = session
        self._values = Values(session, self._usual_lifetime())

    def _opened(self) -> Session:
        return self._get_session().session

    async def _aopened(self) -> Session:
        return (await self._aget_session()).session

    @property
    def _twins(self) -> Pair:
        return self._pair or configured().main

    def _header(self, key: str | None) -> str | None:
        """The Cookie header that a browser with this key would send."""
        return None if key is None else f"{self._twins.either.cookie.full_name}={key}"

    def _usual_lifetime(self) -> Lifetime:
        return self._twins.either.lifetime

    def get_session_cookie_age(self) -> int:
        """Seconds without use after which a session ends that has no expiry of its own."""
        usual = self._usual_lifetime()
        idle, absolute = usual.idle_ms(remember=False), usual.deadline(0, remember=False)
        return (absolute if idle is None else min(idle, absolute)) // 1000

    def clear(self) -> None:
        self._session.clear()
        self.modified = True

    def is_empty(self) -> bool:
        """Whether there is neither a key nor a value."""
        session = self._session_now
        return self._get_key() is None and (session is None or not session._edits.data)

    # What Django asks of an engine.

    def exists(self, session_key: str | None) -> bool:
        return bool(session_key) and not self._other(session_key).is_new

    async def aexists(self, session_key: str | None) -> bool:
        return bool(session_key) and not (await self._aother(session_key)).is_new

    def load(self) -> dict[str, Any]:
        self._forget()
        return dict(self._get_session())

    async def aload(self) -> dict[str, Any]:
        self._forget()
        return dict(await self._aget_session())

    def create(self) -> None:
        _renew(self._opened())
        self.save()
        self.modified = True

    async def acreate(self) -> None:
        _renew(await self._aopened())
        await self.asave()
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Commit what was done, before the middleware does. An empty session is created too."""
        session = self._opened()
        _want(session, must_create)
        with self._noted():
            self._twins.sync.commit(session)
        self._check_kept(session)

    async def asave(self, must_create: bool = False) -> None:
        session = await self._aopened()
        _want(session, must_create)
        with self._noted():
            await self._twins.asynchronous.commit(session)
        self._check_kept(session)

    def delete(self, session_key: str | None = None) -> None:
        session_key = session_key or self._key_when_over()
        session = self._opened() if session_key is None else self._other(session_key)
        session.logout()
        if session_key is not None or not self._in_request:
            self._twins.sync.commit(session)

    async def adelete(self, session_key: str | None = None) -> None:
        session_key = session_key or self._key_when_over()
        session = await self._aopened() if session_key is None else await self._aother(session_key)
        session.logout()
        if session_key is not None or not self._in_request:
            await self._twins.asynchronous.commit(session)

    def cycle_key(self) -> None:
        """A new token for the same session; `id` stays."""
        self._opened().rotate()
        self.modified = True
        if not self._in_request:
            self.save()

    async def acycle_key(self) -> None:
        (await self._aopened()).rotate()
        self.modified = True
        if not self._in_request:
            await self.asave()

    def flush(self) -> None:
        """Log out: the session ends here and in the store."""
        self.delete()
        self.modified = True

    async def aflush(self) -> None:
        await self.adelete()
        self.modified = True

    @classmethod
    def clear_expired(cls) -> None:
        for pair in configured().pairs.values():
            pair.sync.sweep()

    @classmethod
    async def aclear_expired(cls) -> None:
        for pair in configured().pairs.values():
            await pair.asynchronous.sweep()

    def _other(self, key: str | None) -> Session:
        return self._twins.sync.open(self._header(key))

    async def _aother(self, key: str | None) -> Session:
        return await self._twins.asynchronous.open(self._header(key))

    def _key_when_over(self) -> str | None:
        """The key where the response has begun: a logout needs no response. Django logs out so who
        reads `request.user` in an outer middleware after a change of password."""
        session = self._session_now
        return self._get_key() if session is not None and session._closed else None

    def _forget(self) -> None:
        """Read the store anew; in a request the session is opened once."""
        if not self._in_request:
            self._set_key(self._get_key())

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failure = error
            raise
        self._failure = None

    def _check_kept(self, session: Session) -> None:
        # In a request the changes of a session that ended meanwhile are dropped, and that is all.
        if session._muted and not self._in_request:
            raise UpdateError


def _renew(session: Session) -> None:
    if not session.is_new:
        session.rotate()


def _want(session: Session, must_create: bool) -> None:
    """The session is to exist, empty or not."""
    if must_create and not session.is_new:
        raise CreateError
    session._ensure()
