"""The demo in a real browser: headless Chromium against the real server.

The server is `coatcheck demo` in a process of its own, with SQLite in a temporary folder. What
Chromium's console says against a page fails the test. Screenshots are kept in the folder that
COATCHECK_ARTIFACTS names, or else in artifacts/.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    expect,
    sync_playwright,
)

from coatcheck.demo.app import create_app, create_site
from coatcheck.demo.users import Users
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.testing import Clock

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COOKIE = "__Host-session"
DAY = 86_400
PASSWORD = "kept in a drawer"  # of the users that the tests register
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "mobile": {"viewport": {"width": 360, "height": 740}, "has_touch": True},
}


class TimedServer:
    """The demo in a thread, by a clock that the test moves: nobody waits for a ticket's renewal."""

    def __init__(self) -> None:
        self.clock = Clock(time.time())
        self._users = Users(clock=self.clock)
        site = create_site(AsyncMemoryStore(), self._users, renew_after=130, clock=self.clock)
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://localhost:{listening.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(create_app(site), log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, args=([listening],))
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._users.close()


class Server:
    """`coatcheck demo` in a process of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        url = f"sqlite:///{folder}/sessions.sqlite3"
        command = [sys.executable, "-W", "error", "-m", "coatcheck.cli", "demo"]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--store", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address = self._wait()
        self.port = int(self.address.rpartition(":")[2])

    def _wait(self) -> str:
        """The address that it prints once it listens; one that prints none is ended."""
        assert self.process.stdout is not None
        patience = threading.Timer(20, self.process.kill)
        patience.start()
        try:
            for line in self.process.stdout:
                found = re.search(r"http://\S+", line)
                if found is not None:
                    return found[0]
        finally:
            patience.cancel()
        pytest.fail(f"the demo did not start: {self.process.communicate()[1]}")

    def stop(self) -> tuple[int, str]:
        """What Ctrl-C does; the exit code, and what it printed to stderr."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@dataclass
class Complaints:
    """What the browser said against the pages that it was shown."""

    found: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.found.append(str(error.error)))
        context.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # A page that answers 4xx is told here too; _response tells which request it was.
        told_elsewhere = message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not told_elsewhere:
            self.found.append(message.text)

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not response.request.is_navigation_request():
            self.found.append(f"{response.status} {response.url}")


Open = Callable[..., Page]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("demo"))
    yield server
    assert (0, "") == server.stop()


@pytest.fixture
def timed_server() -> Iterator[TimedServer]:
    server = TimedServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.fail(
            f"expected a browser on PATH, one of {', '.join(PROGRAMS)}, got none; "
            "install it with: apt-get install chromium"
        )
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        # Playwright turns the back/forward cache off; here the back button must be a real one.
        browser = playwright.chromium.launch(
            executable_path=program,
            args=flags,
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    complaints = Complaints()
    yield complaints
    assert [] == complaints.found


@pytest.fixture
def open_browser(browser: Browser, server: Server, complaints: Complaints) -> Iterator[Open]:
    """Opens one more browser: cookies and cache of its own."""
    contexts: list[BrowserContext] = []

    def open_one(base_url: str = server.address, **options: Any) -> Page:
        context = browser.new_context(base_url=base_url, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        complaints.watch(context)
        return context.new_page()

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_browser: Open) -> Page:
    return open_browser()


def submit(page: Page, button: str, leads_to: str) -> None:
    page.locator("main").get_by_role("button", name=button, exact=True).click()
    page.wait_for_url(f"**{leads_to}")


def log_in(page: Page, username: str = "ada", password: str | None = None) -> None:
    page.goto(f"/login?as={username}")
    if password is not None:
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(password)
    submit(page, "Log in", "/shop")


_numbers = count(1)


def register(page: Page) -> str:
    """Register somebody who has no other device; returns the username."""
    username = f"guest-{next(_numbers)}"
    page.goto("/register")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Your name").fill("Guest")
    page.get_by_label("Password").fill(PASSWORD)
    submit(page, "Register", "/shop")
    return username


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out", exact=True).click()
    page.wait_for_url("**/goodbye")


def confirm(page: Page, password: str, leads_to: str) -> None:
    """Prove who it is, with the code that the page shows."""
    page.get_by_label("Password").fill(password)
    page.get_by_label("One-time code").fill(page.get_by_test_id("code").inner_text())
    submit(page, "Confirm", leads_to)


def add(page: Page, item: str) -> None:
    page.get_by_test_id(f"add-{item}").click()
    expect(page.get_by_test_id("flash")).to_contain_text("one more in your cart")


def is_logged_in(page: Page) -> bool:
    """Whether a page that takes a login is shown, freshly asked for."""
    page.goto("/devices")
    shown = page.get_by_role("heading", level=1).inner_text()
    assert shown in ("Your devices", "Log in")
    return shown == "Your devices"


def cookies(page: Page) -> list[dict[str, Any]]:
    return [dict(cookie) for cookie in page.context.cookies()]


# Log in, register, log out.


def test_log_in(page: Page) -> None:
    """A demo user logs in from the front page in two clicks."""
    page.goto("/")
    page.get_by_role("link", name="Log in as ada").click()
    submit(page, "Log in", "/shop")
    expect(page.get_by_test_id("user")).to_have_text("Ada Lovelace")


def test_wrong_password(page: Page) -> None:
    """A wrong password is told as such, and logs nobody in."""
    page.goto("/login?as=ada")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_test_id("error")).to_have_text(
        "That username and password do not belong together."
    )
    assert not is_logged_in(page)


