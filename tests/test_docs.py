"""The documentation tells the truth: its code runs, its links lead somewhere, and nothing public is
missing from the reference.

A Python block that cannot run stands below the line `<!-- illustrative -->`. What is documented is
looked up in code spans, section by section, and compared with what the code says of itself.
"""

import argparse
import ast
import asyncio
import dataclasses
import importlib.metadata
import inspect
import logging
import re
import sqlite3
import subprocess
import sys
import time
import unittest
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from packaging.specifiers import SpecifierSet
from starlette.testclient import TestClient

import coatcheck
import tests.django_project  # noqa: F401 - the page on Django runs in the tests' project
from coatcheck import (
    AsyncSessions,
    Sessions,
    cli,
    csrf,
    errors,
    events,
    gate,
    store,
    sweeper,
    testing,
    watching,
)
from coatcheck import record as records
from coatcheck.stores import cookie, file, memcached, memory, postgres, redis, sqlite
from coatcheck.web import (
    aiohttp,
    asgi,
    falcon,
    fastapi,
    flask,
    flask_login,
    litestar,
    pyramid,
    quart,
    sanic,
    tornado,
    wsgi,
)
from coatcheck.web import django as web_django

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
API, SETTINGS = DOCS / "reference/api.md", DOCS / "reference/settings.md"
EVENTS, ERRORS = DOCS / "reference/events.md", DOCS / "reference/errors.md"
CLI, FORMAT = DOCS / "reference/cli.md", DOCS / "reference/record-format.md"
LAWS, ARCHITECTURE = DOCS / "explanation/laws.md", DOCS / "explanation/architecture.md"
TUTORIAL = DOCS / "tutorial.md"

ILLUSTRATIVE = "<!-- illustrative -->"
_BLOCK = re.compile(
    rf"^(?P<mark>{ILLUSTRATIVE}\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    runs: bool


def blocks(page: Path, language: str = "python") -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")),
            found["language"],
            found["text"],
            found["mark"] is None,
        )
        for found in _BLOCK.finditer(text)
        if found["language"] == language
    ]


def prose(text: str) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", text)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


WITH_PYTHON = [page for page in PAGES if blocks(page)]


# Code runs.


class Page:
    """A page whose blocks are run in order, in one namespace, as one module."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.module = ModuleType("page")
        self.names = self.module.__dict__

    def run(self) -> Iterator[Block]:
        """Run one block after another; what each left is in `names`."""
        sys.modules["page"] = self.module
        try:
            for block in blocks(self.page):
                if block.runs:
                    code = compile("\n" * block.line + block.text, str(self.page), "exec")
                    exec(code, self.names)
                    yield block
        finally:
            del sys.modules["page"]

    def close(self) -> None:
        for value in list(self.names.values()):
            if isinstance(value, AsyncSessions):
                asyncio.run(value.close())
            elif isinstance(value, Sessions | sqlite3.Connection):
                value.close()

    def client(self) -> Any:
        """A browser for the page's app, ASGI or WSGI."""
        app = self.names["app"]
        if not inspect.iscoroutinefunction(type(app).__call__):
            transport = httpx.WSGITransport(app=app)
            return httpx.Client(transport=transport, base_url="https://testserver")
        return TestClient(app, base_url="https://testserver", headers={"Accept": "text/html"})


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Page]]:
    """A page to run, in a folder of its own, without a trace in the process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_KEY", "k" * 43)
    codecs = importlib.import_module("coatcheck.values")
    monkeypatch.setattr(codecs, "_by_class", dict(codecs._by_class))
    monkeypatch.setattr(codecs, "_by_name", dict(codecs._by_name))
    level = logging.getLogger().level  # Litestar configures logging, for the whole process
    opened: list[Page] = []

    def make(page: Path) -> Page:
        opened.append(Page(page))
        return opened[-1]

    yield make
    logging.getLogger().setLevel(level)
    for page in opened:
        page.close()


@pytest.mark.parametrize("page", WITH_PYTHON, ids=named)
def test_every_python_block_runs(page: Path, open_page: Callable[[Path], Page]) -> None:
    """In the page's order, in one namespace."""
    expected = [block for block in blocks(page) if block.runs]

    assert expected == list(open_page(page).run())


