"""`Sessions`, `AsyncSessions`: options, events, early commits, lists, turns, the store's care."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Contention,
    Cookie,
    KeyRing,
    Lifetime,
    Session,
    Sessions,
    StoreUnavailable,
    patience,
)
from coatcheck.events import (
    Contended,
    CopiedCookie,
    Created,
    LoggedIn,
    LoggedOut,
    Merged,
    Refused,
    Renewed,
    Revoked,
    Rotated,
    Skipped,
    Swept,
)
from coatcheck.record import Record
from coatcheck.state import Terms
from coatcheck.stores.cookie import AsyncCookieStore, CookieStore
from coatcheck.stores.file import FileStore
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.testing import Clock, changed, ident, login
from coatcheck.testing import record as a_record
from coatcheck.turns import AsyncTurns, Turns
from tests.forks import c_fork, forks_beside_threads, in_child
from tests.sites import KEY, Browser, Site

PATIENCE = 20.0
"""Seconds after which a test gives up on something that must come."""


@pytest.fixture
def memory() -> Site:
    return Site("memory", Path())


def put(key: str, value: Any) -> Callable[[Any], None]:
    return lambda session: session.__setitem__(key, value)


WRONG_OPTIONS: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "x" * 256},
    {"name": "ü" * 128},
    {"name": 7},
    {"name": b"site"},
    {"name": "\ud800"},
    {"cookie": "session"},
    {"cookie": None},
    {"lifetime": 3600},
    {"lifetime": None},
    {"max_bytes": 0},
    {"max_bytes": -1},
    {"max_bytes": 1.5},
    {"max_bytes": True},
    {"max_bytes": None},
    {"outage": "ignore"},
    {"outage": None},
    {"outage": ["refuse"]},
    {"renew_after": 120},
    {"renew_after": 0},
    {"renew_after": -900},
    {"renew_after": float("nan")},
    {"renew_after": float("inf")},
    {"renew_after": "900"},
    {"renew_after": True},
    {"renew_after": timedelta(seconds=120)},
    {"on_event": "print"},
    {"clock": 1_800_000_000},
]


class TestOptions:
    @pytest.mark.parametrize("make", [Sessions, AsyncSessions])
    @pytest.mark.parametrize("options", WRONG_OPTIONS, ids=repr)
    def test_a_malformed_option_is_refused(self, make: Any, options: dict[str, Any]) -> None:
        """When it is made, by its name."""
        store = MemoryStore() if make is Sessions else AsyncMemoryStore()
        (name,) = options
        with pytest.raises(ConfigurationError, match=rf"expected {name}"):
            make(store, **options)

    @pytest.mark.parametrize(
        "store", [None, "memory:", MemoryStore, object()], ids=["none", "url", "class", "object"]
    )
    @pytest.mark.parametrize("make", [Sessions, AsyncSessions])
    def test_what_is_no_store_is_refused(self, make: Any, store: object) -> None:
        """When it is made, not at the first request."""
        with pytest.raises(ConfigurationError, match="store"):
            make(store)

    @pytest.mark.parametrize(
        ("make", "store"),
        [
            (Sessions, AsyncMemoryStore()),
            (AsyncSessions, MemoryStore()),
            (Sessions, CookieStore(KeyRing(KEY), revocations=AsyncMemoryStore())),  # type: ignore[arg-type]
            (AsyncSessions, AsyncCookieStore(KeyRing(KEY), revocations=MemoryStore())),  # type: ignore[arg-type]
        ],
        ids=["async store", "sync store", "async revocations", "sync revocations"],
    )
    def test_a_store_of_the_other_kind_is_refused(self, make: Any, store: object) -> None:
        """The two are easy to mix up, and the first request would fail in an odd way."""
        with pytest.raises(ConfigurationError, match="Async"):
            make(store)

    def test_a_cookie_that_is_the_record_has_nothing_to_renew(self) -> None:
        """So the option is refused."""
        with pytest.raises(ConfigurationError, match="renew_after"):
            Sessions(CookieStore(KeyRing(KEY), revocations=None), renew_after=900)

    def test_the_name_is_the_cookies(self) -> None:
        """Unless it is given."""
        assert "session" == Sessions(MemoryStore()).name
        assert "prefs" == Sessions(MemoryStore(), cookie=Cookie("prefs")).name
        assert "site" == Sessions(MemoryStore(), name="site").name

    def test_spans_may_be_timedeltas(self, make_site: Callable[..., Site]) -> None:
        """Renewal too."""
        site = make_site(renew_after=timedelta(minutes=15))
        owner = site.browser()
        owner.login()
        site.clock.move(900)
        owner.visit(lambda s: s.subject)

        assert 1 == len(site.events_of(Renewed))

    def test_a_cookie_that_is_not_persistent_has_no_age(
        self, make_site: Callable[..., Site]
    ) -> None:
        """Unless the login is to be remembered."""
        site = make_site(cookie=Cookie(persistent=False))
        browser = site.browser()
        browser.login()
        assert "Max-Age" not in browser.answers[-1]
        browser.login(remember=True)

        assert "Max-Age=2592000" in browser.answers[-1]

    def test_whether_other_processes_share_it_is_the_stores_word(self) -> None:
        """Memory is not shared, and what says nothing is."""
        carried = Sessions(CookieStore(KeyRing(KEY), revocations=None))

        assert (False, True) == (Sessions(MemoryStore()).is_shared, carried.is_shared)

    def test_no_secret_in_a_repr(self) -> None:
        """Its name is enough."""
        assert "Sessions('session')" == repr(Sessions(MemoryStore()))


class TestHeader:
    def test_bytes_and_text_are_the_same(self, site: Site) -> None:
        """As frameworks give it."""
        owner = site.browser()
        owner.login()
        assert owner.cookie is not None

        assert "user:42" == site.open(owner.cookie).subject
        assert "user:42" == site.open(owner.cookie.encode()).subject

    def test_a_session_that_may_be_idle_is_told(self, site: Site) -> None:
        """So that an adapter can skip a commit that would do nothing."""
        owner = site.browser()
        owner.visit(put("a", 1))
        reading, writing = owner.begin(), owner.begin()
        assert 1 == reading["a"]
        writing["a"] = 2

        assert (True, False) == (site.sessions.is_idle(reading), site.sessions.is_idle(writing))
        leaving = owner.begin()
        leaving.logout()
        assert False is site.sessions.is_idle(leaving)


class TestEvents:
    def test_each_thing_that_happens_is_told_once(self, make_site: Callable[..., Site]) -> None:
        """In its order, with the session's id and subject."""
        site = make_site(renew_after=600)
        owner = site.browser()
        owner.visit(put("a", 1))
        owner.login()
        owner.visit(lambda s: s.rotate())
        site.clock.move(600)
        owner.visit(lambda s: s.subject)
        owner.visit(lambda s: s.logout())
        (told_of,) = {event.session_id for event in site.events}

        told = [(type(event), event.subject) for event in site.events]
        assert [
            (Created, None),
            (LoggedIn, "user:42"),
            (Rotated, "user:42"),
            (Renewed, "user:42"),
            (LoggedOut, "user:42"),
        ] == told
        assert 32 == len(told_of or "")

    def test_nothing_is_told_of_what_was_not_written(self, site: Site) -> None:
        """A login that a failed response drops did not happen."""
        session = site.open()
        session.login("user:42")
        site.commit(session, failed=True)

        assert [] == site.events

    def test_a_revocation_is_told(self, server: Site) -> None:
        """With whose session it was."""
        session = server.browser().login()
        server.call("revoke", session.id)

        assert [(session.id, "user:42")] == [
            (event.session_id, event.subject) for event in server.events_of(Revoked)
        ]

    @pytest.mark.parametrize("value", ["garbage", "A" * 64])
    def test_a_refusal_says_why(self, site: Site, value: str) -> None:
        """And names no more than the public id."""
        site.open(f"{site.sessions.cookie.full_name}={value}")
        (event,) = site.events_of(Refused)
        well_shaped = len(value) == 64 and not site.is_carried

        assert ("unknown" if well_shaped else "malformed") == event.reason
        assert ("0" * 32 if well_shaped else None) == event.session_id

    def test_an_event_can_be_logged_whole(self, memory: Site) -> None:
        """No token, no value."""
        owner = memory.browser()
        owner.login()
        owner.visit(put("secret", "a value"))
        assert owner.cookie is not None
        told = repr(memory.events)

        assert "LoggedIn" in told
        assert "a value" not in told
        assert owner.cookie.partition("=")[2][22:] not in told


