"""The login gate: the rule by itself, and the middleware that applies it under ASGI and WSGI."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urljoin, urlsplit

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request as Page
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from coatcheck import AsyncSessions, ConfigurationError, Session, Sessions, current
from coatcheck.gate import Admitted, LoginGate, Refused, Request, admit, safe_next
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from coatcheck.web import asgi, wsgi
from tests.outside import Answer, asgi_scope, wsgi_call, wsgi_environ
from tests.test_asgi import as_answer, played, websocket
from tests.test_laws import Flaky

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PAGE = {"accept": "text/html,application/xhtml+xml"}
NAVIGATION = {"sec-fetch-mode": "navigate"}
FETCH = {"sec-fetch-mode": "cors", "accept": "*/*"}


def request(
    path: str = "/",
    *,
    method: str = "GET",
    query: str = "",
    root: str = "",
    headers: dict[str, str] = PAGE,
) -> Request:
    return Request(method, path, query, root, headers.get)


def anonymous() -> Session:
    return Sessions(MemoryStore()).open(None)


def logged_in() -> Session:
    session = anonymous()
    session.login("user:42")
    return session


def refused(gate: LoginGate, asked: Request) -> Refused:
    verdict = admit(gate, asked, anonymous())
    assert isinstance(verdict, Refused)
    return verdict


def location(gate: LoginGate, asked: Request) -> str:
    return dict(refused(gate, asked).headers)["Location"]


def next_of(url: str) -> str | None:
    found = parse_qs(urlsplit(url).query, strict_parsing=True) if "?" in url else {}
    return found["next"][0] if found else None


class TestWhoMayPass:
    def test_it_is_closed_by_default(self) -> None:
        """Every path but the login page takes a login, the front page too."""
        gate = LoginGate()
        verdicts = [admit(gate, request(path), anonymous()) for path in ("/", "/a", "/login/a", "")]

        assert [Refused] * 4 == [type(verdict) for verdict in verdicts]

    def test_who_is_logged_in_passes(self) -> None:
        """With the subject, for what comes after."""
        assert Admitted("user:42") == admit(LoginGate(), request("/a"), logged_in())

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_the_login_page_passes(self, method: str) -> None:
        """To be seen and to be sent."""
        gate = LoginGate(login="/enter")
        asked = request("/enter", method=method)

        assert Admitted(None) == admit(gate, asked, anonymous())

    def test_public_paths_do_not_touch_the_session(self) -> None:
        """Law 8: not even by asking who it is."""
        session = logged_in_and_stored()
        gate = LoginGate(public=["/", "/static/*"])

        assert Admitted(None) == admit(gate, request("/static/a.css"), session)
        assert False is session.accessed

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/", True),
            ("/about", True),
            ("/about/", False),
            ("/about/us", False),
            ("/About", False),
            ("/static/", False),
            ("/static/a", True),
            ("/static/a/b.css", True),
            ("/static", False),
            ("/staticky", False),
        ],
    )
    def test_public_is_exact_or_a_prefix(self, path: str, expected: bool) -> None:
        """A prefix ends in "/*" and covers what is below it."""
        gate = LoginGate(public=["/", "/about", "/static/*"])

        assert expected is gate.is_public(request(path))

    @pytest.mark.parametrize(
        "path",
        [
            "/static/../admin",
            "/static/..",
            "/static/./../admin",
            "/static/.",
            "/static//admin",
            "/static//",
            "//static/a",
            "/static/..\\admin",
            "/static\\..\\admin",
            "/static/a\\b",
            "/static/%2e%2e/admin",
            "/static/%2E%2e%2Fadmin",
            "/static/a%2f..%2fadmin",
            "/static/%5c..%5cadmin",
            "/static/%00",
            "/static/\0/admin",
            "/x/../static/a",
        ],
    )
    def test_what_can_be_read_in_two_ways_is_never_public_by_prefix(self, path: str) -> None:
        """Dot segments, double slashes, slashes still encoded, backslashes, NUL."""
        assert False is LoginGate(public=["/static/*"]).is_public(request(path))

    def test_even_where_everything_is_public(self) -> None:
        """ "/*" is a prefix like any other."""
        gate = LoginGate(public=["/*"])

        assert [True, False] == [gate.is_public(request(path)) for path in ("/a", "/a/../b")]

    @given(st.text("/.%\\2eEfF5cC\0ab;", max_size=12))
    def test_whatever_is_public_by_prefix_stays_below_it_however_it_is_read(
        self, tail: str
    ) -> None:
        """Decoded once more, slashes turned, and dots resolved: the path is still below it."""
        path = "/static/" + tail
        if LoginGate(public=["/static/*"]).is_public(request(path)):
            read = urljoin("https://site.example", unquote(path).replace("\\", "/"))
            assert urlsplit(read).path.startswith("/static/")

    def test_a_gate_leaves_caches_alone_unless_told(self) -> None:
        """`no_store` is for sites whose pages show somebody's data."""
        guarded, other = logged_in(), logged_in()
        admit(LoginGate(no_store=True), request(), guarded)
        admit(LoginGate(), request(), guarded)  # a second gate takes nothing back
        admit(LoginGate(), request(), other)

        assert [True, False] == [each._is_private for each in (guarded, other)]

    def test_preflights_pass(self) -> None:
        """They carry no cookie, so they could never log in."""
        headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
        asked = request("/api", method="OPTIONS", headers=headers)

        assert Admitted(None) == admit(LoginGate(), asked, anonymous())

    @pytest.mark.parametrize(
        ("method", "headers"),
        [
            ("OPTIONS", {}),
            ("OPTIONS", {"origin": "https://app.example"}),
            ("OPTIONS", {"access-control-request-method": "POST"}),
            ("GET", {"origin": "https://a.example", "access-control-request-method": "POST"}),
            ("options", {"origin": "https://a.example", "access-control-request-method": "POST"}),
        ],
    )
    def test_what_only_resembles_a_preflight_does_not(
        self, method: str, headers: dict[str, str]
    ) -> None:
        """A method is compared exactly, and a preflight has both headers."""
        asked = request("/api", method=method, headers=headers)

        assert isinstance(admit(LoginGate(), asked, anonymous()), Refused)


