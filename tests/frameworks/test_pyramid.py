"""Pyramid: what it adds to the laws, which `test_outside_laws` runs through it."""

import runpy
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from markupsafe import Markup
from pyramid.authorization import Allow, Authenticated  # type: ignore[import-untyped]
from pyramid.config import Configurator  # type: ignore[import-untyped]
from pyramid.csrf import (  # type: ignore[import-untyped]
    LegacySessionCSRFStoragePolicy,
    SessionCSRFStoragePolicy,
    get_csrf_token,
    new_csrf_token,
)
from pyramid.exceptions import (  # type: ignore[import-untyped]
    ConfigurationConflictError,
)
from pyramid.httpexceptions import HTTPFound, HTTPNotFound  # type: ignore[import-untyped]
from pyramid.i18n import TranslationString  # type: ignore[import-untyped]
from pyramid.interfaces import ISecurityPolicy, ISession  # type: ignore[import-untyped]
from pyramid.request import Request  # type: ignore[import-untyped]
from pyramid.response import Response  # type: ignore[import-untyped]
from pyramid.router import default_execution_policy  # type: ignore[import-untyped]
from pyramid.security import forget, remember  # type: ignore[import-untyped]
from webtest import TestApp  # type: ignore[import-untyped]
from zope.interface.verify import verifyObject  # type: ignore[import-untyped]

from coatcheck import (
    AsyncSessions,
    Client,
    ConfigurationError,
    Cookie,
    SessionClosed,
    Sessions,
    UnsupportedValue,
    current,
)
from coatcheck.gate import LoginGate
from coatcheck.lifetime import AAL3
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web import messages
from coatcheck.web.pyramid import PyramidSession, SessionSecurityPolicy, login_required
from coatcheck.web.pyramid.hook import _TWEEN
from tests.outside import PATIENCE, Answer, wsgi_call, wsgi_environ
from tests.test_laws import Flaky
from tests.test_wsgi import Swept

View = Callable[[Any], Any]


def sessions_over(store: MemoryStore | None = None, **options: Any) -> Sessions:
    return Sessions(store or MemoryStore(), **{"clock": Clock(), **options})


def app_of(
    view: View,
    sessions: Sessions,
    configure: Callable[[Any], object] = lambda config: None,
    *,
    settings: Any = None,
    **options: Any,
) -> Any:
    """A site whose every path is this view; a dict becomes JSON."""
    with Configurator(settings=settings) as config:
        config.include("coatcheck.web.pyramid")
        config.set_coatcheck_sessions(sessions, **{"sweep": None, **options})
        configure(config)
        config.add_route("any", "/*path")
        config.add_view(view, route_name="any", renderer="json")
    return config.make_wsgi_app()


def logged_in(sessions: Sessions, **values: Any) -> str:
    """The cookie of a session that is user:42's."""
    session = sessions.open(None)
    session.login("user:42")
    session.update(values)
    return sessions.commit(session)[0].partition(";")[0]


def ask(app: Any, cookie: str | None = None, **parts: Any) -> Answer:
    if cookie is not None:
        parts["HTTP_COOKIE"] = cookie
    return wsgi_call(app, wsgi_environ(**parts))


def stored(sessions: Sessions, cookie: str) -> tuple[str | None, dict[str, Any]]:
    session = sessions.open(cookie)
    return session.subject, dict(session)


def cookie_of(answer: Answer) -> str:
    return answer.cookies[0].partition(";")[0]


class Site:
    """A browser of a site, whose next view is given with each visit."""

    def __init__(self, **options: Any) -> None:
        self.sessions = sessions_over()
        self.view: View = lambda request: {}
        app = app_of(lambda request: self.view(request), self.sessions, **options)
        self.client = TestApp(app, extra_environ={"wsgi.url_scheme": "https"})

    def visit(self, view: View) -> Any:
        """What the view returned, by way of JSON."""
        self.view = view
        return self.client.get("/").json

    def post(self, view: View, **parts: Any) -> Any:
        self.view = view
        return self.client.post("/", headers={"Origin": "https://localhost"}, **parts)


@pytest.fixture
def site() -> Site:
    return Site()


def face(sessions: Sessions, cookie: str | None = None) -> PyramidSession:
    return PyramidSession(sessions.open(cookie))


class TestISession:
    def test_it_is_one(self) -> None:
        """And one of ours too."""
        session = face(sessions_over())

        assert True is verifyObject(ISession, session)

    def test_a_new_one_says_so(self, site: Site) -> None:
        """Until it is stored."""
        seen = [site.visit(lambda r: [r.session.new, r.session.setdefault("a", 1)])[0]]
        seen.append(site.visit(lambda request: request.session.new))

        assert [True, False] == seen

    def test_created_is_seconds_since_the_epoch(self) -> None:
        """Of the first commit, or of now."""
        clock = Clock()
        sessions = sessions_over(clock=clock)
        cookie = logged_in(sessions)
        began = int(clock())
        clock.move(100)

        assert began == face(sessions, cookie).created
        assert began + 100 == face(sessions).created
        assert int is type(face(sessions).created)

    def test_a_change_in_place_needs_no_changed(self, site: Site) -> None:
        """Which may be called all the same."""
        site.visit(lambda request: request.session.update(cart=[]))
        site.visit(lambda request: request.session["cart"].append("tea"))
        site.visit(
            lambda request: request.session["cart"].append("milk") or request.session.changed()
        )

        assert ["tea", "milk"] == site.visit(lambda request: request.session["cart"])

    def test_invalidate_ends_it(self, site: Site) -> None:
        """In the store too, and leaves one to go on with."""
        ended = login(site.client, site.sessions, "user:42", values={"a": 1})

        def leave(request: Any) -> Any:
            request.session.invalidate()
            request.session["b"] = 2
            return [dict(request.session), request.session.subject]

        assert [{"b": 2}, None] == site.visit(leave)
        assert {"b": 2} == site.visit(lambda request: dict(request.session))
        assert False is site.sessions.revoke(ended)


