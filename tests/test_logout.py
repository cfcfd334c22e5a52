"""Logout: the server's record first, then the cookie, and what the browser is asked to clear."""

from collections.abc import Callable
from typing import Any

import pytest

from coatcheck import ConfigurationError, Cookie, Session, Sessions
from coatcheck.errors import StoreUnavailable
from coatcheck.stores.memory import MemoryStore
from coatcheck.web.exchange import Exchange
from tests.sites import Browser, Site
from tests.test_laws import Flaky, logout, put

FEW = ["memory", "memory-async", "cookie", "cookie-async"]
CLEAR = ("cache", "cookies", "storage")


@pytest.fixture(params=FEW)
def clearing(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """A site that clears at logout; which store keeps its records makes no difference."""
    return make_site(request.param, clear_site_data=CLEAR)


def answered(browser: Browser, act: Callable[[Session], object], *, failed: bool = False) -> str:
    """What Clear-Site-Data says of the answer to a request that does this."""
    session = browser.begin()
    act(session)
    browser.end(session, failed=failed)
    return str(browser.site.sessions.clearing(session))


def whole(*directives: str) -> str:
    return ", ".join(f'"{each}"' for each in directives)


class TestServerFirst:
    @pytest.mark.parametrize(
        "cookie",
        [
            Cookie(),
            Cookie("sid", domain="example.com", path="/app", samesite="strict"),
            Cookie(samesite="none", partitioned=True, persistent=False),
            Cookie.insecure(),
        ],
    )
    def test_every_attribute_of_the_cookie_is_repeated(
        self, make_site: Callable[..., Site], cookie: Cookie
    ) -> None:
        """A browser deletes none that differs in name, domain, path or partition (RFC 6265)."""
        owner = make_site(cookie=cookie).browser()
        owner.login()
        owner.visit(logout)
        name, kept = parts(owner.answers[0])
        gone, left = parts(owner.answers[1])

        assert (name, kept) == (gone, left)
        assert name == cookie.full_name

    def test_what_was_left_is_ended_before_anything_new_is_written(
        self, make_site: Callable[..., Site]
    ) -> None:
        """A crash in between leaves nobody logged in."""
        store = Flaky()
        owner = make_site(store=store).browser()
        owner.login()
        store.calls.clear()
        owner.visit(logout_then_login)

        assert ["load", "delete", "admit"] == store.calls

    def test_a_store_that_does_not_answer_keeps_the_cookie(
        self, make_site: Callable[..., Site]
    ) -> None:
        """Nothing says that the logout is done: no cookie goes, and nothing is cleared."""
        store = Flaky()
        site = make_site(store=store, clear_site_data=CLEAR)
        owner = site.browser()
        owner.login()
        session = owner.begin()
        session.logout()
        store.down = {"delete"}
        for failed in (False, True):
            with pytest.raises(StoreUnavailable):
                owner.end(session, failed=failed)

        assert (1, "") == (len(owner.answers), site.sessions.clearing(session))


def parts(header: str) -> tuple[str, set[str]]:
    """A Set-Cookie's name, and its attributes but those that say how long."""
    pair, *attributes = header.split("; ")
    ages = ("Max-Age=", "Expires=")
    return pair.partition("=")[0], {each for each in attributes if not each.startswith(ages)}


def logout_then_login(session: Session) -> None:
    session.logout()
    session.login("user:7")


class TestClearSiteData:
    def test_off_by_default(self, make_site: Callable[..., Site]) -> None:
        """Clearing a cache can take a browser seconds: it is the app's choice."""
        owner = make_site().browser()
        owner.login()

        assert "" == answered(owner, logout)

    def test_goes_with_a_logout(self, clearing: Site) -> None:
        """In the words of the option."""
        owner = clearing.browser()
        owner.login()

        assert whole(*CLEAR) == answered(owner, logout)

    def test_goes_with_a_logout_of_a_failed_request(self, clearing: Site) -> None:
        """Who asked to leave has left, whatever became of the page."""
        owner = clearing.browser()
        owner.login()

        assert whole(*CLEAR) == answered(owner, logout, failed=True)

    def test_goes_with_the_logout_of_a_session_that_has_expired(self, clearing: Site) -> None:
        """The user asked for it, a little late."""
        owner = clearing.browser()
        owner.login()
        clearing.clock.move(90_000)

        assert whole(*CLEAR) == answered(owner, logout)

    @pytest.mark.parametrize(
        "act",
        [
            lambda session: session.login("user:42"),
            lambda session: session.rotate(),
            lambda session: session.subject,
            put("a", 1),
        ],
    )
    def test_goes_with_nothing_else(self, clearing: Site, act: Callable[[Session], object]) -> None:
        owner = clearing.browser()
        owner.login()

        assert "" == answered(owner, act)

    def test_an_end_that_nobody_asked_for_clears_nothing(self, clearing: Site) -> None:
        """Revoked, expired or refused: the next login of the same user finds what it had."""
        owner, other = clearing.browser(), clearing.browser(f"{Cookie().full_name}=garbage")
        session = owner.login()
        clearing.call("revoke", session.id)

        assert ["", ""] == [answered(each, lambda s: s.subject) for each in (owner, other)]

    def test_a_browser_that_showed_no_cookie_is_asked_nothing(self, clearing: Site) -> None:
        """Another site may post to the logout page: `SameSite` holds the cookie back, and so the
        user's storage is safe too."""

        def leave(session: Session) -> None:
            session.logout()
            session.flash("Goodbye")

        assert ["", ""] == [answered(clearing.browser(), act) for act in (logout, leave)]

    @pytest.mark.parametrize("act", [logout_then_login, lambda s: (s.logout(), s.flash("Bye"))])
    def test_a_new_cookie_is_not_taken_along(
        self, clearing: Site, act: Callable[[Session], object]
    ) -> None:
        """Browsers clear cookies after they have set the answer's."""
        owner = clearing.browser()
        owner.login()

        assert whole("cache", "storage") == answered(owner, act)
        assert owner.cookie is not None

    def test_everything_but_the_new_cookie(self, make_site: Callable[..., Site]) -> None:
        """The star is spelled out, so that cookies can be left out."""
        owner = make_site(clear_site_data=["*"]).browser()
        owner.login()
        named = ["cache", "storage", "executionContexts", "clientHints"]
        named += ["prefetchCache", "prerenderCache"]

        assert whole(*named) == answered(owner, logout_then_login)
        assert whole("*") == answered(owner, logout)

    def test_cookies_alone_beside_a_new_cookie(self, make_site: Callable[..., Site]) -> None:
        """Nothing is left to clear."""
        owner = make_site(clear_site_data=["cookies"]).browser()
        owner.login()

        assert "" == answered(owner, logout_then_login)

    def test_nothing_before_the_store_knows(self, clearing: Site) -> None:
        """It is asked for after the commit."""
        owner = clearing.browser()
        owner.login()
        session = owner.begin()
        session.logout()

        assert "" == clearing.sessions.clearing(session)

    def test_an_early_commit_is_not_forgotten(self, clearing: Site) -> None:
        """The last commit's answer is the whole one."""
        owner = clearing.browser()
        owner.login()
        session = owner.begin()
        session.logout()
        clearing.commit(session)
        clearing.commit(session)

        assert whole(*CLEAR) == clearing.sessions.clearing(session)

    def test_each_of_several_sessions_says_what_its_own_logout_clears(self) -> None:
        """Their headers become one."""
        every: dict[str | None, Sessions] = {
            None: Sessions(MemoryStore(), clear_site_data=["cache"]),
            "prefs": Sessions(MemoryStore(), cookie=Cookie("prefs"), clear_site_data=["storage"]),
            "shop": Sessions(MemoryStore(), cookie=Cookie("shop"), clear_site_data=["cookies"]),
        }
        first = Exchange.open(every, None, None)
        for session in first.opened.values():
            session["a"] = 1
        cookies = "; ".join(each.partition(";")[0] for each in first.respond(200).cookies)
        second = Exchange.open(every, cookies, None)
        second.session.logout()
        second.named["prefs"].logout()

        assert ['"cache"', '"storage"'] == second.respond(200).clear

    @pytest.mark.parametrize(
        "given", ["cache", '"cache"', ["cash"], ['"cache"'], [None], [["cache"]], {"cache"}, None]
    )
    def test_what_is_no_directive_is_refused(self, given: Any) -> None:
        """A browser would not say that it knows no such word."""
        with pytest.raises(ConfigurationError, match="clear_site_data: expected a tuple of some"):
            Sessions(MemoryStore(), clear_site_data=given)


class TestTheId:
    """An application's own map, as from an OIDC `sid`, leads to `session.id`."""

    def test_stays_through_login_rotation_and_renewal(
        self, make_site: Callable[..., Site], server: Site
    ) -> None:
        """The token changes each time."""
        site = make_site(server.kind, store=server.store, renew_after=900)
        owner = site.browser()
        ids, cookies = [], []
        for act in (
            put("a", 1),
            lambda session: session.login("user:42"),
            lambda session: session.login("user:42", remember=True),
            lambda session: session.rotate(),
            lambda session: site.clock.move(1000),
            lambda session: session.subject,  # which is when the renewal comes
        ):
            ids.append(owner.visit(act).id)
            cookies.append(owner.cookie)

        assert 1 == len(set(ids))
        assert 5 == len(set(cookies))
        assert True is site.call("revoke", ids[0])
        assert None is owner.begin().subject

    @pytest.mark.parametrize("kind", ["cookie", "cookie-async"])
    def test_of_a_cookie_store_is_new_with_each_seed(
        self, make_site: Callable[..., Site], kind: str
    ) -> None:
        """Known before the commit, so that the login's request can write it down."""
        owner = make_site(kind).browser()
        before = owner.visit(put("a", 1)).id
        session = owner.begin()
        session.login("user:42")
        known = session.id
        owner.end(session)

        assert known == session.id == owner.begin().id != before
