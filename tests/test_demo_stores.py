"""The demo over every store that `--store` takes: a visit from the first page to the last."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from coatcheck.demo.app import create_app, create_site
from coatcheck.demo.users import Users
from coatcheck.stores import async_from_url
from coatcheck.testing import login
from tests.services import redis
from tests.sites import KEPT, KEY

URLS: dict[str, Callable[[Path], str]] = {
    "memory": lambda folder: "memory:",
    **{kind: url for kind, (url, _) in KEPT.items()},
    "sentinel": redis.sentinel_url,
    "secured": redis.secured_url,
    "cookie": lambda folder: (
        "cookie:?revocations=" + quote(f"sqlite:///{folder}/ended.sqlite3", safe="")
    ),
    "cookie-alone": lambda folder: "cookie:?revocations=none",
}


class Visit:
    """One browser on the demo over one store."""

    def __init__(self, url: str) -> None:
        store = async_from_url(url)
        self.users = Users(hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.site = create_site(store, self.users)
        self.sessions = self.site.sessions
        self.app = create_app(self.site)
        self.client = self.browser()

    def browser(self) -> TestClient:
        return TestClient(
            self.app,
            base_url="https://testserver",
            headers={"accept": "text/html"},
            follow_redirects=False,
        )

    def page(self, path: str) -> str:
        answer = self.client.get(path)
        assert 200 == answer.status_code, path
        return str(answer.text)

    def send(self, path: str, page: str, **fields: str) -> Any:
        found = re.search(r'name="csrf" value="([^"]+)"', self.page(page))
        assert found is not None
        answer = self.client.post(path, data={"csrf": found[1], **fields})
        assert answer.status_code in (200, 303), answer.text
        return answer

    def confirm(self) -> None:
        code = re.search(r'data-testid="code">([0-9 ]+)<', self.page("/confirm"))
        assert code is not None
        self.send("/confirm", "/confirm", password="analytical-engine", code=code[1])


@pytest.fixture(params=URLS)
def visit(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Visit]:
    monkeypatch.setenv("COATCHECK_KEYS", KEY)
    made = Visit(URLS[request.param](tmp_path))
    yield made
    asyncio.run(made.sessions.close())
    made.users.close()


def test_a_visit_from_the_first_page_to_the_last(visit: Visit) -> None:
    """A cart, a login that keeps it, the race, the devices, what is where, the account, what
    happened, and the way out."""
    visit.send("/cart/add", "/shop", item="scarf")
    visit.send("/login", "/login", username="ada", password="analytical-engine")
    visit.send("/race/add", "/race", how="edit")
    cart, inside, devices = visit.page("/cart"), visit.page("/inside"), visit.page("/devices")
    visit.confirm()
    account, activity = visit.page("/account"), visit.page("/activity")
    gone = visit.send("/logout", "/shop")

    assert "carf" in cart
    assert "What is where" in inside
    assert "Nothing is anywhere" not in inside
    assert ('data-testid="this-device"' in devices) is visit.sessions.is_listable
    assert 'data-testid="level">2<' in account
    assert 2 == activity.count("Logged in <")
    assert "/goodbye" == gone.headers["location"]
    assert 303 == visit.client.get("/devices").status_code


def test_logging_out_everywhere_else(visit: Visit) -> None:
    """Another browser is logged out, over every store that can; else there is no button."""
    other = visit.browser()
    for each in (visit.client, other):
        login(each, visit.sessions, "user:ada")
    can = visit.site.can_end_others
    assert can is ("Log out everywhere else" in visit.page("/devices"))
    visit.send("/devices/end-others", "/shop")

    answers = [each.get("/devices").status_code for each in (visit.client, other)]
    assert [200, 303 if can else 200] == answers


@pytest.mark.parametrize("visit", ["sqlite", "cookie", "cookie-alone"], indirect=True)
def test_a_socket_says_where_it_learns_of_no_end(visit: Visit) -> None:
    """It opens and answers; where no session can be ended from elsewhere, the page says so."""
    login(visit.client, visit.sessions, "user:ada")
    with visit.client.websocket_connect("wss://testserver/live/socket") as socket:
        socket.send_text("hello")
        assert {"heard": 1} == socket.receive_json()
    told = "will not learn of any end" in visit.page("/live")
    assert told is not visit.site.can_revoke


def test_what_a_store_cannot_list_is_not_ended_from_here(visit: Visit) -> None:
    """A forged form is no error, and ends nothing."""
    login(visit.client, visit.sessions, "user:ada")
    visit.send("/devices/end", "/shop", id="0" * 32)
    visit.send("/devices/end-others", "/shop")

    assert 200 == visit.client.get("/devices").status_code