class TestFlash:
    def test_pop_takes_one_queue_once(self, site: Site) -> None:
        """In the order in which the messages came; the other queue stays."""

        def leave(request: Any) -> None:
            request.session.flash("one")
            request.session.flash("wrong", "error")
            request.session.flash("two")

        site.visit(leave)
        assert ["one", "two"] == site.visit(lambda request: request.session.pop_flash())
        assert [] == site.visit(lambda request: request.session.pop_flash())
        assert ["wrong"] == site.visit(lambda request: request.session.pop_flash("error"))

    def test_peek_leaves_them(self, site: Site) -> None:
        """And writes nothing."""
        site.visit(lambda request: request.session.flash("one"))

        assert [["one"]] * 2 == [site.visit(lambda r: r.session.peek_flash()) for _ in range(2)]

    @pytest.mark.parametrize(("allowed", "expected"), [(True, ["a", "a"]), (False, ["a"])])
    def test_duplicates(self, site: Site, allowed: bool, expected: list[str]) -> None:
        """Allowed unless it says otherwise, whether they are stored already or not."""

        def leave(request: Any) -> Any:
            request.session.flash("a", allow_duplicate=allowed)
            return request.session.peek_flash()

        site.visit(leave)
        assert expected == site.visit(leave)[: len(expected)]
        assert len(expected) * 2 - (not allowed) == len(site.visit(leave)) + allowed

    @pytest.mark.parametrize("message", [{"text": "a", "n": 1}, ("a", 2), 3, None, ["a"]])
    def test_a_message_may_be_any_value(self, message: Any) -> None:
        """It comes back as it was."""
        sessions = sessions_over()
        first = face(sessions)
        first.flash(message, "q")
        cookie = sessions.commit(first)[0].partition(";")[0]
        session = face(sessions, cookie)

        assert [message] == session.peek_flash("q")
        assert [(message, "q")] == session.flashes()

    @pytest.mark.parametrize(
        "message",
        [Markup("<b>"), TranslationString("hi", "site", "Hello ${name}", {"name": "Ann"}, "page")],
    )
    def test_a_text_that_is_more_than_text_stays_so(self, message: Any) -> None:
        """Markup is safe in a template, and a translation is made where it is shown."""
        sessions = sessions_over()
        first = face(sessions)
        first.flash(message)
        cookie = sessions.commit(first)[0].partition(";")[0]
        (found,) = face(sessions, cookie).pop_flash()

        assert message.__reduce_ex__(2) == found.__reduce_ex__(2)

    def test_messages_need_no_markupsafe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pyramid may come without it; what has __html__ cannot be kept then."""
        monkeypatch.setitem(sys.modules, "markupsafe", None)
        packed = runpy.run_path(messages.__file__)["packed"]
        assert ("text", "q") == packed("text", "q")
        with pytest.raises(UnsupportedValue):
            packed(type("Literal", (str,), {"__html__": str})("<b>"), "q")

    def test_what_no_session_can_keep_is_refused(self) -> None:
        """On its line."""
        with pytest.raises(UnsupportedValue):
            face(sessions_over()).flash(object())

    def test_two_at_once_both_arrive(self) -> None:
        """And a page that popped meanwhile takes only what it saw."""
        sessions = sessions_over()
        cookie = logged_in(sessions)
        popping, other = face(sessions, cookie), face(sessions, cookie)
        other.flash("one")
        sessions.commit(other)
        popping, late = face(sessions, cookie), face(sessions, cookie)
        late.flash("two")
        sessions.commit(late)
        assert ["one"] == popping.pop_flash()
        sessions.commit(popping)

        assert ["two"] == face(sessions, cookie).pop_flash()

    def test_a_page_may_pop_its_own(self) -> None:
        """Nothing is left to store."""
        store = MemoryStore()
        sessions = sessions_over(store)
        session = face(sessions)
        session.flash("one")

        assert ["one"] == session.pop_flash()
        assert [] == sessions.commit(session)

    def test_looking_for_messages_creates_nothing(self, site: Site) -> None:
        """Law 8."""
        site.visit(lambda request: [request.session.pop_flash(), request.session.flashes()])

        assert {} == site.client.cookies


POLICIES = [None, LegacySessionCSRFStoragePolicy, SessionCSRFStoragePolicy]


class TestCSRF:
    @pytest.fixture(params=POLICIES, ids=["ours", "legacy", "session"])
    def site(self, request: pytest.FixtureRequest) -> Site:
        """A site that requires a token of every form, by each of the policies."""

        def configure(config: Any) -> None:
            config.set_default_csrf_options(require_csrf=True)
            if request.param is not None:
                config.set_csrf_storage_policy(request.param())

        return Site(configure=configure)

    def send(self, site: Site, token: str) -> int:
        answer = site.post(lambda request: {}, params={"csrf_token": token}, expect_errors=True)
        status: int = answer.status_int
        return status

    def test_a_form_with_the_token_is_accepted(self, site: Site) -> None:
        """Once and again; without it, it is refused."""
        token = site.visit(get_csrf_token)

        assert [200, 200] == [self.send(site, token) for _ in range(2)]
        assert [400, 400] == [self.send(site, wrong) for wrong in ("", token[:-4] + "AAAA")]

    def test_a_header_will_do(self, site: Site) -> None:
        """As scripts send it."""
        token = site.visit(get_csrf_token)
        site.view = lambda request: {}
        headers = {"X-CSRF-Token": token, "Origin": "https://localhost"}

        assert 200 == site.client.post("/", headers=headers).status_int

    def test_a_new_token_replaces_the_old(self, site: Site) -> None:
        """At once, and for the next request."""
        old = site.visit(get_csrf_token)
        new = site.visit(new_csrf_token)

        assert [400, 200] == [self.send(site, token) for token in (old, new)]

    def test_another_browsers_token_is_refused(self, site: Site) -> None:
        """It belongs to another session."""
        token = site.visit(get_csrf_token)
        site.client.reset()
        site.visit(get_csrf_token)

        assert 400 == self.send(site, token)

    def test_ours_is_masked_anew_on_each_page(self) -> None:
        """So compression does not give it away."""
        site = Site()

        assert site.visit(get_csrf_token) != site.visit(get_csrf_token)

    @pytest.mark.parametrize("policy", [None, LegacySessionCSRFStoragePolicy])
    def test_a_login_makes_a_new_one(self, policy: Any) -> None:
        """Whoever planted the anonymous session knows nothing of the user's."""
        site = Site(configure=lambda config: policy and config.set_csrf_storage_policy(policy()))
        site.visit(new_csrf_token)
        token = site.visit(lambda request: request.session.get_csrf_token())
        site.visit(lambda request: request.session.login("user:42"))

        assert False is site.visit(lambda request: request.session.check_csrf(token))
        assert token != site.visit(lambda request: request.session.get_csrf_token())

    def test_each_spelling_is_good_for_the_other(self) -> None:
        """A form made with the session's own method passes Pyramid's check, and the other way."""
        site = Site(configure=lambda config: config.set_default_csrf_options(require_csrf=True))
        tokens = [
            site.visit(lambda request: request.session.get_csrf_token()),
            site.visit(lambda request: request.session.csrf_token),
        ]

        assert [200, 200] == [self.send(site, token) for token in tokens]

    def test_a_refused_form_creates_no_session(self) -> None:
        """Nor does a robot's thousand."""
        site = Site(configure=lambda config: config.set_default_csrf_options(require_csrf=True))

        assert 400 == self.send(site, "garbage")
        assert {} == site.client.cookies


