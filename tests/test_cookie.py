"""Cookies: what is read from a Cookie header, what is written to Set-Cookie, what is refused."""

import copy
import dataclasses
import re
import string
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coatcheck.cookie import MAX_AGE, MAX_BYTES, Cookie, join
from coatcheck.errors import ConfigurationError, CookieTooLarge

TOKEN = "aZ09-_" * 10 + "wxyz"
TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits
VALUE_CHARACTERS = "".join(chr(o) for o in range(0x21, 0x7F) if chr(o) not in '",;\\')
NAME = "__Host-session"

COOKIES = [
    Cookie(),
    Cookie("a.b+c$*|^"),  # every one of these means something to a regular expression
    Cookie(domain="example.com"),
    Cookie(path="/app", samesite="strict"),
    Cookie(samesite="none", partitioned=True),
    Cookie("__Http-x", domain="example.com", path="/app"),
    Cookie("__Host-Http-x"),
    Cookie.insecure("plain"),
]

values = st.text(VALUE_CHARACTERS, max_size=80)
blanks = st.text(" \t", max_size=3)
# Pieces that make near misses likely: plain random text would hardly ever contain the name.
pieces = st.sampled_from(
    [NAME, NAME.lower(), "session", "=", "==", ";", "; ", " ", "\t", '"', '""', "\n", "\x00", "é"]
)
hostile = st.lists(pieces | st.text(max_size=3), max_size=30).map("".join)
others = st.text("".join(chr(o) for o in range(256) if chr(o) != ";"), max_size=20).filter(
    lambda text: text.partition("=")[0].strip(" \t") != NAME
)


def read_plainly(name: str, header: str) -> list[str]:
    """What `read` does, written slowly and without a regular expression."""
    found = []
    for pair in header.split(";"):
        key, equals, value = pair.partition("=")
        value = value.strip(" \t")
        if equals and key.strip(" \t") == name:
            if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
                value = value[1:-1]
            found.append(value)
    return found


def attributes(set_cookie: str) -> list[str]:
    """The attributes of a Set-Cookie header's value, as they are written, without the pair."""
    return set_cookie.split("; ")[1:]


def sent_back(set_cookie: str) -> str:
    """The pair that a browser sends for this Set-Cookie header's value."""
    return set_cookie.partition(";")[0]


