"""The laws, over every store, sync and async. A class a law; what a store cannot keep is declared
by the `server` fixture (stores that keep records on the server) in place of `site` (all)."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from coatcheck import (
    CookieTooLarge,
    Lifetime,
    Session,
    SessionTooLarge,
    StoreUnavailable,
    UnsupportedValue,
)
from coatcheck.events import CopiedCookie, Outage, Refused, Skipped, Unreadable
from coatcheck.record import read_payload, write_payload
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing import changed
from tests.sites import KINDS, Browser, Site

MINUTE = 60
DAY = 86_400


def put(key: str, value: Any) -> Callable[[Session], None]:
    return lambda session: session.__setitem__(key, value)


def logout(session: Session) -> None:
    session.logout()


class TestLaw1EndedMeansEnded:
    def test_the_cookie_is_dead_after_logout(self, site: Site) -> None:
        """A copy of the cookie opens nothing once its owner logged out."""
        owner = site.browser()
        owner.login()
        thief = owner.copy()
        assert "user:42" == thief.begin().subject
        owner.visit(logout)

        assert (None, "unknown") == (thief.begin().subject, thief.begin().refused)

    def test_every_older_cookie_is_dead_after_logout(self, site: Site) -> None:
        """Not the anonymous one, not the first login's, not the rotated one."""
        owner, older = site.browser(), []
        for act in (put("a", 1), lambda s: s.login("user:42"), lambda s: s.rotate()):
            owner.visit(act)
            older.append(owner.copy())
        owner.visit(logout)

        assert [True] * 3 == [copy.begin().is_new for copy in older]

    def test_logout_deletes_the_cookie_and_the_record(self, server: Site) -> None:
        """Both sides: the browser is told, and the store holds nothing."""
        owner = server.browser()
        owner.login()
        assert 1 == len(server.records())
        owner.visit(logout)

        assert None is owner.cookie
        assert [] == server.records()

    def test_a_slow_request_that_commits_after_logout_changes_nothing(self, site: Site) -> None:
        """Neither its edits nor a cookie: it was overtaken."""
        owner = site.browser()
        owner.login()
        slow, cookie = owner.begin(), owner.cookie
        slow["late"] = True
        slow.edit("count", lambda n: n + 1, default=0)
        owner.visit(logout)

        assert [] == site.commit(slow)
        assert site.open(cookie).is_new

    def test_a_slow_reader_that_commits_after_logout_revives_nothing(self, server: Site) -> None:
        """A touch never creates."""
        owner = server.browser()
        owner.login()
        server.clock.move(30 * MINUTE)
        slow = owner.begin()
        assert "user:42" == slow.subject
        owner.visit(logout)
        server.commit(slow)

        assert [] == server.records()

    def test_a_logout_that_crosses_a_rotation_wins(self, site: Site) -> None:
        """Whichever commits first, the session is over."""
        owner = site.browser()
        owner.login()
        leaving, rotating = owner.begin(), owner.begin()
        leaving.logout()
        rotating.rotate()
        site.commit(rotating)
        rotated = rotating.id
        site.commit(leaving)

        if not site.is_carried:  # there the rotated state has an id of its own, which lives on
            assert rotated not in [record.id for record in site.records()]

    def test_a_rotation_that_commits_after_logout_sets_no_cookie(self, site: Site) -> None:
        """The slower rotation finds nothing to rotate."""
        owner = site.browser()
        owner.login()
        leaving, rotating = owner.begin(), owner.begin()
        leaving.logout()
        rotating.rotate()
        site.commit(leaving)

        assert [] == site.commit(rotating)

    def test_revoked_means_ended(self, site: Site) -> None:
        """A session that another device ended opens no more."""
        owner = site.browser()
        session = owner.login()
        assert True is site.call("revoke", session.id)

        assert None is owner.begin().subject

    def test_revoke_all_ends_all_but_the_kept(self, listing: Site) -> None:
        """The one that asks may stay."""
        browsers = [listing.browser() for _ in range(4)]
        sessions = [browser.login() for browser in browsers]
        stranger = listing.browser()
        stranger.login("user:7")

        assert 3 == listing.call("revoke_all", "user:42", keep=sessions[2].id)
        subjects = [browser.begin().subject for browser in [*browsers, stranger]]
        assert [None, None, "user:42", None, "user:7"] == subjects

    def test_revoke_with_a_subject_ends_only_theirs(self, server: Site) -> None:
        """A form that names somebody else's session ends nothing."""
        owner = server.browser()
        session = owner.login()

        assert False is server.call("revoke", session.id, "user:7")
        assert "user:42" == owner.begin().subject

    def test_expired_means_ended(self, site: Site) -> None:
        """After the idle time the cookie opens nothing, swept or not."""
        owner = site.browser()
        owner.login()
        site.clock.move(3600)

        assert None is owner.begin().subject

    def test_what_is_left_after_logout_is_new_and_writable(self, site: Site) -> None:
        """A farewell message lives in a new anonymous session under a new cookie."""
        owner = site.browser()
        before = owner.login()
        old_id, old_cookie = before.id, owner.cookie

        def leave(session: Session) -> None:
            session["secret"] = 1
            session.logout()
            session.flash("Goodbye")

        owner.visit(leave)
        after = owner.begin()
        assert old_id != after.id
        assert old_cookie != owner.cookie
        assert [("Goodbye", "info")] == after.flashes()
        assert {} == dict(after)
        assert None is after.subject