class Root:
    """A context that says who may what."""

    __acl__ = ((Allow, Authenticated, "see"), (Allow, "user:42", "edit"))

    def __init__(self, request: Any) -> None: ...


class TestSecurityPolicy:
    def site(self, permission: str | None = None, **options: Any) -> Site:
        def configure(config: Any) -> None:
            config.set_root_factory(Root)
            config.set_security_policy(SessionSecurityPolicy(**options))
            if permission is not None:
                config.set_default_permission(permission)

        return Site(configure=configure)

    def test_it_is_one(self) -> None:
        """As Pyramid's own verifier sees it."""
        assert True is verifyObject(ISecurityPolicy, SessionSecurityPolicy())

    def test_remember_logs_in_and_forget_logs_out(self) -> None:
        """Without a header to add; within the request too."""
        site = self.site()

        def enter(request: Any) -> Any:
            return [remember(request, "user:42"), request.authenticated_userid]

        def leave(request: Any) -> Any:
            return [forget(request), request.authenticated_userid]

        assert [[], "user:42"] == site.visit(enter)
        assert ["user:42", True] == site.visit(lambda r: [r.identity, r.is_authenticated])
        assert [[], None] == site.visit(leave)
        assert [None, False] == site.visit(lambda r: [r.identity, r.is_authenticated])

    def test_remember_me(self) -> None:
        """A longer life."""
        site = self.site()
        site.visit(lambda request: remember(request, "user:42", remember=True))
        (info,) = site.sessions.list_for("user:42")

        assert 30 == (info.expires_at - info.created_at).days

    def test_remember_takes_what_a_login_takes(self) -> None:
        """And one that says nothing keeps how long the one before lasts."""
        site = self.site()
        sure = {"level": 3, "methods": ("hwk",), "lifetime": AAL3}
        site.visit(lambda request: remember(request, "user:42", **sure))
        (info,) = site.sessions.list_for("user:42")
        assert (3, ("hwk",)) == (info.level, info.methods)
        site.visit(lambda request: remember(request, "user:42"))
        (info,) = site.sessions.list_for("user:42")

        assert (1, timedelta(minutes=15)) == (info.level, info.expires_at - info.seen_at)
        with pytest.raises(TypeError, match="max_age"):
            site.visit(lambda request: remember(request, "user:42", max_age=60))

    def test_the_identity_is_the_loaded_user(self) -> None:
        """Loaded once for a request."""
        asked: list[str] = []

        def load(subject: str) -> dict[str, str]:
            asked.append(subject)
            return {"name": subject}

        site = self.site(user=load)
        login(site.client, site.sessions, "user:42")
        seen = site.visit(lambda r: [r.identity, r.identity, r.authenticated_userid])

        assert [{"name": "user:42"}, {"name": "user:42"}, "user:42"] == seen
        assert ["user:42"] == asked

    def test_another_login_loads_another_user(self) -> None:
        """In the same request."""
        site = self.site(user=str.upper)
        login(site.client, site.sessions, "user:42")

        def swap(request: Any) -> Any:
            before = request.identity
            remember(request, "user:7")
            return [before, request.identity]

        assert ["USER:42", "USER:7"] == site.visit(swap)

    def test_a_user_who_is_gone_ends_the_session(self) -> None:
        """And is nobody."""
        site = self.site(user=lambda subject: None)
        login(site.client, site.sessions, "user:42")

        assert [None, None] == site.visit(lambda r: [r.identity, r.authenticated_userid])
        assert [] == site.sessions.list_for("user:42")

    @pytest.mark.parametrize(
        ("permission", "subject", "status"),
        [
            ("see", None, 403),
            ("see", "user:7", 200),
            ("edit", "user:7", 403),
            ("edit", "user:42", 200),
        ],
    )
    def test_permissions_come_from_the_contexts_acl(
        self, permission: str, subject: str | None, status: int
    ) -> None:
        """Its principals are Authenticated and the subject."""
        site = self.site(permission)
        if subject is not None:
            login(site.client, site.sessions, subject)

        answer = site.client.get("/", expect_errors=True)
        assert (status, "Cookie") == (answer.status_int, answer.headers["Vary"])

    def test_an_outage_is_503(self) -> None:
        """Not a forbidden page."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        def configure(config: Any) -> None:
            config.set_security_policy(SessionSecurityPolicy())
            config.set_default_permission("see")

        assert 503 == ask(app_of(lambda request: {}, sessions, configure), cookie).status


class TestGate:
    gate = LoginGate(public=["/static/*"], user=lambda subject: {"name": subject})

    def site(self, **options: Any) -> Site:
        return Site(configure=lambda config: config.set_login_gate(self.gate), **options)

    def test_a_person_is_sent_to_the_login_page(self) -> None:
        """With the way back."""
        answer = self.site().client.get("/me?a=1", headers={"Accept": "text/html"})

        assert 303 == answer.status_int
        assert answer.headers["Location"].endswith("/login?next=/me%3Fa%3D1")

    def test_a_script_gets_401(self) -> None:
        """That no cache keeps."""
        answer = self.site().client.get("/me", status=401)

        assert ("no-store", "Cookie") == (answer.headers["Cache-Control"], answer.headers["Vary"])

    def test_a_user_passes_and_is_loaded(self) -> None:
        """Into `request.user`."""
        site = self.site()
        login(site.client, site.sessions, "user:42")

        assert {"name": "user:42"} == site.visit(lambda request: request.user)

    def test_a_public_page_does_not_open_a_skipped_session(self) -> None:
        """Not even a read of the store."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.calls.clear()
        app = app_of(
            lambda r: {},
            sessions,
            lambda config: config.set_login_gate(self.gate),
            skip=["/static/*"],
        )
        answer = ask(app, cookie, PATH_INFO="/static/a.css")

        assert (200, None, []) == (answer.status, answer["vary"], flaky.calls)

    def test_a_user_who_is_gone_is_sent_away(self) -> None:
        """And the session ends."""
        gate = LoginGate(user=lambda subject: None)
        site = Site(configure=lambda config: config.set_login_gate(gate))
        login(site.client, site.sessions, "user:42")

        assert 401 == site.client.get("/me", status=401).status_int
        assert {} == site.client.cookies

    def test_below_a_script_name_the_paths_are_the_apps(self) -> None:
        """A mounted site's gate says the same as one that is not."""
        sessions = sessions_over()
        app = app_of(lambda r: {}, sessions, lambda config: config.set_login_gate(self.gate))
        asked = {"SCRIPT_NAME": "/shop", "HTTP_ACCEPT": "text/html"}

        assert 200 == ask(app, PATH_INFO="/static/a.css", **asked).status
        sent = str(ask(app, PATH_INFO="/me", **asked)["location"])
        assert sent.endswith("/shop/login?next=/shop/me")

    def test_without_sessions_it_is_refused(self) -> None:
        """When the site is made."""
        config = Configurator()
        config.include("coatcheck.web.pyramid")
        config.set_login_gate(self.gate)
        with pytest.raises(Exception, match="gate_tween_factory"):
            config.make_wsgi_app()

    @pytest.mark.parametrize("kind", ["function", "class"])
    def test_for_a_single_view(self, kind: str) -> None:
        """As the decorator of its configuration; `public=` does not count."""

        class Page:
            def __init__(self, request: Any) -> None:
                self.request = request

            def __call__(self) -> Any:
                return [self.request.user, self.request.matchdict["name"]]

        def page(request: Any) -> Any:
            return Page(request)()

        def configure(config: Any) -> None:
            config.add_route("static", "/static/{name}")
            view = Page if kind == "class" else page
            decorator = login_required(self.gate)
            config.add_view(view, route_name="static", renderer="json", decorator=decorator)

        sessions = sessions_over()
        client = TestApp(
            app_of(lambda request: {}, sessions, configure),
            extra_environ={"wsgi.url_scheme": "https"},
        )
        client.get("/static/ann", status=401)
        login(client, sessions, "user:42")
        assert [{"name": "user:42"}, "ann"] == client.get("/static/ann").json


