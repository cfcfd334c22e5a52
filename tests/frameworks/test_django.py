"""What is special to Django: its settings, its session API, its users, its test client."""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.conf import settings  # type: ignore[import-untyped]
from django.contrib import admin  # type: ignore[import-untyped]
from django.contrib.auth import (  # type: ignore[import-untyped]
    login,
    logout,
    update_session_auth_hash,
)
from django.contrib.auth.decorators import login_required  # type: ignore[import-untyped]
from django.contrib.messages import get_messages, success  # type: ignore[import-untyped]
from django.contrib.sessions.backends.base import (  # type: ignore[import-untyped]
    CreateError,
    UpdateError,
)
from django.core.checks import run_checks  # type: ignore[import-untyped]
from django.core.management import call_command  # type: ignore[import-untyped]
from django.core.signals import got_request_exception  # type: ignore[import-untyped]
from django.http import (  # type: ignore[import-untyped]
    FileResponse,
    HttpResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase  # type: ignore[import-untyped]
from django.test import (  # type: ignore[import-untyped]
    AsyncClient,
    Client,
    RequestFactory,
    override_settings,
)
from django.urls import path  # type: ignore[import-untyped]
from django.utils import timezone  # type: ignore[import-untyped]
from django.utils.deprecation import MiddlewareMixin  # type: ignore[import-untyped]
from django.utils.safestring import SafeString, mark_safe  # type: ignore[import-untyped]
from django.views.decorators.csrf import csrf_exempt  # type: ignore[import-untyped]

import tests.django_project as project
from coatcheck import AsyncSessions, Cookie, Sessions, current
from coatcheck.csrf import CrossOriginProtection
from coatcheck.errors import ConfigurationError, SessionClosed, StoreUnavailable
from coatcheck.lifetime import AAL3
from coatcheck.session import Client as Browser
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from coatcheck.testing import login as log_in
from coatcheck.watching import _watchers
from coatcheck.web.django import CSRFMiddleware, SessionStore, async_sessions, conf, sessions
from coatcheck.web.django.middleware import SessionMiddleware as Middleware
from coatcheck.web.django.pairs import paired
from coatcheck.web.django.responses import _Cookie
from tests.test_laws import Flaky

DAY = 86_400
NAME = "__Host-sessionid"

Act = Callable[[Any], Any]
act: Act = lambda request: None  # noqa: E731 - what the view does; a test sets it


def view(request: Any) -> Any:
    return _response(act(request))


async def awaited_view(request: Any) -> Any:
    return _response(await act(request))


def _response(found: Any) -> Any:
    return found if isinstance(found, HttpResponseBase) else HttpResponse("ok")


def who(request: Any) -> Any:
    return HttpResponse(str(request.user))


urlpatterns = [
    path("", view),
    path("awaited", awaited_view),
    path("who", who),
    path("account", login_required(who)),
    path("static/a.css", view),
    path("hook", csrf_exempt(view)),
    path("admin/", admin.site.urls),
]


@pytest.fixture(autouse=True)
def clock() -> Iterator[Clock]:
    """A project with a clock to move and nothing stored; the view does nothing."""
    clock = Clock()
    conf._stores.cache_clear()
    with override_settings(ROOT_URLCONF=__name__, COATCHECK_OPTIONS={"clock": clock}):
        yield clock
    do(lambda request: None)


@pytest.fixture(scope="module")
def database() -> Iterator[None]:
    with project.database():
        yield


@pytest.fixture
def ann(database: None) -> Iterator[Any]:
    from django.contrib.auth.models import User  # type: ignore[import-untyped]

    user = User.objects.create_superuser("ann", password="correct horse")
    yield user
    user.delete()


def do(what: Act) -> None:
    global act
    act = what


def put(key: str, value: Any) -> Act:
    return lambda request: request.session.__setitem__(key, value)


def visit(client: Any, what: Act, at: str = "/", **options: Any) -> Any:
    do(what)
    return client.get(at, secure=True, **options)


def read(client: Any, key: str) -> Any:
    found: list[Any] = []
    visit(client, lambda request: found.append(request.session.get(key)))
    return found[0]


def max_age(response: Any) -> Any:
    return response.cookies[NAME]["max-age"]


class TestLoggingIn:
    def test_a_login_takes_a_fresh_token_and_keeps_id_and_values(self, ann: Any) -> None:
        """As auth.login() does it: the visitor's cart goes on."""
        client = Client()
        visit(client, put("cart", ["tea"]))
        before = client.session
        before_id = before.id
        visit(client, lambda request: login(request, ann))
        after = client.session

        assert (before_id, ["tea"], str(ann.pk)) == (after.id, after["cart"], after.subject)
        assert before.session_key != after.session_key
        assert SessionStore().exists(before.session_key) is False

    def test_the_session_key_is_what_the_cookie_holds(self, ann: Any) -> None:
        """In the view that logs in, too."""
        client, found = Client(), list[Any]()

        def enter(request: Any) -> None:
            login(request, ann)
            found.append(request.session.session_key)

        visit(client, enter)
        assert client.cookies[NAME].value == found[0] == client.session.session_key

    def test_a_login_again_keeps_how_long_it_lasts(self, ann: Any) -> None:
        """What the app's own login said of it; how sure it was is another matter."""
        client, subject = Client(), str(ann.pk)

        def enter(request: Any) -> None:
            login(request, ann)
            current().login(subject, lifetime=AAL3, level=3)

        for act, level in [(enter, 3), (lambda request: login(request, ann), 1)]:
            visit(client, act)
            (info,) = sessions().list_for(subject)

            assert (level, timedelta(minutes=15)) == (info.level, info.expires_at - info.seen_at)

    def test_a_user_is_listed_and_revoked_by_primary_key(self, ann: Any) -> None:
        """And their next request is anonymous."""
        client = Client(headers={"user-agent": "Firefox"})
        visit(client, lambda request: login(request, ann))
        (info,) = sessions().list_for(str(ann.pk))
        assert ("127.0.0.1", "Firefox") == info.client
        assert sessions().revoke(info.id, subject=str(ann.pk)) is True

        assert "AnonymousUser" == client.get("/who").content.decode()

    def test_a_logout_ends_it_in_the_store(self, ann: Any) -> None:
        """A copied cookie opens nothing, and the browser drops its own."""
        client, thief = Client(), Client()
        client.force_login(ann)
        thief.cookies[NAME] = client.cookies[NAME].value
        response = visit(client, logout)

        assert ("", 0) == (response.cookies[NAME].value, int(max_age(response)))
        assert [] == sessions().list_for(str(ann.pk))
        assert "AnonymousUser" == thief.get("/who").content.decode()

    def test_another_user_gets_nothing_of_the_first(self, ann: Any) -> None:
        """auth.login() flushes, and the first one's session is over."""
        from django.contrib.auth.models import User

        bob, client = User.objects.create_user("bob"), Client()
        visit(client, lambda request: login(request, ann))
        visit(client, put("secret", 1))
        visit(client, lambda request: login(request, bob))

        assert (None, "bob") == (read(client, "secret"), client.get("/who").content.decode())
        assert [] == sessions().list_for(str(ann.pk))
        bob.delete()

    def test_a_password_change_ends_the_other_devices(self, ann: Any) -> None:
        """By Django's hash, at their next request, and then in the store too."""
        client, other = Client(), Client()
        client.force_login(ann)
        other.force_login(ann)
        before = client.session.session_key

        def change(request: Any) -> None:
            request.user.set_password("battery staple")
            request.user.save()
            update_session_auth_hash(request, request.user)

        visit(client, change)
        assert before != client.session.session_key
        assert ["ann", "AnonymousUser"] == [
            each.get("/who").content.decode() for each in (client, other)
        ]
        assert 1 == len(sessions().list_for(str(ann.pk)))

    def test_a_middleware_above_may_meet_that_change(self, ann: Any) -> None:
        """Django logs out where the user is first asked for, though the response is there."""
        client = Client()
        client.force_login(ann)
        ann.set_password("battery staple")
        ann.save()
        above = f"{__name__}.telling_middleware"
        with override_settings(MIDDLEWARE=[above, *project.MIDDLEWARE]):
            assert "AnonymousUser" == visit(client, lambda request: None)["x-user"]

        assert [] == sessions().list_for(str(ann.pk))

    def test_assigning_the_user_id_is_the_login(self, clock: Clock) -> None:
        """Also where somebody imitates auth.login()."""
        client = Client()
        visit(client, lambda request: request.session.update({"_auth_user_id": 7, "a": 1}))

        assert ("7", 7, 1) == (
            client.session.subject,
            *map(client.session.get, ["_auth_user_id", "a"]),
        )

    def test_removing_the_user_id_is_the_logout(self, clock: Clock) -> None:
        """The other values go on, in a session of their own."""
        client = Client()
        visit(client, lambda request: request.session.update({"_auth_user_id": "7", "a": 1}))
        before = client.session.id
        visit(client, lambda request: request.session.pop("_auth_user_id"))
        after = client.session

        assert (None, 1) == (after.subject, after["a"])
        assert before != after.id
        assert [] == sessions().list_for("7")

    @pytest.mark.parametrize("expiry", [0, 90 * DAY, timedelta(seconds=60)], ids=str)
    def test_who_is_logged_out_so_keeps_the_expiry(self, clock: Clock, expiry: Any) -> None:
        """Of values that go on, it is one."""
        client = Client()

        def enter(request: Any) -> None:
            request.session["_auth_user_id"] = "7"
            request.session.set_expiry(expiry)

        entered = visit(client, enter)
        left = visit(client, lambda request: request.session.pop("_auth_user_id"))

        ages = [float(max_age(each) or 0) for each in (entered, left)]
        assert ages[0] == pytest.approx(ages[1], abs=1)
        assert client.session.get_expiry_age() == pytest.approx(ages[1] or 14 * DAY, abs=1)

    @pytest.mark.parametrize("expiry", [0, 90 * DAY, timedelta(seconds=60)], ids=str)
    def test_the_next_user_has_the_usual_expiry(self, clock: Clock, expiry: Any) -> None:
        """Where an imitated login empties the session of the first."""
        client = Client()
        visit(client, put("_auth_user_id", "1"))
        visit(client, lambda request: request.session.set_expiry(expiry))
        response = visit(client, put("_auth_user_id", "2"))

        assert [14 * DAY] * 2 == [int(max_age(response)), client.session.get_expiry_age()]

    @pytest.mark.parametrize("cycle", [False, True])
    @pytest.mark.parametrize("expiry", [0, 90 * DAY, timedelta(seconds=60)], ids=str)
    def test_an_emptied_session_has_the_usual_expiry(
        self, clock: Clock, expiry: Any, cycle: bool
    ) -> None:
        """An anonymous one goes on, without what it held."""
        client = Client()
        visit(client, lambda request: request.session.set_expiry(expiry))

        def empty(request: Any) -> None:
            request.session.clear()
            request.session["a"] = 1
            if cycle:
                request.session.cycle_key()

        response = visit(client, empty)
        assert [14 * DAY] * 2 == [int(max_age(response)), client.session.get_expiry_age()]

    def test_clearing_it_logs_out(self, clock: Clock) -> None:
        """As it does with Django's own sessions."""
        client = Client()
        visit(client, put("_auth_user_id", "7"))
        visit(client, lambda request: request.session.clear())

        assert [] == sessions().list_for("7")

    def test_a_view_that_is_broken_off_has_logged_out(self, clock: Clock) -> None:
        """Also by what is no Exception, such as a server's time limit (law 9)."""
        client = Client()
        log_in(client, sessions(), "7")

        def leave(request: Any) -> None:
            request.session.flush()
            request.session["a"] = 1
            raise SystemExit(1)

        with pytest.raises(SystemExit):
            visit(client, leave)
        assert [] == sessions().list_for("7")
        assert read(client, "a") is None

    def test_a_view_whose_browser_left_has_logged_out(self, clock: Clock) -> None:
        """Django cancels it then."""
        client = AsyncClient()
        log_in(client, sessions(), "7")

        async def main() -> None:
            reached = asyncio.Event()

            async def leave(request: Any) -> None:
                await request.session.aflush()
                reached.set()
                await asyncio.Event().wait()

            do(leave)
            visiting = asyncio.create_task(client.get("/awaited", secure=True))
            await reached.wait()
            visiting.cancel()
            await asyncio.wait([visiting])
            assert visiting.cancelled()

        asyncio.run(main())
        assert [] == sessions().list_for("7")

    def test_login_required_sends_to_the_login_page(self, ann: Any) -> None:
        """Django's own decorator works, because request.user does."""
        client = Client()
        assert "/accounts/login/?next=/account" == client.get("/account")["location"]
        client.force_login(ann)

        assert "ann" == client.get("/account").content.decode()

    def test_the_login_required_middleware_guards_every_view(self, ann: Any) -> None:
        """And its answer varies with the cookie that it looked at."""
        guard = "django.contrib.auth.middleware.LoginRequiredMiddleware"
        with override_settings(MIDDLEWARE=[*project.MIDDLEWARE, guard]):
            client = Client()
            refused = client.get("/")
            client.force_login(ann)

            assert (302, "Cookie") == (refused.status_code, refused["vary"])
            assert 200 == client.get("/").status_code

    def test_the_admin_logs_in_and_out(self, ann: Any) -> None:
        """With its own pages."""
        client = Client()
        form = {"username": "ann", "password": "correct horse"}
        client.post("/admin/login/?next=/admin/", form, secure=True)
        page = client.get("/admin/", secure=True)
        client.post("/admin/logout/", secure=True)

        assert "Site administration" in page.content.decode()
        assert 302 == client.get("/admin/", secure=True).status_code
        assert [] == sessions().list_for(str(ann.pk))


class TestTheTestClient:
    def test_it_logs_in_and_out(self, ann: Any) -> None:
        """Without a login page."""
        client = Client()
        assert client.login(username="ann", password="correct horse") is True
        seen = [client.get("/who").content.decode()]
        client.logout()
        seen.append(client.get("/who").content.decode())

        assert ["ann", "AnonymousUser"] == seen
        assert [] == sessions().list_for(str(ann.pk))

    def test_its_session_can_be_prepared(self, clock: Clock) -> None:
        """Written and saved before a request, read after one."""
        client = Client()
        prepared = client.session
        prepared["a"] = 1
        prepared.save()

        assert 1 == read(client, "a")

    def test_ours_logs_it_in_by_subject(self, clock: Clock) -> None:
        """Where no user model is wanted."""
        client = Client()
        session_id = log_in(client, sessions(), "42", values={"a": 1})
        session = client.session

        assert (session_id, "42", 1) == (session.id, session.subject, session["a"])

    def test_the_asynchronous_one_logs_in_and_out(self, ann: Any) -> None:
        """By the asynchronous methods, which go to the store of the others."""
        client = AsyncClient()

        async def enter_and_leave() -> list[str | None]:
            await client.aforce_login(ann)
            seen = [sessions().list_for(str(ann.pk))[0].subject]
            await client.alogout()
            return seen

        assert [str(ann.pk)] == asyncio.run(enter_and_leave())
        assert [] == sessions().list_for(str(ann.pk))

    def test_its_errors_come_through(self, clock: Clock) -> None:
        """What the view raises, and not what we make of it."""
        with pytest.raises(ZeroDivisionError):
            visit(Client(), lambda request: 1 / 0)


class TestValues:
    def test_a_value_changed_in_place_is_noticed(self, clock: Clock) -> None:
        """Nobody has to set modified."""
        client = Client()
        visit(client, put("cart", {"tea": [1]}))
        visit(client, lambda request: request.session["cart"]["tea"].append(2))

        assert {"tea": [1, 2]} == read(client, "cart")

    def test_different_keys_of_two_copies_survive(self, clock: Clock) -> None:
        """Neither writes over what it did not change."""
        first = SessionStore()
        first.save()
        second = SessionStore(first.session_key)
        assert {} == dict(second.items())
        first["a"], second["b"] = 1, 2
        first.save()
        second.save()

        assert {"a": 1, "b": 2} == SessionStore(first.session_key).load()

    def test_safe_strings_come_back_safe(self, clock: Clock) -> None:
        """Also inside others."""
        client = Client()
        visit(client, put("notes", [mark_safe("<b>"), "<i>"]))

        assert [SafeString, str] == [type(note) for note in read(client, "notes")]

    def test_edits_count(self, clock: Clock) -> None:
        """Of two that were opened together, both."""
        first = SessionStore()
        first.save()
        second = SessionStore(first.session_key)
        assert second.get("n") is None
        for each in (first, second):
            each.edit("n", lambda n: n + 1, default=0)
            each.save()

        assert {"n": 2} == SessionStore(first.session_key).load()

    def test_messages_may_live_in_the_session(self, clock: Clock) -> None:
        """Django's framework, with its own storage."""
        storage = "django.contrib.messages.storage.session.SessionStorage"
        with override_settings(MESSAGE_STORAGE=storage):
            client, found = Client(), list[str]()
            visit(client, lambda request: success(request, "Saved"))
            for _ in range(2):
                visit(client, lambda request: found.extend(map(str, get_messages(request))))

        assert ["Saved"] == found

    def test_csrf_tokens_may_live_in_the_session(self, clock: Clock) -> None:
        """CSRF_USE_SESSIONS."""
        from django.middleware.csrf import get_token  # type: ignore[import-untyped]

        with override_settings(CSRF_USE_SESSIONS=True):
            client, found = Client(enforce_csrf_checks=True), list[str]()
            visit(client, lambda request: found.append(get_token(request)))
            do(lambda request: None)
            origin = {"origin": "https://testserver"}
            sent = [
                client.post("/", {"csrfmiddlewaretoken": token}, headers=origin, secure=True)
                for token in (found[0], "x" * 64)
            ]

        assert [200, 403] == [each.status_code for each in sent]


class TestCSRF:
    """What `test_outside_csrf` does not see."""

    OURS = "coatcheck.web.django.CSRFMiddleware"
    CROSS = {"sec-fetch-site": "cross-site", "origin": "https://app.example"}  # noqa: RUF012

    def posted(self, at: str = "/", **settings_: Any) -> int:
        middleware = [project.MIDDLEWARE[0], self.OURS, *project.MIDDLEWARE[2:]]
        with override_settings(MIDDLEWARE=middleware, **settings_):
            status: int = Client().post(at, headers=self.CROSS, secure=True).status_code
        return status

    def test_djangos_trusted_origins_are_ours(self) -> None:
        """And a wildcard, which cannot be compared exactly, is refused."""
        assert 403 == self.posted()
        assert 200 == self.posted(CSRF_TRUSTED_ORIGINS=["https://app.example"])
        with pytest.raises(ConfigurationError, match=r"\*\.example"):
            self.posted(CSRF_TRUSTED_ORIGINS=["https://*.example"])

    def test_a_view_may_be_exempt(self) -> None:
        """By Django's own decorator."""
        assert 200 == self.posted("/hook")

    def test_it_stands_beside_djangos_own(self, clock: Clock) -> None:
        """Which asks for a token, of the session, that a login replaces."""
        from django.middleware.csrf import get_token

        middleware = [project.MIDDLEWARE[0], self.OURS, *project.MIDDLEWARE[1:]]
        with override_settings(MIDDLEWARE=middleware, CSRF_USE_SESSIONS=True):
            client, found = Client(enforce_csrf_checks=True), list[str]()
            visit(client, lambda request: found.append(get_token(request)))
            do(lambda request: None)
            form = {"csrfmiddlewaretoken": found[0]}
            own = {"origin": "https://testserver", "sec-fetch-site": "same-origin"}
            answers = [
                client.post("/", form, headers=own, secure=True),
                client.post("/", {}, headers=own, secure=True),
                client.post("/", form, headers=self.CROSS, secure=True),
            ]

        assert [200, 403, 403] == [answer.status_code for answer in answers]
        assert b"403 Forbidden: cross-origin request\n" == answers[2].content

    def test_tokens_are_djangos_business(self) -> None:
        """A rule with tokens is refused, with what to use."""
        kind = type("Ours", (CSRFMiddleware,), {"protection": CrossOriginProtection(tokens=True)})
        with pytest.raises(ConfigurationError, match="CSRF_USE_SESSIONS"):
            kind(view)


class TestSaving:
    def test_an_early_save_gives_an_anonymous_visitor_a_key(self, clock: Clock) -> None:
        """It is stored at once, empty as it is, and the response brings the cookie."""
        client, found = Client(), list[Any]()

        def ensure(request: Any) -> None:
            assert request.session.session_key is None
            request.session.save()
            found.append(SessionStore().exists(request.session.session_key))
            found.append(request.session.session_key)

        response = visit(client, ensure)
        assert [True, response.cookies[NAME].value] == found

    def test_create_gives_a_key_too(self, clock: Clock) -> None:
        """And another one where there is one."""
        store = SessionStore()
        store.create()
        first = store.session_key
        store["a"] = 1
        store.create()

        assert (None, {"a": 1}) == (
            SessionStore(first).get("a"),
            SessionStore(store.session_key).load(),
        )

    def test_must_create_refuses_what_is_there(self, clock: Clock) -> None:
        """With Django's error."""
        store = SessionStore()
        store.save()
        with pytest.raises(CreateError):
            store.save(must_create=True)

    def test_a_session_that_ended_meanwhile_is_no_400(self, clock: Clock) -> None:
        """The request is answered; its edits are dropped and no cookie is set."""
        client = Client()
        visit(client, put("a", 1))

        def change(request: Any) -> None:
            request.session["b"] = 2
            sessions().revoke(request.session.id)

        response = visit(client, change)
        assert (200, []) == (response.status_code, list(response.cookies))

    def test_nor_where_the_view_saves_by_itself(self, clock: Clock) -> None:
        """Django's UpdateError is for those who hold a store of their own."""
        client = Client()
        visit(client, put("a", 1))

        def change(request: Any) -> None:
            SessionStore(request.session.session_key).delete()
            request.session["b"] = 2
            request.session.save()

        assert 200 == visit(client, change).status_code

    def test_saving_by_hand_what_ended_says_so(self, clock: Clock) -> None:
        """UpdateError, as every engine has it."""
        store = SessionStore()
        store.save()
        SessionStore(store.session_key).flush()
        store["a"] = 1
        with pytest.raises(UpdateError):
            store.save()

    def test_an_error_drops_what_was_not_saved(self, clock: Clock) -> None:
        """What was saved early stays."""
        client = Client(raise_request_exception=False)
        visit(client, put("a", 0))

        def fail(request: Any) -> None:
            request.session["a"] = 1
            request.session.save()
            request.session["a"] = 2
            raise RuntimeError

        assert (500, 1) == (visit(client, fail).status_code, read(client, "a"))

    def test_asynchronous_methods_need_no_thread(self, clock: Clock) -> None:
        """With AsyncSessions alone, every one of them works."""
        only = paired("", AsyncSessions(AsyncMemoryStore(), cookie=Cookie(NAME), clock=clock))

        async def walk() -> list[Any]:
            store = SessionStore()
            store._pair = only
            await store.aset("a", 1)
            await store.asave()
            key = store.session_key
            await store.acycle_key()
            other = SessionStore(store.session_key)
            other._pair = only
            seen = [await store.aexists(key), await other.aget("a"), await other.aload()]
            await store.acreate()
            await store.aflush()
            await store.adelete(key)
            return [*seen, await store.aexists(other.session_key)]

        assert [False, 1, {"a": 1}, False] == asyncio.run(walk())


class TestExpiry:
    def test_the_cookie_age_is_the_lifetime(self, clock: Clock) -> None:
        """In the cookie and in the store, counted from the login however it is used."""
        with override_settings(SESSION_COOKIE_AGE=900):
            client = Client()
            assert 900 == int(max_age(visit(client, put("a", 1))))
            clock.move(600)
            assert 1 == read(client, "a")
            clock.move(300)

            assert read(client, "a") is None

    def test_saving_every_request_means_that_use_prolongs(self, clock: Clock) -> None:
        """Without an end but the browser's, as long as no pause is longer than the age."""
        with override_settings(SESSION_COOKIE_AGE=900, SESSION_SAVE_EVERY_REQUEST=True):
            client = Client()
            assert 400 * DAY == int(max_age(visit(client, put("a", 1))))
            for _ in range(3):
                clock.move(600)
                assert 1 == read(client, "a")
            clock.move(900)

            assert read(client, "a") is None

    def test_sessions_may_end_with_the_browser(self, clock: Clock) -> None:
        """A cookie without an age."""
        with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
            assert "" == max_age(visit(Client(), put("a", 1)))

    @pytest.mark.parametrize("stored", [False, True], ids=["new", "stored"])
    def test_a_time_is_the_end_of_cookie_and_store(self, clock: Clock, stored: bool) -> None:
        """One number for both, however the session is used."""
        client = Client()
        if stored:
            visit(client, put("a", 1))

        def shorten(request: Any) -> None:
            request.session["a"] = 1
            request.session.set_expiry(timedelta(seconds=300))

        assert 300 == pytest.approx(int(max_age(visit(client, shorten))), abs=1)
        clock.move(298)
        assert 1 == read(client, "a")
        clock.move(3)
        assert read(client, "a") is None

    @pytest.mark.parametrize("stored", [False, True], ids=["new", "stored"])
    def test_a_number_is_seconds_without_use(self, clock: Clock, stored: bool) -> None:
        """Within the hard end of the settings, which is the cookie's."""
        client = Client()
        if stored:
            visit(client, put("a", 1))
        visit(client, lambda request: request.session.update({"a": 1, "_session_expiry": 300}))
        for _ in range(3):
            clock.move(299)
            assert 1 == read(client, "a")
        assert 14 * DAY == int(client.cookies[NAME]["max-age"])
        clock.move(300)

        assert read(client, "a") is None

    def test_a_number_leaves_the_hard_end_where_it_was(self, clock: Clock) -> None:
        """As long as that is not sooner than the number says."""
        client = Client()
        with override_settings(SESSION_COOKIE_AGE=900):
            visit(client, put("a", 1))
            for seconds in (500, 600, 550):
                clock.move(100)
                visit(client, put("_session_expiry", seconds))
            clock.move(500)
            assert 1 == read(client, "a")
            clock.move(101)

            assert read(client, "a") is None

    @pytest.mark.parametrize("expiry", [900, 0, 90 * DAY, timedelta(seconds=900)], ids=str)
    def test_an_expiry_at_each_request_logs_no_other_request_out(
        self, clock: Clock, expiry: Any
    ) -> None:
        """As a middleware does it that gives every user a sliding time."""
        client, parallel = Client(), Client()
        visit(client, put("_auth_user_id", "7"))

        def slide(request: Any) -> None:
            request.session.set_expiry(expiry)
            found.append(request.session.subject)

        found = list[str | None]()
        for _ in range(4):
            parallel.cookies[NAME] = client.cookies[NAME].value
            visit(client, slide)
            visit(parallel, slide)
            clock.move(30)

        assert ["7"] * 8 == found

    def test_the_same_number_again_costs_nothing(self, clock: Clock) -> None:
        """Neither a cookie nor a save."""
        client = Client()
        visit(client, put("_session_expiry", 900))
        shelf = sessions()._store
        assert isinstance(shelf, MemoryStore)
        before = shelf.page("", 10, 0)
        again = visit(client, lambda request: request.session.set_expiry(900))

        assert (before, {}) == (shelf.page("", 10, 0), dict(again.cookies))

    def test_another_time_is_told_by_a_renewal(self, clock: Clock) -> None:
        """The cookie of a moment ago is good for a while."""
        client, parallel = Client(), Client()
        visit(client, put("a", 1))
        parallel.cookies[NAME] = client.cookies[NAME].value
        response = visit(client, lambda request: request.session.set_expiry(90 * DAY))

        assert 90 * DAY == int(max_age(response))
        assert [1, 1] == [read(client, "a"), read(parallel, "a")]

    def test_an_expiry_may_be_longer_than_the_setting(self, clock: Clock) -> None:
        """Up to what browsers keep."""
        client = Client()
        response = visit(client, lambda request: request.session.set_expiry(90 * DAY))
        clock.move(89 * DAY)

        assert (90 * DAY, 90 * DAY) == (
            int(max_age(response)),
            client.session.get_expiry_age(),
        )
        assert 400 * DAY == int(
            max_age(visit(client, lambda request: request.session.set_expiry(900 * DAY)))
        )

    def test_zero_ends_with_the_browser(self, clock: Clock) -> None:
        """And a later login of the same session keeps that."""
        client = Client()
        first = visit(client, lambda request: request.session.set_expiry(0))
        second = visit(client, put("_auth_user_id", "7"))
        third = visit(client, lambda request: request.session.set_expiry(None))

        assert ["", "", 14 * DAY] == [max_age(first), max_age(second), int(max_age(third))]

    def test_a_cycled_key_does_not_prolong(self, clock: Clock) -> None:
        """The end stays where it was."""
        client = Client()
        visit(client, lambda request: request.session.set_expiry(timedelta(seconds=300)))
        clock.move(100)
        response = visit(client, lambda request: request.session.cycle_key())

        assert 200 == pytest.approx(int(max_age(response)), abs=1)

    def test_an_expiry_in_the_past_ends_it(self, clock: Clock) -> None:
        """At once."""
        client = Client()
        visit(client, put("_auth_user_id", "7"))
        past = timezone.now() - timedelta(seconds=1)
        visit(client, lambda request: request.session.set_expiry(past))

        assert [] == sessions().list_for("7")

    def test_clearsessions_removes_what_expired(self, clock: Clock) -> None:
        """The command is there without django.contrib.sessions."""
        client = Client()
        visit(client, put("a", 1))
        shelf = sessions()._store
        assert isinstance(shelf, MemoryStore)
        clock.move(15 * DAY)
        assert 1 == len(shelf._records)
        call_command("clearsessions")

        assert 0 == len(shelf._records)

    def test_the_asynchronous_twin_removes_it_too(self, clock: Clock) -> None:
        """As SessionStore has both."""
        visit(Client(), put("a", 1))
        clock.move(15 * DAY)
        asyncio.run(SessionStore.aclear_expired())

        assert 0 == sessions().sweep()


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """The project's store, which can be out of reach."""
    store = Flaky()
    monkeypatch.setattr(conf, "_stores", lambda url: (store, AsyncMemoryStore(store)))
    conf._forget(setting="COATCHECK_STORE")
    return store


class TestOutages:
    @pytest.mark.parametrize("debug", [False, True])
    def test_a_request_that_needs_the_store_gets_503(self, flaky: Flaky, debug: bool) -> None:
        """With Retry-After and the cookie untouched; nobody gets a mail about an error."""
        client, told = Client(), list[Any]()
        visit(client, put("a", 1))
        flaky.down = {"load"}

        def tell(request: Any, **details: Any) -> None:
            told.append(request)

        got_request_exception.connect(tell)
        with override_settings(DEBUG=debug):
            response = visit(client, lambda request: request.session["a"])
        got_request_exception.disconnect(tell)

        assert (503, "5", [], []) == (
            response.status_code,
            response["retry-after"],
            list(response.cookies),
            told,
        )
        flaky.down = set()
        assert 1 == read(client, "a")

    def test_the_user_is_not_anonymous_then(self, ann: Any, flaky: Flaky) -> None:
        """Neither for login_required nor for request.user."""
        client = Client()
        client.force_login(ann)
        flaky.down = {"load"}

        assert [503, 503] == [client.get(at).status_code for at in ("/who", "/account")]

    def test_an_exception_that_django_lets_through_is_answered_too(self, flaky: Flaky) -> None:
        """DEBUG_PROPAGATE_EXCEPTIONS."""
        guard = f"{__name__}.failing_middleware"
        flaky.down = {"load"}
        with override_settings(
            DEBUG_PROPAGATE_EXCEPTIONS=True, MIDDLEWARE=[*project.MIDDLEWARE, guard]
        ):
            client = Client(raise_request_exception=False)
            client.cookies[NAME] = "A" * 64

            assert 503 == client.get("/").status_code

    def test_an_app_may_answer_for_itself(self, flaky: Flaky) -> None:
        """With a page of its own, and any status but an error."""
        flaky.down = {"load"}
        client = Client()
        client.cookies[NAME] = "A" * 64

        def calm(request: Any) -> Any:
            try:
                return HttpResponse(request.session["a"])
            except StoreUnavailable:
                return HttpResponse("later")

        assert b"later" == visit(client, calm).content

    @pytest.mark.parametrize("verbs", [{"load"}, {"create", "save"}], ids=["open", "save"])
    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    def test_a_middleware_that_makes_a_500_of_every_error_hides_none(
        self, twin: Any, verbs: set[str], flaky: Flaky
    ) -> None:
        """The answer is the 503 all the same, with the cookie untouched."""
        client = twin()
        log_in(client, sessions(), "42")
        flaky.down = verbs
        with covered(500):
            response = visit_by(client, (use_and_save, ause_and_save))
        assert (503, "5", {}) == (response.status_code, response["retry-after"], response.cookies)
        flaky.down = set()
        assert ["42"] == [each.subject for each in sessions().list_for("42")]

    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    def test_its_own_answer_to_an_outage_goes_out(self, twin: Any, flaky: Flaky) -> None:
        """A 503 is one."""
        client = twin()
        log_in(client, sessions(), "42")
        flaky.down = {"load"}
        with covered(503):
            assert b"covered" == visit_by(client, (use_and_save, ause_and_save)).content

    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    def test_another_error_stays_its_500(self, twin: Any, clock: Clock) -> None:
        """The store is not to blame."""
        with covered(500):
            response = visit_by(twin(), (fail_after_use, afail_after_use))
        assert (500, b"covered") == (response.status_code, response.content)

    def test_an_outage_that_is_over_is_not_to_blame(self, flaky: Flaky) -> None:
        """The view saved again, and failed for a reason of its own."""

        def recover(request: Any) -> None:
            flaky.down = {"create"}
            with pytest.raises(StoreUnavailable):
                use_and_save(request)
            flaky.down = set()
            fail_after_use(request)

        with covered(500):
            assert 500 == visit(Client(), recover).status_code

    def test_the_answer_closes_what_the_view_opened(self, flaky: Flaky) -> None:
        """A response that an outage replaces is not forgotten."""
        flaky.down = {"load"}
        client, closed = Client(), list[bool]()
        client.cookies[NAME] = "A" * 64

        def half(request: Any) -> Any:
            response = HttpResponse("broken", status=500)
            response._resource_closers.append(lambda: closed.append(True))
            try:
                request.session["a"]
            except StoreUnavailable:
                return response

        assert (503, [True]) == (visit(client, half).status_code, closed)


class Covering(MiddlewareMixin):  # type: ignore[misc]
    """A user's own: it answers each error before ours sees it."""

    status = 500

    def process_exception(self, request: Any, error: Exception) -> Any:
        return HttpResponse("covered", status=self.status)


@contextmanager
def covered(status: int) -> Iterator[None]:
    guard = f"{__name__}.Covering"
    Covering.status = status
    with override_settings(MIDDLEWARE=[*project.MIDDLEWARE, guard]):
        yield


def visit_by(client: Any, acts: tuple[Act, Act]) -> Any:
    """By the view that is of the client's kind."""
    if isinstance(client, Client):
        return visit(client, acts[0])
    do(acts[1])
    return asyncio.run(client.get("/awaited", secure=True))


def use_and_save(request: Any) -> None:
    request.session["a"] = request.session.get("a", 0) + 1
    request.session.save()


async def ause_and_save(request: Any) -> None:
    await request.session.aset("a", await request.session.aget("a", 0) + 1)
    await request.session.asave()


def fail_after_use(request: Any) -> None:
    use_and_save(request)
    raise ZeroDivisionError


async def afail_after_use(request: Any) -> None:
    await ause_and_save(request)
    raise ZeroDivisionError


def telling_middleware(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["X-User"] = str(request.user)
        return response

    return middleware


def failing_middleware(get_response: Any) -> Any:
    """One that uses the session before any view."""

    def middleware(request: Any) -> Any:
        request.session.get("a")
        return get_response(request)

    return middleware


class TestStreams:
    def test_the_session_is_at_hand_while_it_streams(self, clock: Clock) -> None:
        """And only then."""

        def stream(request: Any) -> Any:
            request.session["a"] = 1

            def parts() -> Iterator[str]:
                yield str(current()["a"])

            return StreamingHttpResponse(parts())

        response = visit(Client(), stream)
        assert b"1" == response.getvalue()
        with pytest.raises(LookupError):
            current()

    def test_a_stream_that_is_left_early_has_it_too(self, clock: Clock) -> None:
        """A generator's `finally` is a part of the request."""
        seen = list[int]()

        def stream(request: Any) -> Any:
            request.session["a"] = 1

            def parts() -> Iterator[str]:
                try:
                    yield "one"
                    yield "two"
                finally:
                    seen.append(current()["a"])

            return StreamingHttpResponse(parts())

        response = visit(Client(), stream)
        next(iter(response.streaming_content))
        response.close()
        assert [1] == seen

    def test_a_change_while_it_streams_raises(self, clock: Clock) -> None:
        """The cookie is on its way already."""

        def stream(request: Any) -> Any:
            def parts() -> Iterator[str]:
                yield "a"
                request.session["late"] = 1

            return StreamingHttpResponse(parts())

        response = visit(Client(), stream)
        with pytest.raises(SessionClosed):
            response.getvalue()

    def test_a_change_in_place_while_it_streams_raises_at_the_end(self, clock: Clock) -> None:
        """Instead of vanishing."""

        def stream(request: Any) -> Any:
            cart = request.session["cart"] = []

            def parts() -> Iterator[str]:
                yield "a"
                cart.append("tea")

            return StreamingHttpResponse(parts())

        response = visit(Client(), stream)
        with pytest.raises(SessionClosed, match="cart"):
            response.getvalue()

    def test_asynchronous_streams_are_watched_too(self, clock: Clock) -> None:
        """Part by part."""

        async def stream(request: Any) -> Any:
            cart = request.session["cart"] = []

            async def parts() -> AsyncIterator[str]:
                yield str(current()["cart"])
                cart.append("tea")

            return StreamingHttpResponse(parts())

        async def take() -> list[bytes]:
            do(stream)
            response = await AsyncClient().get("/awaited", secure=True)
            parts = aiter(response)
            taken = [await anext(parts)]
            with pytest.raises(SessionClosed, match="cart"):
                await anext(parts)
            return taken

        assert [b"[]"] == asyncio.run(take())

    def test_a_file_is_left_to_the_server(self, clock: Clock) -> None:
        """Which may have a faster way to send it."""
        file = BytesIO(b"abc")
        response = Middleware(lambda request: FileResponse(file))(RequestFactory().get("/"))

        assert file is response.file_to_stream


class TestResponses:
    def test_an_untouched_session_costs_nothing(self, clock: Clock) -> None:
        """No Vary, no cookie."""
        client = Client()
        visit(client, put("a", 1))
        response = visit(client, lambda request: None)

        assert (False, []) == (response.has_header("vary"), list(response.cookies))

    def test_a_refused_cookie_is_not_deleted(self, clock: Clock) -> None:
        """Unlike Django's own, which deletes what it does not know."""
        client = Client()
        client.cookies[NAME] = "A" * 64

        assert [] == list(visit(client, lambda request: request.session.get("a")).cookies)

    def test_the_cookie_is_written_as_ours(self, clock: Clock) -> None:
        """To the letter, and can be looked at as any other."""
        response = visit(Client(), put("a", 1))
        cookie = response.cookies[NAME]
        expected = (
            f"{NAME}={cookie.value}; Max-Age={14 * DAY}; Path=/; Secure; HttpOnly; SameSite=Lax"
        )

        assert expected == cookie.OutputString() == cookie.output(header="")
        assert ("Lax", True) == (cookie["samesite"], cookie["secure"])
        assert expected == pickle.loads(pickle.dumps(cookie)).OutputString()

    def test_a_partitioned_cookie_keeps_its_mark(self) -> None:
        """Which http.cookies learnt late."""
        assert "a=b; Path=/; Partitioned" == _Cookie("a=b; Path=/; Partitioned").OutputString()

    def test_djangos_cache_keeps_no_session_cookie(self, clock: Clock) -> None:
        """Or the next visitor whose cookies look alike would get it."""
        cache = "django.middleware.cache"
        middleware = [
            f"{cache}.UpdateCacheMiddleware",
            *project.MIDDLEWARE,
            f"{cache}.FetchFromCacheMiddleware",
        ]
        with override_settings(MIDDLEWARE=middleware):
            seen = []
            for _ in range(2):
                client = Client()
                client.cookies["consent"] = "yes"
                seen.append(visit(client, put("a", 1)).cookies[NAME].value)

        assert 2 == len(set(seen))

    def test_cookies_that_http2_split_are_found(self, clock: Clock) -> None:
        """Django joins them by commas; we do not."""
        key = visit(Client(), put("a", 1)).cookies[NAME].value
        factory = request_with([(b"cookie", b"x=1"), (b"cookie", f"{NAME}={key}".encode())])
        found: list[Any] = []

        async def answer(request: Any) -> Any:
            found.append(await request.session.aget("a"))
            return HttpResponse("ok")

        asyncio.run(Middleware(answer)(factory))
        assert [1] == found

    def test_a_middleware_of_a_test_opens_it(self, clock: Clock) -> None:
        """The usual idiom with a RequestFactory."""
        request = RequestFactory().get("/")
        Middleware(lambda request: HttpResponse("ok")).process_request(request)
        request.session["a"] = 1
        request.session.save()

        assert {"a": 1} == SessionStore(request.session.session_key).load()


def request_with(headers: list[tuple[bytes, bytes]]) -> Any:
    from django.core.handlers.asgi import ASGIRequest  # type: ignore[import-untyped]

    from tests.outside.asgi import asgi_scope

    return ASGIRequest(asgi_scope(headers=headers), BytesIO())


prefs = (
    Sessions(MemoryStore(), cookie=Cookie("prefs")),
    AsyncSessions(AsyncMemoryStore(), cookie=Cookie("prefs")),
)
only_async = AsyncSessions(AsyncMemoryStore(), cookie=Cookie(NAME))
only_threaded = Sessions(MemoryStore(), cookie=Cookie(NAME))
ONLY_THREADED = {"COATCHECK_STORE": f"{__name__}.only_threaded", "COATCHECK_OPTIONS": {}}


def counting_events() -> Any:
    """How many are watched meanwhile."""

    async def parts() -> AsyncIterator[str]:
        yield str(len(_watchers))

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


def browser_of(request: Any) -> Browser:
    return Browser(request.headers["x-forwarded-for"], "an agent")


class TestSettings:
    def test_overridden_settings_count_at_once(self, clock: Clock) -> None:
        """For a client that was made before; what is stored stays."""
        client = Client()
        visit(client, put("a", 1))
        with override_settings(SESSION_COOKIE_AGE=60):
            assert 60 == int(max_age(visit(client, put("_auth_user_id", "7"))))
            assert 1 == read(client, "a")

    def test_further_sessions_have_their_names(self, clock: Clock) -> None:
        """By their dotted paths."""
        with override_settings(COATCHECK_NAMED={"prefs": f"{__name__}.prefs"}):
            client = Client()

            def choose(request: Any) -> None:
                request.sessions["prefs"]["theme"] = "dark"
                assert "dark" == current("prefs")["theme"]

            assert ["__Host-prefs"] == list(visit(client, choose).cookies)

    def test_further_ones_are_empty_on_skipped_paths(self, clock: Clock) -> None:
        """They are there, and take no change either."""
        with override_settings(
            COATCHECK_NAMED={"prefs": f"{__name__}.prefs"}, COATCHECK_SKIP=["/static/*"]
        ):
            assert (
                200
                == visit(
                    Client(), lambda request: request.sessions["prefs"].get("a"), "/static/a.css"
                ).status_code
            )
            with pytest.raises(SessionClosed):
                visit(
                    Client(),
                    lambda request: request.sessions["prefs"].update(a=1),
                    "/static/a.css",
                )

    def test_nothing_is_opened_on_skipped_paths(self, clock: Clock) -> None:
        """There is an empty session, which no change can get into."""
        with override_settings(COATCHECK_SKIP=["/static/*"]):
            client = Client()
            visit(client, put("a", 1))
            found: list[Any] = []
            response = visit(
                client, lambda request: found.append(request.session.get("a")), "/static/a.css"
            )
            assert ([None], False) == (found, response.has_header("vary"))
            with pytest.raises(SessionClosed):
                visit(client, put("a", 2), "/static/a.css")

    def test_the_client_may_be_known_otherwise(self, clock: Clock) -> None:
        """By a function of the request."""
        with override_settings(COATCHECK_CLIENT=f"{__name__}.browser_of"):
            headers = {"x-forwarded-for": "203.0.113.9"}
            visit(Client(), put("_auth_user_id", "7"), headers=headers)
            (info,) = sessions().list_for("7")

        assert ("203.0.113.9", "an agent") == info.client

    def test_what_expired_is_swept_now_and_then(self, clock: Clock) -> None:
        """From the first request on, until a test overrides the setting."""
        with override_settings(COATCHECK_SWEEP=3600):
            visit(Client(), lambda request: None)
            (sweeper,) = conf.configured().sweepers
            assert not sweeper._stopped.is_set()

        assert sweeper._stopped.is_set()

    @pytest.mark.parametrize(
        ("setting", "watchers"), [({}, b"0"), ({"COATCHECK_WATCH": True}, b"1")], ids=["off", "on"]
    )
    def test_events_are_watched_where_it_says_so(
        self, clock: Clock, setting: dict[str, Any], watchers: bytes
    ) -> None:
        """Under ASGI."""

        async def view(request: Any) -> Any:
            await request.session.aset("a", 1)
            return counting_events()

        async def ask() -> None:
            do(view)
            response = await AsyncClient().get("/awaited", secure=True)
            assert [watchers] == [part async for part in response]

        with override_settings(**setting):
            asyncio.run(ask())

    def test_nothing_is_watched_under_wsgi(self, clock: Clock) -> None:
        """There is no loop that lasts, and perhaps no AsyncSessions."""

        def view(request: Any) -> Any:
            request.session["a"] = 1
            return counting_events()

        with (
            override_settings(COATCHECK_WATCH=True, **ONLY_THREADED),
            pytest.warns(Warning, match="must consume asynchronous iterators"),
        ):
            assert [b"0"] == list(visit(Client(), view))

    def test_one_store_serves_both_kinds_of_code(self, clock: Clock) -> None:
        """Of one URL."""
        client, awaited = Client(), AsyncClient()
        visit(client, put("a", 1))
        awaited.cookies[NAME] = client.cookies[NAME].value
        found: list[Any] = []

        async def read_it(request: Any) -> None:
            found.append(await request.session.aget("a"))

        async def ask() -> None:
            do(read_it)
            await awaited.get("/awaited", secure=True)

        asyncio.run(ask())
        assert [1] == found
        assert async_sessions().cookie == sessions().cookie

    def test_a_synchronous_view_under_asgi_may_save(self, clock: Clock) -> None:
        """Its request was opened asynchronously, all the same."""
        client = AsyncClient()

        def save(request: Any) -> None:
            request.session["a"] = 1
            request.session.save()

        async def ask() -> None:
            do(save)
            await client.get("/", secure=True)

        asyncio.run(ask())
        assert {"a": 1} == SessionStore(client.cookies[NAME].value).load()

    def test_sessions_of_the_other_kind_alone_say_what_is_missing(self) -> None:
        """With the remedy."""
        with (
            override_settings(COATCHECK_STORE=f"{__name__}.only_async", COATCHECK_OPTIONS={}),
            pytest.raises(ConfigurationError, match=r"expected Sessions .* tuple of both"),
        ):
            sessions()

    def test_sealed_cookies_serve_too(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """There the key is the whole cookie."""
        monkeypatch.setenv("COATCHECK_KEYS", "k" * 43)
        with override_settings(COATCHECK_STORE="cookie:?revocations=none"):
            client = Client()
            visit(client, put("a", 1))
            again = client.session

            assert (1, client.cookies[NAME].value) == (again["a"], again.session_key)
            visit(client, lambda request: request.session.cycle_key())
            assert 1 == read(client, "a")


STOCK = "django.contrib.sessions.middleware.SessionMiddleware"
ENGINE = "django.contrib.sessions.backends.db"
SERIALIZER = "django.contrib.sessions.serializers.PickleSerializer"


class TestChecks:
    def test_the_project_has_nothing_to_hear(self) -> None:
        """As it is set up."""
        assert [] == found_by_checks()

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"COATCHECK_STORE": None}, "E001"),
            ({"COATCHECK_STORE": "tea:"}, "E001"),
            ({"COATCHECK_STORE": "tests.no.sessions"}, "E001"),
            ({"COATCHECK_STORE": "tests.django_project.MIDDLEWARE"}, "E001"),
            ({"COATCHECK_OPTIONS": {"cookie": Cookie()}}, "E001"),
            ({"COATCHECK_OPTIONS": {"max_bytes": -1}}, "E001"),
            ({"COATCHECK_CLIENT": "tests.nobody"}, "E001"),
            ({"COATCHECK_SWEEP": -1}, "E001"),
            ({"COATCHECK_WATCH": "yes"}, "E001"),
            ({**ONLY_THREADED, "COATCHECK_WATCH": True}, "E001"),
            ({"COATCHECK_SKIP": ["static"]}, "E001"),
            ({"COATCHECK_STORE": f"{__name__}.prefs"}, "E001"),
            ({"SESSION_COOKIE_NAME": "sessionid"}, "E002"),
            ({"SESSION_COOKIE_SECURE": False}, "E002"),
            ({"SESSION_COOKIE_HTTPONLY": False}, "E002"),
            ({"SESSION_COOKIE_SAMESITE": False}, "E002"),
            ({"SESSION_COOKIE_DOMAIN": "example.com"}, "E002"),
            ({"SESSION_COOKIE_PATH": "app"}, "E002"),
            ({"SESSION_COOKIE_AGE": 10 * 365 * DAY}, "E003"),
            ({"MIDDLEWARE": [*project.MIDDLEWARE, STOCK]}, "E004"),
            ({"MIDDLEWARE": [STOCK, *project.MIDDLEWARE[1:]]}, "E004"),
            ({"SESSION_ENGINE": ENGINE}, "E005"),
            ({"SESSION_SERIALIZER": SERIALIZER}, "W001"),
        ],
    )
    def test_a_setting_that_breaks_a_promise_is_named(
        self, change: dict[str, Any], expected: str
    ) -> None:
        """By one check."""
        with override_settings(**change):
            assert [f"coatcheck.{expected}"] == found_by_checks()

    def test_whether_the_cookie_is_secure_is_to_be_decided(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Django's default is no decision."""
        configured = settings._wrapped.default_settings
        monkeypatch.delitem(vars(configured), "SESSION_COOKIE_SECURE")
        with override_settings():
            assert ["coatcheck.E002"] == found_by_checks()

    def test_a_domains_cookie_has_another_prefix(self) -> None:
        """And the dot before it means nothing."""
        with override_settings(
            SESSION_COOKIE_DOMAIN=".example.com", SESSION_COOKIE_NAME="__Secure-sessionid"
        ):
            assert [] == found_by_checks()
            assert "example.com" == conf.cookie().domain

    def test_one_process_alone_has_its_memory(self) -> None:
        """For check --deploy."""
        assert ["coatcheck.W002"] == [
            each.id
            for each in run_checks(include_deployment_checks=True)
            if each.id.startswith("coatcheck")
        ]


def found_by_checks() -> list[str]:
    return [each.id for each in run_checks() if each.id.startswith("coatcheck")]
