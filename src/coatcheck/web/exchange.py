"""One request's sessions, from open to the end of the response: the rules that every adapter keeps.

An adapter opens an `Exchange` before the app, puts its session where the framework's users look for
it, keeps `current()` bound to it while the app runs (`context.bind(exchange.opened)`), and calls

- `respond(status)` before the response's first byte: it commits, and says what the response owes;
- `fail(error)` where the app raised before that: only a `logout()` is kept (law 9);
- `abandon(exchange)` where an asynchronous request was cancelled, or, where the framework tells
  nobody of that, `attend(exchange)` when it begins;
- `end()` when the response is over.

`respond` and `fail` give a `Head`. Where its `refused` is set, that answer goes out in the app's
place: the store was out of reach, or a login was not let in, and the app did not answer for that
itself (law 7). What the app still sends is dropped. The first of the two decides: asked again,
either gives the same `Head`, so a framework that makes a response of an error needs no care.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Generic, Self, TypeVar

from coatcheck.errors import Contention, LoginRefused, StoreUnavailable
from coatcheck.gate import Refused
from coatcheck.session import ClientSource, Session
from coatcheck.sessions import AsyncSessions, Sessions
from coatcheck.web.headers import READ, RETRY_AFTER, UNTOUCHED, Head

__all__ = ["FORBIDDEN", "UNAVAILABLE", "AsyncExchange", "Exchange", "Head", "abandon", "attend"]

S = TypeVar("S", Sessions, AsyncSessions)

UNAVAILABLE = Refused(503, (("Retry-After", RETRY_AFTER), ("Cache-Control", "no-store")))
"""The answer where the store is out of reach; the cookie of what was to be saved is not touched.

Of several sessions one may be stored by then, which cannot be taken back: its cookie goes along.
"""


FORBIDDEN = Refused(403, (("Cache-Control", "no-store"),))
"""The answer where a login was not let in, and the app did not answer for that itself."""


def _is_hiding(status: int) -> bool:
    """A framework's 500 hides an outage; a 503 is the app's own answer to it."""
    return status >= 500 and status != 503


def _answer_to(error: BaseException) -> Refused | None:
    """What answers for it in the app's place: for an outage or a refused login, what was raised
    from one, and a group that holds one."""
    found = [error]
    for each in found:  # it grows meanwhile
        if isinstance(each, StoreUnavailable | Contention):
            return UNAVAILABLE
        if isinstance(each, LoginRefused):
            return FORBIDDEN
        inside = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        causes = (cause for cause in (*inside, each.__cause__) if cause is not None)
        found += [cause for cause in causes if cause not in found]
    return None


_READ_IN_PRIVATE = READ._replace(no_store=True)


class _Opened(Generic[S]):
    """The sessions by name, the main one under None."""

    __slots__ = ("_every", "head", "opened")

    def __init__(self, every: Mapping[str | None, S], opened: Mapping[str | None, Session]) -> None:
        self._every: Mapping[str | None, S] = every
        self.opened = opened
        self.head: Head | None = None
        """What was decided, once the response has begun or the app has failed."""

    @classmethod
    def fresh(cls, every: Mapping[str | None, S], client: ClientSource) -> Self:
        """What `open` gives where there is no Cookie header: no call that may wait."""
        return cls(every, {name: each._begin(client, each._now()) for name, each in every.items()})

    @property
    def session(self) -> Session:
        return self.opened[None]

    @property
    def main(self) -> tuple[S, Session]:
        """The sessions that opened it, and the session."""
        return self._every[None], self.opened[None]

    @property
    def named(self) -> dict[str, Session]:
        """The further ones, that the adapter's `named=` gave."""
        return {name: session for name, session in self.opened.items() if name is not None}

    def settled(self, status: int) -> Head | None:
        """What `respond` would give, where nothing has to be written for it; else None.

        Most responses have nothing to commit. Where `respond` costs a coroutine or a task, an
        adapter asks here first.
        """
        if self.head is None and status < 500 and len(self.opened) == 1 and self._is_idle():
            self.session.close()
            self.head = READ if self.session.accessed else UNTOUCHED
            if self.session._is_private:
                self.head = _READ_IN_PRIVATE
        return self.head

    def _is_idle(self) -> bool:
        session = self.opened[None]
        if not session.accessed:
            return True
        with suppress(Exception):  # what cannot be committed is told by `respond`
            return session._fault is None and self._every[None].is_idle(session)
        return False

    def _refusal(self, error: BaseException) -> Refused | None:
        """The answer where the store is to blame for the app's error, whatever the app made of it,
        or a login was not let in."""
        met = any(each.accessed and each._fault is not None for each in self.opened.values())
        return UNAVAILABLE if met else _answer_to(error)

    def end(self) -> None:
        """The response is over: what was changed in place since it began is lost, so say so."""
        for session in self.opened.values():
            if session.accessed:
                session.check_closed()

    def _decide(self, cookies: list[str], refused: Refused | None = None) -> Head:
        """From now on, a change raises `SessionClosed`."""
        accessed = private = False
        for session in self.opened.values():
            session.close()
            accessed = accessed or session.accessed
            private = private or session._is_private
        self.head = Head(cookies, accessed, refused, self._clearing(), private)
        return self.head

    def _clearing(self) -> list[str]:
        left = [(name, each) for name, each in self.opened.items() if each._said_goodbye]
        values = [self._every[name].clearing(session) for name, session in left]
        return [value for value in values if value]