class TestUntouched:
    def test_on_a_skipped_path_a_session_costs_nothing(self) -> None:
        """Not even a read of the store, whatever cookie comes, until it is asked for."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.calls.clear()
        app = app_of(lambda request: {}, sessions, skip=["/static/*"])
        answer = ask(app, cookie, PATH_INFO="/static/a.css")
        found = (answer.status, answer["vary"], answer.cookies, flaky.calls)
        assert (200, None, [], []) == found
        asking = app_of(lambda request: request.session.subject, sessions, skip=["/static/*"])

        assert b'"user:42"' == ask(asking, cookie, PATH_INFO="/static/a.css").body

    def test_current_opens_it_as_well(self) -> None:
        """It is the request's session, in views and below."""
        site = Site()
        login(site.client, site.sessions, "user:42")

        assert ["user:42", True] == site.visit(
            lambda request: [current().subject, current() is request.session]
        )

    def test_after_the_request_there_is_no_current_session(self, site: Site) -> None:
        """Nor after one that failed."""

        def fail(request: Any) -> Any:
            raise RuntimeError("a view that fails")

        site.visit(lambda request: current().subject)
        with pytest.raises(RuntimeError):
            site.visit(fail)
        with pytest.raises(LookupError):
            current()


class TestCallbacks:
    def test_other_response_callbacks_come_first(self, site: Site) -> None:
        """Those of before and those of later: what they change is committed."""

        def view(request: Any) -> None:
            request.add_response_callback(lambda request, response: current().update(a=1))
            assert "a" not in request.session
            request.add_response_callback(lambda request, response: current().update(b=2))

        site.visit(view)
        assert {"a": 1, "b": 2} == site.visit(lambda request: dict(request.session))

    def test_they_may_add_others(self, site: Site) -> None:
        """Which may change it too, however many there are in turn."""

        def second(request: Any, response: Any) -> None:
            request.session["b"] = 2
            request.add_response_callback(lambda request, response: current().update(c=3))

        def first(request: Any, response: Any) -> None:
            request.session["a"] = 1
            request.add_response_callback(second)

        site.visit(lambda request: request.add_response_callback(first))
        assert {"a": 1, "b": 2, "c": 3} == site.visit(lambda request: dict(request.session))

    @pytest.mark.parametrize(
        "view", [lambda r: {}, lambda r: [r.session is None], lambda r: [r.session.is_new]]
    )
    def test_a_subscriber_to_the_response_may_read_it(self, view: View) -> None:
        """And the response says that it depends on the cookie, once."""

        def tell(event: Any) -> None:
            event.response.headers["X-Who"] = event.request.session.subject

        sessions = sessions_over()
        subscribe = lambda c: c.add_subscriber(tell, "pyramid.events.NewResponse")  # noqa: E731
        answer = ask(app_of(view, sessions, subscribe), logged_in(sessions))

        assert ("user:42", "Cookie") == (answer["x-who"], answer["vary"])

    def test_a_subscriber_to_the_response_is_too_late(self) -> None:
        """A change there raises, whether the session was opened before or not."""

        def late(event: Any) -> None:
            event.request.session["a"] = 1

        def configure(config: Any) -> None:
            config.add_subscriber(late, "pyramid.events.NewResponse")

        sessions = sessions_over()
        for view in (lambda request: {}, lambda request: dict(request.session)):
            assert SessionClosed is type(ask(app_of(view, sessions, configure)).error)

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_finished_callback_is_too_late(self, fails: bool) -> None:
        """A change there raises, whatever became of the request."""

        def view(request: Any) -> Any:
            request.add_finished_callback(lambda request: request.session.update(a=1))
            if fails:
                raise RuntimeError("a view that fails")
            return {}

        assert SessionClosed is type(ask(app_of(view, sessions_over())).error)

    @pytest.mark.parametrize("where", ["callback", "subscriber", "finished"])
    def test_an_error_behind_the_view_is_an_error(self, where: str) -> None:
        """Before the commit it drops the edits, but keeps a logout; behind it they are stored."""

        def fail(*_: Any) -> None:
            raise RuntimeError("not the view")

        def view(request: Any) -> Any:
            if where == "callback":
                request.add_response_callback(fail)
            if where == "finished":
                request.add_finished_callback(fail)
            if "b" in request.params:
                request.session.logout()
            request.session["a"] = 1
            return {}

        def configure(config: Any) -> None:
            if where == "subscriber":
                config.add_subscriber(fail, "pyramid.events.NewResponse")

        sessions = sessions_over()
        cookie = logged_in(sessions)
        app = app_of(view, sessions, configure)
        assert RuntimeError is type(ask(app, cookie).error)
        kept = {} if where == "callback" else {"a": 1}
        assert ("user:42", kept) == stored(sessions, cookie)
        ask(app, cookie, QUERY_STRING="b=1")
        assert (None, {}) == stored(sessions, cookie)

    def test_a_change_in_place_by_a_subscriber_raises(self) -> None:
        """It came too late, and the message names the key."""

        def configure(config: Any) -> None:
            def late(event: Any) -> None:
                event.request.session["cart"].append("tea")

            config.add_subscriber(late, "pyramid.events.NewResponse")

        sessions = sessions_over()
        app = app_of(lambda request: request.session["cart"], sessions, configure)
        answer = ask(app, logged_in(sessions, cart=[]))

        assert SessionClosed is type(answer.error)
        assert "'cart'" in str(answer.error)


