"""The life of a session after its login: listed, limited, stepped up, timed, and ended for all."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coatcheck import KeyRing, Lifetime, Session, Sessions
from coatcheck.errors import ConfigurationError, LoginRefused, StoreUnavailable, UnsupportedValue
from coatcheck.events import LoggedIn, Revoked
from coatcheck.events import LoginRefused as Refusal
from coatcheck.lifetime import AAL1, AAL2, AAL3
from coatcheck.store import FULL, Entered
from coatcheck.stores import from_url
from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing import NOW, Clock
from tests.outside import FRAMEWORKS
from tests.outside import Site as Outside
from tests.sites import ADMITTING_KINDS, KEY, SERVER_KINDS, Browser, Site

DAY = 86_400
CARRIED = ("cookie", "cookie-async")


def sites(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("site", kinds, indirect=True)


@pytest.fixture
def memory(make_site: Any) -> Site:
    made: Site = make_site("memory")
    return made


def enter(browser: Browser, session: Session) -> str | None:
    """The request ends; why its login was refused, where it was."""
    try:
        browser.end(session)
    except LoginRefused as refused:
        return refused.reason
    return None


class TestRevokeAll:
    """Law 1: it also ends what is on its way."""

    @sites(*ADMITTING_KINDS, *CARRIED)
    def test_a_login_that_was_on_its_way_is_refused(self, site: Site) -> None:
        """Its request had been opened; nothing of it is written, and its cookie opens nothing."""
        owner, other = site.browser(), site.browser()
        owner.visit(lambda session: session.__setitem__("cart", ["tea"]))
        slow, new = owner.begin(), other.begin()
        slow.login("user:42")
        new.login("user:42")
        site.call("revoke_all", "user:42")

        assert ["revoked", "revoked"] == [enter(owner, slow), enter(other, new)]
        assert [None, None] == [other.cookie, owner.begin().subject]
        assert ["revoked", "revoked"] == [event.reason for event in site.events_of(Refusal)]
        assert [] == site.events_of(LoggedIn)

    @sites(*ADMITTING_KINDS, "cookie", "cookie-async")
    def test_a_keep_that_is_no_id_keeps_none(self, site: Site) -> None:
        """And never reaches the store: a form may send anything."""
        for keep in ("foo", "A" * 32, 5):
            owner = site.browser()
            owner.login()
            slow = site.browser().begin()
            slow.login("user:42")
            site.call("revoke_all", "user:42", keep=keep)

            assert (None, "revoked") == (owner.begin().subject, enter(site.browser(), slow))
            site.clock.move(0.2)

    @sites("memory", "cookie")
    def test_a_login_after_it_is_let_in(self, site: Site) -> None:
        """A request that was opened later, by clocks that need not agree to the last bit."""
        site.browser().login()
        site.call("revoke_all", "user:42")
        site.clock.move(0.2)
        again = site.browser()
        again.login()

        assert "user:42" == again.begin().subject

    @sites("memory", "memory-async", *CARRIED)
    def test_the_login_that_it_keeps_is_let_in(self, site: Site) -> None:
        """A password reset logs in first, then ends all the others, in one request."""
        owner, thief = site.browser(), site.browser()
        thief.login()
        site.clock.move(1)
        session = owner.begin()
        session.login("user:42")
        site.call("revoke_all", "user:42", keep=session.id)

        assert None is enter(owner, session)
        assert ["user:42", None] == [owner.begin().subject, thief.begin().subject]

    @sites(*CARRIED)
    def test_sealed_cookies_end_too(self, site: Site) -> None:
        """All that the subject had, but the kept one; another's and an anonymous one go on."""
        browsers = [site.browser() for _ in range(3)]
        sessions = [browser.login() for browser in browsers]
        stranger, nobody = site.browser(), site.browser()
        stranger.login("user:7")
        nobody.visit(lambda session: session.__setitem__("a", 1))
        assert 0 == site.call("revoke_all", "user:42", keep=sessions[1].id)

        subjects = [browser.begin().subject for browser in [*browsers, stranger]]
        assert [None, "user:42", None, "user:7"] == subjects
        assert {"a": 1} == nobody.values()
        assert ["user:42"] == [event.subject for event in site.events_of(Revoked)]
        site.call("revoke_all", "user:42", keep=sessions[0].id)
        assert None is browsers[1].begin().subject
        assert None is browsers[0].begin().subject  # what ended once stays ended

    @sites("cookie")
    def test_a_sealed_cookie_stays_ended_for_ever(self, site: Site) -> None:
        """The mark lives as long as any cookie that it denies."""
        site.sessions = Sessions(
            site.store, clock=site.clock, lifetime=Lifetime(idle=None, absolute=None)
        )
        owner = site.browser()
        owner.login()
        site.call("revoke_all", "user:42")
        site.clock.move(399 * DAY)

        assert None is owner.begin().subject

    @sites(*CARRIED)
    @pytest.mark.parametrize("order", ["rotate, end", "end, rotate", "end, login", "next request"])
    def test_what_it_keeps_may_take_a_new_id(self, site: Site, order: str) -> None:
        """Before it in the same request, after it, and later; and is kept by it the next time."""
        owner, other = site.browser(), site.browser()
        owner.login()
        other.login()
        site.clock.move(10)
        session = owner.begin()
        for act in order.split(", "):
            if act == "end":
                site.call("revoke_all", "user:42", keep=session.id)
            elif act == "next request":
                site.call("revoke_all", "user:42", keep=session.id)
                owner.end(session)
                session = owner.begin()
                session.rotate()
            else:
                session.rotate() if act == "rotate" else session.login("user:42")
        assert None is enter(owner, session)
        subjects = [owner.begin().subject]
        for _ in range(2):
            owner.visit(lambda session: session.rotate())
            site.clock.move(20)
            site.call("revoke_all", "user:42", keep=owner.begin().id)
            subjects.append(owner.begin().subject)

        assert ["user:42"] * 3 == subjects
        assert None is other.begin().subject

    @sites(*CARRIED)
    @pytest.mark.parametrize("act", [Session.rotate, lambda session: session.lower(1)])
    @pytest.mark.parametrize("ahead", [0, DAY])
    def test_what_takes_a_new_id_does_not_escape_it(
        self, site: Site, act: Any, ahead: float
    ) -> None:
        """Its request was opened before, and is committed after, by however much."""
        thief = site.browser()
        thief.login(level=2)
        late = thief.begin()
        act(late)
        site.clock.move(ahead)
        site.call("revoke_all", "user:42")
        site.clock.move(90 - ahead)
        thief.end(late)

        assert (1, None) == (len(thief.answers), thief.begin().subject)

    @sites(*CARRIED)
    @pytest.mark.parametrize("ahead", [2.0, 3600.0])
    def test_a_clock_that_was_ahead_hides_nothing(self, site: Site, ahead: float) -> None:
        """What logged in by it ends with the others, and does not come back when its time comes."""
        owner = site.browser()
        site.clock.move(ahead)
        owner.login(lifetime=Lifetime(idle=None, absolute=None))
        site.clock.move(1 - ahead)
        site.call("revoke_all", "user:42")
        subjects = []
        for seconds in (1.0, 2.0, 3595.0, 3600.0):
            site.clock.move(seconds)
            subjects.append(owner.begin().subject)

        assert [None] * 4 == subjects

    @sites(*CARRIED)
    def test_who_logs_in_right_after_it_is_ended_by_the_next(self, site: Site) -> None:
        """In its first minute a mark knows by their ids who may stay, and forgets them in time."""
        browsers = [site.browser() for _ in range(3)]
        for browser in browsers:
            site.call("revoke_all", "user:42")
            site.clock.move(1)
            browser.login()
        site.clock.move(90)

        assert [None, None, "user:42"] == [browser.begin().subject for browser in browsers]

    @sites(*CARRIED)
    def test_a_mark_stays_bounded(self, site: Site) -> None:
        """However many log in within its first minute; the oldest of a hundred and one ends."""
        site.call("revoke_all", "user:42")
        site.clock.move(1)
        browsers = [site.browser() for _ in range(101)]
        for browser in browsers:
            browser.login()

        subjects = [browser.begin().subject for browser in browsers[:2]]
        assert [None, "user:42"] == subjects

    @sites(*CARRIED)
    @pytest.mark.parametrize("keep", [True, False])
    def test_a_clock_that_is_set_right_lets_everybody_in(self, site: Site, keep: bool) -> None:
        """A mark of a day ahead has ended what there was; new logins last, until the next one."""
        old, kept, new, newer = (site.browser() for _ in range(4))
        old.login(remember=True)
        kept.login(remember=True)
        site.clock.move(DAY)
        site.call("revoke_all", "user:42", keep=kept.begin().id if keep else None)
        site.clock.move(10 - DAY)
        new.login(remember=True)
        new.visit(lambda session: session.rotate())
        kept.visit(lambda session: session.rotate() if keep else None)
        subjects = [browser.begin().subject for browser in (old, kept, new)]
        assert [None, "user:42" if keep else None, "user:42"] == subjects
        assert 2 == len(new.answers)
        site.call("revoke_all", "user:42", keep=old.login(remember=True).id if keep else None)
        site.clock.move(DAY - 40)
        newer.login(remember=True)
        site.clock.move(DAY)

        subjects = [browser.begin().subject for browser in (old, kept, new, newer)]
        assert ["user:42" if keep else None, None, None, "user:42"] == subjects

    @sites(*CARRIED)
    def test_a_clock_that_is_set_right_lets_in_what_is_kept(self, site: Site) -> None:
        """Whatever marks it set while it was wrong."""
        site.clock.move(DAY)
        site.call("revoke_all", "user:42")
        site.call("revoke_all", "user:42", keep="0" * 32)
        site.clock.move(-DAY)
        owner = site.browser()
        session = owner.begin()
        site.clock.move(1)
        session.login("user:42")
        site.call("revoke_all", "user:42", keep=session.id)

        assert (None, "user:42") == (enter(owner, session), owner.begin().subject)

    @sites(*CARRIED)
    def test_the_same_one_may_be_kept_again(self, site: Site) -> None:
        """And one that had ended stays so, however often it is kept."""
        owner, ended = site.browser(), site.browser()
        kept = [owner.login("a").id, ended.login("b").id]
        site.call("revoke_all", "b")
        for _ in range(2):
            site.call("revoke_all", "a", keep=kept[0])
            site.call("revoke_all", "b", keep=kept[1])

        assert ["a", None] == [owner.begin().subject, ended.begin().subject]

    @sites("memory", *CARRIED)
    def test_of_two_the_later_counts(self, site: Site) -> None:
        """It may have been set first, by a clock that is a little ahead."""
        late = site.browser()
        session = late.begin()
        session.login("user:42")
        site.clock.move(1)
        site.call("revoke_all", "user:42")
        site.clock.move(-30)
        site.call("revoke_all", "user:42")

        assert "revoked" == enter(late, session)

    @sites("memory", *CARRIED)
    def test_a_refused_login_leaves_the_session_as_it_was(self, site: Site) -> None:
        """Its values are there still, and another commit of the request goes through."""
        owner = site.browser()
        owner.visit(lambda session: session.__setitem__("cart", ["tea"]))
        session = owner.begin()
        session["cart"].append("milk")
        session.login("user:42")
        site.call("revoke_all", "user:42")

        assert "revoked" == enter(owner, session)
        assert (None, {"cart": ["tea"]}) == (session.subject, dict(session))
        session["note"] = "try again"
        assert None is enter(owner, session)
        assert {"cart": ["tea"], "note": "try again"} == owner.values()

    def test_a_refused_login_that_had_lost_its_session_sets_no_cookie(self, make_site: Any) -> None:
        """Its tab must not overwrite the cookie of the login that won (law 5)."""
        site: Site = make_site("memory", limit=1, over_limit="refuse")
        owner = site.browser()
        owner.visit(lambda session: session.__setitem__("cart", ["tea"]))
        winner, loser = owner.begin(), owner.begin()
        winner.login("user:42")
        loser.login("user:42")
        owner.end(winner)
        assert "limit" == enter(owner, loser)
        loser.flash("Log out elsewhere first.")

        assert [] == site.commit(loser)
        assert "user:42" == owner.begin().subject

    @sites(*SERVER_KINDS)
    def test_logging_in_again_does_not_bring_back_what_ended(self, site: Site) -> None:
        """A step-up that crosses a logout or a revocation took its subject from what is over."""
        for end in ("logout", "revoke"):
            owner = site.browser()
            session = owner.login()
            slow, other = owner.begin(), owner.copy()
            slow.login(slow.subject or "", level=2)
            if end == "logout":
                other.visit(lambda session: session.logout())
            else:
                site.call("revoke", session.id)

            assert "revoked" == enter(owner, slow)
            assert None is owner.begin().subject
            assert [] == site.commit(slow)

    def test_one_that_looks_expired_ends_too(self, memory: Site) -> None:
        """A clock that is ahead when all are ended may be set right again."""
        owner = memory.browser()
        owner.login()
        memory.clock.move(7200)
        assert 0 == memory.call("revoke_all", "user:42")
        memory.clock.move(-7200)

        assert None is owner.begin().subject

    def test_a_store_that_drops_what_it_refuses_is_believed(self) -> None:
        """A session whose record has gone with its login is anonymous, and says so."""

        class Dropping(MemoryStore):
            def admit(self, record: Any, expected: bytes, entry: Any, now: int) -> Any:
                self.delete(record.id, now)
                return FULL

        sessions = Sessions(Dropping())
        session = sessions.open(None)
        session["cart"] = ["tea"]
        cookie = sessions.commit(session)[0].partition(";")[0]
        session = sessions.open(cookie)
        session.login("user:42")
        with pytest.raises(LoginRefused):
            sessions.commit(session)

        assert (None, {}, True) == (session.subject, dict(session), session.is_new)
        session["note"] = "lost"
        assert [] == sessions.commit(session)

    def test_the_id_stays_when_a_new_session_is_minted_anew(self, memory: Site) -> None:
        """What an app noted after `login` is what is stored, whatever follows in the request."""
        owner = memory.browser()
        session = owner.begin()
        session.login("user:42")
        noted = session.id
        session.rotate()
        session.login("user:42", level=2)
        owner.end(session)

        assert noted == session.id == owner.begin().id

    def test_a_login_whose_answer_was_lost_is_checked_again(self) -> None:
        """It was written, and then its subject's sessions were ended, unseen by who asks."""
        store = Forgetful()
        sessions = Sessions(store)
        session = sessions.open(None)
        session.login("user:42")
        store.meanwhile = lambda: sessions.revoke_all("user:42")
        with pytest.raises(LoginRefused):
            sessions.commit(session)

        assert [] == sessions.list_for("user:42")

    def test_a_login_whose_answer_was_lost_does_not_escape_a_mark(self) -> None:
        """One that was set meanwhile, by somebody who is about to end what the list finds."""
        store = Forgetful()
        sessions = Sessions(store, clock=Clock())
        session = sessions.open(None)
        session.login("user:42")
        store.meanwhile = lambda: store.forbid("user:42", NOW + 1, None, NOW + DAY, NOW)
        with pytest.raises(LoginRefused):
            sessions.commit(session)

        assert [] == sessions.list_for("user:42")

    def test_a_login_whose_answer_was_lost_is_in(self) -> None:
        """Nobody has to log in twice."""
        store = Forgetful()
        sessions = Sessions(store)
        session = sessions.open(None)
        session.login("user:42")

        assert 1 == len(sessions.commit(session))
        assert 1 == len(sessions.list_for("user:42"))

    def test_a_login_whose_answer_was_lost_comes_back_under_another_id(self) -> None:
        """Where it was ended meanwhile by its id, which is over for good."""
        store = Forgetful()
        sessions = Sessions(store)
        session = sessions.open(None)
        session["cart"] = ["tea"]
        session.login("user:42")
        ended = str(session.id)
        store.meanwhile = lambda: sessions.revoke(ended)
        cookie = sessions.commit(session)[0]

        assert (None, {"cart": ["tea"]}) == (store.load(ended, 0), dict(sessions.open(cookie)))
        assert [session.id] == [each.id for each in sessions.list_for("user:42")]


