"""Path patterns: an exact path, or a prefix; nothing that could be read in two ways."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError
from coatcheck.paths import Patterns

PATTERNS = Patterns("public", ["/", "/about", "/static/*"])
SEGMENTS = st.text("ab.%\\*~;", min_size=0, max_size=4)
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: "/" + "/".join(parts))


@pytest.mark.parametrize(
    "path", ["/", "/about", "/static/a.css", "/static/a/b/c", "/static/a/", "/static/.well-known"]
)
def test_what_a_pattern_covers(path: str) -> None:
    """Exactly itself, or all below its prefix."""
    assert True is PATTERNS.match(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//",
        "/about/",
        "/about/us",
        "/About",
        "/about?x",
        "/static",
        "/static/",
        "/staticx",
        "/STATIC/a",
        "static/a",
        " /static/a",
        "//static/a",
        "http://host/static/a",
        "*",
        "/*",
    ],
)
def test_what_no_pattern_covers(path: str) -> None:
    """No case folding, no slash added; and no prefix itself, which some routers take for the path
    without its slash."""
    assert False is PATTERNS.match(path)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../admin",
        "/static/..",
        "/static/./a",
        "/static/.",
        "/static//a",
        "/static/a//",
        "/static/a\\..\\admin",
        "/static/..\\admin",
        "/static/%2e%2e/admin",
        "/static/%2E%2E%2Fadmin",
        "/static/a%00",
        "/static/a\x00",
    ],
)
def test_a_doubtful_path_matches_no_prefix(path: str) -> None:
    """A server or router behind could read it as another."""
    assert False is PATTERNS.match(path)
    assert True is PATTERNS.match("/static/admin")


@given(PATHS)
def test_a_prefix_covers_no_path_that_leads_out_of_it(path: str) -> None:
    """However it is written: resolved, it is still below the prefix."""
    from posixpath import normpath
    from urllib.parse import unquote

    if PATTERNS.match(path) and path not in ("/", "/about"):
        resolved = normpath(unquote(path).replace("\\", "/"))
        assert resolved.startswith("/static/")


def test_a_slash_and_a_star_is_everything_plain() -> None:
    """Below the root."""
    everything = Patterns("skip", ["/*"])

    assert [True, True, False] == [everything.match(path) for path in ("/", "/a/b", "/a/../b")]


def test_none_covers_nothing() -> None:
    """And is false."""
    nothing = Patterns("skip", [])

    assert (False, False, True) == (bool(nothing), nothing.match("/"), bool(PATTERNS))


def test_any_iterable_of_patterns_will_do() -> None:
    """Read once."""
    assert True is Patterns("skip", (path for path in ["/a", "/b/*"])).match("/b/c")


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "about",
        "static/*",
        "*",
        "/a*",
        "/*/a",
        "/a/*/b",
        "/a/**",
        "/a//b",
        "/a/../b",
        "/./a",
        "/a%20b",
        "/a\\b",
        "/a\x00",
        None,
        7,
        b"/a",
    ],
    ids=repr,
)
def test_a_malformed_pattern_is_refused(pattern: Any) -> None:
    """With the option's name and how to write it."""
    with pytest.raises(ConfigurationError, match=r"skip: expected a list of paths.*write them"):
        Patterns("skip", ["/good", pattern])


@pytest.mark.parametrize("patterns", ["/static/*", None, 7, b"/a"], ids=repr)
def test_what_is_no_list_is_refused(patterns: Any) -> None:
    """A single text is a mistake that is easily made."""
    with pytest.raises(ConfigurationError, match="skip"):
        Patterns("skip", patterns)