def test_a_block_that_fails_is_noticed(tmp_path: Path, open_page: Callable[[Path], Page]) -> None:
    """And one that is marked is not run."""
    planted = tmp_path / "planted.md"
    planted.write_text(f"{ILLUSTRATIVE}\n```python\n1 / 0\n```\n\n```python\n[][1]\n```\n")
    with pytest.raises(IndexError):
        list(open_page(planted).run())


def test_no_block_is_illustrative() -> None:
    """So far all that is shown can be run. Where one truly cannot, this is the place to say so."""
    assert [] == [block for page in PAGES for block in blocks(page) if not block.runs]


VISITS = [
    (ROOT / "README.md", "GET", "/", 200, "Visit number 1"),
    (DOCS / "how-to/asgi.md", "GET", "/", 200, "Hello, stranger"),
    (DOCS / "how-to/wsgi.md", "GET", "/", 200, "Visit number 1"),
    (DOCS / "how-to/pyramid.md", "GET", "/", 200, "Visit number 1"),
    (DOCS / "how-to/bottle.md", "GET", "/", 200, "Visit number 1"),
    (DOCS / "how-to/bottle.md", "GET", "/me", 401, "Log in first."),
    (DOCS / "how-to/bottle.md", "POST", "/login?name=ann", 303, ""),
    (DOCS / "how-to/several-sessions.md", "GET", "/dark", 200, "dark it is"),
    (DOCS / "how-to/outages.md", "GET", "/", 200, "Hello, None"),
    (DOCS / "how-to/fastapi.md", "GET", "/me", 401, "log in first"),
    (DOCS / "how-to/fastapi.md", "POST", "/login?name=ann", 200, "null"),
    (DOCS / "how-to/litestar.md", "GET", "/", 200, "Hello, stranger: visit 1"),
    (DOCS / "how-to/csrf.md", "GET", "/", 200, 'name=csrf_token value="'),
    (DOCS / "how-to/csrf.md", "POST", "/", 403, "403 Forbidden: CSRF token"),
    (DOCS / "how-to/login-gate.md", "GET", "/", 200, "Log in as Ann"),
    (DOCS / "how-to/login-gate.md", "POST", "/login?next=/", 200, "Hello, Ann"),
    (DOCS / "how-to/login-gate.md", "GET", "/password", 200, "Log in as Ann"),
]


@pytest.mark.parametrize(("page", "method", "path", "status", "text"), VISITS)
def test_an_app_answers_as_its_page_says(
    page: Path,
    method: str,
    path: str,
    status: int,
    text: str,
    open_page: Callable[[Path], Page],
) -> None:
    """Run, and visited once."""
    opened = open_page(page)
    list(opened.run())
    with opened.client() as client:
        answer = client.request(method, path)

    assert (status, True) == (answer.status_code, text in answer.text)


def test_fastapi_logs_in_and_out(open_page: Callable[[Path], Page]) -> None:
    """With the dependencies of its page."""
    opened = open_page(DOCS / "how-to/fastapi.md")
    list(opened.run())
    client = opened.client()
    client.post("/login", params={"name": "ann"})
    assert {"subject": "user:ann", "visits": 1} == client.get("/me").json()
    assert {"subject": "user:ann"} == client.get("/account").json()
    client.post("/logout")

    assert 401 == client.get("/me").status_code
    refused = client.get("/account", follow_redirects=False)
    assert "/enter?next=/account" == refused.headers["location"]


def test_every_step_of_the_tutorial_serves(open_page: Callable[[Path], Page]) -> None:
    """After each block that ends with an app, the site is one that works."""
    opened, served = open_page(TUTORIAL), 0
    for block in opened.run():
        if "\napp = " in block.text:
            client = opened.client()
            assert "<h1>Shop</h1>" in client.get("/").text
            assert ["__Host-session"] == list(client.cookies)
            served += 1

    assert 6 == served


def test_the_tutorials_shop_does_what_it_says(open_page: Callable[[Path], Page]) -> None:
    """Cart, message, login, devices, logout; and the copied cookie is dead."""
    opened = open_page(TUTORIAL)
    list(opened.run())
    ann = Visitor(opened.client())
    ann.press("/", "/add")
    assert "One tea, in your cart." in ann.page
    ann.press("/", "/add")
    assert "tea, tea" in ann.page
    ann.press("/devices", "/login?next=/devices", name="ann", password="wrong")
    assert "do not belong together" in ann.page
    ann.press("/devices", "/login?next=/devices", name="ann", password="correct horse")
    assert "Welcome, ann." in ann.page
    assert "this one" in ann.page
    other = Visitor(opened.client())
    other.press("/login", "/login?next=/", name="ann", password="correct horse")
    assert "Logged in: user:ann" in other.page
    ann.press("/devices", "/others")
    assert "Logged out 1 other devices." in ann.page
    assert "Logged in" not in other.client.get("/").text
    copied = dict(ann.client.cookies)
    assert "tea, tea" in ann.client.get("/").text
    ann.press("/", "/logout")
    assert "Goodbye." in ann.page
    thief = opened.client()
    thief.cookies.update(copied)
    assert "Logged in" not in thief.get("/").text