def logged_in_and_stored() -> Session:
    """user:42's session, opened by a further request."""
    sessions = Sessions(MemoryStore())
    session = sessions.open(None)
    session.login("user:42")
    return sessions.open(sessions.commit(session)[0].partition(";")[0])


class TestRefusals:
    @pytest.mark.parametrize("headers", [PAGE, NAVIGATION, {**NAVIGATION, "accept": "*/*"}])
    def test_a_page_is_sent_to_the_login_page(self, headers: dict[str, str]) -> None:
        """By 303, kept by no cache, with the way back."""
        expected = Refused(
            303, (("Location", "/login?next=/cart%3Fa%3D1%26b%3D2"), ("Cache-Control", "no-store"))
        )

        asked = request("/cart", query="a=1&b=2", headers=headers)
        assert expected == refused(LoginGate(), asked)

    @pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE"])
    def test_only_a_get_has_a_way_back(self, method: str) -> None:
        """Anything else could not be repeated."""
        asked = request("/cart", method=method)

        assert "/login" == location(LoginGate(), asked)

    @pytest.mark.parametrize(
        "headers",
        [
            FETCH,
            {"sec-fetch-mode": "cors", "accept": "text/html"},
            {"accept": "application/json"},
            {},
            {"accept": "text/html", "x-requested-with": "XMLHttpRequest"},
        ],
        ids=["fetch", "fetch-html", "api", "bare", "xhr"],
    )
    def test_a_script_gets_401(self, headers: dict[str, str]) -> None:
        """Which it can see: a redirect it would follow, to a login page it cannot show."""
        verdict = refused(LoginGate(), request("/api", headers=headers))

        assert 401 == verdict.status
        assert {"WWW-Authenticate", "Cache-Control"} == set(dict(verdict.headers))

    def test_htmx_is_told_where_to_go(self) -> None:
        """By HX-Redirect, back to the page that it was on, whose query is kept."""
        headers = {"hx-request": "true", "hx-current-url": "https://site.example/cart?a=1"}
        verdict = refused(LoginGate(), request("/part", method="POST", headers=headers))

        assert (401, "/login?next=/cart%3Fa%3D1") == (
            verdict.status,
            dict(verdict.headers)["HX-Redirect"],
        )

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example//evil.example/x",
            "javascript:alert(1)",
            "https://site.example/\\evil.example",
            "http://[broken",
            "",
        ],
    )
    def test_htmx_cannot_be_told_to_lead_elsewhere(self, url: str) -> None:
        """Without a page of this site there is no way back."""
        headers = {"hx-request": "true", "hx-current-url": url}
        verdict = refused(LoginGate(), request("/part", headers=headers))

        assert "/login" == dict(verdict.headers)["HX-Redirect"]


