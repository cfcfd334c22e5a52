"""Quart's adapter: what it adds to the laws, which `test_outside_laws` runs through it.

What it shares with Flask's is tested there: settings, messages, the session's face.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, cast

import pytest
import quart
from markupsafe import Markup
from quart import Blueprint, Quart, Response, g, got_websocket_exception, request, websocket

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Cookie,
    Session,
    SessionClosed,
    Sessions,
    StoreUnavailable,
    current,
)
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web.quart import (
    CoatcheckSessionInterface,
    login_required,
    require_login,
    setup_csrf,
)
from tests.outside import PATIENCE, asgi_scope
from tests.test_laws import Flaky

Act = Callable[[Session], Any]
DAY = 86_400


class Site:
    """An app with our interface, a view that does what a test says, and a browser."""

    def __init__(self, store: MemoryStore | None = None, **options: Any) -> None:
        settings = {name: options.pop(name) for name in list(options) if name.isupper()}
        ours = {name: options.pop(name) for name in ("named", "skip", "client") if name in options}
        self.clock = Clock()
        self.store = store or MemoryStore()
        self.sessions = AsyncSessions(AsyncMemoryStore(self.store), clock=self.clock, **options)
        self.inside = Sessions(self.store, clock=self.clock)
        self.app = Quart(__name__)
        self.app.config.update(settings)
        self.app.logger.disabled = True
        interface: Any = CoatcheckSessionInterface(self.sessions, sweep=None, **ours)
        self.app.session_interface = interface
        self.app.add_url_rule("/", view_func=self._view)
        self.app.add_websocket("/ws", view_func=self._socket)
        self.act: Act = lambda session: None
        self.client: Any = self.app.test_client()

    async def _view(self) -> Any:
        answer = self.act(cast("Any", quart.session))
        return "ok" if answer is None else answer

    async def _socket(self) -> Any:
        answer = self.act(cast("Any", quart.session))
        return await answer if asyncio.iscoroutine(answer) else answer

    def visit(self, act: Act = lambda session: None, path: str = "/", **more: Any) -> "Page":
        """A whole request, on an event loop of its own."""
        self.act = act
        return asyncio.run(self.get(path, **more))

    async def get(self, path: str = "/", **more: Any) -> "Page":
        response = await self.client.get(path, **more)
        return Page(response.status_code, response.headers, await response.get_data(as_text=True))

    def shake_hands(self, act: Act = lambda session: None, **scope: Any) -> list[Any]:
        """A WebSocket is opened, and the app runs to its end; what the server was sent."""
        self.act = act
        return asyncio.run(self._shaken(scope))

    async def _shaken(self, scope: dict[str, Any]) -> list[Any]:
        came: list[Any] = [{"type": "websocket.connect"}]
        sent: list[Any] = []
        cookie = f"{self.sessions.cookie.full_name}={self.token}".encode()

        async def receive() -> Any:
            return came.pop() if came else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        parts = {"path": "/ws", "subprotocols": [], "headers": [(b"cookie", cookie)], **scope}
        asked = asgi_scope(type="websocket", scheme="wss", **parts)
        await self.app(cast("Any", asked), receive, send)
        return sent

    @property
    def token(self) -> str:
        """Of the browser's cookie."""
        name = self.sessions.cookie.full_name
        return next((c.value for c in self.client.cookie_jar if c.name == name), "")

    @property
    def stored(self) -> Session:
        """The session that the store holds under the browser's cookie."""
        return self.inside.open(f"{self.sessions.cookie.full_name}={self.token}")

    def login(self) -> None:
        login(self.client, self.sessions, "user:42")

    def records(self) -> list[Any]:
        return self.store.page("", 100, int(self.clock() * 1000))


class Page:
    def __init__(self, status: int, headers: Any, text: str) -> None:
        self.status = status
        self.headers = headers
        self.text = text


@pytest.fixture
def site() -> Site:
    return Site()


