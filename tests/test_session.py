"""`Session`: a mapping with intents, between the two moments of I/O."""

from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from coatcheck import (
    Client,
    Flash,
    Session,
    SessionClosed,
    SessionTooLarge,
    UnsupportedValue,
)
from tests.sites import Browser, Site


class Cart(msgspec.Struct):
    items: list[str]
    total: int = 0


@pytest.fixture
def site() -> Site:
    return Site("memory", Path())


@pytest.fixture
def owner(site: Site) -> Browser:
    """A browser that has been here, with a few values."""
    browser = site.browser()
    browser.visit(lambda s: s.update(a=1, list=[1], text="x"))
    return browser


class TestMapping:
    def test_it_is_a_mapping(self, site: Site) -> None:
        """Every method of a dict that mappings have."""
        session, odd = site.open(), cast("str", 7)
        session["a"] = 1
        session.update({"b": 2}, c=3)

        assert isinstance(session, MutableMapping)
        assert {"a": 1, "b": 2, "c": 3} == dict(session)
        assert (1, None, "x") == (session.get("a"), session.get("z"), session.get("z", "x"))
        assert (2, "x") == (session.pop("b"), session.pop("b", "x"))
        assert (3, [["a", 1], ["c", 3]]) == (session["c"], [list(i) for i in session.items()])
        assert (True, False, False) == ("a" in session, "b" in session, odd in session)
        assert (2, True) == (len(session), bool(session))
        assert session == {"a": 1, "c": 3}

    def test_an_empty_session_is_false(self, site: Site) -> None:
        """As an empty dict is."""
        assert False is bool(site.open())

    def test_a_login_is_something_too(self, site: Site) -> None:
        """Code that asks `if session` means a visitor who is known."""
        session = site.open()
        session.login("user:42")

        assert (True, 0) == (bool(session), len(session))

    def test_it_takes_another_mapping_in(self, owner: Browser) -> None:
        """By `|=`, as a dict does; it stays the same session."""
        session = same = owner.begin()
        session |= {"a": 2, "b": 3}
        owner.end(session)

        assert same is session
        assert {"a": 2, "list": [1], "text": "x", "b": 3} == owner.values()

    def test_popitem_takes_the_last(self, owner: Browser) -> None:
        """As a dict does, and raises where nothing is left."""
        session = owner.begin()
        assert [("text", "x"), ("list", [1]), ("a", 1)] == [session.popitem() for _ in range(3)]
        with pytest.raises(KeyError, match="empty"):
            session.popitem()

    def test_a_missing_key_raises(self, site: Site) -> None:
        """Read, removed or edited."""
        session = site.open()
        with pytest.raises(KeyError):
            session["z"]
        with pytest.raises(KeyError):
            del session["z"]
        with pytest.raises(KeyError):
            session.edit("z", lambda n: n)

    def test_keys_keep_their_order(self, owner: Browser) -> None:
        """Over requests too."""
        assert ["a", "list", "text"] == list(owner.begin())

    def test_keys_may_be_removed_while_they_are_walked(self, owner: Browser) -> None:
        """The walk is over the keys that were there."""
        session = owner.begin()
        for key in session:
            del session[key]

        assert {} == dict(session)

    def test_an_object_that_was_read_is_the_same_when_read_again(self, owner: Browser) -> None:
        """So that changes in place are seen."""
        session = owner.begin()

        assert session["list"] is session["list"]

    def test_setdefault_gives_an_object_to_change(self, site: Site) -> None:
        """The usual way to append to what may not be there."""
        browser = site.browser()
        browser.visit(lambda s: s.setdefault("list", []).append("tea"))
        browser.visit(lambda s: s.setdefault("list", []).append("milk"))

        assert {"list": ["tea", "milk"]} == browser.values()

    def test_an_assigned_object_may_change_before_the_commit(self, site: Site) -> None:
        """What counts is what it is then."""
        browser, items = site.browser(), list[str]()
        session = browser.begin()
        session["list"] = items
        items.append("tea")
        browser.end(session)

        assert {"list": ["tea"]} == browser.values()

    def test_a_change_in_place_after_an_early_commit_counts(self, owner: Browser) -> None:
        """The object stays the session's."""
        session = owner.begin()
        session["list"].append(2)
        owner.end(session)
        session["list"].append(3)
        owner.end(session)

        assert [1, 2, 3] == owner.values()["list"]

    def test_an_object_read_before_an_early_commit_is_still_watched(self, owner: Browser) -> None:
        """Where another request changed the key meanwhile, a change is kept or raises (laws 3, 9).

        It must not vanish without a word.
        """
        session = owner.begin()
        items = session["list"]
        session["a"] = 2
        owner.visit(lambda s: s["list"].append("other"))
        owner.end(session)
        items.append("mine")
        try:
            owner.end(session)
            session.check_closed()
        except SessionClosed:
            return

        assert "mine" in owner.values()["list"]

    @pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
    def test_a_key_that_is_no_text_is_refused(self, site: Site, key: Any) -> None:
        """On its line, with its type."""
        session = site.open()
        with pytest.raises(UnsupportedValue, match=type(key).__name__):
            session[key] = 1
        with pytest.raises(UnsupportedValue):
            session.edit(key, lambda n: n, default=0)
        assert {} == dict(session)

    def test_a_key_that_utf8_cannot_write_is_refused(self, site: Site) -> None:
        """Stores keep bytes."""
        with pytest.raises(UnsupportedValue, match="surrogates"):
            site.open()["\ud800"] = 1

    def test_reading_a_value_that_cannot_be_kept_back_is_possible(self, site: Site) -> None:
        """A value refused leaves the one that was there."""
        session = site.open()
        session["a"] = 1
        with pytest.raises(UnsupportedValue):
            session["a"] = object()

        assert {"a": 1} == dict(session)

    def test_clear_empties_an_anonymous_session(self, owner: Browser) -> None:
        """Its messages too; its cookie stays."""
        before = owner.cookie
        owner.visit(lambda s: s.flash("old"))
        owner.visit(lambda s: s.clear())

        assert ({}, [], before) == (owner.values(), owner.begin().flashes(), owner.cookie)

    def test_clear_logs_out(self, owner: Browser) -> None:
        """Elsewhere emptying a session logs out, so here it does too."""
        owner.login()
        copy = owner.copy()
        owner.visit(lambda s: s.clear())

        assert (None, None, {}) == (owner.cookie, copy.begin().subject, copy.values())