class TestNext:
    @pytest.mark.parametrize(
        ("path", "query"),
        [
            ("/", ""),
            ("/cart", ""),
            ("/cart", "a=1&b=2"),
            ("/cart", "q=%20%26%3F&x=a+b"),
            ("/bücher/straße", ""),
            ("/a b", ""),
            ("/a?b", ""),
            ("/a#b", "c"),
            ("/a%2fb", ""),
            ("/a/../b", ""),
        ],
    )
    def test_it_leads_back(self, path: str, query: str) -> None:
        """To that very path and query, through the query of the login page."""
        back = next_of(location(LoginGate(), request(path, query=query)))
        assert back is not None
        got = urlsplit(back)

        assert (quote(path), query) == (quote_once(got.path), got.query)

    @pytest.mark.parametrize(
        ("path", "query"),
        [
            ("//evil.example/x", ""),
            ("/\\evil.example", ""),
            ("/a", "b=\\"),
            ("/a", "b=\x80"),
            ("/a", "b= "),
            ("/a" * 2000, ""),
        ],
        ids=["slashes", "backslash", "query", "latin-1", "blank", "long"],
    )
    def test_where_it_could_mislead_there_is_none_or_a_safe_one(
        self, path: str, query: str
    ) -> None:
        """Rather no way back than one to another site."""
        back = next_of(location(LoginGate(), request(path, query=query)))

        assert back in (None, "/%5Cevil.example")

    def test_under_a_prefix_both_carry_it(self) -> None:
        """The login page is the mounted app's own, and so is the way back."""
        asked = request("/cart", root="/shop", query="a=1")

        assert "/shop/login?next=/shop/cart%3Fa%3D1" == location(LoginGate(), asked)

    @pytest.mark.parametrize(
        ("root", "expected"),
        [
            ("/", "/login?next=/cart"),
            ("/shop/", "/shop/login?next=/shop/cart"),
            ("//evil.example", "/login"),
            ("/\\evil.example", "/%5Cevil.example/login?next=/%255Cevil.example/cart"),
        ],
    )
    def test_no_prefix_leads_to_another_host(self, root: str, expected: str) -> None:
        """However a server or an app spells it."""
        assert expected == location(LoginGate(), request("/cart", root=root))

    @pytest.mark.parametrize(
        "text",
        [
            "/",
            "/a",
            "/a/b?c=d&e=/f//g",
            "/a?next=https://evil.example",
            "/%2F%2Fevil.example",
            "/:x",
        ],
    )
    def test_a_path_of_this_site_is_kept(self, text: str) -> None:
        """With its query."""
        assert text == safe_next(text)

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "a",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            " /a",
            "/a ",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a\r\nSet-Cookie: x=1",
            "/a\\b",
            "/ü",
            "/a\x7f",
            "/\ud800",
            "/" + "a" * 2048,
        ],
    )
    def test_anything_else_is_the_default(self, text: str | None) -> None:
        """Also what browsers clean up into another host."""
        assert "/home" == safe_next(text, default="/home")

    @settings(max_examples=500)
    @given(
        st.text("/\\.:@?#%&=ab\t\n\r \x00évil", max_size=20)
        | st.text(max_size=40)
        | st.from_regex(r"/[\x00-\x7f]{0,20}", fullmatch=True)
    )
    def test_whatever_it_returns_stays_on_this_site(self, text: str) -> None:
        """Joined as a browser joins: blanks cut, tabs and newlines out, backslashes turned."""
        back = safe_next(text, default="/")
        cleaned = back.strip("".join(map(chr, range(33)))).replace("\\", "/")
        for blank in "\t\n\r":
            cleaned = cleaned.replace(blank, "")
        joined = urlsplit(urljoin("https://site.example/login", cleaned))

        assert "/" == back[0]
        assert back[1:2] not in ("/", "\\")
        assert ("https", "site.example") == (joined.scheme, joined.netloc)

    @given(st.text(max_size=30), st.text(st.characters(max_codepoint=255), max_size=30))
    def test_whatever_the_path_the_answer_is_a_header_of_this_site(
        self, path: str, query: str
    ) -> None:
        """Printable ASCII, and both the page and its `next` stay here."""
        encodable = path.encode("utf-8", "replace").decode()
        target = location(LoginGate(), request("/" + encodable, query=query))
        back = next_of(target)

        assert target.isascii()
        assert target.isprintable()
        assert "site.example" == urlsplit(urljoin("https://site.example", target)).netloc
        assert back is None or back == safe_next(back, default="")


def quote_once(path: str) -> str:
    """A path as it is written in a URL, whether it was quoted before or not."""
    return quote(unquote(path))