class TestErrors:
    def failing(self, status: int, error: Exception | None = None, **options: Any) -> Any:
        """A site with a page for errors, whose view logs in and fails."""
        sessions = sessions_over(**options)

        def view(request: Any) -> Any:
            request.session.login("user:7")
            raise error or RuntimeError("a view that fails")

        def page(error: Any, request: Any) -> Any:
            request.session.flash("sorry")
            return Response(f"{status}", status)

        def configure(config: Any) -> None:
            config.add_exception_view(page, context=Exception)

        return app_of(view, sessions, configure), sessions

    def test_a_page_for_errors_with_500_drops_the_edits(self) -> None:
        """The error was handled, but it is an error."""
        app, sessions = self.failing(500)
        answer = ask(app, logged_in(sessions))

        assert (500, b"500", []) == (answer.status, answer.body, answer.cookies)
        assert [] == sessions.list_for("user:7")

    def test_a_page_for_errors_with_400_commits(self) -> None:
        """The site says that it was the client."""
        app, sessions = self.failing(400)

        assert 400 == ask(app).status
        assert 1 == len(sessions.list_for("user:7"))

    def test_a_redirect_that_is_raised_commits(self, site: Site) -> None:
        """As one that is returned."""

        def enter(request: Any) -> Any:
            request.session.login("user:42")
            raise HTTPFound("/")

        site.view = enter
        assert 302 == site.client.get("/").status_int
        assert "user:42" == site.visit(lambda request: request.session.subject)

    def test_a_missing_page_commits(self) -> None:
        """Its 404 is raised by the router itself."""

        def page(request: Any) -> Any:
            request.session["missed"] = request.path
            return HTTPNotFound()

        def missing(request: Any) -> Any:
            raise HTTPNotFound

        sessions = sessions_over()
        app = app_of(missing, sessions, lambda config: config.add_notfound_view(page))
        answer = ask(app, PATH_INFO="/nowhere")

        assert 404 == answer.status
        assert (None, {"missed": "/nowhere"}) == stored(sessions, cookie_of(answer))

    @pytest.mark.parametrize("verb", ["load", "save"])
    def test_an_outage_behind_a_page_for_errors_is_503(self, verb: str) -> None:
        """To the client it is the outage, and the page's own body is gone."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {verb}

        def view(request: Any) -> None:
            request.session["a"] = 1

        def configure(config: Any) -> None:
            config.add_exception_view(lambda request: Response("oh", 500), context=Exception)

        answer = ask(app_of(view, sessions, configure), cookie)
        assert (503, b"503\n", "5") == (answer.status, answer.body, answer["retry-after"])
        assert ("4", []) == (answer["content-length"], answer.cookies)

    def test_an_outage_that_the_site_answers_for_is_left_alone(self) -> None:
        """With its own page."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        def configure(config: Any) -> None:
            config.add_exception_view(lambda request: Response("soon", 503), context=Exception)

        answer = ask(app_of(lambda r: dict(r.session), sessions, configure), cookie)
        assert (503, b"soon") == (answer.status, answer.body)

    @pytest.mark.parametrize("has_page", [False, True])
    def test_an_outage_met_elsewhere_is_503(self, has_page: bool) -> None:
        """By a list of sessions, where the request's own was never asked for."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        flaky.down = {"load"}

        def configure(config: Any) -> None:
            if has_page:
                config.add_exception_view(lambda request: Response("oh", 500), context=Exception)

        answer = ask(app_of(lambda request: sessions.ping(), sessions, configure))
        assert (503, b"503\n", []) == (answer.status, answer.body, answer.cookies)

    @pytest.mark.parametrize("where", ["callback", "subscriber", "finished"])
    def test_an_outage_met_behind_the_tweens_is_503(self, where: str) -> None:
        """By whatever Pyramid runs once it has a response, in the site's execution policy."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        cookie = logged_in(sessions)
        flaky.down = {"load"}

        def view(request: Any) -> Any:
            if where == "callback":
                request.add_response_callback(lambda request, response: dict(request.session))
            if where == "finished":
                request.add_finished_callback(lambda request: dict(request.session))
            return {}

        def policy(environ: Any, router: Any) -> Any:
            return default_execution_policy(environ, router)

        def configure(config: Any) -> None:
            config.set_execution_policy(policy)
            if where == "subscriber":
                read = lambda event: dict(event.request.session)  # noqa: E731
                config.add_subscriber(read, "pyramid.events.NewResponse")

        answer = ask(app_of(view, sessions, configure), cookie)
        assert (503, b"503\n", "5") == (answer.status, answer.body, answer["retry-after"])
        assert [] == answer.cookies

    def test_a_body_that_a_503_replaces_is_closed(self) -> None:
        """Nobody else will."""
        flaky = Flaky()
        sessions = sessions_over(flaky)
        flaky.down = {"create"}
        body = Body(lambda: iter([b"one"]))

        def view(request: Any) -> Any:
            request.session["a"] = 1
            return Response(app_iter=body)

        assert (503, b"503\n") == (lambda a: (a.status, a.body))(ask(app_of(view, sessions)))
        assert 1 == body.closed

    def test_a_tween_that_fails_is_an_error(self) -> None:
        """The view's edits go with it."""

        def tween_factory(handler: Any, registry: Any) -> Any:
            def tween(request: Any) -> Any:
                handler(request)
                raise RuntimeError("a tween that fails")

            return tween

        global failing_tween
        failing_tween = tween_factory
        sessions = sessions_over()
        cookie = logged_in(sessions)
        app = app_of(
            lambda request: request.session.update(a=1),
            sessions,
            lambda config: config.add_tween(f"{__name__}.failing_tween"),
        )

        assert RuntimeError is type(ask(app, cookie).error)
        assert ("user:42", {}) == stored(sessions, cookie)


