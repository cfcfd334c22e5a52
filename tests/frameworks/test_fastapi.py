"""FastAPI: the dependencies, and what they say in OpenAPI."""

import asyncio
from importlib.metadata import version
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, FastAPI, Form, HTTPException, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect

from coatcheck import AsyncSessions, Cookie, StoreUnavailable, current
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate
from coatcheck.web.asgi import SessionMiddleware
from coatcheck.web.fastapi import CSRFProtected, LoggedIn, SessionDep, SubjectDep
from tests.test_asgi import (
    DENIAL,
    ask,
    client_of,
    cookie_of,
    logged_in,
    sessions_over,
    stored,
    websocket,
)
from tests.test_laws import Flaky

User = dict[str, str]


async def load(subject: str) -> User | None:
    return {"name": "Ann"} if subject == "user:42" else None


UserDep = Annotated[User, Depends(LoggedIn(LoginGate(user=load)))]


def app_of(sessions: AsyncSessions, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, sessions=sessions, **{"sweep": None, **options})

    @app.get("/session")
    async def session(session: SessionDep) -> int:
        assert session is current()
        visits: int = session.edit("visits", lambda n: n + 1, default=0)
        return visits

    @app.get("/plain")
    def plain(session: SessionDep, subject: SubjectDep) -> str:
        session["seen"] = True
        return subject

    @app.get("/me")
    async def me(subject: SubjectDep) -> str:
        return subject

    @app.get("/user")
    async def user(user: UserDep) -> User:
        return user

    @app.websocket("/live")
    async def live(socket: WebSocket, subject: SubjectDep, session: SessionDep) -> None:
        session["live"] = True
        await socket.accept()
        await socket.send_text(subject)
        await socket.close()

    return app


class TestSessionDep:
    def test_it_is_the_requests_session(self) -> None:
        """For anybody."""
        with client_of(app_of(sessions_over())) as client:
            assert [1, 2] == [client.get("/session").json() for _ in range(2)]

    def test_in_a_plain_function(self) -> None:
        """Which FastAPI runs in a thread."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        assert b'"user:42"' == ask(app_of(sessions), cookie, path="/plain").body
        assert ("user:42", {"seen": True}) == stored(sessions, cookie)

    def test_a_dependency_may_use_it(self) -> None:
        """The session that it gets is the endpoint's."""
        sessions = sessions_over()
        app = app_of(sessions)

        def cart(session: SessionDep) -> list[str]:
            items: list[str] = session.setdefault("cart", [])
            return items

        @app.get("/add")
        async def add(cart: Annotated[list[str], Depends(cart)]) -> None:
            cart.append("tea")

        answer = ask(app, path="/add")
        assert (None, {"cart": ["tea"]}) == stored(sessions, cookie_of(answer))

    def test_without_the_middleware_it_says_so(self) -> None:
        """And not that some key is missing."""
        app = FastAPI()

        @app.get("/")
        async def home(session: SessionDep) -> None:
            assert session is not None

        assert "below SessionMiddleware" in str(ask(app).error)


class TestSubjectDep:
    def test_who_is_logged_in(self) -> None:
        """As a string."""
        sessions = sessions_over()

        assert b'"user:42"' == ask(app_of(sessions), logged_in(sessions), path="/me").body

    def test_anybody_else_gets_401(self) -> None:
        """A script as well as a person: no header sends it to a page."""
        headers = [(b"sec-fetch-mode", b"navigate")]
        answers = [ask(app_of(sessions_over()), path="/me", headers=h) for h in ([], headers)]

        for answer in answers:
            assert (401, b'{"detail":"log in first"}') == (answer.status, answer.body)
            assert 'Session realm="login"' == answer["www-authenticate"]
            assert ("no-store", "Cookie") == (answer["cache-control"], answer["vary"])

    def test_an_outage_is_503(self) -> None:
        """And never 401."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        assert 503 == ask(app_of(sessions), cookie, path="/me").status

    def test_an_apps_handler_may_answer_for_an_outage(self) -> None:
        """Where it says 503."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}
        app = app_of(sessions)

        @app.exception_handler(StoreUnavailable)
        async def sorry(request: Any, error: Exception) -> Any:
            return PlainTextResponse("a page of our own", 503)

        assert b"a page of our own" == ask(app, cookie, path="/me").body


