"""Read a Cookie header, write a Set-Cookie header.

Reading follows what browsers send, not what a grammar hopes for (RFC 6265bis, section 5.8.3, and
"Cookies: HTTP State Management Mechanism", the layered draft that follows it): pairs end at ";"
whatever the quotes around it say, names are compared exactly, blanks around a name or a value do
not count, and one surrounding pair of quotes is not part of a value. No standard says which of two
cookies of one name is meant (a sibling host or a longer path may have planted the other), so `read`
returns them all, in order, and the caller, who can tell a good token from a bad one, decides.

One regular expression per cookie does it, over the header with a ";" put before it, so that every
pair begins with the same literal. Its repeats are possessive, and no two of them can match the same
character, so it never looks back: linear time on any header.

Writing fixes everything but the value at construction, where mistakes are found: `Secure` and
`HttpOnly` always, `SameSite` always (a cookie without it may ride along on cross-site posts for two
minutes, 6265bis section 5.6.7.2), and a name prefix, by which the browser itself refuses a cookie
that somebody else planted over plain HTTP or from a sibling host (6265bis section 4.1.3; the two
Http prefixes are the layered draft's). Browsers match prefixes in any case, servers exactly, so a
name that differs from a prefix only in case is refused. `Partitioned` is CHIPS. A cookie is deleted
by one with the same name, domain, path and partition, so `delete` is built from the same parts.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

from coatcheck.errors import ConfigurationError, CookieTooLarge

__all__ = ["MAX_AGE", "MAX_BYTES", "Cookie", "join"]

MAX_AGE = 34_560_000  # 400 days: browsers cap a longer age to this (6265bis, section 5.5)
MAX_BYTES = 4096  # name and value together: browsers drop a larger cookie (section 5.7)

_PREFIXES = ("__Host-Http-", "__Host-", "__Http-", "__Secure-")  # the longest match counts
_SAMESITE = {"lax": "Lax", "strict": "Strict", "none": "None"}
_ENDED = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"

_is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}").fullmatch
_VALUE_OCTETS = bytes(
    [0x21, *range(0x23, 0x2C), *range(0x2D, 0x3B), *range(0x3C, 0x5C), *range(0x5D, 0x7F)]
)
_is_path = re.compile(r"/[ -:<-~]{0,1023}").fullmatch
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_is_domain = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}").fullmatch


def join(headers: Iterable[bytes]) -> bytes | None:
    """The Cookie headers of one request as one (HTTP/2 splits them); `None` where there is none."""
    found = list(headers)
    return b"; ".join(found) if found else None


@dataclass(frozen=True, slots=True)
class Cookie:
    """A session's cookie: its name and attributes, checked here so that browsers will keep it.

    `Cookie.insecure(...)` takes the same options, and leaves out Secure and the prefix: for plain
    HTTP, where anyone on the way may read and replace it.
    """

    insecure: ClassVar["type[Cookie]"]
    secure: ClassVar[bool] = True

    name: str = "session"
    _: KW_ONLY
    domain: str | None = None
    path: str = "/"
    samesite: str = "lax"
    partitioned: bool = False
    persistent: bool = True  # advice to the caller: where False, it gives `set` no age

    full_name: str = field(init=False, repr=False, compare=False)
    _tail: str = field(init=False, repr=False, compare=False)
    _begin: str = field(init=False, repr=False, compare=False)
    _find: Callable[[str], list[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._fix("domain", _checked_domain(self.domain))
        self._fix("samesite", _checked_samesite(self.samesite, self.secure))
        _check_path(self.path)
        _check_partitioned(self.partitioned, self.secure)
        self._fix("full_name", _full_name(self))
        self._fix("_tail", _tail(self))
        self._fix("_begin", self.full_name + "=")
        pattern = rf";[ \t]*+{re.escape(self.full_name)}[ \t]*+=([^;]*+)"
        self._fix("_find", re.compile(pattern).findall)

    def _fix(self, slot: str, value: Any) -> None:
        object.__setattr__(self, slot, value)

    def read(self, header: str | bytes | None) -> list[str]:
        """The values of every cookie of exactly this name, in order; never raises."""
        if not header:
            return []
        if isinstance(header, bytes):
            header = header.decode("latin-1")
        if self.full_name not in header:
            return []
        # What browsers send nearly always: our name once, after "; " or first, and a plain value.
        before, _, after = header.partition(self._begin)
        value = after.partition(";")[0]
        lone = self.full_name not in after and (not before or before.endswith("; "))
        if lone and value and '"' not in value and " " not in value and "\t" not in value:
            return [value]
        values = [value.strip(" \t") for value in self._find(";" + header)]
        return [_unquoted(value) for value in values] if '"' in header else values

    def set(self, value: str, max_age: int | None) -> str:
        """A Set-Cookie header's value; without an age the browser forgets it when it closes."""
        name = self.full_name
        if not _is_value(value):
            raise _bad_value(name, value)
        if len(name) + len(value) > MAX_BYTES:
            raise _too_large(name, value)
        if max_age is None:
            return f"{name}={value}{self._tail}"
        if not 0 <= max_age <= MAX_AGE:
            max_age = 0 if max_age < 0 else MAX_AGE
        return f"{name}={value}; Max-Age={max_age}{self._tail}"

    def delete(self) -> str:
        """A Set-Cookie header's value that removes the cookie which `set` made."""
        return f"{self.full_name}={_ENDED}{self._tail}"


