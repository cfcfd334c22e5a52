"""Where a PostgreSQL server is: a connection string, checked and taken apart host by host.

libpq tries several hosts one after another, but has one time limit for each of them and none for
all, and looks their names up without any. So each host is an attempt of its own here, and its name
is looked up beforehand, in a thread that nobody has to wait for. That goes for the hosts of libpq's
environment too, whose variables and service file are read when the store is made.
"""

import ipaddress
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from coatcheck.errors import ConfigurationError
from coatcheck.stores._url import CALL, CONNECT, StoreURL, seconds

__all__ = [
    "Address",
    "Attempt",
    "Options",
    "check_flag",
    "conninfo_of",
    "lookup",
    "options",
    "settings_of",
]

Attempt: TypeAlias = dict[str, Any]
Address: TypeAlias = str

_OURS = {"client_encoding": "utf-8", "fallback_application_name": "coatcheck"}
_DEFAULTS = {"target_session_attrs": "read-write", "keepalives_idle": "60"}
_WRITABLE = ("read-write", "primary")
_PASSED_ON = (
    *("application_name", "channel_binding", "gssencmode", "keepalives", "keepalives_count"),
    *("keepalives_idle", "keepalives_interval", "krbsrvname", "options", "passfile"),
    *("require_auth", "service", "ssl_max_protocol_version", "ssl_min_protocol_version"),
    *("sslcert", "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslnegotiation", "sslrootcert"),
    *("sslcertmode", "sslpassword", "sslsni", "target_session_attrs", "tcp_user_timeout"),
)
# An empty one would be taken for libpq's default, which requires and verifies nothing.
_NEVER_EMPTY = {name for name in _PASSED_ON if name not in ("application_name", "options")}
_PORT = 5432


class Options(NamedTuple):
    """What a store was told, checked."""

    attempts: list[Attempt]
    lines: list[Attempt]
    """The same, of the connection that listens."""
    timeout: float
    connect_timeout: float
    pool_size: int
    create: bool
    prepared: bool

    def __repr__(self) -> str:
        return "Options(…)"  # the attempts hold the password


def options(
    conninfo: str,
    *,
    listen: str,
    timeout: float,
    connect_timeout: float,
    pool_size: int,
    create: bool,
    prepared: bool,
) -> Options:
    if not psycopg.capabilities.has_pipeline():
        raise ConfigurationError(
            "PostgresStore: expected libpq 14 or newer beneath psycopg, got an older one; install "
            "'coatcheck[postgres]', whose psycopg[binary] brings its own"
        )
    if type(pool_size) is not int or not 1 <= pool_size <= 1000:
        raise ConfigurationError(
            f"PostgresStore: expected pool_size to be from 1 to 1000, got {pool_size!r}; pass 4, "
            "say"
        )
    for name, flag in (("create", create), ("prepared", prepared)):
        check_flag(name, flag)
    given = _taken_apart(conninfo)
    return Options(
        _attempts(_placed(_completed(given))),
        _attempts(_placed(_completed(_but(given, _taken_apart(listen))))),
        seconds("timeout", timeout, "PostgresStore"),
        seconds("connect_timeout", connect_timeout, "PostgresStore"),
        pool_size,
        create,
        prepared,
    )


def check_flag(name: str, given: object) -> None:
    """Any text would be true, "no" as well."""
    if type(given) is not bool:
        raise ConfigurationError(
            f"PostgresStore: expected {name} to be True or False, got {given!r:.80}; pass one of "
            "the two"
        )


def _taken_apart(conninfo: str) -> Attempt:
    given: Attempt | None = None
    if isinstance(conninfo, str) and "\0" not in conninfo:  # where libpq would take it to end
        with suppress(psycopg.Error, ValueError):
            given = dict(conninfo_to_dict(conninfo))
    if given is None:  # and the driver's error is not shown, as it holds parts of the string
        _refuse(
            "a connection string of libpq's",
            "one that cannot be taken apart",
            "pass 'postgresql://user@host/database', with what has a meaning in it as %40",
        )
    return given


def _but(given: Attempt, other: Attempt) -> Attempt:
    """With what the other says instead; where it says a host, a host's address is no longer its."""
    placed = ("host", "hostaddr", "port") if {"host", "hostaddr"} & set(other) else ()
    return {**{name: value for name, value in given.items() if name not in placed}, **other}


def _completed(given: Attempt) -> Attempt:
    empty = [name for name, value in given.items() if value == "" and name in _NEVER_EMPTY]
    if empty:
        _refuse(f"{empty[0]} to have a value", "none", "leave it out, or write one")
    if "connect_timeout" in given:
        _refuse("no connect_timeout in it", "one", "pass connect_timeout= to the store")
    asked = {**_DEFAULTS, **given}
    if asked["target_session_attrs"] not in _WRITABLE:
        _refuse(
            f"target_session_attrs to be one of {', '.join(_WRITABLE)}",
            "another",
            "leave it out, since sessions that ended live on in a standby that lags",
        )
    return {**asked, **_OURS}