class TestRead:
    def test_no_header(self) -> None:
        """A request without a Cookie header has no cookies."""
        assert [] == Cookie().read(None)

    @pytest.mark.parametrize("header", ["", b""])
    def test_empty_header(self, header: str | bytes) -> None:
        """An empty header has no cookies."""
        assert [] == Cookie().read(header)

    @pytest.mark.parametrize(
        "header",
        [
            f"{NAME}={TOKEN}",
            f"a=b; {NAME}={TOKEN}; c=d",
            f"a=b;{NAME}={TOKEN};c=d",
            f" \t{NAME}\t =\t {TOKEN} \t",
            f";;{NAME}={TOKEN};;",
            f"=;{NAME}={TOKEN};=",
            f'{NAME}="{TOKEN}"',
            f'a="; {NAME}={TOKEN}; b="',
            f"a\x00b\n; {NAME}={TOKEN}",
        ],
    )
    @pytest.mark.parametrize("kind", [str, str.encode])
    def test_one(self, header: str, kind: Any) -> None:
        """One cookie of the name is found, whatever surrounds it."""
        assert [TOKEN] == Cookie().read(kind(header))

    @pytest.mark.parametrize(
        "header",
        [
            NAME,
            f"{NAME}; a=b",
            f"{NAME};={TOKEN}",
            f"session={TOKEN}",
            f"x{NAME}={TOKEN}",
            f"{NAME}x={TOKEN}",
            f"x {NAME}={TOKEN}",
            f"{NAME} x={TOKEN}",
            f"={NAME}={TOKEN}",
            f'"{NAME}"={TOKEN}',
            f"\n{NAME}={TOKEN}",
            f"\xa0{NAME}={TOKEN}",
            f"{NAME.lower()}={TOKEN}",
            f"{NAME.upper()}={TOKEN}",
            f"a=b, {NAME}={TOKEN}",
        ],
    )
    def test_near_misses(self, header: str) -> None:
        """A pair of another name, or none, is not read, however alike."""
        assert [] == Cookie().read(header)

    def test_name_is_no_pattern(self) -> None:
        """A name's characters stand for themselves, not for a pattern."""
        assert ["2"] == Cookie.insecure("a.c|x*").read("abc=1; a.c|x*=2; xx=3; a.c|=4")

    def test_duplicates(self) -> None:
        """Every cookie of the name is returned, in the order sent, equal ones included."""
        assert ["b", "a", "", "b"] == Cookie().read(f"{NAME}=b; {NAME}=a; {NAME}=; {NAME}=b")

    @pytest.mark.parametrize(
        ("raw", "value"),
        [
            ("", ""),
            ('"', '"'),
            ('""', ""),
            ('"""', '"'),
            ('"a', '"a'),
            ('a"', 'a"'),
            ('"a"b', '"a"b'),
            ('" a "', " a "),
            ("a=b", "a=b"),
            ("=", "="),
            ("a b", "a b"),
            ("%22", "%22"),
            ("a\n", "a\n"),
            ("\xa0a\x0b", "\xa0a\x0b"),
        ],
    )
    def test_raw_values(self, raw: str, value: str) -> None:
        """A value is raw but for blanks around it and one pair of quotes around that."""
        assert [value] == Cookie().read(f"{NAME}= {raw}\t; a=b")

    def test_bytes_are_latin_1(self) -> None:
        """Each byte of a header is one character, so nothing is undecodable."""
        assert ["\xe9\xff"] == Cookie().read(NAME.encode() + b"=\xe9\xff")

    @given(hostile)
    def test_like_the_plain_parser(self, header: str) -> None:
        """Text that is full of near misses is read as the plain parser reads it."""
        assert read_plainly(NAME, header) == Cookie().read(header)

    @given(hostile.filter(lambda text: text.isascii()))
    def test_bytes_like_text(self, header: str) -> None:
        """Bytes are read as the same text is."""
        assert Cookie().read(header) == Cookie().read(header.encode())

    def test_hostile_text_finds_cookies(self) -> None:
        """The hostile strategy does reach headers in which something is found."""
        pair = f'\t; {NAME} = "\t;'
        assert ['"'] == read_plainly(NAME, pair) == Cookie().read(pair)

    @given(st.text(st.characters()) | st.binary() | hostile)
    @example("\ud800;" + NAME + "=\udfff")
    def test_never_raises(self, header: str | bytes) -> None:
        """Whatever comes, and for whichever cookie, a list of strings is returned."""
        for cookie in COOKIES:
            assert all(isinstance(value, str) for value in cookie.read(header))

    @pytest.mark.parametrize(
        "unit",
        [" ", "\t", ";", "; ", "=", '"', NAME, f"{NAME} ", f";{NAME}", f"; {NAME} ", f"{NAME}=",
         f";{NAME}=", f';{NAME} = "', f'{NAME}="; ', "__Host-", ";\t\t\t\t\t\t\t", "a=b; "],
    )  # fmt: skip
    @pytest.mark.parametrize("end", ["", f";{NAME}", f";{NAME} ", f";{NAME}=\x00", '"'])
    def test_linear_time(self, unit: str, end: str) -> None:
        """A hostile megabyte takes milliseconds; quadratic time would take many minutes."""
        header = unit * (1_000_000 // len(unit)) + end
        began = time.perf_counter()
        Cookie().read(header)
        assert time.perf_counter() - began < 2

    def test_no_way_back(self) -> None:
        """Every repeat of the pattern is possessive: it cannot look back, so it is linear."""
        pattern = Cookie()._find.__self__.pattern  # type: ignore[attr-defined]
        assert ["*+"] * 3 == re.findall(r"[*+?}]\+?", pattern)


class TestJoin:
    def test_none(self) -> None:
        """A request without Cookie headers has no header at all."""
        assert join([]) is None

    def test_one(self) -> None:
        """A single header is that header itself, not a copy."""
        header = b"a=b; c=d"
        assert header is join(iter([header]))

    def test_empty(self) -> None:
        """A single empty header is not the same as none."""
        assert b"" == join([b""])

    def test_several(self) -> None:
        """Several headers are one, in their order."""
        assert b"a=b; c=d; e=f" == join([b"a=b", b"c=d; e=f"])

    @given(st.lists(st.binary(max_size=30).map(lambda b: b + f";{NAME}=v".encode()), max_size=5))
    def test_split_headers(self, headers: list[bytes]) -> None:
        """Each header's cookies are found in the joined one."""
        found = [value for header in headers for value in Cookie().read(header)]
        assert found == Cookie().read(join(headers))


class TestSet:
    @pytest.mark.parametrize(
        ("cookie", "expected"),
        [
            (Cookie(), "__Host-session=v; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"),
            (
                Cookie("sid", domain="Example.COM", path="/app", samesite="Strict"),
                "__Secure-sid=v; Max-Age=60; Domain=example.com; Path=/app; Secure; HttpOnly; "
                "SameSite=Strict",
            ),
            (
                Cookie(samesite="none", partitioned=True),
                "__Host-session=v; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=None; "
                "Partitioned",
            ),
            (Cookie.insecure(), "session=v; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"),
            (
                Cookie.insecure(domain="example.com", path="/app"),
                "session=v; Max-Age=60; Domain=example.com; Path=/app; HttpOnly; SameSite=Lax",
            ),
        ],
    )
    def test_whole(self, cookie: Cookie, expected: str) -> None:
        """The whole header is as the options say."""
        assert expected == cookie.set("v", 60)

    def test_session_cookie(self) -> None:
        """Without an age there is no Max-Age, nor Expires, so the browser's end ends it."""
        expected = "__Host-session=v; Path=/; Secure; HttpOnly; SameSite=Lax"
        assert expected == Cookie().set("v", None)

    @pytest.mark.parametrize(
        ("age", "sent"),
        [(-1, 0), (0, 0), (1, 1), (MAX_AGE - 1, MAX_AGE - 1), (MAX_AGE, MAX_AGE),
         (MAX_AGE + 1, MAX_AGE), (10**12, MAX_AGE)],
    )  # fmt: skip
    def test_age_is_bounded(self, age: int, sent: int) -> None:
        """An age is never below zero nor above 400 days."""
        assert f"Max-Age={sent}" == attributes(Cookie().set("v", age))[0]

    def test_400_days(self) -> None:
        """The cap is the standard's: 400 days."""
        assert 400 * 24 * 60 * 60 == MAX_AGE

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_attributes_once(self, cookie: Cookie) -> None:
        """No attribute is repeated."""
        names = [attribute.partition("=")[0] for attribute in attributes(cookie.set("v", 1))]
        assert sorted(set(names)) == sorted(names)

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_always_there(self, cookie: Cookie) -> None:
        """HttpOnly, a Path and a SameSite are in every cookie."""
        sent = "; ".join(attributes(cookie.set("v", None))) + ";"
        assert re.search(r"Path=/[^;]*;.* HttpOnly; SameSite=(Lax|Strict|None);", sent)

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_secure(self, cookie: Cookie) -> None:
        """Secure is in every cookie but the insecure ones."""
        assert cookie.secure == ("Secure" in attributes(cookie.set("v", None)))

    @pytest.mark.parametrize("value", ["", VALUE_CHARACTERS, TOKEN])
    def test_allowed_values(self, value: str) -> None:
        """Every octet of the standard's grammar may be in a value."""
        assert f"{NAME}={value}" == sent_back(Cookie().set(value, 1))

    @pytest.mark.parametrize(
        "octet", [chr(o) for o in range(256) if chr(o) not in VALUE_CHARACTERS] + ["\u0131", "\n"]
    )
    def test_refused_values(self, octet: str) -> None:
        """Every other character is refused: it could end the value, or the header."""
        with pytest.raises(ValueError, match=r"at position 1;"):
            Cookie().set(f"a{octet}", 1)

    def test_refused_at_the_end(self) -> None:
        """A line feed at the value's very end is refused as well."""
        with pytest.raises(ValueError, match=r"at position 64;"):
            Cookie().set(TOKEN + "\n", 1)

    def test_refusal_hides_the_value(self) -> None:
        """The message of a refused value does not show it, nor does the repr of its error."""
        with pytest.raises(ValueError, match="position 64") as caught:
            Cookie().set(f"{TOKEN};", 1)
        assert TOKEN not in repr(caught.value)
        assert NAME in repr(caught.value)

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_largest(self, cookie: Cookie) -> None:
        """Name and value may have 4096 bytes together."""
        value = "v" * (MAX_BYTES - len(cookie.full_name))
        assert 4096 + len("=") == len(sent_back(cookie.set(value, 1)))

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_too_large(self, cookie: Cookie) -> None:
        """With 4097 bytes nothing is sent; the message says how large it was."""
        with pytest.raises(CookieTooLarge, match=r"at most 4096 .*, got 4097;.*server-side store"):
            cookie.set("v" * (MAX_BYTES - len(cookie.full_name) + 1), 1)

    def test_too_large_hides_the_value(self) -> None:
        """The message of too large a value does not show it."""
        with pytest.raises(CookieTooLarge) as caught:
            Cookie().set(TOKEN * 100, 1)
        assert TOKEN not in repr(caught.value)
        assert NAME in repr(caught.value)


class TestRoundTrip:
    @pytest.mark.parametrize("cookie", COOKIES)
    @given(value=values, age=st.none() | st.integers())
    def test_alone(self, cookie: Cookie, value: str, age: int | None) -> None:
        """What is set is read."""
        assert [value] == cookie.read(sent_back(cookie.set(value, age)))

    @given(value=values, before=st.lists(others), after=st.lists(others), blank=blanks)
    def test_in_a_crowd(self, value: str, before: list[str], after: list[str], blank: str) -> None:
        """What is set is read among other cookies, garbage and blanks, and nothing else is."""
        pair = blank + sent_back(Cookie().set(value, 1)) + blank
        header = (";" + blank).join([*before, pair, *after])
        assert [value] == Cookie().read(header.encode("latin-1"))

    @given(st.lists(values, min_size=1, max_size=5), st.sampled_from(["", '"']))
    def test_duplicates_and_quotes(self, found: list[str], quote: str) -> None:
        """Several values of the name, quoted by somebody on the way, are read in order."""
        headers = [f"{NAME}={quote}{value}{quote}".encode() for value in found]
        assert found == Cookie().read(join(headers))

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_not_each_other(self, cookie: Cookie) -> None:
        """No cookie reads another's value."""
        for other in COOKIES:
            expected = ["v"] if other.full_name == cookie.full_name else []
            assert expected == cookie.read(sent_back(other.set("v", 1)))


class TestDelete:
    def test_whole(self) -> None:
        """An empty value, no age left, and a date in the past for whoever ignores ages."""
        assert (
            "__Host-session=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; "
            "Path=/; Secure; HttpOnly; SameSite=Lax" == Cookie().delete()
        )

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_mirrors_set(self, cookie: Cookie) -> None:
        """A deletion has the attributes that the cookie was set with, and the same name."""
        name, _, rest = cookie.delete().partition("=")
        gone = ["Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
        assert cookie.full_name == name
        assert [*gone, *attributes(cookie.set("v", None))] == attributes(f"x={rest}")


class TestNames:
    @pytest.mark.parametrize(
        ("cookie", "full_name"),
        [
            (Cookie(), "__Host-session"),
            (Cookie("sid"), "__Host-sid"),
            (Cookie(domain="example.com"), "__Secure-session"),
            (Cookie(path="/app"), "__Secure-session"),
            (Cookie(domain="example.com", path="/app"), "__Secure-session"),
            (Cookie.insecure(), "session"),
            (Cookie.insecure(domain="example.com", path="/app"), "session"),
            (Cookie("__Host-x"), "__Host-x"),
            (Cookie("__Secure-x"), "__Secure-x"),
            (Cookie("__Secure-x", domain="example.com", path="/app"), "__Secure-x"),
            (Cookie("__Http-x"), "__Http-x"),
            (Cookie("__Http-x", domain="example.com", path="/app"), "__Http-x"),
            (Cookie("__Host-Http-x"), "__Host-Http-x"),
            (Cookie("Http-x"), "__Host-Http-x"),
            (Cookie("Host-x"), "__Host-Host-x"),
            (Cookie("__hostile"), "__Host-__hostile"),
        ],
    )
    def test_prefix(self, cookie: Cookie, full_name: str) -> None:
        """The strictest prefix that holds comes by itself; one that is there stays."""
        assert full_name == cookie.full_name

    def test_every_token_character(self) -> None:
        """A name may have any character of a token."""
        for character in TOKEN_CHARACTERS:
            assert f"__Host-{character}" == Cookie(character).full_name

    def test_longest(self) -> None:
        """A name may have 64 characters before its prefix."""
        assert "__Host-" + "n" * 64 == Cookie("n" * 64).full_name

    @pytest.mark.parametrize(
        "name",
        ["", "n" * 65, "a b", "a=b", "a;b", "a,b", 'a"', "a\n", "\x00", "\x7f", "é", "(", "a\tb"]
        + [chr(o) for o in range(256) if chr(o) not in TOKEN_CHARACTERS],
    )
    @pytest.mark.parametrize("kind", [Cookie, Cookie.insecure])
    def test_no_token(self, name: str, kind: type[Cookie]) -> None:
        """Anything but a short token is refused as a name."""
        with pytest.raises(ConfigurationError, match=r"cookie name: expected 1 to 64 .*, got .*;"):
            kind(name)

    @pytest.mark.parametrize("prefix", ["__Host-", "__Secure-", "__Http-", "__Host-Http-"])
    def test_only_a_prefix(self, prefix: str) -> None:
        """A prefix with no name behind it is refused."""
        with pytest.raises(ConfigurationError, match="a name after the prefix"):
            Cookie(prefix)

    @pytest.mark.parametrize(
        "name",
        ["__host-x", "__HOST-x", "__secure-x", "__SECURE-x", "__http-x", "__HTTP-x",
         "__Host-http-x", "__host-Http-x", "__host-http-x", "http-x"],
    )  # fmt: skip
    def test_impostors(self, name: str) -> None:
        """A prefix in another case is refused: browsers take it for the prefix, servers do not."""
        with pytest.raises(ConfigurationError, match=r"expected the prefix '__\S+-' exactly, got"):
            Cookie(name)

    @pytest.mark.parametrize("name", ["__Host-x", "__Host-Http-x"])
    @pytest.mark.parametrize("options", [{"domain": "example.com"}, {"path": "/app"}])
    def test_host_rules(self, name: str, options: dict[str, Any]) -> None:
        """A Host prefix is refused with a domain or another path."""
        with pytest.raises(ConfigurationError, match="only with path '/' and no domain"):
            Cookie(name, **options)

    @pytest.mark.parametrize(
        "name", ["__Host-x", "__Secure-x", "__Http-x", "__Host-Http-x", "__host-x", "__SECURE-x"]
    )
    def test_insecure_prefix(self, name: str) -> None:
        """A prefix, in any case, is refused without Secure."""
        with pytest.raises(ConfigurationError, match="no prefix without Secure"):
            Cookie.insecure(name)


class TestDomain:
    @pytest.mark.parametrize(
        "domain", ["example.com", "a-b.example.co.uk", "xn--bcher-kva.example", "1.example.c0m"]
    )
    def test_plausible(self, domain: str) -> None:
        """A host name of several labels is taken."""
        assert f"Domain={domain}" in attributes(Cookie(domain=domain).set("v", 1))

    def test_lower_case(self) -> None:
        """Host names have no case, so they are kept in lower case."""
        assert Cookie(domain="example.com") == Cookie(domain="Example.COM")

    def test_longest(self) -> None:
        """A host name may have 253 characters."""
        domain = ".".join(["a" * 63] * 3 + ["b" * 61])
        assert domain == Cookie(domain=domain).domain

    @pytest.mark.parametrize(
        "domain",
        ["", ".", "localhost", "com", "example.com.", "https://example.com", "example.com:443",
         "example.com/app", "a..b", "-a.example.com", "a-.example.com", "exa mple.com", "a_b.com",
         "example.com\n", "example.com;x", "bücher.example", "127.0.0.1", "[::1]", "::1",
         "a" * 64 + ".com", ".".join(["a" * 63] * 3 + ["b" * 62]), "*.example.com"],
    )  # fmt: skip
    def test_refused(self, domain: str) -> None:
        """Whatever a browser would reject or could never match is refused."""
        with pytest.raises(ConfigurationError, match=r"cookie domain: expected .*, got .*; \w+"):
            Cookie(domain=domain)

    def test_leading_dot(self) -> None:
        """A leading dot is refused with the name to write instead."""
        with pytest.raises(ConfigurationError, match=r"got '\.example\.com'; write 'example\.com'"):
            Cookie(domain=".example.com")


class TestPath:
    @pytest.mark.parametrize("path", ["/", "/app", "/a/b/", "/a,b=c%20", "/" + "p" * 1023])
    def test_allowed(self, path: str) -> None:
        """A path of at most 1024 ASCII characters is taken as it is."""
        assert f"Path={path}" in attributes(Cookie(path=path).set("v", 1))

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "app",
            " /",
            "/a;b",
            "/\n",
            "/a\x00",
            "/\x7f",
            "/\t",
            "/é",
            "/\u20ac",
            "/" + "p" * 1024,
        ],
    )
    def test_refused(self, path: str) -> None:
        """What would end the attribute, or be ignored by browsers, is refused."""
        with pytest.raises(ConfigurationError, match=r"cookie path: expected .*, got .*; take"):
            Cookie(path=path)