class TestEarlyCommits:
    def test_an_early_commit_is_seen_by_others(self, site: Site) -> None:
        """Before the response has begun."""
        session = site.open()
        session["a"] = 1
        (header,) = site.commit(session)

        assert {"a": 1} == dict(site.open(header.partition(";")[0]))

    def test_a_later_commit_repeats_the_cookie(self, server: Site) -> None:
        """The last call's answer is the whole one."""
        session = server.open()
        session["a"] = 1
        early = server.commit(session)

        assert early == server.commit(session)

    def test_a_logout_after_an_early_commit_takes_its_cookie_back(self, site: Site) -> None:
        """And ends what was just stored."""
        session = site.open()
        session.login("user:42")
        (early,) = site.commit(session)
        session.logout()
        (late,) = site.commit(session)

        assert "; Max-Age=0" in late
        assert None is site.open(early.partition(";")[0]).subject

    def test_a_login_after_an_early_commit_ends_its_token(self, site: Site) -> None:
        """Law 5 within one request."""
        session = site.open()
        session["a"] = 1
        (early,) = site.commit(session)
        session.login("user:42")
        (late,) = site.commit(session)

        assert True is site.open(early.partition(";")[0]).is_new
        assert ("user:42", 1) == (site.open(late.partition(";")[0]).subject, session["a"])

    def test_edits_count_once_however_often_it_commits(self, server: Site) -> None:
        """What is stored is not done again."""
        owner = server.browser()
        owner.visit(put("n", 0))
        session = owner.begin()
        for _ in range(3):
            session.edit("n", lambda n: n + 1)
            server.commit(session)
            server.commit(session)
            owner.visit(lambda s: s.edit("n", lambda n: n + 100))

        assert {"n": 303} == owner.values()

    def test_a_message_read_stays_read(self, site: Site) -> None:
        """Over early commits too."""
        owner = site.browser()
        owner.visit(lambda s: s.flash("one"))
        session = owner.begin()
        assert 1 == len(session.flashes())
        owner.end(session)
        session.flash("two")
        owner.end(session)

        assert [("two", "info")] == owner.begin().flashes()

    def test_what_was_overtaken_once_stays_dropped(self, server: Site) -> None:
        """After a logout by another request, nothing of this one comes through."""
        owner = server.browser()
        owner.login()
        slow = owner.begin()
        slow["a"] = 1
        owner.visit(lambda s: s.logout())
        assert [] == server.commit(slow)
        slow["b"] = 2

        assert ([], []) == (server.commit(slow), server.records())