def put(key: str, value: Any) -> Act:
    return lambda session: session.__setitem__(key, value)


def enter(session: Session) -> None:
    session.login("user:42")


def leave(session: Session) -> None:
    session.logout()


def failing(session: Session) -> None:
    raise RuntimeError("a view that fails")


def in_turn(*acts: Act) -> Act:
    """One after another, in one request."""

    def act(session: Session) -> None:
        for each in acts:
            each(session)

    return act


class TestTheSession:
    def test_it_is_current(self, site: Site) -> None:
        """One object by both names."""
        page = site.visit(lambda session: str(current() is session._get_current_object()))  # type: ignore[attr-defined]

        assert "True" == page.text

    def test_a_plain_view_has_it(self, site: Site) -> None:
        """Quart runs it in a thread."""

        def view() -> str:
            current()["a"] = 1
            return str(quart.session["a"])

        site.app.add_url_rule("/plain", view_func=view)

        assert "1" == site.visit(path="/plain").text
        assert {"a": 1} == dict(site.stored)

    def test_reading_varies_with_the_cookie(self, site: Site) -> None:
        """Whatever versions of Quart and Flask come together."""
        assert [None, "Cookie"] == [
            site.visit(act).headers.get("Vary")
            for act in (lambda session: None, lambda session: session.subject)
        ]

    def test_permanent_makes_a_login_a_remembered_one(self, site: Site) -> None:
        """And creates no session for a visitor."""

        @site.app.before_request
        async def for_all() -> None:
            quart.session.permanent = True

        site.visit()
        assert [] == site.records()
        assert f"Max-Age={30 * DAY};" in site.visit(enter).headers["Set-Cookie"]

    def test_messages(self, site: Site) -> None:
        """By quart.flash, which is a coroutine, and once."""

        @site.app.get("/leave")
        async def leave_one() -> str:
            await quart.flash(Markup("<b>Saved</b>"), "success")
            return ""

        site.visit(path="/leave")
        pages = [site.visit(lambda session: repr(quart.get_flashed_messages())) for _ in range(2)]
        assert ["[Markup('<b>Saved</b>')]", "[]"] == [page.text for page in pages]

    def test_after_request_functions_may_change_it(self, site: Site) -> None:
        """It is committed when all of them are through."""

        @site.app.after_request
        async def count(response: Response) -> Response:
            current().edit("answers", lambda n: n + 1, default=0)
            return response

        site.visit()
        site.visit()
        assert {"answers": 2} == dict(site.stored)

    def test_it_can_be_committed_early(self, site: Site) -> None:
        """And what comes then is committed with the response."""

        @site.app.get("/order")
        async def order() -> str:
            current()["order"] = 17
            await site.sessions.commit(cast("Any", quart.session))
            assert 1 == len(site.records())
            current()["thanks"] = True
            return ""

        site.visit(path="/order")
        assert {"order": 17, "thanks": True} == dict(site.stored)

    def test_a_second_context_of_a_request_has_the_same(self, site: Site) -> None:
        """What is changed there is the request's."""

        @site.app.get("/twice")
        async def twice() -> str:
            current()["outer"] = 1
            request: Any = quart.request
            async with site.app.request_context(request._get_current_object()):
                current()["inner"] = quart.session["outer"]
            return ""

        site.visit(path="/twice")
        assert {"outer": 1, "inner": 1} == dict(site.stored)


MODES: list[dict[str, Any]] = [
    {"PROPAGATE_EXCEPTIONS": False},
    {"TESTING": True},
    {"DEBUG": True},
    {"PROPAGATE_EXCEPTIONS": True},
]


@pytest.fixture(params=MODES, ids=lambda mode: next(iter(mode)))
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    return cast("dict[str, Any]", request.param)


