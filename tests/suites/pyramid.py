"""Pyramid's tests of its cookie sessions, over a session factory of ours.

They look for messages at the keys where Pyramid keeps them; here they ask the session instead.
"""

from pathlib import Path

from tests.suites import Suite, replace_in

__all__ = ["SUITE"]

OURS = '''

class TestCoatcheckSession(SharedCookieSessionTests, unittest.TestCase):
    """What a cookie stands for is stored when the session is opened, and at the time it says."""

    def _serialize(self, value):
        self.planted = value
        return "planted"

    def _makeOne(self, request, timeout=1200, cookie_name="session", **options):
        import time

        from coatcheck import Client, Cookie, Lifetime, Sessions
        from coatcheck.paths import Patterns
        from coatcheck.stores.memory import MemoryStore
        from coatcheck.web.pyramid.hook import _Hook

        now = [time.time()]
        idle = None if timeout is None else int(timeout)
        cookie = Cookie.insecure(cookie_name, **options)
        lifetime = Lifetime(idle=idle, absolute=None)
        clock = lambda: now[0]
        sessions = Sessions(MemoryStore(), cookie=cookie, lifetime=lifetime, clock=clock)
        header = "; ".join(f"{name}={value}" for name, value in request.cookies.items())
        if "planted" in header and isinstance(self.planted, tuple):
            opened, (now[0], _, state) = now[0], self.planted
            session = sessions.open(None)
            session.update(state)
            header = sessions.commit(session)[0].partition(";")[0]
            now[0] = opened
        request.environ["HTTP_COOKIE"] = header
        hook = _Hook({None: sessions}, Patterns("skip", ()), lambda request: Client(), None)
        return hook.session(request)
'''

ASKED = {
    "assertEqual(session['_f_']": "assertEqual(session.peek_flash()",
    "assertEqual(session['_f_warn']": "assertEqual(session.peek_flash('warn')",
    "assertEqual(session.get('_f_'), queue)": "assertEqual(session.peek_flash(), queue)",
    "assertEqual(session.get('_f_error'), queue)": (
        "assertEqual(session.peek_flash('error'), queue)"
    ),
    "session['_f_'] = queue": "[session.flash(msg) for msg in queue]",
    "session['_f_error'] = queue": "[session.flash(msg, 'error') for msg in queue]",
    "assertEqual(token, session['_csrft_'])": "assertEqual(token, session.get_csrf_token())",
}


def plug_in(folder: Path) -> None:
    file = folder / "tests/test_session.py"
    for old, new in ASKED.items():
        replace_in(file, old, new)
    replace_in(file, "\n\nclass TestBaseCookieSession(", f"{OURS}\n\nclass TestBaseCookieSession(")


_INSIDE = "looks at a private attribute of Pyramid's cookie session"
_DERIVED = "the token is derived from the session's seed; it is no value of the session"
_STATUS = "whether a response is an error is told by its status (law 9), not by request.exception"
_OPTIONS = "sets its cookie by a private method; the attributes are tested in test_cookie"

SUITE = Suite(
    distribution="pyramid",
    plug_in=plug_in,
    tests=["tests/test_session.py::TestCoatcheckSession"],
    explained={
        f"test_session::TestCoatcheckSession::{start}": why
        for start, why in {
            "test_changed": _INSIDE,
            "test_reissue_triggered": _INSIDE,
            "test__set_cookie": _OPTIONS,
            "test_get_csrf_token": _DERIVED,
            "test_no_set_cookie_with_exception": _STATUS,
        }.items()
    },
)
