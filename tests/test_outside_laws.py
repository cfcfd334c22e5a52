"""The laws that can be seen from outside, through every framework, over several stores."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck import Session
from coatcheck.events import CopiedCookie
from coatcheck.stores.memory import MemoryStore
from tests.outside import COMBINATIONS, FRAMEWORKS, Answer, Browser, Reply, Site
from tests.test_laws import Flaky

DAY = 86_400


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def param(framework: str, kind: str) -> Any:
    marks = [] if kind == "memory" else [pytest.mark.every_store]
    return pytest.param((framework, kind), marks=marks, id=f"{framework}-{kind}")


@pytest.fixture(params=[param(*each) for each in COMBINATIONS])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site behind each framework, over several stores."""
    framework, kind = request.param
    with Site(framework, kind, tmp_path) as made:
        yield made


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest.fixture
def broken(framework: str, tmp_path: Path, flaky: Flaky) -> Iterator[Site]:
    """A site behind each framework, whose store can be out of reach."""
    with Site(framework, "memory", tmp_path, store=flaky) as made:
        yield made


def put(key: str, value: Any) -> Callable[[Session], None]:
    return lambda session: session.__setitem__(key, value)


def logout(session: Session) -> None:
    session.logout()


def fail(session: Session) -> None:
    raise RuntimeError("a view that fails")


def seen(browser: Browser) -> tuple[str | None, dict[str, Any]]:
    return browser.seen()


class TestLaw1EndedMeansEnded:
    def test_logout_ends_it_on_both_sides(self, site: Site) -> None:
        """The browser drops its cookie, the store its record, and a copy opens nothing."""
        owner = site.browser()
        owner.login()
        thief = owner.copy()
        assert ("user:42", {}) == seen(thief)
        owner.logout()

        assert (None, []) == (owner.cookie, site.records())
        assert (None, {}) == seen(thief)

    def test_every_older_cookie_is_dead_after_logout(self, site: Site) -> None:
        """The anonymous one, the first login's and the rotated one."""
        owner, older = site.browser(), []
        for act in (put("a", 1), lambda s: s.login("user:42"), lambda s: s.rotate()):
            owner.visit(act)
            older.append(owner.copy())
        owner.logout()

        assert [(None, {})] * 3 == [seen(copy) for copy in older]

    def test_a_slow_request_revives_nothing(self, site: Site) -> None:
        """It was opened before the logout and answers after it: no edit, no cookie."""
        owner = site.browser()
        owner.login()
        slow = owner.begin(put("late", True))
        owner.logout()

        assert ([], []) == (slow.end().cookies, site.records())

    def test_a_slow_rotation_revives_nothing(self, site: Site) -> None:
        """It finds nothing to rotate."""
        owner = site.browser()
        owner.login()
        slow = owner.begin(lambda session: session.rotate())
        owner.logout()

        assert ([], []) == (slow.end().cookies, site.records())

    def test_a_slow_logout_ends_what_was_rotated(self, site: Site) -> None:
        """The logout was opened before the rotation and wins all the same."""
        owner = site.browser()
        owner.login()
        leaving = owner.begin(logout)
        owner.visit(lambda session: session.rotate())
        leaving.end()

        assert (None, {}) == seen(owner)
        assert [] == site.records()

    def test_revoked_from_another_device_means_ended(self, site: Site) -> None:
        """The next request is anonymous."""
        owner = site.browser()
        owner.login()
        assert True is site.call("revoke", site.stored(owner.cookie).id)

        assert (None, {}) == seen(owner)

    def test_expired_means_ended(self, site: Site) -> None:
        """After the idle time, swept or not, whatever the browser keeps."""
        owner = site.browser()
        owner.login()
        site.clock.move(3600)

        assert (None, {}) == seen(owner)


