"""Django, by its WSGI and its ASGI handler.

A site differs from another in its middleware alone, which is looked up when a handler is made, so
each handler is made under the settings of its own site. What Django makes an error page of is
raised once more when the answer is over, as servers' error reporters do it.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped]
from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped]
from django.core.signals import got_request_exception  # type: ignore[import-untyped]
from django.http import HttpResponse  # type: ignore[import-untyped]
from django.test import override_settings  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]
from django.utils.deprecation import MiddlewareMixin  # type: ignore[import-untyped]

import tests.django_project  # noqa: F401
from coatcheck import AsyncSessions, Sessions, current
from coatcheck.web.django import SessionMiddleware
from coatcheck.web.django.pairs import Configured, paired
from tests.outside.asgi import AsgiDriver
from tests.outside.talk import Framework, Reply, View
from tests.outside.wsgi import WsgiDriver

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_VIEW, _BODY, _ERROR = "outside.view", "outside.body", "outside.error"

session_middleware: type[SessionMiddleware] = SessionMiddleware
"""What the handler that is being made takes."""


class Raised(Exception):
    """An answer that is raised, as projects do it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class AnsweringMiddleware(MiddlewareMixin):  # type: ignore[misc]
    """Makes a response of it."""

    def process_exception(self, request: Any, error: Exception) -> Any:
        return _response(error.reply) if isinstance(error, Raised) else None


def _response(reply: Reply) -> Any:
    response = HttpResponse(reply.body, status=reply.status)
    for name, value in reply.headers:
        response[name] = value
    return response


def _answer(view: View, body: bytes) -> Any:
    reply = view(current(), body)
    if reply.raised:
        raise Raised(reply)
    return _response(reply)


def endpoint(request: Any) -> Any:
    return _answer(request.environ[_VIEW], request.body)


async def awaited_endpoint(request: Any) -> Any:
    message = await request.scope[_BODY]()
    return _answer(request.scope[_VIEW], message["body"])


urlpatterns = [path("", endpoint), path("awaited", awaited_endpoint)]


def _remember(request: Any, **details: Any) -> None:
    where = request.scope if hasattr(request, "scope") else request.environ
    where[_ERROR] = sys.exc_info()[1]


got_request_exception.connect(_remember)


def handler_of(
    make: Callable[[], Any],
    sessions: Any,
    middleware: Sequence[str],
    *,
    around: Sequence[str] = (),
    **options: Any,
) -> Any:
    """With other middleware inside of that of sessions, and around it."""
    global session_middleware
    use = Configured(paired("Site", sessions), sweep=None, **options)
    session_middleware = type("SiteMiddleware", (SessionMiddleware,), {"use": use})
    with override_settings(
        MIDDLEWARE=[
            *around,
            f"{__name__}.session_middleware",
            *middleware,
            f"{__name__}.AnsweringMiddleware",
        ]
    ):
        return make()


class _Told:
    """A body at whose end the error is raised of which it tells."""

    def __init__(self, body: Any, environ: "WSGIEnvironment") -> None:
        self._body = body
        self._environ = environ

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        self._body.close()
        if _ERROR in self._environ:
            raise self._environ[_ERROR]


def django(sessions: Sessions, view: View, middleware: Sequence[str] = ()) -> "WSGIApplication":
    handler = handler_of(WSGIHandler, sessions, middleware)

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> _Told:
        environ[_VIEW] = view
        return _Told(handler(environ, start_response), environ)

    return app


def django_async(sessions: AsyncSessions, view: View, middleware: Sequence[str] = ()) -> Any:
    handler = handler_of(ASGIHandler, sessions, middleware)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # Django reads the whole body before it opens anything, so the view waits for the real one.
        bodies = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive_at_once() -> Any:
            return bodies.pop() if bodies else await asyncio.Event().wait()

        scope |= {"path": "/awaited", _VIEW: view, _BODY: receive}
        await handler(scope, receive_at_once, send)
        if _ERROR in scope:
            raise scope[_ERROR]

    return app


FRAMEWORKS = {
    "django": Framework(WsgiDriver, django, is_async=False),
    "django-async": Framework(AsgiDriver, django_async, is_async=True),
}