class TestLists:
    def test_a_list_shows_what_a_device_page_needs(self, listing: Site) -> None:
        """The last seen first, with times and clients."""
        first = listing.open(None, Client("203.0.113.9", "Firefox"))
        first.login("user:42")
        listing.commit(first)
        listing.clock.move(10)
        second = listing.open(None, Client("203.0.113.7", "Chrome"))
        second.login("user:42")
        listing.commit(second)
        infos = listing.call("list_for", "user:42")
        now = datetime.fromtimestamp(listing.clock(), UTC)

        assert [second.id, first.id] == [info.id for info in infos]
        assert ["Chrome", "Firefox"] == [info.client.agent for info in infos]
        assert [now, now, now, now + timedelta(hours=1), "user:42"] == [
            infos[0].created_at,
            infos[0].seen_at,
            infos[0].login_at,
            infos[0].expires_at,
            infos[0].subject,
        ]

    def test_a_list_shows_no_other_subject(self, listing: Site) -> None:
        """Nor anonymous ones, nor what ended."""
        listing.browser().login("user:7")
        listing.browser().visit(put("a", 1))
        gone = listing.browser()
        gone.login()
        gone.visit(lambda s: s.logout())

        assert [] == listing.call("list_for", "user:42")
        assert 1 == len(listing.call("list_for", "user:7"))

    def test_a_record_of_a_newer_format_is_left_out(self, memory: Site) -> None:
        """It cannot be shown, and is not touched."""
        memory.browser().login()
        (record,) = memory.records()
        newer = changed(record, payload=b"\x02" + record.payload[1:])
        memory.store.save(newer, record.revision, int(memory.clock() * 1000))

        assert ([], [newer]) == (memory.call("list_for", "user:42"), memory.records())

    def test_the_cookie_store_cannot_list(self) -> None:
        """And says so, with what to use instead."""
        sessions = Sessions(CookieStore(KeyRing(KEY), revocations=MemoryStore()))
        with pytest.raises(ConfigurationError, match="server-side store"):
            sessions.list_for("user:42")
        with pytest.raises(ConfigurationError, match="server-side store"):
            Sessions(CookieStore(KeyRing(KEY), revocations=None)).revoke_all("user:42")

    @pytest.mark.parametrize("id", ["", "x", "0" * 31, "0" * 33, "A" * 32, "%" * 32, "é" * 32])
    def test_a_malformed_id_revokes_nothing(self, site: Site, id: str) -> None:
        """And never reaches the store: a form may send anything."""
        assert False is site.call("revoke", id)

    @pytest.mark.parametrize("id", [None, 7, b"0" * 32])
    def test_an_id_of_another_type_revokes_nothing(self, site: Site, id: Any) -> None:
        """Nor does it raise."""
        assert False is site.call("revoke", id)

    @pytest.mark.parametrize("subject", ["", "\ud800", "a\0b", "a\n", "x" * 256])
    def test_a_subject_that_cannot_log_in_has_no_sessions(
        self, listing: Site, subject: str
    ) -> None:
        """And never reaches the store: a form may send anything."""
        assert ([], 0) == (listing.call("list_for", subject), listing.call("revoke_all", subject))

    @pytest.mark.parametrize("make", [SQLiteStore, FileStore])
    def test_nor_has_it_in_a_store_on_a_disk(
        self, tmp_path: Path, make: Callable[[Path], Any]
    ) -> None:
        """Which could not even write it down."""
        sessions = Sessions(make(tmp_path / "sessions"))

        assert ([], 0) == (sessions.list_for("\ud800"), sessions.revoke_all("\ud800"))
        sessions.close()

    def test_revoking_twice_says_so(self, server: Site) -> None:
        """The second finds nothing."""
        session = server.browser().login()

        assert [True, False] == [server.call("revoke", session.id) for _ in range(2)]
        assert 1 == len(server.events_of(Revoked))

    def test_revoke_all_counts_what_it_ended(self, listing: Site) -> None:
        """Nothing where nobody is logged in."""
        for _ in range(3):
            listing.browser().login()

        assert [3, 0] == [listing.call("revoke_all", "user:42") for _ in range(2)]
        assert 3 == len(listing.events_of(Revoked))


class Forgetful(MemoryStore):
    """A delete that its server did not confirm: it was done, and nobody may rely on it."""

    def __init__(self) -> None:
        super().__init__()
        self.confirms = False
        self.deleted: list[str] = []

    def delete(self, id: str, now: int) -> bool:
        self.deleted.append(id)
        existed = super().delete(id, now)
        if not self.confirms:
            raise StoreUnavailable("no replica confirmed it")
        return existed


def test_a_revocation_that_was_not_confirmed_is_asked_for_again(
    make_site: Callable[..., Site],
) -> None:
    """The store is asked to end what is not there, so that the end is confirmed at last."""
    store = Forgetful()
    site = make_site("memory", store=store)
    session_id = site.browser().login().id
    with pytest.raises(StoreUnavailable):
        site.call("revoke", session_id)
    store.confirms = True

    assert False is site.call("revoke", session_id, subject="user:42")
    assert [session_id] * 2 == store.deleted


