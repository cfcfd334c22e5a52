"""Serving the demo: where sessions and users are kept, the sockets, and the way out."""

import asyncio
import errno
import os
import socket
import sqlite3
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Literal

import uvicorn

from coatcheck import ConfigurationError
from coatcheck.demo.app import create_app, create_site
from coatcheck.demo.pages import Site
from coatcheck.demo.users import DEMO_USERS, Users
from coatcheck.store import AsyncCarrierStore, AsyncStore
from coatcheck.stores import async_from_url
from coatcheck.stores._url import StoreURL, shown
from coatcheck.stores.sqlite import AsyncSQLiteStore

__all__ = ["run"]

_SECONDS_TO_FINISH = 2
_LARGEST_MESSAGE = 4096


def run(
    *,
    host: str = "localhost",
    port: int = 8000,
    store_url: str | None = None,
    limit: int | None = None,
    over_limit: Literal["end", "refuse"] = "end",
    renew_after: float = 130,
) -> None:
    """Serve the demo until Ctrl-C. Without a `store_url`, SQLite in the user's data folder.

    `renew_after` is in seconds, and short, so that one can see it happen; a real site renews every
    quarter of an hour or so. 0 renews no ticket. Raises `ConfigurationError` where that cannot
    begin, as where the port is taken.
    """
    with ExitStack() as stack:
        try:
            store, users, where = _kept(store_url)
            stack.enter_context(closing(users))
            site = create_site(
                store,
                users,
                limit=limit,
                over_limit=over_limit,
                renew_after=_renewal(store, renew_after),
            )
            sockets = _listen(host, port, stack)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"demo: {error}") from error
        _welcome(host, sockets[0].getsockname()[1], where)
        _serve(site, sockets)


def _renewal(store: AsyncStore | AsyncCarrierStore, seconds: float) -> float | None:
    """A cookie that is the whole session has no proof to renew."""
    return None if isinstance(store, AsyncCarrierStore) or not seconds else seconds


def _serve(site: Site, sockets: list[socket.socket]) -> None:
    config = uvicorn.Config(
        create_app(site),
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        ws_max_size=_LARGEST_MESSAGE,
    )
    with asyncio.Runner() as runner:
        with suppress(KeyboardInterrupt):
            runner.run(uvicorn.Server(config).serve(sockets))
        runner.run(site.sessions.close())


def _kept(store_url: str | None) -> tuple[AsyncStore | AsyncCarrierStore, Users, str]:
    """The sessions' store, the users beside it, and where that is, in words."""
    if store_url is None:
        folder = _data_folder()
        users = Users(folder / "users.sqlite3")
        where = f"{folder} (remove it to begin afresh)"
        return AsyncSQLiteStore(folder / "sessions.sqlite3"), users, where
    return async_from_url(store_url), Users(_users_path(store_url)), shown(store_url)


def _users_path(store_url: str) -> Path | str:
    """Users live where the sessions do: in memory, beside their file; else in the data folder."""
    parts = StoreURL(store_url)
    if parts.scheme == "memory":
        return ":memory:"
    if parts.scheme in ("sqlite", "file"):
        return Path(parts.path[1:]).with_suffix(".users.sqlite3")
    return _data_folder() / "users.sqlite3"


def _data_folder() -> Path:
    """The folder where this user's programs keep their data."""
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    folder = base / "coatcheck-demo"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _listen(host: str, port: int, stack: ExitStack) -> list[socket.socket]:
    """A socket for each address of the host: localhost has two where there is IPv6."""
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"demo: expected a port from 0 to 65535, got {port}")
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            sockets.append(socket.create_server((address, port), family=family))
            stack.enter_context(sockets[-1])
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(_taken(port)) from error
            failed = error
        port = sockets[0].getsockname()[1] if sockets else port
    if failed is not None and not sockets:
        raise failed
    return sockets


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, *_, address in found))


def _taken(port: int) -> str:
    return (
        f"demo: expected port {port} to be free, got one that another program listens on; "
        f"stop that program, or choose another port, as with --port {port + 1}"
    )


def _welcome(host: str, port: int, where: str) -> None:
    shown = f"[{host}]" if ":" in host else host
    lines = [
        "",
        f"  The Cloakroom is open:  http://{shown}:{port}",
        "",
        *(f"    {user.username:<8} {user.password}" for user in DEMO_USERS),
        "",
        f"  Sessions and users are kept in {where}.",
        *_warning(host),
        "  Ctrl-C closes it.",
        "",
    ]
    print("\n".join(lines), flush=True)


def _warning(host: str) -> list[str]:
    if host in ("localhost", "127.0.0.1", "::1"):
        return []
    return [
        "  Open it as http://localhost: the session's cookie is Secure, and over plain HTTP",
        "  browsers keep such a cookie for no other name. Other machines need HTTPS before it.",
    ]