class TestFresh:
    def test_a_login_must_be_recent(self) -> None:
        """At the last second it is, a second later it has to be done again."""
        clock = Clock()
        sessions = Sessions(MemoryStore(), clock=clock)
        session = sessions.open(None)
        session.login("user:42")
        cookie = sessions.commit(session)[0].partition(";")[0]
        gate = LoginGate(fresh=300)
        verdicts = []
        for seconds in (0, 300, 1):
            clock.move(seconds)
            verdicts.append(type(admit(gate, request("/pay"), sessions.open(cookie))))

        assert [Admitted, Admitted, Refused] == verdicts

    def test_what_is_missing_is_asked_for_at_its_own_page(self) -> None:
        """A person is sent there, with the way back; a script is told by RFC 9470's words."""
        sessions = Sessions(MemoryStore())
        session = sessions.open(None)
        session.login("user:42")
        gate = LoginGate(step_up="/confirm", level=2, fresh=900)
        verdict = admit(gate, request("/pay"), session)
        script = admit(gate, request("/pay", headers={}), session)

        assert isinstance(verdict, Refused)
        assert "/confirm?next=/pay" == dict(verdict.headers)["Location"]
        assert isinstance(script, Refused)
        assert (
            'Session realm="login", error="insufficient_user_authentication", acr_values="2", '
            'max_age="900"'
        ) == dict(script.headers)["WWW-Authenticate"]
        assert Admitted("user:42") == admit(gate, request("/confirm"), session)

    def test_who_is_not_logged_in_logs_in_first(self) -> None:
        """The page that asks for more is for those who are."""
        gate = LoginGate(step_up="/confirm", level=2)
        session = Sessions(MemoryStore()).open(None)
        for path in ("/pay", "/confirm"):
            verdict = admit(gate, request(path), session)
            assert isinstance(verdict, Refused)
            assert f"/login?next={path}" == dict(verdict.headers)["Location"]

    @pytest.mark.parametrize(("level", "passes"), [(1, False), (2, True), (3, True)])
    def test_the_level_must_be_high_enough(self, level: int, passes: bool) -> None:
        """More is fine."""
        session = Sessions(MemoryStore()).open(None)
        session.login("user:42", level=level)

        assert passes is isinstance(admit(LoginGate(level=2), request("/pay"), session), Admitted)

    def test_a_login_elsewhere_counts_from_then(self) -> None:
        """What an identity provider says was an hour ago is not fresh."""
        session = Sessions(MemoryStore()).open(None)
        session.login("user:42", authenticated_at=session.opened_at - timedelta(hours=1))

        assert isinstance(admit(LoginGate(fresh=300), request("/pay"), session), Refused)

    @pytest.mark.parametrize(("back", "kind"), [(50, Admitted), (70, Refused)])
    def test_a_login_in_the_future_is_not_fresh(self, back: float, kind: type) -> None:
        """A clock that was wrong would keep it so for as long; clocks disagree by less."""
        clock = Clock()
        sessions = Sessions(MemoryStore(), clock=clock)
        session = sessions.open(None)
        session.login("user:42")
        cookie = sessions.commit(session)[0].partition(";")[0]
        clock.move(-back)

        assert kind is type(admit(LoginGate(fresh=300), request("/pay"), sessions.open(cookie)))

    @pytest.mark.parametrize(
        "options", [{"level": 0}, {"level": True}, {"level": "2"}, {"step_up": "confirm"}]
    )
    def test_a_malformed_step_up_is_refused(self, options: Any) -> None:
        """When the gate is made."""
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            LoginGate(**options)

    def test_a_new_login_is_fresh_again(self) -> None:
        """Of the same subject, in the same session."""
        clock = Clock()
        sessions = Sessions(MemoryStore(), clock=clock)
        session = sessions.open(None)
        session.login("user:42")
        cookie = sessions.commit(session)[0].partition(";")[0]
        clock.move(301)
        session = sessions.open(cookie)
        session.login("user:42")
        cookie = sessions.commit(session)[0].partition(";")[0]

        verdict = admit(LoginGate(fresh=300), request("/pay"), sessions.open(cookie))
        assert Admitted("user:42") == verdict

    def test_being_busy_does_not_make_it_fresh(self) -> None:
        """Visits prolong the session, not the login."""
        clock = Clock()
        sessions = Sessions(MemoryStore(), clock=clock)
        session = sessions.open(None)
        session.login("user:42")
        cookie = sessions.commit(session)[0].partition(";")[0]
        for _ in range(2):
            clock.move(200)
            visiting = sessions.open(cookie)
            visiting["a"] = 1
            sessions.commit(visiting)

        verdict = admit(LoginGate(fresh=300), request("/pay"), sessions.open(cookie))
        assert isinstance(verdict, Refused)


class TestConfiguration:
    @pytest.mark.parametrize(
        "login",
        ["", "login", "//evil.example", "https://evil.example", "/\\evil", "/a b", "/é", None, 7],
    )
    def test_the_login_page_is_a_path_of_this_site(self, login: Any) -> None:
        """Anything else is refused at construction, with what to write."""
        with pytest.raises(ConfigurationError, match="login"):
            LoginGate(login=login)

    @pytest.mark.parametrize("login", ["/login?a=1", "/login#top", "/a/../login", "/log%69n"])
    def test_the_login_page_is_one_that_a_request_can_have(self, login: str) -> None:
        """A path that no request ever shows would send the browser round and round."""
        with pytest.raises(ConfigurationError, match="login"):
            LoginGate(login=login)

    @pytest.mark.parametrize("public", ["/static/*", ["static"], ["/*/x"], ["/a/../b"], [None]])
    def test_malformed_public_paths_are_refused(self, public: Any) -> None:
        """At construction, with the option's name."""
        with pytest.raises(ConfigurationError, match="public"):
            LoginGate(public=public)

    @pytest.mark.parametrize("fresh", [0, -1, True, "300", float("nan"), float("inf")])
    def test_a_malformed_time_is_refused(self, fresh: Any) -> None:
        """At construction, with the option's name."""
        with pytest.raises(ConfigurationError, match="fresh"):
            LoginGate(fresh=fresh)