class TestLaw2NoWriteIsLost:
    def test_fifty_keys_of_fifty_overlapping_requests_survive(self, server: Site) -> None:
        """All were opened before the first was committed."""
        owner = server.browser()
        owner.visit(put("start", 0))
        sessions = [owner.begin() for _ in range(50)]
        for number, session in enumerate(sessions):
            session[f"key{number}"] = number
        for session in sessions:
            owner.end(session)

        expected = {"start": 0} | {f"key{number}": number for number in range(50)}
        assert expected == owner.values()

    def test_fifty_edits_of_one_counter_count_fifty(self, server: Site) -> None:
        """An edit is run again on what another request left."""
        owner = server.browser()
        owner.visit(put("count", 0))
        sessions = [owner.begin() for _ in range(50)]
        for session in sessions:
            session.edit("count", lambda n: n + 1)
        for session in sessions:
            owner.end(session)

        assert {"count": 50} == owner.values()

    def test_of_plain_assignments_the_last_to_commit_wins(self, server: Site) -> None:
        """Whatever the order in which they were opened."""
        owner = server.browser()
        owner.visit(put("a", 0))
        first, second = owner.begin(), owner.begin()
        first["a"], second["a"] = "first", "second"
        owner.end(second)
        owner.end(first)

        assert {"a": "first"} == owner.values()

    def test_a_slow_reader_erases_nothing(self, server: Site) -> None:
        """A request that read, and changed another key, does not put back what it had read."""
        owner = server.browser()
        owner.visit(put("a", [1]))
        slow = owner.begin()
        assert [1] == slow["a"]
        slow["b"] = 2
        owner.visit(lambda session: session["a"].append(2))
        owner.end(slow)

        assert {"a": [1, 2], "b": 2} == owner.values()

    def test_a_removed_key_stays_removed(self, server: Site) -> None:
        """A delete is replayed like an assignment."""
        owner = server.browser()
        owner.visit(lambda session: session.update(a=1, b=2))
        slow = owner.begin()
        del slow["a"]
        owner.visit(put("c", 3))
        owner.end(slow)

        assert {"b": 2, "c": 3} == owner.values()

    def test_flash_messages_of_overlapping_requests_all_come(self, server: Site) -> None:
        """And reading removes those that were read, not those that came meanwhile."""
        owner = server.browser()
        owner.visit(lambda session: session.flash("one"))
        reading = owner.begin()
        assert [("one", "info")] == reading.flashes()
        owner.visit(lambda session: session.flash("two"))
        owner.end(reading)

        assert [("two", "info")] == owner.begin().flashes()

    def test_values_survive_a_login_that_overlaps(self, server: Site) -> None:
        """What was committed before the login is in it."""
        owner = server.browser()
        owner.visit(put("cart", ["tea"]))
        entering = owner.begin()
        entering.login("user:42")
        owner.visit(lambda session: session["cart"].append("milk"))
        owner.end(entering)

        assert {"cart": ["tea", "milk"]} == owner.values()

    def test_an_edit_whose_key_was_removed_is_dropped(self, server: Site) -> None:
        """Without a default there is nothing to edit any more."""
        owner = server.browser()
        owner.visit(put("count", 1))
        slow = owner.begin()
        slow.edit("count", lambda n: n + 1)
        owner.visit(lambda session: session.pop("count"))
        owner.end(slow)

        assert {} == owner.values()