class TestLoggedIn:
    def test_the_gates_user(self) -> None:
        """What its `user=` loads."""
        sessions = sessions_over()

        assert b'{"name":"Ann"}' == ask(app_of(sessions), logged_in(sessions), path="/user").body

    def test_a_user_who_is_gone_is_logged_out(self) -> None:
        """The loader finds none."""
        sessions = sessions_over()

        async def enter() -> str:
            session = await sessions.open(None)
            session.login("user:7")
            return (await sessions.commit(session))[0].partition(";")[0]

        cookie = asyncio.run(enter())
        assert 401 == ask(app_of(sessions), cookie, path="/user").status
        assert (None, {}) == stored(sessions, cookie)

    def test_a_gate_sends_people_to_its_login_page(self) -> None:
        """Its `public=` does not count."""
        app = app_of(sessions_over())
        gate = LoginGate(login="/enter", public=["/account"])

        @app.get("/account", dependencies=[Depends(LoggedIn(gate))])
        async def account() -> None:
            """Nothing."""

        headers = [(b"sec-fetch-mode", b"navigate")]
        answer = ask(app, path="/account", headers=headers)
        assert (303, "/enter?next=/account") == (answer.status, answer["location"])
        assert 401 == ask(app, path="/account").status

    def test_a_step_up(self) -> None:
        """By a gate that asks for a fresh login."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        app = app_of(sessions)
        fresh = Depends(LoggedIn(LoginGate(fresh=300)))

        @app.get("/password", dependencies=[fresh])
        async def password() -> None:
            """Nothing."""

        statuses = [ask(app, cookie, path="/password").status]
        sessions._clock.move(301)  # type: ignore[attr-defined]
        statuses.append(ask(app, cookie, path="/password").status)
        assert [200, 401] == statuses

    def test_of_a_further_session(self) -> None:
        """By the name that the middleware knows it by."""
        staff = sessions_over(cookie=Cookie("staff"))
        app = app_of(sessions_over(), named={"staff": staff})
        who = LoggedIn(cookie=staff.cookie, name="staff")

        @app.get("/desk")
        async def desk(subject: Annotated[str, Depends(who)]) -> str:
            return subject

        assert b'"user:42"' == ask(app, logged_in(staff), path="/desk").body
        assert 401 == ask(app, path="/desk").status


class TestOpenApi:
    def test_a_login_is_shown_where_it_is_needed(self) -> None:
        """By the cookie's real name; a session alone asks for nothing."""
        app = app_of(sessions_over())
        schema = app.openapi()
        needs = {path: "security" in of["get"] for path, of in schema["paths"].items()}

        scheme = {"type": "apiKey", "in": "cookie", "name": "__Host-session"}
        assert {"__Host-session": scheme} == schema["components"]["securitySchemes"]
        assert {"/session": False, "/plain": True, "/me": True, "/user": True} == needs
        assert [{"__Host-session": []}] == schema["paths"]["/me"]["get"]["security"]

    def test_another_cookie_is_another_scheme(self) -> None:
        """Beside the first."""
        app = app_of(sessions_over())
        staff = LoggedIn(cookie=Cookie("staff", path="/desk"), name="staff")

        @app.get("/desk", dependencies=[Depends(staff)])
        async def desk() -> None:
            """Nothing."""

        schemes = app.openapi()["components"]["securitySchemes"]
        assert {"__Host-session", "__Secure-staff"} == set(schemes)

    def test_cookies_that_differ_by_their_prefix_are_two_schemes(self) -> None:
        """One does not overwrite the other."""
        app = app_of(sessions_over())
        plain = LoggedIn(cookie=Cookie.insecure("session"))

        @app.get("/desk", dependencies=[Depends(plain)])
        async def desk() -> None:
            """Nothing."""

        schemes = app.openapi()["components"]["securitySchemes"]
        assert {"__Host-session", "session"} == {scheme["name"] for scheme in schemes.values()}

    def test_a_scheme_is_named_as_openapi_has_it(self) -> None:
        """A cookie's name may hold more characters than that allows."""
        app = app_of(sessions_over())

        @app.get("/desk", dependencies=[Depends(LoggedIn(cookie=Cookie("staff~1")))])
        async def desk() -> None:
            """Nothing."""

        schemes = app.openapi()["components"]["securitySchemes"]
        assert "__Host-staff~1" == schemes["__Host-staff_1"]["name"]