def test_login_leads_back(page: Page) -> None:
    """The gate sends a visitor to the login, and the login back to the page."""
    page.goto("/checkout")
    expect(page).to_have_url(re.compile(r"/login\?next=/checkout$"))
    page.get_by_label("Username").fill("grace")
    page.get_by_label("Password").fill("a-moth-in-relay-70")
    submit(page, "Log in", "/checkout")


def test_register(page: Page, open_browser: Open) -> None:
    """Who registers is logged in, and can log in elsewhere."""
    username = register(page)
    other = open_browser()
    log_in(other, username, PASSWORD)
    expect(other.get_by_test_id("user")).to_have_text("Guest")


def test_double_click_logs_in(page: Page) -> None:
    """An impatient double click on the button ends in a login all the same."""
    page.goto("/login?as=ada")
    page.get_by_role("button", name="Log in").dblclick()
    expect(page.get_by_test_id("user")).to_have_text("Ada Lovelace")
    assert is_logged_in(page)


def test_keyboard_alone_logs_in(page: Page) -> None:
    """The whole way from the front page to the shop takes no mouse."""
    page.goto("/")
    focused = page.locator(":focus")
    page.keyboard.press("Tab")
    expect(focused).to_have_text("Skip to the content")
    while focused.inner_text() != "Log in":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Username")).to_be_focused()
    for text, key in (("ada", "Tab"), ("analytical-engine", "Enter")):
        page.keyboard.type(text)
        page.keyboard.press(key)
    page.wait_for_url("**/shop")


def test_moving_about(page: Page) -> None:
    """The login holds on every page that the rail leads to."""
    log_in(page)
    for name in ("Shop", "Cart", "Race", "Live", "What is where", "Your devices", "Activity"):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(page.get_by_role("navigation").locator("[aria-current]")).to_contain_text(name)
        expect(page.get_by_test_id("user")).to_have_text("Ada Lovelace")


def test_logout(page: Page) -> None:
    """After the logout the browser holds no cookie, and no page that takes a login."""
    log_in(page)
    log_out(page)
    assert [] == cookies(page)
    assert not is_logged_in(page)


def test_back_button_after_logout(page: Page) -> None:
    """The back button brings nothing personal back."""
    log_in(page)
    page.goto("/devices")
    expect(page.get_by_role("heading", name="Your devices")).to_be_visible()
    log_out(page)
    page.go_back()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert "Ada" not in page.content()


def test_logout_clears_what_the_site_kept(page: Page) -> None:
    """Chromium heeds Clear-Site-Data on localhost: what scripts had kept is gone."""
    log_in(page)
    page.evaluate("localStorage.setItem('kept', '1')")
    assert "1" == page.evaluate("localStorage.getItem('kept')")
    log_out(page)
    assert page.evaluate("localStorage.getItem('kept')") is None


# The cookie.


