"""Cross-site request forgery: the rule by itself, and the middleware under ASGI and WSGI."""

import asyncio
import logging
import sys
from collections.abc import Callable
from io import BytesIO, RawIOBase
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coatcheck import AsyncSessions, ConfigurationError, Session, Sessions
from coatcheck.csrf import CrossOriginProtection, async_check, check
from coatcheck.gate import Refused, Request
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from coatcheck.web import asgi, forms, wsgi
from tests.outside import Answer, asgi_scope, wsgi_call, wsgi_environ
from tests.test_asgi import DENIAL, as_answer, played
from tests.test_laws import Flaky

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HOST = {"host": "site.example"}
CROSS = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
SAME = {"sec-fetch-site": "same-origin", "origin": "https://site.example"}
UPGRADE = {"connection": "Upgrade", "upgrade": "websocket"}
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def request(method: str = "POST", path: str = "/", /, **headers: str) -> Request:
    """A request to site.example; of a header's name, `_` is a hyphen."""
    given = HOST | {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, path, "", "", given.get)


def passes(asked: Request, **options: Any) -> bool:
    return CrossOriginProtection(**options).judge(asked) is None


class TestFetchMetadata:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_safe_methods_pass(self, method: str) -> None:
        """RFC 9110, 9.2.1: a link from another site leads here with GET."""
        assert True is passes(request(method, sec_fetch_site="cross-site"))

    @pytest.mark.parametrize(
        "method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "GET ", "QUERY"]
    )
    def test_any_other_method_is_looked_at(self, method: str) -> None:
        """Whatever a framework would take it for."""
        assert False is passes(request(method, sec_fetch_site="cross-site"))

    @pytest.mark.parametrize(
        ("site", "expected"),
        [
            ("same-origin", True),
            ("none", True),
            ("same-site", False),
            ("cross-site", False),
            ("", False),
            ("Same-Origin", False),
            ("same-origin, same-origin", False),
            ("cross-site, same-origin", False),
            ("same-origin;x", False),
        ],
    )
    def test_the_browsers_word_decides(self, site: str, expected: bool) -> None:
        """A subdomain's page is another origin; what browsers do not say, a proxy garbled."""
        assert expected is passes(request(sec_fetch_site=site))

    def test_it_is_believed_rather_than_origin(self) -> None:
        """Where a proxy rewrites Host, Origin names another one."""
        assert True is passes(request(sec_fetch_site="same-origin", origin="https://a.example"))
        assert False is passes(request(sec_fetch_site="cross-site", origin="https://site.example"))