class Forgetful(MemoryStore):
    """It writes the first login, and the answer is lost."""

    meanwhile: Any = staticmethod(lambda: None)
    _lost = False

    def admit(self, *arguments: Any) -> Any:
        answer = super().admit(*arguments)
        if not self._lost and isinstance(answer, Entered):
            self._lost = True
            self.meanwhile()
            raise StoreUnavailable("the answer was lost")
        return answer


class TestLimit:
    """`Sessions(limit=…, over_limit=…)`."""

    @pytest.mark.parametrize("kind", ADMITTING_KINDS)
    def test_the_oldest_ends(self, make_site: Any, kind: str) -> None:
        """The newest three stay in, and who went is told."""
        site: Site = make_site(kind, limit=3)
        browsers = [site.browser() for _ in range(5)]
        sessions = []
        for browser in browsers:
            site.clock.move(1)
            sessions.append(browser.login())

        assert [None, None, "user:42", "user:42", "user:42"] == [
            browser.begin().subject for browser in browsers
        ]
        assert [sessions[0].id, sessions[1].id] == [
            event.session_id for event in site.events_of(Revoked)
        ]

    @pytest.mark.parametrize("kind", ADMITTING_KINDS)
    def test_the_new_one_is_refused(self, make_site: Any, kind: str) -> None:
        """Until one of the others logs out; logging in again is nobody new."""
        site: Site = make_site(kind, limit=2, over_limit="refuse")
        first, second, third = (site.browser() for _ in range(3))
        first.login()
        second.login()
        first.login()
        late = third.begin()
        late.login("user:42")
        assert "limit" == enter(third, late)
        first.visit(lambda session: session.logout())
        third.login()

        assert [None, "user:42", "user:42"] == [
            each.begin().subject for each in (first, second, third)
        ]

    def test_a_store_that_cannot_is_refused(self) -> None:
        """When the sessions are made, and not at the first login."""
        carried = CookieStore(KeyRing(KEY), revocations=MemoryStore())
        for store in (carried, from_url("memcached://localhost/")):
            with pytest.raises(ConfigurationError, match="limit how many sessions"):
                Sessions(store, limit=3)

    @pytest.mark.parametrize("options", [{"limit": 0}, {"limit": True}, {"over_limit": "other"}])
    def test_a_limit_that_makes_no_sense_is_refused(self, options: Any) -> None:
        """As every option is."""
        with pytest.raises(ConfigurationError, match="limit"):
            Sessions(MemoryStore(), **options)