class TestLaw3WhatYouReadIsWhatYouWrote:
    def test_a_value_changed_in_place_is_noticed(self, site: Site) -> None:
        """There is no flag to forget."""
        owner = site.browser()
        owner.visit(put("cart", {"items": [{"sku": "tea", "n": 1}]}))

        def more(session: Session) -> None:
            session["cart"]["items"][0]["n"] += 1

        owner.visit(more)
        assert {"cart": {"items": [{"sku": "tea", "n": 2}]}} == owner.values()

    def test_a_value_merely_read_is_never_taken_for_changed(self, site: Site) -> None:
        """Whatever its type: the encoding is canonical."""
        owner = site.browser()
        owner.visit(
            lambda s: s.update(a={3, 1, 2}, b=[1, (2, {"x": None})], c={"k": frozenset("xyz")})
        )
        reading = owner.begin()
        assert {"a", "b", "c"} == set(dict(reading))
        before = site.records()

        assert [] == owner.end(reading)
        assert before == site.records()

    def test_what_cannot_be_kept_is_refused_on_its_line(self, site: Site) -> None:
        """The message names the key and the type, never the value."""
        session = site.open()
        with pytest.raises(UnsupportedValue, match=r"session\['x'\].*object"):
            session["x"] = [1, object()]
        assert {} == dict(session)

    def test_what_cannot_be_kept_fails_the_commit_when_put_in_place(self, site: Site) -> None:
        """With a message that names the key, and nothing written."""
        owner = site.browser()
        owner.visit(put("a", []))
        session = owner.begin()
        session["a"].append(object())
        session["b"] = 1
        with pytest.raises(UnsupportedValue, match=r"session\['a'\]"):
            site.commit(session)

        assert {"a": []} == owner.values()


class TestLaw4OneExpiry:
    def test_the_record_ends_at_its_idle_time(self, site: Site) -> None:
        """A millisecond before it lives, and then it does not."""
        owner = site.browser()
        owner.login()
        site.clock.move(3599.999)
        assert "user:42" == owner.begin().subject
        site.clock.move(0.001)

        assert None is owner.begin().subject

    def test_use_prolongs_up_to_the_hard_end(self, server: Site) -> None:
        """Visited each half hour, it ends a day after the login all the same."""
        owner = server.browser()
        owner.login()
        for _ in range(47):
            server.clock.move(30 * MINUTE)
            assert "user:42" == owner.visit(lambda session: session.subject).subject
        server.clock.move(30 * MINUTE)

        assert None is owner.begin().subject

    def test_the_cookies_max_age_is_the_hard_end(self, site: Site) -> None:
        """Sent once with the token, from the same `Lifetime`."""
        owner = site.browser()
        owner.login()

        assert f"Max-Age={DAY}" in owner.answers[-1].split("; ")

    def test_no_record_outlives_its_cookie(self, make_site: Callable[..., Site]) -> None:
        """Not even where no absolute limit is set: browsers keep a cookie for 400 days."""
        site = make_site(lifetime=Lifetime(idle=None, absolute=None))
        site.browser().login()
        sent_at = int(site.clock() * 1000)

        assert [sent_at + 400 * DAY * 1000] == [r.expires_at for r in site.records()]

    def test_remember_makes_both_limits_longer(self, site: Site) -> None:
        """Thirty days, in the record and in the cookie."""
        owner = site.browser()
        owner.login(remember=True)
        assert f"Max-Age={30 * DAY}" in owner.answers[-1].split("; ")
        site.clock.move(29 * DAY)

        assert "user:42" == owner.begin().subject

    def test_a_login_begins_a_new_absolute_time(self, site: Site) -> None:
        """Since creation, then since each login."""
        owner = site.browser()
        owner.visit(put("a", 1))
        site.clock.move(3000)
        owner.login()

        assert f"Max-Age={DAY}" in owner.answers[-1].split("; ")
        expires_at = owner.begin().expires_at
        assert expires_at is not None
        assert timedelta(hours=1) == expires_at - owner.begin().opened_at

    def test_last_seen_is_written_once_a_twentieth_of_the_idle_time(self, server: Site) -> None:
        """Not at each request, and not later."""
        owner = server.browser()
        owner.login()
        before = server.records()
        server.clock.move(179.9)
        owner.visit(lambda session: session.subject)
        assert before == server.records()
        server.clock.move(0.1)
        owner.visit(lambda session: session.subject)

        assert [before[0].seen_at + 180_000] == [r.seen_at for r in server.records()]


