"""`Exchange`: what every adapter does with a request's sessions, without any framework."""

import asyncio
from collections.abc import Callable

import pytest

from coatcheck import AsyncSessions, Cookie, Sessions, StoreUnavailable, UnsupportedValue
from coatcheck.errors import Contention, SessionClosed
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.web.exchange import UNAVAILABLE, AsyncExchange, Exchange, Head
from tests.test_laws import Flaky


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(MemoryStore())


def opened(sessions: Sessions, cookie: str | None = None) -> Exchange:
    return Exchange.open({None: sessions}, cookie, None)


def logged_in(sessions: Sessions) -> str:
    """The cookie of somebody who is."""
    exchange = opened(sessions)
    exchange.session.login("user:42")
    return exchange.respond(200).cookies[0].partition(";")[0]


class TestDeciding:
    def test_a_response_commits_once(self, sessions: Sessions) -> None:
        """Asked again, it gives the same answer, whatever the status is now."""
        exchange = opened(sessions)
        exchange.session["a"] = 1
        head = exchange.respond(200)

        assert (1, True, None) == (len(head.cookies), head.vary, head.refused)
        assert [head, head] == [exchange.respond(500), exchange.fail(StoreUnavailable("late"))]

    def test_a_failed_app_keeps_a_logout_and_its_cookie(self, sessions: Sessions) -> None:
        """For the page that the framework makes of the error."""
        exchange = opened(sessions, cookie := logged_in(sessions))
        exchange.session.logout()
        exchange.session["a"] = 1
        exchange.fail(RuntimeError())
        head = exchange.respond(500)

        assert ["Max-Age=0"] == [c.split("; ")[1] for c in head.cookies]
        assert None is opened(sessions, cookie).session.subject

    def test_what_cannot_be_committed_is_raised(self, sessions: Sessions) -> None:
        """The logout is kept all the same, and the framework's page carries its cookie."""
        exchange = opened(sessions, logged_in(sessions))
        exchange.session.logout()
        exchange.session["a"] = []
        exchange.session["a"].append(object())
        with pytest.raises(UnsupportedValue):
            exchange.respond(200)

        assert ["Max-Age=0"] == [c.split("; ")[1] for c in exchange.respond(500).cookies]

    def test_after_it_nothing_can_be_changed(self, sessions: Sessions) -> None:
        """It would vanish."""
        exchange = opened(sessions)
        exchange.respond(200)
        with pytest.raises(SessionClosed):
            exchange.session["a"] = 1

    def test_the_end_tells_of_a_late_change_in_place(self, sessions: Sessions) -> None:
        """It has vanished."""
        exchange = opened(sessions)
        exchange.session["a"] = []
        exchange.respond(200)
        exchange.session["a"].append(1)
        with pytest.raises(SessionClosed):
            exchange.end()


class TestSettled:
    """Of `AsyncExchange`: what it decides without being awaited."""

    @staticmethod
    def asked(
        act: Callable[[AsyncExchange], object], status: int = 200
    ) -> tuple[Head | None, Head]:
        """What it says after the app did this to a logged-in session, and what `respond` says."""
        store = MemoryStore()
        cookie = logged_in(Sessions(store))

        async def ask() -> tuple[Head | None, Head]:
            every: dict[str | None, AsyncSessions] = {None: AsyncSessions(AsyncMemoryStore(store))}
            exchange = await AsyncExchange.open(every, cookie, None)
            act(exchange)
            return exchange.settled(status), await exchange.respond(status)

        return asyncio.run(ask())

    def test_a_session_that_was_not_used_owes_nothing(self) -> None:
        """Not even Vary; and that is decided."""
        settled, head = self.asked(lambda exchange: None)

        assert Head((), False) == settled
        assert head is settled

    def test_a_session_that_was_read_owes_vary(self) -> None:
        settled, head = self.asked(lambda exchange: exchange.session.subject)

        assert Head((), True) == settled
        assert head is settled

    def test_a_session_that_was_changed_waits(self) -> None:
        """Of a logout, `respond` sends the cookie."""
        settled, head = self.asked(lambda exchange: exchange.session.logout())

        assert (None, 1) == (settled, len(head.cookies))

    def test_a_failure_waits(self) -> None:
        """What it keeps is for `respond` to say."""
        settled, _ = self.asked(lambda exchange: None, 500)

        assert None is settled

    def test_what_cannot_be_committed_waits(self) -> None:
        """`respond` raises it."""

        def act(exchange: AsyncExchange) -> None:
            exchange.session["a"] = []
            exchange.session["a"].append(object())
            assert None is exchange.settled(200)

        with pytest.raises(UnsupportedValue):
            self.asked(act)

    def test_an_outage_that_was_met_waits(self) -> None:
        def act(exchange: AsyncExchange) -> None:
            exchange.session._fault = StoreUnavailable("down")
            with pytest.raises(StoreUnavailable):
                exchange.session.get("a")

        assert None is self.asked(act)[0]