class TestOutside:
    """What a browser sees of a refused login."""

    @pytest.mark.parametrize("framework", FRAMEWORKS)
    def test_a_refused_login_is_answered_with_403(self, framework: str, tmp_path: Path) -> None:
        """In the app's place, without a cookie, and for no cache to keep."""
        with Outside(framework, "memory", tmp_path) as site:
            pending = site.browser().begin(lambda session: session.login("user:42"))
            site.call("revoke_all", "user:42")
            answer = pending.end()

        assert (403, []) == (answer.status, answer.cookies)
        assert "no-store" == answer["cache-control"]


class TestLists:
    """`list_for` and `list_all`."""

    @pytest.mark.parametrize("kind", SERVER_KINDS)
    def test_nobody_ends_nobodys_but_an_anonymous_session(self, make_site: Any, kind: str) -> None:
        """A request that is not logged in has None for its subject, and ids are no secret."""
        site: Site = make_site(kind)
        owner, visitor = site.browser(), site.browser()
        owner.login()
        visitor.visit(lambda session: session.__setitem__("a", 1))
        ids = [owner.begin().id, visitor.begin().id]

        assert [False, True] == [site.call("revoke", each, None) for each in ids]
        assert [False, True] == [site.call("revoke", ids[0], who) for who in ("user:7", "user:42")]
        assert (None, {}) == (owner.begin().subject, dict(visitor.begin()))

    def test_it_says_which_one_asks(self, memory: Site) -> None:
        """And how sure the app is of each."""
        browsers = [memory.browser() for _ in range(2)]
        browsers[0].login()
        session = browsers[1].login(level=2, methods=["pwd", "otp"])
        found = memory.call("list_for", "user:42", current=session.id)

        assert {(True, 2, ("pwd", "otp")), (False, 1, ())} == {
            (each.current, each.level, each.methods) for each in found
        }

    @pytest.mark.parametrize("kind", ADMITTING_KINDS)
    def test_an_operator_walks_through_all(self, make_site: Any, kind: str) -> None:
        """In pages, in order, each once, anonymous ones too."""
        site: Site = make_site(kind)
        for number in range(4):
            site.browser().login(f"user:{number}")
        site.browser().visit(lambda session: session.__setitem__("a", 1))
        met, after = [], ""
        while page := site.call("list_all", after=after, limit=2):
            met += page
            after = met[-1].id

        assert sorted(each.id for each in met) == [each.id for each in met]
        assert {None, *(f"user:{n}" for n in range(4))} == {each.subject for each in met}
        assert 5 == len(met)

    @pytest.mark.parametrize("kind", ["memory", "memory-async"])
    @pytest.mark.parametrize("after", ["zzz", "0" * 31, "A" * 32, 17_000])
    def test_a_page_begins_after_an_id(self, make_site: Any, kind: str, after: Any) -> None:
        """Else it says so, whatever the store, and does not repeat the text."""
        site: Site = make_site(kind)
        with pytest.raises(ConfigurationError, match="neither; pass the last id") as raised:
            site.call("list_all", after=after)

        assert str(after) not in str(raised.value)

    def test_a_page_that_cannot_be_read_is_not_the_end(self, memory: Site) -> None:
        """What a newer release wrote is passed over."""
        for _ in range(3):
            memory.browser().login()
        first, second, third = memory.records()
        memory.store._records[first.id] = type(first)(
            first.id, first.revision, "user:42", 1, first.seen_at, first.expires_at, b"\x07newer"
        )

        assert [second.id] == [each.id for each in memory.call("list_all", limit=1)]
        assert [third.id] == [each.id for each in memory.call("list_all", limit=1, after=second.id)]


