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

from coatcheck import AsyncSessions
from coatcheck.demo.app import create_app
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
        self.sessions = AsyncSessions(store)
        self.users = Users(hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.client = TestClient(
            create_app(self.sessions, store, self.users),
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
    """A cart, a login that keeps it, the race, the devices, what is where, and the way out."""
    visit.send("/cart/add", "/shop", item="scarf")
    visit.send("/login", "/login", username="ada", password="analytical-engine")
    visit.send("/race/add", "/race", how="edit")
    cart, inside, devices = visit.page("/cart"), visit.page("/inside"), visit.page("/devices")
    gone = visit.send("/logout", "/shop")

    assert "carf" in cart
    assert "What is where" in inside
    assert "Nothing is anywhere" not in inside
    assert ('data-testid="this-device"' in devices) is visit.sessions.is_listable
    assert "/goodbye" == gone.headers["location"]
    assert 303 == visit.client.get("/devices").status_code


def test_what_a_store_cannot_list_is_not_ended_from_here(visit: Visit) -> None:
    """A forged form is no error, and ends nothing."""
    login(visit.client, visit.sessions, "user:ada")
    visit.send("/devices/end", "/shop", id="0" * 32)
    visit.send("/devices/end-others", "/shop")

    assert 200 == visit.client.get("/devices").status_code