class TestSameSite:
    @pytest.mark.parametrize(
        ("given", "kept", "sent"),
        [("lax", "lax", "Lax"), ("STRICT", "strict", "Strict"), ("None", "none", "None")],
    )
    def test_normalised(self, given: str, kept: str, sent: str) -> None:
        """The three are taken in any case, kept in lower case and sent capitalised."""
        cookie = Cookie(samesite=given)
        assert (kept, f"SameSite={sent}") == (
            cookie.samesite,
            attributes(cookie.set("v", None))[-1],
        )

    @pytest.mark.parametrize("samesite", ["", "default", "lax ", None, False, 1])
    def test_refused(self, samesite: Any) -> None:
        """Anything else is refused; Python's None too, which might mean either of two things."""
        with pytest.raises(ConfigurationError, match=r"expected 'lax', 'strict' or 'none', got"):
            Cookie(samesite=samesite)

    @pytest.mark.parametrize("samesite", ["none", "None"])
    def test_none_needs_secure(self, samesite: str) -> None:
        """Browsers drop SameSite=None without Secure, so it is refused."""
        with pytest.raises(ConfigurationError, match="'none' only with Secure"):
            Cookie.insecure(samesite=samesite)

    @pytest.mark.parametrize("samesite", ["lax", "strict"])
    def test_others_need_no_secure(self, samesite: str) -> None:
        """The other two work without Secure."""
        assert samesite == Cookie.insecure(samesite=samesite).samesite


