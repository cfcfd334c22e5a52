"""The WSGI adapter: what it adds to the laws, which `test_outside_laws` runs through it.

The standard's own validator stands on both sides: around the app, and around the middleware.
"""

import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Contention,
    Cookie,
    Session,
    SessionClosed,
    Sessions,
    StoreUnavailable,
    current,
)
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.sweeper import Sweeper
from coatcheck.testing import Clock
from coatcheck.web.wsgi import SessionMiddleware
from tests.outside import PATIENCE, Answer, wsgi_call, wsgi_environ
from tests.test_laws import Flaky

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Act = Callable[[Session], object]
PLAIN = [("Content-Type", "text/plain")]


def sessions_over(store: MemoryStore | None = None, **options: Any) -> Sessions:
    return Sessions(store or MemoryStore(), **{"clock": Clock(), **options})


def behind(app: "WSGIApplication", sessions: Sessions, **options: Any) -> "WSGIApplication":
    """The app in the middleware, a validator on each side of it."""
    return validator(SessionMiddleware(validator(app), sessions, **{"sweep": None, **options}))


def bare(app: "WSGIApplication", sessions: Sessions, **options: Any) -> SessionMiddleware:
    """The app in the middleware: an inner validator would hide what kind of body it returns."""
    return SessionMiddleware(app, sessions, **{"sweep": None, **options})


def doing(act: Act, status: str = "200 OK") -> "WSGIApplication":
    """An app that does this to its session, and answers with a whole body."""

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        act(environ["coatcheck.session"])
        start_response(status, PLAIN)
        return [b"ok"]

    return app


def put(key: str, value: Any) -> Act:
    return lambda session: session.__setitem__(key, value)


def ask(app: "WSGIApplication", cookie: str | None = None, **parts: Any) -> Answer:
    if cookie is not None:
        parts["HTTP_COOKIE"] = cookie
    return wsgi_call(app, wsgi_environ(**parts))


def cookie_of(answer: Answer) -> str:
    return str(answer["set-cookie"]).partition(";")[0]


def logged_in(sessions: Sessions, **values: Any) -> str:
    """The cookie of a session that is user:42's."""
    session = sessions.open(None)
    session.login("user:42")
    session.update(values)
    return sessions.commit(session)[0].partition(";")[0]


def stored(sessions: Sessions, cookie: str) -> tuple[str | None, dict[str, Any]]:
    session = sessions.open(cookie)
    return session.subject, dict(session)


class Server:
    """What a server gives as `start_response`; it keeps the heads that it was given."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.written: list[bytes] = []

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        self.heads.append((status, dict(headers)))
        return self.written.append


def fail(error: Exception) -> bytes:
    """In an expression, for generators that have to fail."""
    raise error


class Body:
    """A body that comes in parts, and counts how often it was closed."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)

    def close(self) -> None:
        self.closed += 1


