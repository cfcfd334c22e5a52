"""The demo's site, in process and without a browser."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient, WebSocketDenialResponse

from coatcheck import ConfigurationError, StoreUnavailable
from coatcheck.demo import run
from coatcheck.demo.app import create_app, create_site
from coatcheck.demo.diary import Diary
from coatcheck.demo.users import Users
from coatcheck.events import LoggedIn, LoggedOut, Refused
from coatcheck.record import Record, read_payload
from coatcheck.store import Gone, Saved
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.testing import Clock, login
from coatcheck.token import parse

HTML = {"accept": "text/html"}
COOKIE = "__Host-session"
GARBAGE = [
    b"",
    b"%00",
    b"%ff%fe%fd",
    b"%ED%A0%80",
    b"%0d%0aSet-Cookie:%20a=b",
    b"%3Cscript%3Ealert(1)%3C/script%3E",
    b"'%20OR%201=1%20--",
    b"../../../etc/passwd",
    b"%E2%80%AE%F0%9F%A6%8A",
    b"x" * 16_000,
]
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko Firefox/140.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)
UPLOAD = b'--b\r\nContent-Disposition: form-data; name="item"; filename="f"\r\n\r\nx\r\n--b--\r\n'
FIELDS = {
    "/login": ["username", "password", "remember", "next"],
    "/register": ["username", "name", "password", "next"],
    "/logout": ["anything"],
    "/cart/add": ["item"],
    "/cart/remove": ["item"],
    "/checkout": ["anything"],
    "/race/add": ["how"],
    "/devices/end": ["id"],
    "/devices/end-others": ["anything"],
    "/confirm": ["password", "code", "next"],
    "/account": ["password", "others"],
    "/account/lower": ["anything"],
}


class BreakableStore(AsyncMemoryStore):
    """A store that can be out of reach, for reading and writing alike."""

    out = False
    read_only = False

    async def load(self, id: str, now: int) -> Record | None:
        self._check(self.out)
        return await super().load(id, now)

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        self._check(self.out or self.read_only)
        return await super().save(record, expected, now)

    def _check(self, refused: bool) -> None:
        if refused:
            raise StoreUnavailable("the test took the store away")


@dataclass
class Demo:
    """The site over a store that can break, with users whose hashes cost little."""

    store: BreakableStore = field(default_factory=BreakableStore)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock(time.time())
        self.users = Users(
            hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1), clock=self.clock
        )
        site = create_site(self.store, self.users, clock=self.clock, **self.options)
        self.sessions = site.sessions
        self.app: Starlette = create_app(site)

    def visitor(self, subject: str | None = None, agent: str = "a test") -> "Visitor":
        visitor = Visitor(self, agent)
        if subject is not None:
            login(visitor.client, self.sessions, subject)
        return visitor


class Visitor:
    """One browser: it sends forms with the CSRF token of the page that they are on."""

    def __init__(self, demo: Demo, agent: str) -> None:
        self.client = TestClient(
            demo.app,
            base_url="https://testserver",
            headers={**HTML, "user-agent": agent},
            follow_redirects=False,
            raise_server_exceptions=False,
        )

    @property
    def cookie(self) -> str | None:
        return self.client.cookies.get(COOKIE)

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, **options)

    def csrf(self, page: str = "/login") -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.client.get(page).text)
        assert found is not None
        return found[1]

    def send(self, path: str, page: str = "/shop", **fields: str) -> Any:
        """Send a form from a page, with that page's token."""
        return self.client.post(path, data={"csrf": self.csrf(page), **fields})

    def log_in(self, username: str = "ada", password: str = "analytical-engine") -> Any:
        return self.send("/login", "/login", username=username, password=password)

    def confirm(self, password: str = "analytical-engine", **fields: str) -> Any:
        """Prove who it is, with the code that the page shows."""
        return self.send(
            "/confirm", "/confirm", **{"password": password, "code": self.code(), **fields}
        )

    def code(self) -> str:
        found = re.search(r'data-testid="code">([0-9 ]+)<', self.get("/confirm").text)
        assert found is not None
        return found[1]

    def level(self) -> str:
        """What the account shows, or where it leads who may not see it."""
        answer = self.get("/account")
        found = re.search(r'data-testid="level">(\d)<', answer.text)
        return found[1] if found else str(answer.headers["location"])

    def activity(self) -> list[str]:
        """The titles of what happened, the latest first."""
        page = self.get("/activity").text
        return [title.strip() for title in re.findall(r"<h2>([^<]*)", page)]

    def is_logged_in(self) -> bool:
        return bool(self.get("/devices").status_code == 200)


@pytest.fixture
def demo() -> Iterator[Demo]:
    demo = Demo()
    yield demo
    demo.users.close()


@pytest.fixture
def visitor(demo: Demo) -> Visitor:
    return demo.visitor()


@pytest.fixture
def ada(demo: Demo) -> Visitor:
    return demo.visitor("user:ada")


@pytest.fixture
def sure(ada: Visitor) -> Visitor:
    """Ada, who has just proved who she is."""
    assert 303 == ada.confirm().status_code
    return ada


