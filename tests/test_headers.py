"""A response's headers with ours merged in: Vary, Cache-Control and Set-Cookie; and Cookie joined.

Every rule is tested for both kinds: ASGI's lists of bytes and WSGI's of str.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.cookie import Cookie
from coatcheck.web.headers import Head, joined_cookie, merge_bytes, merge_str

Headers: TypeAlias = list[tuple[str, str]]
Merge: TypeAlias = Callable[[Headers, Sequence[str], bool], Headers]

OURS = Cookie().set("token", 60)
APPS = "theme=dark; Path=/"


def as_wsgi(headers: Headers, cookies: Sequence[str], vary: bool) -> Headers:
    """Merge as WSGI does, with names lowered for comparison."""
    return [(n.lower(), v) for n, v in merge_str(headers, Head(cookies, vary))]


def as_asgi(headers: Headers, cookies: Sequence[str], vary: bool) -> Headers:
    """Merge as ASGI does, decoded for comparison."""
    given = [(n.lower().encode(), v.encode("latin-1")) for n, v in headers]
    merged = merge_bytes(given, Head(cookies, vary))
    return [(n.decode(), v.decode("latin-1")) for n, v in merged]


@pytest.fixture(params=[as_wsgi, as_asgi])
def merge(request: pytest.FixtureRequest) -> Merge:
    """Both kinds, one after the other."""
    chosen: Merge = request.param
    return chosen


def values(name: str, headers: Headers) -> list[str]:
    """The values of every header of this name."""
    return [v for n, v in headers if n.lower() == name]


names = st.sampled_from(
    ["Vary", "vary", "VARY", "Cache-Control", "cache-control", "Set-Cookie", "X-Vary", "Server"]
)
field_values = st.sampled_from(
    ["", "Cookie", "cookie", "*", "Accept, Cookie", "Accept,*", ",,", " , Accept ", "public", "a=b"]
) | st.text("".join(chr(o) for o in range(256)), max_size=8)
lists = st.lists(st.tuples(names, field_values), max_size=8)
kinds = st.sampled_from([as_wsgi, as_asgi])


class TestVary:
    def test_added(self, merge: Merge) -> None:
        """A response without Vary gets one, after its own headers."""
        assert [("server", "x"), ("vary", "Cookie")] == merge([("Server", "x")], [], True)

    def test_not_asked(self, merge: Merge) -> None:
        """Nothing is added where the session was not used."""
        assert [("server", "x")] == merge([("Server", "x")], [], False)

    @pytest.mark.parametrize(
        ("existing", "expected"),
        [
            (["Accept"], "Accept, Cookie"),
            (["Accept,Origin"], "Accept, Origin, Cookie"),
            (["Accept", "Origin"], "Accept, Origin, Cookie"),
            (["Cookie"], "Cookie"),
            (["cookie"], "cookie"),
            (["COOKIE, Accept"], "COOKIE, Accept"),
            (["Accept , cookie"], "Accept, cookie"),
            (["Accept\t,\tCookie"], "Accept, Cookie"),
            (["Accept", "Cookie"], "Accept, Cookie"),
            (["*"], "*"),
            (["Accept", "*"], "Accept, *"),
            ([""], "Cookie"),
            ([" ,, "], "Cookie"),
            (["X-Cookie"], "X-Cookie, Cookie"),
            (["Cookie2"], "Cookie2, Cookie"),
        ],
    )
    def test_folded(self, merge: Merge, existing: list[str], expected: str) -> None:
        """Whatever Vary there is becomes one header, with Cookie unless it is covered."""
        headers = [("Vary", value) for value in existing]
        assert [expected] == values("vary", merge(headers, [], True))

    @pytest.mark.parametrize("name", ["Vary", "vary", "VARY", "vArY"])
    def test_any_case(self, name: str) -> None:
        """WSGI's names are found in any case."""
        assert [("Vary", "Accept, Cookie")] == merge_str([(name, "Accept")], Head([], True))

    def test_asgi_in_upper_case(self) -> None:
        """An ASGI app that forgets to lower its names still gets one Vary."""
        expected = [(b"vary", b"Accept, Cookie")]
        assert expected == merge_bytes([(b"Vary", b"Accept")], Head([], True))

    def test_unused_session_leaves_vary(self, merge: Merge) -> None:
        """Where nothing is asked, even odd headers stay as they are."""
        headers = [("vary", "a,b"), ("vary", "")]
        assert headers == merge(headers, [], False)

    def test_other_headers_of_that_length(self, merge: Merge) -> None:
        """Another name of four letters is not taken for Vary."""
        assert [("date", "x"), ("vary", "Cookie")] == merge([("Date", "x")], [], True)