class Visitor:
    """Somebody with a browser, who presses buttons."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.page = ""

    def press(self, page: str, action: str, **fields: str) -> None:
        shown = self.client.get(page).text
        form = re.search(f'action="{re.escape(action)}"><input[^>]*value="([^"]+)"', shown)
        assert form is not None, shown
        self.page = self.client.post(action, data={"csrf": form[1], **fields}).text


def test_the_tests_on_the_pages_pass(tmp_path: Path) -> None:
    """Those of `testing.md`, and the contract over the store of `write-a-store.md`."""
    for name in ("testing", "write-a-store"):
        text = "\n\n".join(block.text for block in blocks(DOCS / f"how-to/{name}.md"))
        (tmp_path / f"test_{name.replace('-', '_')}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert 0 == done.returncode, done.stdout
    assert re.search(r"\b[5-9]\d passed", done.stdout) is not None, done.stdout


@pytest.mark.parametrize("name", ["aiohttp", "tornado"])
def test_the_tests_of_a_frameworks_page_pass(
    name: str, open_page: Callable[[Path], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the framework's own test client."""
    opened = open_page(DOCS / f"how-to/{name}.md")
    list(opened.run())
    monkeypatch.setitem(sys.modules, "page", opened.module)
    ran = 0
    for key, value in opened.names.items():
        if key.startswith("test_"):
            value()
            ran += 1
        elif inspect.isclass(value) and issubclass(value, unittest.TestCase) and key[:4] == "Test":
            result = unittest.defaultTestLoader.loadTestsFromTestCase(value).run(
                unittest.TestResult()
            )
            assert (1, []) == (result.testsRun, result.failures + result.errors)
            ran += 1

    assert ran > 0


# Links, commands and style.


def test_links_lead_somewhere() -> None:
    """To a file that is there, and to a heading that it has."""
    broken = [link for page in PAGES for link in broken_links(page, page.read_text("utf-8"))]

    assert [] == broken


def broken_links(page: Path, text: str) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    local = [target for target in targets if not target.startswith("https://")]
    return [f"{named(page)}: {target}" for target in local if not _is_there(page, target)]


def _is_there(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    return file.exists() and (not anchor or anchor in _anchors(file))


def _anchors(page: Path) -> list[str]:
    return [
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        for heading in headings(page)
    ]


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", prose(page.read_text("utf-8")), re.MULTILINE)


@pytest.mark.parametrize("planted", ["missing.md", "index.md#no-such-heading", "#nowhere"])
def test_a_broken_link_is_noticed(planted: str) -> None:
    """A file, or a heading, that is not there; a good link beside it is fine."""
    page = DOCS / "index.md"

    assert [f"docs/index.md: {planted}"] == broken_links(page, f"[a]({planted}) [b](tutorial.md)")


def test_every_page_is_reached_from_the_index() -> None:
    """Or it might as well not be there."""
    linked = re.findall(r"\]\(([^)#]+)", (DOCS / "index.md").read_text("utf-8"))
    reached = {(DOCS / link).resolve() for link in linked}

    assert [] == [named(p) for p in DOCS.rglob("*.md") if p not in reached | {DOCS / "index.md"}]


def test_commands_exist() -> None:
    """Every `make` and every `coatcheck` that a page names."""
    unknown = [word for page in PAGES for word in unknown_commands(page.read_text("utf-8"))]

    assert [] == unknown


def unknown_commands(text: str) -> list[str]:
    shell = [found["text"] for found in _BLOCK.finditer(text) if found["language"] == "sh"]
    code = "\n".join([*shell, *spans(text)])
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"^make ([a-z]+)", code, re.MULTILINE)) - targets
    return sorted(
        made | (set(re.findall(r"^coatcheck ([a-z]+)", code, re.MULTILINE)) - set(commands()))
    )