# Under both servers' protocols. Each `Door` is a site behind a gate, whose every page answers
# with the user that the gate loaded, or the subject.


class AsgiDoor:
    """A Starlette site; `guard` puts the gate around one view instead of the whole."""

    def __init__(
        self,
        gate: LoginGate,
        store: MemoryStore | None = None,
        *,
        guard: bool = False,
        skip: tuple[str, ...] = (),
    ) -> None:
        self.store = store or MemoryStore()
        self.clock = Clock()
        self.sessions = AsyncSessions(AsyncMemoryStore(self.store), clock=self.clock)

        async def view(request: Page) -> Response:
            return PlainTextResponse(str(request.scope.get("user", current().subject)))

        async def public(request: Page) -> Response:
            return PlainTextResponse("public")

        guarded = asgi.login_required(gate)(view) if guard else view
        routes = [Route("/public", public), Route("/{rest:path}", guarded, methods=["GET", "POST"])]
        app: Any = Starlette(routes=routes)
        if not guard:
            app = asgi.LoginMiddleware(app, gate)
        self.app = asgi.SessionMiddleware(app, self.sessions, sweep=None, skip=skip)

    def login(self) -> str:
        async def enter() -> str:
            session = await self.sessions.open(None)
            session.login("user:42")
            return (await self.sessions.commit(session))[0].partition(";")[0]

        return asyncio.run(enter())

    def ask(
        self,
        path: str,
        cookie: str | None = None,
        headers: dict[str, str] = PAGE,
        *,
        root: str = "",
        query: str = "",
        method: str = "GET",
    ) -> Answer:
        raw = [(k.encode(), v.encode()) for k, v in headers.items()]
        if cookie is not None:
            raw.append((b"cookie", cookie.encode()))
        scope = asgi_scope(
            path=root + path,
            root_path=root,
            headers=raw,
            query_string=query.encode(),
            method=method,
        )
        return as_answer(asyncio.run(played(self.app, scope, [{"type": "http.request"}])))


class WsgiDoor:
    """A site of plain WSGI; `guard` puts the gate around one view instead of the whole."""

    def __init__(
        self,
        gate: LoginGate,
        store: MemoryStore | None = None,
        *,
        guard: bool = False,
        skip: tuple[str, ...] = (),
    ) -> None:
        self.store = store or MemoryStore()
        self.clock = Clock()
        self.sessions = Sessions(self.store, clock=self.clock)

        def view(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(environ.get("coatcheck.user", current().subject)).encode()]

        guarded = wsgi.login_required(gate)(view)

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
            if environ["PATH_INFO"] == "/public":
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b"public"]
            return (guarded if guard else view)(environ, start_response)

        whole = app if guard else wsgi.LoginMiddleware(app, gate)
        self.app = wsgi.SessionMiddleware(whole, self.sessions, sweep=None, skip=skip)

    def login(self) -> str:
        session = self.sessions.open(None)
        session.login("user:42")
        return self.sessions.commit(session)[0].partition(";")[0]

    def ask(
        self,
        path: str,
        cookie: str | None = None,
        headers: dict[str, str] = PAGE,
        *,
        root: str = "",
        query: str = "",
        method: str = "GET",
    ) -> Answer:
        parts = {"HTTP_" + k.upper().replace("-", "_"): v for k, v in headers.items()}
        if cookie is not None:
            parts["HTTP_COOKIE"] = cookie
        raw = path.encode().decode("latin-1")
        return wsgi_call(
            self.app,
            wsgi_environ(
                PATH_INFO=raw, SCRIPT_NAME=root, QUERY_STRING=query, REQUEST_METHOD=method, **parts
            ),
        )


Door = Callable[..., AsgiDoor | WsgiDoor]


@pytest.fixture(params=[AsgiDoor, WsgiDoor])
def door(request: pytest.FixtureRequest) -> Door:
    made: Door = request.param
    return made