failing_tween: Any = None


class Body:
    """A body that counts how often it was closed."""

    def __init__(self, parts: Callable[[], Iterator[bytes]]) -> None:
        self.parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.parts()

    def close(self) -> None:
        self.closed += 1


class TestStreaming:
    def answer(
        self, parts: Callable[[Any], Iterator[bytes]], *, opened: bool = True, **head: Any
    ) -> tuple[Answer, Any, Body]:
        """What a streamed body of these parts makes of a session with a cart."""
        sessions = sessions_over()
        cookie = logged_in(sessions, cart=[])
        made: list[Body] = []

        def view(request: Any) -> Any:
            if opened:
                _ = request.session["cart"]
                request.session["before"] = 1
            made.append(Body(lambda: parts(request)))
            return Response(app_iter=made[0], **head)

        answer = ask(app_of(view, sessions), cookie)
        return answer, stored(sessions, cookie)[1], made[0]

    def test_it_is_committed_before_the_first_byte(self) -> None:
        """And the rest can read it, by `current()` too."""

        def parts(request: Any) -> Iterator[bytes]:
            yield b"%d" % request.session["before"]
            yield str(current().subject).encode()

        answer, values, body = self.answer(parts)
        assert (b"1user:42", None) == (answer.body, answer.error)
        assert ({"cart": [], "before": 1}, 1) == (values, body.closed)

    @pytest.mark.parametrize("opened", [True, False])
    def test_a_late_change_raises(self, opened: bool) -> None:
        """Whether the view used the session or not."""

        def parts(request: Any) -> Iterator[bytes]:
            yield b"one"
            request.session["late"] = 1

        answer, values, body = self.answer(parts, opened=opened)
        assert (b"one", SessionClosed) == (answer.body, type(answer.error))
        assert (False, 1) == ("late" in values, body.closed)

    @pytest.mark.parametrize("opened", [True, False])
    def test_a_late_change_in_place_raises_at_the_end(self, opened: bool) -> None:
        """The whole body is out by then."""

        def parts(request: Any) -> Iterator[bytes]:
            yield b"one"
            current()["cart"].append("tea")
            yield b"two"

        answer, values, body = self.answer(parts, opened=opened)
        assert (b"onetwo", SessionClosed) == (answer.body, type(answer.error))
        assert ([], 1) == (values["cart"], body.closed)

    def test_its_length_is_kept(self) -> None:
        """As the view said it."""
        answer, _, _ = self.answer(lambda request: iter([b"one", b"two"]), content_length=6)

        assert ("6", b"onetwo") == (answer["content-length"], answer.body)

    def test_a_head_request_closes_it(self) -> None:
        """Though nobody reads it."""
        sessions = sessions_over()
        body = Body(lambda: iter([b"one"]))
        view: View = lambda r: dict(r.session) or Response(app_iter=body)  # noqa: E731
        answer = ask(app_of(view, sessions), REQUEST_METHOD="HEAD")

        assert (200, b"", 1) == (answer.status, answer.body, body.closed)