class TestLaw5ALoginGetsAFreshToken:
    def test_the_old_token_dies_with_the_login(self, site: Site) -> None:
        """Without grace: fixation gets the attacker nothing."""
        victim = site.browser()
        victim.visit(put("a", 1))
        attacker = victim.copy()
        victim.login()

        assert attacker.cookie != victim.cookie
        assert (None, {}) == (attacker.begin().subject, attacker.values())

    def test_a_planted_token_is_not_adopted(self, site: Site) -> None:
        """A token that we did not mint, however well shaped, opens nothing and is not used."""
        planted = f"{site.sessions.cookie.full_name}={'A' * 64}"
        victim = site.browser(planted)
        victim.login()

        assert planted != victim.cookie
        assert site.open(planted).is_new
        assert "user:42" == victim.begin().subject

    def test_a_slow_request_with_the_old_token_cannot_overwrite_the_login(self, site: Site) -> None:
        """Its edits are dropped and its answer sets no cookie."""
        owner = site.browser()
        owner.visit(put("a", 1))
        slow = owner.begin()
        slow["late"] = True
        owner.login()

        assert [] == site.commit(slow)
        assert {"a": 1} == owner.values()

    def test_a_late_request_with_the_old_token_cannot_overwrite_the_login(self, site: Site) -> None:
        """Opened after the login, within a minute, it is anonymous and mute."""
        owner = site.browser()
        owner.visit(put("a", 1))
        late = owner.copy()
        owner.login()
        site.clock.move(59)
        session = late.begin()
        session["late"] = True

        assert [] == late.end(session)
        assert None is session.subject

    def test_a_late_request_with_the_old_token_may_log_in_itself(self, site: Site) -> None:
        """A double click on the login button ends with a good session."""
        owner = site.browser()
        owner.visit(put("a", 1))
        late = owner.copy()
        owner.login()
        late.login("user:7")

        assert ("user:7", "user:42") == (late.begin().subject, owner.begin().subject)

    def test_a_login_that_crosses_a_login_starts_its_own_session(self, site: Site) -> None:
        """With its own edits only."""
        owner = site.browser()
        owner.visit(put("a", 1))
        slow = owner.begin()
        slow.login("user:7")
        slow["mine"] = 1
        other = owner.copy()
        owner.login()
        other.end(slow)

        assert ("user:7", {"mine": 1}) == (other.begin().subject, other.values())
        assert ("user:42", {"a": 1}) == (owner.begin().subject, owner.values())

    def test_another_subjects_values_are_dropped(self, site: Site) -> None:
        """Messages too; one's own stay."""
        owner = site.browser()
        owner.login()
        owner.visit(put("secret", 1))
        owner.visit(lambda session: session.flash("private"))
        owner.login()
        assert {"secret": 1} == owner.values()
        owner.login("user:7")

        assert ({}, []) == (owner.values(), owner.begin().flashes())

    def test_rotation_changes_the_token_without_grace(self, site: Site) -> None:
        """The session stays, its old cookie does not."""
        owner = site.browser()
        owner.login()
        old = owner.copy()
        owner.visit(lambda session: session.rotate())

        assert ("user:42", None) == (owner.begin().subject, old.begin().subject)

    def test_a_refused_token_never_deletes_a_cookie(self, site: Site) -> None:
        """Neither when it is unknown nor when it is garbage."""
        name = site.sessions.cookie.full_name
        for value in ("A" * 64, "garbage", ""):
            assert [] == site.browser(f"{name}={value}").end(site.open(f"{name}={value}"))

    def test_two_sites_on_one_store_do_not_accept_each_others_tokens(
        self, make_site: Callable[..., Site]
    ) -> None:
        """Digests and seals are bound to the name."""
        shelf = MemoryStore()
        one = make_site(store=shelf, name="one")
        other = make_site(store=shelf, name="other")
        owner = one.browser()
        owner.login()

        assert None is other.open(owner.cookie).subject
        assert "user:42" == owner.begin().subject


class TestLaw6TheStoreLearnsNoSecret:
    def test_a_dump_holds_no_token_and_no_value(self, site: Site) -> None:
        """Nor anything that opens either; a planted canary shows that the search works."""
        owner = site.browser()
        owner.login("user:canary")
        owner.visit(put("secret", "a value that nobody else may read"))
        assert owner.cookie is not None
        token = owner.cookie.partition("=")[2]
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        dump = site.dump()

        if not site.is_carried:
            assert b"user:canary" in dump
            assert raw[:16].hex().encode() in dump or raw[:16] in dump
        for secret in (token.encode(), raw[16:32], raw[32:48], raw[16:32].hex().encode()):
            assert secret not in dump
        for words in (b"a value that nobody", b"secret"):
            assert words not in dump

    def test_a_record_opens_for_no_other_id(self, server: Site) -> None:
        """The sealed values are bound to their session: moved, they are unreadable."""
        one, other = server.browser(), server.browser()
        one.visit(put("a", 1))
        other.visit(put("a", 2))
        first, second = server.records()
        head, stolen = read_payload(first.payload), read_payload(second.payload)
        forged = changed(
            first, payload=write_payload(msgspec.structs.replace(head, body=stolen.body))
        )
        server._run(server.store.save(forged, first.revision, int(server.clock() * 1000)))

        assert [True, False] == sorted(
            (browser.begin().is_new for browser in (one, other)), reverse=True
        )
        assert 1 == len(server.events_of(Unreadable))


