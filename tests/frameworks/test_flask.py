"""Flask's adapter: what it adds to the laws, which `test_outside_laws` runs through it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from typing import Any, cast

import flask
import pytest
from flask import Blueprint, Flask, Response, g
from flask.sessions import SessionMixin
from flask_wtf import FlaskForm  # type: ignore[import-untyped]
from flask_wtf.csrf import CSRFProtect, generate_csrf  # type: ignore[import-untyped]
from markupsafe import Markup
from werkzeug.middleware.proxy_fix import ProxyFix

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Cookie,
    Lifetime,
    Session,
    SessionClosed,
    Sessions,
    StoreUnavailable,
    UnsupportedValue,
    current,
)
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web.flask import (
    CoatcheckSessionInterface,
    login_required,
    require_login,
    setup_csrf,
)
from tests.outside import PATIENCE, wsgi_call, wsgi_environ
from tests.test_laws import Flaky
from tests.test_wsgi import Swept, sweepers

Act = Callable[[Session], object]
DAY = 86_400


class Site:
    """An app with our interface, a view that does what a test says, and a browser."""

    def __init__(self, store: MemoryStore | None = None, **options: Any) -> None:
        settings = {name: options.pop(name) for name in list(options) if name.isupper()}
        ours = {name: options.pop(name) for name in ("named", "skip", "client") if name in options}
        self.clock = Clock()
        self.sessions = Sessions(store or MemoryStore(), clock=self.clock, **options)
        self.app = Flask(__name__)
        self.app.config.update(settings)
        self.app.logger.disabled = True
        self.app.session_interface = CoatcheckSessionInterface(self.sessions, sweep=None, **ours)
        self.app.add_url_rule("/", view_func=self._view)
        self.act: Act = lambda session: None
        self.client = self.app.test_client()

    def _view(self) -> Any:
        session: Any = flask.session
        answer = self.act(session)
        return "ok" if answer is None else answer

    def visit(self, act: Act = lambda session: None, path: str = "/", **more: Any) -> Any:
        self.act = act
        return self.client.get(path, **more)

    def login(self) -> None:
        login(self.client, self.sessions, "user:42")

    @property
    def stored(self) -> Session:
        """The session that the store holds under the browser's cookie."""
        cookie = self.client.get_cookie(self.sessions.cookie.full_name)
        return self.sessions.open(f"{cookie.key}={cookie.value}" if cookie else None)

    def records(self) -> list[Any]:
        return cast("MemoryStore", self.sessions._store).page("", 100, int(self.clock() * 1000))


@pytest.fixture
def site() -> Site:
    return Site()


def put(key: str, value: Any) -> Act:
    return lambda session: session.__setitem__(key, value)


def enter(session: Session) -> None:
    session.login("user:42")


def leave(session: Session) -> None:
    session.logout()


def in_turn(*acts: Act) -> Act:
    """One after another, in one request."""

    def act(session: Session) -> None:
        for each in acts:
            each(session)

    return act


def permanent(session: Session) -> None:
    cast("Any", session).permanent = True


