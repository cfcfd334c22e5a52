"""Log a test client in, whatever framework it belongs to."""

import asyncio
import inspect
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from http.cookiejar import Cookie, CookieJar
from typing import Any

from coatcheck.errors import ConfigurationError
from coatcheck.lifetime import Lifetime
from coatcheck.session import Session
from coatcheck.sessions import AsyncSessions, Sessions

__all__ = ["login"]


def login(
    client: Any,
    sessions: Sessions | AsyncSessions,
    subject: str,
    *,
    remember: bool = False,
    lifetime: Lifetime | None = None,
    level: int = 1,
    methods: Sequence[str] = (),
    authenticated_at: datetime | None = None,
    values: Mapping[str, Any] | None = None,
) -> str:
    """Log a test client in without its site's login page; returns the session's id.

    Works with the clients of Starlette, FastAPI, Litestar, httpx and requests
    (`client.cookies.set`), Flask and Quart (`client.set_cookie`), WebTest (`client.cookiejar`),
    Django (`client.cookies[name]`) and aiohttp (`client.session.cookie_jar`). Those of Falcon and
    Sanic keep no cookies: they show this one with every request. For a client that keeps nothing,
    such as Tornado's, `client` is the mapping of headers that each request is given. `values` are
    put into the session; the other options are those of `Session.login`.
    """

    def fill(session: Session) -> None:
        session.login(
            subject,
            remember=remember,
            lifetime=lifetime,
            level=level,
            methods=methods,
            authenticated_at=authenticated_at,
        )
        session.update(values or {})

    if isinstance(sessions, AsyncSessions):
        session, header = _in_a_loop(lambda: _afilled(sessions, fill))
    else:
        session = sessions.open(None)
        fill(session)
        header = sessions.commit(session)[0]
    _give(client, *header.split(";")[0].split("=", 1))
    return str(session.id)


async def _afilled(sessions: AsyncSessions, fill: Callable[[Session], None]) -> tuple[Session, str]:
    session = await sessions.open(None)
    fill(session)
    return session, (await sessions.commit(session))[0]


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
    if isinstance(getattr(client, "cookiejar", None), CookieJar):
        client.cookiejar.set_cookie(_of_host(client, name, value))
    elif hasattr(client, "set_cookie"):
        # Quart's wants a server's name first, and sends the cookie to all of them.
        of_quart = "server_name" in inspect.signature(client.set_cookie).parameters
        client.set_cookie(*["localhost"] * of_quart, name, value)
    elif hasattr(getattr(client, "cookies", None), "set"):
        client.cookies.set(name, value, domain=_domain_of(client))
    elif hasattr(client, "cookies"):
        client.cookies[name] = value
    elif hasattr(getattr(client, "session", None), "cookie_jar"):
        # With the site's address, so that the site may replace it.
        client.session.cookie_jar.update_cookies({name: value}, client.make_url("/"))
    elif hasattr(client, "get_new_session"):  # Sanic's, which makes a client for each request
        made = client.get_new_session
        given = {**getattr(made, "keywords", {}).get("cookies", {}), name: value}
        client.get_new_session = partial(getattr(made, "func", made), cookies=given)
    elif hasattr(client, "_default_headers"):  # Falcon's, which has no public place for it
        client._default_headers = headers = {**(client._default_headers or {})}
        _add_to(headers, name, value)
    elif hasattr(getattr(client, "_session", None), "cookies"):  # Sanic's ReusableClient
        client._session.cookies.set(name, value)
    elif isinstance(client, MutableMapping):
        _add_to(client, name, value)
    else:
        raise ConfigurationError(
            f"login(): expected a test client that keeps cookies, got {type(client).__name__}; "
            "set the cookie yourself, as sessions.commit gives it"
        )


def _add_to(headers: MutableMapping[str, str], name: str, value: str) -> None:
    """Among the cookies that are there already."""
    kept = [pair for pair in headers.get("Cookie", "").split("; ") if pair]
    others = [pair for pair in kept if not pair.startswith(f"{name}=")]
    headers["Cookie"] = "; ".join([*others, f"{name}={value}"])


def _of_host(client: Any, name: str, value: str) -> Cookie:
    """As if the site had set it: WebTest's `set_cookie` makes one for a whole domain, which stays
    beside the next one of that name."""
    host = client.extra_environ.get("HTTP_HOST", "localhost").partition(":")[0]
    domain = host if "." in host else f"{host}.local"  # which is how a jar writes it
    named, given = (name, value, None, False), (domain, False, False)
    return Cookie(0, *named, *given, "/", True, False, None, True, None, None, {})