class TestStepUp:
    """How sure the app is of who it is."""

    def test_a_login_says_how_sure_it_is(self, site: Site) -> None:
        """And the next request knows; over each store."""
        owner = site.browser()
        owner.login(level=2, methods=("pwd", "otp"))
        session = owner.begin()

        assert (2, ("pwd", "otp")) == (session.level, session.methods)
        assert session.login_at == session.authenticated_at

    def test_nobody_is_sure_of_nobody(self, memory: Site) -> None:
        """An anonymous session has no level, a plain login has the first."""
        owner = memory.browser()
        session = owner.visit(lambda session: session.__setitem__("a", 1))
        assert (None, (), None) == (session.level, session.methods, session.authenticated_at)
        session = owner.login()
        assert (1, ()) == (session.level, session.methods)

    def test_it_is_known_at_once(self, memory: Site) -> None:
        """In the request that logs in, before its commit."""
        session = memory.browser().begin()
        session.login("user:42", level=3, methods=["hwk"])

        assert (3, ("hwk",), session.opened_at) == (
            session.level,
            session.methods,
            session.authenticated_at,
        )

    def test_raising_the_level_rotates(self, memory: Site) -> None:
        """A copy of the cookie from before gains nothing, and loses what it had."""
        owner = memory.browser()
        owner.login()
        thief = owner.copy()
        owner.login(level=2)

        assert (2, None) == (owner.begin().level, thief.begin().level)

    def test_the_level_may_fall(self, site: Site) -> None:
        """Without a new token, and never by `lower` rise again."""
        owner = site.browser()
        owner.login(level=3, methods=("hwk",))
        token = owner.cookie
        session = owner.visit(lambda session: session.lower(2))
        assert 2 == session.level
        owner.visit(lambda session: session.lower(3))

        assert (2, ("hwk",)) == (owner.begin().level, owner.begin().methods)
        assert site.is_carried or token == owner.cookie

    def test_a_level_that_fell_meanwhile_stays_down(self, memory: Site) -> None:
        """A slower request that was opened at the higher level does not bring it back."""
        owner = memory.browser()
        owner.login(level=3)
        slow, lowering = owner.begin(), owner.begin()
        slow["a"] = 1
        slow.lower(2)
        lowering.lower(1)
        owner.end(lowering)
        owner.end(slow)

        assert (1, {"a": 1}) == (owner.begin().level, owner.values())

    def test_a_login_after_a_fall_in_one_request_counts(self, memory: Site) -> None:
        """And a fall after a login."""
        owner = memory.browser()
        session = owner.begin()
        session.lower(1)
        session.login("user:42", level=3)
        session.lower(2)
        owner.end(session)

        assert 2 == owner.begin().level

    def test_rotation_keeps_it(self, memory: Site) -> None:
        """It is about the login, and not about the token."""
        owner = memory.browser()
        owner.login(level=2, methods=["otp"])
        owner.visit(lambda session: session.rotate())

        assert (2, ("otp",)) == (owner.begin().level, owner.begin().methods)

    def test_another_subject_begins_anew(self, memory: Site) -> None:
        """Nothing of the former one's level is left."""
        owner = memory.browser()
        owner.login("user:1", level=3, methods=["hwk"])
        session = owner.login("user:2")

        assert (1, ()) == (session.level, session.methods)

    def test_it_may_have_been_elsewhere_and_before(self, memory: Site) -> None:
        """An identity provider says when; in the future is now."""
        owner, when = memory.browser(), datetime.fromtimestamp(memory.clock() - 600, UTC)
        owner.login(authenticated_at=when)
        assert when == owner.begin().authenticated_at
        session = owner.login(authenticated_at=when + timedelta(days=1))
        assert session.login_at == owner.begin().authenticated_at

    @pytest.mark.parametrize(
        "options",
        [
            {"level": 0},
            {"level": 256},
            {"level": True},
            {"level": "2"},
            {"methods": "pwd"},
            {"methods": ["a\nb"]},
            {"methods": ["x" * 65]},
            {"methods": ["pwd"] * 17},
            {"methods": [1]},
            {"authenticated_at": datetime(2030, 1, 1)},
            {"authenticated_at": 7},
            {"lifetime": 3600},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, memory: Site, options: Any) -> None:
        """On the line that says it."""
        with pytest.raises(UnsupportedValue, match="expected"):
            memory.browser().begin().login("user:42", **options)
        with pytest.raises(UnsupportedValue, match="level"):
            memory.browser().begin().lower(0)


class TestTimeouts:
    """How long a login lasts."""

    def test_a_login_may_have_a_lifetime_of_its_own(self, site: Site) -> None:
        """Cookie and record agree on it (law 4), and the next login has the usual one."""
        owner = site.browser()
        owner.login(lifetime=Lifetime(idle=600, absolute=7200))
        assert "Max-Age=7200" in owner.answers[-1]
        site.clock.move(601)
        assert None is owner.begin().subject
        owner.login()

        assert "Max-Age=86400" in owner.answers[-1]

    def test_remember_is_of_that_lifetime_too(self, memory: Site) -> None:
        """Then both limits are its `remember`."""
        owner = memory.browser()
        owner.login(remember=True, lifetime=Lifetime(remember=90 * DAY))

        assert f"Max-Age={90 * DAY}" in owner.answers[-1]

    @pytest.mark.parametrize(
        ("options", "idle", "absolute"),
        [
            ({"lifetime": Lifetime(idle=900, absolute=7200)}, 900, 7200),
            ({"remember": True}, 30 * DAY, 30 * DAY),
            ({"remember": True, "lifetime": Lifetime(remember=9 * DAY)}, 9 * DAY, 9 * DAY),
            ({"lifetime": Lifetime(idle=None, absolute=None)}, None, 400 * DAY),
        ],
    )
    def test_logging_in_again_keeps_what_the_login_said(
        self, memory: Site, options: Any, idle: int | None, absolute: int
    ) -> None:
        """A step-up does not make a short login long, nor a remembered one short."""
        owner = memory.browser()
        owner.login(**options)
        memory.clock.move(600)
        session = owner.begin()
        session.login("user:42", level=2)
        session.login("user:42", level=3)
        owner.end(session)
        head = owner.begin()._origin.head  # type: ignore[union-attr]

        assert f"Max-Age={absolute}" in owner.answers[-1]
        assert idle == (None if head.idle is None else head.idle // 1000)

    def test_another_login_begins_with_the_usual_lifetime(self, memory: Site) -> None:
        """Of another subject, after a logout, and where it says so."""
        owner = memory.browser()
        owner.login(lifetime=Lifetime(absolute=7200), remember=True)
        owner.login("user:7")
        assert "Max-Age=86400" in owner.answers[-1]
        owner.login("user:7", remember=True)
        owner.login("user:7", remember=False)

        assert "Max-Age=86400" in owner.answers[-1]

    @pytest.mark.parametrize("at_once", [False, True])
    def test_one_that_is_remembered_no_more_ends_sooner(self, memory: Site, at_once: bool) -> None:
        """With the usual lifetime; in the same request, with the one that was given there."""
        owner = memory.browser()
        session = owner.begin()
        session.login("user:42", remember=True, lifetime=Lifetime(absolute=7200, remember=90 * DAY))
        if not at_once:
            owner.end(session)
            session = owner.begin()
        session.login("user:42", remember=False)
        owner.end(session)

        assert f"Max-Age={7200 if at_once else DAY}" in owner.answers[-1]

    def test_its_hard_end_stays_where_it_is(self, make_site: Any) -> None:
        """Renewals do not move it, though the usual lifetime has none of its own."""
        usual = Lifetime(idle=None, absolute=None)
        site: Site = make_site("memory", lifetime=usual, renew_after=600)
        owner = site.browser()
        owner.login(lifetime=Lifetime(idle=None, absolute=1800))
        for _ in range(2):
            site.clock.move(700)
            owner.visit(lambda session: session.subject)
        assert "user:42" == owner.begin().subject
        assert "Max-Age=1100" in owner.answers[-1]
        site.clock.move(400)

        assert None is owner.begin().subject

    def test_one_without_an_end_moves_on(self, make_site: Any) -> None:
        """With each new token, though the usual lifetime has one."""
        site: Site = make_site("memory", renew_after=600)
        owner = site.browser()
        owner.login(lifetime=Lifetime(idle=None, absolute=None))
        site.clock.move(30 * DAY)
        owner.visit(lambda session: session.subject)

        assert f"Max-Age={400 * DAY}" in owner.answers[-1]

    def test_logging_in_again_begins_the_limits_anew(self, memory: Site) -> None:
        """Re-authentication extends the session; being used does not (NIST SP 800-63B-4)."""
        owner = memory.browser()
        owner.login()
        ends = datetime.fromtimestamp(memory.clock() + DAY, UTC)
        for _ in range(47):
            memory.clock.move(1800)
            owner.visit(lambda session: session.subject)
        assert ends == owner.begin().expires_at
        owner.login()
        memory.clock.move(1800)
        owner.visit(lambda session: session.subject)
        memory.clock.move(3000)

        assert "user:42" == owner.begin().subject

    @pytest.mark.parametrize(
        ("preset", "idle", "absolute"),
        [(AAL1, None, 30 * DAY), (AAL2, 3600, DAY), (AAL3, 900, DAY // 2)],
    )
    def test_presets_have_the_numbers_of_the_standard(
        self, preset: Lifetime, idle: int | None, absolute: int
    ) -> None:
        """NIST SP 800-63B-4; being remembered goes beyond none of them."""
        idle_ms = None if idle is None else idle * 1000
        for remember in (False, True):
            assert idle_ms == preset.idle_ms(remember)
            assert absolute * 1000 == preset.deadline(0, remember)

    def test_no_clock_but_the_servers_counts(self, memory: Site) -> None:
        """A cookie that the browser keeps beyond its time opens nothing, used or not."""
        unused, used = memory.browser(), memory.browser()
        unused.login()
        used.login()
        for _ in range(48):
            assert "user:42" == used.begin().subject
            memory.clock.move(1800)
            used.visit(lambda session: session.get("a"))
        memory.clock.move(1)

        assert [None, None] == [
            Browser(memory, each.cookie).begin().subject for each in (unused, used)
        ]

    def test_the_idle_time_ends_what_is_not_used(self, memory: Site) -> None:
        """To the second."""
        owner = memory.browser()
        owner.login()
        memory.clock.move(3599)
        assert "user:42" == owner.copy().begin().subject
        memory.clock.move(1)

        assert None is owner.copy().begin().subject

    @pytest.mark.parametrize("jump", [-3600.0, -DAY, 3600.0, DAY, 400 * DAY])
    def test_a_clock_that_jumps_raises_nothing_and_convicts_nobody(
        self, make_site: Any, jump: float
    ) -> None:
        """Forwards, sessions may end early; backwards, they live on, and later logins work."""
        site: Site = make_site("memory", renew_after=600, limit=1)
        owner = site.browser()
        owner.login()
        site.clock.move(700)
        owner.visit(lambda session: session.__setitem__("a", 1))
        site.clock.move(jump)
        subject = owner.begin().subject
        assert ("user:42" if jump < 0 else None) == subject
        owner.visit(lambda session: session.__setitem__("a", 2))
        owner.login()
        site.call("revoke_all", "user:42", keep=owner.begin().id)
        owner.visit(lambda session: session.__setitem__("a", 3))
        other = site.browser()
        site.clock.move(1)
        other.login()

        assert (None, "user:42") == (owner.begin().subject, other.begin().subject)
        assert not any("Max-Age=-" in answer for answer in owner.answers)

    @sites(*CARRIED)
    @pytest.mark.parametrize("jump", [-DAY, -3600.0, -30.0, 30.0, 3600.0, DAY])
    def test_a_mark_that_is_set_while_the_clock_jumps(self, site: Site, jump: float) -> None:
        """Nothing is raised; what has ended stays so, and later logins work."""
        ended, owner, late = (site.browser() for _ in range(3))
        ended.login(remember=True)
        owner.login(remember=True)
        site.clock.move(700 + jump)
        site.call("revoke_all", "user:42", keep=owner.begin().id)
        subjects = [ended.begin().subject, owner.begin().subject]
        owner.visit(lambda session: session.rotate())
        site.clock.move(70 - jump)
        late.login(remember=True)
        owner.visit(lambda session: session.__setitem__("a", 1))

        assert [None, "user:42"] == subjects
        assert [None, "user:42", "user:42"] == [
            browser.begin().subject for browser in (ended, owner, late)
        ]
