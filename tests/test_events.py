"""What is told, of which session, and with what is known about it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coatcheck import Client, Session, StoreUnavailable
from coatcheck.events import (
    Contended,
    CopiedCookie,
    Expired,
    Merged,
    Outage,
    Recovered,
    Refused,
    Skipped,
)
from coatcheck.testing import NOW
from coatcheck.turns import Turns
from tests.sites import Browser, Site
from tests.test_laws import Flaky
from tests.test_sessions import Rivalled, put

CARRIED = ["cookie", "cookie-async"]


def at(seconds: float) -> datetime:
    """A moment after the clock's first, as events show it."""
    return datetime.fromtimestamp(NOW / 1000, UTC) + timedelta(seconds=seconds)


def stolen(site: Site, client: Any = None) -> tuple[Browser, Session]:
    """An owner who renewed, and a session opened with the copy that a thief kept of the first."""
    first = site.open(None, Client("198.51.100.1", "Owner/1"))
    first.login("user:42")
    owner = site.browser(site.commit(first)[0].partition(";")[0])
    thief = owner.copy()
    site.clock.move(600)
    owner.visit(lambda s: s.subject)
    owner.visit(lambda s: s.subject)
    site.clock.move(60)
    return owner, site.open(thief.cookie, client)


class TestCopiedCookie:
    def test_it_says_what_is_known_about_both(self, make_site: Callable[..., Site]) -> None:
        """Who showed the copy, who logged in, and the times that an investigation begins with."""
        site = make_site(renew_after=600)
        _, refused = stolen(site, lambda: Client("203.0.113.9", "Thief/2"))
        (session_id,) = {event.session_id for event in site.events}

        assert [
            CopiedCookie(
                session_id=session_id,
                subject="user:42",
                shown=Client("203.0.113.9", "Thief/2"),
                known=Client("198.51.100.1", "Owner/1"),
                login_at=at(0),
                seen_at=at(600),
                renewed_at=at(600),
            )
        ] == site.events_of(CopiedCookie)
        assert "unknown" == refused.refused

    def test_the_session_ends_whatever_the_apps_client_does(
        self, make_site: Callable[..., Site]
    ) -> None:
        """A function that raises must not keep a copied session alive."""

        def client() -> Client:
            raise LookupError

        site = make_site(renew_after=600)
        owner, _ = stolen(site, client)

        assert [Client()] == [event.shown for event in site.events_of(CopiedCookie)]
        assert ([], None) == (site.records(), owner.begin().subject)


class TestRefused:
    def test_the_wrong_secrets_of_a_session_that_is_there(
        self, make_site: Callable[..., Site]
    ) -> None:
        """The app learns no more than that the cookie is unknown."""
        site = make_site()
        owner = site.browser()
        guess = owner.login().id
        assert guess is not None
        assert owner.cookie is not None
        session = site.open(f"{owner.cookie[:-42]}{'A' * 42}")

        assert "unknown" == session.refused
        assert [("wrong proof", guess)] == [
            (event.reason, event.session_id) for event in site.events_of(Refused)
        ]