class TestStore:
    def test_sweep_removes_what_expired(self, sweeping: Site) -> None:
        """In batches, until none is left, told once."""
        for _ in range(5):
            sweeping.browser().login()
        sweeping.clock.move(3600)
        sweeping.browser().login()

        assert 5 == sweeping.call("sweep")
        assert [5] == [event.count for event in sweeping.events_of(Swept)]
        assert 1 == len(sweeping.records())

    def test_ping_asks_the_store(self, site: Site) -> None:
        """And is content with any answer."""
        assert None is site.call("ping")

    def test_ping_raises_where_the_store_does_not_answer(self) -> None:
        """For a health check."""

        class Down(MemoryStore):
            def load(self, id: str, now: int) -> Record | None:
                raise StoreUnavailable("expected an answer, got none; wait")

        with pytest.raises(StoreUnavailable):
            Sessions(Down()).ping()

    def test_sessions_close_their_store(self) -> None:
        """By a call, or at the end of a with block."""
        closed: list[str] = []

        class Closing(MemoryStore):
            def close(self) -> None:
                closed.append("sync")

        class AsyncClosing(AsyncMemoryStore):
            async def close(self) -> None:
                closed.append("async")

        async def block() -> None:
            async with AsyncSessions(AsyncClosing()) as sessions:
                assert isinstance(sessions, AsyncSessions)

        with Sessions(Closing()) as sessions:
            assert isinstance(sessions, Sessions)
        asyncio.run(block())

        assert ["sync", "async"] == closed

    def test_a_cookie_store_alone_has_nothing_to_sweep_ping_or_close(self) -> None:
        """Each is fine."""
        with Sessions(CookieStore(KeyRing(KEY), revocations=None)) as sessions:
            assert (0, None) == (sessions.sweep(), sessions.ping())  # type: ignore[func-returns-value]


class Rivalled(MemoryStore):
    """A real store in which another process always saves a moment before us."""

    def __init__(self, wins: int) -> None:
        super().__init__()
        self.wins = wins

    def save(self, record: Record, expected: bytes, now: int) -> Any:
        found = self.load(record.id, now)
        if self.wins and found is not None:
            self.wins -= 1
            super().save(changed(found, payload=found.payload), found.revision, now)
        return super().save(record, expected, now)


class TestContention:
    def test_a_save_is_tried_twenty_times_and_more(self) -> None:
        """Against a rival who wins twenty times, with an event that counts them."""
        site = Site("memory", Path(), store=Rivalled(20))
        owner = site.browser()
        owner.visit(put("a", 1))
        owner.visit(put("b", 2))

        assert {"a": 1, "b": 2} == owner.values()
        assert [(20, None)] == [(event.tries, event.subject) for event in site.events_of(Merged)]

    def test_a_save_that_never_goes_through_gives_up(self) -> None:
        """With an error, an event, and nothing written."""
        site = Site("memory", Path(), store=Rivalled(1000))
        owner = site.browser()
        owner.visit(put("a", 1))
        with pytest.raises(Contention):
            owner.visit(put("b", 2))

        assert ({"a": 1}, 1) == (owner.values(), len(site.events_of(Contended)))

    def test_a_renewal_that_never_goes_through_is_skipped(self) -> None:
        """The request only read; it does not fail for it (law 7)."""
        site = Site("memory", Path(), {"renew_after": 600}, store=Rivalled(1000))
        owner = site.browser()
        owner.visit(put("a", 1))
        site.clock.move(600)
        session = owner.begin()
        assert 1 == session["a"]

        assert [] == owner.end(session)
        assert 1 == len(site.events_of(Skipped))

    def test_a_session_that_grew_under_a_larger_limit_is_renewed(self) -> None:
        """It can be read and kept; only a change of it must respect the new limit."""
        site = Site("memory", Path(), {"renew_after": 600})
        owner = site.browser()
        owner.visit(put("a", "x" * 5000))
        site.clock.move(600)
        site.sessions = Sessions(
            site.store,
            clock=site.clock,
            renew_after=600,
            max_bytes=1000,
            on_event=site.events.append,
        )
        session = owner.begin()
        assert 5000 == len(session["a"])

        assert 1 == len(owner.end(session))

    def test_a_seen_mark_that_meets_a_newer_format_is_skipped(self) -> None:
        """The request was served from what it had read (law 7)."""
        site = Site("memory", Path(), {"renew_after": 600})
        owner = site.browser()
        owner.login()
        site.clock.move(600)
        owner.visit(lambda s: s.subject)
        reading = owner.begin()
        assert "user:42" == reading.subject
        (record,) = site.records()
        newer = changed(record, payload=b"\x02" + record.payload[1:])
        site.store.save(newer, record.revision, int(site.clock() * 1000))

        assert [] == owner.end(reading)
        assert [newer] == site.records()


FIVE = Terms(Lifetime(idle=300, absolute=600), persistent=True)
ENDLESS = Terms(Lifetime(idle=300, absolute=None), persistent=True)
MONTHS = Terms(Lifetime(idle=5_000_000, absolute=5_000_000), persistent=True)
WINDOW = Terms(Lifetime(idle=3600, absolute=86_400), persistent=False)
LIMITS = [FIVE, ENDLESS, MONTHS, WINDOW, None]