class TestTheSession:
    def test_it_is_current_and_a_session_of_both_kinds(self, site: Site) -> None:
        """One object: flask.session, current(), a Session and a SessionMixin."""
        found: list[Any] = []
        site.visit(lambda session: found.extend([current(), session._get_current_object()]))  # type: ignore[attr-defined]

        assert found[0] is found[1]
        assert isinstance(found[0], Session)
        assert isinstance(found[0], SessionMixin)

    def test_it_can_be_committed_early(self, site: Site) -> None:
        """Under the name that Flask's users have for it."""

        def commit(session: Session) -> None:
            session["a"] = 1
            site.sessions.commit(session)
            assert 1 == len(site.records())
            raise RuntimeError

        assert 500 == site.visit(commit).status_code
        assert 1 == len(site.records())

    def test_new_and_modified_say_what_is_so(self, site: Site) -> None:
        """Before a change and after it, and in the next request."""
        seen: list[tuple[bool, bool]] = []

        def look(session: Any) -> None:
            seen.append((session.new, session.modified))

        site.visit(in_turn(look, put("a", []), look))
        site.visit(in_turn(look, lambda session: session["a"].append(1), look))

        assert [(True, False), (True, True), (False, False), (False, True)] == seen

    def test_a_logout_modifies(self, site: Site) -> None:
        """Also where nothing is left to be stored."""

        def go(session: Any) -> str:
            session.logout()
            return str(session.modified)

        site.login()
        assert "True" == site.visit(go).text

    @pytest.mark.parametrize("value", [True, False])
    def test_modified_may_be_set(self, site: Site, value: bool) -> None:
        """It is not needed, and cannot take a change away."""

        def change(session: Any) -> None:
            session["a"] = 1
            session.modified = value

        site.visit(change)
        assert {"a": 1} == dict(site.stored)

    def test_modified_stays_true(self, site: Site) -> None:
        """For a test that looks at the session when the response is there."""
        with site.client:
            site.visit(put("a", 1))
            assert flask.session.modified
            site.visit(lambda session: session["a"])
            assert not flask.session.modified

    def test_accessed_is_about_its_content(self, site: Site) -> None:
        """Naming flask.session is no use of it, whatever Flask notes down."""

        def name(session: Any) -> str:
            session.permanent = True
            return str(session.accessed)

        answer = site.visit(name)
        assert ("False", None) == (answer.text, answer.headers.get("Vary"))

    def test_values_are_kept_exactly(self, site: Site) -> None:
        """What Flask's own JSON does not: a tuple in a list, a set, markup."""
        kept = [(1, 2), {3}, Markup("<b>"), b"\xff"]
        site.visit(put("kept", kept))
        found: list[Any] = []
        site.visit(lambda session: found.extend(session["kept"]))

        assert (kept, Markup) == (found, type(found[2]))

    def test_what_cannot_be_kept_is_refused_where_it_is_assigned(self, site: Site) -> None:
        """With the name of the key."""

        def assign(session: Session) -> str:
            with pytest.raises(UnsupportedValue, match=r"session\['a'\]"):
                session["a"] = object()
            return "refused"

        assert "refused" == site.visit(assign).text

    def test_clear_of_a_logged_in_session_is_logout(self, site: Site) -> None:
        """As Flask's users log out."""
        site.visit(enter)
        site.visit(lambda session: session.clear())

        assert [] == site.records()

    def test_after_request_functions_may_change_it(self, site: Site) -> None:
        """It is committed when all of them are through."""

        @site.app.after_request
        def count(response: Response) -> Response:
            current().edit("answers", lambda n: n + 1, default=0)
            return response

        site.visit()
        site.visit()
        assert {"answers": 2} == dict(site.stored)

    def test_teardown_comes_too_late(self, site: Site) -> None:
        """The response is made, so a change raises."""
        raised: list[BaseException] = []

        @site.app.teardown_request
        def change(error: BaseException | None) -> None:
            try:
                current()["late"] = 1
            except SessionClosed as closed:
                raised.append(closed)

        site.visit()
        assert [SessionClosed] == [type(error) for error in raised]

    def test_a_second_context_has_a_session_of_its_own(self, site: Site) -> None:
        """As one that a view makes of the same environ; the request's is committed all the same."""

        def act(session: Session) -> str:
            session["outer"] = 1
            with site.app.request_context(flask.request.environ):
                flask.session["inner"] = current() is not session
            return str(current()["outer"])

        assert "1" == site.visit(act).text
        assert {"outer": 1} == dict(site.stored)

    def test_an_async_view_has_it(self, site: Site) -> None:
        """Flask runs it in a loop of its own."""

        @site.app.get("/async")
        async def view() -> str:
            current()["a"] = 1
            return str(flask.session["a"])

        assert "1" == site.client.get("/async").text
        assert {"a": 1} == dict(site.stored)


