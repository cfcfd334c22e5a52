"""`coatcheck.testing`: the login for test clients, and the clock. The contract has its own file."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fastapi.testclient
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from coatcheck import AsyncSessions, ConfigurationError, Cookie, Sessions, current
from coatcheck.lifetime import AAL3
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web import asgi, wsgi
from tests.sites import STORES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def starlette_site(sessions: AsyncSessions) -> Any:
    """It says who is there, and has pages that change the token."""

    async def who(request: Request) -> Response:
        return JSONResponse([current().subject, dict(current())])

    async def act(request: Request) -> Response:
        if request.path_params["verb"] == "enter":
            current().login("user:7")
        else:
            getattr(current(), request.path_params["verb"])()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", who), Route("/{verb}", act, methods=["POST"])])
    return asgi.SessionMiddleware(app, sessions, sweep=None)


def wsgi_site(sessions: Sessions) -> Any:
    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(current().subject).encode()]

    return wsgi.SessionMiddleware(app, sessions, sweep=None)


@pytest.fixture
def sessions() -> AsyncSessions:
    return AsyncSessions(AsyncMemoryStore())


class TestLogin:
    @pytest.mark.parametrize("url", ["http://testserver", "https://testserver", "https://[::1]"])
    def test_starlettes_client(self, sessions: AsyncSessions, url: str) -> None:
        """Over plain HTTP too, where the client would not keep a Secure cookie."""
        client = TestClient(starlette_site(sessions), base_url=url)
        login(client, sessions, "user:42")

        assert ["user:42", {}] == client.get("/").json()

    @pytest.mark.parametrize("url", ["https://testserver", "https://shop.example"])
    def test_the_sites_own_answers_replace_the_cookie(
        self, sessions: AsyncSessions, url: str
    ) -> None:
        """One cookie after a further login, and none after a logout."""
        client = TestClient(starlette_site(sessions), base_url=url)
        login(client, sessions, "user:42")
        first = client.cookies["__Host-session"]
        client.post("/enter")
        assert first != client.cookies["__Host-session"]
        client.post("/logout")

        assert {} == dict(client.cookies)

    def test_starlettes_client_with_a_lifespan(self, sessions: AsyncSessions) -> None:
        """While the app's event loop runs in another thread."""
        with TestClient(starlette_site(sessions)) as client:
            login(client, sessions, "user:42")
            assert ["user:42", {}] == client.get("/").json()

    def test_fastapis_client(self, sessions: AsyncSessions) -> None:
        """With its middleware added in FastAPI's way."""
        app = FastAPI()
        app.add_middleware(asgi.SessionMiddleware, sessions=sessions)

        @app.get("/")
        async def who() -> str | None:
            return current().subject

        client = fastapi.testclient.TestClient(app)
        login(client, sessions, "user:42")
        assert "user:42" == client.get("/").json()

    def test_httpx_over_wsgi(self) -> None:
        """Synchronous sessions, synchronous client."""
        sessions = Sessions(MemoryStore())
        transport = httpx.WSGITransport(app=wsgi_site(sessions))
        with httpx.Client(transport=transport, base_url="http://testserver") as client:
            login(client, sessions, "user:42")
            assert "user:42" == client.get("/").text

    def test_httpx_over_asgi_inside_a_running_loop(self, sessions: AsyncSessions) -> None:
        """An asynchronous test calls it without await."""

        async def main() -> object:
            transport = httpx.ASGITransport(app=starlette_site(sessions))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                login(client, sessions, "user:42")
                return (await client.get("/")).json()

        assert ["user:42", {}] == asyncio.run(main())

    @pytest.mark.parametrize("kind", ["memory-async", "sqlite-async"])
    def test_over_every_asynchronous_store(self, kind: str, tmp_path: Path) -> None:
        """It uses an event loop of its own, and the app another."""
        sessions = AsyncSessions(STORES[kind](tmp_path))
        client = TestClient(starlette_site(sessions))
        login(client, sessions, "user:42")

        assert ["user:42", {}] == client.get("/").json()
        asyncio.run(sessions.close())

    def test_values_are_put_into_the_session(self, sessions: AsyncSessions) -> None:
        """A cart that is full already."""
        client = TestClient(starlette_site(sessions))
        login(client, sessions, "user:42", values={"cart": ["tea"]})

        assert ["user:42", {"cart": ["tea"]}] == client.get("/").json()

    def test_it_returns_the_sessions_id(self, sessions: AsyncSessions) -> None:
        """The one that lists show, to revoke it in the middle of a test."""
        client = TestClient(starlette_site(sessions))
        made = login(client, sessions, "user:42")
        listed = asyncio.run(sessions.list_for("user:42"))
        assert [made] == [info.id for info in listed]
        asyncio.run(sessions.revoke(made))

        assert [None, {}] == client.get("/").json()

    @pytest.mark.parametrize(("remember", "expected"), [(False, None), (True, "user:42")])
    def test_remember_makes_it_last(self, remember: bool, expected: str | None) -> None:
        """As a login with the box ticked does."""
        clock = Clock()
        sessions = AsyncSessions(AsyncMemoryStore(), clock=clock)
        client = TestClient(starlette_site(sessions))
        login(client, sessions, "user:42", remember=remember)
        clock.move(7 * 86_400)

        assert [expected, {}] == client.get("/").json()

    @pytest.mark.parametrize("is_async", [False, True])
    def test_it_takes_what_a_login_takes(self, is_async: bool) -> None:
        """So that a test can stand before a gate that asks for more."""
        store, clock = MemoryStore(), Clock()
        sync = Sessions(store, clock=clock)
        sessions = AsyncSessions(AsyncMemoryStore(store), clock=clock) if is_async else sync
        since = datetime.fromtimestamp(clock() - 60, UTC)
        headers: dict[str, str] = {}
        sure: dict[str, Any] = {"level": 2, "methods": ("pwd", "otp"), "lifetime": AAL3}
        login(headers, sessions, "user:42", authenticated_at=since, **sure)
        session = sync.open(headers["Cookie"])
        assert session.expires_at is not None

        assert (2, ("pwd", "otp"), since, timedelta(minutes=15)) == (
            session.level,
            session.methods,
            session.authenticated_at,
            session.expires_at - session.opened_at,
        )

    def test_a_second_login_replaces_the_first(self, sessions: AsyncSessions) -> None:
        """One client, one cookie."""
        client = TestClient(starlette_site(sessions))
        login(client, sessions, "user:42")
        login(client, sessions, "user:7")

        assert ["user:7", {}] == client.get("/").json()

    @pytest.mark.parametrize(
        ("verb", "expected"), [("rotate", "user:42"), ("enter", "user:7"), ("logout", None)]
    )
    def test_the_site_may_change_the_token_afterwards(
        self, sessions: AsyncSessions, verb: str, expected: str | None
    ) -> None:
        """The client follows, as a browser would."""
        client = TestClient(starlette_site(sessions), base_url="https://testserver")
        login(client, sessions, "user:42")
        client.post(f"/{verb}")

        assert [expected, {}] == client.get("/").json()

    def test_a_cookie_of_another_name(self) -> None:
        """It is the one that the `Sessions` are told to use."""
        sessions = AsyncSessions(AsyncMemoryStore(), cookie=Cookie.insecure("sid"))
        client = TestClient(starlette_site(sessions))
        login(client, sessions, "user:42")

        assert ["sid"] == list(client.cookies.keys())

    def test_clients_that_set_cookies_by_a_method(self, sessions: AsyncSessions) -> None:
        """Flask's, Quart's and WebTest's."""
        kept: dict[str, str] = {}
        login(SimpleNamespace(set_cookie=kept.__setitem__), sessions, "user:42")

        assert ["__Host-session"] == list(kept)

    def test_clients_that_keep_cookies_in_a_mapping(self, sessions: AsyncSessions) -> None:
        """Django's."""
        client = SimpleNamespace(cookies={})
        login(client, sessions, "user:42")

        assert ["__Host-session"] == list(client.cookies)

    def test_clients_that_keep_nothing(self, sessions: AsyncSessions) -> None:
        """The headers that each request is given get the cookie; a second login replaces it."""
        headers = {"Cookie": "theme=dark; __Host-session=old", "Accept": "text/html"}
        login(headers, sessions, "user:7")
        first = headers["Cookie"]
        login(headers, sessions, "user:42")
        session = asyncio.run(sessions.open(headers["Cookie"]))

        assert (True, "user:42") == (first != headers["Cookie"], session.subject)
        assert ["theme", "__Host-session"] == [
            pair.partition("=")[0] for pair in headers["Cookie"].split("; ")
        ]

    def test_anything_else_is_refused(self, sessions: AsyncSessions) -> None:
        """With what was got and what to do."""
        with pytest.raises(ConfigurationError, match=r"got object.*sessions\.commit"):
            login(object(), sessions, "user:42")


class TestClock:
    def test_it_stands(self) -> None:
        """At the same time, however often it is read."""
        clock = Clock()

        assert clock() == clock()

    def test_it_begins_where_it_is_told(self) -> None:
        """In seconds since the epoch."""
        assert 1_000.5 == Clock(1_000.5)()

    def test_it_moves_forwards_and_back(self) -> None:
        """By seconds."""
        clock = Clock(1_000.0)
        clock.move(60)
        clock.move(-0.5)

        assert 1_059.5 == clock()

    def test_sessions_go_by_it(self) -> None:
        """A session ends when the clock says so."""
        clock = Clock()
        sessions = Sessions(MemoryStore(), clock=clock)
        session = sessions.open(None)
        session.login("user:42")
        cookie = sessions.commit(session)[0].partition(";")[0]
        found = []
        for seconds in (0, 3599, 1):
            clock.move(seconds)
            found.append(sessions.open(cookie).subject)

        assert ["user:42", "user:42", None] == found