class TestCookies:
    def test_set(self, merge: Merge) -> None:
        """A cookie is set by a header of its own, and the response is not stored."""
        expected = [("server", "x"), ("cache-control", "no-store"), ("set-cookie", OURS)]
        assert expected == merge([("Server", "x")], [OURS], False)

    def test_several(self, merge: Merge) -> None:
        """Each cookie has a header of its own, in the order given."""
        assert [OURS, APPS] == values("set-cookie", merge([], [OURS, APPS], False))

    def test_several_make_one_no_store(self, merge: Merge) -> None:
        """However many cookies are set, Cache-Control is there once."""
        assert ["no-store"] == values("cache-control", merge([], [OURS, APPS], False))

    @pytest.mark.parametrize("existing", [["public, max-age=60"], ["public", "s-maxage=1"], [""]])
    def test_replaces_cache_control(self, merge: Merge, existing: list[str]) -> None:
        """Every Cache-Control of the app's gives way to one no-store."""
        headers = [("Cache-Control", value) for value in existing]
        assert ["no-store"] == values("cache-control", merge(headers, [OURS], False))

    @pytest.mark.parametrize("name", ["Cache-Control", "cache-control", "CACHE-CONTROL"])
    def test_replaces_in_any_case(self, name: str) -> None:
        """WSGI's Cache-Control is found in any case."""
        merged = merge_str([(name, "public")], Head([OURS], False))
        assert [("Cache-Control", "no-store"), ("Set-Cookie", OURS)] == merged

    def test_no_cookie_keeps_cache_control(self, merge: Merge) -> None:
        """Where no cookie is set, Cache-Control is the app's business."""
        headers = [("cache-control", "public")]
        assert [*headers, ("vary", "Cookie")] == merge(headers, [], True)

    def test_keeps_other_cookies(self, merge: Merge) -> None:
        """The app's cookies stay, before ours."""
        merged = merge([("Set-Cookie", APPS), ("Set-Cookie", "a=b")], [OURS], False)
        assert [APPS, "a=b", OURS] == values("set-cookie", merged)

    def test_same_name_stays_before_ours(self, merge: Merge) -> None:
        """A cookie of our name from the app stays before ours, so that ours is the last word."""
        theirs = Cookie().set("theirs", 1)
        assert [theirs, OURS] == values(
            "set-cookie", merge([("Set-Cookie", theirs), ("x", "y")], [OURS], False)
        )

    def test_with_vary(self, merge: Merge) -> None:
        """A cookie and Vary go together."""
        expected = [
            ("vary", "Accept, Cookie"),
            ("cache-control", "no-store"),
            ("set-cookie", OURS),
        ]
        assert expected == merge([("Vary", "Accept"), ("Cache-Control", "public")], [OURS], True)


class TestClear:
    @pytest.mark.parametrize("function", [merge_bytes, merge_str])
    @pytest.mark.parametrize("name", ["Clear-Site-Data", "clear-site-data"])
    def test_folded(self, function: Any, name: str) -> None:
        """What the app names comes first, and each kind once, before our cookies."""
        given = [(name, '"cookies", "cache"'), ("Server", "x"), (name, '"*"')]
        if function is merge_bytes:
            given = [(n.encode(), v.encode()) for n, v in given]  # type: ignore[misc]
        clear = ['"cache"', '"storage", "cache"']
        merged = [text(each) for each in function(given, Head([OURS], False, clear=clear))]

        assert [
            ("server", "x"),
            ("clear-site-data", '"cookies", "cache", "*", "storage"'),
            ("cache-control", "no-store"),
            ("set-cookie", OURS),
        ] == merged

    @pytest.mark.parametrize("function", [merge_bytes, merge_str])
    def test_added(self, function: Any) -> None:
        """With or without cookies."""
        merged = [text(each) for each in function([], Head([], False, clear=['"cache"']))]
        assert [("clear-site-data", '"cache"')] == merged


def text(header: tuple[Any, Any]) -> tuple[str, str]:
    name, value = (part.decode() if isinstance(part, bytes) else part for part in header)
    return name.lower(), value