class TestPermanent:
    @pytest.mark.parametrize("acts", [(permanent, enter), (enter, permanent)])
    def test_it_makes_a_login_a_remembered_one(self, site: Site, acts: tuple[Act, Act]) -> None:
        """Set before it or after it."""
        cookie = site.visit(in_turn(*acts)).headers["Set-Cookie"]

        assert f"Max-Age={30 * DAY};" in cookie

    @pytest.mark.parametrize(("remember", "days"), [(True, 30), (False, 1)])
    def test_false_takes_it_back(self, site: Site, remember: bool, days: int) -> None:
        """And not what the login itself asked for."""

        def act(session: Any) -> None:
            session.permanent = True
            session.login("user:42", remember=remember)
            session.permanent = False

        assert f"Max-Age={days * DAY};" in site.visit(act).headers["Set-Cookie"]
        assert {} == dict(site.stored)

    def test_it_can_be_read(self, site: Site) -> None:
        """As wished for in this request, and as the login had it in the next ones."""
        read: list[bool] = []

        def look(session: Any) -> None:
            read.append(session.permanent)

        site.visit(in_turn(look, permanent, look, enter, look))
        site.visit(look)
        site.visit(in_turn(enter, look))
        site.visit(look)
        assert [False, True, True, True, False, False] == read

    def test_after_the_response_it_raises(self, site: Site) -> None:
        """As any other change."""
        with site.client:
            site.visit()
            with pytest.raises(SessionClosed):
                flask.session.permanent = True

    def test_for_every_visitor_it_creates_no_session(self, site: Site) -> None:
        """A before_request function that sets it is widespread."""

        @site.app.before_request
        def for_all() -> None:
            flask.session.permanent = True

        answer = site.visit()
        assert ([], None) == (site.records(), answer.headers.get("Vary"))

    def test_without_a_login_it_is_warned_about_once(self, site: Site) -> None:
        """How long that session lives is said by Lifetime."""
        act = in_turn(permanent, put("a", 1))
        with pytest.warns(RuntimeWarning, match=r"session\.permanent: expected .*Lifetime"):
            site.visit(act)

        assert 200 == site.visit(act).status_code

    def test_where_all_live_as_long_there_is_nothing_to_warn_about(self) -> None:
        """Remembered or not."""
        site = Site(lifetime=Lifetime(idle=None, absolute=30 * DAY))

        assert 200 == site.visit(in_turn(permanent, put("a", 1))).status_code


class TestMessages:
    def test_flash_and_get_flashed_messages(self, site: Site) -> None:
        """Once, with category, markup as markup."""

        def write(session: Session) -> None:
            flask.flash("Saved", "success")
            flask.flash(Markup("<b>really</b>"))

        def read(session: Session) -> None:
            found.append(flask.get_flashed_messages(with_categories=True))

        found: list[Any] = []
        site.visit(write)
        site.visit(read)
        site.visit(read)

        assert [[("success", "Saved"), ("message", Markup("<b>really</b>"))], []] == found
        assert Markup is type(found[0][1][1])

    def test_ours_and_theirs_are_the_same(self, site: Site) -> None:
        """What session.flash left, get_flashed_messages finds, and the other way round."""
        found: list[Any] = []
        site.visit(lambda session: session.flash("ours", "info"))
        site.visit(lambda session: found.extend(flask.get_flashed_messages()))
        site.visit(lambda session: flask.flash("theirs"))
        site.visit(lambda session: found.extend(session.flashes()))

        assert ["ours", ("theirs", "message")] == found

    def test_two_at_once_lose_none(self, site: Site) -> None:
        """Flask assigns a whole list; each request's own messages are added."""
        site.visit(put("a", 1))

        def write(session: Session) -> None:
            flask.flash("outer")
            other = site.app.test_client()
            cookie = site.client.get_cookie("__Host-session")
            assert cookie is not None
            other.set_cookie(cookie.key, cookie.value)
            site.act = lambda session: flask.flash("inner")
            other.get("/")

        site.visit(write)
        assert {"outer", "inner"} == {message.text for message in site.stored.flashes()}

    def test_a_category_is_any_text(self, site: Site) -> None:
        """Also the one by which we mark what is no plain text."""
        found: list[Any] = []
        site.visit(lambda session: flask.flash("Saved", "\0info"))
        site.visit(lambda session: found.extend(flask.get_flashed_messages(True)))

        assert [("\0info", "Saved")] == found

    def test_a_lazy_translation_is_kept_as_it_reads_now(self, site: Site) -> None:
        """Whatever has __html__, as Flask's own sessions keep it."""

        class Lazy:
            def __html__(self) -> str:
                return "bonjour"

        found: list[Any] = []
        site.visit(lambda session: flask.flash(cast("str", Lazy())))
        site.visit(lambda session: found.extend(flask.get_flashed_messages()))

        assert [Markup("bonjour")] == found

    def test_the_list_can_be_replaced_and_deleted(self, site: Site) -> None:
        """As an extension may treat it."""

        def replace(session: Session) -> None:
            flask.flash("first")
            session["_flashes"] = [("info", "second")]

        found: list[Any] = []
        site.visit(replace)
        site.visit(lambda session: found.append(session["_flashes"]))
        site.visit(lambda session: session.__delitem__("_flashes"))
        site.visit(lambda session: found.append("_flashes" in session))

        assert [[("info", "second")], False] == found

    def test_without_messages_there_is_no_such_key(self, site: Site) -> None:
        """Reading and deleting raise as for any other."""

        def look(session: Session) -> str:
            for verb in (session.__getitem__, session.__delitem__):
                with pytest.raises(KeyError):
                    verb("_flashes")
            return str(session.get("_flashes"))

        assert "None" == site.visit(look).text