class TestAttempts:
    def test_a_request_that_is_tried_again_counts_once(self) -> None:
        """As pyramid_retry does it: with a new request; the failed one drops its edits."""

        def policy(environ: Any, router: Any) -> Any:
            try:
                return default_execution_policy(dict(environ), router)
            except RuntimeError:
                return default_execution_policy(dict(environ), router)

        tries: list[int] = []

        def view(request: Any) -> Any:
            request.session.edit("visits", lambda n: n + 1, default=0)
            tries.append(1)
            if len(tries) == 1:
                raise RuntimeError("try again")
            return request.session["visits"]

        sessions = sessions_over()
        app = app_of(view, sessions, lambda config: config.set_execution_policy(policy))
        answer = ask(app)

        assert (b"1", 2) == (answer.body, len(tries))
        assert (None, {"visits": 1}) == stored(sessions, cookie_of(answer))

    @pytest.mark.parametrize("use_tweens", [False, True])
    def test_a_subrequest_has_a_session_of_its_own(self, use_tweens: bool) -> None:
        """By its own cookies; both are committed."""
        sessions = sessions_over()

        def view(request: Any) -> Any:
            if request.path == "/inner":
                return [request.session.subject, request.session.edit("n", lambda n: n + 1)]
            request.session["outer"] = 1
            inner = Request.blank("/inner", headers={"Cookie": request.headers["Cookie"]})
            answer = request.invoke_subrequest(inner, use_tweens=use_tweens)
            return [answer.json, current() is request.session]

        cookie = logged_in(sessions, n=0)
        answer = ask(app_of(view, sessions), cookie)

        assert b'[["user:42", 1], true]' == answer.body
        assert ("user:42", {"n": 1, "outer": 1}) == stored(sessions, cookie)