class Limited(Browser):
    """A browser of an adapter that keeps a session's own limits, as Django's does."""

    kept: Terms | None = None
    until = 0.0  # when the cookie ends

    def begin(self) -> Session:
        session = super().begin()
        session._terms = self.kept if session._origin is not None else None
        return session

    def end(self, session: Session, *, failed: bool = False) -> list[str]:
        sent = super().end(session, failed=failed)
        self.kept = session._terms
        for header in sent:
            self.until = self.site.clock() + (_age(header) or 400 * 86_400)
        return sent

    @property
    def ends(self) -> tuple[float, float]:
        """In how many seconds the record ends, and in how many at the latest."""
        origin = self.begin()._origin
        assert origin is not None
        now = self.site.now
        return (origin.record.expires_at - now) / 1000, (origin.head.deadline - now) / 1000


def _age(header: str) -> int | None:
    found = [part for part in header.split("; ") if part.startswith("Max-Age=")]
    return int(found[0].removeprefix("Max-Age=")) if found else None


def limit(terms: Terms | None) -> Callable[[Session], None]:
    return lambda session: session._set_terms(terms)


class TestOwnLimits:
    """What an adapter gives one session in the place of the lifetime of all."""

    @pytest.fixture(params=["memory", "memory-async", "cookie", "cookie-async"])
    def owner(self, request: pytest.FixtureRequest) -> Iterator[Limited]:
        """Of a stored session that has the usual limits."""
        site = Site(request.param, Path())
        owner = Limited(site)
        owner.visit(put("a", 1))
        yield owner
        site.close()

    def test_a_new_session_may_have_them(self, memory: Site) -> None:
        """An empty one too, that is to exist: one lifetime for the cookie and the record."""
        owner = Limited(memory)

        def create(session: Session) -> None:
            session._ensure()
            session._set_terms(FIVE)

        owner.visit(create)
        assert (600, (300, 600)) == (_age(owner.answers[-1]), owner.ends)

    def test_a_stored_one_counts_them_from_then_on(self, owner: Limited) -> None:
        """Its new cookie says so, and nothing is lost."""
        owner.site.clock.move(1000)
        owner.visit(limit(FIVE))

        assert (600, (300, 600)) == (_age(owner.answers[-1]), owner.ends)
        assert {"a": 1} == owner.values()

    def test_a_login_counts_them_anew(self, owner: Limited) -> None:
        """As it does the usual ones."""
        owner.visit(limit(FIVE))
        owner.site.clock.move(100)
        owner.login()

        assert (600, (300, 600)) == (_age(owner.answers[-1]), owner.ends)

    def test_they_come_with_a_rotation_too(self, owner: Limited) -> None:
        """Also after a login whose lifetime of its own had no end."""
        owner.visit(
            lambda session: session.login("user:42", lifetime=Lifetime(idle=None, absolute=None))
        )

        def turn(session: Session) -> None:
            session.rotate()
            session._set_terms(FIVE)

        owner.visit(turn)
        assert (600, (300, 600)) == (_age(owner.answers[-1]), owner.ends)
        owner.visit(lambda session: session.login("user:42"))

        assert (600, (300, 600)) == (_age(owner.answers[-1]), owner.ends)

    def test_a_rotation_keeps_the_end(self, owner: Limited) -> None:
        """The cookie that it sends has what is left."""
        owner.visit(limit(FIVE))
        owner.site.clock.move(100)
        owner.visit(lambda session: session.rotate())

        assert (500, (300, 500)) == (_age(owner.answers[-1]), owner.ends)

    @pytest.mark.parametrize(("terms", "left"), [(FIVE, 400), (ENDLESS, 400 * 86_400)])
    def test_a_renewal_keeps_the_end_too(self, terms: Terms, left: int) -> None:
        """But for an end that the browser alone sets: that moves with the cookie."""
        site = Site("memory", Path(), {"renew_after": 200})
        owner = Limited(site)
        owner.visit(limit_new(terms))
        site.clock.move(200)
        owner.visit(lambda session: session.subject)

        assert (2, left) == (len(owner.answers), _age(owner.answers[-1]))
        assert left == owner.ends[1]

    def test_a_renewal_keeps_a_cookie_to_the_window(self) -> None:
        """It says no age again."""
        site = Site("memory", Path(), {"renew_after": 200})
        owner = Limited(site)
        owner.visit(limit_new(WINDOW))
        site.clock.move(200)
        owner.visit(lambda session: session.subject)

        assert [None, None] == [_age(each) for each in owner.answers]

    def test_the_usual_ones_come_back(self, owner: Limited) -> None:
        """In the cookie too."""
        owner.visit(limit(MONTHS))
        owner.visit(lambda session: session.get("a"))
        owner.site.clock.move(100)
        owner.visit(limit(None))

        assert (86_400, (3600, 86_400)) == (_age(owner.answers[-1]), owner.ends)

    def test_a_cookie_that_reaches_far_enough_is_kept(self, owner: Limited) -> None:
        """A shorter idle time leaves the hard end where it was."""
        owner.site.clock.move(100)
        owner.visit(limit(Terms(Lifetime(idle=300, absolute=86_400), persistent=True)))

        assert (1 + owner.site.is_carried, (300, 86_300)) == (len(owner.answers), owner.ends)

    def test_a_cookie_moves_with_its_end_once_a_minute(self, memory: Site) -> None:
        """Not with each request that asks for the same time from now on."""
        owner = Limited(memory)
        owner.visit(limit_new(MONTHS))
        memory.clock.move(60)
        owner.visit(limit(MONTHS))
        assert 1 == len(owner.answers)
        memory.clock.move(1)
        owner.visit(limit(MONTHS))

        assert (2, 5_000_000) == (len(owner.answers), _age(owner.answers[-1]))

    def test_a_cookie_loses_its_age_by_a_renewal(self, memory: Site) -> None:
        """Where that alone is new."""
        owner = Limited(memory)
        owner.login()
        owner.visit(limit(WINDOW))

        assert (None, 1) == (_age(owner.answers[-1]), len(memory.events_of(Renewed)))

    def test_the_last_of_several_counts(self, memory: Site) -> None:
        """Compared with what the browser has."""
        owner = Limited(memory)
        owner.login()

        def waver(session: Session) -> None:
            session._set_terms(WINDOW)
            session._set_terms(None)

        owner.visit(waver)
        assert 1 == len(owner.answers)

    def test_a_cookie_that_must_wait_lives_longer_than_its_record(self, memory: Site) -> None:
        """A shorter life counts at once, whatever the browser keeps."""
        owner = Limited(memory)
        owner.visit(put("a", 1))
        owner.visit(limit(MONTHS))
        owner.visit(limit(FIVE))

        assert (5_000_000, (300, 600)) == (_age(owner.answers[-1]), owner.ends)

    def test_other_limits_are_a_renewal(self, memory: Site) -> None:
        """A request under the cookie of a moment ago is still the owner's."""
        owner = Limited(memory)
        owner.login()
        late = owner.copy()
        owner.visit(limit(MONTHS))
        memory.clock.move(59)

        assert ("user:42", "user:42") == (owner.visit().subject, late.begin().subject)
        assert [1, 0] == [len(memory.events_of(kind)) for kind in (Renewed, Rotated)]

    @pytest.mark.parametrize("terms", LIMITS)
    def test_requests_side_by_side_make_one_renewal(self, memory: Site, terms: Terms) -> None:
        """Each asks for the same; none loses the session."""
        owner = Limited(memory)
        owner.login()
        tabs = [owner.begin() for _ in range(4)]
        for number, tab in enumerate(tabs):
            tab[str(number)] = number
            tab._set_terms(terms)
            memory.clock.move(0.5)
            owner.end(tab)
            owner.kept = terms

        assert 4 == len(owner.values())
        assert [] == memory.events_of(Rotated)

    def test_a_much_longer_life_does_not_wait_for_a_renewal(self, memory: Site) -> None:
        """While the previous proof is needed, a new seed brings the cookie."""
        owner = Limited(memory)
        owner.login()
        owner.visit(limit(FIVE))
        owner.visit()
        owner.visit(limit(MONTHS))

        assert (5_000_000, (5_000_000, 5_000_000)) == (_age(owner.answers[-1]), owner.ends)
        assert [1, 1] == [len(memory.events_of(kind)) for kind in (Renewed, Rotated)]

    def test_a_life_for_the_window_does_not_wait_either(self, memory: Site) -> None:
        """Whoever closes the browser leaves nothing behind."""
        owner = Limited(memory)
        owner.login()
        owner.visit(limit(MONTHS))
        owner.visit(limit(WINDOW))

        assert (None, 1) == (_age(owner.answers[-1]), len(memory.events_of(Rotated)))

    def test_a_renewal_waits_for_its_minute(self, memory: Site) -> None:
        """Then the previous proof is no longer shown."""
        owner = Limited(memory)
        owner.login()
        owner.visit(limit(MONTHS))
        owner.visit(lambda session: session.subject)
        memory.clock.move(60)
        owner.visit(limit(FIVE))

        assert [2, 0] == [len(memory.events_of(kind)) for kind in (Renewed, Rotated)]

    def test_an_error_leaves_them_as_they_were(self, owner: Limited) -> None:
        """They are an edit like any other (law 9)."""
        owner.visit(limit(FIVE))
        session = owner.begin()
        session._set_terms(MONTHS)
        owner.end(session, failed=True)

        assert (FIVE, (300, 600)) == (session._terms, owner.ends)

    def test_a_wiped_session_has_the_usual_ones(self, owner: Limited) -> None:
        """What was another subject's is nobody's now."""
        owner.login("user:1")
        owner.visit(limit(MONTHS))
        owner.login("user:2")

        assert (86_400, (3600, 86_400)) == (_age(owner.answers[-1]), owner.ends)

    def test_a_login_that_lost_its_session_has_the_usual_ones(self, memory: Site) -> None:
        """Only its own edits go on."""
        owner = Limited(memory)
        owner.login()
        owner.visit(limit(MONTHS))
        session = owner.begin()
        session.login("user:7")
        memory.call("revoke", session.id)
        owner.end(session)

        assert (86_400, (3600, 86_400)) == (_age(owner.answers[-1]), owner.ends)

    STEPS = st.tuples(
        st.sampled_from(["limit", "login", "other", "rotate", "read", "clear", "late", "tabs"]),
        st.sampled_from(LIMITS),
        st.sampled_from([0.0, 7.5, 61.0, 250.0]),
    )

    @given(steps=st.lists(STEPS, max_size=12), renew_after=st.sampled_from([None, 200]))
    def test_no_record_outlives_its_cookie(self, steps: Any, renew_after: int | None) -> None:
        """Whatever is done to it (law 4), and no honest browser is taken for a thief."""
        site = Site("memory", Path(), {"renew_after": renew_after})
        owner = Limited(site)
        for name, terms, pause in steps:
            late = owner.begin()
            if name == "tabs":
                owner.visit(limit(terms))
                late._set_terms(terms)
            else:
                owner.visit(ACTS.get(name, limit(terms)))
            if name in ("tabs", "late"):
                late.get("a")
                owner.end(late)
            for record in site.records():
                assert record.expires_at <= owner.until * 1000 + 1000
            site.clock.move(pause)
        assert [] == site.events_of(CopiedCookie)