def posts(demo: Demo) -> list[str]:
    routes = [route for route in demo.app.routes if isinstance(route, Route)]
    return [route.path for route in routes if "POST" in (route.methods or ())]


# The gate.


@pytest.mark.parametrize("path", ["/", "/goodbye", "/inside"])
def test_looking_around_gets_no_cookie(visitor: Visitor, path: str) -> None:
    """A passer-by who only reads gets no session."""
    answer = visitor.get(path)
    assert (200, None) == (answer.status_code, answer.headers.get("set-cookie"))


def test_gate_leads_to_the_login_page_and_back(visitor: Visitor) -> None:
    """A page that takes a login names itself as the way back."""
    answer = visitor.get("/checkout")
    assert (303, "/login?next=/checkout") == (answer.status_code, answer.headers["location"])


def test_gate_answers_a_script_with_401(visitor: Visitor) -> None:
    """What is no page request is not sent to a page."""
    assert 401 == visitor.get("/devices", headers={"accept": "application/json"}).status_code


def test_gate_is_closed_for_what_it_does_not_know(visitor: Visitor) -> None:
    """A path that nobody listed as public takes a login, whether it exists or not."""
    assert 303 == visitor.get("/nowhere").status_code


def test_missing_page(ada: Visitor) -> None:
    """Who is logged in learns that a page is missing, in the site's design."""
    answer = ada.get("/nowhere")
    assert (404, True) == (answer.status_code, "There is no such hook" in answer.text)


# Log in, log out.


def test_login_leads_on(visitor: Visitor) -> None:
    """A login goes to the page that was asked for."""
    fields = {"username": "ada", "password": "analytical-engine", "next": "/devices"}
    answer = visitor.send("/login", "/login", **fields)
    assert (303, "/devices") == (answer.status_code, answer.headers["location"])
    assert visitor.is_logged_in()


@pytest.mark.parametrize(
    "unsafe", ["//evil.example", "https://evil.example/", "/\\evil.example", "/a b", "javascript:0"]
)
def test_login_leads_nowhere_else(visitor: Visitor, unsafe: str) -> None:
    """A `next` that is no path of this site is not followed."""
    fields = {"username": "ada", "password": "analytical-engine", "next": unsafe}
    assert "/shop" == visitor.send("/login", "/login", **fields).headers["location"]


def test_login_exchanges_the_token(visitor: Visitor) -> None:
    """The token from before the login is dead after it."""
    visitor.csrf()
    before = visitor.cookie
    visitor.log_in()
    assert before != visitor.cookie
    visitor.client.cookies.set(COOKIE, str(before), domain="testserver.local", path="/")
    assert not visitor.is_logged_in()


def test_wrong_password_and_unknown_user_look_alike(visitor: Visitor) -> None:
    """A failed login does not tell whether the user exists."""
    answers = [visitor.log_in("ada", "wrong-password"), visitor.log_in("nobody", "wrong-password")]
    texts = [re.sub(r'value="[^"]*"', "", answer.text) for answer in answers]
    assert [400, 400] == [answer.status_code for answer in answers]
    assert "do not belong together" in texts[0]
    assert texts[0] == texts[1]


def test_unknown_user_costs_a_verification(
    demo: Demo, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login of nobody does the same work as one of a user."""
    verified: list[str] = []
    verify = demo.users._verify

    def count(kept: str, password: str) -> bool:
        verified.append(password)
        return verify(kept, password)

    monkeypatch.setattr(demo.users, "_verify", count)
    visitor.log_in("nobody", "of nobody")
    visitor.log_in("ada", "of ada")
    assert ["of nobody", "of ada"] == verified


def test_remember_me_lasts_longer(visitor: Visitor) -> None:
    """Remember me shows in the cookie's age."""
    fields = {"username": "ada", "password": "analytical-engine", "remember": "yes"}
    answer = visitor.send("/login", "/login", **fields)
    assert f"Max-Age={30 * 86_400};" in answer.headers["set-cookie"]


def test_login_page_knows_who_is_logged_in(ada: Visitor) -> None:
    """Who is logged in already is led on from the login page."""
    assert "/devices" == ada.get("/login?next=/devices").headers["location"]


def test_logout_is_final(ada: Visitor) -> None:
    """The cookie is deleted, and a kept copy of it opens nothing."""
    before = ada.cookie
    answer = ada.send("/logout")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert '"cache", "storage"' == answer.headers["clear-site-data"]
    ada.client.cookies.set(COOKIE, str(before), domain="testserver.local", path="/")
    assert not ada.is_logged_in()


def test_logout_twice_is_fine(visitor: Visitor) -> None:
    """Logging out without a login leads to the same page, token or not."""
    assert "/goodbye" == visitor.client.post("/logout").headers["location"]


def test_user_who_is_gone_is_logged_out(demo: Demo) -> None:
    """A session of a user that no longer exists ends at the gate and on public pages alike."""
    stranger = demo.visitor("user:deleted")
    assert 303 == stranger.get("/devices").status_code
    assert "Log in" in demo.visitor("user:deleted").get("/").text


# Register.


def test_register_logs_in(visitor: Visitor) -> None:
    """A new user is logged in at once, under the name that they gave."""
    fields = {"username": "Mary-Ann", "name": " Mary  Ann ", "password": "kept in a drawer"}
    assert 303 == visitor.send("/register", "/register", **fields).status_code
    assert "Welcome, Mary Ann." in visitor.get("/shop").text


def test_registered_user_logs_in(demo: Demo, visitor: Visitor) -> None:
    """The password that was chosen is the one that counts."""
    fields = {"username": "mary", "name": "Mary", "password": "kept in a drawer"}
    visitor.send("/register", "/register", **fields)
    other = demo.visitor()
    other.log_in("mary", "kept in a drawer")
    assert other.is_logged_in()


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("username", "ab"),
        ("username", "1abc"),
        ("username", "a b c"),
        ("username", "é" * 5),
        ("username", "ada"),
        ("name", ""),
        ("name", "x" * 41),
        ("name", "a\u202eb"),
        ("password", "short"),
        ("password", "x" * 129),
        ("password", "mary-ann"),
    ],
)
def test_register_says_what_is_wrong(visitor: Visitor, field_name: str, value: str) -> None:
    """A field that cannot be taken is named, and nobody is registered."""
    fields = {"username": "mary-ann", "name": "Mary", "password": "kept in a drawer"}
    answer = visitor.send("/register", "/register", **{**fields, field_name: value})
    assert 400 == answer.status_code
    assert [field_name] == re.findall(r'data-testid="error-(\w+)"', answer.text)


