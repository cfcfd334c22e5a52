"""The one place that merges Set-Cookie, Vary, Cache-Control and Clear-Site-Data into a response's
headers.

- A response that depends on the session says `Vary: Cookie`, so that a cache keeps one answer per
  cookie (RFC 9110, section 12.5.5). The app's own `Vary` headers are folded into one with ours;
  where one is `*`, which covers every header, nothing is added.
- A response that sets a cookie says `Cache-Control: no-store` instead of whatever the app said:
  a cache may store a Set-Cookie and hand it to the next visitor (RFC 9111, section 7.3). What
  would overrule it at a CDN goes too: `CDN-Cache-Control` and its like (RFC 9213).
- Each cookie is a header of its own, after the app's: two Set-Cookie headers cannot be folded
  (RFC 9110, section 5.3), and where the app set a cookie of our name, the browser keeps the last.
- A response that a gate with `no_store=True` let through says `no-store` too, where the app says
  nothing of its own.
- What Clear-Site-Data names is folded with what the app's own headers name, each kind once.

ASGI has lists of bytes, WSGI lists of str, and an empty list is neither, so each kind has a
function of its own, and a vocabulary; the rules are written once. The list given is never changed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import AnyStr, Generic, NamedTuple

from coatcheck.cookie import join
from coatcheck.gate import Refused

__all__ = ["READ", "RETRY_AFTER", "UNTOUCHED", "Head", "joined_cookie", "merge_bytes", "merge_str"]


RETRY_AFTER = "5"
"""Seconds after which a client may try again when the store was out of reach (RFC 9110, 10.2.3)."""


class Head(NamedTuple):
    """What a response owes to its sessions."""

    cookies: Sequence[str]
    """The values of its Set-Cookie headers."""
    vary: bool
    """Whether it says `Vary: Cookie`."""
    refused: Refused | None = None
    """The answer to give in the app's place."""
    clear: Sequence[str] = ()
    """The values of its Clear-Site-Data headers."""
    no_store: bool = False
    """Whether it says `Cache-Control: no-store` where the app says nothing of caches."""


READ = Head((), True)
"""Of a response that depends on a session, and owes it nothing else."""

UNTOUCHED = Head((), False)
"""Of one that has nothing to do with a session."""


@dataclass(frozen=True, slots=True)
class _Words(Generic[AnyStr]):
    """The rules' vocabulary, in one kind of string; names as they are sent."""

    vary: tuple[AnyStr, AnyStr]
    no_store: tuple[AnyStr, AnyStr]
    set_cookie: AnyStr
    clear_site_data: AnyStr
    lower_vary: AnyStr
    lower_cache_control: AnyStr
    lower_surrogate: AnyStr
    covering: frozenset[AnyStr]  # members of Vary that make another one needless
    comma: AnyStr
    blanks: AnyStr


_BYTES = _Words(
    vary=(b"vary", b"Cookie"),
    no_store=(b"cache-control", b"no-store"),
    set_cookie=b"set-cookie",
    clear_site_data=b"clear-site-data",
    lower_vary=b"vary",
    lower_cache_control=b"cache-control",
    lower_surrogate=b"surrogate-control",
    covering=frozenset([b"cookie", b"*"]),
    comma=b", ",
    blanks=b" \t",
)
_STR = _Words(
    vary=("Vary", "Cookie"),
    no_store=("Cache-Control", "no-store"),
    set_cookie="Set-Cookie",
    clear_site_data="Clear-Site-Data",
    lower_vary="vary",
    lower_cache_control="cache-control",
    lower_surrogate="surrogate-control",
    covering=frozenset(["cookie", "*"]),
    comma=", ",
    blanks=" \t",
)