def test_an_unknown_command_is_noticed() -> None:
    """In a block as in a line."""
    text = "```sh\nmake tea\nmake test\n```\n`coatcheck in` and `coatcheck key`"

    assert ["in", "tea"] == unknown_commands(text)


def test_the_readmes_first_screen_has_the_app_and_the_two_commands() -> None:
    """Forty-five lines."""
    top = "\n".join((ROOT / "README.md").read_text("utf-8").splitlines()[:45])

    for words in (
        "app = SessionMiddleware(",
        "\nmake demo ",
        "\nmake test ",
        "## What it promises",
    ):
        assert words in top


UNWANTED = {
    "a badge or a picture": r"!\[",
    "an emoji": "[\U0001f000-\U0001faff\u2600-\u27bf]",
    "a path of some machine": r"(?<![\w.:/])/(?:home|opt|root|tmp|usr|var|work)/",
    "a marketing word": r"(?i)\b(?:blazing|powerful|seamless|effortless|simply|best-in-class)\b",
}


@pytest.mark.parametrize("what", UNWANTED)
def test_style(what: str) -> None:
    """No marketing, and nothing of the place where it was written."""
    pattern = re.compile(UNWANTED[what])
    found = [named(page) for page in PAGES if pattern.search(page.read_text("utf-8"))]

    assert [] == found
    assert pattern.search("![x](y) \u2728 in /home/ann, simply") is not None


# What is documented.


def spans(text: str) -> list[str]:
    """The code spans of a text."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def sections(page: Path) -> dict[str, str]:
    """What stands below each heading, up to the next one."""
    parts = re.split(r"^#+ (.*)$", prose(page.read_text("utf-8")), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def section_of(page: Path, name: str) -> str:
    """The section whose heading names this; all of them, where several do."""
    found = [text for head, text in sections(page).items() if f"`{name}`" in head]
    return "\n".join(found)


def rows(text: str) -> list[list[str]]:
    """The cells of each row of a text's tables, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [each for each in cells if each and each[0].startswith("`")]


def first_cells(text: str) -> set[str]:
    return {name for row in rows(text) for name in spans(row[0])}


def shown(parameter: inspect.Parameter) -> str:
    """A default as the documentation writes it."""
    default = parameter.default
    if default is parameter.empty:
        return "required"
    if default is time.time:
        return "time.time"
    if default is ...:
        return "..."
    if type(default).__module__.startswith("coatcheck.") and default == type(default)():
        return f"{type(default).__name__}()"
    text = repr(default).replace("'", '"')
    return "…" if text.startswith("<") else text


def parameters(made: Callable[..., Any]) -> list[inspect.Parameter]:
    found = inspect.signature(made).parameters.values()
    return [parameter for parameter in found if parameter.name != "self"]


