"""FastAPI: the session and who is logged in, as dependencies.

`web.asgi.SessionMiddleware` does the work; these say in an endpoint's signature what it needs. Who
needs a login shows so in OpenAPI: the security scheme is the session's cookie, by its real name.
They work for WebSockets too.
"""

import re
from typing import Annotated, Any, cast

from fastapi import Depends, HTTPException, WebSocketException
from fastapi.openapi.models import APIKey, APIKeyIn
from fastapi.requests import HTTPConnection, Request
from fastapi.security.base import SecurityBase

from coatcheck.context import current
from coatcheck.cookie import Cookie
from coatcheck.csrf import FIELD, CrossOriginProtection, async_check
from coatcheck.gate import LoginGate, Refused, async_admit, unauthorized
from coatcheck.session import Session
from coatcheck.web.asgi import facts

__all__ = ["CSRFProtected", "LoggedIn", "SessionDep", "SubjectDep"]


class LoggedIn(SecurityBase):
    """A dependency that gives who is logged in: the subject, or what the gate's `user=` loads.

    Without a gate, anybody else gets 401. With one it decides: it may ask for a fresh login, and
    sends a person who navigates to the login page. Its `public=` does not count here. `cookie` is
    that of the sessions, for OpenAPI; `name` says which session it is where the middleware has
    further ones.
    """

    def __init__(
        self,
        gate: LoginGate | None = None,
        *,
        cookie: Cookie = Cookie(),  # noqa: B008 - frozen
        name: str | None = None,
    ) -> None:
        self.gate = gate
        self._rule = gate or LoginGate()
        self.name = name
        self.model = APIKey.model_validate({"in": APIKeyIn.cookie, "name": cookie.full_name})
        self.scheme_name = re.sub(r"[^A-Za-z0-9._-]", "_", cookie.full_name)  # OpenAPI allows these

    async def __call__(self, connection: HTTPConnection) -> Any:
        request = facts(connection.scope, everywhere=True)
        verdict = await async_admit(self._rule, request, current(self.name), everywhere=True)
        if isinstance(verdict, Refused):
            raise _refusal(verdict if self.gate else unauthorized(), connection)
        if verdict.user is None:
            return verdict.subject
        connection.scope["user"] = verdict.user
        return verdict.user


class CSRFProtected:
    """A dependency that refuses what other sites send, for a router or an endpoint alone.

    A form is parsed as by `request.form()`; an endpoint that reads the body by itself finds it
    read, unless the token comes in the header. `web.asgi.CSRFMiddleware`, for a whole app, hands
    every body on.
    """

    def __init__(self, protection: CrossOriginProtection) -> None:
        self.protection = protection

    async def __call__(self, connection: HTTPConnection) -> None:
        async def field() -> str | None:
            try:
                found = (await cast("Request", connection).form()).get(FIELD)
            except (UnicodeError, LookupError):  # of the charset that the client names
                return None
            return found if isinstance(found, str) else None

        asked, session = facts(connection.scope, everywhere=True), connection.scope.get("session")
        refused = await async_check(self.protection, asked, session, field)
        if refused is not None:
            raise _refusal(refused, connection, refused.reason)


def _refusal(refused: Refused, connection: HTTPConnection, why: str = "log in first") -> Exception:
    if connection.scope["type"] == "websocket":
        return WebSocketException(1008, why)
    return HTTPException(refused.status, why, dict(refused.headers))


async def _session() -> Session:
    return current()


SessionDep = Annotated[Session, Depends(_session)]
"""The request's session, whoever it is."""

SubjectDep = Annotated[str, Depends(LoggedIn())]
"""Who is logged in; 401 for anybody else. The cookie is the default one."""