class TestLaw2NoWriteIsLost:
    def test_fifty_keys_of_fifty_concurrent_requests_survive(self, site: Site) -> None:
        """All are open before the first goes on, and then all run at once."""
        owner = site.browser()
        owner.login()
        owner.together([put(f"key{number}", number) for number in range(50)])

        assert ("user:42", {f"key{number}": number for number in range(50)}) == seen(owner)

    def test_fifty_concurrent_edits_of_one_counter_count_fifty(self, site: Site) -> None:
        """An edit runs again on what another request left."""
        owner = site.browser()
        owner.visit(put("count", 0))
        answers = owner.together([lambda session: session.edit("count", lambda n: n + 1)] * 50)
        counted = [answer for answer in answers if answer.status == 200]
        # Where a busy disk lets some wait for too long, they are told so.
        assert {503} >= {answer.status for answer in answers if answer not in counted}

        assert (None, {"count": len(counted)}) == seen(owner)
        if isinstance(site.shelf, MemoryStore):  # which nothing slows down
            assert 50 == len(counted)

    def test_a_slow_reader_erases_nothing(self, site: Site) -> None:
        """What it read is not written back over what came meanwhile."""
        owner = site.browser()
        owner.visit(put("cart", ["tea"]))

        def read_and_write(session: Session) -> None:
            assert ["tea"] == session["cart"]
            session["other"] = 1

        slow = owner.begin(read_and_write)
        owner.visit(lambda session: session["cart"].append("milk"))
        slow.end()

        assert (None, {"cart": ["tea", "milk"], "other": 1}) == seen(owner)

    def test_of_plain_assignments_the_last_to_answer_wins(self, site: Site) -> None:
        """Whatever the order in which they were opened."""
        owner = site.browser()
        owner.visit(put("a", 0))
        first, second = owner.begin(put("a", "first")), owner.begin(put("a", "second"))
        second.end()
        first.end()

        assert (None, {"a": "first"}) == seen(owner)


class TestLaw4OneExpiry:
    def test_the_cookies_max_age_is_the_hard_end(self, site: Site) -> None:
        """A day after the login, whatever the idle time."""
        answer = site.browser().login()

        assert f"Max-Age={DAY}" in (answer["set-cookie"] or "").split("; ")

    def test_the_cookie_is_sent_once_with_its_token(self, site: Site) -> None:
        """Neither reads nor writes nor touches repeat it."""
        owner = site.browser()
        owner.login()
        site.clock.move(1800)

        assert [[], []] == [owner.visit(act).cookies for act in (lambda s: s.subject, put("a", 1))]

    def test_no_record_outlives_its_cookie(self, site: Site) -> None:
        """Visited each half hour, the session ends a day after the login all the same."""
        owner = site.browser()
        owner.login()
        for _ in range(47):
            site.clock.move(1800)
            assert "user:42" == seen(owner)[0]
        site.clock.move(1800)

        assert (None, {}) == seen(owner)

    def test_remember_makes_both_limits_longer(self, site: Site) -> None:
        """Thirty days, in the cookie and in the store."""
        owner = site.browser()
        answer = owner.login(remember=True)
        site.clock.move(29 * DAY)

        assert f"Max-Age={30 * DAY}" in (answer["set-cookie"] or "").split("; ")
        assert "user:42" == seen(owner)[0]