def test_register_keeps_what_was_typed_but_the_password(visitor: Visitor) -> None:
    """A refused form comes back filled in, without its password."""
    fields = {"username": "mary", "name": "Mary", "password": "qwertz!"}
    text = visitor.send("/register", "/register", **fields).text
    assert 'value="mary"' in text
    assert "qwertz!" not in text


def test_names_are_escaped(demo: Demo, visitor: Visitor) -> None:
    """A name is text on every page, whatever it spells."""
    name = '<img src=x onerror="1">'
    fields = {"username": "mallory", "name": name, "password": "kept in a drawer"}
    visitor.send("/register", "/register", **fields)
    visitor.confirm("kept in a drawer")
    pages = ("/shop", "/checkout", "/devices", "/inside", "/activity", "/live", "/account")
    for page in ("/", *pages, "/goodbye"):
        text = visitor.get(page).text
        assert "&lt;img src=x onerror=&#34;1&#34;&gt;" in text
        assert "<img" not in text


# Forms.


def test_every_post_wants_a_csrf_token(demo: Demo, sure: Visitor) -> None:
    """A form without this session's token is refused, on every path that takes forms."""
    paths = posts(demo)
    assert sorted(FIELDS) == sorted(paths)
    answers = {path: sure.client.post(path, data={"csrf": "x"}).status_code for path in paths}
    assert dict.fromkeys(paths, 403) == answers
    assert sure.is_logged_in()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_origins_are_refused(demo: Demo, ada: Visitor, site: str) -> None:
    """What another origin sends does nothing, though it had this session's token, and looks like a
    page; no store was asked."""
    token = ada.csrf("/shop")
    demo.store.out = True
    headers = {"sec-fetch-site": site, "origin": "https://evil.example"}
    answer = ada.client.post(
        "/cart/add", data={"csrf": token, "item": "scarf"}, headers={**HTML, **headers}
    )
    demo.store.out = False
    assert (403, True) == (answer.status_code, "came from another site" in answer.text)
    assert "line-scarf" not in ada.get("/cart").text


def test_another_sessions_csrf_token_is_refused(demo: Demo, ada: Visitor) -> None:
    """A token is good for one session only."""
    stolen = demo.visitor().csrf()
    assert 403 == ada.client.post("/devices/end-others", data={"csrf": stolen}).status_code


def test_csrf_token_from_before_the_login_is_refused(visitor: Visitor) -> None:
    """The login exchanges the CSRF token too, and the page says what happened."""
    before = visitor.csrf()
    visitor.log_in()
    answer = visitor.client.post("/cart/add", data={"csrf": before, "item": "scarf"})
    assert (403, True) == (answer.status_code, "another session" in answer.text)


def test_refused_form_without_a_cookie_explains_secure(visitor: Visitor) -> None:
    """Who sends no cookie at all learns why a browser may have dropped it."""
    answer = visitor.client.post("/login", data={"csrf": "x"})
    assert (403, True) == (answer.status_code, "sent no session cookie" in answer.text)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("path", FIELDS)