class TestExpired:
    @pytest.mark.parametrize("kind", CARRIED)
    def test_a_sealed_cookie_that_expired(self, make_site: Callable[..., Site], kind: str) -> None:
        """It says by itself whose it was."""
        site = make_site(kind)
        owner = site.browser()
        session = owner.login()
        site.clock.move(3600)

        assert "expired" == owner.begin().refused
        assert [Expired(session_id=session.id, subject="user:42")] == site.events_of(Expired)
        assert ["expired"] == [event.reason for event in site.events_of(Refused)]

    @pytest.mark.parametrize("act", [put("a", 1), lambda s: s.subject], ids=["write", "read"])
    def test_a_session_that_expires_while_its_request_runs(
        self, server: Site, act: Callable[[Session], Any]
    ) -> None:
        """Its edits are dropped, and it is told once."""
        owner = server.browser()
        made = owner.login()
        session = owner.begin()
        act(session)
        server.clock.move(3600)

        assert [] == owner.end(session)
        assert [Expired(session_id=made.id, subject="user:42")] == server.events_of(Expired)
        assert [] == server.events_of(Skipped)

    @pytest.mark.parametrize("kind", CARRIED)
    def test_a_carried_session_that_expires_while_its_request_runs(
        self, make_site: Callable[..., Site], kind: str
    ) -> None:
        """Its cookie is not sealed again."""
        site = make_site(kind)
        owner = site.browser()
        made = owner.login()
        session = owner.begin()
        session["a"] = 1
        site.clock.move(3600)

        assert [] == owner.end(session)
        assert [Expired(session_id=made.id, subject="user:42")] == site.events_of(Expired)

    def test_a_logout_elsewhere_is_no_expiry(self, make_site: Callable[..., Site]) -> None:
        """What is gone before its time was ended."""
        site = make_site()
        owner = site.browser()
        owner.login()
        slow = owner.begin()
        slow["a"] = 1
        owner.copy().visit(lambda s: s.logout())
        owner.end(slow)

        assert [] == site.events_of(Expired)

    def test_two_touches_at_once_are_told_nowhere(self, make_site: Callable[..., Site]) -> None:
        """The second finds done what it wanted."""
        site = make_site()
        owner = site.browser()
        owner.login()
        site.clock.move(1000)
        one, other = owner.begin(), owner.begin()
        assert one.subject == other.subject == "user:42"
        owner.end(one)
        before = len(site.events)
        owner.end(other)

        assert before == len(site.events)


class TestContention:
    def test_a_save_that_went_through_at_last_was_merged(
        self, make_site: Callable[..., Site]
    ) -> None:
        """With how often it was refused."""
        site = make_site(store=Rivalled(3))
        owner = site.browser()
        made = owner.login()
        owner.visit(put("b", 2))

        assert [Merged(session_id=made.id, subject="user:42", tries=3)] == site.events_of(Merged)
        assert [] == site.events_of(Contended)

    def test_a_turn_that_does_not_come_is_contention_too(
        self, make_site: Callable[..., Site]
    ) -> None:
        """Whoever answers 503 has told why."""

        class Impatient(Rivalled):
            patience = 0.01

        site = make_site(store=Impatient(1000))
        owner = site.browser()
        made = owner.login()
        session = owner.begin()
        session["a"] = 1
        turns: Turns = site.sessions._turns
        assert made.id is not None
        with turns.take(made.id), pytest.raises(Exception, match="a turn"):
            owner.end(session)

        told = [Contended(session_id=made.id, subject="user:42", tries=1)]
        assert told == site.events_of(Contended)


class TestOutages:
    def test_a_recovery_is_told_once(self, make_site: Callable[..., Site]) -> None:
        """By the first call that the store answers, with how long it was."""
        flaky = Flaky()
        site = make_site(store=flaky)
        owner = site.browser()
        owner.login()
        flaky.down = {"load", "save", "delete"}
        for _ in range(2):
            owner.begin()
        flaky.down = set()
        owner.visit(put("a", 1))
        owner.visit(lambda s: s.logout())

        (recovered,) = site.events_of(Recovered)
        assert 0 < recovered.after < 60
        assert [Outage, Outage, Recovered] == [
            type(event) for event in site.events if type(event) in (Outage, Recovered)
        ]

    def test_a_logout_that_meets_an_outage_tells_of_it(
        self, make_site: Callable[..., Site]
    ) -> None:
        """As any other commit does, with the session that it was to end."""
        flaky = Flaky()
        site = make_site(store=flaky)
        owner = site.browser()
        made = owner.login()
        flaky.down = {"delete"}
        with pytest.raises(StoreUnavailable):
            owner.visit(lambda s: s.logout())

        assert [("commit", made.id)] == [
            (event.moment, event.session_id) for event in site.events_of(Outage)
        ]