class TestErrors:
    def test_an_outage_is_503_in_every_mode(self, mode: dict[str, Any]) -> None:
        """Met by reading, by a view that wraps the error, and by the commit."""
        store = Flaky()
        site = Site(store, **mode)
        site.login()

        def wrap(session: Session) -> None:
            try:
                _ = session.subject
            except StoreUnavailable as error:
                raise RuntimeError("wrapped") from error

        for down, act in [("load", lambda s: s.subject), ("load", wrap), ("save", put("a", 1))]:
            store.down = {down}
            page = site.visit(act)
            assert (503, "503\n") == (page.status, page.text)
            assert "Retry-After" in page.headers
            assert "Set-Cookie" not in page.headers

    def test_a_logout_is_kept_in_every_mode(self, mode: dict[str, Any]) -> None:
        """And nothing else."""
        site = Site(**mode)
        site.login()
        with suppress(RuntimeError):
            assert 500 == site.visit(in_turn(leave, put("after", 1), failing)).status

        assert [] == site.records()

    @pytest.mark.parametrize("way", ["request", "websocket"])
    def test_a_logout_is_kept_where_the_client_leaves(self, site: Site, way: str) -> None:
        """Quart cancels what nobody waits for."""
        site.login()

        def cancelled(session: Session) -> None:
            raise asyncio.CancelledError

        act = in_turn(leave, put("after", 1), cancelled)
        with suppress(asyncio.CancelledError):
            site.visit(act) if way == "request" else site.shake_hands(act)

        assert [] == site.records()

    def test_a_500_page_for_any_error_hides_no_outage(self) -> None:
        """One that the app met by an early commit."""
        store = Flaky()
        site = Site(store)
        site.login()
        site.app.register_error_handler(Exception, lambda error: ("sorry", 500))
        assert "sorry" == site.visit(failing).text
        store.down = {"save"}

        @site.app.get("/order")
        async def order() -> str:
            current()["order"] = 17
            await site.sessions.commit(current())
            return ""

        page = site.visit(path="/order")
        assert (503, True) == (page.status, "Retry-After" in page.headers)

    def test_the_apps_own_answer_to_an_outage_stands(self) -> None:
        """A handler for it that answers 503."""
        store = Flaky()
        site = Site(store)
        site.login()
        site.app.register_error_handler(StoreUnavailable, lambda error: ("later", 503))
        store.down = {"load"}

        assert "later" == site.visit(lambda session: session.subject).text

    def test_an_error_page_that_answers_200_changes_nothing(self, site: Site) -> None:
        """The error was not handled, whatever the page says."""
        site.app.register_error_handler(500, lambda error: ("fine", 200))

        assert "fine" == site.visit(in_turn(enter, failing)).text
        assert [] == site.records()

    def test_a_failing_after_request_function_keeps_a_logout(self, site: Site) -> None:
        """Quart answers 500 without saving the session; the cookie goes all the same."""
        site.login()

        @site.app.after_request
        async def fail(response: Response) -> Response:
            raise RuntimeError("late")

        page = site.visit(leave)
        assert (500, []) == (page.status, site.records())
        assert "Max-Age=0" in page.headers["Set-Cookie"]


@pytest.mark.parametrize(("leaves", "found"), [(True, []), (False, [{"a": 1}])])
class TestCancellation:
    """As where a client leaves: a logout is kept, and nothing else."""

    def test_of_a_request(self, site: Site, leaves: bool, found: list[Any]) -> None:
        """While its view runs."""
        assert found == self.cut(site, leaves, type="http")

    def test_of_a_handshake(self, site: Site, leaves: bool, found: list[Any]) -> None:
        """Before it is accepted."""
        assert found == self.cut(site, leaves, type="websocket", scheme="wss", subprotocols=[])

    @staticmethod
    def cut(site: Site, leaves: bool, **parts: Any) -> list[dict[str, Any]]:
        """What is stored when the client has left."""
        site.login()
        site.visit(lambda session: session.update(a=1))
        reached = asyncio.Event()

        async def waiting() -> None:
            if leaves:
                quart.session.logout()  # type: ignore[attr-defined]
            quart.session["a"] = 2
            reached.set()
            await asyncio.Event().wait()

        views: Any = site.app.view_functions
        views["_view"] = views["_socket"] = waiting
        path = "/" if parts["type"] == "http" else "/ws"
        cookie = f"{site.sessions.cookie.full_name}={site.token}".encode()
        scope = asgi_scope(path=path, headers=[(b"cookie", cookie)], **parts)

        async def receive() -> Any:
            await reached.wait()
            return {"type": f"{parts['type']}.disconnect", "code": 1001}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        asyncio.run(asyncio.wait_for(site.app(cast("Any", scope), receive, send), PATIENCE))
        return [dict(site.stored) for _ in site.records()]