class TestLaw5ALoginGetsAFreshToken:
    def test_the_old_token_dies_with_the_login(self, site: Site) -> None:
        """Who planted or copied it beforehand gets nothing."""
        victim = site.browser()
        victim.visit(put("a", 1))
        attacker = victim.copy()
        victim.login()

        assert attacker.cookie != victim.cookie
        assert [(None, {}), ("user:42", {"a": 1})] == [seen(attacker), seen(victim)]

    def test_a_planted_token_is_not_adopted(self, site: Site) -> None:
        """However well shaped, it opens nothing, and the login brings one of ours."""
        planted = f"{site.cookie_name}={'A' * 64}"
        victim = site.browser(planted)
        victim.login()

        assert planted != victim.cookie
        assert [(None, {}), ("user:42", {})] == [seen(site.browser(planted)), seen(victim)]

    def test_a_slow_request_cannot_overwrite_the_login(self, site: Site) -> None:
        """Opened before the login with the old token: its edits are dropped, and no cookie."""
        owner = site.browser()
        owner.visit(put("a", 1))
        slow = owner.begin(put("late", True))
        owner.login()

        assert [] == slow.end().cookies
        assert ("user:42", {"a": 1}) == seen(owner)

    def test_however_slow_it_is(self, site: Site) -> None:
        """A long upload that ends minutes after the login is judged as it was when it began."""
        owner = site.browser()
        owner.visit(put("a", 1))
        slow = owner.begin(put("late", True))
        owner.login()
        site.clock.move(600)

        assert [] == slow.end().cookies
        assert ("user:42", {"a": 1}) == seen(owner)

    def test_a_long_upload_across_two_renewals_is_no_thief(
        self, framework: str, tmp_path: Path
    ) -> None:
        """Its proof was good when it began; the session goes on, with what it did."""
        with Site(framework, "memory", tmp_path, renew_after=300) as site:
            owner = site.browser()
            owner.login()
            slow = owner.begin(put("uploaded", True))
            for _ in range(2):
                site.clock.move(301)
                for _ in range(2):
                    owner.visit(put("a", 1))
                    site.clock.move(61)

            assert 200 == slow.end().status
            assert [] == [event for event in site.events if isinstance(event, CopiedCookie)]
            assert ("user:42", {"a": 1, "uploaded": True}) == seen(owner)

    def test_for_a_minute_the_old_token_sets_no_cookie(self, site: Site) -> None:
        """A request still showing it after the login is anonymous and mute."""
        owner = site.browser()
        owner.visit(put("a", 1))
        late = owner.copy()
        owner.login()
        site.clock.move(59)

        assert [] == late.visit(put("late", True)).cookies
        assert ("user:42", {"a": 1}) == seen(owner)

    def test_a_double_click_on_the_login_ends_with_a_good_session(self, site: Site) -> None:
        """Both requests show the old token, and both answers bring one that works."""
        owner = site.browser()
        owner.visit(put("a", 1))
        other = owner.copy()
        second = other.begin(lambda session: session.login("user:42"))
        owner.login()
        other.take(second)

        assert ["user:42"] * 2 == [seen(browser)[0] for browser in (owner, other)]

    @pytest.mark.parametrize("value", ["A" * 64, "garbage", ""], ids=["token", "garbage", "empty"])
    def test_a_refused_token_never_deletes_a_cookie(self, site: Site, value: str) -> None:
        """A browser whose cookie is not good keeps it until a better one comes."""
        browser = site.browser(f"{site.cookie_name}={value}")

        assert [] == browser.visit(lambda session: session.subject).cookies


