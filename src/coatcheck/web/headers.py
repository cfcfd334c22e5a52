"""The one place that merges Set-Cookie, Vary and Cache-Control into a response's headers.

- A response that depends on the session says `Vary: Cookie`, so that a cache keeps one answer per
  cookie (RFC 9110, section 12.5.5). The app's own `Vary` headers are folded into one with ours;
  where one is `*`, which covers every header, nothing is added.
- A response that sets a cookie says `Cache-Control: no-store` instead of whatever the app said:
  a cache may store a Set-Cookie and hand it to the next visitor (RFC 9111, section 7.3). What
  would overrule it at a CDN goes too: `CDN-Cache-Control` and its like (RFC 9213).
- Each cookie is a header of its own, after the app's: two Set-Cookie headers cannot be folded
  (RFC 9110, section 5.3), and where the app set a cookie of our name, the browser keeps the last.

ASGI has lists of bytes, WSGI lists of str, and an empty list is neither, so each kind has a
function of its own, and a vocabulary; the rules are written once. The list given is never changed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import AnyStr, Generic

from coatcheck.cookie import join

__all__ = ["RETRY_AFTER", "joined_cookie", "merge_bytes", "merge_str"]


RETRY_AFTER = "5"
"""Seconds after which a client may try again when the store was out of reach (RFC 9110, 10.2.3)."""


@dataclass(frozen=True, slots=True)
class _Words(Generic[AnyStr]):
    """The rules' vocabulary, in one kind of string; names as they are sent."""

    vary: tuple[AnyStr, AnyStr]
    no_store: tuple[AnyStr, AnyStr]
    set_cookie: AnyStr
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


def merge_bytes(
    headers: Iterable[tuple[bytes, bytes]], cookies: Sequence[str], *, vary: bool
) -> list[tuple[bytes, bytes]]:
    """ASGI's headers with ours: `cookies` are the values of Set-Cookie headers."""
    merged = list(headers)
    if vary:
        merged = _with_vary(merged, _BYTES)
    if cookies:
        return _with_cookies(merged, [cookie.encode("latin-1") for cookie in cookies], _BYTES)
    return merged


def merge_str(
    headers: list[tuple[str, str]], cookies: Sequence[str], *, vary: bool
) -> list[tuple[str, str]]:
    """WSGI's headers with ours: `cookies` are the values of Set-Cookie headers."""
    merged = _with_vary(list(headers), _STR) if vary else list(headers)
    return _with_cookies(merged, cookies, _STR) if cookies else merged


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
    values = words.comma.join([v for n, v in headers if n.lower() == words.lower_vary])
    parts = [part.strip(words.blanks) for part in values.split(words.comma[:1])]
    members = [part for part in parts if part]
    if words.covering.isdisjoint([member.lower() for member in members]):
        members.append(cookie)
    merged = _without(words.lower_vary, headers)
    merged.append((name, words.comma.join(members)))
    return merged


def _with_cookies(
    headers: list[tuple[AnyStr, AnyStr]], cookies: Sequence[AnyStr], words: _Words[AnyStr]
) -> list[tuple[AnyStr, AnyStr]]:
    merged = [header for header in headers if not _is_about_caching(header[0], words)]
    merged.append(words.no_store)
    merged.extend([(words.set_cookie, cookie) for cookie in cookies])
    return merged


def _is_about_caching(name: AnyStr, words: _Words[AnyStr]) -> bool:
    lowered = name.lower()
    return lowered.endswith(words.lower_cache_control) or lowered == words.lower_surrogate


def _without(name: AnyStr, headers: list[tuple[AnyStr, AnyStr]]) -> list[tuple[AnyStr, AnyStr]]:
    return [header for header in headers if header[0].lower() != name]