class TestMiddleware:
    def test_who_is_not_logged_in_is_turned_away(self, door: Door) -> None:
        """With a whole answer that depends on the cookie and is kept by no cache."""
        answer = door(LoginGate()).ask("/cart", query="a=1")

        assert (303, b"", None) == (answer.status, answer.body, answer.error)
        assert "/login?next=/cart%3Fa%3D1" == answer["location"]
        assert ("Cookie", "no-store", []) == (
            answer["vary"],
            answer["cache-control"],
            answer.cookies,
        )

    def test_who_is_logged_in_sees_the_page(self, door: Door) -> None:
        """And the page knows who it is."""
        site = door(LoginGate())

        assert (200, b"user:42") == seen(site.ask("/cart", site.login()))

    def test_a_script_gets_401(self, door: Door) -> None:
        """With a scheme, as RFC 9110 wants it, and no redirect."""
        answer = door(LoginGate()).ask("/cart", headers=FETCH)

        assert (401, b"401\n", None) == (answer.status, answer.body, answer["location"])
        assert 'Session realm="login"' == answer["www-authenticate"]

    def test_htmx_gets_401_and_where_to_go(self, door: Door) -> None:
        """Through either protocol's headers."""
        headers = {"hx-request": "true", "hx-current-url": "https://site.example/cart"}
        answer = door(LoginGate()).ask("/part", headers=headers)

        assert (401, "/login?next=/cart") == (answer.status, answer["hx-redirect"])

    def test_a_refusal_to_head_has_no_body(self, door: Door) -> None:
        """But the length that it would have."""
        answer = door(LoginGate()).ask("/cart", headers={}, method="HEAD")

        assert (401, b"", "4") == (answer.status, answer.body, answer["content-length"])

    def test_a_public_page_costs_no_more_than_before(self, door: Door) -> None:
        """No Vary, no Set-Cookie: its session was not touched."""
        site = door(LoginGate(public=["/public"]))
        answer = site.ask("/public", site.login())

        assert (200, b"public", None, []) == (*seen(answer), answer["vary"], answer.cookies)

    def test_a_path_outside_ascii_leads_back(self, door: Door) -> None:
        """As UTF-8, percent-encoded."""
        answer = door(LoginGate()).ask("/bücher")

        assert "/b%C3%BCcher" == next_of(answer["location"] or "")

    def test_public_paths_outside_ascii_are_matched(self, door: Door) -> None:
        """By what they mean, not by their bytes."""
        assert (200, b"None") == seen(door(LoginGate(public=["/bücher/*"])).ask("/bücher/1"))

    def test_mounted_under_a_prefix(self, door: Door) -> None:
        """Public paths are the app's own; the login page and the way back carry the prefix."""
        site = door(LoginGate(public=["/public"]))
        answer = site.ask("/cart", root="/shop")

        assert "/shop/login?next=/shop/cart" == answer["location"]
        assert (200, b"public") == seen(site.ask("/public", root="/shop"))
        assert 200 == site.ask("/login", root="/shop").status

    def test_the_root_of_what_is_mounted_leads_back(self, door: Door) -> None:
        """To itself, whether or not the path ends in a slash."""
        answer = door(LoginGate()).ask("", root="/shop")

        assert next_of(answer["location"] or "") in ("/shop", "/shop/")

    def test_an_outage_is_503_and_not_a_redirect(self, door: Door) -> None:
        """Law 7: nobody is sent to log in because a store is out."""
        flaky = Flaky()
        site = door(LoginGate(), flaky)
        cookie = site.login()
        flaky.down = {"load"}
        answer = site.ask("/cart", cookie)

        assert (503, []) == (answer.status, answer.cookies)

    def test_an_outage_leaves_public_pages_alone(self, door: Door) -> None:
        """They do not ask."""
        flaky = Flaky()
        site = door(LoginGate(public=["/public"]), flaky)
        cookie = site.login()
        flaky.down = {"load"}

        assert (200, b"public") == seen(site.ask("/public", cookie))

    def test_a_stale_login_must_be_renewed(self, door: Door) -> None:
        """By the clock of the `Sessions`."""
        site = door(LoginGate(fresh=300))
        cookie = site.login()
        site.clock.move(301)

        assert (303, "/login?next=/pay") == (
            site.ask("/pay", cookie).status,
            site.ask("/pay", cookie)["location"],
        )


def seen(answer: Answer) -> tuple[int, bytes]:
    return answer.status, answer.body


class TestUser:
    def test_the_loaded_user_is_in_the_request(self, door: Door) -> None:
        """`scope["user"]`, so `request.user`, or `environ["coatcheck.user"]`."""
        site = door(LoginGate(user=lambda subject: f"<{subject}>"))

        assert (200, b"<user:42>") == seen(site.ask("/", site.login()))

    def test_an_asynchronous_loader_is_awaited(self) -> None:
        """Under ASGI."""

        async def load(subject: str) -> str:
            await asyncio.sleep(0)
            return f"<{subject}>"

        site = AsgiDoor(LoginGate(user=load))
        assert (200, b"<user:42>") == seen(site.ask("/", site.login()))

    def test_an_asynchronous_loader_is_refused_under_wsgi(self) -> None:
        """With what to do, and without a warning of a coroutine nobody awaited."""

        async def load(subject: str) -> str:
            return subject

        site = WsgiDoor(LoginGate(user=load))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            answer = site.ask("/", site.login())
            kind, message, answer.error = type(answer.error), str(answer.error), None
            gc.collect()

        assert (ConfigurationError, []) == (kind, [str(each.message) for each in warned])
        assert "plain" in message

    def test_where_there_is_no_user_the_session_ends(self, door: Door) -> None:
        """On both sides, and the request counts as anonymous."""
        site = door(LoginGate(user=lambda subject: None))
        answer = site.ask("/cart", site.login())

        assert (303, "/login?next=/cart") == (answer.status, answer["location"])
        assert ["Max-Age=0" in cookie for cookie in answer.cookies] == [True]
        assert {} == site.store._records

    def test_a_loader_that_fails_ends_nothing(self, door: Door) -> None:
        """The user's table being out is no reason to log anybody out."""

        def load(subject: str) -> str:
            raise OSError("the table of users is out of reach")

        site = door(LoginGate(user=load))
        cookie = site.login()
        answer = site.ask("/cart", cookie)

        assert (500, 1) == (answer.status, len(site.store._records))

    def test_no_user_is_loaded_for_public_pages(self, door: Door) -> None:
        """Nobody asked who it is."""
        loaded: list[str] = []
        site = door(LoginGate(public=["/public"], user=loaded.append))
        site.ask("/public", site.login())

        assert [] == loaded