class Flaky(MemoryStore):
    """A real store that can be out of reach; `lost` writes are done and only their answer lost."""

    def __init__(self) -> None:
        super().__init__()
        self.down: set[str] = set()
        self.lost: set[str] = set()
        self.calls: list[str] = []

    def _meet(self, verb: str, call: Callable[[], Any]) -> Any:
        self.calls.append(verb)
        if verb in self.down:
            raise StoreUnavailable("expected an answer in time, got none; try again")
        answer = call()
        if verb in self.lost:
            raise StoreUnavailable("expected an answer in time, got none; try again")
        return answer

    def load(self, id: str, now: int) -> Any:
        return self._meet("load", lambda: MemoryStore.load(self, id, now))

    def create(self, record: Any, now: int) -> None:
        self._meet("create", lambda: self._plain().create(record, now))

    def save(self, record: Any, expected: bytes, now: int) -> Any:
        return self._meet("save", lambda: self._plain().save(record, expected, now))

    def admit(self, *arguments: Any) -> Any:
        return self._meet("admit", lambda: self._plain().admit(*arguments))

    def touch(self, *arguments: Any) -> Any:
        return self._meet("touch", lambda: self._plain().touch(*arguments))

    def delete(self, id: str, now: int) -> Any:
        return self._meet("delete", lambda: self._plain().delete(id, now))

    def _plain(self) -> MemoryStore:
        """The same shelf without the faults."""
        plain = MemoryStore.__new__(MemoryStore)
        plain.__dict__ = self.__dict__
        return plain


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest.fixture
def broken(make_site: Callable[..., Site], flaky: Flaky) -> Site:
    """A site whose store can be out of reach."""
    return make_site(store=flaky, renew_after=1000)