def signature(name: str, function: Callable[..., Any]) -> str:
    """A call as the documentation writes it: names and defaults, no types."""
    parts, starred = [], False
    for parameter in parameters(function):
        if parameter.kind is parameter.VAR_KEYWORD:
            parts.append(f"**{parameter.name}")
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            parts.append(f"*{parameter.name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        value = shown(parameter)
        parts.append(parameter.name if value == "required" else f"{parameter.name}={value}")
    return f"{name}({', '.join(parts)})"


STORES = [memory, sqlite, file, redis, postgres, memcached, cookie]
FRAMEWORKS = [aiohttp, asgi, falcon, fastapi, flask, flask_login, litestar, pyramid, quart, sanic]
FRAMEWORKS += [tornado, web_django, wsgi]
MODULES = [coatcheck, *STORES, *FRAMEWORKS, csrf, gate, sweeper, store, testing, watching]
MODULES += [importlib.import_module("coatcheck.stores")]
ALSO = {"register", "Record", "dump", "load", "NewerFormat", "Unreadable"}
"""What is public in modules whose other names are ours alone."""


def missing_names() -> list[str]:
    """Public names that the reference does not have."""
    said = spans(API.read_text("utf-8"))
    names = {name for module in MODULES for name in module.__all__} | ALSO
    return sorted(n for n in names if not any(s == n or s.startswith(f"{n}(") for s in said))


def test_every_public_name_is_in_the_reference() -> None:
    """Of the package, the stores, the adapters, the gate, the helpers for tests."""
    assert [] == missing_names()


def test_an_undocumented_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted one, and no other."""
    monkeypatch.setattr(gate, "__all__", [*gate.__all__, "planted"])

    assert ["planted"] == missing_names()


CLASSES: list[type] = [
    coatcheck.Sessions,
    coatcheck.AsyncSessions,
    coatcheck.Session,
    coatcheck.SessionInfo,
    coatcheck.Client,
    coatcheck.Flash,
    coatcheck.Cookie,
    coatcheck.KeyRing,
    coatcheck.Lifetime,
    memory.MemoryStore,
    memory.AsyncMemoryStore,
    sqlite.SQLiteStore,
    sqlite.AsyncSQLiteStore,
    file.FileStore,
    file.AsyncFileStore,
    redis.RedisStore,
    redis.AsyncRedisStore,
    postgres.PostgresStore,
    postgres.AsyncPostgresStore,
    memcached.MemcachedStore,
    memcached.AsyncMemcachedStore,
    pyramid.PyramidSession,
    pyramid.SessionSecurityPolicy,
    pyramid.CSRFStoragePolicy,
    web_django.SessionStore,
    litestar.CoatcheckPlugin,
    csrf.CrossOriginProtection,
    gate.LoginGate,
    gate.Request,
    gate.Admitted,
    gate.Refused,
    sweeper.Sweeper,
    watching.Watch,
    store.Store,
    store.AsyncStore,
    store.Listable,
    store.AsyncListable,
    store.Sweepable,
    store.AsyncSweepable,
    store.Admitting,
    store.AsyncAdmitting,
    store.Entry,
    store.Entered,
    store.Watchable,
    store.Advising,
    store.Carrier,
    testing.Clock,
    testing.StoreContract,
    tornado.SessionMixin,
]
VERBS = {"load", "create", "save", "touch", "delete", "close", "by_subject", "page", "sweep"}
VERBS |= {"advise", "admit", "forbid", "watch"}
MAPPING = {"get", "pop", "popitem()", "setdefault", "update", "keys", "items", "values"}


def members(kind: type) -> set[str]:
    """A class's public names, methods with their signatures, as the documentation writes them.

    What it has of another class with a section of its own is in that one.
    """
    bases = [base for base in kind.__mro__ if base is kind or base not in CLASSES]
    own = {name for base in bases if _is_ours(base) for name in vars(base)}
    names = {name for name in own if not name.startswith(("_", "test_"))}
    if kind.__module__.startswith("coatcheck.stores."):
        names -= VERBS
    written = set()
    for name in names - {"insecure", "verbs", "store"}:
        value = inspect.getattr_static(kind, name, None)
        is_method = inspect.isfunction(value)
        written.add(signature(name, getattr(kind, name)) if is_method else name)
    return written


def _is_ours(base: type) -> bool:
    return base.__module__.startswith("coatcheck.")


def missing_members(kind: type) -> list[str]:
    """Public members that the class's section has not."""
    said = set(spans(section_of(API, kind.__name__)))
    return sorted(members(kind) - said)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_member_is_in_the_reference(kind: type) -> None:
    """With the arguments and the defaults that it has."""
    assert members(kind)
    assert [] == missing_members(kind)


def test_every_class_is_looked_into() -> None:
    """But for those whose options are all they have."""
    classes = {
        value
        for module in MODULES
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name))
    }
    without = {
        asgi.SessionMiddleware,
        asgi.LoginMiddleware,
        asgi.CSRFMiddleware,
        fastapi.CSRFProtected,
        fastapi.LoggedIn,
        wsgi.SessionMiddleware,
        wsgi.LoginMiddleware,
        wsgi.CSRFMiddleware,
        flask.CoatcheckSessionInterface,
        quart.CoatcheckSessionInterface,
        web_django.CSRFMiddleware,
        web_django.LoginMiddleware,
        web_django.SessionMiddleware,
        falcon.SessionMiddleware,
        falcon.AsyncSessionMiddleware,
        falcon.CSRFMiddleware,
        falcon.AsyncCSRFMiddleware,
        falcon.LoginMiddleware,
        falcon.AsyncLoginMiddleware,
        sweeper.AsyncSweeper,
        cookie.CookieStore,
        cookie.AsyncCookieStore,
        store.CarrierStore,
        store.AsyncCarrierStore,
        store.Risk,
        testing.AsyncStoreContract,
        tornado.CSRFMixin,
        tornado.LoginMixin,
    }

    named = {kind for kind in classes if not issubclass(kind, BaseException)}
    assert set(CLASSES) | without == named