class TestEdit:
    def test_it_returns_the_new_value(self, site: Site) -> None:
        """Of the stored value, or of the default."""
        session = site.open()

        assert 1 == session.edit("n", lambda n: n + 1, default=0)
        assert 2 == session.edit("n", lambda n: n + 1)

    def test_none_is_a_default(self, site: Site) -> None:
        """And is not the same as none given."""
        assert [None] == site.open().edit("n", lambda value: [value], default=None)

    def test_an_edit_sees_what_was_changed_in_place(self, owner: Browser) -> None:
        """And keeps it."""
        session = owner.begin()
        session["list"].append(2)
        session.edit("list", lambda items: [*items, 3])
        owner.end(session)

        assert [1, 2, 3] == owner.values()["list"]

    def test_the_function_gets_a_copy_of_its_own(self, owner: Browser) -> None:
        """Each time it runs, so it may change what it gets."""
        slow = owner.begin()
        slow.edit("list", lambda items: items.append("slow") or items)
        owner.visit(lambda s: s.edit("list", lambda items: items.append("fast") or items))
        owner.end(slow)

        assert [1, "fast", "slow"] == owner.values()["list"]

    def test_the_default_is_made_anew(self, site: Site) -> None:
        """A list given as a default is not shared between runs."""
        browser, default = site.browser(), list[int]()
        for _ in range(2):
            browser.visit(lambda s: s.edit("list", lambda i: i.append(1) or i, default=default))

        assert ([], [1, 1]) == (default, browser.values()["list"])

    def test_an_edit_after_an_assignment_is_part_of_it(self, owner: Browser) -> None:
        """The request that assigns says what the key is."""
        slow = owner.begin()
        slow["a"] = 10
        slow.edit("a", lambda n: n + 1)
        owner.visit(lambda s: s.edit("a", lambda n: n + 100))
        owner.end(slow)

        assert 11 == owner.values()["a"]

    def test_several_edits_run_again_in_their_order(self, owner: Browser) -> None:
        """Each on what the one before it left."""
        slow = owner.begin()
        slow.edit("a", lambda n: n + 1)
        slow.edit("a", lambda n: n * 10)
        owner.visit(lambda s: s.edit("a", lambda n: n + 1))
        owner.end(slow)

        assert 30 == owner.values()["a"]

    def test_an_edit_that_raises_changes_nothing(self, owner: Browser) -> None:
        """Now, or when it runs again: nothing of the request is written."""
        slow = owner.begin()
        with pytest.raises(ZeroDivisionError):
            slow.edit("a", lambda n: n // 0)
        slow["b"] = 1
        slow.edit("a", lambda n: 1 // (2 - n))
        owner.visit(lambda s: s.__setitem__("a", 2))
        with pytest.raises(ZeroDivisionError):
            owner.end(slow)

        assert {"a": 2, "list": [1], "text": "x"} == owner.values()

    def test_what_an_edit_returns_must_be_kept_exactly(self, owner: Browser) -> None:
        """As any value."""
        with pytest.raises(UnsupportedValue, match=r"session\['a'\]"):
            owner.begin().edit("a", lambda n: object())


class TestTyped:
    def test_what_was_written_is_read_as_its_type(self, site: Site) -> None:
        """A struct goes in as plain values and comes back."""
        browser = site.browser()
        browser.visit(lambda s: s.write("cart", Cart(["tea"], 3)))

        assert Cart(["tea"], 3) == browser.begin().read("cart", type=Cart)
        assert {"cart": {"items": ["tea"], "total": 3}} == browser.values()

    def test_what_does_not_fit_the_type_is_refused(self, owner: Browser) -> None:
        """With the error of values, not with half a cart."""
        with pytest.raises(UnsupportedValue):
            owner.begin().read("a", type=Cart)
        with pytest.raises(KeyError):
            owner.begin().read("cart", type=Cart)


class TestIdentity:
    @pytest.mark.parametrize(
        "subject", ["", "x" * 256, "ü" * 128, "a\nb", "a\x00b", "\ud800", None, 42, b"user"]
    )
    def test_a_subject_that_stores_cannot_keep_is_refused(self, site: Site, subject: Any) -> None:
        """On the line that logs in, and nothing is meant any more."""
        session = site.open()
        with pytest.raises(UnsupportedValue, match=r"login\(\)"):
            session.login(subject)
        assert None is session.subject

    @pytest.mark.parametrize("subject", ["x", "x" * 255, "ü" * 127, "user:42", "a b", "'\"%_"])
    def test_a_subject_is_printable_text(self, site: Site, subject: str) -> None:
        """Of up to 255 bytes, kept exactly."""
        browser = site.browser()
        browser.login(subject)

        assert subject == browser.begin().subject

    def test_a_login_shows_at_once(self, site: Site) -> None:
        """Before the commit."""
        session = site.open()
        session.login("user:42")

        assert ("user:42", session.opened_at) == (session.subject, session.login_at)

    def test_the_id_is_known_before_the_commit(self, site: Site) -> None:
        """And is the one that is stored."""
        session = site.open()
        assert None is session.id
        session["a"] = 1
        before = session.id
        site.commit(session)

        assert before == session.id == site.records()[0].id

    def test_the_id_stays_through_a_login(self, owner: Browser) -> None:
        """The token changes, the session stays."""
        before = owner.begin().id

        assert before == owner.login().id

    def test_times_are_aware_and_utc(self, site: Site) -> None:
        """And what the clock of the site says."""
        session = site.browser().login()
        now = datetime.fromtimestamp(site.clock(), UTC)

        assert [now] * 4 == [
            session.opened_at,
            session.created_at,
            session.seen_at,
            session.login_at,
        ]
        assert now + timedelta(hours=1) == session.expires_at

    def test_a_new_session_has_no_times(self, site: Site) -> None:
        """It is not stored yet."""
        session = site.open()

        assert (True, [None] * 4) == (
            session.is_new,
            [session.created_at, session.seen_at, session.expires_at, session.login_at],
        )

    def test_a_repr_shows_the_id_and_nothing_else(self, owner: Browser) -> None:
        """No value, no token."""
        session = owner.begin()

        assert f"<Session {session.id}>" == repr(session)
        assert "<Session new>" == repr(owner.site.open())

    def test_an_object_is_told_when_it_was_used(self, owner: Browser) -> None:
        """Reading counts; asking for what the adapter needs does not."""
        session = owner.begin()
        _ = session.degraded, session.opened_at, repr(session)
        assert False is session.accessed
        _ = session.subject

        assert True is session.accessed


class TestFlash:
    def test_messages_come_in_their_order_and_once(self, site: Site) -> None:
        """With their categories."""
        browser = site.browser()

        def leave(session: Session) -> None:
            session.flash("one")
            session.flash("two", "error")

        browser.visit(leave)
        read: list[Flash] = []
        browser.visit(lambda s: read.extend(s.flashes()))

        assert [Flash("one", "info"), Flash("two", "error")] == read
        assert [] == browser.begin().flashes()

    def test_a_message_may_be_read_in_its_own_request(self, site: Site) -> None:
        """Then there is nothing to store."""
        session = site.open()
        session.flash("one")

        assert [("one", "info")] == session.flashes()
        assert ([], []) == (session.flashes(), site.commit(session))

    @pytest.mark.parametrize("message", [("\ud800",), (7,), ("text", None), (b"text",)])
    def test_a_message_is_text(self, site: Site, message: Any) -> None:
        """That UTF-8 can write."""
        with pytest.raises(UnsupportedValue, match="flash"):
            site.open().flash(*message)

    def test_messages_do_not_show_as_values(self, site: Site) -> None:
        """They are beside the mapping."""
        session = site.open()
        session.flash("one")

        assert ({}, False) == (dict(session), bool(session))


class TestCsrf:
    def test_a_token_is_good_in_its_own_request(self, site: Site) -> None:
        """For a form that is shown and checked at once."""
        session = site.open()
        token = session.csrf_token

        assert True is session.check_csrf(token)

    def test_tokens_differ_at_each_read(self, site: Site) -> None:
        """So that compressed pages do not leak them."""
        session = site.open()

        assert session.csrf_token != session.csrf_token

    def test_another_sessions_token_is_not_good(self, site: Site) -> None:
        """Nor is one from before the login."""
        owner, other = site.browser(), site.browser()
        tokens: list[str] = []
        owner.visit(lambda s: tokens.append(s.csrf_token))
        other.visit(lambda s: tokens.append(s.csrf_token))
        assert [True, False] == [owner.begin().check_csrf(each) for each in tokens]
        owner.login()

        assert [False, False] == [owner.begin().check_csrf(each) for each in tokens]

    def test_a_token_shown_with_the_login_is_good_after_it(self, site: Site) -> None:
        """It belongs to the seed that the login mints."""
        owner, tokens = site.browser(), list[str]()

        def enter(session: Session) -> None:
            session.login("user:42")
            tokens.append(session.csrf_token)

        owner.visit(enter)

        assert True is owner.begin().check_csrf(tokens[0])

    def test_reading_it_again_of_a_stored_session_writes_nothing(self, owner: Browser) -> None:
        """It is derived of the cookie."""
        before = owner.site.records()
        owner.visit(lambda s: s.csrf_token)

        assert before == owner.site.records()

    @pytest.mark.parametrize("text", ["", "x", "é", "=", "A" * 43 + "=", "\x00"])
    def test_garbage_is_not_good(self, owner: Browser, text: str) -> None:
        """And raises nothing, whether there is a session or not."""
        assert (False, False) == (
            owner.begin().check_csrf(text),
            owner.site.open().check_csrf(text),
        )

    def test_a_field_that_is_missing_is_not_good(self, owner: Browser) -> None:
        """`form.get("csrf")` gives None where the form had no such field."""
        missing: Any = None

        assert False is owner.begin().check_csrf(missing)


CHANGES: list[Callable[[Session], object]] = [
    lambda s: s.__setitem__("a", 2),
    lambda s: s.__delitem__("a"),
    lambda s: s.edit("a", lambda n: n + 1),
    lambda s: s.clear(),
    lambda s: s.flash("late"),
    lambda s: s.login("user:42"),
    lambda s: s.logout(),
    lambda s: s.rotate(),
    lambda s: s.write("cart", Cart([])),
    lambda s: s.setdefault("new", 1),
]


class TestClosed:
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_late_change_raises(
        self, owner: Browser, change: Callable[[Session], object]
    ) -> None:
        """The same change is fine before."""
        change(owner.begin())
        session = owner.begin()
        session.close()
        with pytest.raises(SessionClosed):
            change(session)

    def test_reading_late_is_fine(self, owner: Browser) -> None:
        """A page that streams may look."""
        session = owner.begin()
        session.close()

        assert (1, None, []) == (session["a"], session.subject, session.flashes())
        session.check_closed()

    def test_a_late_change_in_place_is_found(self, owner: Browser) -> None:
        """When the response is over, with the key's name."""
        session = owner.begin()
        items = session["list"]
        owner.end(session)
        session.close()
        session.check_closed()
        items.append(2)
        with pytest.raises(SessionClosed, match=r"session\['list'\]"):
            session.check_closed()

    def test_a_new_sessions_csrf_token_cannot_come_late(self, site: Site) -> None:
        """It would have to be stored."""
        session = site.open()
        session.close()
        with pytest.raises(SessionClosed):
            _ = session.csrf_token


class TestSize:
    def test_messages_count_too(self, site: Site) -> None:
        """And are named when they alone are too large."""
        session = site.open()
        session.flash("x" * 70_000)
        with pytest.raises(SessionTooLarge, match="flash messages"):
            site.commit(session)

    def test_the_largest_key_is_named(self, site: Site) -> None:
        """Not the last one."""
        session = site.open()
        session.update(a="x", b="x" * 70_000, c="x")
        with pytest.raises(SessionTooLarge, match=r"65536.*session\['b'\]"):
            site.commit(session)

    def test_a_session_may_be_as_large_as_its_limit(self, site: Site) -> None:
        """64 KiB by default, and not a byte of value more than a little less."""
        browser = site.browser()
        browser.visit(lambda s: s.__setitem__("a", "x" * 65_500))

        assert 65_500 == len(browser.values()["a"])


def test_a_client_is_shown_as_it_came(site: Site) -> None:
    """Address and agent, the agent cut to what a list can show."""
    session = site.open(None, Client("203.0.113.9", "A" * 1000))
    session.login("user:42")
    site.commit(session)
    (info,) = site.call("list_for", "user:42")

    assert Client("203.0.113.9", "A" * 512) == info.client


def test_a_client_is_asked_for_only_when_it_is_kept(site: Site, owner: Browser) -> None:
    """A function that makes it is not called by requests that do not need it."""
    asked: list[int] = []

    def client() -> Client:
        asked.append(1)
        return Client("203.0.113.9", None)

    session = site.open(owner.cookie, client)
    session["a"] = 5
    site.commit(session)
    assert [] == asked
    session.login("user:42")
    site.commit(session)

    assert [1] == asked


def test_a_client_of_odd_text_harms_no_request(site: Site) -> None:
    """It is shown, never used to decide anything: not to fail a login either."""
    session = site.open(None, Client("\udcff", "Agent \udcff"))
    session.login("user:42")

    assert 1 == len(site.commit(session))
