"""What a browser is asked to throw away at a logout: the header Clear-Site-Data (W3C).

Browsers heed it over HTTPS alone, and clear after they have set the response's cookies: "cookies"
takes also one that the same response sets. A response that ends one session and begins another, as
a login after a logout does, must therefore keep the cookies.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

from coatcheck.errors import ConfigurationError

__all__ = ["Directive", "SiteData", "site_data"]

Directive = Literal[
    "cache",
    "cookies",
    "storage",
    "executionContexts",
    "clientHints",
    "prefetchCache",
    "prerenderCache",
    "*",
]
"""A kind of data, as the header names it; "*" is every kind, later ones too."""

_DIRECTIVES: Final[tuple[Directive, ...]] = get_args(Directive)


class SiteData(NamedTuple):
    """The header's value, as it is, and for a response that sets a new cookie; "" for none."""

    everything: str
    but_cookies: str


def site_data(directives: Sequence[Directive]) -> SiteData:
    """The header for these. Raises `ConfigurationError` for what is no directive."""
    is_several = isinstance(directives, list | tuple)
    if not is_several or any(each not in _DIRECTIVES for each in directives):
        raise ConfigurationError(
            f"clear_site_data: expected a tuple of some of {list(_DIRECTIVES)}, got "
            f'{directives!r}; pass ("cache", "storage"), say'
        )
    each = _DIRECTIVES[:-1] if "*" in directives else directives
    return SiteData(_joined(directives), _joined([kind for kind in each if kind != "cookies"]))


def _joined(directives: Sequence[Directive]) -> str:
    return ", ".join(f'"{directive}"' for directive in directives)