def joined_cookie(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The Cookie headers of an ASGI scope as one, or `None`."""
    found = None
    for name, value in headers:
        if name == b"cookie":
            found = value if found is None else join((found, value))
    return found


def merge_bytes(headers: Iterable[tuple[bytes, bytes]], head: Head) -> list[tuple[bytes, bytes]]:
    """ASGI's headers with ours."""
    merged = list(headers)
    if head.vary:
        merged = _with_vary(merged, _BYTES)
    if head.clear:
        merged = _with_clear(merged, _encoded(head.clear), _BYTES)
    if head.cookies:
        return _with_cookies(merged, _encoded(head.cookies), _BYTES)
    return _with_no_store(merged, _BYTES) if head.no_store else merged


def merge_str(headers: list[tuple[str, str]], head: Head) -> list[tuple[str, str]]:
    """WSGI's headers with ours."""
    merged = _with_vary(list(headers), _STR) if head.vary else list(headers)
    if head.clear:
        merged = _with_clear(merged, head.clear, _STR)
    if head.cookies:
        return _with_cookies(merged, head.cookies, _STR)
    return _with_no_store(merged, _STR) if head.no_store else merged


def _encoded(values: Sequence[str]) -> list[bytes]:
    return [value.encode("latin-1") for value in values]


def _with_vary(
    headers: list[tuple[AnyStr, AnyStr]], words: _Words[AnyStr]
) -> list[tuple[AnyStr, AnyStr]]:
    """The list itself, which is ours, with `Vary` added; or another one."""
    # Lengths are compared first: lowering every name would double the cost of the common case.
    for name, _ in headers:
        if len(name) == 4 and name.lower() == words.lower_vary:
            return _with_folded_vary(headers, words)
    headers.append(words.vary)
    return headers


def _with_folded_vary(
    headers: list[tuple[AnyStr, AnyStr]], words: _Words[AnyStr]
) -> list[tuple[AnyStr, AnyStr]]:
    name, cookie = words.vary
    members = _members([v for n, v in headers if n.lower() == words.lower_vary], words)
    if words.covering.isdisjoint([member.lower() for member in members]):
        members.append(cookie)
    merged = _without(words.lower_vary, headers)
    merged.append((name, words.comma.join(members)))
    return merged


def _with_clear(
    headers: list[tuple[AnyStr, AnyStr]], values: Sequence[AnyStr], words: _Words[AnyStr]
) -> list[tuple[AnyStr, AnyStr]]:
    lowered = words.clear_site_data.lower()
    members = _members([v for n, v in headers if n.lower() == lowered], words)
    members += _members(values, words)
    merged = _without(lowered, headers)
    merged.append((words.clear_site_data, words.comma.join(dict.fromkeys(members))))
    return merged


def _members(values: Sequence[AnyStr], words: _Words[AnyStr]) -> list[AnyStr]:
    """What a list in one header or several holds."""
    parts = words.comma.join(values).split(words.comma[:1])
    return [part for part in (part.strip(words.blanks) for part in parts) if part]


def _with_cookies(
    headers: list[tuple[AnyStr, AnyStr]], cookies: Sequence[AnyStr], words: _Words[AnyStr]
) -> list[tuple[AnyStr, AnyStr]]:
    merged = [header for header in headers if not _is_about_caching(header[0], words)]
    merged.append(words.no_store)
    merged.extend([(words.set_cookie, cookie) for cookie in cookies])
    return merged


def _with_no_store(
    headers: list[tuple[AnyStr, AnyStr]], words: _Words[AnyStr]
) -> list[tuple[AnyStr, AnyStr]]:
    """The list itself, which is ours."""
    if not any(name.lower() == words.lower_cache_control for name, _ in headers):
        headers.append(words.no_store)
    return headers


def _is_about_caching(name: AnyStr, words: _Words[AnyStr]) -> bool:
    lowered = name.lower()
    return lowered.endswith(words.lower_cache_control) or lowered == words.lower_surrogate


def _without(name: AnyStr, headers: list[tuple[AnyStr, AnyStr]]) -> list[tuple[AnyStr, AnyStr]]:
    return [header for header in headers if header[0].lower() != name]