class TestLaw7AnOutageIsNotALogout:
    @pytest.mark.parametrize(
        ("act", "verb"),
        [
            (lambda session: session.subject, "load"),
            (put("a", 1), "save"),
            (lambda session: session.login("user:7"), "admit"),
            (logout, "delete"),
        ],
    )
    def test_a_request_that_needs_the_store_gets_503(
        self, broken: Site, flaky: Flaky, act: Callable[[Session], object], verb: str
    ) -> None:
        """With Retry-After, kept by no cache, and the cookie untouched."""
        owner = broken.browser()
        owner.login()
        flaky.down = {verb}
        answer = owner.fail(act)

        assert (503, "no-store", []) == (answer.status, answer["cache-control"], answer.cookies)
        assert int(answer["retry-after"] or 0) > 0
        flaky.down = set()
        assert ("user:42", {}) == seen(owner)

    def test_a_first_visit_that_cannot_be_stored_gets_503(self, broken: Site, flaky: Flaky) -> None:
        """And no cookie that would open nothing."""
        flaky.down = {"create"}
        answer = broken.browser().fail(put("a", 1))

        assert (503, []) == (answer.status, answer.cookies)

    def test_a_request_that_never_uses_its_session_is_served(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """The outage is none of its business."""
        owner = broken.browser()
        owner.login()
        flaky.down = {"load"}

        assert Answer(200, [], b"ok") == bare(owner.visit())

    def test_a_touch_that_fails_is_skipped(self, broken: Site, flaky: Flaky) -> None:
        """The page was read, and that is what counts."""
        owner = broken.browser()
        owner.login()
        broken.clock.move(1800)
        flaky.down = {"touch"}

        assert 200 == owner.visit(lambda session: session.subject).status

    def test_a_failing_view_that_met_the_outage_is_503_all_the_same(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """Whatever the app made of the error: to the client it is the outage."""
        owner = broken.browser()
        owner.login()
        flaky.down = {"load"}

        def wrap(session: Session) -> None:
            try:
                _ = session.subject
            except Exception as error:
                raise RuntimeError("a framework that wraps errors") from error

        assert 503 == owner.fail(wrap).status

    def test_a_logout_is_kept_where_something_else_is_out_of_reach(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """The session's own store answers; what raised `StoreUnavailable` is another."""
        owner, thief = broken.browser(), broken.browser()
        owner.login()
        thief.cookie = owner.cookie

        def leave(session: Session) -> None:
            session.logout()
            flaky.down = {"load"}
            try:
                broken.inside.ping()
            finally:
                flaky.down = set()

        assert 503 == owner.fail(leave).status
        assert (None, {}) == seen(thief)

    def test_a_503_of_our_own_is_the_only_error(self, broken: Site, flaky: Flaky) -> None:
        """A value changed in place before the outage was met raises nothing at the end."""
        owner = broken.browser()
        owner.visit(put("cart", []))

        def change(session: Session) -> None:
            session["cart"].append("tea")
            flaky.down = {"load"}
            broken.inside.ping()

        answer = owner.fail(change)
        assert 503 == answer.status
        assert "SessionClosed" != type(answer.error).__name__


def bare(answer: Answer) -> Answer:
    """The answer without the headers that frameworks add by themselves."""
    ours = ("set-cookie", "vary", "cache-control", "retry-after")
    answer.headers = [(k, v) for k, v in answer.headers if k.lower() in ours]
    return answer


class TestLaw8UntouchedMeansUntouched:
    def test_a_request_that_does_not_use_its_session_leaves_no_trace(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """No Set-Cookie, no Vary, no Cache-Control; one load and no write, however old it is."""
        owner = broken.browser()
        owner.login()
        broken.clock.move(1800)
        flaky.calls.clear()

        assert Answer(200, [], b"ok") == bare(owner.visit())
        assert ["load"] == flaky.calls

    def test_a_request_without_a_cookie_does_not_ask_the_store(
        self, broken: Site, flaky: Flaky
    ) -> None:
        """Nor where it reads its empty session."""
        broken.browser().visit(lambda session: session.get("a"))

        assert [] == flaky.calls

    @pytest.mark.parametrize(
        "act", [lambda s: s.get("a"), lambda s: s.subject, lambda s: s.flashes(), logout]
    )
    def test_an_empty_anonymous_session_is_never_created(
        self, site: Site, act: Callable[[Session], object]
    ) -> None:
        """It was used, so the answer varies with the cookie, but nothing is kept."""
        answer = site.browser().visit(act)

        assert Answer(200, [("vary", "Cookie")], b"ok") == lowered(bare(answer))
        assert [] == site.records()

    @pytest.mark.parametrize("act", [lambda session: session.subject, put("a", 1)])
    def test_what_was_read_or_written_varies_with_the_cookie(
        self, site: Site, act: Callable[[Session], object]
    ) -> None:
        """Vary: Cookie, and nothing else for a session that is there already."""
        owner = site.browser()
        owner.login()

        assert Answer(200, [("vary", "Cookie")], b"ok") == lowered(bare(owner.visit(act)))

    def test_the_apps_own_vary_is_kept(self, site: Site) -> None:
        """Ours is folded into it."""

        def read(session: Session) -> Reply:
            assert session.subject is None
            return Reply(headers=(("Vary", "Accept"),))

        assert "Accept, Cookie" == site.browser().visit(read)["vary"]

    def test_an_answer_that_sets_a_cookie_is_kept_by_no_cache(self, site: Site) -> None:
        """Whatever the app said, and the app's own cookies come along."""

        def enter(session: Session) -> Reply:
            session.login("user:42")
            headers = (("Cache-Control", "public, max-age=60"), ("Set-Cookie", "theme=dark"))
            return Reply(headers=headers)

        answer = site.browser().visit(enter)
        assert "no-store" == answer["cache-control"]
        assert ["theme", site.cookie_name] == [c.partition("=")[0] for c in answer.cookies]

    def test_an_answer_that_deletes_the_cookie_is_kept_by_no_cache(self, site: Site) -> None:
        """A cached logout would log everybody out."""
        owner = site.browser()
        owner.login()

        assert "no-store" == owner.logout()["cache-control"]


def lowered(answer: Answer) -> Answer:
    answer.headers = [(name.lower(), value) for name, value in answer.headers]
    return answer


class TestLaw9DurableBeforeVisible:
    def test_the_store_holds_it_when_the_first_byte_is_out(self, site: Site) -> None:
        """Seen past the framework, through a connection of its own, at that very moment."""
        found: list[Any] = []

        def look(head: Answer) -> None:
            stored = site.stored(head.cookies[0].partition(";")[0])
            found.append((stored.subject, dict(stored)))

        def enter(session: Session) -> None:
            session.login("user:42")
            session["a"] = [1]

        site.begin(enter, None, look).end()
        assert [("user:42", {"a": [1]})] == found

    def test_the_end_is_stored_when_the_first_byte_is_out(self, site: Site) -> None:
        """At that moment the store has forgotten the session."""
        owner = site.browser()
        owner.login()
        left: list[int] = []
        owner.take(site.begin(logout, owner.cookie, lambda head: left.append(len(site.records()))))

        assert [0] == left

    @pytest.mark.parametrize("reply", [Reply(500), Reply(503), Reply(500, raised=True)])
    def test_an_answer_of_5xx_drops_edits_and_login(self, site: Site, reply: Reply) -> None:
        """Nothing of a request that failed is kept, and no cookie is set."""
        owner = site.browser()
        owner.visit(put("a", 1))

        def enter(session: Session) -> Reply:
            session["a"] = 2
            session.login("user:42")
            return reply

        assert [] == owner.visit(enter).cookies
        assert (None, {"a": 1}) == seen(owner)

    def test_an_answer_of_5xx_keeps_a_logout(self, site: Site) -> None:
        """Who asked to leave has left, and the cookie goes."""
        owner = site.browser()
        owner.login()
        thief = owner.copy()

        def leave(session: Session) -> Reply:
            session.logout()
            session["after"] = 1
            return Reply(500)

        owner.visit(leave)
        assert (None, []) == (owner.cookie, site.records())
        assert (None, {}) == seen(thief)

    def test_an_unhandled_error_drops_edits_and_login(self, site: Site) -> None:
        """The store is as it was before."""
        owner = site.browser()
        owner.visit(put("a", 1))

        def enter(session: Session) -> None:
            session["a"] = 2
            session.login("user:42")
            fail(session)

        answer = owner.fail(enter)
        assert (500, []) == (answer.status, answer.cookies)
        assert isinstance(answer.error, RuntimeError | None)  # some frameworks keep it
        assert (None, {"a": 1}) == seen(owner)

    def test_an_unhandled_error_keeps_a_logout(self, site: Site) -> None:
        """The session is over, though the browser may not hear of it."""
        owner = site.browser()
        owner.login()

        def leave(session: Session) -> None:
            session.logout()
            fail(session)

        owner.fail(leave)
        assert [] == site.records()

    @pytest.mark.parametrize("too_much", [{"x": "x" * 70_000}, {"x": []}])
    def test_a_commit_that_is_refused_drops_edits_and_login(
        self, site: Site, too_much: dict[str, Any]
    ) -> None:
        """The session is too large, or holds what cannot be kept: an error like any other."""
        owner = site.browser()
        owner.visit(put("a", 1))

        def enter(session: Session) -> None:
            session.login("user:42")
            session.update(too_much)
            if session["x"] == []:
                session["x"].append(object())

        answer = owner.fail(enter)
        assert (500, []) == (answer.status, answer.cookies)
        assert (None, {"a": 1}) == seen(owner)

    def test_a_commit_that_is_refused_keeps_a_logout(self, site: Site) -> None:
        """The session that was left is over, even where the farewell is too large."""
        owner = site.browser()
        owner.login()

        def leave(session: Session) -> None:
            session.logout()
            session["farewell"] = "x" * 70_000

        assert 500 == owner.fail(leave).status
        assert [] == site.records()

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(303, b"", (("Location", "/"),)),
            Reply(404),
            Reply(303, b"", (("Location", "/"),), raised=True),
            Reply(422, raised=True),
        ],
    )
    def test_redirects_and_4xx_commit(self, site: Site, reply: Reply) -> None:
        """Also where the framework has them raised."""
        owner = site.browser()

        def enter(session: Session) -> Reply:
            session.login("user:42")
            session["a"] = 1
            return reply

        assert reply.status == owner.visit(enter).status
        assert ("user:42", {"a": 1}) == seen(owner)


def garbage(name: str) -> st.SearchStrategy[bytes]:
    """Cookie headers of anything, among them some that look almost like ours."""
    shaped = st.text("ABCxyz019-_=", min_size=62, max_size=66).map(str.encode)
    values = st.binary(max_size=80) | shaped
    ours = values.map(lambda value: name.encode() + b"=" + value)
    pairs = st.lists(ours | st.binary(max_size=40), min_size=1, max_size=6)
    return st.binary(max_size=300) | pairs.map(b"; ".join) | pairs.map(b";".join)


class TestLaw10GarbageInAnonymousOut:
    def test_arbitrary_bytes_never_raise_nor_are_reflected(
        self, framework: str, tmp_path: Path
    ) -> None:
        """The answer is to the last byte the one that a request without a cookie gets."""
        with Site(framework, "memory", tmp_path) as site:

            def read(session: Session) -> Reply:
                return Reply(
                    body=repr((session.subject, dict(session), session.flashes())).encode()
                )

            expected = site.browser().visit(read)

            @settings(max_examples=150)
            @given(garbage(site.cookie_name))
            def meet(header: bytes) -> None:
                assert expected == site.begin(read, header).end()

            meet()

    @pytest.mark.parametrize(
        "value",
        ["", '"', "=", "A" * 63, "A" * 65, "A" * 63 + "!", "A" * 100_000, "é" * 64, "\x00" * 64],
        ids=["empty", "quote", "equals", "63", "65", "mark", "long", "latin-1", "nul"],
    )
    def test_no_malformed_value_reaches_the_store(
        self, broken: Site, flaky: Flaky, value: str
    ) -> None:
        """Only a token's exact shape is worth a read."""
        broken.browser(f"{broken.cookie_name}={value}").visit(lambda session: session.subject)

        assert [] == flaky.calls

    def test_a_login_under_garbage_brings_a_good_cookie(self, site: Site) -> None:
        """What came does not stand in the way."""
        browser = site.browser(f"{site.cookie_name}=garbage; ;;=; {site.cookie_name}")
        browser.login()

        assert ("user:42", {}) == seen(browser)

    def test_among_planted_cookies_the_good_one_counts(self, site: Site) -> None:
        """A neighbour's leftover locks nobody out."""
        owner = site.browser()
        owner.login()
        planted = f"{site.cookie_name}={'A' * 64}"

        assert ("user:42", {}) == seen(site.browser(f"{planted}; {owner.cookie}; {planted}"))
