"""Bottle behind the middleware for WSGI: what its own ways of answering make of a session.

Bottle catches every error of a view and makes a page of it, unless told otherwise.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import bottle  # type: ignore[import-untyped]
import pytest
from webtest import TestApp  # type: ignore[import-untyped]

from coatcheck import SessionClosed, Sessions, current
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web.wsgi import LoginMiddleware, SessionMiddleware
from tests.outside import Answer, wsgi_call, wsgi_environ
from tests.test_laws import Flaky

View = Callable[[], Any]


def sessions_over(store: MemoryStore | None = None) -> Sessions:
    return Sessions(store or MemoryStore(), clock=Clock())


def app_of(view: View, sessions: Sessions) -> tuple[Any, bottle.Bottle]:
    """The app in the middleware, and Bottle's own."""
    site = bottle.Bottle()
    site.route("/", ["GET", "POST"], view)
    return SessionMiddleware(site, sessions, sweep=None), site


def ask(view: View, sessions: Sessions, cookie: str | None = None, **parts: Any) -> Answer:
    if cookie is not None:
        parts["HTTP_COOKIE"] = cookie
    return wsgi_call(app_of(view, sessions)[0], wsgi_environ(**parts))


def logged_in(sessions: Sessions, **values: Any) -> str:
    """The cookie of a session that is user:42's."""
    session = sessions.open(None)
    session.login("user:42")
    session.update(values)
    return sessions.commit(session)[0].partition(";")[0]


def stored(sessions: Sessions, cookie: str) -> tuple[str | None, dict[str, Any]]:
    session = sessions.open(cookie)
    return session.subject, dict(session)


class TestAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda: "text",
            lambda: b"bytes",
            lambda: ["two", "parts"],
            lambda: {"json": 1},
            lambda: None,
            lambda: iter(["lazy"]),
            lambda: BytesIO(b"a file"),
            lambda: bottle.redirect("/"),
            lambda: bottle.abort(404),
            lambda: bottle.HTTPResponse("made", 201),
        ],
        ids=["text", "bytes", "list", "dict", "none", "lazy", "file", "redirect", "404", "201"],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_each_commits(self, answer: View, method: str) -> None:
        """With the cookie, whatever the body is made of; a HEAD request has none."""
        sessions = sessions_over()

        def view() -> Any:
            current().login("user:42")
            return answer()

        got = ask(view, sessions, REQUEST_METHOD=method)
        assert (1, "no-store", "Cookie") == (len(got.cookies), got["cache-control"], got["vary"])
        assert "user:42" == stored(sessions, got.cookies[0].partition(";")[0])[0]
        assert method == "GET" or got.body == b""

    @pytest.mark.parametrize("wrapper", [None, FileWrapper])
    def test_a_static_file(self, wrapper: Any, tmp_path: Path) -> None:
        """By the server's own wrapper where it has one."""
        (tmp_path / "a.txt").write_text("a file")
        sessions = sessions_over()

        def view() -> Any:
            current()["seen"] = True
            return bottle.static_file("a.txt", root=tmp_path)

        parts = {} if wrapper is None else {"wsgi.file_wrapper": wrapper}
        got = wsgi_call(app_of(view, sessions)[0], wsgi_environ(**parts))
        assert (b"a file", 1) == (got.body, len(got.cookies))

    def test_the_views_own_cookie_comes_along(self) -> None:
        """Bottle's cookies are headers of the same kind."""

        def view() -> str:
            bottle.response.set_cookie("theme", "dark")
            current()["a"] = 1
            return "ok"

        names = [cookie.partition("=")[0] for cookie in ask(view, sessions_over()).cookies]
        assert ["theme", "__Host-session"] == names

    def test_hooks_are_a_part_of_the_request(self) -> None:
        """Before the view and after it: what they change is committed."""
        sessions = sessions_over()
        app, site = app_of(lambda: "ok", sessions)
        site.add_hook("before_request", lambda: current().update(before=1))
        site.add_hook("after_request", lambda: current().update(after=1))
        got = wsgi_call(app, wsgi_environ())

        expected = {"before": 1, "after": 1}
        assert (None, expected) == stored(sessions, got.cookies[0].partition(";")[0])

    def test_a_mounted_app_has_the_same_session(self) -> None:
        """Mounted below a path of the first."""
        sessions = sessions_over()
        app, site = app_of(lambda: "ok", sessions)
        inner = bottle.Bottle()
        inner.get("/in", callback=lambda: str(current().subject))
        site.mount("/shop/", inner)
        environ = wsgi_environ(PATH_INFO="/shop/in", HTTP_COOKIE=logged_in(sessions))

        assert b"user:42" == wsgi_call(app, environ).body