def test_cookie_as_the_browser_keeps_it(page: Page) -> None:
    """The cookie has every attribute that keeps it from others."""
    log_in(page)
    (cookie,) = cookies(page)
    kept = {key: cookie[key] for key in ("name", "domain", "path", "httpOnly", "secure")}
    expected = {"name": COOKIE, "domain": "localhost", "path": "/", "httpOnly": True}
    assert {**expected, "secure": True} == kept
    assert ("Lax", 64) == (cookie["sameSite"], len(cookie["value"]))


def test_no_script_reads_the_cookie(page: Page) -> None:
    """A script on the page sees no cookie, though it sees one that may be read."""
    log_in(page)
    page.evaluate("document.cookie = 'planted=1'")
    assert "planted=1" == page.evaluate("document.cookie")


@pytest.mark.parametrize(("remember", "days"), [(False, 1), (True, 30)])
def test_remember_me(page: Page, remember: bool, days: int) -> None:
    """The browser keeps the cookie for a day, or for 30 where it was asked to."""
    page.goto("/login?as=ada")
    page.get_by_label("Remember me").set_checked(remember)
    submit(page, "Log in", "/shop")
    (cookie,) = cookies(page)
    assert days * DAY == pytest.approx(cookie["expires"] - time.time(), abs=60)


def test_copied_cookie_dies_with_the_logout(page: Page, open_browser: Open) -> None:
    """A copied cookie works in another browser, until the logout ends it there too."""
    log_in(page)
    thief = open_browser(storage_state=page.context.storage_state())
    assert is_logged_in(thief)
    log_out(page)
    assert not is_logged_in(thief)


def test_copied_cookie_ends_the_session(
    timed_server: TimedServer, open_browser: Open, artifacts: Path
) -> None:
    """A copy that is shown after the owner's ticket was renewed logs both out, and both are told;
    the activity names them."""
    owner = open_browser(timed_server.address)
    log_in(owner)
    state = owner.context.storage_state()
    thief = open_browser(timed_server.address, user_agent=PHONE, storage_state=state)
    assert is_logged_in(thief)
    for seconds in (131, 1, 61):
        timed_server.clock.move(seconds)
        assert is_logged_in(owner)

    assert [False, False] == [is_logged_in(thief), is_logged_in(owner)]
    for each in (thief, owner):
        expect(each.get_by_test_id("ended")).to_contain_text("Your ticket had been copied")
    owner.screenshot(path=artifacts / "login-copied.png", full_page=True)
    log_in(owner)
    owner.goto("/activity")
    expect(owner.get_by_test_id("sides")).to_contain_text("Mobile Safari 17 on iOS 17")
    owner.screenshot(path=artifacts / "activity-copied.png", full_page=True)


def test_restart_of_the_server(open_browser: Open, tmp_path: Path) -> None:
    """Login, cart and registered users survive the server."""
    first = Server(tmp_path)
    page = open_browser(first.address)
    register(page)
    add(page, "scarf")
    assert (0, "") == first.stop()
    second = Server(tmp_path, first.port)
    page.goto("/cart")
    expect(page.get_by_test_id("line-scarf")).to_be_visible()
    expect(page.get_by_test_id("user")).to_have_text("Guest")
    assert (0, "") == second.stop()


# The shop, and tabs that race.


def test_flash_is_shown_once(page: Page) -> None:
    """A message is there after the action, and gone after a reload."""
    log_in(page)
    add(page, "scarf")
    page.goto("/shop")
    expect(page.get_by_role("heading", name="The shop")).to_be_visible()
    expect(page.get_by_test_id("flash")).to_have_count(0)


def test_cart_comes_along_at_login(page: Page) -> None:
    """What was chosen before the login is in the cart after it."""
    page.goto("/shop")
    add(page, "umbrella")
    log_in(page)
    expect(page.get_by_test_id("cart-count")).to_have_text("1")


def test_two_tabs_add_at_once(page: Page) -> None:
    """Two tabs that send their forms in the same moment both count."""
    log_in(page)
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto("/shop")
    click = "document.querySelector('[data-testid=add-scarf]').click()"
    send = f"at => setTimeout(() => {click}, at - Date.now())"
    at = time.time() * 1000 + 300
    with page.expect_navigation(), other.expect_navigation():
        page.evaluate(send, at)
        other.evaluate(send, at)
    page.goto("/shop")
    expect(page.get_by_test_id("cart-count")).to_have_text("2")