def test_garbage_in_every_field(sure: Visitor, path: str, garbage: bytes) -> None:
    """No field's content breaks the site or reaches a header."""
    token = sure.csrf("/shop").encode()
    for name in FIELDS[path]:
        answer = sure.client.post(
            path,
            content=b"csrf=" + token + b"&" + name.encode() + b"=" + garbage,
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code in (303, 400, 403)
        assert "a" not in answer.cookies
        assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"&".join(b"a=1" for _ in range(21)), "application/x-www-form-urlencoded"),
        (b"csrf=" + b"x" * 17_000, "application/x-www-form-urlencoded"),
        (b"no boundary", "multipart/form-data"),
        (UPLOAD, "multipart/form-data; boundary=b"),
        (b'{"csrf": 1}', "application/json"),
        (b"\xff\xfe", "nonsense"),
    ],
)
def test_garbage_as_a_form(ada: Visitor, content: bytes, kind: str) -> None:
    """A body that is no form of ours is refused as a page."""
    answer = ada.client.post("/cart/add", content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 403)
    assert "</html>" in answer.text


# Shop and race.


def test_cart_survives_the_login(visitor: Visitor) -> None:
    """What was put into the cart before a login is there after it."""
    visitor.send("/cart/add", item="scarf")
    visitor.log_in()
    assert 'data-testid="line-scarf"' in visitor.get("/cart").text


def test_cart_adds_up(ada: Visitor) -> None:
    """Prices are exact."""
    for item in ("scarf", "lavender", "lavender"):
        ada.send("/cart/add", item=item)
    assert 'data-testid="total">€ 57.00' in ada.get("/checkout").text


def test_article_is_taken_out(ada: Visitor) -> None:
    """Taking out one article leaves the others."""
    ada.send("/cart/add", item="scarf")
    ada.send("/cart/add", item="brush")
    ada.send("/cart/remove", "/cart", item="scarf")
    assert ["brush"] == re.findall(r'data-testid="line-(\w+)"', ada.get("/cart").text)


def test_order_empties_the_cart(ada: Visitor) -> None:
    """After the order the cart is empty, and a second one says nothing."""
    ada.send("/cart/add", item="scarf")
    ada.send("/checkout", "/checkout")
    assert "Thank you" in ada.get("/shop").text
    ada.send("/checkout", "/shop")
    assert "Thank you" not in ada.get("/shop").text


def test_flash_is_shown_once(ada: Visitor) -> None:
    """A message is on the next page and on no later one."""
    ada.send("/cart/add", item="scarf")
    texts = [ada.get("/shop").text, ada.get("/shop").text]
    assert [1, 0] == [text.count('data-testid="flash"') for text in texts]


@pytest.mark.parametrize("how", ["edit", "assign"])
def test_overlapping_requests(demo: Demo, ada: Visitor, how: str) -> None:
    """Ten overlapping edits all count; ten assignments do not."""
    token = ada.csrf("/race")
    counts = asyncio.run(overlap(demo, str(ada.cookie), {"csrf": token, "how": how}))
    assert 10 == len(counts)
    counted = ada.get("/race/count").json()["count"]
    assert counted == 10 if how == "edit" else counted < 10


async def overlap(demo: Demo, cookie: str, fields: dict[str, str]) -> list[Any]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(demo.app),
        base_url="https://testserver",
        headers={"accept": "application/json", "cookie": f"{COOKIE}={cookie}"},
    ) as client:
        calls = [client.post("/race/add", data=fields) for _ in range(10)]
        answers = await asyncio.gather(*calls)
    return [answer.raise_for_status().json() for answer in answers]


def test_race_without_a_script(visitor: Visitor) -> None:
    """Without JavaScript a button of the race adds one and comes back."""
    answer = visitor.send("/race/add", "/race", how="edit")
    assert "/race" == answer.headers["location"]
    assert {"count": 1} == visitor.get("/race/count").json()


# Devices.


def device_ids(page: str) -> list[str]:
    return re.findall(r'name="id" value="([^"]+)"', page)


def test_devices_are_told_apart(demo: Demo) -> None:
    """Each device is listed with its browser and system, this one first and marked."""
    demo.visitor(agent=PHONE).log_in()
    this = demo.visitor(agent=FIREFOX)
    this.log_in()
    titles = re.findall(r"<h2>(.*?)</h2>", this.get("/devices").text, re.DOTALL)
    assert ["Firefox 140 on Linux", "Mobile Safari 17 on iOS 17"] == [
        title.partition("<")[0].strip() for title in titles
    ]
    assert [True, False] == ["This device" in title for title in titles]


@pytest.mark.parametrize("agent", ["", "x" * 600, "<script>", "Mozilla/5.0 (" + "(" * 400])
def test_odd_agents_are_listed(demo: Demo, agent: str) -> None:
    """A browser that names itself oddly, or not, is a device all the same."""
    odd = demo.visitor(agent=agent)
    odd.log_in()
    assert 200 == odd.get("/devices").status_code


def test_other_device_is_ended(demo: Demo, ada: Visitor) -> None:
    """Ending a device logs it out."""
    other = demo.visitor("user:ada")
    listed = device_ids(ada.get("/devices").text)[1]
    ada.send("/devices/end", "/devices", id=listed)
    assert [True, False] == [ada.is_logged_in(), other.is_logged_in()]