@dataclass(frozen=True, slots=True)
class _InsecureCookie(Cookie):
    secure: ClassVar[bool] = False


_InsecureCookie.__qualname__ = "Cookie.insecure"  # as it is written, so as repr shows it
Cookie.insecure = _InsecureCookie


def _is_value(value: str) -> bool:
    """Whether the value has only octets that a cookie may have (section 4.1.1)."""
    return value.isascii() and not value.encode().translate(None, _VALUE_OCTETS)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return value[1:-1] if quoted else value


def _bad_value(name: str, value: str) -> ValueError:
    at = next(at for at, octet in enumerate(value) if not _is_value(octet))
    return ValueError(
        f"cookie {name!r}: expected visible ASCII without quotes, commas, semicolons or "
        f"backslashes, got another character at position {at}; encode the value, as with base64url"
    )


def _too_large(name: str, value: str) -> CookieTooLarge:
    return CookieTooLarge(
        f"cookie {name!r}: expected at most {MAX_BYTES} bytes of name and value, "
        f"got {len(name) + len(value)}; keep less in it, or keep the session in a server-side store"
    )


def _require(held: object, option: str, expected: str, got: object, remedy: str) -> None:
    if not held:
        raise ConfigurationError(f"cookie {option}: expected {expected}, got {got!r:.99}; {remedy}")


def _checked_domain(domain: str | None) -> str | None:
    if domain is None:
        return None
    if isinstance(domain, str) and domain.startswith("."):
        remedy = f"write {domain[1:]!r:.99}, which covers its subdomains as well"
        _require(False, "domain", "no leading dot", domain, remedy)
    expected = "a host name of several labels, without scheme, port, path or closing dot"
    remedy = "leave it out to reach this host alone; write other alphabets as punycode (xn--)"
    held = isinstance(domain, str) and _is_domain(domain.lower())
    _require(held, "domain", expected, domain, remedy)
    return domain.lower()


def _checked_samesite(samesite: str, secure: bool) -> str:
    chosen = samesite.lower() if isinstance(samesite, str) else ""
    remedy = "take 'lax' unless other sites must show this one in a frame"
    _require(chosen in _SAMESITE, "samesite", "'lax', 'strict' or 'none'", samesite, remedy)
    remedy = "browsers drop such a cookie; take 'lax', or Cookie(...) with HTTPS"
    _require(secure or chosen != "none", "samesite", "'none' only with Secure", samesite, remedy)
    return chosen


def _check_path(path: str) -> None:
    expected = 'a path that begins with "/", of at most 1024 ASCII characters, no ";" or control'
    remedy = 'take "/", or percent-encode the rest'
    _require(isinstance(path, str) and _is_path(path), "path", expected, path, remedy)


def _check_partitioned(partitioned: bool, secure: bool) -> None:
    remedy = "browsers drop such a cookie; use Cookie(...) with HTTPS"
    _require(secure or not partitioned, "partitioned", "True only with Secure", partitioned, remedy)


def _full_name(cookie: Cookie) -> str:
    name = cookie.name
    expected = "1 to 64 letters, digits or !#$%&'*+-.^_`|~"
    held = isinstance(name, str) and _is_name(name)
    _require(held, "name", expected, name, "shorten it or replace the others, as with '_'")
    if not cookie.secure:
        remedy = "browsers drop such a cookie; use a plain name, or Cookie(...) with HTTPS"
        _require(not _prefix(name), "name", "no prefix without Secure", name, remedy)
        return name
    if not _prefix(name):
        name = ("__Host-" if _is_host_only(cookie) else "__Secure-") + name
    _check_prefix(name, _is_host_only(cookie))
    return name


def _check_prefix(name: str, host_only: bool) -> None:
    prefix = _prefix(name)
    remedy = f"browsers take it for {prefix!r}: spell it so, or choose another name"
    _require(name.startswith(prefix), "name", f"the prefix {prefix!r} exactly", name, remedy)
    remedy = "add a name, such as 'session'"
    _require(name != prefix, "name", f"a name after the prefix {prefix!r}", name, remedy)
    remedy = "leave out domain and path, or use '__Secure-'"
    held = host_only or not prefix.startswith("__Host-")
    _require(held, "name", f"{prefix!r} only with path '/' and no domain", name, remedy)


def _prefix(name: str) -> str:
    """The prefix by which browsers judge this name: in any case, the longest."""
    return next((p for p in _PREFIXES if name.lower().startswith(p.lower())), "")


def _is_host_only(cookie: Cookie) -> bool:
    return cookie.domain is None and cookie.path == "/"


def _tail(cookie: Cookie) -> str:
    """What follows value and age: the same whenever this cookie is set or deleted."""
    domain = f"; Domain={cookie.domain}" if cookie.domain else ""
    secure = "; Secure" if cookie.secure else ""
    partitioned = "; Partitioned" if cookie.partitioned else ""
    samesite = _SAMESITE[cookie.samesite]
    return f"{domain}; Path={cookie.path}{secure}; HttpOnly; SameSite={samesite}{partitioned}"