class TestBodies:
    def test_a_list_is_handed_on_as_it_is(self) -> None:
        """So that servers can tell its length."""
        body = [b"ok"]

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            environ["coatcheck.session"]["a"] = 1
            start_response("200 OK", PLAIN)
            return body

        server = Server()
        returned = bare(app, sessions_over())(wsgi_environ(), server)

        assert body is returned
        assert ["Set-Cookie" in headers for _, headers in server.heads] == [True]

    @pytest.mark.parametrize("body", [[], (), [b""], [b"", b""]], ids=repr)
    def test_an_empty_body_commits_too(self, body: Any) -> None:
        """A redirect has no first byte, and its cookie all the same."""
        sessions = sessions_over()

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            environ["coatcheck.session"]["a"] = 1
            start_response("303 See Other", [("Location", "/"), *PLAIN])
            parts: Iterable[bytes] = iter(body) if len(body) == 2 else body
            return parts

        answer = ask(behind(app, sessions))
        assert (303, b"", None) == (answer.status, answer.body, answer.error)
        assert (None, {"a": 1}) == stored(sessions, cookie_of(answer))

    def test_a_generator_may_change_the_session_before_its_first_byte(self) -> None:
        """It computes after `start_response`, and what it does then counts."""
        sessions = sessions_over()

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            session = environ["coatcheck.session"]
            start_response("200 OK", PLAIN)
            session["a"] = 1
            yield b"one "
            yield b"two"

        answer = ask(behind(app, sessions))
        assert (b"one two", None) == (answer.body, answer.error)
        assert (None, {"a": 1}) == stored(sessions, cookie_of(answer))

    def test_empty_chunks_come_before_the_first_byte(self) -> None:
        """What is changed between them is still in time."""
        sessions = sessions_over()

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            yield b""
            environ["coatcheck.session"]["a"] = 1
            yield b""
            environ["coatcheck.session"]["b"] = 2
            yield b"byte"

        answer = ask(behind(app, sessions))
        assert (b"byte", None) == (answer.body, answer.error)
        assert (None, {"a": 1, "b": 2}) == stored(sessions, cookie_of(answer))

    def test_it_is_stored_when_the_first_byte_comes(self) -> None:
        """Another request sees it while the rest is still being made."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        seen: list[Any] = []

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            environ["coatcheck.session"]["a"] = 1
            start_response("200 OK", PLAIN)
            yield b"one "
            seen.append(stored(sessions, cookie))
            yield b"two"

        ask(behind(app, sessions), cookie)
        assert [("user:42", {"a": 1})] == seen

    @pytest.mark.parametrize(
        "late",
        [
            put("a", 1),
            lambda session: session.pop("cart"),
            lambda session: session.edit("n", lambda n: n + 1, default=0),
            lambda session: session.login("user:7"),
            lambda session: session.logout(),
            lambda session: session.rotate(),
            lambda session: session.flash("late"),
        ],
        ids=["set", "pop", "edit", "login", "logout", "rotate", "flash"],
    )
    def test_a_change_after_the_first_byte_raises_on_its_line(self, late: Act) -> None:
        """Instead of vanishing; nothing of it is stored."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=[])

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            _ = environ["coatcheck.session"].subject
            yield b"one "
            late(environ["coatcheck.session"])
            yield b"two"

        answer = ask(behind(app, sessions), cookie)
        assert (200, b"one ", SessionClosed) == (answer.status, answer.body, type(answer.error))
        assert ("user:42", {"cart": []}) == stored(sessions, cookie)

    def test_a_change_in_place_after_the_first_byte_raises_at_the_end(self) -> None:
        """The whole body went out, and the message names the key."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=[])

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            cart = environ["coatcheck.session"]["cart"]
            yield b"one "
            cart.append("tea")
            yield b"two"

        answer = ask(behind(app, sessions), cookie)
        assert b"one two" == answer.body
        assert isinstance(answer.error, SessionClosed)
        assert "'cart'" in str(answer.error)

    def test_late_reading_is_fine(self) -> None:
        """Of `current()` too, in every step of the body."""
        sessions = sessions_over()

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            yield str(current().subject).encode()
            yield str(current().subject).encode()

        assert b"user:42user:42" == ask(behind(app, sessions), logged_in(sessions)).body

    def test_between_the_steps_there_is_no_current_session(self) -> None:
        """A server's thread that goes on with another request finds nothing left over."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            yield b"one"

        chunks = iter(bare(app, sessions_over())(wsgi_environ(), Server()))
        next(chunks)
        with pytest.raises(LookupError):
            current()

    def test_closing_has_the_current_session(self) -> None:
        """A generator's `finally` is a part of the request."""
        sessions = sessions_over()
        seen: list[str | None] = []

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            try:
                start_response("200 OK", PLAIN)
                yield b"one"
                yield b"two"
            finally:
                seen.append(current().subject)

        body = bare(app, sessions)(wsgi_environ(HTTP_COOKIE=logged_in(sessions)), Server())
        next(iter(body))
        body.close()  # type: ignore[attr-defined]
        assert ["user:42"] == seen

    def test_a_file_wrapper_is_kept(self) -> None:
        """So that servers can send the file themselves; it is committed before."""
        sessions = sessions_over()
        wrapped = FileWrapper(BytesIO(b"a file"))

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> FileWrapper:
            environ["coatcheck.session"]["a"] = 1
            start_response("200 OK", PLAIN)
            return wrapped

        server = Server()
        environ = wsgi_environ(**{"wsgi.file_wrapper": FileWrapper})
        returned: object = bare(app, sessions)(environ, server)

        assert wrapped is returned
        assert ["Set-Cookie" in headers for _, headers in server.heads] == [True]


