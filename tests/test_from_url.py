"""Stores by URL: what a URL says, what is refused, and that no message shows a secret."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from coatcheck import ConfigurationError
from coatcheck.stores import async_from_env, async_from_url, from_env, from_url
from coatcheck.stores._url import StoreURL, shown
from coatcheck.stores.cookie import AsyncCookieStore, CookieStore
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.stores.sqlite import AsyncSQLiteStore, SQLiteStore

KEY = "k" * 32
OLDER = "o" * 32
SECRET = "s3cr3t"

DRIVERS = {"redis": "redis", "psycopg": "postgres", "pymemcache": "memcached"}
SERVERS = {
    "redis": f"redis://u:{SECRET}@h/0",
    "psycopg": f"postgresql://u:{SECRET}@h/d",
    "pymemcache": "memcached://h",
}


@pytest.mark.parametrize(
    ("url", "kind", "async_kind"),
    [
        ("memory:", MemoryStore, AsyncMemoryStore),
        ("sqlite:///sessions.sqlite3", SQLiteStore, AsyncSQLiteStore),
        ("SQLITE:///sessions.sqlite3?timeout=2", SQLiteStore, AsyncSQLiteStore),
    ],
)
def test_a_url_names_a_store(url: str, kind: type, async_kind: type) -> None:
    """Each for synchronous and for asynchronous code."""
    assert (kind, async_kind) == (type(from_url(url)), type(async_from_url(url)))


def test_a_path_is_relative_with_three_slashes_and_absolute_with_four(tmp_path: Path) -> None:
    """And what has a meaning in a URL is quoted."""
    relative: Any = from_url("sqlite:///some%3Fwhere.sqlite3")
    absolute: Any = from_url(f"sqlite:///{tmp_path}/s.sqlite3")

    assert str(Path.cwd() / "some?where.sqlite3") == relative.path
    assert f"{tmp_path}/s.sqlite3" == absolute.path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nothing",
        "mysql://host/db",
        "sqlite:sessions.sqlite3",
        "sqlite://host/sessions.sqlite3",
        "sqlite:///",
        "sqlite:///s.sqlite3#part",
        "sqlite:///s.sqlite3?tiemout=1",
        "sqlite:///s.sqlite3?timeout=0",
        "sqlite:///s.sqlite3?timeout=soon",
        "sqlite:///s.sqlite3?timeout=nan",
        "sqlite:///s.sqlite3?timeout=1&timeout=2",
        "sqlite:///s.sqlite3?timeout",
        "memory://host",
        "memory:?max_sessions=-1",
        "memory:?max_sessions=",
        "http://[::1",
    ],
)
@pytest.mark.parametrize("make", [from_url, async_from_url])
def test_what_is_no_stores_url_is_refused(make: Any, url: str) -> None:
    """When the store is made, and never ignored."""
    with pytest.raises(ConfigurationError):
        make(url)


@pytest.mark.parametrize("url", [None, 7, b"memory:", Path("sessions.sqlite3")])
def test_what_is_no_text_is_refused(url: Any) -> None:
    """Bytes and paths too."""
    with pytest.raises(ConfigurationError):
        from_url(url)


class TestParts:
    def test_all_parts_of_a_url(self) -> None:
        """User, password, hosts with and without a port, path and options, unquoted."""
        url = StoreURL("x://us%40er:p%3Aw@one:1,[::1]:2,three/a%20b?prefix=p%3A&n=7&on=yes&t=2.5")

        assert ("us@er", "p:w", "/a b") == (url.user, url.password, url.path)
        assert [("one", 1), ("::1", 2), ("three", None)] == url.hosts
        taken = (url.text("prefix"), url.number("n", 1), url.flag("on", False), url.seconds("t", 1))
        assert ("p:", 7, True, 2.5) == taken
        url.done()

    @pytest.mark.parametrize("login", ["", ":@", "@"])
    def test_an_empty_password_is_none(self, login: str) -> None:
        """As an absent one is; and an empty user."""
        url = StoreURL(f"x://{login}host")

        assert (None, None) == (url.user, url.password)

    def test_defaults_stand_in_for_absent_options(self) -> None:
        """Each of its own kind."""
        url = StoreURL("x://host")
        found = (url.text("a"), url.number("b", 3), url.flag("c", True), url.seconds("d", 0.5))

        assert (None, 3, True, 0.5) == found

    @pytest.mark.parametrize(
        "text",
        [
            f"redis://:7/{SECRET}@host/0",
            f"redis://:/{SECRET}@host/0",
            f"redis://u:1?{SECRET}=x@host/0",
            f"redis+sentinel://u:7/{SECRET}@host",
            f"redis://u:{SECRET}/x@host/0",
            f"redis:{SECRET}@host/0",
            f"u:{SECRET}@host/0",
            f"{SECRET}@host:6379/0",
            f"{SECRET}:6379",
        ],
    )
    def test_a_password_that_is_not_quoted_is_refused_unseen(self, text: str) -> None:
        """What looks like a path or an option may be the rest of it."""
        with pytest.raises(ConfigurationError) as caught:
            from_url(text)

        assert SECRET not in str(caught.value)

    def test_a_plus_is_a_plus(self) -> None:
        """A URL is no form, where it would be a space."""
        assert "a+b" == StoreURL("x://host?prefix=a+b").text("prefix")

    @pytest.mark.parametrize(
        "host", ["[::1", "::1]", "[::1]x", "x[::1]", "[[::1]]", "a b", "[a]b]:1"]
    )
    def test_a_host_with_brackets_elsewhere_is_refused(self, host: str) -> None:
        """They stand around an IPv6 address."""
        with pytest.raises(ConfigurationError, match="IPv6"):
            StoreURL(f"x://{host}/0")

    def test_space_around_a_url_is_none_of_it(self) -> None:
        """An environment's file may end it with a new line."""
        url = StoreURL(" x://host/0\n")

        assert ("x", "/0", [("host", None)]) == (url.scheme, url.path, url.hosts)

    def test_a_schemes_case_is_nothing(self) -> None:
        """As RFC 3986 says."""
        assert "x" == StoreURL("X://host").scheme

    @pytest.mark.parametrize("hosts", [":6379", "one,:2", "[]:1"])
    def test_a_host_without_a_name_is_refused(self, hosts: str) -> None:
        """It would be somebody's guess which."""
        with pytest.raises(ConfigurationError):
            StoreURL(f"x://{hosts}/0")

    @pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "٣"])
    def test_a_port_that_cannot_be_is_refused(self, port: str) -> None:
        """Before anything is reached."""
        with pytest.raises(ConfigurationError):
            StoreURL(f"x://host:{port}")

    def test_a_password_taken_for_a_port_is_not_shown(self) -> None:
        """One with a '/' in it ends the part of the URL that would hold it."""
        with pytest.raises(ConfigurationError) as caught:
            StoreURL("redis://user:hunter2/x@host")

        assert "hunter2" not in str(caught.value)

    def test_a_repr_holds_no_secret(self) -> None:
        """Nor does what is shown to the site's owner."""
        text = f"redis://user:{SECRET}@host:1/0?ssl_password={SECRET}"

        assert SECRET not in repr(StoreURL(text))
        assert "redis://…@host:1/0" == shown(text)
        assert "sqlite:///s.sqlite3" == shown("sqlite:///s.sqlite3")