def failing(session: Session) -> None:
    raise RuntimeError("a view that fails")


MODES: list[dict[str, Any]] = [
    {"PROPAGATE_EXCEPTIONS": False},
    {"TESTING": True},
    {"DEBUG": True},
    {"PROPAGATE_EXCEPTIONS": True},
]


@pytest.fixture(params=MODES, ids=lambda mode: next(iter(mode.items())))
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    return cast("dict[str, Any]", request.param)


class TestErrors:
    def test_an_outage_is_503_in_every_mode(self, mode: dict[str, Any]) -> None:
        """Met by reading, by a view that wraps the error, and by the commit."""
        store = Flaky()
        site = Site(store, **mode)
        site.visit(enter)

        def wrap(session: Session) -> None:
            try:
                _ = session.subject
            except StoreUnavailable as error:
                raise RuntimeError("wrapped") from error

        for down, act in [("load", lambda s: s.subject), ("load", wrap), ("save", put("a", 1))]:
            store.down = {down}
            answer = site.visit(act)
            assert (503, "503\n", True) == (
                answer.status_code,
                answer.text,
                "Retry-After" in answer.headers and "Set-Cookie" not in answer.headers,
            )

    def test_a_logout_is_kept_in_every_mode(self, mode: dict[str, Any]) -> None:
        """And nothing else."""
        site = Site(**mode)
        site.visit(enter)

        act = in_turn(leave, put("after", 1), failing)
        if mode == MODES[0]:
            assert 500 == site.visit(act).status_code
        else:
            with pytest.raises(RuntimeError, match="a view that fails"):
                site.visit(act)
        assert [] == site.records()

    @pytest.mark.parametrize("wanted", [SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_a_logout_is_kept_by_what_is_no_error(self, wanted: type[BaseException]) -> None:
        """A worker that is told to stop, or runs out of time."""
        site = Site()
        site.login()

        def stop(session: Session) -> None:
            raise wanted

        with pytest.raises(wanted):
            site.visit(in_turn(leave, put("after", 1), stop))

        assert [] == site.records()

    def test_a_500_page_for_any_error_hides_no_outage(self) -> None:
        """One that the app met by an early commit."""
        store = Flaky()
        site = Site(store)
        site.login()
        site.app.register_error_handler(Exception, lambda error: ("sorry", 500))
        assert "sorry" == site.visit(failing).text
        store.down = {"save"}

        answer = site.visit(in_turn(put("a", 1), lambda s: site.sessions.commit(current())))
        assert (503, True) == (answer.status_code, "Retry-After" in answer.headers)

    def test_the_apps_own_answer_to_an_outage_stands(self) -> None:
        """A handler for it that answers 503."""
        store = Flaky()
        site = Site(store)
        site.login()
        site.app.register_error_handler(StoreUnavailable, lambda error: ("later", 503))
        store.down = {"load"}

        assert "later" == site.visit(lambda session: session.subject).text

    def test_a_503_page_for_any_error_is_the_apps_own_too(self) -> None:
        """The page for a 500 may say so."""
        store = Flaky()
        site = Site(store)
        site.login()
        site.app.register_error_handler(500, lambda error: ("later", 503))
        store.down = {"load"}

        assert "later" == site.visit(lambda session: session.subject).text

    def test_an_error_page_can_read_and_change_the_session(self, site: Site) -> None:
        """A layout shows messages, which removes them; that is dropped with the rest."""
        site.login()
        with site.client.session_transaction() as session:
            flash: Any = session
            flash.flash("kept")

        @site.app.errorhandler(500)
        def page(error: Exception) -> tuple[str, int]:
            return f"{flask.get_flashed_messages()} {current().subject}", 500

        assert "['kept'] user:42" == site.visit(failing).text
        assert ["kept"] == [message.text for message in site.stored.flashes()]

    def test_an_error_page_that_answers_200_changes_nothing(self, site: Site) -> None:
        """The error was not handled, whatever the page says."""
        site.app.register_error_handler(500, lambda error: ("fine", 200))

        answer = site.visit(in_turn(enter, failing))
        assert (200, None, []) == (
            answer.status_code,
            answer.headers.get("Set-Cookie"),
            site.records(),
        )

    def test_a_handled_error_commits(self, site: Site) -> None:
        """The app made an answer of it."""
        site.app.register_error_handler(RuntimeError, lambda error: ("sorry", 400))
        site.visit(in_turn(enter, failing))

        assert "user:42" == site.stored.subject

    def test_a_failing_after_request_function_keeps_a_logout(self, site: Site) -> None:
        """Flask answers 500 without saving the session; the cookie goes all the same."""
        site.login()

        @site.app.after_request
        def fail(response: Response) -> Response:
            raise RuntimeError("late")

        answer = site.visit(leave)
        assert (500, []) == (answer.status_code, site.records())
        assert "Max-Age=0" in answer.headers["Set-Cookie"]

    def test_a_logout_that_fails_sends_one_cookie(self, site: Site) -> None:
        """Flask saves the session, and then its error is seen to."""
        site.login()
        answer = site.visit(in_turn(leave, failing))

        assert (500, 1) == (answer.status_code, len(answer.headers.getlist("Set-Cookie")))

    def test_a_failing_error_page_keeps_a_logout(self, site: Site) -> None:
        """Nothing of Flask's is left to answer."""
        site.login()

        @site.app.errorhandler(500)
        def page(error: Exception) -> str:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            site.visit(in_turn(leave, failing))

        assert [] == site.records()

    def test_a_commit_that_is_refused_is_an_error_of_the_apps(self, site: Site) -> None:
        """In place is where it can only be seen at the commit."""
        site.visit(put("a", []))
        site.app.testing = True
        with pytest.raises(UnsupportedValue, match=r"session\['a'\]"):
            site.visit(lambda session: session["a"].append(object()))

    def test_a_file_that_is_not_sent_is_closed(self) -> None:
        """A 503 goes out in its place."""
        store, file = Flaky(), BytesIO(b"a file")
        site = Site(store)

        def send(session: Session) -> Response:
            session["a"] = 1
            store.down = {"create"}
            return flask.send_file(file, "text/plain")

        answer = site.visit(send)
        assert (503, "503\n", True) == (answer.status_code, answer.text, file.closed)


class TestStreaming:
    def test_the_commit_is_before_the_first_part(self, site: Site) -> None:
        """The session can be read, by both names, and a change raises."""

        def stream(session: Session) -> Response:
            session["a"] = 1

            def parts() -> Iterator[str]:
                yield f"{len(site.records())} {flask.session['a']} {current()['a']}"
                with pytest.raises(SessionClosed):
                    current()["late"] = 1
                yield " closed"

            return Response(flask.stream_with_context(parts()))

        assert "1 1 1 closed" == site.visit(stream).text

    def test_what_is_changed_in_place_later_raises_at_the_end(self, site: Site) -> None:
        """It is lost, so it is said."""

        def stream(session: Session) -> Response:
            cart = session["cart"] = ["tea"]

            def parts() -> Iterator[str]:
                cart.append("milk")
                yield "ok"

            return Response(parts())

        answer = site.visit(stream)
        assert "ok" == answer.text
        with pytest.raises(SessionClosed, match=r"session\['cart'\]"):
            answer.close()


class TestTestClients:
    def test_session_transaction_reads_and_writes(self, site: Site) -> None:
        """Before the first request, and after it."""
        with site.client.session_transaction() as session:
            session["a"] = 1
        site.visit(lambda session: put("b", session["a"] + 1)(session))
        with site.client.session_transaction() as session:
            assert {"a": 1, "b": 2} == dict(session)

    def test_session_transaction_can_log_in(self, site: Site) -> None:
        """It is the session whole."""
        with site.client.session_transaction() as session:
            session.login("user:42")  # type: ignore[attr-defined]

        assert "user:42" == site.visit(lambda session: session.subject).text

    def test_a_preserved_context_has_the_session(self, site: Site) -> None:
        """After the request, for a test to look at."""
        with site.client:
            site.visit(put("a", 1))
            assert (1, 1) == (flask.session["a"], current()["a"])
        with pytest.raises(LookupError):
            current()

    def test_a_request_context_by_hand_has_one(self, site: Site) -> None:
        """And it is gone with the context."""
        with site.app.test_request_context("/"):
            assert current() == {}
        with pytest.raises(LookupError):
            current()

    def test_login_of_coatcheck_testing(self, site: Site) -> None:
        """With values."""
        identity = login(site.client, site.sessions, "user:42", values={"a": 1})

        assert "user:42 1" == site.visit(lambda session: f"{session.subject} {session['a']}").text
        assert identity == site.stored.id


class TestOptions:
    def test_named_sessions(self) -> None:
        """Each with its own cookie, by current(name)."""
        prefs = Sessions(MemoryStore(), cookie=Cookie("prefs"), name="prefs")
        site = Site(named={"prefs": prefs})
        site.visit(lambda session: current("prefs").__setitem__("dark", True))

        assert "True" == site.visit(lambda session: str(current("prefs")["dark"])).text
        assert site.client.get_cookie("__Host-session") is None

    def test_skip_opens_nothing(self) -> None:
        """Reading finds nothing, writing says why it cannot."""
        store = Flaky()
        site = Site(store, skip=["/skipped"])
        site.login()
        store.calls.clear()

        @site.app.get("/skipped")
        def skipped() -> str:
            with pytest.raises(LookupError):
                current()
            with pytest.raises(ConfigurationError, match="skip="):
                flask.session["a"] = 1
            return str(flask.session.get("a"))

        assert ("None", []) == (site.client.get("/skipped").text, store.calls)

    def test_the_client_is_the_peer(self, site: Site) -> None:
        """As Werkzeug's ProxyFix leaves it, and its agent."""
        site.app.wsgi_app = ProxyFix(site.app.wsgi_app)  # type: ignore[method-assign]
        site.visit(enter, headers={"X-Forwarded-For": "203.0.113.9", "User-Agent": "Lynx"})
        (info,) = site.sessions.list_for("user:42")

        assert Client("203.0.113.9", "Lynx") == info.client

    def test_client_makes_another(self) -> None:
        """Of Flask's request."""
        site = Site(client=lambda request: Client("somewhere", request.path))
        site.visit(enter)
        (info,) = site.sessions.list_for("user:42")

        assert Client("somewhere", "/") == info.client

    def test_asynchronous_sessions_are_refused(self) -> None:
        """Nobody would await them."""
        sessions: Any = AsyncSessions(AsyncMemoryStore())
        with pytest.raises(
            ConfigurationError, match="CoatcheckSessionInterface: expected Sessions"
        ):
            CoatcheckSessionInterface(sessions)

    def test_a_daemon_thread_sweeps_from_the_first_request_on(self) -> None:
        """Not before it."""
        store, before = Swept(), sweepers()
        app = Flask(__name__)
        interface = CoatcheckSessionInterface(Sessions(store), sweep=0.001)
        app.session_interface = interface
        assert before == sweepers()
        app.test_client().get("/")
        assert store.event.wait(PATIENCE)
        for sweeper in interface._upkeep.sweepers:
            sweeper.stop()

    def test_memory_behind_several_processes_is_warned_about(self, site: Site) -> None:
        """By the interface's own name."""
        with pytest.warns(RuntimeWarning, match="CoatcheckSessionInterface: expected one process"):
            wsgi_call(site.app, wsgi_environ(**{"wsgi.multiprocess": True}))

    def test_extensions_learn_about_the_cookie(self) -> None:
        """By the methods that Flask's own interface has."""
        site = Site(cookie=Cookie("id", domain="site.example", samesite="strict"))
        interface = site.app.session_interface

        assert ("__Secure-id", "site.example", "/", True, True, "Strict", False) == (
            interface.get_cookie_name(site.app),
            interface.get_cookie_domain(site.app),
            interface.get_cookie_path(site.app),
            interface.get_cookie_httponly(site.app),
            interface.get_cookie_secure(site.app),
            interface.get_cookie_samesite(site.app),
            cast("Any", interface).get_cookie_partitioned(site.app),
        )
        with site.app.test_request_context("/"):
            assert interface.get_expiration_time(site.app, flask.session) is None

    def test_one_interface_serves_two_apps(self, site: Site) -> None:
        """The errors of both are followed."""
        other = Flask("other")
        other.config["PROPAGATE_EXCEPTIONS"] = True
        other.session_interface = site.app.session_interface
        other.add_url_rule("/", view_func=site._view)
        site.visit(enter)
        site.act = in_turn(leave, failing)
        client = other.test_client()
        cookie = site.client.get_cookie("__Host-session")
        assert cookie is not None
        client.set_cookie(cookie.key, cookie.value)
        with pytest.raises(RuntimeError):
            client.get("/")

        assert [] == site.records()


SETTINGS: list[tuple[str, Any]] = [
    ("SESSION_COOKIE_NAME", "other"),
    ("SESSION_COOKIE_DOMAIN", "site.example"),
    ("SESSION_COOKIE_PATH", "/app"),
    ("APPLICATION_ROOT", "/app"),
    ("SESSION_COOKIE_HTTPONLY", False),
    ("SESSION_COOKIE_SAMESITE", "Strict"),
    ("SESSION_COOKIE_PARTITIONED", True),
    ("PERMANENT_SESSION_LIFETIME", timedelta(minutes=20)),
    ("PERMANENT_SESSION_LIFETIME", 1200),
]


class TestSettings:
    @pytest.mark.parametrize(("setting", "value"), SETTINGS)
    def test_one_that_has_no_effect_is_warned_about_once(self, setting: str, value: Any) -> None:
        """With what to do."""
        site = Site(**{setting: value})
        with pytest.warns(RuntimeWarning, match=f"{setting}: expected .*take it out"):
            site.visit()

        assert 200 == site.visit().status_code

    def test_secure_without_a_secure_cookie(self) -> None:
        """The one that is stricter than our deliberate choice."""
        site = Site(cookie=Cookie.insecure(), SESSION_COOKIE_SECURE=True)
        with pytest.warns(RuntimeWarning, match="SESSION_COOKIE_SECURE"):
            site.visit()

    def test_one_set_in_a_request_is_met_too(self, site: Site) -> None:
        """As answers on the web advise for time-outs."""

        @site.app.before_request
        def limit() -> None:
            site.app.permanent_session_lifetime = timedelta(minutes=20)

        with pytest.warns(RuntimeWarning, match="PERMANENT_SESSION_LIFETIME"):
            site.visit()

    def test_those_that_agree_are_fine(self) -> None:
        """As are the ones that change nothing here."""
        site = Site(
            cookie=Cookie("id", domain="site.example", samesite="strict", partitioned=False),
            lifetime=Lifetime(idle=1200),
            SESSION_COOKIE_NAME="id",
            SESSION_COOKIE_DOMAIN=".site.example",
            SESSION_COOKIE_SAMESITE="Strict",
            SESSION_COOKIE_SECURE=True,
            SESSION_REFRESH_EACH_REQUEST=False,
            PERMANENT_SESSION_LIFETIME=timedelta(minutes=20),
        )

        assert 200 == site.visit().status_code


def people(subject: str) -> str | None:
    return {"user:42": "Ann"}.get(subject)


class TestGate:
    @pytest.fixture
    def gated(self, site: Site) -> Site:
        gate = LoginGate(public=["/", "/static/*"], user=people)

        @site.app.get("/account")
        @login_required(gate)
        def account() -> str:
            return f"Hello, {g.user}"

        @site.app.get("/async")
        @login_required(gate)
        async def later() -> str:
            return f"Hello, {g.user}"

        inner = Blueprint("inner", __name__, url_prefix="/inner")
        inner.before_request(require_login(gate))
        inner.add_url_rule("/", view_func=lambda: g.user)
        site.app.register_blueprint(inner)
        return site

    @pytest.mark.parametrize("path", ["/account", "/async", "/inner/"])
    def test_a_person_is_sent_to_the_login_page(self, gated: Site, path: str) -> None:
        """With the way back; the answer varies with the cookie."""
        answer = gated.client.get(path, headers={"Accept": "text/html"})

        assert (303, f"/login?next={path}", "Cookie") == (
            answer.status_code,
            answer.headers["Location"],
            answer.headers["Vary"],
        )

    def test_a_script_gets_401(self, gated: Site) -> None:
        """Which it can see."""
        answer = gated.client.get("/account")

        assert (401, "401\n") == (answer.status_code, answer.text)

    @pytest.mark.parametrize("path", ["/account", "/async", "/inner/"])
    def test_the_user_is_in_g(self, gated: Site, path: str) -> None:
        """As the gate's loader made it."""
        gated.visit(enter)

        assert "Ann" in gated.client.get(path).text

    def test_a_user_who_is_gone_is_logged_out(self, gated: Site) -> None:
        """The session ends."""
        gated.visit(lambda session: session.login("user:7"))

        assert (401, []) == (gated.client.get("/account").status_code, gated.records())

    def test_the_whole_app(self, site: Site) -> None:
        """Closed by default, unknown pages too; what is public is open."""
        site.app.before_request(require_login(LoginGate(public=["/"])))

        assert [200, 401] == [site.client.get(path).status_code for path in ("/", "/nowhere")]

    def test_on_a_path_in_skip_it_says_so(self) -> None:
        """Instead of letting everybody in, or nobody."""
        site = Site(skip=["/"], TESTING=True)
        site.app.before_request(require_login(LoginGate()))
        with pytest.raises(ConfigurationError, match="public="):
            site.visit()


class TestCSRF:
    """What `test_outside_csrf` does not see."""

    @pytest.fixture
    def guarded(self, site: Site) -> Site:
        setup_csrf(site.app, CrossOriginProtection(tokens=True))
        site.app.add_url_rule("/post", view_func=lambda: flask.request.form["a"], methods=["POST"])
        return site

    def test_templates_have_the_token(self, guarded: Site) -> None:
        """For the field of its name; a form with a file is one too."""
        field = "<input name=csrf_token value={{ csrf_token() }}>"
        page = guarded.visit(lambda session: flask.render_template_string(field)).text
        token = page.partition("value=")[2].rstrip(">")
        form = {"a": "1", "csrf_token": token}
        file = {"f": (BytesIO(b"x"), "f.txt")}

        assert ["1", "1"] == [
            guarded.client.post("/post", data=form).text,
            guarded.client.post("/post", data=form | file).text,
        ]
        assert 403 == guarded.client.post("/post", data={"a": "1"}).status_code

    def test_it_comes_before_what_was_there_before(self, site: Site) -> None:
        """A login gate says nothing to another site; nor does Flask-WTF lose its global."""
        site.app.before_request(require_login(LoginGate()))
        setup_csrf(site.app, CrossOriginProtection())
        answer = site.client.post("/", headers={"Sec-Fetch-Site": "cross-site"})

        assert (403, "403 Forbidden: cross-origin request\n") == (answer.status_code, answer.text)
        assert "csrf_token" not in site.app.jinja_env.globals

    def test_a_blueprint_can_be_skipped_by_its_path(self, site: Site) -> None:
        """For webhooks."""
        setup_csrf(site.app, CrossOriginProtection(skip=["/hooks/*"]))
        site.app.add_url_rule("/hooks/pay", view_func=lambda: "paid", methods=["POST"])
        answer = site.client.post("/hooks/pay", headers={"Sec-Fetch-Site": "cross-site"})

        assert "paid" == answer.text


class Form(FlaskForm):  # type: ignore[misc]
    """One of Flask-WTF's."""


class TestFlaskWtf:
    def test_its_tokens_work_and_survive_a_login(self) -> None:
        """It keeps a secret in the session, whose values a login keeps."""
        site = Site(SECRET_KEY="secret")
        CSRFProtect(site.app)
        site.app.add_url_rule("/post", view_func=lambda: "posted", methods=["POST"])
        token = site.visit(lambda session: generate_csrf()).text
        headers = {"X-CSRFToken": token}
        assert "posted" == site.client.post("/post", headers=headers).text
        site.visit(enter)

        assert "posted" == site.client.post("/post", headers=headers).text
        assert 400 == site.client.post("/post").status_code

    def test_a_form_of_a_session_that_ended_is_refused(self) -> None:
        """Its secret went with the session."""
        site = Site(SECRET_KEY="secret")
        CSRFProtect(site.app)
        site.app.add_url_rule("/post", view_func=lambda: "posted", methods=["POST"])
        site.visit(enter)
        token = site.visit(lambda session: Form().csrf_token.current_token).text
        site.visit(leave)

        answer = site.client.post("/post", headers={"X-CSRFToken": token})
        assert 400 == answer.status_code