class TestStreaming:
    def test_the_commit_is_before_the_first_part(self, site: Site) -> None:
        """The session can be read, by both names, and a change raises."""

        def stream(session: Session) -> Response:
            session["a"] = 1

            @quart.stream_with_context
            async def parts() -> AsyncIterator[str]:
                yield f"{len(site.records())} {quart.session['a']} {current()['a']}"
                with pytest.raises(SessionClosed):
                    current()["late"] = 1
                yield " closed"

            return Response(parts())

        assert "1 1 1 closed" == site.visit(stream).text

    def test_what_is_changed_in_place_later_raises_at_the_end(self, site: Site) -> None:
        """It is lost, so it is said."""

        def stream(session: Session) -> Response:
            cart = session["cart"] = ["tea"]

            async def parts() -> AsyncIterator[str]:
                cart.append("milk")
                yield "ok"

            return Response(parts())

        with pytest.raises(SessionClosed, match=r"session\['cart'\]"):
            site.visit(stream)

    def test_an_error_in_a_stream_is_the_one_that_is_seen(self, site: Site) -> None:
        """Not what was lost with it."""

        def stream(session: Session) -> Response:
            cart = session["cart"] = ["tea"]

            async def parts() -> AsyncIterator[str]:
                cart.append("milk")
                yield "ok"
                raise RuntimeError("a stream that fails")

            return Response(parts())

        with pytest.raises(RuntimeError, match="a stream that fails"):
            site.visit(stream)

    def test_a_teardown_function_comes_too_late(self, site: Site) -> None:
        """A change in place raises at the end, too."""
        held: list[Any] = []

        @site.app.teardown_request
        async def change(error: BaseException | None) -> None:
            held[0].append("milk")

        with pytest.raises(SessionClosed, match=r"session\['cart'\]"):
            site.visit(in_turn(put("cart", []), lambda session: held.append(session["cart"])))


HTTP: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