class TestPartitioned:
    def test_off(self) -> None:
        """A cookie is not partitioned unless asked."""
        assert "Partitioned" not in attributes(Cookie().set("v", 1))

    def test_on(self) -> None:
        """A partitioned cookie says so."""
        assert "Partitioned" in attributes(Cookie(partitioned=True).set("v", 1))

    def test_needs_secure(self) -> None:
        """Browsers drop Partitioned without Secure, so it is refused."""
        with pytest.raises(ConfigurationError, match="partitioned: expected True only with Secure"):
            Cookie.insecure(partitioned=True)


class TestValueObject:
    def test_defaults(self) -> None:
        """The defaults are the safe choice."""
        assert Cookie() == Cookie(
            "session", domain=None, path="/", samesite="lax", partitioned=False, persistent=True
        )

    def test_repr(self) -> None:
        """The repr shows every option, as it would be written."""
        assert (
            "Cookie(name='sid', domain=None, path='/', samesite='strict', partitioned=False, "
            "persistent=False)" == repr(Cookie("sid", samesite="Strict", persistent=False))
        )

    def test_insecure_repr(self) -> None:
        """An insecure cookie's repr says that it is one."""
        assert repr(Cookie.insecure()).startswith("Cookie.insecure(name='session', ")

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_repr_evaluates(self, cookie: Cookie) -> None:
        """The repr is the expression that makes an equal cookie."""
        assert cookie == eval(repr(cookie), {"Cookie": Cookie})

    def test_equal_by_options(self) -> None:
        """Cookies of the same options are equal and have one hash."""
        assert {Cookie("a", path="/x")} == {Cookie("a", path="/x"), Cookie("a", path="/x")}

    @pytest.mark.parametrize(
        "options",
        [{"name": "b"}, {"domain": "a.example"}, {"path": "/x"}, {"samesite": "strict"},
         {"partitioned": True}, {"persistent": False}],
    )  # fmt: skip
    def test_unequal_by_any_option(self, options: dict[str, Any]) -> None:
        """One option's difference makes cookies unequal."""
        assert Cookie() != Cookie(**options)

    def test_insecure_is_unequal(self) -> None:
        """An insecure cookie never equals a secure one, even of one full name."""
        assert Cookie("__Secure-a", path="/x") != Cookie.insecure("a", path="/x")
        assert Cookie() != Cookie.insecure()

    def test_insecure_is_a_cookie(self) -> None:
        """An insecure cookie goes wherever a cookie does."""
        assert isinstance(Cookie.insecure(), Cookie)

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_frozen(self, cookie: Cookie) -> None:
        """No option changes after construction, where it was checked."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            cookie.path = "/x"  # type: ignore[misc]

    def test_slotted(self) -> None:
        """There is no dictionary to put a misspelt option into."""
        assert not hasattr(Cookie(), "__dict__")
        assert not hasattr(Cookie.insecure(), "__dict__")

    def test_keyword_only(self) -> None:
        """Only the name is positional."""
        with pytest.raises(TypeError):
            Cookie("a", "example.com")  # type: ignore[call-arg]

    @pytest.mark.parametrize("cookie", COOKIES)
    def test_copies(self, cookie: Cookie) -> None:
        """A copy, shallow or deep, is equal and works."""
        assert [cookie, cookie] == [copy.copy(cookie), copy.deepcopy(cookie)]
        assert cookie.set("v", 1) == copy.deepcopy(cookie).set("v", 1)

    @pytest.mark.parametrize("persistent", [True, False])
    def test_persistent_is_advice(self, persistent: bool) -> None:
        """`persistent` is for the caller to ask: `set` sends the age that it is given."""
        cookie = Cookie(persistent=persistent)
        assert persistent == cookie.persistent
        assert "Max-Age=1" in attributes(cookie.set("v", 1))

    @pytest.mark.parametrize("option", ["name", "domain", "path"])
    def test_wrong_types(self, option: str) -> None:
        """An option of a wrong type is a configuration error like others, and a ValueError."""
        with pytest.raises(ValueError, match=rf"cookie {option}: expected .*, got 7;") as caught:
            Cookie(**{option: 7})  # type: ignore[arg-type]
        assert ConfigurationError is type(caught.value)

    def test_long_options_are_cut(self) -> None:
        """A message does not repeat a whole page that was given as an option."""
        with pytest.raises(ConfigurationError) as caught:
            Cookie(path="/" + "p" * 100_000)
        assert len(str(caught.value)) < 400