class TestClose:
    def served(self, body: Any, value: str = "", flaky: Flaky | None = None) -> Answer:
        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
            environ["coatcheck.session"]["a"] = value
            start_response("200 OK", PLAIN)
            return body

        environ = wsgi_environ(**{"wsgi.file_wrapper": File})
        return wsgi_call(validator(bare(app, sessions_over(flaky))), environ)

    def test_a_body_is_closed_once(self) -> None:
        """When the server is done with it."""
        body = Body([b"one", b"two"])

        assert b"onetwo" == self.served(body).body
        assert 1 == body.closed

    def test_a_body_that_fails_is_closed_once(self) -> None:
        """Before the first byte, or after."""

        def parts() -> Iterator[bytes]:
            yield fail(RuntimeError("a body that fails"))

        body = Body(parts())
        answer = self.served(body)
        assert (RuntimeError, 1) == (type(answer.error), body.closed)

    def test_a_body_that_a_503_replaces_is_closed_once(self) -> None:
        """Though nothing of it was sent."""
        flaky = Flaky()
        flaky.down = {"create"}
        body = Body([b"one"])

        assert 503 == self.served(body, flaky=flaky).status
        assert 1 == body.closed

    def test_a_file_that_a_503_replaces_is_closed_once(self) -> None:
        """The server never sees it, so nobody else can."""
        flaky = Flaky()
        flaky.down = {"create"}
        file = File([b"one"])

        assert 503 == self.served(file, flaky=flaky).status
        assert 1 == file.closed

    def test_a_file_whose_commit_is_refused_is_closed_once(self) -> None:
        """The error goes to the server, the file nowhere."""
        file = File([b"one"])
        answer = self.served(file, "x" * 70_000)

        assert ("SessionTooLarge", 1) == (type(answer.error).__name__, file.closed)

    def test_a_client_that_goes_closes_the_body(self) -> None:
        """In the middle, without an error of ours."""
        body = Body([b"one", b"two"])

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
            environ["coatcheck.session"]["cart"] = []
            start_response("200 OK", PLAIN)
            return body

        returned: Any = bare(app, sessions_over())(wsgi_environ(), Server())
        assert b"one" == next(iter(returned))
        returned.close()

        assert 1 == body.closed


class File(Body):
    """What a server's `wsgi.file_wrapper` is: a class."""