def test_race_of_edits_loses_none(page: Page) -> None:
    """Of twenty overlapping edits all twenty count."""
    page.goto("/race")
    page.get_by_test_id("race-edit").click()
    expect(page.locator(".score")).to_have_text("20 sent, 20 counted.")


def test_race_of_assignments_loses_some(page: Page) -> None:
    """Of twenty overlapping assignments some are lost, so the race is a real one."""
    page.goto("/race")
    page.get_by_test_id("race-assign").click()
    expect(page.locator(".score")).to_have_text(re.compile("20 sent, .* lost"))


def test_two_tabs_race(page: Page) -> None:
    """Two tabs that race at the same time do not lose each other's edits either."""
    page.goto("/race")
    other = page.context.new_page()
    other.goto("/race")
    for tab in (page, other):
        tab.get_by_test_id("race-edit").click()
    for tab in (page, other):
        expect(tab.locator(".score")).to_be_visible()
    page.goto("/race")
    expect(page.get_by_test_id("count")).to_have_text("40")


# Devices.


def test_devices(page: Page, open_browser: Open) -> None:
    """Two browsers of one user are two devices, and each knows which one it is."""
    username = register(page)
    log_in(open_browser(), username, PASSWORD)
    page.goto("/devices")
    devices = page.get_by_test_id("device")
    expect(devices).to_have_count(2)
    expect(devices.nth(0)).to_contain_text("This device")
    expect(devices.nth(1)).not_to_contain_text("This device")
    expect(devices.nth(1)).to_contain_text("on Linux")


def test_other_device_is_ended(page: Page, open_browser: Open) -> None:
    """The device that is ended is logged out with its next click; this one is not."""
    username = register(page)
    other = open_browser()
    log_in(other, username, PASSWORD)
    page.goto("/devices")
    page.get_by_role("button", name="End this session").click()
    expect(page.get_by_test_id("flash")).to_have_text("That device is logged out.")
    other.get_by_role("link", name="Your devices").click()
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    assert is_logged_in(page)


def test_all_other_devices_are_ended(page: Page, open_browser: Open) -> None:
    """Ending all others leaves this one alone."""
    username = register(page)
    others = [open_browser(), open_browser()]
    for other in others:
        log_in(other, username, PASSWORD)
    page.goto("/devices")
    page.get_by_role("button", name="Log out everywhere else").click()
    expect(page.get_by_test_id("device")).to_have_count(1)
    assert [False, False] == [is_logged_in(other) for other in others]


def test_socket_ends_with_its_session(page: Page, open_browser: Open, artifacts: Path) -> None:
    """The open socket of a device that another one ends says so, and the login page says why."""
    username = register(page)
    page.goto("/live")
    expect(page.get_by_role("heading", name="The socket is open")).to_be_visible()
    page.get_by_role("button", name="Say something").click()
    expect(page.get_by_test_id("heard")).to_have_text("1")
    other = open_browser()
    log_in(other, username, PASSWORD)
    other.goto("/devices")
    other.get_by_role("button", name="End this session").click()
    expect(page.get_by_role("heading", name="You were logged out")).to_be_visible()
    page.screenshot(path=artifacts / "live-ended.png", full_page=True)
    page.get_by_role("link", name="Log in again").click()
    expect(page.get_by_test_id("ended")).to_contain_text("ended from another device")


# The account, which takes more than a login, and other origins.


def test_account_takes_more_than_a_login(page: Page) -> None:
    """The account asks for password and code; the level that they gave falls at a click."""
    register(page)
    page.goto("/account")
    expect(page.get_by_role("heading", name="Is it you?")).to_be_visible()
    confirm(page, PASSWORD, "/account")
    expect(page.get_by_test_id("level")).to_have_text("2")
    submit(page, "Fall back to level 1", "/devices")
    page.goto("/account")
    expect(page.get_by_role("heading", name="Is it you?")).to_be_visible()


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9000", "http://localhost:9000"])
def test_form_of_another_origin_is_refused(
    page: Page, server: Server, artifacts: Path, origin: str
) -> None:
    """Of another site, and of another port of this one, whose forms carry the cookie; with the
    session's own token too."""
    log_in(page)
    token = page.locator("main [name=csrf]").first.input_value()
    form = (
        f'<form method="post" action="{server.address}/cart/add">'
        f'<input name="csrf" value="{token}"><input name="item" value="scarf">'
        "<button>Win a scarf</button></form>"
    )
    page.route(f"{origin}/", lambda route: route.fulfill(body=form, content_type="text/html"))
    page.goto(f"{origin}/")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("That came from another site")
    page.screenshot(path=artifacts / "cross-origin.png", full_page=True)
    page.goto("/cart")
    expect(page.get_by_test_id("cart-count")).to_have_text("0")