class TestLoginRequired:
    def test_one_view_is_closed(self, door: Door) -> None:
        """And the others stay open."""
        site = door(LoginGate(), guard=True)

        assert (303, "/login?next=/cart") == (
            site.ask("/cart").status,
            site.ask("/cart")["location"],
        )
        assert (200, b"public") == seen(site.ask("/public"))

    def test_who_is_logged_in_passes(self, door: Door) -> None:
        """With the user loaded."""
        site = door(LoginGate(user=str.upper), guard=True)

        assert (200, b"USER:42") == seen(site.ask("/cart", site.login()))

    def test_public_does_not_count(self, door: Door) -> None:
        """Who guards a view means it."""
        site = door(LoginGate(public=["/*"]), guard=True)

        assert 303 == site.ask("/cart").status

    def test_a_fresh_login_for_one_view(self, door: Door) -> None:
        """Step-up: the session is good, and this view wants more."""
        site = door(LoginGate(fresh=300), guard=True)
        cookie = site.login()
        assert 200 == site.ask("/pay", cookie).status
        site.clock.move(301)

        assert (303, 200) == (site.ask("/pay", cookie).status, site.ask("/public", cookie).status)

    def test_a_view_of_fastapi_is_closed_too(self) -> None:
        """FastAPI makes an answer of whatever a view returns: it must know ours for one."""
        site = AsgiDoor(LoginGate())
        app = FastAPI()
        app.add_middleware(asgi.SessionMiddleware, sessions=site.sessions)

        @app.get("/cart", response_model=None)
        @asgi.login_required(LoginGate())
        async def cart(request: Page) -> Any:
            return str(current().subject)

        site.app = app  # type: ignore[assignment]
        refusal = site.ask("/cart")
        assert (303, "/login?next=/cart") == (refusal.status, refusal["location"])
        assert (200, b'"user:42"') == seen(site.ask("/cart", site.login()))

    def test_a_plain_view_may_be_guarded_too(self) -> None:
        """Starlette knows both kinds."""

        @asgi.login_required(LoginGate())
        def view(request: Page) -> Response:
            return PlainTextResponse("plain")

        site = AsgiDoor(LoginGate())
        site.app = asgi.SessionMiddleware(Starlette(routes=[Route("/", view)]), site.sessions)

        assert [(303, b""), (200, b"plain")] == [
            seen(site.ask("/", cookie)) for cookie in (None, site.login())
        ]

    def test_a_plain_view_does_not_hold_up_the_event_loop(self) -> None:
        """It runs in a thread, as Starlette runs plain views without the guard."""
        threads: list[bool] = []

        @asgi.login_required(LoginGate())
        def view(request: Page) -> Response:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                threads.append(True)
            return PlainTextResponse(str(current().subject))

        site = AsgiDoor(LoginGate())
        site.app = asgi.SessionMiddleware(Starlette(routes=[Route("/", view)]), site.sessions)

        assert (200, b"user:42") == seen(site.ask("/", site.login()))
        assert [True] == threads

    @pytest.mark.parametrize("kind", ["function", "method"])
    def test_a_websocket_is_closed(self, kind: str) -> None:
        """With code 1008, whether it is a function or the method of an endpoint."""
        accept = asgi.login_required(LoginGate())(WebSocket.accept)

        class Endpoint(WebSocketEndpoint):
            @asgi.login_required(LoginGate())
            async def on_connect(self, websocket: WebSocket) -> None:
                await websocket.accept()

        site = AsgiDoor(LoginGate())
        view: Any = Endpoint if kind == "method" else accept
        whole = asgi.SessionMiddleware(Starlette(routes=[WebSocketRoute("/", view)]), site.sessions)
        refused, accepted = (websocket(whole, cookie, path="/") for cookie in (None, site.login()))

        assert [("websocket.close", 1008)] == [(m["type"], m["code"]) for m in refused]
        assert "websocket.accept" == accepted[0]["type"]

    def test_the_request_may_have_any_name(self) -> None:
        """FastAPI gives it by the name that the view has for it."""
        site = AsgiDoor(LoginGate())
        app = FastAPI()
        app.add_middleware(asgi.SessionMiddleware, sessions=site.sessions)

        @app.get("/cart/{item}", response_model=None)
        @asgi.login_required(LoginGate())
        async def cart(item: int, asked: Page) -> Any:
            return f"{item} of {asked.url.path}"

        site.app = app  # type: ignore[assignment]
        assert 303 == site.ask("/cart/7").status
        assert (200, b'"7 of /cart/7"') == seen(site.ask("/cart/7", site.login()))

    def test_a_view_that_takes_no_request_is_an_error(self) -> None:
        """And never an open door; it says what to do."""
        site = AsgiDoor(LoginGate())
        app = FastAPI()
        app.add_middleware(asgi.SessionMiddleware, sessions=site.sessions)

        @app.get("/cart", response_model=None)
        @asgi.login_required(LoginGate())
        async def cart() -> str:
            return "the cart"

        site.app = app  # type: ignore[assignment]
        answer = site.ask("/cart", site.login())
        assert isinstance(answer.error, ConfigurationError)
        assert "a parameter for the request" in str(answer.error)


