"""Starlette: its users' idioms; `tests/test_asgi.py` has the rest."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    SimpleUser,
    requires,
)
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from coatcheck import AsyncSessions, Session
from coatcheck.web.asgi import SessionMiddleware
from tests.test_asgi import ask, client_of, cookie_of, logged_in, sessions_over, stored


def app_of(view: Any, sessions: AsyncSessions, **options: Any) -> Starlette:
    mine = Middleware(SessionMiddleware, sessions=sessions, sweep=None)
    return Starlette(routes=[Route("/", view)], middleware=[mine], **options)


class TestRequestSession:
    def test_the_ways_of_a_dict(self) -> None:
        """`|=`, `popitem`, and a copy as JSON."""

        async def view(request: Request) -> Response:
            session = request.session
            session |= {"a": 1, "b": 2, "c": 3}
            session.popitem()
            return JSONResponse(dict(session))

        sessions = sessions_over()
        answer = ask(app_of(view, sessions))
        assert b'{"a":1,"b":2}' == answer.body
        assert (None, {"a": 1, "b": 2}) == stored(sessions, cookie_of(answer))

    def test_to_look_at_the_attribute_is_no_use_of_it(self) -> None:
        """Starlette marks its own as accessed then; ours is, where something is read."""

        async def view(request: Request) -> Response:
            assert isinstance(request.session, Session)
            return PlainTextResponse("ok")

        assert None is ask(app_of(view, sessions_over()))["vary"]

    def test_a_change_in_place_is_saved(self) -> None:
        """Starlette's own loses it."""

        async def view(request: Request) -> Response:
            request.session.setdefault("cart", []).append("tea")
            return JSONResponse(request.session["cart"])

        with client_of(app_of(view, sessions_over())) as client:
            assert [["tea"], ["tea", "tea"]] == [client.get("/").json() for _ in range(2)]


class TestErrors:
    @pytest.mark.parametrize(("status", "kept"), [(303, True), (404, True), (500, False)])
    def test_an_error_that_the_app_handles(self, status: int, kept: bool) -> None:
        """Counts by the status that its handler chose."""

        async def view(request: Request) -> Response:
            request.session["a"] = 1
            raise LookupError("tea")

        async def page(request: Request, error: Exception) -> Response:
            return PlainTextResponse("no tea", status, {"Location": "/"})

        sessions = sessions_over()
        answer = ask(app_of(view, sessions, exception_handlers={LookupError: page}))
        assert (status, kept) == (answer.status, bool(answer.cookies))

    @pytest.mark.parametrize("debug", [False, True])
    def test_an_error_that_nobody_handles(self, debug: bool) -> None:
        """Nothing is kept, and the error reaches the server."""

        async def view(request: Request) -> Response:
            request.session["a"] = 1
            raise LookupError("tea")

        answer = ask(app_of(view, sessions_over(), debug=debug))
        assert (500, [], LookupError) == (answer.status, answer.cookies, type(answer.error))


class TestMounted:
    def test_an_exception_of_a_mounted_app_is_answered_there(self) -> None:
        """And commits as any other 4xx."""

        async def view(request: Request) -> Response:
            request.session["a"] = 1
            raise HTTPException(409)

        sessions = sessions_over()
        inner = Starlette(routes=[Route("/page", view)])
        mine = Middleware(SessionMiddleware, sessions=sessions, sweep=None)
        answer = ask(
            Starlette(routes=[Mount("/shop", inner)], middleware=[mine]), path="/shop/page"
        )

        assert 409 == answer.status
        assert (None, {"a": 1}) == stored(sessions, cookie_of(answer))


class TestStreaming:
    def test_an_error_in_the_stream_keeps_what_was_committed(self) -> None:
        """The first byte was out: there is nothing to take back."""

        async def view(request: Request) -> Response:
            request.session["a"] = 1

            async def parts() -> Any:
                yield b"some"
                raise LookupError("tea")

            return StreamingResponse(parts())

        sessions = sessions_over()
        answer = ask(app_of(view, sessions))
        assert (200, b"some", True) == (answer.status, answer.body, answer.error is not None)
        assert (None, {"a": 1}) == stored(sessions, cookie_of(answer))


class Backend(AuthenticationBackend):
    """As on the page about ASGI."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        subject = conn.scope["session"].subject
        return None if subject is None else (AuthCredentials(["login"]), SimpleUser(subject))


class TestAuthenticationMiddleware:
    def test_requires(self) -> None:
        """Starlette's own gate, over our subject."""

        @requires("login")
        async def view(request: Request) -> Response:
            return PlainTextResponse(request.user.display_name)

        sessions = sessions_over()
        mine = Middleware(SessionMiddleware, sessions=sessions, sweep=None)
        theirs = Middleware(AuthenticationMiddleware, backend=Backend())
        app = Starlette(routes=[Route("/", view)], middleware=[mine, theirs])

        assert [403, 200] == [ask(app, cookie).status for cookie in (None, logged_in(sessions))]
        assert b"user:42" == ask(app, logged_in(sessions)).body