class TestWebSocket:
    def test_who_is_logged_in_comes_in(self) -> None:
        """With the session, which is committed by the acceptance."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        accept, hello, _ = websocket(app_of(sessions), cookie, path="/live")

        assert ("websocket.accept", "user:42") == (accept["type"], hello["text"])
        assert ("user:42", {"live": True}) == stored(sessions, cookie)

    def test_anybody_else_is_refused(self) -> None:
        """As a violation of policy."""
        with (
            client_of(app_of(sessions_over())) as client,
            pytest.raises(WebSocketDisconnect) as caught,
            client.websocket_connect("/live"),
        ):
            pass

        assert 1008 == caught.value.code

    def test_an_outage_is_told_as_a_denial(self) -> None:
        """And not as a refusal for good."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}
        start, _ = websocket(app_of(sessions), cookie, path="/live", extensions=DENIAL)

        assert 503 == start["status"]


class TestYield:
    def test_a_dependency_that_rolls_back_may_raise_a_response(self) -> None:
        """An `HTTPException` of the endpoint commits, through a dependency with `yield` too."""
        sessions = sessions_over()
        app = app_of(sessions)
        seen: list[str] = []

        async def transaction() -> Any:
            try:
                yield
            except HTTPException as error:
                seen.append(str(error.status_code))
                raise

        @app.get("/refuse", dependencies=[Depends(transaction)])
        async def refuse(session: SessionDep) -> None:
            session["tries"] = 1
            raise HTTPException(409)

        answer = ask(app, path="/refuse")
        assert (409, ["409"]) == (answer.status, seen)
        assert (None, {"tries": 1}) == stored(sessions, cookie_of(answer))


@pytest.mark.skipif(
    version("fastapi") == "0.115.3",
    reason="this FastAPI takes the package multipart, which Litestar brings, for its own parser",
)
class TestCSRF:
    def app(self) -> FastAPI:
        app = app_of(sessions_over())
        guarded = [Depends(CSRFProtected(CrossOriginProtection(tokens=True)))]

        @app.get("/token")
        async def token(session: SessionDep) -> str:
            return session.csrf_token

        @app.post("/form", dependencies=guarded)
        async def form(a: Annotated[str, Form()]) -> str:
            return a

        @app.post("/json", dependencies=guarded)
        async def json(a: Annotated[str, Body(embed=True)]) -> str:
            return a

        @app.websocket("/guarded", dependencies=guarded)
        async def guarded_socket(socket: WebSocket) -> None:
            await socket.accept()
            await socket.close()

        return app

    def test_the_dependency_guards_one_endpoint(self) -> None:
        """By the form's field, which the endpoint may ask for as well, or by the header."""
        with client_of(self.app()) as client:
            token = client.get("/token").json()
            field, header = {"a": "1", "csrf_token": token}, {"X-CSRF-Token": token}
            passed = [
                client.post("/form", data=field),
                client.post("/form", data=field, files={"f": b"x"}),
                client.post("/json", json={"a": "1"}, headers=header),
            ]
            refused = [
                client.post("/form", data={"a": "1"}),
                client.post("/form", data=field, headers={"Sec-Fetch-Site": "cross-site"}),
                client.post("/json", json={"a": "1", "csrf_token": token}),
            ]

        assert ["1", "1", "1"] == [answer.json() for answer in passed]
        assert [403, 403, 403] == [answer.status_code for answer in refused]
        assert {"detail": "Forbidden: CSRF token"} == refused[0].json()
        assert "Sec-Fetch-Site, Origin" in refused[1].headers["vary"]

    def test_a_body_that_is_no_form_holds_no_token(self) -> None:
        """It is refused, and nobody's error."""
        kind = "multipart/form-data; boundary=b; charset=undefined"
        body = b'--b\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\nx\r\n--b--\r\n'
        with client_of(self.app()) as client:
            answer = client.post("/json", content=body, headers={"Content-Type": kind})

        assert 403 == answer.status_code

    def test_another_sites_page_gets_no_socket(self) -> None:
        """This site's own does, without a token."""
        with client_of(self.app()) as client:
            with pytest.raises(WebSocketDisconnect) as refused:
                client.websocket_connect(
                    "/guarded", headers={"Origin": "https://evil.example"}
                ).__enter__()
            with client.websocket_connect("/guarded", headers={"Sec-Fetch-Site": "same-origin"}):
                pass

        assert 1008 == refused.value.code
