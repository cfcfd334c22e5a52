"""Flask-Login's own tests, with our session interface, and connected to it."""

from pathlib import Path

from tests.suites import Suite, flask, replace_in

__all__ = ["SUITE"]

_CONNECTED = """
from coatcheck.web.flask_login import connect_flask_login
from flask_login import LoginManager

init_app = LoginManager.init_app


def init_app_and_connect(self, app, *arguments, **options):
    init_app(self, app, *arguments, **options)
    connect_flask_login(app)


LoginManager.init_app = init_app_and_connect
"""


def plug_in(folder: Path) -> None:
    tests = folder / "tests/test_login.py"
    replace_in(tests, "from semantic_version import", "from packaging.version import")
    replace_in(tests, "sys_version = Version(", "sys_version = (lambda **parts: parts)(")
    # Its name begins others', of which one passes.
    replace_in(tests, "def test_remember_me(self)", "def test_the_remember_cookie(self)")
    flask.plug_in(folder)
    with (folder / "tests/conftest.py").open("a") as conftest:
        conftest.write(_CONNECTED)


_COOKIE = "it looks at the remember cookie, which there is not"
_OF_THE_COOKIE = [
    "test_the_remember_cookie",
    "test_remember_me_accepts_duration_as_int",
    "test_remember_me_custom_duration",
    "test_remember_me_is_unfresh",
    "test_remember_me_no_refresh",
    "test_remember_me_refresh_each_request",
    "test_remember_me_uses_custom_cookie_parameters",
    "test_remember_me_with_invalid_duration",
    "test_invalid_remember_cookie",
    "test_user_loaded_from_cookie_fired",
    "test_confirm_login",
    "test_fresh_login_required_decorator",
]
_READING = "it reads messages, which removes them, when the response is over (law 9)"
_OF_READING = [
    "test_needs_refresh_fires_flash",
    "test_needs_refresh_flash_message",
    "test_unauthorized_flash_message",
    "test_unauthorized_flashes_message",
]

SUITE = Suite(
    "flask-login",
    plug_in,
    ["tests", "-W", "ignore::RuntimeWarning"],
    {
        **{f"test_login::LoginTestCase::{name}": _COOKIE for name in _OF_THE_COOKIE},
        "test_login::UnicodeCookieUserIDTestCase::test_remember_me": _COOKIE,
        **{f"test_login::LoginTestCase::{name}": _READING for name in _OF_READING},
        "test_login::LoginTestCase::test_session_protection_strong_deletes_session": (
            "a session that is ended keeps none of its values (law 1)"
        ),
    },
)