class TestLaw7AnOutageIsNotALogout:
    def test_the_first_use_raises(self, broken: Site, flaky: Flaky) -> None:
        """Opening does not: a request that never uses its session is served."""
        owner = broken.browser()
        owner.login()
        flaky.down = {"load"}
        session = owner.begin()
        assert [] == owner.end(session)
        for use in (
            lambda: session.subject,
            lambda: session.get("a"),
            lambda: session.login("user:1"),
            lambda: session.logout(),
            lambda: session.refused,
            lambda: session.csrf_token,
            lambda: session.flashes(),
            lambda: session.is_new,
            lambda: session.id,
        ):
            with pytest.raises(StoreUnavailable):
                use()

    def test_the_session_is_there_when_the_store_is_back(self, broken: Site, flaky: Flaky) -> None:
        """The cookie was not touched."""
        owner = broken.browser()
        owner.login()
        flaky.down = {"load"}
        owner.end(owner.begin())
        flaky.down = set()

        assert "user:42" == owner.begin().subject

    def test_a_commit_that_does_not_reach_the_store_raises(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """And an event says so."""
        owner = broken.browser()
        owner.login()
        session = owner.begin()
        session["a"] = 1
        flaky.down = {"save"}
        with pytest.raises(StoreUnavailable):
            broken.commit(session)
        assert ["commit"] == [event.moment for event in broken.events_of(Outage)]

    def test_a_logout_that_does_not_reach_the_store_keeps_the_cookie(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """It raises, so the user knows; a second try ends the session."""
        owner = broken.browser()
        owner.login()
        session = owner.begin()
        session.logout()
        flaky.down = {"delete"}
        with pytest.raises(StoreUnavailable):
            owner.end(session)
        flaky.down = set()
        assert "user:42" == owner.begin().subject
        owner.visit(logout)

        assert [] == broken.records()

    @pytest.mark.parametrize(("age", "verb"), [(200, "touch"), (1000, "save")])
    def test_a_touch_or_a_renewal_that_fails_is_skipped(
        self, broken: Site, flaky: Flaky, age: int, verb: str
    ) -> None:
        """The request did not need it; an event tells."""
        owner = broken.browser()
        owner.login()
        broken.clock.move(age)
        flaky.down = {verb}

        assert "user:42" == owner.visit(lambda session: session.subject).subject
        assert 1 == len(broken.events_of(Skipped))
        assert verb in flaky.calls

    def test_an_app_may_ask_for_an_anonymous_session_instead(
        self, make_site: Callable[..., Site], flaky: Flaky
    ) -> None:
        """Empty, read-only, and marked."""
        site = make_site(store=flaky, outage="anonymous")
        owner = site.browser()
        owner.login()
        flaky.down = {"load"}
        session = owner.begin()

        assert (True, None, {}) == (session.degraded, session.subject, dict(session))
        with pytest.raises(StoreUnavailable):
            session["a"] = 1
        assert [] == owner.end(session)

    def test_a_rotation_whose_answer_was_lost_is_settled_by_a_load(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """It was written, so it counts, and its cookie is sent."""
        owner = broken.browser()
        owner.login()
        owner.visit(put("a", 1))
        flaky.lost = {"save"}
        owner.visit(lambda session: session.rotate())
        flaky.lost = set()

        assert ("user:42", {"a": 1}) == (owner.begin().subject, owner.values())

    def test_a_record_of_a_newer_format_is_an_outage(self, server: Site) -> None:
        """A newer release wrote it: it is left alone."""
        owner = server.browser()
        owner.login()
        record = server.records()[0]
        newer = changed(record, payload=b"\x02" + record.payload[1:])
        server._run(server.store.save(newer, record.revision, int(server.clock() * 1000)))
        session = owner.begin()
        with pytest.raises(StoreUnavailable, match="newer"):
            _ = session.subject

        assert [newer] == server.records()


class TestLaw8UntouchedMeansUntouched:
    def test_a_request_that_does_not_use_its_session_costs_no_write(
        self, make_site: Callable[..., Site], flaky: Flaky
    ) -> None:
        """However old last-seen is: one load and nothing else."""
        site = make_site(store=flaky)
        owner = site.browser()
        owner.login()
        site.clock.move(1800)
        flaky.calls.clear()
        session = owner.begin()

        assert ([], False, ["load"]) == (owner.end(session), session.accessed, flaky.calls)

    def test_a_request_without_a_cookie_does_not_ask_the_store(
        self, make_site: Callable[..., Site], flaky: Flaky
    ) -> None:
        """Nor does reading its empty session."""
        site = make_site(store=flaky)
        site.browser().visit(lambda session: session.get("a"))

        assert [] == flaky.calls

    @pytest.mark.parametrize(
        "act",
        [
            lambda s: s.get("a"),
            lambda s: s.subject,
            lambda s: s.flashes(),
            lambda s: (put("a", 1)(s), s.pop("a")),
            lambda s: s.clear(),
            lambda s: s.rotate(),
            lambda s: s.logout(),
            lambda s: s.check_csrf("x"),
        ],
    )
    def test_an_empty_anonymous_session_is_never_created(
        self, site: Site, act: Callable[[Session], object]
    ) -> None:
        """Whatever was done with it, nothing is left to keep."""
        browser = site.browser()
        browser.visit(act)

        assert ([], []) == (browser.answers, site.records())

    def test_reading_the_csrf_token_counts_as_a_write(self, site: Site) -> None:
        """The form must find its session again, and the token be good there."""
        owner = site.browser()
        token: list[str] = []
        owner.visit(lambda session: token.append(session.csrf_token))

        assert True is owner.begin().check_csrf(token[0])
        assert False is owner.begin().check_csrf(token[0][::-1])

    def test_a_session_that_became_empty_is_saved_empty(self, site: Site) -> None:
        """Only logout, revocation and expiry delete."""
        owner = site.browser()
        before = owner.visit(put("a", 1)).id
        owner.visit(lambda session: session.pop("a"))

        assert ({}, before, False) == (owner.values(), owner.begin().id, owner.begin().is_new)


class TestLaw9DurableBeforeVisible:
    def test_an_app_may_commit_early_and_more_than_once(self, site: Site) -> None:
        """The last answer is the whole one."""
        owner = site.browser()
        session = owner.begin()
        session["a"] = 1
        early = site.commit(session)
        session["b"] = 2
        late = owner.end(session)

        assert 1 == len(early) == len(late)
        assert {"a": 1, "b": 2} == owner.values()

    def test_an_error_drops_edits_and_login(self, site: Site) -> None:
        """Nothing of a request that failed is kept."""
        owner = site.browser()
        owner.visit(put("a", 1))
        session = owner.begin()
        session["a"] = 2
        session.login("user:42")

        assert [] == owner.end(session, failed=True)
        assert ({"a": 1}, None) == (owner.values(), owner.begin().subject)

    def test_an_error_keeps_a_logout(self, site: Site) -> None:
        """Who asked to leave has left."""
        owner = site.browser()
        owner.login()
        copy = owner.copy()
        session = owner.begin()
        session.logout()
        session["after"] = 1
        owner.end(session, failed=True)

        assert (None, None) == (owner.cookie, copy.begin().subject)

    def test_an_error_keeps_what_was_committed_early(self, site: Site) -> None:
        """And the cookie that belongs to it."""
        owner = site.browser()
        session = owner.begin()
        session["a"] = 1
        site.commit(session)
        session["a"] = 2
        owner.end(session, failed=True)

        assert {"a": 1} == owner.values()


class TestLaw10GarbageInAnonymousOut:
    @pytest.mark.parametrize(
        "value",
        ["", '"', "=", "A" * 63, "A" * 65, "A" * 63 + "!", "A" * 100_000, "é" * 64, "\x00" * 64],
    )
    def test_no_value_raises_or_reaches_the_store(
        self, make_site: Callable[..., Site], flaky: Flaky, value: str
    ) -> None:
        """Only a token's exact shape is worth a read."""
        site = make_site(store=flaky)
        name = site.sessions.cookie.full_name
        session = site.open(f"{name}={value}")

        assert ([], True, "malformed") == (flaky.calls, session.is_new, session.refused)

    def test_a_flood_of_tokens_is_not_asked_for(
        self, make_site: Callable[..., Site], flaky: Flaky
    ) -> None:
        """More cookies of our name than any browser sends are none."""
        site = make_site(store=flaky)
        name = site.sessions.cookie.full_name
        flood = "; ".join(f"{name}={number:064d}" for number in range(1000))

        assert ("malformed", []) == (site.open(flood).refused, flaky.calls)

    def test_the_one_good_cookie_among_planted_ones_counts(self, site: Site) -> None:
        """A neighbour's leftover locks nobody out; two good ones are as bad as none."""
        owner, other = site.browser(), site.browser()
        owner.login()
        other.login("user:7")
        name = site.sessions.cookie.full_name
        assert "user:42" == site.open(f"{name}={'A' * 64}; {owner.cookie}").subject

        assert None is site.open(f"{owner.cookie}; {other.cookie}").subject

    def test_a_record_that_cannot_be_opened_is_dropped(self, server: Site) -> None:
        """Once, with an event: it never fails every request until the cookie goes."""
        owner = server.browser()
        owner.login()
        record = server.records()[0]
        head = read_payload(record.payload)
        broken = write_payload(
            msgspec.structs.replace(head, body=head.body[:-1] + bytes([head.body[-1] ^ 1]))
        )
        now = int(server.clock() * 1000)
        server._run(server.store.save(changed(record, payload=broken), record.revision, now))

        assert None is owner.begin().subject
        assert (1, []) == (len(server.events_of(Unreadable)), server.records())

    def test_a_refused_cookie_is_told(self, site: Site) -> None:
        """As an event with a reason."""
        name = site.sessions.cookie.full_name
        site.open(f"{name}=garbage")

        assert ["malformed"] == [event.reason for event in site.events_of(Refused)]


class TestLaw11Bounded:
    def test_a_session_too_large_is_refused_whole(self, make_site: Callable[..., Site]) -> None:
        """With the key that is to blame, and nothing written."""
        site = make_site(max_bytes=1000)
        owner = site.browser()
        owner.visit(put("a", 1))
        session = owner.begin()
        session["b"] = "x" * 2000
        with pytest.raises(SessionTooLarge, match=r"1000.*session\['b'\]"):
            site.commit(session)

        assert {"a": 1} == owner.values()

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("cookie")])
    def test_a_cookie_too_large_is_refused(self, make_site: Callable[..., Site], kind: str) -> None:
        """Browsers would drop it silently."""
        site = make_site(kind)
        session = site.open()
        session["b"] = "x" * 4000
        with pytest.raises(CookieTooLarge, match="4096"):
            site.commit(session)


class TestLaw12NoSecretInAMessage:
    def test_no_secret_in_reprs_and_events(self, site: Site) -> None:
        """Whatever the session does, what is told of it opens nothing."""
        owner = site.browser()
        session = owner.login()
        owner.visit(logout)
        assert owner.answers
        token = owner.answers[0].partition("=")[2].partition(";")[0]

        told = repr(session) + repr(site.events) + repr(site.sessions) + repr(site.store)
        assert session.id is not None
        assert session.id in told
        for part in (token, token[24:40], token[-16:]):
            assert part not in told

    def test_no_value_in_a_traceback(self, make_site: Callable[..., Site]) -> None:
        """Error pages show the locals of every frame; ours hold no session value."""
        session = make_site(max_bytes=1000).browser().begin()
        session["a"], session["b"] = "hunter2", "x" * 2000
        with pytest.raises(SessionTooLarge) as raised:
            make_site(max_bytes=1000).sessions.commit(session)
        frames = [each.frame for each in raised.traceback]
        ours = [frame for frame in frames if "/coatcheck/" in str(frame.code.path)]

        assert ours
        assert [] == [frame for frame in ours if "hunter2" in repr(frame.f_locals)]


class TestRotation:
    """Renewal with grace, and copied cookies."""

    @pytest.fixture
    def renewing(self, make_site: Callable[..., Site]) -> Site:
        return make_site(renew_after=600)

    def renewed(self, site: Site) -> tuple[Browser, Browser]:
        """A browser whose cookie was just renewed, and a copy with the previous one."""
        owner = site.browser()
        owner.login()
        old = owner.copy()
        site.clock.move(600)
        owner.visit(lambda session: session.subject)
        assert old.cookie != owner.cookie
        return owner, old

    def test_the_previous_proof_is_good_until_its_successor_was_used(self, renewing: Site) -> None:
        """Other tabs and slow uploads stay in, and a minute beyond."""
        owner, old = self.renewed(renewing)
        renewing.clock.move(59)
        assert "user:42" == old.begin().subject
        owner.visit(lambda session: session.subject)
        renewing.clock.move(59)
        assert "user:42" == old.begin().subject
        assert [] == renewing.events_of(CopiedCookie)

    def test_an_older_proof_is_a_copied_cookie(self, renewing: Site) -> None:
        """Two hold it, so the session ends for both, and an event says so."""
        owner, old = self.renewed(renewing)
        owner.visit(lambda session: session.subject)
        renewing.clock.move(60)

        assert (None, None) == (old.begin().subject, owner.begin().subject)
        assert 1 == len(renewing.events_of(CopiedCookie))
        assert [] == renewing.records()

    def test_a_lost_answer_locks_nobody_out(self, renewing: Site) -> None:
        """The old proof gets a fresh successor a minute later."""
        _, old = self.renewed(renewing)
        renewing.clock.move(60)
        before = old.cookie
        old.visit(lambda session: session.subject)

        assert before != old.cookie
        assert "user:42" == old.visit(lambda session: session.subject).subject
        assert [] == renewing.events_of(CopiedCookie)

    def test_a_wrong_seed_ends_nothing(self, renewing: Site) -> None:
        """Knowing the id opens nothing and closes nothing."""
        owner = renewing.browser()
        session = owner.login()
        assert session.id is not None
        forged = urlsafe_b64encode(bytes.fromhex(session.id) + b"f" * 32).decode()
        name = renewing.sessions.cookie.full_name

        assert None is renewing.open(f"{name}={forged}").subject
        assert "user:42" == owner.begin().subject

    def test_parallel_tabs_renew_once(self, renewing: Site) -> None:
        """Of eight requests that find a renewal due, one sends a cookie."""
        owner = renewing.browser()
        owner.login()
        renewing.clock.move(600)
        tabs = [owner.begin() for _ in range(8)]
        for number, tab in enumerate(tabs):
            tab[f"tab{number}"] = True
        sent = [renewing.commit(tab) for tab in tabs]

        assert [1] + [0] * 7 == [len(cookies) for cookies in sent]
        assert 8 == len(renewing.browser(sent[0][0].partition(";")[0]).values())

    def test_csrf_tokens_survive_a_renewal(self, renewing: Site) -> None:
        """They come from the seed, which stays."""
        owner = renewing.browser()
        token: list[str] = []
        owner.login()
        owner.visit(lambda session: token.append(session.csrf_token))
        renewing.clock.move(600)
        owner.visit(lambda session: session.subject)

        assert True is owner.begin().check_csrf(token[0])


def test_ids_have_the_shape_that_lists_and_logs_show(server: Site) -> None:
    """32 hexadecimal digits: the first 16 bytes of the token."""
    session = server.browser().login()

    assert re.fullmatch(r"[0-9a-f]{32}", session.id or "")
