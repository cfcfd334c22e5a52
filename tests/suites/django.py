"""Django's own tests of sessions, logins and the test client, with our engine and middleware."""

import re
import subprocess
import sys
from pathlib import Path

from tests.suites import Outcome, Suite, replace_in

__all__ = ["SUITE"]

_OURS = '''"""What Django promises of every engine, asked of ours."""

from django.test import SimpleTestCase
from sessions_tests.tests import SessionTestsMixin

from coatcheck.web.django import SessionStore


class CoatcheckSessionTests(SessionTestsMixin, SimpleTestCase):
    backend = SessionStore
'''
_SETTINGS = """
SESSION_ENGINE = "coatcheck.web.django"
SESSION_COOKIE_SECURE = False
COATCHECK_STORE = "memory:"
"""
_RESULT = re.compile(r"^(test\w+) \(([\w.]+)\)(?:\n[^\n]*)?? \.\.\. (\w+)", re.MULTILINE)

_STOCK = "django.contrib.sessions.middleware.SessionMiddleware"


def plug_in(folder: Path) -> None:
    tests = folder / "tests"
    ours = tests / "coatcheck_tests"
    ours.mkdir()
    (ours / "__init__.py").touch()
    (ours / "tests.py").write_text(_OURS)
    settings = tests / "test_sqlite.py"
    settings.write_text(settings.read_text() + _SETTINGS)
    runner = tests / "runtests.py"
    replace_in(runner, f'"{_STOCK}"', '"coatcheck.web.django.SessionMiddleware"')
    apps = '"django.contrib.sessions",'
    replace_in(runner, apps, f'{apps}\n    "coatcheck.web.django",')
    stock = "from django.contrib.sessions.middleware import SessionMiddleware"
    ours_instead = "from coatcheck.web.django import SessionMiddleware"
    replace_in(tests / "sessions_tests/tests.py", stock, ours_instead)


def run(suite: Suite, folder: Path) -> Outcome:
    """By Django's own runner; its tests are not pytest's."""
    tests = folder / "tests"
    command = [sys.executable, "runtests.py", "--parallel=1", "--verbosity=2", *suite.tests]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True)
    passed, failed = set[str](), set[str]()
    for name, where, result in _RESULT.findall(done.stderr):
        case = where.removesuffix(f".{name}").split(".")
        if result != "skipped":
            (passed if result == "ok" else failed).add("::".join([*case[-2:], name]))
    return Outcome(passed, failed, done.stdout + done.stderr)


_OTHER_ENGINE = "it sets another SESSION_ENGINE (coatcheck.E005)"

SUITE = Suite(
    "django",
    plug_in,
    [
        "coatcheck_tests",
        "sessions_tests.tests.SessionMiddlewareTests",
        "auth_tests.test_views",
        "auth_tests.test_middleware",
        "auth_tests.test_decorators",
        "auth_tests.test_signals",
        "auth_tests.test_login",
        "test_client",
        "messages_tests.test_session",
        "csrf_tests",
    ],
    {
        "test_views::LoginTest::test_session_key_flushed_on_login_after_password_change": (
            "every login gets a fresh token, also of a user who is logged in already"
        ),
        "tests::ClientTest::test_logout_cookie_sessions": _OTHER_ENGINE,
        "tests::ClientTest::test_sessions_app_is_not_installed": _OTHER_ENGINE,
        "tests::ClientTest::test_view_with_login_when_sessions_app_is_not_installed": _OTHER_ENGINE,
        "tests::SessionMiddlewareTests::test_empty_session_saved": "it looks into Django's table",
        "tests::SessionMiddlewareTests::test_no_httponly_session_cookie": "ours is HttpOnly always",
        "tests::SessionMiddlewareTests::test_save_every_request_with_non_empty_session": (
            "a session in use goes on in the store; its cookie is not sent again"
        ),
        "tests::SessionMiddlewareTests::test_secure_session_cookie": (
            "a secure cookie has a prefix in its name (coatcheck.E002)"
        ),
        "tests::SessionMiddlewareTests::test_session_delete_on_end": (
            "a cookie that was not good is not deleted"
        ),
        "tests::SessionMiddlewareTests::test_session_update_error_redirect": (
            "a session that ended meanwhile is no error of the request"
        ),
    },
    run,
)
