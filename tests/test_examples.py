"""Each example in `examples/` does what it says, started as a newcomer would."""

import itertools
import re
import runpy
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from tests.servers.running import PATIENCE, ROOT, Server, running
from tests.services.process import free_port

EXAMPLES = ROOT / "examples"
BROWSER = {"Accept": "text/html"}
APIS = ["fastapi_app.py"]
PAGES = [path.name for path in sorted(EXAMPLES.glob("*.py")) if path.name not in APIS]


WITHOUT_FORMS = ["wsgi.py", "wsgiref_app.py"]
"""Examples that take the name from the path."""


class Trusting(httpx.HTTPTransport):
    """Like Chrome and Firefox, it takes http://localhost for safe enough for Secure cookies."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        plain = request.url.copy_with(scheme="http")
        sent = httpx.Request(request.method, plain, headers=request.headers, stream=request.stream)
        answer = super().handle_request(sent)
        # Bottle and WebOb redirect to whole addresses, and know nothing of the trust.
        location = answer.headers.get("Location", "")
        if location.startswith("http://localhost"):
            answer.headers["Location"] = location.replace("http:", "https:", 1)
        return answer


class Site:
    """An example, started as a newcomer would, and browsers that visit it."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._url = f"https://localhost:{port}"
        self._browsers = ExitStack()
        self.user = ""

    def browser(self) -> httpx.Client:
        """It keeps cookies."""
        browser = httpx.Client(
            base_url=self._url,
            transport=Trusting(),
            headers=BROWSER,
            follow_redirects=True,
            timeout=PATIENCE,
        )
        return self._browsers.enter_context(browser)

    def login(self, browser: httpx.Client) -> str:
        """As the test's own user."""
        if self._name in WITHOUT_FORMS:
            return browser.post(f"/login/{self.user}").text
        return browser.post("/login", data={"name": self.user}).text

    @contextmanager
    def used_by(self, user: str) -> Iterator["Site"]:
        self.user = user
        with self._browsers:
            yield self


@pytest.fixture(scope="module", params=PAGES)
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Each example with pages, in a folder of its own; its tests share the server."""
    port = free_port()
    script = [str(EXAMPLES / request.param)]
    with running(script, tmp_path_factory.mktemp("example"), PORT=str(port)) as server:
        wait_until_it_listens(server, port)
        yield Site(request.param, port)


_users = itertools.count(1)


@pytest.fixture
def site(started: Site) -> Iterator[Site]:
    """Visited by a user whom nobody else knows."""
    with started.used_by(f"ann{next(_users)}") as used:
        yield used


def visits(page: str) -> int:
    found = re.search(r"Visits: (\d+)", page)
    assert found is not None, page
    return int(found[1])


def devices(page: str) -> set[str]:
    return set(re.findall("/end/([0-9a-f]{32})", page))


class TestPages:
    def test_without_a_login_it_offers_one(self, site: Site) -> None:
        """And shows nobody's name."""
        page = site.browser().get("/").text

        assert "Log in" in page
        assert "user:" not in page

    def test_a_login_welcomes_once(self, site: Site) -> None:
        """The message is read once; the name stays."""
        ann = site.browser()
        pages = [site.login(ann), ann.get("/").text]

        assert [True, True] == ["user:ann" in page for page in pages]
        assert [True, False] == ["Welcome!" in page for page in pages]

    def test_it_counts_visits(self, site: Site) -> None:
        """One by one."""
        ann = site.browser()
        before = visits(site.login(ann))

        assert [before + 1, before + 2] == [visits(ann.get("/").text) for _ in range(2)]

    def test_one_device_ends_another(self, site: Site) -> None:
        """Both are listed; the other has to log in again."""
        laptop, phone = site.browser(), site.browser()
        mine = devices(site.login(laptop))
        both = devices(site.login(phone))
        assert 2 == len(both)
        (other,) = both - mine
        laptop.post(f"/end/{other}")

        assert ["user:ann" in browser.get("/").text for browser in (laptop, phone)] == [True, False]

    def test_nobody_ends_somebody_elses(self, site: Site) -> None:
        """A session's id opens nothing and ends nothing."""
        ann, stranger = site.browser(), site.browser()
        (mine,) = devices(site.login(ann))
        stranger.post(f"/end/{mine}")

        assert "user:ann" in ann.get("/").text

    def test_a_logout_ends_it(self, site: Site) -> None:
        """The next page offers a login again."""
        ann = site.browser()
        site.login(ann)
        ann.post("/logout")
        page = ann.get("/").text

        assert "Log in" in page
        assert "user:" not in page


class TestFastApi:
    @pytest.fixture
    def client(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
        monkeypatch.chdir(tmp_path)
        app = runpy.run_path(str(EXAMPLES / "fastapi_app.py"))["app"]
        return TestClient(app, base_url="https://localhost")

    def test_without_a_login_it_is_401(self, client: TestClient) -> None:
        """For all but the login and the logout."""
        asked = [client.get("/"), client.get("/devices"), client.delete("/devices/" + "0" * 32)]

        assert [401, 401, 401] == [answer.status_code for answer in asked]

    def test_log_in_count_and_read_the_message(self, client: TestClient) -> None:
        """The message is read once."""
        assert 200 == client.post("/login", params={"name": "ann"}).status_code
        expected = [
            {"subject": "user:ann", "visits": 1, "messages": ["Welcome!"]},
            {"subject": "user:ann", "visits": 2, "messages": []},
        ]
        assert expected == [client.get("/").json() for _ in range(2)]

    def test_a_device_is_listed_and_ended(self, client: TestClient) -> None:
        """Its own here, so the next request is anonymous."""
        client.post("/login", params={"name": "ann"})
        (mine,) = client.get("/devices").json()

        assert [True, 401] == [
            client.delete(f"/devices/{mine}").json(),
            client.get("/").status_code,
        ]

    def test_a_logout_ends_it(self, client: TestClient) -> None:
        """The next request is anonymous."""
        client.post("/login", params={"name": "ann"})
        client.post("/logout")

        assert 401 == client.get("/").status_code


@pytest.mark.parametrize("name", APIS)
def test_an_api_started_as_a_script_answers(name: str, tmp_path: Path) -> None:
    """`python examples/…`, and one visit."""
    port = free_port()
    with running([str(EXAMPLES / name)], tmp_path, PORT=str(port)) as server:
        wait_until_it_listens(server, port)
        answer = httpx.get(f"http://localhost:{port}/", headers=BROWSER, timeout=PATIENCE)

    assert (401, {"detail": "log in first"}) == (answer.status_code, answer.json())


@pytest.mark.parametrize("name", [*PAGES, *APIS])
def test_it_is_short_and_says_how_to_run_it(name: str) -> None:
    """At most 60 lines, and the command is in its first ones."""
    lines = (EXAMPLES / name).read_text().splitlines()

    assert len(lines) <= 60
    assert f"python examples/{name}" in "".join(lines[:4])


def wait_until_it_listens(server: Server, port: int) -> None:
    """Try to connect, within the time limit, as long as the script runs."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            try:
                server.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError("the script ended before it listened") from None
        else:
            return
    raise AssertionError("the script never listened")