# What is where, and every page.


def test_what_is_where(page: Page) -> None:
    """The page shows the very cookie that Chromium holds, once one asks for it."""
    log_in(page)
    page.goto("/inside")
    token = page.get_by_test_id("token")
    expect(token).not_to_be_visible()
    page.get_by_test_id("reveal").click()
    expect(token).to_be_visible()
    (cookie,) = cookies(page)
    assert cookie["value"] == token.text_content()


def test_inline_script_is_refused(page: Page, complaints: Complaints) -> None:
    """A script that somebody slipped into a page does not run."""
    page.goto("/")
    page.evaluate(
        "() => { const script = document.createElement('script');"
        "script.textContent = 'window.slipped = true'; document.body.append(script) }"
    )
    assert page.evaluate("window.slipped") is None
    (complaint,) = complaints.found
    assert "Content Security Policy" in complaint
    complaints.found.clear()


def test_without_javascript(open_browser: Open) -> None:
    """Everything essential works with JavaScript switched off."""
    page = open_browser(java_script_enabled=False)
    log_in(page)
    add(page, "scarf")
    page.get_by_role("link", name="Race").click()
    submit(page, "Race with edit", "/race")
    expect(page.get_by_test_id("count")).to_have_text("1")
    page.goto("/devices")
    expect(page.get_by_test_id("this-device")).to_have_count(1)
    page.goto("/checkout")
    submit(page, "Order, for nothing", "/shop")
    page.goto("/account")
    confirm(page, "analytical-engine", "/account")
    log_out(page)


@pytest.fixture(scope="module")
def artifacts() -> Path:
    folder = Path(os.environ.get("COATCHECK_ARTIFACTS") or "artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_has_its_picture(open_browser: Open, artifacts: Path, look: str) -> None:
    """Each page fits its window, by day, by night and on a phone; its picture is kept."""
    page = open_browser(reduced_motion="reduce", **LOOKS[look])
    too_wide = []
    for name in pictures(page, open_browser(user_agent=PHONE)):
        expect(page.get_by_role("contentinfo")).to_be_attached()
        page.screenshot(path=artifacts / f"{name}-{look}.png", full_page=True)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            too_wide.append(name)
    assert [] == too_wide


def pictures(page: Page, phone: Page) -> Iterator[str]:
    """Leads the page through the site; yields a name wherever a picture is due."""
    yield from visit(page, {"home": "/", "inside-empty": "/inside", "login": "/login"})
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_test_id("error")).to_be_visible()
    yield "login-refused"
    page.goto("/register")
    for label, text in (("Username", "?"), ("Your name", "Ada"), ("Password", "short")):
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_test_id("error-username")).to_be_visible()
    yield "register-refused"
    log_in(phone, register(page), PASSWORD)
    yield "shop"
    add(page, "scarf")
    yield "shop-flash"
    yield from visit(page, {"cart": "/cart", "checkout": "/checkout", "devices": "/devices"})
    page.goto("/race")
    for how in ("edit", "assign"):
        page.get_by_test_id(f"race-{how}").click()
        expect(page.locator(f"[data-result={how}] .score")).to_be_visible()
    yield "race"
    page.goto("/inside")
    page.get_by_test_id("reveal").click()
    yield "inside"
    page.goto("/live")
    expect(page.get_by_role("heading", name="The socket is open")).to_be_visible()
    yield "live"
    page.goto("/account")
    yield "confirm"
    confirm(page, PASSWORD, "/account")
    yield "account"
    yield from visit(page, {"activity": "/activity", "home-user": "/", "missing": "/nowhere"})
    log_out(page)
    yield "goodbye"


def visit(page: Page, paths: dict[str, str]) -> Iterator[str]:
    for name, path in paths.items():
        page.goto(path)
        yield name