class TestWebSockets:
    def test_the_acceptance_carries_the_cookie(self, site: Site) -> None:
        """What comes before it is stored when it goes out."""

        async def talk() -> None:
            current()["a"] = 1
            await websocket.accept(headers={"X-App": "1"})
            assert [1] == [len(site.records())]
            await websocket.send(current()["a"])

        accept, *_ = site.shake_hands(lambda session: talk())
        names = [name for name, _ in accept["headers"]]
        assert ("websocket.accept", [b"x-app", b"vary", b"cache-control", b"set-cookie"]) == (
            accept["type"],
            names,
        )

    def test_sending_accepts_by_itself(self, site: Site) -> None:
        """Again and again, with one commit."""
        store_calls = site.shake_hands(lambda session: self._send_twice())

        assert ["websocket.accept", "websocket.send", "websocket.send", "websocket.close"] == [
            message["type"] for message in store_calls
        ]
        assert 1 == len(site.records())

    async def _send_twice(self) -> None:
        current()["a"] = 1
        for _ in range(2):
            await websocket.send("hello")

    def test_an_untouched_session_leaves_no_trace(self, site: Site) -> None:
        """In the headers of the acceptance."""
        site.login()
        accept, *_ = site.shake_hands(lambda session: websocket.accept())

        assert [] == accept["headers"]

    def test_after_the_acceptance_it_is_closed(self, site: Site) -> None:
        """A change raises, one in place at the end: Quart tells of it as of any error there."""
        told: list[str] = []

        async def tell(app: Quart, exception: Exception, **more: Any) -> None:
            told.append(f"{type(exception).__name__}: {exception}")

        async def late() -> None:
            cart = current()["cart"] = ["tea"]
            await websocket.accept()
            with pytest.raises(SessionClosed):
                current()["late"] = 1
            cart.append("milk")

        with got_websocket_exception.connected_to(tell, site.app):
            site.shake_hands(lambda session: late())
        assert [True] == [each.startswith("SessionClosed: session['cart']") for each in told]

    @pytest.mark.parametrize("scope", [{}, HTTP], ids=["close", "response"])
    def test_a_handshake_that_fails_keeps_a_logout(self, site: Site, scope: dict[str, Any]) -> None:
        """And nothing else."""
        site.login()
        site.shake_hands(in_turn(leave, put("after", 1), failing), **scope)

        assert [] == site.records()

    def test_a_handshake_that_is_never_answered_keeps_nothing(self, site: Site) -> None:
        """No header can carry the cookie."""
        assert ([], []) == (site.shake_hands(put("a", 1)), site.records())

    def test_a_handshake_that_is_never_answered_keeps_a_logout(self, site: Site) -> None:
        """Who asked to leave has left."""
        site.login()

        assert ([], []) == (site.shake_hands(leave), site.records())

    def test_a_response_in_its_place_carries_the_cookie(self, site: Site) -> None:
        """Where the server can send one."""

        def refuse(session: Session) -> tuple[str, int]:
            session["a"] = 1
            return "not here", 403

        start, *_ = site.shake_hands(refuse, **HTTP)
        assert (403, 1) == (start["status"], len(site.records()))
        assert b"set-cookie" in dict(start["headers"])

    def test_a_response_that_is_never_sent_keeps_nothing(self, site: Site) -> None:
        """Where the server cannot."""

        def refuse(session: Session) -> tuple[str, int]:
            session["a"] = 1
            return "not here", 403

        (closed,) = site.shake_hands(refuse)
        assert ("websocket.close", []) == (closed["type"], site.records())

    def test_an_outage_refuses_the_handshake(self, mode: dict[str, Any]) -> None:
        """Met by reading, and by the commit."""
        store = Flaky()
        site = Site(store, **mode)
        site.login()

        async def write() -> None:
            current()["a"] = 1
            await websocket.accept()

        for down, act in [("load", lambda s: s.subject), ("save", lambda s: write())]:
            store.down = {down}
            start, *_ = site.shake_hands(act, **HTTP)
            assert ("websocket.http.response.start", 503) == (start["type"], start["status"])
            assert b"set-cookie" not in dict(start["headers"])

    def test_the_gate(self, site: Site) -> None:
        """For a single one, and for all of an app's."""
        gate = LoginGate(login="/enter")

        async def who() -> None:
            await websocket.send(g.user)

        gated = login_required(LoginGate(user=lambda subject: "Ann"))(who)
        site.app.add_websocket("/gated", view_func=gated)
        site.app.before_websocket(require_login(gate))
        (closed,) = site.shake_hands(path="/gated")
        site.login()
        _, message, _ = site.shake_hands(path="/gated")

        assert ("websocket.close", "Ann") == (closed["type"], message["text"])