class Exchange(_Opened[Sessions]):
    """For `Sessions`. Its methods run in the request's own thread, one after another."""

    __slots__ = ()

    @classmethod
    def open(
        cls,
        every: Mapping[str | None, Sessions],
        cookie_header: str | bytes | None,
        client: ClientSource,
    ) -> Self:
        """Open each of the sessions with the request's cookies."""
        if cookie_header is None:
            return cls.fresh(every, client)
        opened = {}
        for name, sessions in every.items():
            opened[name] = sessions.open(cookie_header, client)
        return cls(every, opened)

    def respond(self, status: int, cause: BaseException | None = None) -> Head:
        """The response is about to begin: commit. A 5xx keeps nothing but a `logout()`.

        `cause` is the error that the framework made this response of, where the adapter knows it.
        What cannot be committed (`UnsupportedValue`, `SessionTooLarge`, …) is raised, and is the
        app's error like any other: nothing was written but a `logout()`.
        """
        if self.head is not None:
            return self.head
        if _is_hiding(status) and cause is not None and self._refusal(cause) is not None:
            return self.fail(cause)
        try:
            cookies = self._commit(status)
        except Exception as error:
            kept = self.fail(error)
            if kept.refused is None:
                raise
            return kept
        return self._decide(cookies)

    def fail(self, error: BaseException | None = None) -> Head:
        """The app raised this, or sent no response: only a `logout()` is kept.

        Where neither the store nor a refused login is to blame there is nothing to answer in the
        app's place, and the error goes on; the cookies are for whoever makes a response of it.
        """
        if self.head is not None:
            return self.head
        cookies: list[str] = []
        for name, session in self.opened.items():
            if session.accessed and session._fault is None:
                with suppress(StoreUnavailable, Contention):  # told as events; the answer is fixed
                    cookies += self._every[name].commit(session, failed=True)
        return self._decide(cookies, None if error is None else self._refusal(error))

    def _commit(self, status: int) -> list[str]:
        cookies: list[str] = []
        failed = status >= 500
        if len(self.opened) > 1 and not failed:
            for name, session in self.opened.items():
                self._every[name].rehearse(session)  # what cannot be committed is met first
        for name, session in self.opened.items():
            if session._fault is not None:
                if _is_hiding(status) and session.accessed:
                    raise session._fault
            elif session.accessed and (failed or not self._every[name].is_idle(session)):
                cookies += self._every[name].commit(session, failed=failed)
        return cookies


class AsyncExchange(_Opened[AsyncSessions]):
    """For `AsyncSessions`."""

    __slots__ = ()

    @classmethod
    async def open(
        cls,
        every: Mapping[str | None, AsyncSessions],
        cookie_header: str | bytes | None,
        client: ClientSource,
    ) -> Self:
        """Open each of the sessions with the request's cookies."""
        if cookie_header is None:
            return cls.fresh(every, client)
        opened = {}
        for name, sessions in every.items():
            opened[name] = await sessions.open(cookie_header, client)
        return cls(every, opened)

    async def respond(self, status: int, cause: BaseException | None = None) -> Head:
        """The response is about to begin: commit. A 5xx keeps nothing but a `logout()`.

        `cause` is the error that the framework made this response of, where the adapter knows it.
        What cannot be committed (`UnsupportedValue`, `SessionTooLarge`, …) is raised, and is the
        app's error like any other: nothing was written but a `logout()`.
        """
        if self.head is not None:
            return self.head
        if _is_hiding(status) and cause is not None and self._refusal(cause) is not None:
            return await self.fail(cause)
        try:
            cookies = await self._commit(status)
        except Exception as error:
            kept = await self.fail(error)
            if kept.refused is None:
                raise
            return kept
        return self._decide(cookies)

    async def fail(self, error: BaseException | None = None) -> Head:
        """The app raised this, or sent no response: only a `logout()` is kept.

        Where neither the store nor a refused login is to blame there is nothing to answer in the
        app's place, and the error goes on; the cookies are for whoever makes a response of it.
        """
        if self.head is not None:
            return self.head
        cookies: list[str] = []
        for name, session in self.opened.items():
            if session.accessed and session._fault is None:
                with suppress(StoreUnavailable, Contention):  # told as events; the answer is fixed
                    cookies += await self._every[name].commit(session, failed=True)
        return self._decide(cookies, None if error is None else self._refusal(error))

    async def _commit(self, status: int) -> list[str]:
        cookies: list[str] = []
        failed = status >= 500
        if len(self.opened) > 1 and not failed:
            for name, session in self.opened.items():
                self._every[name].rehearse(session)  # what cannot be committed is met first
        for name, session in self.opened.items():
            if session._fault is not None:
                if _is_hiding(status) and session.accessed:
                    raise session._fault
            elif session.accessed and (failed or not self._every[name].is_idle(session)):
                cookies += await self._every[name].commit(session, failed=failed)
        return cookies


_abandoned: set[asyncio.Task[Head]] = set()  # a loop alone would not keep them alive


async def abandon(exchange: AsyncExchange) -> None:
    """The request was cancelled. Nobody waits any more, but who asked to leave leaves.

    A `logout()` is kept in a task of its own: some cancellations, as anyio's, strike at every await
    that follows, and where they strike this one the task goes on.
    """
    if exchange.head is None:
        await asyncio.shield(_leaving(exchange))


def attend(exchange: AsyncExchange) -> Callable[[], object]:
    """Abandon the exchange when the task that runs now ends, unless its response began.

    Call what this returns when the response is over: the task may go on to serve other requests.
    """
    task = asyncio.current_task()
    assert task is not None

    def ended(_: object) -> None:
        if exchange.head is None:
            _leaving(exchange)

    task.add_done_callback(ended)
    return partial(task.remove_done_callback, ended)


def _leaving(exchange: AsyncExchange) -> "asyncio.Task[Head]":
    task = asyncio.create_task(exchange.fail())
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)
    return task