def raised_from(cause: BaseException) -> Exception:
    error = RuntimeError("an app's own")
    error.__cause__ = cause
    return error


def grouped(error: Exception) -> BaseException:
    """As a task group in a task group raises it."""
    return ExceptionGroup("two", [LookupError(), ExceptionGroup("one", [raised_from(error)])])


def in_a_circle(error: Exception) -> BaseException:
    """As after `raise error from error`."""
    first, second = raised_from(error), ExceptionGroup("one", [error])
    error.__cause__ = second
    return first


class TestOutages:
    @pytest.mark.parametrize("error", [StoreUnavailable("down"), Contention("busy")])
    def test_an_error_of_the_store_is_answered_for(
        self, sessions: Sessions, error: Exception
    ) -> None:
        """Whether it came from the session, or from a call that knows no session."""
        assert UNAVAILABLE == opened(sessions).fail(error).refused

    def test_a_page_that_says_500_of_one_is_answered_for_too(self, sessions: Sessions) -> None:
        """Also where the request did not use its session: a list of devices, say."""
        exchange = opened(sessions)

        assert None is exchange.settled(500)
        assert UNAVAILABLE == exchange.respond(500, StoreUnavailable("down")).refused

    @pytest.mark.parametrize("made", [grouped, raised_from, in_a_circle])
    def test_what_was_made_of_an_error_of_the_store_is_one(
        self, sessions: Sessions, made: Callable[[Exception], BaseException]
    ) -> None:
        """A group that holds it, and what was raised from it, at any depth."""
        assert UNAVAILABLE == opened(sessions).fail(made(StoreUnavailable("down"))).refused
        assert None is opened(sessions).fail(made(OSError("a disk"))).refused

    def test_an_error_of_the_store_that_was_handled_is_none(self, sessions: Sessions) -> None:
        """What was raised beside it, and not from it, is the app's own."""
        error = RuntimeError()
        error.__context__ = StoreUnavailable("down")

        assert None is opened(sessions).fail(error).refused

    def test_any_other_error_goes_on(self, sessions: Sessions) -> None:
        """It is the app's."""
        assert None is opened(sessions).fail(RuntimeError()).refused

    def test_what_the_app_made_of_it_does_not_matter(self) -> None:
        """Another error, raised because the session could not be used; or a page that says 500."""
        store = Flaky()
        sessions = Sessions(store)
        cookie = logged_in(sessions)
        store.down = {"load"}
        raised, hidden, untouched = (opened(sessions, cookie) for _ in range(3))
        for exchange in (raised, hidden):
            with pytest.raises(StoreUnavailable):
                exchange.session.get("a")

        assert UNAVAILABLE == raised.fail(RuntimeError()).refused
        assert UNAVAILABLE == hidden.respond(500).refused
        assert None is untouched.respond(500).refused

    def test_a_503_of_the_apps_own_stands(self) -> None:
        """It has answered for it."""
        store = Flaky()
        sessions = Sessions(store)
        cookie = logged_in(sessions)
        store.down = {"load"}
        exchange = opened(sessions, cookie)
        with pytest.raises(StoreUnavailable):
            exchange.session.get("a")

        assert None is exchange.respond(503).refused


def test_of_several_sessions_none_is_committed_where_one_cannot_be() -> None:
    """What cannot be committed is met before anything is written."""
    first = Sessions(MemoryStore())
    second = Sessions(MemoryStore(), cookie=Cookie("prefs"))
    exchange = Exchange.open({None: first, "prefs": second}, None, None)
    exchange.session["a"] = 1
    exchange.named["prefs"]["b"] = []
    exchange.named["prefs"]["b"].append(object())
    with pytest.raises(UnsupportedValue):
        exchange.respond(200)

    assert [] == exchange.respond(500).cookies