def test_this_device_is_ended(ada: Visitor) -> None:
    """Ending this device is a logout."""
    listed = device_ids(ada.get("/devices").text)[0]
    assert "/goodbye" == ada.send("/devices/end", "/devices", id=listed).headers["location"]
    assert not ada.is_logged_in()


def test_nobody_ends_a_strangers_device(demo: Demo, ada: Visitor) -> None:
    """A session's id is no secret, but only its owner can end it."""
    grace = demo.visitor("user:grace")
    listed = device_ids(grace.get("/devices").text)[0]
    ada.send("/devices/end", "/devices", id=listed)
    assert "over already" in ada.get("/shop").text
    assert grace.is_logged_in()


def test_limit_ends_the_oldest_and_says_so(small: Demo) -> None:
    """With a limit a login that is one too many ends the oldest session, which is told why."""
    first, second = small.visitor(), small.visitor()
    first.log_in()
    small.clock.move(1)
    second.log_in()
    assert [False, True] == [first.is_logged_in(), second.is_logged_in()]
    assert "one session too many" in first.get("/login").text
    assert ["Logged in", "Logged out by a newer login", "Logged in"] == second.activity()
    assert "1 at once is the most" in second.get("/devices").text


@pytest.mark.parametrize("small", ["refuse"], indirect=True)
def test_limit_refuses_the_login_and_says_so(small: Demo) -> None:
    """Where that is the choice, the login is refused with words, and the first goes on."""
    first, second = small.visitor(), small.visitor()
    first.log_in()
    answer = second.log_in()
    assert (403, True) == (answer.status_code, "as many devices as this demo" in answer.text)
    assert [True, False] == [first.is_logged_in(), second.is_logged_in()]
    assert ["Login refused", "Logged in"] == first.activity()


@pytest.fixture
def small(request: pytest.FixtureRequest) -> Iterator[Demo]:
    """A demo where each user may have one session."""
    demo = Demo(options={"limit": 1, "over_limit": getattr(request, "param", "end")})
    yield demo
    demo.users.close()


def test_devices_tell_the_level(demo: Demo, sure: Visitor) -> None:
    """Each is listed with its level and by what means it was reached."""
    demo.visitor("user:ada")
    page = sure.get("/devices").text
    assert re.findall(r"<dt>(Level \d), by</dt><dd>([^<]*)", page) == [
        ("Level 2", "password and one-time code"),
        ("Level 1", "unknown means"),
    ]


def test_all_other_devices_are_ended(demo: Demo, ada: Visitor) -> None:
    """Ending all others leaves this one, and other users alone."""
    others = [demo.visitor("user:ada"), demo.visitor("user:ada"), demo.visitor("user:grace")]
    ada.send("/devices/end-others", "/devices")
    assert "2 other devices logged out" in ada.get("/shop").text
    assert [True, False, False, True] == [each.is_logged_in() for each in (ada, *others)]


# The account, which takes more than a login.


def test_account_asks_who_it_is_and_leads_back(ada: Visitor) -> None:
    """A login is not enough for the account; password and code are, and lead on."""
    assert "/confirm?next=/account" == ada.level()
    assert "/account" == ada.confirm(next="/account").headers["location"]
    assert "2" == ada.level()


def test_account_asks_again_after_a_while(demo: Demo, sure: Visitor) -> None:
    """The proof is good for five minutes."""
    demo.clock.move(299)
    assert "2" == sure.level()
    demo.clock.move(2)
    assert "/confirm?next=/account" == sure.level()


def test_level_falls_on_request(sure: Visitor) -> None:
    """Who is done with the account may give up the level, and is still logged in."""
    sure.send("/account/lower", "/account")
    assert "/confirm?next=/account" == sure.level()
    assert sure.is_logged_in()


def test_confirming_exchanges_the_token(demo: Demo, ada: Visitor) -> None:
    """A copy from before the level rose opens nothing."""
    thief = demo.visitor()
    thief.client.cookies.set(COOKIE, str(ada.cookie), domain="testserver.local", path="/")
    ada.confirm()
    assert [True, False] == [ada.is_logged_in(), thief.is_logged_in()]


@pytest.mark.parametrize(
    ("password", "code"),
    [("wrong-password", None), ("analytical-engine", "000000"), ("analytical-engine", "")],
)
def test_confirming_takes_both(ada: Visitor, password: str, code: str | None) -> None:
    """Neither the password nor the code is enough."""
    answer = ada.confirm(password) if code is None else ada.confirm(password, code=code)
    assert (400, True) == (answer.status_code, "not good together" in answer.text)
    assert "/confirm?next=/account" == ada.level()


def test_code_is_good_once(ada: Visitor) -> None:
    """A code that was looked at while it was typed opens nothing (RFC 6238, 5.2)."""
    code = ada.code()
    answers = [ada.confirm(code=code).status_code, ada.confirm(code=code).status_code]
    assert [303, 400] == answers
    assert 'data-testid="used"' in ada.get("/confirm").text