class TestErrors:
    def test_an_error_that_bottle_catches_drops_the_edits(self) -> None:
        """Its page is a 500."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)

        def view() -> str:
            current()["a"] = 2
            current().login("user:7")
            raise RuntimeError("a view that fails")

        got = ask(view, sessions, cookie)
        assert (500, [], None) == (got.status, got.cookies, got.error)
        assert ("user:42", {"a": 1}) == stored(sessions, cookie)

    def test_an_error_that_bottle_catches_keeps_a_logout(self) -> None:
        """And the cookie goes."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def view() -> str:
            current().logout()
            raise RuntimeError("a view that fails")

        got = ask(view, sessions, cookie)
        assert (500, True) == (got.status, "Max-Age=0" in got.cookies[0])
        assert (None, {}) == stored(sessions, cookie)

    def test_an_abort_with_500_drops_the_edits(self) -> None:
        """It is raised as a response, but it is an error."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def view() -> None:
            current()["a"] = 1
            bottle.abort(500)

        assert 500 == ask(view, sessions, cookie).status
        assert ("user:42", {}) == stored(sessions, cookie)

    @pytest.mark.parametrize("verb", ["load", "save"])
    @pytest.mark.parametrize("has_page", [False, True])
    def test_an_outage_is_503(self, verb: str, has_page: bool) -> None:
        """Though Bottle caught it, and the site has a page for errors."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {verb}

        def view() -> str:
            current()["a"] = 1
            return "ok"

        app, site = app_of(view, sessions)
        if has_page:
            site.error(500)(lambda error: "sorry")
        got = wsgi_call(app, wsgi_environ(HTTP_COOKIE=cookie))
        assert (503, b"503\n", "5") == (got.status, got.body, got["retry-after"])
        assert [] == got.cookies

    def test_an_outage_met_elsewhere_is_503(self) -> None:
        """By a list of sessions, where the request's own was never used."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        flaky.down = {"load"}

        assert 503 == ask(sessions.ping, sessions).status

    def test_a_page_for_errors_may_read_the_session(self) -> None:
        """It sees what the view did, which is not kept."""
        sessions = sessions_over()

        def view() -> str:
            current()["a"] = 1
            raise RuntimeError("a view that fails")

        app, site = app_of(view, sessions)
        site.error(500)(lambda error: str(dict(current())))
        got = wsgi_call(app, wsgi_environ(HTTP_COOKIE=logged_in(sessions)))
        assert (500, b"{'a': 1}", []) == (got.status, got.body, got.cookies)

    def test_in_debug_mode_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its page shows the traceback; the outage is 503 all the same."""
        monkeypatch.setattr(bottle, "DEBUG", True)
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        assert 503 == ask(lambda: str(current().subject), sessions, cookie).status


class TestStreaming:
    def test_until_its_first_part_a_generator_may_change_the_session(self) -> None:
        """After that a change raises."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def view() -> Iterator[str]:
            current()["early"] = 1
            yield "one "
            yield str(current().subject)
            current()["late"] = 1
            yield "never"

        got = ask(view, sessions, cookie)
        assert (b"one user:42", SessionClosed) == (got.body, type(got.error))
        assert ("user:42", {"early": 1}) == stored(sessions, cookie)

    def test_a_generator_that_fails_at_once_drops_the_edits(self) -> None:
        """Bottle makes a page of that too."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def view() -> Iterator[str]:
            current()["a"] = 1
            if current():
                raise RuntimeError("a body that fails")
            yield ""

        assert 500 == ask(view, sessions, cookie).status
        assert ("user:42", {}) == stored(sessions, cookie)


class TestGate:
    gate = LoginGate(public=["/static/*"], user=lambda subject: {"name": subject})

    def client(self, sessions: Sessions) -> Any:
        site = bottle.Bottle()
        site.get("/<path:path>", callback=lambda path: bottle.request["coatcheck.user"])
        app = SessionMiddleware(LoginMiddleware(site, self.gate), sessions, sweep=None)
        return TestApp(app)

    def test_nobody_passes_without_a_login(self) -> None:
        """People are sent to the login page, scripts get 401."""
        client = self.client(sessions_over())

        assert "/login?next=/me" == client.get("/me", headers={"Accept": "text/html"}).location
        client.get("/me", status=401)

    def test_a_user_passes_and_is_loaded(self) -> None:
        """By the test client that WebTest has, logged in past the login page."""
        sessions = sessions_over()
        client = self.client(sessions)
        login(client, sessions, "user:42")

        assert {"name": "user:42"} == client.get("/me").json


def test_webtest_keeps_one_cookie() -> None:
    """That of `login`, then the one that replaces it; at the end it is gone."""
    sessions = sessions_over()
    app, site = app_of(lambda: current().rotate(), sessions)
    site.get("/out", callback=lambda: current().logout())
    client = TestApp(app, extra_environ={"wsgi.url_scheme": "https"})
    login(client, sessions, "user:42")
    first = dict(client.cookies)
    client.get("/")
    assert [(1, False)] == [(len(client.cookiejar), first == dict(client.cookies))]
    client.get("/out")

    assert 0 == len(client.cookiejar)