def test_the_mapping_is_in_the_reference() -> None:
    """What `Session` has because it is a mapping."""
    assert set() == MAPPING - set(spans(section_of(API, "Session")))


def test_an_undocumented_member_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method, an attribute, and a default that was changed."""

    def login(self: object, subject: str, *, remember: bool = True) -> None: ...

    monkeypatch.setattr(coatcheck.Session, "planted", lambda self, key: None, raising=False)
    monkeypatch.setattr(coatcheck.Session, "colour", "red", raising=False)
    monkeypatch.setattr(coatcheck.Session, "login", login)

    expected = ["colour", "login(subject, *, remember=True)", "planted(key)"]
    assert expected == missing_members(coatcheck.Session)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "current": coatcheck.current,
    "from_url": importlib.import_module("coatcheck.stores").from_url,
    "async_from_url": importlib.import_module("coatcheck.stores").async_from_url,
    "from_env": importlib.import_module("coatcheck.stores").from_env,
    "async_from_env": importlib.import_module("coatcheck.stores").async_from_env,
    "schema": postgres.schema,
    "sessions": web_django.sessions,
    "async_sessions": web_django.async_sessions,
    "check": csrf.check,
    "safe_next": gate.safe_next,
    "login_required": asgi.login_required,
    "require_login": flask.require_login,
    "connect_flask_login": flask_login.connect_flask_login,
    "set_coatcheck_sessions": pyramid.set_coatcheck_sessions,
    "set_login_gate": pyramid.set_login_gate,
    "includeme": pyramid.includeme,
    "setup": aiohttp.setup,
    "session_middleware": aiohttp.session_middleware,
    "get_session": aiohttp.get_session,
    "get_user": aiohttp.get_user,
    "login_middleware": aiohttp.login_middleware,
    "provide_session": litestar.provide_session,
    "async_login_required": falcon.async_login_required,
    "handle_outage": falcon.handle_outage,
    "async_handle_outage": falcon.async_handle_outage,
    "setup_csrf": flask.setup_csrf,
    "csrf_middleware": aiohttp.csrf_middleware,
    "setup_gate": sanic.setup_gate,
    "register": importlib.import_module("coatcheck.values").register,
    "login": testing.login,
    "dump": records.dump,
    "load": records.load,
    "Client": coatcheck.Client,
    "Clock": testing.Clock,
    "Record": records.Record,
    "record": testing.record,
    "changed": testing.changed,
    "revision": testing.revision,
    "ident": testing.ident,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_written_as_it_is_called(name: str) -> None:
    """With its arguments and their defaults."""
    text = prose(API.read_text("utf-8")).replace("\n", " ")

    assert f"`{signature(name, FUNCTIONS[name])}`" in text


OPTIONS: dict[str, list[Callable[..., Any]]] = {
    "Sessions": [coatcheck.Sessions, coatcheck.AsyncSessions],
    "Cookie": [coatcheck.Cookie, coatcheck.Cookie.insecure],
    "Lifetime": [coatcheck.Lifetime],
    "SessionMiddleware": [asgi.SessionMiddleware, wsgi.SessionMiddleware],
    "CoatcheckSessionInterface": [
        flask.CoatcheckSessionInterface,
        quart.CoatcheckSessionInterface,
    ],
    "setup": [aiohttp.setup, sanic.setup, tornado.setup],
    "AsyncSessionMiddleware": [falcon.AsyncSessionMiddleware, falcon.SessionMiddleware],
    "LoginMiddleware": [asgi.LoginMiddleware, wsgi.LoginMiddleware],
    "CSRFMiddleware": [asgi.CSRFMiddleware, wsgi.CSRFMiddleware],
    "CrossOriginProtection": [csrf.CrossOriginProtection],
    "LoggedIn": [fastapi.LoggedIn],
    "CoatcheckPlugin": [litestar.CoatcheckPlugin],
    "LoginGate": [gate.LoginGate],
    "set_coatcheck_sessions": [pyramid.set_coatcheck_sessions],
    "SessionSecurityPolicy": [pyramid.SessionSecurityPolicy],
    "MemoryStore": [memory.MemoryStore],
    "AsyncMemoryStore": [memory.AsyncMemoryStore],
    "SQLiteStore": [sqlite.SQLiteStore],
    "AsyncSQLiteStore": [sqlite.AsyncSQLiteStore],
    "FileStore": [file.FileStore],
    "AsyncFileStore": [file.AsyncFileStore],
    "RedisStore": [redis.RedisStore, redis.AsyncRedisStore],
    "PostgresStore": [postgres.PostgresStore, postgres.AsyncPostgresStore],
    "MemcachedStore": [memcached.MemcachedStore],
    "AsyncMemcachedStore": [memcached.AsyncMemcachedStore],
    "CookieStore": [cookie.CookieStore, cookie.AsyncCookieStore],
    "Sweeper": [sweeper.Sweeper, sweeper.AsyncSweeper],
}


WATCHING: set[Callable[..., Any]] = {
    asgi.SessionMiddleware,
    quart.CoatcheckSessionInterface,
    litestar.CoatcheckPlugin,
    falcon.AsyncSessionMiddleware,
    aiohttp.setup,
    sanic.setup,
    tornado.setup,
}
"""Of two that are alike, the one that has sockets."""


def pins(file: str) -> dict[str, str]:
    """The versions in a file of constraints, by the distribution's name."""
    lines = (ROOT / file).read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_every_pin_can_be_installed_with_the_oldest_python() -> None:
    """Debian 12 brings 3.11.2, where a pin that wants a later one ends `make` at once."""
    wanted = {
        found.metadata["Name"]: found.metadata["Requires-Python"]
        for found in importlib.metadata.distributions()
        if found.metadata["Name"].lower().replace("_", "-") in pins("constraints.txt")
    }

    assert len(wanted) > 100
    assert {} == {
        name: versions
        for name, versions in wanted.items()
        if versions is not None and not SpecifierSet(versions).contains("3.11.2")
    }


