"""Log a test client in, whatever framework it belongs to."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coatcheck.errors import ConfigurationError
from coatcheck.session import Session
from coatcheck.sessions import AsyncSessions, Sessions

__all__ = ["login"]


def login(
    client: Any,
    sessions: Sessions | AsyncSessions,
    subject: str,
    *,
    remember: bool = False,
    values: Mapping[str, Any] | None = None,
) -> str:
    """Log a test client in without its site's login page; returns the session's id.

    Works with the clients of Starlette, FastAPI, Litestar, httpx and requests
    (`client.cookies.set`), Flask, Quart and WebTest (`client.set_cookie`), Django
    (`client.cookies[name]`) and aiohttp (`client.session.cookie_jar`). `values` are put into the
    session.
    """
    if isinstance(sessions, AsyncSessions):
        session, header = _in_a_loop(lambda: _alogged_in(sessions, subject, remember, values))
    else:
        session = sessions.open(None)
        _fill(session, subject, remember, values)
        header = sessions.commit(session)[0]
    _give(client, *header.split(";")[0].split("=", 1))
    return str(session.id)


async def _alogged_in(
    sessions: AsyncSessions, subject: str, remember: bool, values: Mapping[str, Any] | None
) -> tuple[Session, str]:
    session = await sessions.open(None)
    _fill(session, subject, remember, values)
    return session, (await sessions.commit(session))[0]


def _fill(session: Session, subject: str, remember: bool, values: Mapping[str, Any] | None) -> None:
    session.login(subject, remember=remember)
    session.update(values or {})


def _in_a_loop(run: Callable[[], Any]) -> Any:
    """The coroutine's result, from a thread of its own: the test may be inside a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(run())).result()


def _domain_of(client: Any) -> str:
    """The site's, as the client's cookie jar has it: then the site's answers replace the cookie."""
    host = str(getattr(getattr(client, "base_url", None), "host", ""))
    if ":" in host:
        return ""
    return host if not host or "." in host else host + ".local"


def _give(client: Any, name: str, value: str) -> None:
    if hasattr(client, "set_cookie"):
        client.set_cookie(name, value)
    elif hasattr(getattr(client, "cookies", None), "set"):
        client.cookies.set(name, value, domain=_domain_of(client))
    elif hasattr(client, "cookies"):
        client.cookies[name] = value
    elif hasattr(getattr(client, "session", None), "cookie_jar"):
        client.session.cookie_jar.update_cookies({name: value})
    else:
        raise ConfigurationError(
            f"login(): expected a test client that keeps cookies, got {type(client).__name__}; "
            "set the cookie yourself, as sessions.commit gives it"
        )