def test_a_refusal_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, as anybody can cause it; what the other site chose begins no line of its own."""
    caplog.set_level(logging.DEBUG, "coatcheck")
    passes(request("POST", "/pay\nlogged_in", sec_fetch_site="cross-site"))
    passes(request("POST", "/pay", origin="null"))
    passes(request("POST", "/pay"))

    assert [
        (
            "DEBUG",
            'cross_origin_refused path="/pay\\nlogged_in" host=site.example'
            " sec_fetch_site=cross-site",
        ),
        ("DEBUG", "cross_origin_refused path=/pay origin=null host=site.example"),
    ] == [(record.levelname, record.getMessage()) for record in caplog.records]


class TestOrigin:
    @pytest.mark.parametrize(
        ("origin", "host", "expected"),
        [
            ("https://site.example", "site.example", True),
            ("http://site.example", "site.example", True),
            ("https://site.example", "SITE.example", True),
            ("https://site.example", "site.example:443", True),
            ("http://site.example", "site.example:80", True),
            ("https://site.example:8443", "site.example:8443", True),
            ("http://[::1]:8000", "[::1]:8000", True),
            ("https://site.example", "site.example:80", False),
            ("https://site.example:8443", "site.example", False),
            ("https://site.example", "site.example:8443", False),
            ("https://evil.example", "site.example", False),
            ("https://site.example.evil.example", "site.example", False),
            ("https://a.site.example", "site.example", False),
            ("null", "site.example", False),
            ("null", "null", False),
            ("", "site.example", False),
            ("", "", False),
            ("https://", "", False),
            ("https://site.example, https://site.example", "site.example", False),
            ("https://site.example", "site.example, site.example", False),
            ("https://site.example", "site.example, evil.example", False),
            ("https://site.example/", "site.example", False),
            ("https://evil.example@site.example", "site.example", False),
            ("https://site.example\n", "site.example", False),
            ("file://", "", False),
            ("capacitor://site.example", "site.example", False),
            ("site.example", "site.example", False),
            ("//site.example", "site.example", False),
            ("https://" + "a" * 400, "a" * 400, False),
            ("https://site.example", None, False),
        ],
    )
    def test_without_the_browsers_word_it_names_the_host(
        self, origin: str, host: str | None, expected: bool
    ) -> None:
        """Its host and port are those that were asked for; the scheme cannot be known."""
        headers = {"origin": origin} | ({} if host is None else {"host": host})
        asked = Request("POST", "/", "", "", headers.get)

        assert expected is (CrossOriginProtection().judge(asked) is None)

    def test_what_a_proxy_says_of_the_host_is_not_read(self) -> None:
        """Anybody can send X-Forwarded-Host where no proxy removes it."""
        asked = request(origin="https://evil.example", x_forwarded_host="evil.example")

        assert False is passes(asked)

    def test_a_client_that_says_nothing_passes(self) -> None:
        """It is no browser of the last years, and has nobody's cookies."""
        assert True is passes(request())

    def test_unless_the_rule_is_strict(self) -> None:
        """Then it has to send Origin, as OWASP recommends."""
        asked = [request(), request(origin="https://site.example"), request("GET")]

        assert [False, True, True] == [passes(each, strict=True) for each in asked]