def test_code_is_good_for_a_minute(demo: Demo, ada: Visitor) -> None:
    """The code before this one may still be on its way; the one before that is over."""
    code = ada.code()
    demo.clock.move(60)
    assert 400 == ada.confirm(code=code).status_code
    code = ada.code()
    demo.clock.move(30)
    assert 303 == ada.confirm(code=code).status_code


def test_code_is_the_standards(demo: Demo) -> None:
    """The test vector of RFC 6238, appendix B, of which six digits are shown."""
    demo.users.codes.show("ada")
    demo.users._table.execute("UPDATE codes SET secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ'")
    demo.clock.now = 1_111_111_109
    assert "081804" == demo.users.codes.show("ada").code


def test_remember_me_stays_when_the_level_rises(visitor: Visitor) -> None:
    """Who asked to be remembered still is after confirming."""
    fields = {"username": "ada", "password": "analytical-engine", "remember": "yes"}
    visitor.send("/login", "/login", **fields)
    assert f"Max-Age={30 * 86_400};" in visitor.confirm().headers["set-cookie"]


PASSWORD = "kept in a drawer"


@pytest.fixture
def mary(visitor: Visitor) -> Visitor:
    """Somebody whose password is her own, and who has just proved who she is."""
    visitor.send("/register", "/register", username="mary", name="Mary", password=PASSWORD)
    visitor.confirm(PASSWORD)
    return visitor


def test_password_is_changed(demo: Demo, mary: Visitor) -> None:
    """The new password is the one that counts; the ticket is exchanged, the others are ended."""
    other, before = demo.visitor("user:mary"), mary.cookie
    mary.send("/account", "/account", password="kept in a chest", others="yes")
    assert [True, False] == [mary.is_logged_in(), other.is_logged_in()]
    assert before != mary.cookie
    assert ["Logged out from elsewhere", "Logged in", "Logged in"] == mary.activity()[1:4]
    assert "Ticket exchanged" == mary.activity()[0]
    demo.clock.move(1)
    answers = [demo.visitor().log_in("mary", each) for each in (PASSWORD, "kept in a chest")]
    assert [400, 303] == [answer.status_code for answer in answers]


def test_password_is_changed_and_the_others_stay(demo: Demo, mary: Visitor) -> None:
    """Whether the other devices are logged out is a choice (OWASP ASVS 5.0, 7.4.3)."""
    other = demo.visitor("user:mary")
    mary.send("/account", "/account", password="kept in a chest")
    assert other.is_logged_in()


def test_password_must_be_good(mary: Visitor) -> None:
    """The same rules as for a new user; nothing is changed."""
    answer = mary.send("/account", "/account", password="short")
    assert (400, True) == (answer.status_code, "Choose a password of 8" in answer.text)


def test_printed_passwords_stay(demo: Demo, sure: Visitor) -> None:
    """Nobody locks the others out of a user whose password is on the front page."""
    assert 400 == sure.send("/account", "/account", password="kept in a chest").status_code
    assert 303 == demo.visitor().log_in().status_code


# Activity.


def test_activity_tells_what_happened(demo: Demo, visitor: Visitor) -> None:
    """Logins, ends and exchanges of this user, and nobody else's."""
    visitor.log_in()
    demo.visitor("user:grace")
    demo.visitor("user:ada")
    visitor.send("/devices/end-others", "/devices")
    assert ["Logged out from elsewhere", "Logged in", "Logged in"] == visitor.activity()


def test_copied_cookie_is_told(demo: Demo) -> None:
    """Both sides are told why, and the next login learns where each of them was."""
    demo = Demo(options={"renew_after": 130})
    owner, thief = demo.visitor(agent=FIREFOX), demo.visitor(agent=PHONE)
    owner.log_in()
    thief.client.cookies.set(COOKIE, str(owner.cookie), domain="testserver.local", path="/")
    for seconds in (131, 1, 61):
        demo.clock.move(seconds)
        assert owner.is_logged_in()
    assert [False, False] == [thief.is_logged_in(), owner.is_logged_in()]
    assert ["had been copied"] * 2 == [
        text
        for each in (thief, owner)
        for text in re.findall("had been copied", each.get("/login").text)
    ]

    owner.log_in()
    page = owner.get("/activity").text
    assert ["Logged in", "Copied ticket", "Ticket renewed", "Logged in"] == owner.activity()
    assert ["Mobile Safari 17 on iOS 17", "Firefox 140 on Linux"] == re.findall(
        r"</dt><dd>([^<]*)</dd>", page
    )
    demo.users.close()


def test_activity_is_bounded(demo: Demo) -> None:
    """Of each user the last fifty things are kept."""
    diary = Diary(demo.clock)
    for number in range(60):
        diary(LoggedIn(session_id=f"{number:032x}", subject="user:ada"))
    assert (50, f"{59:032x}") == (
        len(diary.of("user:ada")),
        diary.of("user:ada")[0].event.session_id,
    )