ACTS: dict[str, Callable[[Session], Any]] = {
    "login": lambda session: session.login("user:42"),
    "other": lambda session: session.login("user:7"),
    "rotate": lambda session: session.rotate(),
    "read": lambda session: session.subject,
    "clear": lambda session: session.clear(),
}


def limit_new(terms: Terms) -> Callable[[Session], None]:
    """A new session that has them from the start."""

    def act(session: Session) -> None:
        session._ensure()
        session._set_terms(terms)

    return act


class TestTogether:
    def test_threads_lose_no_write(self, memory: Site) -> None:
        """Eight threads, real ones: all keys survive and all edits count."""
        owner = memory.browser()
        owner.visit(put("n", 0))
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait()
            for turn in range(10):
                session = memory.open(owner.cookie)
                session[f"key{number}-{turn}"] = turn
                session.edit("n", lambda n: n + 1)
                memory.commit(session)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

        values = owner.values()
        assert (80, 81) == (values["n"], len(values))

    def test_tasks_lose_no_write(self) -> None:
        """Fifty tasks of one event loop."""

        async def run() -> dict[str, Any]:
            sessions = AsyncSessions(AsyncMemoryStore())
            first = await sessions.open(None)
            first["n"] = 0
            cookie = (await sessions.commit(first))[0].partition(";")[0]

            async def work() -> None:
                session = await sessions.open(cookie)
                await asyncio.sleep(0)
                session.edit("n", lambda n: n + 1)
                await sessions.commit(session)

            await asyncio.gather(*(work() for _ in range(50)))
            return dict(await sessions.open(cookie))

        assert {"n": 50} == asyncio.run(run())

    def test_one_sessions_may_serve_one_loop_after_another(self) -> None:
        """Test clients have a loop for each request."""
        sessions = AsyncSessions(AsyncMemoryStore())

        async def visit(cookie: str | None) -> str | None:
            session = await sessions.open(cookie)
            session.edit("n", lambda n: n + 1, default=0)
            answers = await sessions.commit(session)
            return answers[0].partition(";")[0] if answers else cookie

        cookie = asyncio.run(visit(None))
        for _ in range(3):
            asyncio.run(visit(cookie))
        session = asyncio.run(sessions.open(cookie))

        assert {"n": 4} == dict(session)

    def test_a_cancelled_request_leaves_the_others_alone(self) -> None:
        """Its turn passes on."""

        async def run() -> dict[str, Any]:
            sessions = AsyncSessions(Slow())
            first = await sessions.open(None)
            first["n"] = 0
            cookie = (await sessions.commit(first))[0].partition(";")[0]

            async def work(number: int) -> None:
                session = await sessions.open(cookie)
                session[f"key{number}"] = number
                await sessions.commit(session)

            tasks = [asyncio.create_task(work(number)) for number in range(6)]
            for _ in range(5):
                await asyncio.sleep(0)
            tasks[0].cancel()
            tasks[3].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return dict(await sessions.open(cookie))

        values = asyncio.run(run())
        assert {1, 2, 4, 5} <= {value for key, value in values.items() if key != "n"}