class TestPlacing:
    @pytest.mark.parametrize("kind", ["asgi", "wsgi"])
    def test_without_a_session_it_says_where_it_belongs(self, kind: str) -> None:
        """An error for every request, never an open door."""
        gate = LoginGate()
        if kind == "asgi":
            sent = asyncio.run(played(asgi.LoginMiddleware(Starlette(), gate), asgi_scope(), []))
            error = sent[0]["error"]
        else:
            answer = wsgi_call(wsgi.LoginMiddleware(lambda *_: [b"open"], gate), wsgi_environ())
            assert b"" == answer.body
            error = answer.error

        assert isinstance(error, ConfigurationError)
        assert "inside SessionMiddleware" in str(error)

    def test_around_a_mounted_app(self) -> None:
        """The gate of a part knows the part's own paths."""
        sessions = AsyncSessions(AsyncMemoryStore())

        async def view(request: Page) -> Response:
            return PlainTextResponse("a page")

        routes = [Route("/open", view), Route("/closed", view)]
        part = asgi.LoginMiddleware(Starlette(routes=routes), LoginGate(public=["/open"]))
        site = AsgiDoor(LoginGate())
        whole = Starlette(routes=[Mount("/part", part)])
        site.app = asgi.SessionMiddleware(whole, sessions)

        assert (200, b"a page") == seen(site.ask("/part/open"))
        assert "/part/login?next=/part/closed" == site.ask("/part/closed")["location"]

    @pytest.mark.parametrize("root", ["", "/site"])
    def test_a_view_below_a_mount(self, root: str) -> None:
        """The login page of its gate is the site's: a mount may do no more than group routes."""

        @asgi.login_required(LoginGate())
        async def view(request: Page) -> Response:
            return PlainTextResponse("a page")

        site = AsgiDoor(LoginGate())
        whole = Starlette(routes=[Mount("/part", routes=[Route("/closed", view)])])
        site.app = asgi.SessionMiddleware(whole, site.sessions)
        answer = site.ask("/part/closed", root=root)

        assert f"{root}/login?next={root}/part/closed" == answer["location"]

    def test_a_path_both_skipped_and_public_is_served(self, door: Door) -> None:
        """Static files need neither a session nor a login."""
        site = door(LoginGate(public=["/public"]), skip=("/public",))

        assert (200, b"public") == seen(site.ask("/public"))

    def test_a_skipped_path_that_is_not_public_stays_closed(self, door: Door) -> None:
        """Without a session nobody can be told from anybody."""
        site = door(LoginGate(), skip=("/cart",))

        assert isinstance(site.ask("/cart").error, ConfigurationError)


class TestWebSocket:
    def connect(self, cookie: str | None, **parts: Any) -> list[dict[str, Any]]:
        site = AsgiDoor(LoginGate())
        made = site.login() if cookie == "good" else cookie

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})

        whole = asgi.SessionMiddleware(asgi.LoginMiddleware(app, LoginGate()), site.sessions)
        headers = [(b"origin", b"https://site.example")]
        if made is not None:
            headers.append((b"cookie", made.encode()))
        scope = asgi_scope(type="websocket", scheme="wss", path="/chat", headers=headers, **parts)
        del scope["method"]
        return asyncio.run(played(whole, scope, [{"type": "websocket.connect"}]))

    def test_who_is_logged_in_connects(self) -> None:
        """The session of the page counts."""
        assert ["websocket.accept", "websocket.close"] == [m["type"] for m in self.connect("good")]

    def test_who_is_not_is_refused_by_a_close(self) -> None:
        """Before any accept: 1008, policy violation."""
        sent = self.connect(None)

        assert [("websocket.close", 1008)] == [(m["type"], m["code"]) for m in sent]

    def test_who_is_not_is_refused_by_401_where_the_server_can(self) -> None:
        """By the denial extension, and never by a redirect."""
        answer = as_answer(self.connect(None, extensions={"websocket.http.response": {}}))

        assert (401, b"401\n", None) == (answer.status, answer.body, answer["location"])
