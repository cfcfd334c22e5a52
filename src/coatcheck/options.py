"""The options of `Sessions` and `AsyncSessions`, checked once, and what needs no store."""

import inspect
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Literal, TypeVar

from coatcheck import event_log, events, lifecycle, patience
from coatcheck.backends import Answer, Outcome
from coatcheck.cookie import Cookie
from coatcheck.delivery import AsyncDelivery, Delivery
from coatcheck.errors import ConfigurationError, LoginRefused, StoreUnavailable
from coatcheck.events import Event, Handler, Moment
from coatcheck.lifecycle import Rules, Write
from coatcheck.lifetime import LONGEST, Lifetime
from coatcheck.record import NewerFormat, Record
from coatcheck.session import ClientSource, Session
from coatcheck.site_data import Directive, site_data
from coatcheck.store import (
    FORBIDDEN,
    FULL,
    SAVED,
    Admitting,
    Advising,
    AsyncStore,
    Carrier,
    Entered,
    Listable,
    Risk,
)
from coatcheck.telemetry import NO_SPAN, Telemetry
from coatcheck.token import Domain

__all__ = ["Configured", "cannot", "check_store"]

S = TypeVar("S")

_NO_LIMIT = patience.limit(None)
_LEAST, _MOST = 2 * lifecycle.GRACE / 1000, LONGEST / 1000


