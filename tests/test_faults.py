"""Faults of real servers and of the way there, seen from outside, sync and async.

In every one: no request waits longer than 1.5 s at open and 1.5 s at commit; one that uses its
session gets a 503 and keeps its cookie, one that does not is served; when the server is back, the
next request works; and nothing is lost that was acknowledged and that the server kept.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coatcheck import Session
from coatcheck.events import Outage
from tests.faults import OUTAGES, UNWRITABLE, Rig
from tests.outside import Act, Answer, Browser, Pending, Site
from tests.rigs import RIGS
from tests.services.disk import can_mount
from tests.stopwatch import Stopwatch

LIMIT = 1.5
"""Seconds that a request may wait at open, and at commit."""
SLACK = 0.5
"""What this machine may take beside, when it is busy."""

CANNOT = {
    ("memcached", "wrong password"): "it has no passwords",
    ("memcached", "read-only"): "it has no replicas",
}
"""What cannot happen to a server, and why."""


@pytest.fixture(scope="module", params=RIGS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made: Rig = RIGS[request.param]()
    yield made
    made.close()


@pytest.fixture(params=["wsgi", "asgi"])
def stage(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator["Stage"]:
    with ExitStack() as stack:
        yield Stage(stack, request.param, rig, tmp_path)


class Stage:
    """A site whose store is behind the rig's proxy."""

    def __init__(self, stack: ExitStack, framework: str, rig: Rig, folder: Path) -> None:
        self.rig = rig
        url = rig.client_url(folder)
        self.site = stack.enter_context(Site(framework, "memory", folder, url=url))
        self.slowest = 0.0

    def begin(self, browser: Browser, act: Act) -> Pending:
        pending: Pending = self._timed(lambda: browser.begin(act))
        return pending

    def end(self, browser: Browser, pending: Pending) -> Answer:
        answer: Answer = self._timed(lambda: browser.take(pending))
        return answer

    def ask(self, browser: Browser, act: Act) -> Answer:
        """A whole request; how long opening and committing took is noted."""
        return self.end(browser, self.begin(browser, act))

    def _timed(self, call: Callable[[], Any]) -> Any:
        with Stopwatch() as watch:
            try:
                return call()
            finally:
                self.slowest = max(self.slowest, watch.seconds)

    def owner(self) -> Browser:
        """A browser that is logged in and has something in its session."""
        owner = self.site.browser()
        owner.login()
        owner.visit(put("a", 1))
        return owner

    def outages(self) -> list[Outage]:
        return [event for event in self.site.events if isinstance(event, Outage)]


def put(key: str, value: Any) -> Act:
    return lambda session: session.__setitem__(key, value)


def use(session: Session) -> None:
    session.get("a")


def ignore(session: Session) -> None:
    """A request that has nothing to do with its session."""


def refused(answer: Answer) -> tuple[int, list[str], bool]:
    """What tells an outage: the status, the cookies, and whether to come again."""
    return answer.status, answer.cookies, answer["retry-after"] is not None


AN_OUTAGE: tuple[int, list[str], bool] = (503, [], True)


def possible(rig: Rig, fault: str) -> None:
    """Skip what cannot happen to this server."""
    if reason := CANNOT.get((rig.name, fault)):
        pytest.skip(reason)
    if (rig.name, fault) == ("postgres", "full") and not can_mount():
        pytest.skip("only root can make a disk that is full")