def test_frameworks_are_listed_with_the_versions_that_are_tested() -> None:
    """Oldest and newest, as the two environments have them."""
    newest = pins("constraints.txt")
    oldest = newest | pins("tests/oldest.txt")
    text = (DOCS / "reference/frameworks.md").read_text("utf-8")
    table = re.findall(r"^\| \[(.*?)\]\(.*?\) \| (\S+) \| (\S+) \|", text, re.MULTILINE)
    listed = {name.lower(): (first, last) for name, first, last in table}

    assert listed == {name: (oldest[name], newest[name]) for name in listed}
    assert {"flask", "django", "starlette", "tornado"} <= set(listed)


def documented_options(name: str) -> dict[str, str]:
    """Each option with its default."""
    return {
        option: row[1].strip("`")
        for row in rows(section_of(SETTINGS, name))
        for option in spans(row[0])
    }


def options_of(made: Callable[..., Any]) -> dict[str, str]:
    return {parameter.name: shown(parameter) for parameter in parameters(made)}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_in_the_settings(name: str) -> None:
    """Each with its default, and none that is not there."""
    for made in OPTIONS[name]:
        documented = documented_options(name)
        if made not in WATCHING:
            documented.pop("watch", None)
        assert options_of(made) == documented


def test_an_undocumented_option_is_noticed() -> None:
    """A planted one, and a default that was changed."""

    def planted(app: object, gate: object, extra: int = 3) -> None: ...

    assert {"extra": "3"} == {
        option: default
        for option, default in options_of(planted).items()
        if option not in documented_options("LoginMiddleware")
    }


def test_every_event_is_in_the_reference() -> None:
    """Each with its fields."""
    assert [] == missing_events()


def missing_events() -> list[str]:
    """Events, and fields of them, that the page has not."""
    table = {
        name: set(spans(row[2]))
        for row in rows(EVENTS.read_text("utf-8"))
        for name in spans(row[0])
    }
    missing = []
    for name in events.__all__:
        kind = getattr(events, name)
        if inspect.isclass(kind) and issubclass(kind, events.Event):
            own = {field.name for field in dataclasses.fields(kind)}
            own -= set() if kind is events.Event else {"session_id", "subject"}
            if name not in table or not own <= table[name]:
                missing.append(name)
    return missing