def test_diary_is_bounded(demo: Demo) -> None:
    """Of users and ended sessions the oldest go; nothing is kept of strangers' garbage."""
    diary = Diary(demo.clock)
    ids = [f"{number:032x}" for number in range(1100)]
    for each in ids:
        diary(LoggedOut(session_id=each, subject=f"user:{each}"))
        diary(Refused(session_id=each, reason="unknown"))
    assert ([], None) == (diary.of(f"user:{ids[0]}"), diary.end_of(ids[0]))
    assert (1000, 1000) == (len(diary._of), len(diary._ended))


@pytest.mark.parametrize(
    ("how", "said"),
    [("end", "ended from another device"), ("log out", "logged out in another tab")],
)
def test_ended_session_is_told_why(demo: Demo, ada: Visitor, how: str, said: str) -> None:
    """A browser whose session ended elsewhere learns how, on its next page."""
    copy = demo.visitor()
    copy.client.cookies.set(COOKIE, str(ada.cookie), domain="testserver.local", path="/")
    if how == "end":
        demo.visitor("user:ada").send("/devices/end-others", "/devices")
    else:
        ada.send("/logout")
    assert said in copy.get("/login").text


def test_stranger_is_told_nothing(visitor: Visitor) -> None:
    """Who shows no ticket, or none of ours, is not told that a session ended."""
    assert 'data-testid="ended"' not in visitor.get("/").text
    visitor.client.cookies.set(COOKIE, "garbage", domain="testserver.local", path="/")
    assert 'data-testid="ended"' not in visitor.get("/").text


# Live.


def test_socket_counts_what_it_hears(ada: Visitor) -> None:
    """It answers each message with how many came."""
    with ada.client.websocket_connect("wss://testserver/live/socket") as socket:
        socket.send_text("hello")
        socket.send_bytes(b"hello")
        assert [{"heard": 1}, {"heard": 2}] == [socket.receive_json(), socket.receive_json()]


def test_socket_ends_with_its_session(demo: Demo, ada: Visitor) -> None:
    """When another device ends the session, the server closes the socket with 4401."""
    other = demo.visitor("user:ada")
    with ada.client.websocket_connect("wss://testserver/live/socket") as socket:
        other.send("/devices/end-others", "/devices")
        told = socket.receive()
    assert ("websocket.close", 4401) == (told["type"], told["code"])


@pytest.mark.parametrize(
    ("who", "origin", "status"),
    [(None, "https://testserver", 401), ("user:ada", "https://evil.example", 403)],
)
def test_socket_is_refused(demo: Demo, who: str | None, origin: str, status: int) -> None:
    """To whoever is not logged in, and to the pages of others."""
    client = demo.visitor(who).client
    headers = {"origin": origin, "sec-fetch-mode": "websocket"}
    with pytest.raises(WebSocketDenialResponse) as denied:  # noqa: SIM117
        with client.websocket_connect("wss://testserver/live/socket", headers=headers):
            pass
    assert status == denied.value.status_code


# What is where.


def test_inside_shows_the_browsers_half(ada: Visitor) -> None:
    """The 64 characters are there, whole and in order, once one asks."""
    page = ada.get("/inside").text
    characters = re.search(r'data-testid="token">(.*?)</p>', page, re.DOTALL)
    assert characters is not None
    assert ada.cookie == re.sub(r"<[^>]+>", "", characters[1])


def test_inside_shows_the_stores_half(demo: Demo, ada: Visitor) -> None:
    """The store's half shows what the store holds, and neither secret nor value."""
    ada.send("/cart/add", item="scarf")
    page = ada.get("/inside").text
    browsers, stores = page.split('data-testid="store-side"')[0], half(page)
    token = parse(str(ada.cookie))
    assert token is not None
    (record,) = demo.store.memory.by_subject("user:ada", 0)
    assert read_payload(record.payload).seed_digest.hex() in stores
    assert record.revision[4:].hex() not in browsers
    for secret in (token.seed.hex(), token.proof.hex(), str(ada.cookie), "scarf"):
        assert secret not in stores
    assert token.seed.hex() in browsers
    assert "scarf" in page