class Configured:
    """The options that both drivers share, checked once."""

    _store: object
    _delivery: Delivery | AsyncDelivery
    _telemetry: Telemetry | None
    _patience: float | None = None

    def __init__(
        self,
        *,
        carrier: Carrier | None,
        name: str | None,
        cookie: Cookie,
        lifetime: Lifetime,
        max_bytes: int,
        outage: Literal["refuse", "anonymous"],
        limit: int | None,
        over_limit: Literal["end", "refuse"],
        renew_after: float | timedelta | None,
        on_event: Handler | None,
        clock: Callable[[], float],
        clear_site_data: Sequence[Directive],
    ) -> None:
        _check_options(cookie, lifetime, max_bytes, outage, on_event, clock)
        _check_limit(limit, over_limit)
        self.name = cookie.name if name is None else name
        self.cookie = cookie
        self.lifetime = lifetime
        self._carrier = carrier
        self._outage = outage
        self._clock = clock
        self._down: deque[float] = deque(maxlen=1)  # since when the store is out of reach
        domain = Domain(_name_bytes(self.name))
        self._rules = Rules(
            domain=domain,
            cookie=cookie,
            lifetime=lifetime,
            max_bytes=max_bytes,
            renew_after=_renewal_ms(renew_after, carrier),
            carrier=carrier,
            limit=limit,
            refuses=over_limit == "refuse",
            site_data=site_data(clear_site_data),
            read=lifecycle.reader(domain, carrier),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same sessions."""
        return bool(getattr(self._store, "shared", True))

    @property
    def is_listable(self) -> bool:
        """Whether `list_for` and `list_all` can answer."""
        return self._carrier is None and isinstance(self._store, Listable)

    def shares_tokens_with(self, other: "Configured") -> bool:
        """Whether each would accept the other's cookies: one store, and one name."""
        same_store = (self._carrier or self._store) is (other._carrier or other._store)
        return same_store and self.name == other.name

    def is_idle(self, session: Session) -> bool:
        """Whether `commit` would have nothing to do, and no cookie to send."""
        return lifecycle.is_idle(self._rules, session, self._now())

    def rehearse(self, session: Session) -> None:
        """Raise what `commit` would raise without asking the store; nothing is written."""
        if session.accessed and session._fault is None:
            lifecycle.settle(self._rules, session, self._now())

    def clearing(self, session: Session) -> str:
        """The value of the Clear-Site-Data header that the response owes after `commit`; or ""."""
        return lifecycle.clearing(self._rules, session)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _tell(self, *told: Event) -> None:
        for event in told:
            event_log.log(event)
            if self._telemetry is not None:
                self._telemetry.count(event)
            self._delivery.put(event)

    def _measured(self, store: S) -> S:
        """The store's verbs as requests call them."""
        return store if self._telemetry is None else self._telemetry.measured(store)

    def _span(self, moment: str, session_id: str | None) -> AbstractContextManager[object]:
        """What a moment of I/O with the store is traced as; nothing where there is none."""
        if self._telemetry is None or session_id is None or self._store is None:
            return NO_SPAN
        return self._telemetry.span(moment, session_id)

    def _entered(self, write: Write, outcome: Outcome) -> Answer:
        """What a write came to; with a login that was let in, others may have ended."""
        if not isinstance(outcome, Entered):
            assert outcome is not FORBIDDEN and outcome is not FULL  # noqa: PT018
            return outcome
        subject = write.origin.record.subject
        for each in outcome.ended:
            self._tell(events.Revoked(session_id=each, subject=subject, reason="limit"))
        return SAVED

    def _replay(self, session: Session, answer: Answer) -> None:
        """Begin again with what was found instead. Raises `LoginRefused` where nothing was."""
        origin = session._origin
        try:
            lifecycle.replay(session, answer)
        except LoginRefused as refused:
            if origin is not None:
                self._tell_refused(origin.record, refused)
            raise

    def _tell_refused(self, record: Record, refused: LoginRefused) -> None:
        subject = record.subject
        told = events.LoginRefused(session_id=record.id, subject=subject, reason=refused.reason)
        self._tell(told)

    def _met_outage(self, moment: Moment, error: StoreUnavailable, id: str | None = None) -> None:
        if not isinstance(error, NewerFormat) and not self._down:  # with that, the store answered
            self._down.append(time.monotonic())
        self._tell(events.Outage(session_id=id, moment=moment, error=str(error)))

    def _recovered(self) -> None:
        """The store answered, for the first time since an outage: of many threads, one tells."""
        with suppress(IndexError):
            since = self._down.pop()
            self._tell(events.Recovered(after=time.monotonic() - since))

    def _merged(self, record: Record, tries: int) -> None:
        self._tell(events.Merged(session_id=record.id, subject=record.subject, tries=tries))

    def _contended(self, record: Record, tries: int) -> None:
        self._tell(events.Contended(session_id=record.id, subject=record.subject, tries=tries))

    def _skipped(self, record: Record, error: StoreUnavailable) -> None:
        told = events.Skipped(session_id=record.id, subject=record.subject, error=str(error))
        self._tell(told)

    def _attend(self) -> None:
        """Learn from the store how long it may take, and what it finds wrong with its server."""
        self._patience = getattr(self._store, "patience", None)
        can_limit = self._carrier is None and isinstance(self._store, Admitting)
        if self._rules.limit is not None and not can_limit:
            raise cannot("limit how many sessions a subject has", self._carrier, self._store)
        if isinstance(self._store, Advising):
            self._store.advise(self._warn)

    def _warn(self, risk: Risk) -> None:
        self._tell(events.RiskyConfiguration(setting=risk.setting, consequence=risk.consequence))

    @property
    def _in_time(self) -> patience.limit:
        """What one request may wait for the store at a time, all of its calls together."""
        return _NO_LIMIT if self._patience is None else patience.limit(self._patience)

    def _begin(self, client: ClientSource, now: int) -> Session:
        session = Session(self._rules.domain, now, client)
        if self._carrier is not None:
            session._carried = True
        return session

    def _began(self, session: Session) -> bool:
        """Whether it was opened here, and not by other sessions."""
        return session._domain is self._rules.domain

    def _without_store(self, session: Session, error: StoreUnavailable) -> Session:
        self._met_outage("open", error)
        if self._outage == "anonymous":
            session.degraded = True
        else:
            session._fault = error
        return session


def cannot(what: str, carrier: Carrier | None, store: object = None) -> ConfigurationError:
    """The error for a capability that the store lacks; a store may say why, as `why_not`."""
    got, remedy = "one that cannot", "use a server-side store"
    why = getattr(store, "why_not", None)
    if carrier is not None:
        remedy += ", or give the cookie store revocations= and end by id"
    elif why is not None:
        got, remedy = f"one that cannot, as {why}", "use another store, such as RedisStore"
    return ConfigurationError(f"Sessions: expected a store that can {what}, got {got}; {remedy}")


def check_store(store: object, wanted: type) -> None:
    """Refuse what is no store, and a store of the other kind, whose answers nobody would await."""
    asynchronous = wanted is AsyncStore
    kind = "AsyncSessions" if asynchronous else "Sessions"
    if hasattr(store, "revocations"):  # of a cookie store
        store = store.revocations
        if store is None:
            return
    load = getattr(store, "load", None)
    if not callable(load) or inspect.isclass(store):
        got = type(store).__name__  # not itself: a URL may hold a password
        raise _wrong("store", "a store", got, "make one, such as MemoryStore()", kind)
    if inspect.iscoroutinefunction(load) is not asynchronous:
        expected = "an asynchronous store" if asynchronous else "a synchronous store"
        remedy = f"give it {'Async' if asynchronous else 'no Async'}…Store, or take the other class"
        raise _wrong("store", expected, type(store).__name__, remedy, kind)


def _check_options(
    cookie: object,
    lifetime: object,
    max_bytes: object,
    outage: object,
    on_event: object,
    clock: object,
) -> None:
    if on_event is not None and not callable(on_event):
        raise _wrong("on_event", "a function of one event, or None", on_event, "pass a function")
    if not callable(clock):
        raise _wrong("clock", "a function that gives seconds", clock, "pass time.time")
    if not isinstance(cookie, Cookie):
        raise _wrong("cookie", "a coatcheck.Cookie", cookie, 'pass Cookie("name")')
    if not isinstance(lifetime, Lifetime):
        raise _wrong("lifetime", "a coatcheck.Lifetime", lifetime, "pass Lifetime(idle=3600)")
    if type(max_bytes) is not int or max_bytes < 1:
        raise _wrong("max_bytes", "a positive int", max_bytes, "pass bytes, such as 65536")
    if outage not in ("refuse", "anonymous"):
        raise _wrong("outage", '"refuse" or "anonymous"', outage, "choose one of the two")


def _check_limit(limit: object, over_limit: object) -> None:
    if limit is not None and (type(limit) is not int or limit < 1):
        raise _wrong("limit", "a positive int or None", limit, "pass 5, say")
    if over_limit not in ("end", "refuse"):
        raise _wrong("over_limit", '"end" or "refuse"', over_limit, "choose one of the two")


def _wrong(
    option: str, expected: str, got: object, remedy: str, kind: str = "Sessions"
) -> ConfigurationError:
    return ConfigurationError(f"{kind}: expected {option} to be {expected}, got {got!r}; {remedy}")


def _name_bytes(name: object) -> bytes:
    encoded = name.encode("utf-8", "ignore") if isinstance(name, str) else b""
    if not 1 <= len(encoded) <= 255 or encoded.decode() != name:
        raise _wrong("name", "1 to 255 bytes of text", name, "pass a short name of the site")
    return encoded


def _renewal_ms(renew_after: float | timedelta | None, carrier: Carrier | None) -> int | None:
    """Renewals must lie further apart than the grace that the previous proof enjoys."""
    if renew_after is None:
        return None
    seconds = renew_after.total_seconds() if isinstance(renew_after, timedelta) else renew_after
    if carrier is not None:
        raise _wrong("renew_after", "None", seconds, "a cookie that is the record has no proof")
    if not isinstance(seconds, int | float) or not _LEAST < seconds < _MOST:
        raise _wrong("renew_after", "more than 120 seconds", seconds, "pass 900, say")
    return round(seconds * 1000)