class TestTrustedOrigins:
    @pytest.mark.parametrize(
        ("trusted", "origin"),
        [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:8443", "https://app.example:8443"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ],
    )
    @pytest.mark.parametrize("site", [{"sec_fetch_site": "cross-site"}, {}])
    def test_their_pages_may(self, trusted: str, origin: str, site: dict[str, str]) -> None:
        """However they were spelled, whether the browser says cross-site or nothing."""
        asked = request(origin=origin, **site)

        assert [False, True] == [passes(asked), passes(asked, trusted_origins=[trusted])]

    @pytest.mark.parametrize(
        "origin",
        [
            "http://app.example",
            "https://app.example:8443",
            "https://a.app.example",
            "https://app.example.evil.example",
            "https://app.example/",
            "https://app.example, https://app.example",
            "null",
            "",
        ],
    )
    def test_no_other_origin_is_taken_for_one(self, origin: str) -> None:
        """Scheme, host and port are compared."""
        options = {"trusted_origins": ["https://app.example"]}

        assert False is passes(request(origin=origin, sec_fetch_site="cross-site"), **options)
        assert False is passes(request(sec_fetch_site="same-site"), **options)

    @pytest.mark.parametrize(
        "origins",
        [
            "https://app.example",
            None,
            7,
            ["app.example"],
            ["https://app.example/"],
            ["https://app.example/path"],
            ["https://*.app.example"],
            ["*"],
            ["null"],
            [""],
            ["https://"],
            ["https://a@app.example"],
            ["https://app.example:0"],
            ["https://app.example:port"],
            ["https://bücher.example"],
            ["https://\N{KELVIN SIGN}.example"],
            [b"https://app.example"],
            [None],
        ],
        ids=repr,
    )
    def test_a_malformed_one_is_refused(self, origins: Any) -> None:
        """At construction, with how to write it."""
        with pytest.raises(ConfigurationError, match=r"trusted_origins.*https://app\.example"):
            CrossOriginProtection(trusted_origins=origins)


class TestSkip:
    def test_these_paths_are_not_protected(self) -> None:
        """A webhook proves by other means who calls."""
        options: dict[str, Any] = {"skip": ["/hooks/*"], "strict": True, "tokens": True}
        rule = CrossOriginProtection(**options)
        asked = [request("POST", path, **CROSS_) for path in ("/hooks/pay", "/hooks/../pay")]

        assert [True, False] == [passes(each, **options) for each in asked]
        assert [False, True] == [rule.wants_token(each) for each in asked]

    def test_malformed_ones_are_refused(self) -> None:
        """At construction, with the option's name."""
        with pytest.raises(ConfigurationError, match="skip"):
            CrossOriginProtection(skip=["hooks"])


CROSS_ = {name.replace("-", "_"): value for name, value in CROSS.items()}


class TestWebSocket:
    @pytest.mark.parametrize(
        ("method", "upgrade"),
        [
            ("GET", {"upgrade": "websocket"}),
            ("GET", {"upgrade": "WebSocket, h2c"}),
            ("HEAD", {"upgrade": "websocket"}),
            ("OPTIONS", {"upgrade": "websocket"}),
            ("", {}),
        ],
        ids=["wsgi", "list", "head", "options", "asgi"],
    )
    def test_a_handshake_is_no_safe_request(self, method: str, upgrade: dict[str, str]) -> None:
        """It is a GET that carries the cookie, and its origin is all that can be asked for."""
        asked = [
            request(method, **upgrade, origin="https://evil.example"),
            request(method, **upgrade, origin="https://site.example"),
            request(method, **upgrade, sec_fetch_site="cross-site"),
        ]
        rule = CrossOriginProtection(tokens=True)

        assert [False, True, False] == [rule.judge(each) is None for each in asked]
        assert [False] * 3 == [rule.wants_token(each) for each in asked]

    def test_an_upgrade_of_a_form_is_no_handshake(self) -> None:
        """It still takes a token."""
        assert True is CrossOriginProtection(tokens=True).wants_token(request(**UPGRADE))


HEADERS = ["sec-fetch-site", "origin", "host", "upgrade", "x-csrf-token"]
VALUES = (
    st.text(max_size=30)
    | st.text("htps:/.[]@,0123456789 \0éa-", max_size=30)
    | st.sampled_from([*SAME.values(), *CROSS.values(), "null", "https://[::1", "a" * 100_000])
)


@given(st.text(max_size=8), st.text(max_size=20), st.dictionaries(st.sampled_from(HEADERS), VALUES))
@example("POST", "/", {"origin": "https://\ud800", "x-csrf-token": "\ud800" * 64})
def test_no_garbage_raises(method: str, path: str, headers: dict[str, str]) -> None:
    """Law 10: and nothing but a good token gets past a rule that wants one."""
    asked = Request(method, path, "", "", headers.get)
    rule = CrossOriginProtection(strict=True, tokens=True, trusted_origins=["https://a.example"])
    refused = check(rule, asked, Sessions(MemoryStore()).open(None), lambda: None)

    assert (refused is None) == (rule.judge(asked) is None and not rule.wants_token(asked))


def stored(sessions: Sessions) -> str:
    """The cookie of a session that is user:42's."""
    session = sessions.open(None)
    session.login("user:42")
    return sessions.commit(session)[0].partition(";")[0]


class TestToken:
    def verdict(self, session: object, token: str | None) -> Refused | None:
        return check(CrossOriginProtection(tokens=True), request(), session, lambda: token)

    def test_the_sessions_own_passes(self) -> None:
        """Masked anew in each form, from one request to the next."""
        sessions = Sessions(MemoryStore())
        cookie = stored(sessions)
        shown = [sessions.open(cookie).csrf_token for _ in range(2)]

        assert shown[0] != shown[1]
        assert [None, None] == [self.verdict(sessions.open(cookie), token) for token in shown]

    def test_anything_else_is_refused(self) -> None:
        """Another session's, a cut one, none; and a session that has none refuses all."""
        sessions = Sessions(MemoryStore())
        cookie, other = stored(sessions), sessions.open(stored(sessions)).csrf_token
        good = sessions.open(cookie).csrf_token
        session = sessions.open(cookie)
        refusals = [self.verdict(session, token) for token in (other, good[:-1], "", None)]

        assert all(isinstance(each, Refused) for each in refusals)
        assert isinstance(self.verdict(sessions.open(None), good), Refused)

    def test_a_header_comes_before_the_form(self) -> None:
        """A form is not even read then, nor without tokens, nor for another origin."""
        session = Sessions(MemoryStore()).open(None)
        token = session.csrf_token

        def unread() -> str:
            raise AssertionError

        rule = CrossOriginProtection(tokens=True)
        wrong = request(x_csrf_token="x")
        assert None is check(rule, request(x_csrf_token=token), session, unread)
        assert isinstance(check(rule, wrong, session, lambda: token), Refused)
        assert isinstance(check(rule, request(**CROSS_), session, unread), Refused)
        assert None is check(CrossOriginProtection(), request(), session, unread)

    def test_an_empty_header_is_none(self) -> None:
        """Of a script whose page has no token; the form may have it."""
        session = Sessions(MemoryStore()).open(None)
        token, rule = session.csrf_token, CrossOriginProtection(tokens=True)
        empty = request(x_csrf_token="")

        async def field() -> str:
            return token

        assert None is check(rule, empty, session, lambda: token)
        assert None is asyncio.run(async_check(rule, empty, session, field))
        assert isinstance(check(rule, empty, session, lambda: None), Refused)

    def test_a_form_may_take_waiting(self) -> None:
        """`async_check` is the same, awaited."""
        session = Sessions(MemoryStore()).open(None)
        token = session.csrf_token

        async def judged(text: str | None) -> Refused | None:
            async def field() -> str | None:
                await asyncio.sleep(0)
                return text

            return await async_check(CrossOriginProtection(tokens=True), request(), session, field)

        assert None is asyncio.run(judged(token))
        assert isinstance(asyncio.run(judged(None)), Refused)

    def test_a_login_ends_the_tokens_before_it(self) -> None:
        """So that nobody plants an anonymous session whose token they know (login CSRF)."""
        sessions = Sessions(MemoryStore())
        session = sessions.open(None)
        token = session.csrf_token
        cookie = sessions.commit(session)[0].partition(";")[0]
        entering = sessions.open(cookie)

        assert None is self.verdict(entering, token)  # the login form itself needs one
        entering.login("user:42")
        cookie = sessions.commit(entering)[0].partition(";")[0]
        assert isinstance(self.verdict(sessions.open(cookie), token), Refused)

    def test_who_lost_the_answer_to_a_login_can_log_in_again(self) -> None:
        """The replaced token is anonymous, but its forms still work, so that a login can come."""
        sessions = Sessions(MemoryStore())
        session = sessions.open(None)
        token = session.csrf_token
        cookie = sessions.commit(session)[0].partition(";")[0]
        entering = sessions.open(cookie)
        entering.login("user:42")
        sessions.commit(entering)
        again = sessions.open(cookie)

        assert (None, None) == (again.subject, self.verdict(again, token))
        assert None is self.verdict(sessions.open(cookie), again.csrf_token)

    def test_a_site_without_sessions_is_told(self) -> None:
        """A check that cannot work says so, and does not answer 403 for ever."""
        with pytest.raises(ConfigurationError, match="inside SessionMiddleware"):
            self.verdict(None, "x")


# Under both servers' protocols. A `Door` is a site behind the check, which counts in its session
# and answers with the body that it got.


class AsgiDoor:
    def __init__(self, rule: CrossOriginProtection, store: MemoryStore, *, inside: bool) -> None:
        self.sessions = AsyncSessions(AsyncMemoryStore(store), clock=Clock())

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                return
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message["body"], message.get("more_body", False)
            count(scope["session"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        self.app: Any
        if inside:
            guarded = asgi.CSRFMiddleware(app, rule)
            self.app = asgi.SessionMiddleware(guarded, self.sessions, sweep=None)
        else:
            whole = asgi.SessionMiddleware(app, self.sessions, sweep=None)
            self.app = asgi.CSRFMiddleware(whole, rule)

    def ask(self, body: bytes = b"", cookie: str = "", /, **headers: str) -> Answer:
        raw = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
        raw += [(b"host", b"site.example"), (b"cookie", cookie.encode())]
        parts = [body[at : at + 10_000] for at in range(0, len(body), 10_000)] or [b""]
        incoming: Any = [{"type": "http.request", "body": p, "more_body": True} for p in parts]
        incoming[-1]["more_body"] = False
        scope = asgi_scope(method="POST", headers=raw)
        return as_answer(asyncio.run(played(self.app, scope, incoming)))


class WsgiDoor:
    def __init__(self, rule: CrossOriginProtection, store: MemoryStore, *, inside: bool) -> None:
        self.sessions = Sessions(store, clock=Clock())

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            count(environ["coatcheck.session"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [body]

        if inside:
            guarded = wsgi.CSRFMiddleware(app, rule)
            self.app: Any = wsgi.SessionMiddleware(guarded, self.sessions, sweep=None)
        else:
            whole = wsgi.SessionMiddleware(app, self.sessions, sweep=None)
            self.app = wsgi.CSRFMiddleware(whole, rule)

    def ask(self, body: bytes = b"", cookie: str = "", /, **headers: str) -> Answer:
        parts = {"HTTP_" + name.upper(): value for name, value in headers.items()}
        content_type = parts.pop("HTTP_CONTENT_TYPE", "")
        environ = wsgi_environ(
            REQUEST_METHOD="POST",
            CONTENT_LENGTH=str(len(body)),
            CONTENT_TYPE=content_type,
            HTTP_HOST="site.example",
            HTTP_COOKIE=cookie,
            **parts,
        )
        environ["wsgi.input"] = Socket(body)
        return wsgi_call(self.app, environ)


class Socket:
    """A server's `wsgi.input` that would wait for ever beyond the body's end."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, size: int) -> bytes:
        assert 0 <= size <= len(self._body)
        part, self._body = self._body[:size], self._body[size:]
        return part


class Unbuffered(RawIOBase):
    """A `wsgi.input` that gives what has come, however much was asked for."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._parts.pop(0) if self._parts else b""
        buffer[: len(part)] = part
        return len(part)


def count(session: Session) -> None:
    session["n"] = session.get("n", 0) + 1


Door = Callable[..., AsgiDoor | WsgiDoor]


@pytest.fixture(params=[AsgiDoor, WsgiDoor])
def door(request: pytest.FixtureRequest) -> Door:
    made: Door = request.param
    return made


def multipart(token: str, file: bytes = b"x", *, last: bool = False) -> bytes:
    """A form as browsers send it, with a file before or behind the token."""
    disposition = b'--b\r\nContent-Disposition: form-data; name="'
    parts = [
        disposition + b'csrf_token"\r\n\r\n' + token.encode() + b"\r\n",
        disposition + b'f"; filename="f"\r\nContent-Type: image/png\r\n\r\n' + file + b"\r\n",
    ]
    return b"".join(parts[:: -1 if last else 1]) + b"--b--\r\n"


FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'


class TestMiddleware:
    def test_another_sites_post_is_refused_before_the_session_is_opened(self, door: Door) -> None:
        """By a whole answer that no cache keeps; the store is not asked, and no cookie is set."""
        store = Flaky()
        cookie = stored(Sessions(store, clock=Clock()))
        site = door(CrossOriginProtection(), store, inside=False)
        store.calls.clear()
        answer = site.ask(b"", cookie, **CROSS_)

        assert (403, b"403 Forbidden: cross-origin request\n") == (answer.status, answer.body)
        assert ("Sec-Fetch-Site, Origin", "no-store", []) == (
            answer["vary"],
            answer["cache-control"],
            answer.cookies,
        )
        assert [] == store.calls
        assert (200, "load") == (site.ask(b"", cookie, **SAME_).status, store.calls[0])

    @pytest.mark.parametrize("inside", [False, True])
    def test_it_changes_nothing(self, door: Door, inside: bool) -> None:
        """This site's own request does."""
        store = MemoryStore()
        sessions = Sessions(store, clock=Clock())
        cookie = stored(sessions)
        site = door(CrossOriginProtection(), store, inside=inside)
        before = store.page("", 10, 0)

        assert 403 == site.ask(b"", cookie, **CROSS_).status
        assert before == store.page("", 10, 0)
        assert 200 == site.ask(b"", cookie, **SAME_).status
        assert 1 == sessions.open(cookie)["n"]

    def test_a_token_in_a_header_will_do(self, door: Door) -> None:
        """Of a script; the body is the view's alone."""
        store = MemoryStore()
        sessions = Sessions(store, clock=Clock())
        cookie = stored(sessions)
        site = door(CrossOriginProtection(tokens=True), store, inside=True)
        token = sessions.open(cookie).csrf_token
        answers = [
            site.ask(b"{}", cookie, x_csrf_token=token, content_type="application/json", **SAME_),
            site.ask(b"{}", cookie, x_csrf_token="x", content_type="application/json", **SAME_),
            site.ask(b"{}", cookie, content_type="application/json", **SAME_),
            site.ask(b"{}", x_csrf_token=token, content_type="application/json", **SAME_),
        ]

        assert [200, 403, 403, 403] == [answer.status for answer in answers]
        assert [b"{}", b"403 Forbidden: CSRF token\n"] == [answer.body for answer in answers[:2]]
        assert 1 == sessions.open(cookie)["n"]

    @pytest.mark.parametrize("size", [1, 60_000, 65_536, 200_000])
    @pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
    def test_a_token_in_a_form_will_do(self, door: Door, kind: str, size: int) -> None:
        """Among the first 64 KiB; the view gets the body whole, however long it is."""
        store = MemoryStore()
        sessions = Sessions(store, clock=Clock())
        cookie = stored(sessions)
        site = door(CrossOriginProtection(tokens=True), store, inside=True)
        token = sessions.open(cookie).csrf_token
        if kind == "multipart":
            body, content_type = multipart(token, b"x" * size), MULTIPART
            wrong = multipart(token[::-1], b"x" * size)
        else:
            body, content_type = f"csrf_token={token}&t={'x' * size}".encode(), URLENCODED
            wrong = body.replace(token.encode(), token[::-1].encode())
        answer = site.ask(body, cookie, content_type=content_type, **SAME_)

        assert (200, True) == (answer.status, body == answer.body)
        assert 403 == site.ask(wrong, cookie, content_type=content_type, **SAME_).status

    def test_a_token_behind_a_long_file_is_not_found(self, door: Door) -> None:
        """What is looked at is bounded; a header says it as well."""
        store = MemoryStore()
        sessions = Sessions(store, clock=Clock())
        cookie = stored(sessions)
        site = door(CrossOriginProtection(tokens=True), store, inside=True)
        token = sessions.open(cookie).csrf_token
        short = multipart(token, b"x" * 1000, last=True)
        long = multipart(token, b"x" * 70_000, last=True)
        headers = {"content_type": MULTIPART, **SAME_}

        assert 200 == site.ask(short, cookie, **headers).status
        assert 403 == site.ask(long, cookie, **headers).status
        assert long == site.ask(long, cookie, x_csrf_token=token, **headers).body

    def test_an_outage_is_not_a_forgery(self, door: Door) -> None:
        """Law 7: where the token cannot be judged, 503."""
        store = Flaky()
        sessions = Sessions(store, clock=Clock())
        cookie = stored(sessions)
        token = sessions.open(cookie).csrf_token
        site = door(CrossOriginProtection(tokens=True), store, inside=True)
        store.down = {"load"}

        assert 503 == site.ask(b"", cookie, x_csrf_token=token, **SAME_).status

    def test_a_token_check_outside_the_sessions_is_told(self, door: Door) -> None:
        """With where it belongs."""
        site = door(CrossOriginProtection(tokens=True), MemoryStore(), inside=False)

        assert "inside SessionMiddleware" in str(site.ask(**SAME_).error)


SAME_ = {name.replace("-", "_"): value for name, value in SAME.items()}


def test_a_degraded_session_cannot_judge_a_token() -> None:
    """`outage="anonymous"` is no reason to call a form forged."""
    store = Flaky()
    sessions = Sessions(store, outage="anonymous")
    cookie = stored(sessions)
    app = wsgi.SessionMiddleware(
        wsgi.CSRFMiddleware(lambda environ, start: [], CrossOriginProtection(tokens=True)),
        sessions,
        sweep=None,
    )
    store.down = {"load"}
    environ = wsgi_environ(REQUEST_METHOD="POST", HTTP_COOKIE=cookie, HTTP_X_CSRF_TOKEN="x")

    assert 503 == wsgi_call(app, environ).status


class TestAsgiWebSocket:
    def sent(self, **headers: str) -> list[Any]:
        site = AsgiDoor(CrossOriginProtection(tokens=True), MemoryStore(), inside=True)
        extensions = DENIAL if headers.pop("denial", "") else {}
        raw = [(name.encode(), value.encode()) for name, value in {**HOST, **headers}.items()]
        scope = asgi_scope(type="websocket", scheme="wss", headers=raw, extensions=extensions)
        del scope["method"]
        return asyncio.run(played(site.app, scope, [{"type": "websocket.connect"}]))

    def test_another_sites_page_gets_none(self) -> None:
        """403 where the server can send one, else a close; its own pages need no token."""
        evil = {"origin": "https://evil.example"}
        refused, closed = self.sent(**evil, denial="1"), self.sent(**evil)

        assert ["websocket.http.response.start", "websocket.close", "websocket.accept"] == [
            refused[0]["type"],
            closed[0]["type"],
            self.sent(origin="https://site.example")[0]["type"],
        ]
        assert (403, 1008) == (refused[0]["status"], closed[0]["code"])


def test_repeated_headers_are_one() -> None:
    """ASGI has them apart; the first is not believed alone."""
    headers = [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")]
    scope = asgi_scope(method="POST", headers=headers)

    assert "same-origin, cross-site" == asgi.facts(scope).header("sec-fetch-site")


def test_a_chunked_body_is_read_to_its_end() -> None:
    """WSGI servers say by `wsgi.input_terminated` that it has one."""
    sessions = Sessions(MemoryStore(), clock=Clock())
    cookie = stored(sessions)
    token = sessions.open(cookie).csrf_token
    body = f"csrf_token={token}&t={'x' * 100_000}".encode()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"".join(environ["wsgi.input"])]

    guarded = wsgi.CSRFMiddleware(app, CrossOriginProtection(tokens=True))
    environ = wsgi_environ(REQUEST_METHOD="POST", CONTENT_TYPE=URLENCODED, HTTP_COOKIE=cookie)
    environ |= {"wsgi.input": BytesIO(body), "wsgi.input_terminated": True}
    answer = wsgi_call(wsgi.SessionMiddleware(guarded, sessions, sweep=None), environ)

    assert (200, body) == (answer.status, answer.body)


class TestForms:
    @pytest.mark.parametrize("length", ["", "-1", "x", "1_0", " 12", "\u0663", "9" * 5000, None])
    def test_without_a_good_length_there_is_no_body(self, length: str | None) -> None:
        """PEP 3333: nobody knows where it would end, so nothing is read."""
        environ = wsgi_environ(CONTENT_TYPE=URLENCODED, **{"wsgi.input": Socket(b"")})
        environ |= {} if length is None else {"CONTENT_LENGTH": length}

        assert None is forms.wsgi_token(environ)

    def test_no_more_is_read_than_is_looked_at(self) -> None:
        """Of a body that goes on for ever; the rest is the app's to read, or to leave."""
        asked = []

        async def receive() -> Any:
            asked.append(1)
            assert len(asked) < 10
            return {"type": "http.request", "body": b"x" * 10_000, "more_body": True}

        body = forms.AsgiBody([(b"content-type", URLENCODED.encode())], receive)
        left = Socket(b"x" * 1_000_000)
        environ = wsgi_environ(CONTENT_TYPE=URLENCODED, CONTENT_LENGTH="1000000")
        environ["wsgi.input"] = left

        assert (None, 7) == (asyncio.run(body.token()), len(asked))
        assert (None, 1_000_000 - forms.LIMIT) == (forms.wsgi_token(environ), len(left._body))

    @pytest.mark.parametrize("part", [b"", b"x"], ids=["empty", "tiny"])
    def test_small_messages_are_put_together(self, part: bytes) -> None:
        """A client chooses how small they are, and how many; it must not choose our memory."""
        asked = 0

        async def receive() -> Any:
            nonlocal asked
            asked += 1
            return {"type": "http.request", "body": part, "more_body": True}

        async def messages() -> list[Any]:
            body = forms.AsgiBody([(b"content-type", URLENCODED.encode())], receive)
            assert None is await body.token()
            assert forms.LIMIT == asked
            return [await body.receive(), await body.receive()]

        first = {"type": "http.request", "body": part * forms.LIMIT, "more_body": True}
        assert [first, {**first, "body": part}] == asyncio.run(messages())

    def test_a_client_that_leaves_is_told_of(self) -> None:
        """The view gets what came before, and then the same word."""
        part = {"type": "http.request", "body": b"a=1", "more_body": True}
        incoming = [part, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return incoming.pop(0)

        async def messages() -> list[Any]:
            body = forms.AsgiBody([(b"content-type", URLENCODED.encode())], receive)
            assert None is await body.token()
            return [await body.receive(), await body.receive()]

        assert [part, {"type": "http.disconnect"}] == asyncio.run(messages())

    @pytest.mark.parametrize("terminated", [False, True])
    def test_a_stream_that_gives_less_than_asked_for_is_asked_again(self, terminated: bool) -> None:
        """As one without a buffer does; the view gets all the same."""
        parts = [b"a=1", b"&csrf_", b"token=x"]
        environ = wsgi_environ(CONTENT_TYPE=URLENCODED, CONTENT_LENGTH="16")
        environ |= {"wsgi.input": Unbuffered([*parts]), "wsgi.input_terminated": terminated}

        assert "x" == forms.wsgi_token(environ)
        assert b"".join(parts) == environ["wsgi.input"].read()

    def test_one_large_message_is_looked_at_in_part(self) -> None:
        """Servers choose how large one is."""
        long = b"x" * forms.LIMIT

        assert None is forms.token_in(URLENCODED, b"a=" + long + b"&csrf_token=x")
        assert "x" == forms.token_in(URLENCODED, b"csrf_token=x&a=" + long)

    @given(
        st.binary(max_size=300),
        st.sampled_from([URLENCODED, MULTIPART, "multipart/form-data", "", "text/plain", "é;"])
        | st.text(max_size=20).map(lambda text: f"multipart/form-data; boundary={text}"),
    )
    @example(b"&" * 5000 + b"a=%" * 5000, URLENCODED)
    @example(b"--b\r\n" * 50, MULTIPART)
    def test_no_garbage_raises(self, body: bytes, content_type: str) -> None:
        """A body that is no form has no token."""
        assert forms.token_in(content_type, body) is None or b"csrf_token" in body

    @pytest.mark.parametrize(
        ("content_type", "body", "expected"),
        [
            (URLENCODED, b"a=1&csrf_token=x&csrf_token=y", "x"),
            ("Application/X-WWW-Form-URLencoded; charset=UTF-8", b"csrf_token=%78", "x"),
            (URLENCODED, b"a=\xff&csrf_token=x", "x"),
            (URLENCODED, b"csrf=x", None),
            (URLENCODED, b"csrf_token=x" + b"&a=1" * 999, "x"),
            (URLENCODED, b"csrf_token=x" + b"&a=1" * 1000, None),
            (MULTIPART, multipart("x"), "x"),
            (MULTIPART, multipart("x", last=True), "x"),
            (MULTIPART, multipart(""), ""),
            (MULTIPART, FIELD * 999 + multipart("x"), None),
            (MULTIPART, FIELD * 998 + multipart("x"), "x"),
            ('multipart/form-data; boundary="b"', multipart("x"), "x"),
            (MULTIPART, b"--b\r\n", None),
            ("multipart/form-data", multipart("x"), None),
            ("application/json", b'{"csrf_token": "x"}', None),
            ("", b"csrf_token=x", None),
        ],
    )
    def test_the_first_field_counts(
        self, content_type: str, body: bytes, expected: str | None
    ) -> None:
        """In either of the two encodings that forms have."""
        assert expected == forms.token_in(content_type, body)

    def test_without_a_parser_multipart_needs_the_header(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is parsed by hand."""
        monkeypatch.setitem(sys.modules, "python_multipart", None)

        assert None is forms.token_in(MULTIPART, multipart("x"))