class TestOptions:
    def test_named_sessions(self) -> None:
        """In `request.named_sessions` and `current(name)`, each with its cookie."""
        sessions = sessions_over()
        prefs = sessions_over(cookie=Cookie("prefs"))

        def view(request: Any) -> Any:
            request.named_sessions["prefs"]["dark"] = True
            return [current("prefs")["dark"], dict(request.session)]

        app = app_of(view, sessions, named={"prefs": prefs})
        answer = ask(app)
        assert b"[true, {}]" == answer.body
        assert ["__Host-prefs"] == [cookie.partition("=")[0] for cookie in answer.cookies]

    def test_a_name_that_is_not_there(self, site: Site) -> None:
        """Is said to be so."""
        with pytest.raises(LookupError, match="prefs"):
            site.visit(lambda request: current("prefs"))

    def test_asynchronous_sessions_are_refused(self) -> None:
        """With the remedy."""
        sessions: Any = AsyncSessions(AsyncMemoryStore())
        with pytest.raises(ConfigurationError, match="set_coatcheck_sessions: expected Sessions"):
            app_of(lambda request: {}, sessions)

    def test_by_default_the_client_is_the_peer(self) -> None:
        """For lists of devices."""
        sessions = sessions_over()
        app = app_of(lambda request: request.session.login("user:42"), sessions)
        ask(app, HTTP_USER_AGENT="Firefox")
        (info,) = sessions.list_for("user:42")

        assert Client("203.0.113.9", "Firefox") == info.client

    def test_a_function_of_the_request_may_say_it(self) -> None:
        """Such as one that knows the proxy."""
        sessions = sessions_over()
        app = app_of(
            lambda request: request.session.login("user:42"),
            sessions,
            client=lambda request: Client(request.headers["X-Real-IP"]),
        )
        ask(app, HTTP_X_REAL_IP="198.51.100.7")
        (info,) = sessions.list_for("user:42")

        assert Client("198.51.100.7") == info.client

    def test_a_daemon_thread_sweeps(self) -> None:
        """From the first request on, whether it uses its session or not."""
        store = Swept()
        app = app_of(lambda request: {}, sessions_over(store), sweep=0.001)
        assert not store.event.is_set()
        ask(app)

        assert store.event.wait(PATIENCE)
        for sweeper in app.registry[_TWEEN].upkeep.sweepers:
            sweeper.stop()

    def test_a_store_of_one_process_warns(self) -> None:
        """Where there are several."""
        app = app_of(lambda request: {}, sessions_over())
        with pytest.warns(RuntimeWarning, match="set_coatcheck_sessions: .*several"):
            wsgi_call(app, wsgi_environ(**{"wsgi.multiprocess": True}))

    def test_a_list_of_tweens_must_have_ours(self) -> None:
        """Pyramid would leave it out without a word."""
        sessions = sessions_over()
        listed = "pyramid.tweens.excview_tween_factory"
        with pytest.raises(ConfigurationError, match="session_tween_factory"):
            app_of(lambda request: {}, sessions, settings={"pyramid.tweens": listed})

        settings = {"pyramid.tweens": f"{_TWEEN} {listed}"}
        app = app_of(lambda request: current().subject, sessions, settings=settings)
        assert b"null" == ask(app).body

    def test_two_in_one_place_conflict(self) -> None:
        """As everything in Pyramid."""
        again = lambda config: config.set_coatcheck_sessions(sessions_over())  # noqa: E731
        with pytest.raises(ConfigurationConflictError):
            app_of(lambda request: {}, sessions_over(), again)

    def test_the_apps_own_wins_over_an_included_one(self) -> None:
        """Wholly: the factory and the tween are of the same sessions."""
        sessions = sessions_over()
        cookie = logged_in(sessions)

        def part(config: Any) -> None:
            config.set_coatcheck_sessions(sessions_over(), sweep=None)

        app = app_of(
            lambda request: [request.session.subject, current() is request.session],
            sessions,
            lambda config: config.include(part),
        )
        assert b'["user:42", true]' == ask(app, cookie).body