class TestCookie:
    def test_keys_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The newest first; a seal of an older one still opens."""
        monkeypatch.setenv("COATCHECK_KEYS", f"{KEY},{OLDER}")
        store: Any = from_url("cookie:?revocations=none")

        assert isinstance(store, CookieStore)
        assert (None, "KeyRing(2 keys)") == (store.revocations, repr(store._keys))

    def test_another_variable_can_be_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For several sites in one environment."""
        monkeypatch.setenv("OTHER", KEY)

        assert isinstance(async_from_url("cookie:?keys=OTHER&revocations=none"), AsyncCookieStore)

    def test_revocations_are_another_store(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """By its quoted URL, of the same kind."""
        monkeypatch.setenv("COATCHECK_KEYS", KEY)
        inner = quote(f"sqlite:///{tmp_path}/s.sqlite3?timeout=1", safe="")
        store: Any = async_from_url(f"cookie:?revocations={inner}")

        assert isinstance(store.revocations, AsyncSQLiteStore)

    @pytest.mark.parametrize(
        "url",
        [
            "cookie:",
            "cookie:?revocations=",
            "cookie:?revocations=nowhere",
            "cookie:?revocations=none&key=x",
            "cookie:?revocations=none&keys=UNSET_VARIABLE",
            "cookie:?revocations=cookie%3A%3Frevocations%3Dnone",
            "cookie://host?revocations=none",
        ],
    )
    def test_a_choice_must_be_made(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        """What keeps revocations is said, keys are there, and no message shows one."""
        monkeypatch.setenv("COATCHECK_KEYS", KEY)
        with pytest.raises(ConfigurationError) as caught:
            from_url(url)

        assert KEY not in str(caught.value)

    def test_a_short_key_is_refused_unseen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As everywhere."""
        monkeypatch.setenv("COATCHECK_KEYS", SECRET)
        with pytest.raises(ConfigurationError) as caught:
            from_url("cookie:?revocations=none")

        assert SECRET not in str(caught.value)


class TestEnvironment:
    def test_the_variable_holds_the_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`COATCHECK_STORE`, or another that is named."""
        monkeypatch.setenv("COATCHECK_STORE", "memory:")
        monkeypatch.setenv("OTHER", "sqlite:///s.sqlite3")

        assert isinstance(from_env(), MemoryStore)
        assert isinstance(async_from_env("OTHER"), AsyncSQLiteStore)

    @pytest.mark.parametrize("value", [None, ""])
    def test_it_must_be_set(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        """Nothing stands in for it: sessions in memory by accident log people out."""
        monkeypatch.delenv("COATCHECK_STORE", raising=False)
        if value is not None:
            monkeypatch.setenv("COATCHECK_STORE", value)
        with pytest.raises(ConfigurationError, match="COATCHECK_STORE"):
            from_env()


_WITHOUT = """
import sys
from importlib import import_module

from coatcheck import ConfigurationError
from coatcheck.stores import from_url

driver, url, module = sys.argv[1:]
sys.modules[driver] = None  # as if it were not installed
for attempt in (lambda: from_url(url), lambda: import_module(module)):
    try:
        attempt()
    except (ConfigurationError, ModuleNotFoundError) as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_missing_driver_names_the_extra(driver: str) -> None:
    """By URL and by import, in an interpreter that cannot find it."""
    arguments = [driver, SERVERS[driver], f"coatcheck.stores.{DRIVERS[driver]}"]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, *arguments], capture_output=True, text=True, check=True
    )
    by_url, by_import = done.stdout.splitlines()

    assert by_url.startswith("ConfigurationError ")
    assert by_import.startswith("ModuleNotFoundError ")
    for told in (by_url, by_import):
        assert f"coatcheck[{DRIVERS[driver]}]" in told
        assert SECRET not in told


@pytest.mark.parametrize("url", SERVERS.values())
@pytest.mark.parametrize("make", [from_url, async_from_url])
def test_an_option_that_a_server_store_lacks_is_refused(make: Any, url: str) -> None:
    """A misspelt time-out would be none."""
    with pytest.raises(ConfigurationError, match="tiemout") as caught:
        make(f"{url}?tiemout=1")

    assert SECRET not in str(caught.value)


def test_an_error_after_the_store_was_made_leaves_nothing_open(tmp_path: Path) -> None:
    """Options are refused before anything is opened."""
    with pytest.raises(ConfigurationError):
        from_url(f"sqlite:///{tmp_path}/s.sqlite3?typo=1")

    assert [] == list(tmp_path.iterdir())
