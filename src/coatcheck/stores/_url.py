"""A store's URL, taken apart; and what stores that are reached over a network have in common.

    scheme://user:password@host:port,host:port/path?option=value

Whatever in it is unknown is refused, since a misspelt option would be silently ignored otherwise.
No message shows the URL itself: it may hold a password.

It is taken apart here and not by `urlsplit`, which in newer Pythons refuses several hosts where one
that is not the first stands in brackets (CVE-2025-0938).
"""

import re
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import parse_qsl, unquote

from coatcheck.errors import ConfigurationError

__all__ = ["CALL", "CONNECT", "Host", "StoreURL", "missing_driver", "seconds", "shown"]

CONNECT = 1.0
"""Seconds that connecting to a server may take, by default."""

CALL = 0.5
"""Seconds that a server may take to answer one call, by default."""

_LONGEST = 3600

Host = tuple[str, int | None]

_part = re.compile(  # RFC 3986, appendix B; the scheme as in section 3.1
    r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL
).fullmatch
_is_host = re.compile(r"\[[^\[\]\s]+\]|[^\[\]\s]+").fullmatch


class StoreURL:
    """What a URL says. Options are taken one by one; `done` refuses those that nobody took."""

    def __init__(self, text: str) -> None:
        text = text.strip()
        scheme, authority, path, query, self.fragment = _parts(text)
        self.scheme = scheme.lower()
        try:  # no form's '+', which would be a space
            pairs = parse_qsl(query.replace("+", "%2B"), True, bool(query))
        except ValueError:
            self.refuse("options as name=value", "others", "write ?name=value&name=value")
        if authority and "@" in path + query:
            self.refuse(
                "one '@', between the password and the host",
                "another behind it",
                "write '@' as %40, '/' as %2F, '?' as %3F and '#' as %23 in a user or a password",
            )
        self._is_local = text[len(scheme) :].startswith(":///")
        self.path = unquote(path)
        login, _, hosts = authority.rpartition("@")
        user, _, password = login.partition(":")
        self.user = unquote(user) or None
        self.password = unquote(password) or None  # an empty one is none
        self.hosts: Sequence[Host] = [self._host(each) for each in hosts.split(",") if each]
        self._options = dict(pairs)
        if len(self._options) < len(pairs):
            self.refuse("each option once", "one of them twice", "leave one out")
        if self.fragment:
            self.refuse("no fragment", "a '#'", "write a '#' within a part as %23")

    def __repr__(self) -> str:
        return f"StoreURL({self.scheme}:…)"

    def text(self, option: str, default: str | None = None) -> str | None:
        """An option as it stands."""
        return self._options.pop(option, default)

    def seconds(self, option: str, default: float) -> float:
        """An option that is a time-out."""
        text = self._options.pop(option, None)
        if text is None:
            return default
        try:
            return seconds(option, float(text), "from_url")
        except ValueError:
            self.refuse(f"{option} to be seconds, up to {_LONGEST}", text[:20], "write 0.5, say")

    def number(self, option: str, default: int, most: int = 10_000) -> int:
        """An option that is a whole number from 0 up."""
        text = self._options.pop(option, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= most):
            self.refuse(f"{option} to be a number up to {most}", text[:20], f"write {default}, say")
        return int(text)

    def flag(self, option: str, default: bool) -> bool:
        """An option that is yes or no."""
        text = self._options.pop(option, "yes" if default else "no")
        if text not in ("yes", "no"):
            self.refuse(f"{option} to be yes or no", text[:20], "write one of the two")
        return text == "yes"

    def file_path(self) -> str:
        """The path of scheme:///path, relative; or absolute, behind four slashes."""
        path = self.path.removeprefix("/")
        if not self._is_local or not path:
            self.refuse(
                f"'{self.scheme}:///path'",
                "a URL with other parts",
                "write three slashes and a path, four for an absolute one, with '?' and '#' in it "
                "as %3F and %23",
            )
        return path

    def done(self) -> None:
        """Raise `ConfigurationError` where an option is left that the store does not have."""
        if self._options:
            left = ", ".join(sorted(self._options))[:80]
            self.refuse("options that this store has", left, "check how they are spelt")

    def refuse(self, expected: str, got: str, remedy: str) -> NoReturn:
        """A part of the URL cannot be."""
        raise ConfigurationError(f"from_url: expected {expected}, got {got}; {remedy}")

    def _host(self, text: str) -> Host:
        name, colon, port = text.rpartition(":")
        if not colon or text.endswith("]"):
            name, port = text, ""
        if not name.strip("[]"):
            self.refuse("a host before the port", "none", "write host:port")
        if not _is_host(name):
            self.refuse("a host's name or address", "another", "write an IPv6 address as [::1]")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            # What stands there may be a password that has a '/' or '#' in it, so it is not shown.
            self.refuse(
                "a port from 1 to 65535",
                "another",
                "write host:port, and '/', '#' or '?' within a password as %2F, %23 or %3F",
            )
        return unquote(name.strip("[]")), int(port) if port else None


def _parts(text: str) -> list[str]:
    """Scheme, authority, path, query and fragment, each as it stands or empty."""
    match = _part(text)
    assert match is not None  # whatever the text, for all of it is optional
    return [part or "" for part in match.groups()]


def shown(url: str) -> str:
    """The URL without its secrets, to be shown to its owner."""
    head, at, tail = url.rpartition("@")
    scheme = head.partition("://")[0]
    tail = tail.partition("?")[0]
    return f"{scheme}://…@{tail}" if at else tail


def seconds(option: str, given: object, where: str) -> float:
    """A time-out, checked."""
    if type(given) not in (int, float) or not 0 < given <= _LONGEST:  # type: ignore[operator]
        raise ConfigurationError(
            f"{where}: expected {option} to be seconds, above 0 and up to {_LONGEST}, got "
            f"{given!r}; pass 0.5, say"
        )
    return float(given)  # type: ignore[arg-type]


def missing_driver(module: str, extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error for a store whose driver is not installed, which names the extra that brings it."""
    return ModuleNotFoundError(
        f"{module}: expected the package {error.name}, got none; install it with: "
        f"pip install 'coatcheck[{extra}]'",
        name=error.name,
    )