class Slow(AsyncMemoryStore):
    """The memory store, with a turn of the loop before each call."""

    async def load(self, id: str, now: int) -> Record | None:
        await asyncio.sleep(0)
        return await super().load(id, now)

    async def save(self, record: Record, expected: bytes, now: int) -> Any:
        await asyncio.sleep(0)
        return await super().save(record, expected, now)


class TestTurns:
    def test_one_id_is_taken_by_one_thread_at_a_time(self) -> None:
        """Another id is free meanwhile, and nothing is left over."""
        turns, inside, most = Turns(), list[int](), list[int]()

        def work(number: int) -> None:
            with turns.take("same"):
                inside.append(number)
                most.append(len(inside))
                with turns.take(f"other {number}"):
                    inside.remove(number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(200)))

        assert ({1}, {}) == (set(most), turns._waiting)

    def test_a_turn_ends_with_an_error(self) -> None:
        """The next may come."""
        turns = Turns()
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), turns.take("same"):
                raise ZeroDivisionError

        assert {} == turns._waiting

    def test_one_id_is_taken_by_one_task_at_a_time(self) -> None:
        """In the order of coming, and nothing is left over."""
        turns, log = AsyncTurns(), list[str]()

        async def work(number: int) -> None:
            async with turns.take("same"):
                log.append(f"in {number}")
                await asyncio.sleep(0)
                log.append(f"out {number}")

        async def run() -> None:
            await asyncio.gather(*(work(number) for number in range(3)))

        asyncio.run(run())

        assert ["in 0", "out 0", "in 1", "out 1", "in 2", "out 2"] == log
        assert {} == turns._waiting

    def test_a_cancelled_waiter_leaves_nothing(self) -> None:
        """Neither its place nor a lock."""

        async def run() -> dict[Any, Any]:
            turns, release = AsyncTurns(), asyncio.Event()

            async def hold() -> None:
                async with turns.take("same"):
                    await release.wait()

            tasks = [asyncio.create_task(hold()) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            release.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            return dict(turns._waiting)

        assert {} == asyncio.run(run())

    def test_a_thread_waits_no_longer_than_its_request_may(self) -> None:
        """Whoever has the turn has it on; who waited gets 503, and leaves nothing."""
        turns, have, go = Turns(), threading.Event(), threading.Event()

        def hold() -> None:
            with turns.take("same"):
                have.set()
                go.wait(PATIENCE)

        thread = threading.Thread(target=hold)
        thread.start()
        have.wait(PATIENCE)
        with patience.limit(0.01), pytest.raises(Contention), turns.take("same"):
            pytest.fail("another has it")
        go.set()
        thread.join()

        assert {} == turns._waiting

    def test_a_task_waits_no_longer_than_its_request_may(self) -> None:
        """The same, awaited."""

        async def run() -> dict[Any, Any]:
            turns = AsyncTurns()
            async with turns.take("same"):
                with patience.limit(0.01), pytest.raises(Contention):
                    async with turns.take("same"):
                        pytest.fail("another has it")
            return dict(turns._waiting)

        assert {} == asyncio.run(run())

    @forks_beside_threads
    @pytest.mark.parametrize("divide", [os.fork, c_fork])
    def test_a_child_does_not_wait_for_threads_of_its_parent(
        self, divide: Callable[[], int]
    ) -> None:
        """They are not there to end their turns."""
        turns, have, go = Turns(), threading.Event(), threading.Event()

        def hold() -> None:
            with turns.take("same"):
                have.set()
                go.wait(PATIENCE)

        def take() -> str:
            with patience.limit(PATIENCE), turns.take("same"):
                return "taken"

        thread = threading.Thread(target=hold)
        thread.start()
        have.wait(PATIENCE)
        said = in_child(take, divide)
        go.set()
        thread.join()

        assert ("taken", {}) == (said, turns._waiting)


class Jar:
    """The least of test clients."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}

    def set_cookie(self, name: str, value: str) -> None:
        self.held[name] = value


class TestHelpers:
    @pytest.mark.parametrize("kind", ["memory", "memory-async"])
    def test_a_test_client_is_logged_in(self, kind: str) -> None:
        """Without the site's login page, with values."""
        site, jar = Site(kind, Path()), Jar()
        made = login(jar, site.sessions, "user:42", values={"cart": ["tea"]})
        ((name, value),) = jar.held.items()
        session = site.open(f"{name}={value}")
        site.close()

        assert (made, "user:42", {"cart": ["tea"]}) == (session.id, session.subject, dict(session))

    def test_what_keeps_no_cookies_is_refused(self) -> None:
        """With what to do instead."""
        with pytest.raises(ConfigurationError, match="set the cookie yourself"):
            login(object(), Sessions(MemoryStore()), "user:42")

    def test_a_clock_stands_until_it_is_moved(self) -> None:
        """Forwards, or back."""
        clock = Clock(100.0)
        seen = [clock(), clock()]
        clock.move(5.5)
        seen.append(clock())
        clock.move(-10)

        assert [100.0, 100.0, 105.5, 95.5] == [*seen, clock()]


def test_two_sites_with_cookies_of_their_own_share_a_store(
    make_site: Callable[..., Site],
) -> None:
    """Two sessions in one request, each with its own token."""
    shelf = MemoryStore()
    main = make_site(store=shelf)
    prefs = make_site(store=shelf, cookie=Cookie("prefs"), lifetime=Lifetime(idle=None))
    one, other = main.browser(), prefs.browser()
    one.visit(put("a", 1))
    other.visit(put("b", 2))
    both = f"{one.cookie}; {other.cookie}"

    assert ({"a": 1}, {"b": 2}) == (dict(main.open(both)), dict(prefs.open(both)))


def test_a_copied_cookie_is_told_with_its_subject(make_site: Callable[..., Site]) -> None:
    """An operator wants to know whose."""
    site = make_site(renew_after=600)
    owner: Browser = site.browser()
    owned = owner.login().id
    thief = owner.copy()
    site.clock.move(600)
    owner.visit(lambda s: s.subject)
    owner.visit(lambda s: s.subject)
    site.clock.move(60)
    thief.begin()

    assert [(owned, "user:42")] == [
        (event.session_id, event.subject) for event in site.events_of(CopiedCookie)
    ]


def test_an_id_that_is_taken_costs_another_try() -> None:
    """A collision of 128 random bits, should it come."""

    class Taken(MemoryStore):
        first = True

        def create(self, record: Record, now: int) -> None:
            if self.first:
                self.first = False
                super().create(a_record(record.id), now)
            super().create(record, now)

    site = Site("memory", Path(), store=Taken())
    owner = site.browser()
    token: list[str] = []

    def begin(session: Session) -> None:
        session["a"] = 1
        token.append(session.csrf_token)

    owner.visit(begin)

    assert ({"a": 1}, True) == (owner.values(), owner.begin().check_csrf(token[0]))
    assert 2 == len(site.store.page("", 9, int(site.clock() * 1000)))
    assert ident(1) not in {record.id for record in site.records()}