def after(rig: Rig, fault: str, *possible: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """What a browser that was logged in may find when all is well again."""
    if fault in ("stopped", "killed") and not rig.keeps:
        return [(None, {})]  # the server forgot, so nobody is logged in; and no error
    return [("user:42", values) for values in possible]


@pytest.mark.parametrize("fault", OUTAGES)
class TestOutages:
    def test_an_outage_is_a_503_and_the_next_request_works(
        self, stage: Stage, rig: Rig, fault: str
    ) -> None:
        """It keeps its cookie; a request that does not use its session is served meanwhile."""
        possible(rig, fault)
        owner = stage.owner()
        cookie = owner.cookie
        with OUTAGES[fault](rig):
            met = refused(stage.ask(owner, use))
            served = stage.ask(owner, ignore).status
            stranger = stage.ask(stage.site.browser(), use).status

        assert (AN_OUTAGE, 200, 200, cookie) == (met, served, stranger, owner.cookie)
        assert owner.seen() in after(rig, fault, {"a": 1})
        assert stage.slowest < LIMIT + SLACK
        assert {"open"} == {event.moment for event in stage.outages()}

    def test_a_commit_that_meets_an_outage_is_a_503(
        self, stage: Stage, rig: Rig, fault: str
    ) -> None:
        """What was acknowledged before is there; of this change nobody was told anything."""
        possible(rig, fault)
        owner = stage.owner()
        pending = stage.begin(owner, put("b", 2))
        with OUTAGES[fault](rig):
            met = refused(stage.end(owner, pending))

        assert AN_OUTAGE == met
        assert owner.seen() in after(rig, fault, {"a": 1}, {"a": 1, "b": 2})
        assert stage.slowest < LIMIT + SLACK

    def test_a_login_that_meets_an_outage_sets_no_cookie(
        self, stage: Stage, rig: Rig, fault: str
    ) -> None:
        """A login that nobody confirmed is none; the next one works."""
        possible(rig, fault)
        visitor = stage.site.browser()
        pending = stage.begin(visitor, lambda session: session.login("user:42"))
        with OUTAGES[fault](rig):
            met = refused(stage.end(visitor, pending))

        assert (AN_OUTAGE, None) == (met, visitor.cookie)
        assert 200 == visitor.login().status
        assert ("user:42", {}) == visitor.seen()
        assert stage.slowest < LIMIT + SLACK

    def test_a_logout_that_meets_an_outage_can_be_done_again(
        self, stage: Stage, rig: Rig, fault: str
    ) -> None:
        """It is no logout yet, so the cookie stays; the one after it ends the session for good."""
        possible(rig, fault)
        owner = stage.owner()
        copy, cookie = owner.copy(), owner.cookie
        pending = stage.begin(owner, lambda session: session.logout())
        with OUTAGES[fault](rig):
            met = refused(stage.end(owner, pending))
        assert (AN_OUTAGE, cookie) == (met, owner.cookie)
        owner.logout()

        assert (None, {}) == copy.seen()
        assert stage.slowest < LIMIT + SLACK


@pytest.mark.parametrize("fault", UNWRITABLE)
class TestUnwritable:
    def test_reading_goes_on_and_writing_is_a_503(self, stage: Stage, rig: Rig, fault: str) -> None:
        """The session stays what it was, and the next write works when there is room again."""
        possible(rig, fault)
        owner = stage.owner()
        cookie = owner.cookie
        with UNWRITABLE[fault](rig):
            read = stage.ask(owner, use).status
            met = refused(stage.ask(owner, put("b", "b" * 20_000)))

        assert (200, AN_OUTAGE, cookie) == (read, met, owner.cookie)
        assert ("user:42", {"a": 1}) == owner.seen()
        owner.visit(put("b", 2))
        assert ("user:42", {"a": 1, "b": 2}) == owner.seen()
        assert stage.slowest < LIMIT + SLACK


class TestMidway:
    def test_a_server_killed_before_it_saw_the_commit(self, stage: Stage, rig: Rig) -> None:
        """503; what was acknowledged before is there where the server keeps it."""
        owner = stage.owner()
        pending = stage.begin(owner, put("b", 2))
        rig.proxy.on_request = lambda data: rig.service.kill()
        met = refused(stage.end(owner, pending))
        rig.proxy.heal()
        rig.service.start()

        assert AN_OUTAGE == met
        assert owner.seen() in after(rig, "killed", {"a": 1})
        assert stage.slowest < LIMIT + SLACK

    def test_a_server_killed_before_its_answer_came(self, stage: Stage, rig: Rig) -> None:
        """503, since nobody knows; it is there whole or not at all."""
        owner = stage.owner()
        pending = stage.begin(owner, put("b", 2))
        rig.proxy.lose = 0
        rig.proxy.on_answer = lambda data: rig.service.kill()
        met = refused(stage.end(owner, pending))
        rig.proxy.heal()
        rig.service.start()

        assert AN_OUTAGE == met
        assert owner.seen() in after(rig, "killed", {"a": 1}, {"a": 1, "b": 2})
        assert stage.slowest < LIMIT + SLACK

    def test_a_login_whose_answer_was_lost_counts_if_it_was_written(
        self, stage: Stage, rig: Rig
    ) -> None:
        """Whichever answer a reset takes the place of: a load on another connection settles it."""
        outcomes = []
        for which in range(4):
            owner = stage.owner()
            pending = stage.begin(owner, lambda session: session.login("user:43"))
            rig.proxy.lose = which
            answer = stage.end(owner, pending)
            rig.proxy.heal()
            outcomes.append((answer.status, len(answer.cookies), owner.seen()[0]))

        assert (200, 1, "user:43") in outcomes
        assert set(outcomes) <= {(200, 1, "user:43"), (503, 0, "user:42")}

    def test_a_slow_server_is_waited_for(self, stage: Stage, rig: Rig) -> None:
        """Slow is not out of reach, up to the time-out."""
        owner = stage.owner()
        rig.proxy.delay = 0.05
        answer = stage.ask(owner, put("b", 2))
        rig.proxy.heal()

        assert (200, ("user:42", {"a": 1, "b": 2})) == (answer.status, owner.seen())

    def test_a_server_that_forgot_everything(self, stage: Stage, rig: Rig) -> None:
        """Nobody is logged in, no request fails, and a login works at once."""
        owner = stage.owner()
        rig.forget()

        assert (None, {}) == owner.seen()
        assert 200 == owner.login().status
        assert ("user:42", {}) == owner.seen()

    def test_a_session_ended_before_a_crash_stays_ended(self, stage: Stage, rig: Rig) -> None:
        """An end was durable when it was acknowledged."""
        owner = stage.owner()
        copy = owner.copy()
        owner.logout()
        rig.service.kill()
        rig.service.start()

        assert (None, {}) == copy.seen()