def half(page: str) -> str:
    found = re.search(r'data-testid="store-side".*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_inside_explains_the_renewal() -> None:
    """Where tickets are renewed, the page says when, and what becomes of copies."""
    demo = Demo(options={"renew_after": 130})
    ada = demo.visitor("user:ada")
    assert "in 130 s at the earliest" in ada.get("/inside").text
    demo.clock.move(131)
    assert "with this very request" in ada.get("/inside").text
    demo.users.close()


def test_inside_before_there_is_a_session(visitor: Visitor) -> None:
    """Where nothing is held, the page says so."""
    assert "Nothing is anywhere" in visitor.get("/inside").text


# Headers and errors.


@pytest.mark.parametrize(
    "path",
    ["/", "/login", "/register", "/shop", "/cart", "/race", "/devices", "/inside", "/x"],
)
def test_pages_are_hardened_and_kept_in_no_cache(ada: Visitor, path: str) -> None:
    """Every page forbids what it does not need, and every cache."""
    headers = ada.get(path).headers
    assert "no-store" == headers["cache-control"]
    assert "nosniff" == headers["x-content-type-options"]
    assert "same-origin" == headers["referrer-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["/", "/login", "/register", "/shop", "/race", "/inside", "/activity", "/live", "/confirm"],
)
def test_pages_have_no_inline_script_or_style(ada: Visitor, path: str) -> None:
    """The pages need nothing that their own policy forbids, and nothing from elsewhere."""
    page = ada.get(path).text
    assert [] == re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?://", page)


def test_static_files_may_be_cached(visitor: Visitor) -> None:
    """A static file is asked for again, and costs no session."""
    answer = visitor.get("/static/style.css")
    assert (200, "no-cache") == (answer.status_code, answer.headers["cache-control"])


def test_static_files_end_at_their_folder(ada: Visitor) -> None:
    """No path leads from the static files to others."""
    for path in ("/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/nothing", "/static/"):
        answer = ada.get(path)
        assert (404, "no-store") == (answer.status_code, answer.headers["cache-control"])


@pytest.mark.parametrize("path", ["/login", "/register"])
@pytest.mark.parametrize(
    "charset", ["unicode_escape", "undefined", "punycode", "rot13", "idna", "utf-16", "none such"]
)
def test_a_form_in_an_odd_charset_is_refused(visitor: Visitor, path: str, charset: str) -> None:
    """A browser writes UTF-8; another charset may make text of it that UTF-8 cannot write."""
    fields = {"csrf": visitor.csrf(path), "username": r"\ud800", "password": r"\ud800" * 8}
    body = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {**fields, "name": r"\ud800"}.items()
    )
    kind = f"multipart/form-data; boundary=b; charset={charset}"
    answer = visitor.client.post(path, content=f"{body}--b--", headers={"content-type": kind})

    assert answer.status_code in (400, 403)


def test_outage_is_a_page_and_no_logout(demo: Demo, ada: Visitor) -> None:
    """While the store is away people see a page, keep their cookie, and are back afterwards."""
    demo.store.out = True
    answer = ada.get("/shop")
    assert (503, True) == (answer.status_code, "closed for a moment" in answer.text)
    assert answer.headers["retry-after"].isdigit()
    assert "set-cookie" not in answer.headers
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    demo.store.out = False
    assert ada.is_logged_in()


def test_outage_while_writing_is_the_same_page(demo: Demo, ada: Visitor) -> None:
    """A form that could not be kept is answered with the page for outages."""
    token = ada.csrf("/shop")
    demo.store.read_only = True
    answer = ada.client.post("/cart/add", data={"csrf": token, "item": "scarf"})
    assert (503, True) == (answer.status_code, "closed for a moment" in answer.text)


def test_outage_is_no_page_for_scripts(demo: Demo, ada: Visitor) -> None:
    """A script gets the bare 503."""
    demo.store.out = True
    answer = ada.get("/race/count", headers={"accept": "application/json"})
    assert (503, "text/plain") == (
        answer.status_code,
        answer.headers["content-type"].partition(";")[0],
    )


def test_outage_leaves_static_files(demo: Demo, ada: Visitor) -> None:
    """What needs no session is served without the store."""
    demo.store.out = True
    assert 200 == ada.get("/static/style.css").status_code


def test_lifespan(demo: Demo) -> None:
    """The site starts and stops with its server, sweeping in between."""
    with TestClient(demo.app) as client:
        assert 200 == client.get("/static/style.css").status_code


def test_fault_is_a_page(demo: Demo, ada: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is answered in the site's design, and tells nothing of itself."""

    def fail(subject: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(demo.users, "find", fail)
    answer = ada.get("/shop")
    assert (500, True) == (answer.status_code, "fell off its hanger" in answer.text)
    assert "secret detail" not in answer.text


# Users and the server.


def test_users_are_kept_in_a_private_file(tmp_path: Path) -> None:
    """A registered user is there after a restart, in a file that only its owner reads."""
    path = tmp_path / "users.sqlite3"
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    first = Users(path, hasher)
    asyncio.run(first.register("mary", "Mary", "kept in a drawer"))
    first.close()
    second = Users(path, hasher)
    found = asyncio.run(second.login("mary", "kept in a drawer"))
    second.close()
    assert ("Mary", 0o600) == (found and found.name, path.stat().st_mode & 0o777)


def test_port_that_is_taken_is_named() -> None:
    """A port in use is said to be, with a way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"expected port {port} to be free"):
            run(host="127.0.0.1", port=port, store_url="memory:")


@pytest.mark.parametrize(
    "options",
    [
        {"port": 70_000, "store_url": "memory:"},
        {"host": "no.such.host.invalid", "port": 0, "store_url": "memory:"},
        {"port": 0, "store_url": "nonsense:"},
        {"port": 0, "store_url": "sqlite:////no/such/folder/sessions.sqlite3"},
    ],
)
def test_server_that_cannot_begin_says_why(options: dict[str, Any]) -> None:
    """An address or a store that cannot work is an error with words, not a traceback."""
    with pytest.raises(ConfigurationError):
        run(**options)