class TestTwice:
    """Two middlewares over the same sessions: around an app, and around a part of it."""

    def test_the_inner_one_leaves_the_session_to_the_outer_one(self) -> None:
        """So what was written between them, and a login inside, go out in one cookie."""
        sessions = sessions_over()
        inner = behind(doing(lambda session: session.login("user:42")), sessions)

        def between(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            environ["coatcheck.session"]["a"] = 1
            return inner(environ, start_response)

        answer = ask(behind(between, sessions))
        assert 1 == len(answer.cookies)
        assert ("user:42", {"a": 1}) == stored(sessions, cookie_of(answer))

    def test_other_sessions_are_opened(self) -> None:
        """With a cookie of their own, and in the place of the outer ones."""
        sessions, others = sessions_over(), sessions_over(cookie=Cookie("part"))
        answer = ask(behind(behind(doing(put("a", 1)), others), sessions))

        assert (None, {"a": 1}) == stored(others, cookie_of(answer))

    def test_an_environ_that_is_used_again_is_another_request(self) -> None:
        """Something outside may call the app twice, to try again."""
        sessions = sessions_over()
        app, environ = behind(doing(put("a", 1)), sessions), wsgi_environ()
        answers = [wsgi_call(app, environ) for _ in range(2)]

        assert [(200, 1, None)] * 2 == [(a.status, len(a.cookies), a.error) for a in answers]


class TestWrite:
    """The old way to answer, which PEP 3333 still demands."""

    def writing(self, *acts: Act) -> "WSGIApplication":
        """An app that writes a byte between each two of these."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            write = start_response("200 OK", PLAIN)
            for number, act in enumerate(acts):
                if number:
                    write(b"%d" % number)
                act(environ["coatcheck.session"])
            return [b"end"]

        return app

    def test_the_first_write_commits(self) -> None:
        """What came before it is stored, with its cookie."""
        sessions = sessions_over()
        answer = ask(behind(self.writing(put("a", 1), lambda session: None), sessions))

        assert b"1end" == answer.body
        assert (None, {"a": 1}) == stored(sessions, cookie_of(answer))

    def test_a_change_after_a_write_raises(self) -> None:
        """The head is out."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        app = self.writing(lambda session: session.subject, put("a", 1))
        answer = ask(behind(app, sessions), cookie)

        assert (b"1", SessionClosed) == (answer.body, type(answer.error))
        assert ("user:42", {}) == stored(sessions, cookie)

    def test_an_outage_at_the_first_write_is_503(self) -> None:
        """With our body and no other."""
        flaky = Flaky()
        flaky.down = {"create"}
        answer = ask(behind(self.writing(put("a", 1), lambda s: None), sessions_over(flaky)))

        assert (503, b"503\n", None) == (answer.status, answer.body, answer.error)

    def test_what_an_app_still_writes_after_the_503_is_dropped(self) -> None:
        """Also by an app that goes on after every error."""
        flaky = Flaky()
        flaky.down = {"create"}

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            environ["coatcheck.session"]["a"] = 1
            write = start_response("200 OK", PLAIN)
            for part in (b"one", b"two"):
                try:
                    write(part)
                except Exception:  # noqa: BLE001 - that is the point
                    continue
            return [b"end"]

        answer = ask(behind(app, sessions_over(flaky)))
        assert (503, b"503\n") == (answer.status, answer.body)


class TestStartResponseTwice:
    def test_with_exc_info_before_the_first_byte_the_second_counts(self) -> None:
        """An error page takes the place of the page, and law 9 goes by its status."""
        sessions = sessions_over()

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            environ["coatcheck.session"]["a"] = 1
            start_response("200 OK", PLAIN)
            try:
                raise RuntimeError("a view that fails")
            except RuntimeError:
                start_response("500 Error", PLAIN, sys.exc_info())
            yield b"sorry"

        answer = ask(behind(app, sessions))
        assert (500, b"sorry", []) == (answer.status, answer.body, answer.cookies)

    def test_with_exc_info_after_the_first_byte_the_server_raises_it(self) -> None:
        """The head is out, and the server knows best."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            yield b"one"
            try:
                raise RuntimeError("a view that fails")
            except RuntimeError:
                start_response("500 Error", PLAIN, sys.exc_info())
            yield b"sorry"

        sent: list[bytes] = []

        def start_response(status: str, headers: Any, exc_info: Any = None, /) -> Any:
            if exc_info and sent:
                raise exc_info[1]
            return sent.append

        returned: Any = bare(app, sessions_over())(wsgi_environ(), start_response)
        with pytest.raises(RuntimeError, match="a view that fails"):
            sent.extend(returned)
        returned.close()

    def test_without_exc_info_it_is_the_apps_error(self) -> None:
        """PEP 3333 calls it fatal, so it is not covered up."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            start_response("200 OK", PLAIN)
            start_response("404 Not Found", PLAIN)
            return [b""]

        answer = wsgi_call(bare(app, sessions_over()), wsgi_environ())
        assert AssertionError is type(answer.error)


class TestErrors:
    def failing(self, *, late: bool) -> "WSGIApplication":
        """A generator that fails before its first byte, or after."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            environ["coatcheck.session"]["a"] = 2
            start_response("200 OK", PLAIN)
            if late:
                yield b"one"
            yield fail(RuntimeError("a view that fails"))

        return app

    def test_before_the_first_byte_it_drops_the_edits(self) -> None:
        """No head was sent, so the server can still answer 500."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)
        answer = ask(behind(self.failing(late=False), sessions), cookie)

        assert (500, [], RuntimeError) == (answer.status, answer.headers, type(answer.error))
        assert ("user:42", {"a": 1}) == stored(sessions, cookie)

    def test_a_body_that_fails_before_its_first_step_is_an_error(self) -> None:
        """As `__iter__` may: with `current()` at hand, and an outage is 503 there too."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        class Asking:
            def __iter__(self) -> Iterator[bytes]:
                return iter([str(current().subject).encode()])

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
            start_response("200 OK", PLAIN)
            return Asking()

        environ = wsgi_environ(HTTP_COOKIE=cookie)
        assert 503 == wsgi_call(bare(app, sessions), environ).status
        flaky.down = set()
        assert b"user:42" == wsgi_call(bare(app, sessions), environ).body

    @pytest.mark.parametrize("lazy", [False, True])
    def test_what_is_no_exception_keeps_a_logout_too(self, lazy: bool) -> None:
        """Such as a worker's time limit, or gevent's."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        class TimeLimit(BaseException):
            """What servers raise into a view."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            environ["coatcheck.session"].logout()
            environ["coatcheck.session"]["a"] = 1
            start_response("200 OK", PLAIN)
            yield from [] if lazy else [b""]
            raise TimeLimit

        def eager(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            return list(app(environ, start_response))

        with pytest.raises(TimeLimit):
            wsgi_call(bare(app if lazy else eager, sessions), wsgi_environ(HTTP_COOKIE=cookie))
        assert (None, {}) == stored(sessions, cookie)

    def test_an_app_that_never_starts_a_response_keeps_a_logout(self) -> None:
        """What it returns is for the server to complain about."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            environ["coatcheck.session"].logout()
            return [b"one"]

        wsgi_call(bare(app, sessions), wsgi_environ(HTTP_COOKIE=cookie))
        assert (None, {}) == stored(sessions, cookie)

    def test_after_the_first_byte_the_edits_are_stored(self) -> None:
        """The client was told so."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)
        answer = ask(behind(self.failing(late=True), sessions), cookie)

        assert (200, b"one", RuntimeError) == (answer.status, answer.body, type(answer.error))
        assert ("user:42", {"a": 2}) == stored(sessions, cookie)

    @pytest.mark.parametrize("late", [False, True])
    def test_a_generator_that_fails_keeps_a_logout(self, late: bool) -> None:
        """Called, or on the way to its first byte."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            if late:
                start_response("200 OK", PLAIN)
            environ["coatcheck.session"].logout()
            yield fail(RuntimeError("a view that fails"))

        ask(behind(app, sessions), cookie)
        assert (None, {}) == stored(sessions, cookie)

    def test_a_generator_whose_commit_is_refused_keeps_a_logout(self) -> None:
        """The error is met at its first byte."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            environ["coatcheck.session"].logout()
            environ["coatcheck.session"]["farewell"] = "x" * 70_000
            yield b"bye"

        answer = ask(behind(app, sessions), cookie)
        assert "SessionTooLarge" == type(answer.error).__name__
        assert (None, {}) == stored(sessions, cookie)

    def test_a_generator_of_5xx_drops_its_edits(self) -> None:
        """What it changed before its first byte goes by the status."""
        sessions = sessions_over()
        cookie = logged_in(sessions, a=1)

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("500 Error", PLAIN)
            environ["coatcheck.session"]["a"] = 2
            yield b"sorry"

        ask(behind(app, sessions), cookie)
        assert ("user:42", {"a": 1}) == stored(sessions, cookie)


class TestOutage:
    @pytest.fixture
    def flaky(self) -> Flaky:
        return Flaky()

    def test_a_generator_that_meets_it_before_the_first_byte(self, flaky: Flaky) -> None:
        """Its 200 was not sent yet, so the answer is 503."""
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            yield b""
            yield str(environ["coatcheck.session"].subject).encode()

        answer = ask(behind(app, sessions), cookie)
        assert (503, b"503\n", None) == (answer.status, answer.body, answer.error)
        assert ("5", []) == (answer["retry-after"], answer.cookies)

    def test_a_503_is_the_only_error(self, flaky: Flaky) -> None:
        """A value changed in place before the outage was met raises nothing at the end."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=[])

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            environ["coatcheck.session"]["cart"].append("tea")
            yield fail(StoreUnavailable("expected an answer, got none"))

        answer = ask(behind(app, sessions), cookie)
        assert (503, None) == (answer.status, answer.error)

    def test_after_the_first_byte_it_is_an_error_like_any_other(self) -> None:
        """There is no status left to change."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
            start_response("200 OK", PLAIN)
            yield b"one"
            raise StoreUnavailable("expected an answer, got none")

        answer = ask(behind(app, sessions_over()))
        assert (200, StoreUnavailable) == (answer.status, type(answer.error))

    def test_the_frameworks_own_500_is_replaced(self, flaky: Flaky) -> None:
        """An app that turns every error into its page."""
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            try:
                subject = environ["coatcheck.session"].subject
            except Exception:  # noqa: BLE001 - as frameworks do
                start_response("500 Error", PLAIN)
                return [b"sorry"]
            start_response("200 OK", PLAIN)
            return [str(subject).encode()]

        answer = ask(behind(app, sessions), cookie)
        assert (503, b"503\n") == (answer.status, answer.body)

    @pytest.mark.parametrize("status", [200, 503])
    def test_an_app_that_handles_it_is_left_alone(self, flaky: Flaky, status: int) -> None:
        """Its page and its status, also where that is a 503 of its own."""
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            try:
                _ = environ["coatcheck.session"].subject
            except StoreUnavailable:
                start_response(f"{status} Sorry", PLAIN)
            return [b"a page of our own"]

        answer = ask(behind(app, sessions), cookie)
        assert (status, b"a page of our own") == (answer.status, answer.body)

    def test_contention_is_503_too(self) -> None:
        """Nothing was written, and the client tries again."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            raise Contention("expected a save, got none")

        assert 503 == ask(behind(app, sessions_over())).status

    def test_a_503_to_a_head_request_has_no_body(self, flaky: Flaky) -> None:
        """But the length that it would have."""
        flaky.down = {"create"}
        answer = ask(behind(doing(put("a", 1)), sessions_over(flaky)), REQUEST_METHOD="HEAD")

        assert (503, b"", "4") == (answer.status, answer.body, answer["content-length"])


class TestHead:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_a_head_request_has_the_headers_of_its_get(self, lazy: bool) -> None:
        """Cookie, Vary and Cache-Control, whether its empty body is a list or comes in parts."""

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            environ["coatcheck.session"]["a"] = 1
            start_response("200 OK", PLAIN)
            return iter([]) if lazy else []

        answer = ask(behind(app, sessions_over()), REQUEST_METHOD="HEAD")
        assert ("Cookie", "no-store") == (answer["vary"], answer["cache-control"])
        assert 1 == len(answer.cookies)


class TestNamed:
    def test_each_is_at_its_place(self) -> None:
        """In the environ and by `current`, each with a cookie and a life of its own."""
        main, prefs = sessions_over(), sessions_over(cookie=Cookie("prefs"))

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            environ["coatcheck.session"]["a"] = 1
            environ["coatcheck.sessions"]["prefs"]["b"] = 2
            assert environ["coatcheck.session"] is current()
            assert environ["coatcheck.sessions"]["prefs"] is current("prefs")
            start_response("200 OK", PLAIN)
            return [b""]

        answer = ask(behind(app, main, named={"prefs": prefs}))
        header = "; ".join(cookie.partition(";")[0] for cookie in answer.cookies)
        assert [(None, {"a": 1}), (None, {"b": 2})] == [stored(s, header) for s in (main, prefs)]

    @pytest.mark.parametrize("verb", ["load", "save"])
    def test_a_logout_is_kept_although_the_other_is_out(self, verb: str) -> None:
        """Law 9: a 503 is an error, which keeps what can be ended, and says so."""
        flaky = Flaky()
        main = sessions_over(flaky)
        prefs = sessions_over(cookie=Cookie("prefs"), clear_site_data=("cache",))
        mine, theirs = logged_in(main), logged_in(prefs)
        flaky.down = {verb}

        def leave(session: Session) -> None:
            current("prefs").logout()
            session["a"] = 1

        answer = ask(behind(doing(leave), main, named={"prefs": prefs}), f"{mine}; {theirs}")
        assert (503, '"cache"') == (answer.status, answer["clear-site-data"])
        assert (None, {}) == stored(prefs, theirs)

    def test_two_of_one_cookie_are_refused(self) -> None:
        """One would overwrite the other in the browser, at every answer."""
        with pytest.raises(ConfigurationError, match="cookie"):
            bare(doing(put("a", 1)), sessions_over(), named={"prefs": sessions_over()})

    @pytest.mark.parametrize("place", ["first", "named"])
    def test_asynchronous_sessions_are_refused(self, place: str) -> None:
        """At construction, with what to make instead."""
        wrong: Any = AsyncSessions(AsyncMemoryStore())
        main, named = (wrong, {}) if place == "first" else (sessions_over(), {"prefs": wrong})
        with pytest.raises(ConfigurationError, match=r"got AsyncSessions.*Sessions\(store\)"):
            bare(doing(put("a", 1)), main, named=named)


class TestSkip:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/health", False),
            ("/static/a/b", False),
            ("/static", True),
            ("/static/../admin", True),
            ("/static//admin", True),
            ("/bücher/1".encode().decode("latin-1"), False),
            ("", True),
        ],
    )
    def test_patterns(self, path: str, expected: bool) -> None:
        """Of paths as they are meant: PEP 3333 hands UTF-8 over as if it were Latin-1."""
        found: list[bool] = []

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            found.append("coatcheck.session" in environ)
            start_response("200 OK", PLAIN)
            return [b""]

        skipping = behind(app, sessions_over(), skip=["/health", "/static/*", "/bücher/*"])
        parts = {"SCRIPT_NAME": "/mounted"} if not path else {}
        ask(skipping, PATH_INFO=path, **parts)
        assert [expected] == found

    def test_nothing_is_opened(self) -> None:
        """The store is not asked, and `current` says why."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.calls.clear()

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            with pytest.raises(LookupError, match="skip="):
                current()
            start_response("200 OK", PLAIN)
            return [b""]

        answer = ask(behind(app, sessions, skip=["/*"]), cookie)
        assert (None, []) == (answer.error, flaky.calls)


class TestClientOption:
    def listed(self, sessions: Sessions) -> list[Client]:
        return [info.client for info in sessions.list_for("user:42")]

    def test_by_default_it_is_the_peer(self) -> None:
        """Its address, and the User-Agent that it named; forwarded headers are not parsed."""
        sessions = sessions_over()
        app = behind(doing(lambda session: session.login("user:42")), sessions)
        ask(app, HTTP_USER_AGENT="Mozilla/5.0", HTTP_X_FORWARDED_FOR="198.51.100.1")

        assert [Client("203.0.113.9", "Mozilla/5.0")] == self.listed(sessions)

    def test_a_function_of_the_environ_may_say_it(self) -> None:
        """It is asked only where a session is stored."""
        sessions = sessions_over()
        asked_for: list[str] = []

        def client(environ: "WSGIEnvironment") -> Client:
            asked_for.append(environ["PATH_INFO"])
            return Client("kiosk 7", None)

        enter = behind(doing(lambda s: s.login("user:42")), sessions, client=client)
        ask(enter, PATH_INFO="/login")
        ask(behind(doing(lambda s: s.subject), sessions, client=client), PATH_INFO="/read")

        assert ([Client("kiosk 7", None)], ["/login"]) == (self.listed(sessions), asked_for)


SEVERAL: dict[str, Any] = {"wsgi.multiprocess": True}


class TestMultiprocess:
    def test_a_store_of_one_process_warns_once(self) -> None:
        """Where the server says that there are several."""
        app = bare(doing(put("a", 1)), sessions_over())
        with pytest.warns(RuntimeWarning, match="several"):
            ask(app, **SEVERAL)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert None is ask(app, **SEVERAL).error

    def test_a_shared_store_does_not_warn(self) -> None:
        """Nor does one process."""

        class Shared(MemoryStore):
            shared = True

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answers = [
                ask(bare(doing(put("a", 1)), sessions_over(Shared())), **SEVERAL),
                ask(bare(doing(put("a", 1)), sessions_over())),
            ]
        assert [None, None] == [answer.error for answer in answers]


class Swept(MemoryStore):
    """A store that tells when it is swept."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()
        self.threads: set[threading.Thread] = set()

    def sweep(self, limit: int, now: int) -> int:
        self.threads.add(threading.current_thread())
        self.event.set()
        return super().sweep(limit, now)


def sweepers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "sweeper" in thread.name}


class TestSweeping:
    def test_a_daemon_thread_sweeps_from_the_first_request_on(self) -> None:
        """Not before it: a server may fork in between. It does not keep the process alive."""
        store, before = Swept(), sweepers()
        app = SessionMiddleware(doing(put("a", 1)), sessions_over(store), sweep=0.001)
        assert before == sweepers()
        ask(app)
        ask(app)

        assert store.event.wait(PATIENCE)
        assert [True] == [thread.daemon for thread in sweepers() - before]
        for sweeper in app._upkeep.sweepers:
            sweeper.stop()

    def test_it_stops_when_told(self) -> None:
        """The thread ends."""
        store = Swept()
        sweeper = Sweeper(sessions_over(store), every=0.001)
        sweeper.start()
        assert store.event.wait(PATIENCE)
        sweeper.stop()
        for thread in store.threads:
            thread.join(PATIENCE)

        assert [False] == [thread.is_alive() for thread in store.threads]

    def test_none_leaves_sweeping_to_the_site(self) -> None:
        """No thread is started."""
        before = sweepers()
        ask(behind(doing(put("a", 1)), sessions_over()))

        assert before == sweepers()