class TestTestClient:
    def test_session_transaction(self, site: Site) -> None:
        """Reads, and writes."""

        async def transact() -> dict[str, Any]:
            async with site.client.session_transaction() as session:
                session["a"] = 1
            async with site.client.session_transaction() as session:
                return dict(session)

        assert {"a": 1} == asyncio.run(transact())
        assert "1" == site.visit(lambda session: str(session["a"])).text

    def test_login_of_coatcheck_testing(self, site: Site) -> None:
        """With values."""
        identity = login(site.client, site.sessions, "user:42", values={"a": 1})

        assert "user:42 1" == site.visit(lambda session: f"{session.subject} {session['a']}").text
        assert identity == site.stored.id

    def test_its_websocket_has_the_session(self, site: Site) -> None:
        """By the same cookie."""
        site.login()

        async def who() -> None:
            await websocket.send(str(current().subject))

        async def hear() -> Any:
            async with site.client.websocket("/ws") as connection:
                return await connection.receive()

        site.act = lambda session: who()
        assert "user:42" == asyncio.run(hear())

    def test_a_request_context_by_hand_has_one(self, site: Site) -> None:
        """And it is gone with the context."""

        async def enter_and_leave() -> None:
            async with site.app.test_request_context("/"):
                assert current() == {}
            with pytest.raises(LookupError):
                current()

        asyncio.run(enter_and_leave())


class TestOptions:
    def test_named_sessions(self) -> None:
        """Each with its own cookie, by current(name)."""
        prefs = AsyncSessions(AsyncMemoryStore(), cookie=Cookie("prefs"), name="prefs")
        site = Site(named={"prefs": prefs})
        site.visit(lambda session: current("prefs").__setitem__("dark", True))

        assert "True" == site.visit(lambda session: str(current("prefs")["dark"])).text
        assert "" == site.token

    def test_skip_opens_nothing(self) -> None:
        """Reading finds nothing, writing says why it cannot."""
        store = Flaky()
        site = Site(store, skip=["/skipped"])
        site.login()
        store.calls.clear()

        @site.app.get("/skipped")
        async def skipped() -> str:
            with pytest.raises(LookupError):
                current()
            with pytest.raises(ConfigurationError, match="skip="):
                quart.session["a"] = 1
            return str(quart.session.get("a"))

        assert ("None", []) == (site.visit(path="/skipped").text, store.calls)

    @pytest.mark.parametrize(
        ("client", "expected"),
        [
            (None, Client(None, "Lynx")),
            (lambda request: Client("somewhere", request.path), Client("somewhere", "/")),
        ],
    )
    def test_client(self, client: Any, expected: Client) -> None:
        """The peer and its agent, or what the site makes of Quart's request."""
        site = Site(client=client)
        site.visit(enter, headers={"User-Agent": "Lynx"})
        (info,) = site.inside.list_for("user:42")

        assert expected == info.client

    def test_synchronous_sessions_are_refused(self) -> None:
        """They would block the loop."""
        sessions: Any = Sessions(MemoryStore())
        with pytest.raises(ConfigurationError, match="Interface: expected AsyncSessions"):
            CoatcheckSessionInterface(sessions)

    def test_a_setting_without_effect_is_warned_about(self) -> None:
        """Once."""
        site = Site(SESSION_COOKIE_NAME="other")
        with pytest.warns(RuntimeWarning, match="SESSION_COOKIE_NAME: expected 'session'"):
            site.visit()

        assert 200 == site.visit().status


class Swept(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()
        self.in_a_request: set[bool] = set()

    def sweep(self, limit: int, now: int) -> int:
        self.in_a_request.add(quart.has_request_context())
        self.event.set()
        return super().sweep(limit, now)


def sweeping(store: MemoryStore, sweep: float | None) -> Quart:
    app = Quart(__name__)
    interface: Any = CoatcheckSessionInterface(AsyncSessions(AsyncMemoryStore(store)), sweep=sweep)
    app.session_interface = interface
    app.add_url_rule("/", view_func=lambda: "ok")
    return app


def sweepers() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if "sweeper" in task.get_name()}


