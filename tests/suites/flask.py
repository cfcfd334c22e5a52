"""Flask's own tests, all of them, with our session interface as every app's default."""

from pathlib import Path

from tests.suites import Suite

__all__ = ["SUITE", "plug_in"]

_OURS = """

from coatcheck import Sessions
from coatcheck.stores.memory import MemoryStore
from coatcheck.web.flask import CoatcheckSessionInterface
from flask import Flask

Flask.session_interface = CoatcheckSessionInterface(Sessions(MemoryStore()), sweep=None)
"""


def plug_in(folder: Path) -> None:
    with (folder / "tests/conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(_OURS)


def _plug_in_here(folder: Path) -> None:
    for name in ("conftest", "test_cli"):  # they know a name that pytest 9 has changed
        file = folder / f"tests/{name}.py"
        file.write_text(file.read_text("utf-8").replace("notset", "NOTSET"), "utf-8")
    plug_in(folder)


_SETTINGS = "it sets in app.config what is said to Sessions here, and warned about"

SUITE = Suite(
    "flask",
    _plug_in_here,
    ["tests", "-W", "ignore::RuntimeWarning"],
    {
        "test_basic::test_missing_session": "it wants an error without a SECRET_KEY",
        "test_basic::test_session_secret_key_fallbacks": "our cookies are not signed",
        "test_basic::test_session_path": _SETTINGS,
        "test_basic::test_session_using_": _SETTINGS,
        "test_basic::test_session_expiration": "it wants a cookie that lives 31 days",
        "test_basic::test_session_cookie_setting": "it wants the cookie with each response",
        "test_basic::test_session_refresh_vary": "it wants Vary where nothing was used (law 8)",
        "test_testing::test_session_transactions_no_null_sessions": "as above: no SECRET_KEY",
        "test_reqctx::test_bad_environ": "it fails with Flask's own sessions, too",
    },
)