def _placed(given: Attempt) -> Attempt:
    """With the host and the port that libpq would take from its environment."""
    defaults = {each.keyword.decode(): each.val for each in Conninfo.get_defaults()}
    names = ["port"]
    if not given.get("host") and not given.get("hostaddr"):
        names += ["host", "hostaddr"]
        if "service" in given:
            _refuse(
                "a host beside the service in it",
                "none",
                "name the host there, or the service by PGSERVICE in the environment",
            )
    return {
        **{name: value.decode() for name in names if (value := defaults.get(name))},
        **{name: value for name, value in given.items() if value or name not in names},
    }


def _attempts(given: Attempt) -> list[Attempt]:
    """One for each host, in their order."""
    hosts = str(given.get("host") or "").split(",")
    addresses = str(given.get("hostaddr") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    if not all(not port or (port.isascii() and port.isdigit()) for port in ports):
        _refuse("ports to be numbers", "another", "write a ':' within a password as %3A")
    count = max(len(hosts), len(addresses))
    if len(ports) == 1:
        ports *= count
    hosts += [""] * (count - len(hosts))
    addresses += [""] * (count - len(addresses))
    if len(ports) != count:
        _refuse("one port, or one for each host", f"{len(ports)}", "write host:port for each")
    rest = {
        name: value for name, value in given.items() if name not in ("host", "hostaddr", "port")
    }
    return [
        {**rest, **_without_empty(host=host, hostaddr=address, port=port)}
        for host, address, port in zip(hosts, addresses, ports, strict=True)
    ]


def _without_empty(**parts: str) -> dict[str, str]:
    return {name: value for name, value in parts.items() if value}


def _refuse(expected: str, got: str, remedy: str) -> NoReturn:
    raise ConfigurationError(f"PostgresStore: expected {expected}, got {got}; {remedy}")


def lookup(attempt: Attempt) -> "list[Address] | Future[list[Address]]":
    """The strings to connect with, one for each address that the host's name has."""
    host = attempt.get("host", "")
    if not host or "hostaddr" in attempt or _is_local(host):
        return [make_conninfo(**attempt)]
    with suppress(ValueError):
        return [make_conninfo(**{**attempt, "hostaddr": str(ipaddress.ip_address(host))})]
    found: Future[list[Address]] = Future()
    try:
        threading.Thread(target=_look_up, args=(attempt, found), daemon=True).start()
    except RuntimeError as error:  # there are too many, or the interpreter ends
        found.set_exception(OSError(f"no thread looks the host's name up: {error}"))
    return found


def _is_local(host: str) -> bool:
    return host.startswith(("/", "@")) or host[1:2] == ":"


def _look_up(attempt: Attempt, found: "Future[list[Address]]") -> None:
    try:
        answers = _resolved(attempt["host"], attempt.get("port", _PORT))
        result = [make_conninfo(**{**attempt, "hostaddr": address}) for address in answers]
    except Exception as error:  # noqa: BLE001 - whoever waits gets it
        if found.set_running_or_notify_cancel():
            found.set_exception(error)
    else:
        if found.set_running_or_notify_cancel():
            found.set_result(result)


def _resolved(host: str, port: Any) -> list[str]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # which is no OSError, as for the other names that are none
        raise socket.gaierror(socket.EAI_NONAME, "the host's name cannot be one") from error
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def conninfo_of(url: StoreURL) -> str:
    """The connection string that a store's URL stands for; its options are taken."""
    options: dict[str, Any] = {name: url.text(name) for name in _PASSED_ON}
    options["user"], options["password"] = url.user, url.password
    options["dbname"] = url.path.removeprefix("/") or None
    if url.hosts:
        options["host"] = ",".join(host for host, _ in url.hosts)
        options["port"] = ",".join(str(port or _PORT) for _, port in url.hosts)
    else:
        options["host"] = url.text("host")
        options["port"] = url.text("port")
    conninfo = None
    with suppress(psycopg.Error):
        conninfo = make_conninfo(
            **{name: text for name, text in options.items() if text is not None}
        )
    if conninfo is None:
        url.refuse("options that this libpq has", "another", "leave out what is newer than it")
    return conninfo


def settings_of(url: StoreURL) -> Mapping[str, Any]:
    """The other options of a store's URL, as its constructor takes them."""
    return {
        "table": f"{url.text('prefix', 'coatcheck_')}sessions",
        "timeout": url.seconds("timeout", CALL),
        "connect_timeout": url.seconds("connect_timeout", CONNECT),
        "pool_size": url.number("pool_size", 4, most=1000),
        "unlogged": url.flag("unlogged", False),
        "create": url.flag("create", True),
        "prepared": url.flag("prepared", True),
        "listen": url.text("listen", ""),
    }