class TestKinds:
    def test_asgi_names(self) -> None:
        """ASGI's names are bytes in lower case."""
        expected = [
            (b"vary", b"Cookie"),
            (b"cache-control", b"no-store"),
            (b"set-cookie", OURS.encode()),
        ]
        assert expected == merge_bytes([], Head([OURS], True))

    def test_wsgi_names(self) -> None:
        """WSGI's names are text, capitalised as people expect."""
        expected = [("Vary", "Cookie"), ("Cache-Control", "no-store"), ("Set-Cookie", OURS)]
        assert expected == merge_str([], Head([OURS], True))


class TestAnything:
    @pytest.mark.parametrize("vary", [True, False])
    @pytest.mark.parametrize("cookies", [[], [OURS]])
    @pytest.mark.parametrize("function", [merge_bytes, merge_str])
    def test_new_list(self, function: Any, cookies: list[str], vary: bool) -> None:
        """The result is a list of its own, even where it equals the one given."""
        empty: list[Any] = []
        assert function(empty, Head(cookies, vary)) is not empty

    @given(lists, st.lists(st.just(OURS), max_size=2), st.booleans())
    def test_never_mutates(self, headers: Headers, cookies: list[str], vary: bool) -> None:
        """The lists given stay as they were."""
        before = (list(headers), list(cookies))
        merge_str(headers, Head(cookies, vary))
        assert before == (headers, cookies)

    @given(lists, st.lists(st.just(OURS), max_size=2))
    def test_bytes_like_text(self, headers: Headers, cookies: list[str]) -> None:
        """Both kinds follow the same rules."""
        assert as_wsgi(headers, cookies, True) == as_asgi(headers, cookies, True)

    @given(kinds, lists, st.lists(st.just(OURS), max_size=2))
    def test_one_vary_that_covers_cookie(
        self, kind: Merge, headers: Headers, cookies: list[str]
    ) -> None:
        """There is one Vary afterwards, and it names Cookie or everything."""
        (value,) = values("vary", kind(headers, cookies, True))
        assert {"cookie", "*"} & {member.strip(" \t").lower() for member in value.split(",")}

    @given(kinds, lists, st.lists(st.just(OURS), max_size=2))
    def test_again_changes_nothing(self, kind: Merge, headers: Headers, cookies: list[str]) -> None:
        """Vary merged twice is Vary merged once."""
        once = kind(headers, cookies, True)
        assert sorted(once) == sorted(kind(once, [], True))

    @given(kinds, lists, st.lists(st.just(OURS), max_size=2), st.booleans())
    def test_others_untouched(
        self, kind: Merge, headers: Headers, cookies: list[str], vary: bool
    ) -> None:
        """Every other header stays, with its value and in its order."""
        ours = {"vary", "cache-control"}
        kept = [(n.lower(), v) for n, v in headers if n.lower() not in ours]
        merged = [(n, v) for n, v in kind(headers, cookies, vary) if n not in ours]
        assert [*kept, *(("set-cookie", cookie) for cookie in cookies)] == merged


class TestJoinedCookie:
    def test_none(self) -> None:
        """A request without a Cookie header has none."""
        assert joined_cookie([(b"host", b"a"), (b"cookies", b"b"), (b"set-cookie", b"c")]) is None

    def test_empty(self) -> None:
        """A request without any header has none."""
        assert joined_cookie([]) is None

    def test_one(self) -> None:
        """A single Cookie header is not copied."""
        cookie = b"a=b; c=d"
        assert cookie is joined_cookie([(b"host", b"a"), (b"cookie", cookie)])

    def test_split(self) -> None:
        """What HTTP/2 split is joined in order, whatever stands between."""
        headers = [(b"cookie", b"a=b"), (b"host", b"x"), (b"cookie", b"c=d"), (b"cookie", b"e=f")]
        assert b"a=b; c=d; e=f" == joined_cookie(headers)

    def test_any_iterable(self) -> None:
        """ASGI promises no more than an iterable."""
        assert b"a=b" == joined_cookie(iter([(b"cookie", b"a=b")]))

    def test_read(self) -> None:
        """The session's cookie is found in the last part of a split header."""
        headers = [(b"cookie", b"a=b"), (b"cookie", b"__Host-session=token")]
        assert ["token"] == Cookie().read(joined_cookie(headers))
