"""Django's session middleware, for synchronous and asynchronous handlers alike.

Django makes a response of every exception before it reaches a middleware, so what the app raised
is seen in two ways: an outage in `process_exception`, where it is answered before Django makes an
error page of it and mails it to the administrators, and everything else by its status. Where the
app made a 500 of an outage before, it is known from the session, and from its `save`.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.contrib.sessions.middleware import (  # type: ignore[import-untyped]
    SessionMiddleware as DjangoSessionMiddleware,
)

from coatcheck import context
from coatcheck.errors import Contention, StoreUnavailable
from coatcheck.session import Session
from coatcheck.web.django.conf import configured
from coatcheck.web.django.pairs import Configured
from coatcheck.web.django.responses import add, attend, refusal
from coatcheck.web.django.store import SessionStore
from coatcheck.web.exchange import UNAVAILABLE, AsyncExchange, Exchange, Head
from coatcheck.web.headers import joined_cookie

__all__ = ["SessionMiddleware"]


class SessionMiddleware(DjangoSessionMiddleware):  # type: ignore[misc]
    """Puts the request's session into `request.session`, and commits it in time.

    It takes the place of Django's own, and does what the settings say. Further sessions are
    `request.sessions[name]`.
    """

    use: Configured | None = None
    """What a subclass works with in the place of the settings."""

    def __call__(self, request: Any) -> Any:
        if self.async_mode:
            return self.__acall__(request)
        config = self.use or configured()
        if config.skip.match(request.path_info):
            self._skip(request, config, Exchange.open(config.sync, None, None))
            return self.get_response(request)
        header, client = _cookie_header(request), partial(config.client, request)
        exchange = Exchange.open(config.sync, header, client)
        store = self._give(request, config, exchange, header)
        response = None
        bound = context.bind(exchange.opened)
        try:
            response = self.get_response(request)
            head = exchange.respond(response.status_code, store._failure)
        except BaseException as error:  # a server's time limit may be no Exception
            head = exchange.fail(error)
            if head.refused is None or not isinstance(error, Exception):
                raise
        finally:
            context.unbind(bound)
        return _answer(request, response, head, exchange, config)

    async def __acall__(self, request: Any) -> Any:
        config = self.use or configured()
        if config.skip.match(request.path_info):
            exchange = await AsyncExchange.open(config.asynchronous, None, None)
            self._skip(request, config, exchange)
            return await self.get_response(request)
        header, client = _cookie_header(request), partial(config.client, request)
        exchange = await AsyncExchange.open(config.asynchronous, header, client)
        store = self._give(request, config, exchange, header)
        response = None
        bound = context.bind(exchange.opened)
        try:
            response = await self.get_response(request)
            head = await exchange.respond(response.status_code, store._failure)
        except asyncio.CancelledError:
            await exchange.fail()  # nobody waits any more; who asked to leave has left all the same
            raise
        except Exception as error:
            head = await exchange.fail(error)
            if head.refused is None:
                raise
        finally:
            context.unbind(bound)
        return _answer(request, response, head, exchange, config)

    def process_exception(self, request: Any, error: Exception) -> Any:
        """An outage that no view and no other middleware answered for."""
        return refusal(UNAVAILABLE) if isinstance(error, StoreUnavailable | Contention) else None

    def _give(
        self,
        request: Any,
        config: Configured,
        exchange: Exchange | AsyncExchange,
        header: str | bytes | None,
    ) -> SessionStore:
        for sweeper in config.sweepers:
            sweeper.start()
        request.session = store = self._store(exchange.session, config, header)
        request.sessions = exchange.named
        return store

    def _skip(self, request: Any, config: Configured, exchange: Exchange | AsyncExchange) -> None:
        """Nothing is opened on this path: Django's users find empty sessions, which no change can
        get into, because nobody would write it."""
        for session in exchange.opened.values():
            session.close()
        request.session = self._store(exchange.session, config, None)
        request.sessions = exchange.named

    def _store(
        self, session: Session, config: Configured, header: str | bytes | None
    ) -> SessionStore:
        engine = self.SessionStore
        kind = engine if issubclass(engine, SessionStore) else SessionStore
        return kind._of_request(session, config.main, header)


def _cookie_header(request: Any) -> str | bytes | None:
    scope: Mapping[str, Any] | None = getattr(request, "scope", None)
    if scope is None:
        found: str | None = request.META.get("HTTP_COOKIE")
        return found
    # Django joins the Cookie headers of HTTP/2 by commas, which would hide the later cookies.
    return joined_cookie(scope["headers"])


def _answer(
    request: Any,
    response: Any,
    head: Head,
    exchange: Exchange | AsyncExchange,
    config: Configured,
) -> Any:
    if head.refused is not None:
        response = refusal(head.refused, instead_of=response)
    add(request, response, head)
    attend(response, exchange, config.watching(request))
    return response
