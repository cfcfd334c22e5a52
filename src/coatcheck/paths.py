"""Path patterns: an exact path, or a prefix that ends in "/*"."""

from collections.abc import Iterable

from coatcheck.errors import ConfigurationError

__all__ = ["Patterns", "is_plain"]


class Patterns:
    """Which request paths an option means; raises `ConfigurationError` for a malformed pattern.

    A prefix covers everything below it: "/static/*" covers "/static/a" and "/static/a/b". It covers
    neither "/static" nor "/static/", which many routers take for one. A path that a server or
    router could read in two ways ("..", "//", a backslash) matches no prefix, so that
    "/static/../admin" is never taken for a static file. "/*" covers every path that is plain.
    """

    __slots__ = ("_bare", "_exact", "_prefixes")

    def __init__(self, option: str, patterns: Iterable[str]) -> None:
        if isinstance(patterns, str) or not isinstance(patterns, Iterable):
            raise _wrong(option, patterns)
        listed = list(patterns)
        for pattern in listed:
            if not isinstance(pattern, str) or not _is_pattern(pattern):
                raise _wrong(option, pattern)
        self._exact = frozenset(pattern for pattern in listed if not pattern.endswith("/*"))
        self._prefixes = tuple(pattern[:-1] for pattern in listed if pattern.endswith("/*"))
        self._bare = frozenset(self._prefixes) - {"/"}

    def __bool__(self) -> bool:
        return bool(self._exact or self._prefixes)

    def match(self, path: str) -> bool:
        """Whether one of the patterns covers the path."""
        if path in self._exact:
            return True
        return path.startswith(self._prefixes) and path not in self._bare and is_plain(path)


def _is_pattern(pattern: str) -> bool:
    exact = pattern.removesuffix("*") if pattern.endswith("/*") else pattern
    return exact.startswith("/") and "*" not in exact and is_plain(exact)


def is_plain(path: str) -> bool:
    """Whether every server and router reads the path in the same way."""
    doubtful = "//" in path or "\\" in path or "\0" in path or "%" in path
    return not doubtful and not {".", ".."} & set(path.split("/"))


def _wrong(option: str, got: object) -> ConfigurationError:
    return ConfigurationError(
        f"{option}: expected a list of paths, each exact or ending in '/*', got {got!r}; "
        "write them as in ['/', '/about', '/static/*']"
    )