class TestSweeping:
    def test_it_sweeps_while_the_app_is_served(self) -> None:
        """From the first request to the end of the lifespan, and when it is served again."""

        async def serve() -> None:
            async with app.test_app() as served:
                await served.test_client().get("/")
                await asyncio.wait_for(asyncio.to_thread(store.event.wait), PATIENCE)
                assert {"coatcheck sweeper"} == sweepers()
            assert set() == sweepers()
            store.event.clear()

        store = Swept()
        app = sweeping(store, 0.001)
        asyncio.run(serve())
        asyncio.run(serve())
        assert {False} == store.in_a_request  # it holds on to no request

    @pytest.mark.parametrize("sweep", [600.0, None])
    def test_without_a_lifespan_or_an_interval_it_does_not(self, sweep: float | None) -> None:
        """Nothing would end it, or nothing is wanted."""

        async def visit() -> set[str]:
            if sweep is None:
                await app.startup()
            await app.test_client().get("/")
            return sweepers()

        app = sweeping(MemoryStore(), sweep)
        assert set() == asyncio.run(visit())


class TestCSRF:
    """What `test_outside_csrf` does not see."""

    def test_templates_have_the_token(self, site: Site) -> None:
        """For the field of its name."""
        setup_csrf(site.app, CrossOriginProtection(tokens=True))

        @site.app.post("/post")
        async def post() -> str:
            return str((await request.form)["a"])

        async def talk() -> list[str]:
            site.act = lambda session: quart.render_template_string("{{ csrf_token() }}")
            token = (await site.get("/form")).text
            forms = [{"a": "1", "csrf_token": token}, {"a": "1"}]
            answers = [await site.client.post("/post", form=form) for form in forms]
            return [await answer.get_data(as_text=True) for answer in answers]

        @site.app.get("/form")
        async def form() -> Any:
            return await site.act(current())

        assert ["1", "403 Forbidden: CSRF token\n"] == asyncio.run(talk())

    def test_another_sites_page_gets_no_socket(self, site: Site) -> None:
        """This site's own does, without a token."""
        setup_csrf(site.app, CrossOriginProtection(tokens=True))
        host, evil = (b"host", b"site.example"), (b"origin", b"https://evil.example")
        own = (b"origin", b"https://site.example")
        refused = site.shake_hands(lambda session: websocket.accept(), headers=[host, evil])
        accepted = site.shake_hands(lambda session: websocket.accept(), headers=[host, own])

        assert "websocket.accept" != refused[0]["type"]
        assert "websocket.accept" == accepted[0]["type"]


class TestGate:
    @pytest.fixture
    def gated(self, site: Site) -> Site:
        async def people(subject: str) -> str | None:
            return {"user:42": "Ann"}.get(subject)

        gate = LoginGate(public=["/"], user=people)

        @site.app.get("/account")
        @login_required(gate)
        async def account() -> str:
            return f"Hello, {g.user}"

        @site.app.get("/plain")
        @login_required(gate)
        def plain() -> str:
            return f"Hello, {g.user}"

        inner = Blueprint("inner", __name__, url_prefix="/inner")
        inner.before_request(require_login(gate))
        inner.add_url_rule("/", view_func=lambda: g.user)
        site.app.register_blueprint(inner)
        return site

    @pytest.mark.parametrize("path", ["/account", "/plain", "/inner/"])
    def test_a_person_is_sent_to_the_login_page(self, gated: Site, path: str) -> None:
        """With the way back; the answer varies with the cookie."""
        page = gated.visit(path=path, headers={"Accept": "text/html"})

        assert (303, f"/login?next={path}", "Cookie") == (
            page.status,
            page.headers["Location"],
            page.headers["Vary"],
        )

    @pytest.mark.parametrize("path", ["/account", "/plain", "/inner/"])
    def test_the_user_is_in_g(self, gated: Site, path: str) -> None:
        """As the gate's loader made it; a script without a login gets 401."""
        assert (401, "401\n") == ((page := gated.visit(path=path)).status, page.text)
        gated.login()

        assert "Ann" in gated.visit(path=path).text
