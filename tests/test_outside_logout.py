"""Logout as a browser sees it, and what it keeps of pages, through every framework."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck import Cookie, Session
from coatcheck.gate import LoginGate, Request, admit
from tests.outside import FRAMEWORKS, Answer, Reply, Site
from tests.test_laws import Flaky, logout
from tests.test_logout import parts

COOKIE = Cookie("sid", domain="example.com", path="/app", samesite="none", partitioned=True)
CLEAR = ("cache", "storage")


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest.fixture(params=FRAMEWORKS)
def site(request: pytest.FixtureRequest, tmp_path: Path, flaky: Flaky) -> Iterator[Site]:
    """A site that clears at logout, with a cookie of many attributes."""
    options: dict[str, Any] = {"cookie": COOKIE, "clear_site_data": CLEAR}
    with Site(request.param, "memory", tmp_path, store=flaky, **options) as made:
        yield made


def cleared(answer: Answer) -> str | None:
    return answer["clear-site-data"]


def test_a_logout_repeats_every_attribute_and_clears(site: Site) -> None:
    """A browser forgets the cookie, and what it kept of the site; other answers ask for neither."""
    owner = site.browser()
    entered = owner.login()
    read = owner.visit(lambda session: session.subject)
    left = owner.logout()
    again = owner.logout()

    assert parts(entered.cookies[0]) == parts(left.cookies[0])
    assert [None, None, '"cache", "storage"', None] == [
        cleared(each) for each in (entered, read, left, again)
    ]


def test_the_apps_own_header_is_merged(site: Site) -> None:
    """Each kind once, in one header."""
    owner = site.browser()
    owner.login()

    def leave(session: Session) -> Reply:
        session.logout()
        return Reply(headers=(("Clear-Site-Data", '"executionContexts", "cache"'),))

    assert '"executionContexts", "cache", "storage"' == cleared(owner.visit(leave))


def test_a_failed_answer_that_keeps_a_logout_clears(site: Site) -> None:
    """As it deletes the cookie."""
    owner = site.browser()
    owner.login()

    def leave(session: Session) -> Reply:
        session.logout()
        return Reply(500)

    assert '"cache", "storage"' == cleared(owner.visit(leave))
    assert None is owner.cookie


def test_a_logout_that_does_not_reach_the_store_clears_nothing(site: Site, flaky: Flaky) -> None:
    """The server comes first: 503, with the cookie and the browser's data as they were."""
    owner = site.browser()
    owner.login()
    flaky.down = {"delete"}
    answer = owner.fail(logout)

    assert (503, [], None) == (answer.status, answer.cookies, cleared(answer))


def test_no_cache_keeps_what_a_gate_let_through(site: Site) -> None:
    """Whether the request also wrote or only read; the app's own word counts more, and what is
    open to all is the app's business."""
    owner = site.browser()
    owner.login()
    gate = LoginGate(public=["/about"], no_store=True)

    def asked(path: str, *headers: tuple[str, str], write: bool = False) -> str | None:
        def act(session: Session) -> Reply:
            admit(gate, Request("GET", path, "", "", {"accept": "text/html"}.get), session)
            if write:
                session["a"] = 1
            return Reply(headers=headers)

        return owner.visit(act)["cache-control"]

    assert ["no-store", "no-store", "private", None] == [
        asked("/account"),
        asked("/account", write=True),
        asked("/account", ("Cache-Control", "private")),
        asked("/about"),
    ]