def test_an_undocumented_event_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted one, and no other."""
    planted = type("Planted", (events.Event,), {"__slots__": ()})
    monkeypatch.setattr(events, "Planted", planted, raising=False)
    monkeypatch.setattr(events, "__all__", [*events.__all__, "Planted"])

    assert ["Planted"] == missing_events()


def missing_errors() -> list[str]:
    return sorted(set(errors.__all__) - first_cells(ERRORS.read_text("utf-8")))


def test_every_error_is_in_the_reference() -> None:
    """In the table, and in the tree as the module draws it."""
    tree = re.findall(r"[A-Z][A-Za-z]+", blocks(ERRORS, "text")[0].text)
    drawn = re.findall(r"^ +[│├└─ ]*([A-Z][A-Za-z]+)", errors.__doc__ or "", re.MULTILINE)

    assert [] == missing_errors()
    assert drawn == [name for name in tree if name in errors.__all__]


def test_an_undocumented_error_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted one, and no other."""
    monkeypatch.setattr(errors, "__all__", [*errors.__all__, "PlantedError"])

    assert ["PlantedError"] == missing_errors()


def commands() -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in cli._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(action.choices)
    return found


def missing_commands() -> list[str]:
    """Commands, arguments and options that the page has not."""
    heads = {head.strip("`"): text for head, text in sections(CLI).items()}
    missing = []
    for name, parser in commands().items():
        wanted = [_argument(action) for action in parser._actions if action.dest != "help"]
        head = " ".join(["coatcheck", name, *(each for each in wanted if each.isupper())])
        optional = {each for each in wanted if not each.isupper()}
        if head not in heads or not optional <= first_cells(heads[head]):
            missing.append(name)
    return missing


def _argument(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar)


def test_every_command_is_in_the_reference() -> None:
    """With its arguments and options."""
    assert ["key", "sweep", "demo"] == list(commands())
    assert [] == missing_commands()


def test_an_undocumented_command_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted one, and a planted option of another."""
    make = cli._parser

    def planted() -> argparse.ArgumentParser:
        parser = make()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                action.add_parser("planted")
                action.choices["key"].add_argument("--bits")
        return parser

    monkeypatch.setattr(cli, "_parser", planted)
    assert ["key", "planted"] == missing_commands()


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("The record", records.Record), ("The payload", records.Head), ("The body", records.Body)],
)
def test_the_format_has_every_field(heading: str, kind: Any) -> None:
    """In the order of the bytes."""
    fields = [name for row in rows(sections(FORMAT)[heading]) for name in spans(row[0])]

    assert list(kind.__struct_fields__) == fields


# Laws and architecture.


def defined_tests() -> set[str]:
    """Every test file, class and function, as `tests/test_laws.py::TestLaw1…::test_…`."""
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        file = str(path.relative_to(ROOT))
        found.add(file)
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found.add(f"{file}::{node.name}")
            if isinstance(node, ast.ClassDef):
                found.add(f"{file}::{node.name}")
                inner = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
                found.update(f"{file}::{node.name}::{name}" for name in inner)
    return found


def test_the_tests_that_pages_name_exist() -> None:
    """By file, class and function."""
    said = {span for page in PAGES for span in spans(page.read_text("utf-8"))}
    named_tests = {span for span in said if span.startswith("tests/") and ".py" in span}

    assert len(named_tests) > 30
    assert set() == named_tests - defined_tests()


def test_every_law_names_its_tests() -> None:
    """All twelve, and each class of tests that bears a law's number."""
    classes = sorted(test for test in defined_tests() if re.search(r"::TestLaw\d+\w+$", test))
    laws = {
        int(head.split(".")[0]): text for head, text in sections(LAWS).items() if head[0].isdigit()
    }

    assert list(range(1, 13)) == sorted(laws)
    assert all("Tests: `tests/" in text and "Limits: " in text for text in laws.values())
    for test in classes:
        number = int(re.findall(r"::TestLaw(\d+)", test)[0])
        assert test in spans(laws[number])


def missing_files(files: Iterable[str]) -> list[str]:
    """Files that the floors of the architecture page do not have."""
    floors = blocks(ARCHITECTURE, "text")[1].text
    return [file for file in files if not re.search(rf"(?<![\w.]){re.escape(file)}(?!\w)", floors)]


def test_every_file_is_on_its_floor() -> None:
    """On the architecture page; the demo as a whole."""
    source = ROOT / "src/coatcheck"
    files = {path.name for path in source.rglob("*.py") if "demo" not in path.parts}

    assert [] == missing_files(sorted(files))


def test_a_file_without_a_floor_is_noticed() -> None:
    """A planted one, though its name ends like another's."""
    assert ["oken.py", "planted.py"] == missing_files(["oken.py", "token.py", "planted.py"])
