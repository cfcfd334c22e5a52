"""The login gate in Django's own idiom: its users, its classes of views, its settings."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import login  # type: ignore[import-untyped]
from django.core.checks import run_checks  # type: ignore[import-untyped]
from django.core.signals import got_request_exception  # type: ignore[import-untyped]
from django.http import HttpResponse  # type: ignore[import-untyped]
from django.test import (  # type: ignore[import-untyped]
    AsyncClient,
    Client,
    RequestFactory,
    override_settings,
)
from django.urls import path  # type: ignore[import-untyped]
from django.utils.decorators import method_decorator  # type: ignore[import-untyped]
from django.views import View  # type: ignore[import-untyped]
from django.views.decorators.csrf import csrf_exempt  # type: ignore[import-untyped]

import tests.django_project as project
from coatcheck import AsyncSessions, Cookie, current
from coatcheck.errors import ConfigurationError
from coatcheck.gate import LoginGate
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.testing import Clock
from coatcheck.testing import login as log_in
from coatcheck.web.django import LoginMiddleware, SessionStore, conf, login_required, sessions
from tests.test_laws import Flaky

OURS = "coatcheck.web.django.LoginMiddleware"
PAGE = {"accept": "text/html"}
USERS = {"7": "Ann"}


async def find(subject: str) -> str | None:
    return USERS.get(subject)


gate = LoginGate("/login/", ["/open", "/static/*"])
loading = LoginGate("/login/", user=USERS.get)
awaiting = LoginGate("/login/", user=find)
careful = LoginGate("/login/", step_up="/confirm/", level=2, fresh=60)
no_gate = ["/login/"]
waiting = AsyncSessions(AsyncMemoryStore(), cookie=Cookie("sessionid"))


def view(request: Any, **options: Any) -> Any:
    return HttpResponse("open")


async def awaited(request: Any, **options: Any) -> Any:
    return HttpResponse(str(await request.auser()))


def enter(request: Any) -> Any:
    from django.contrib.auth.models import User  # type: ignore[import-untyped]

    user = User.objects.get()
    login(request, user)
    current().login(str(user.pk), level=2, methods=("pwd", "otp"))
    return HttpResponse("in")


def who(request: Any) -> Any:
    return HttpResponse(str(request.user))


@method_decorator(login_required(careful), name="dispatch")
class Plain(View):  # type: ignore[misc]
    def get(self, request: Any) -> Any:
        return HttpResponse("plain")


@method_decorator([login_required(awaiting), csrf_exempt], name="dispatch")
class Awaited(View):  # type: ignore[misc]
    async def get(self, request: Any) -> Any:
        return HttpResponse(await request.auser())

    async def post(self, request: Any) -> Any:
        return HttpResponse("posted")


urlpatterns = [
    path("", view),
    path("open", view),
    path("login/", enter),
    path("who", who),
    path("static/a.css", view),
    path("static/account", login_required(gate)(view)),
    path("static/awaited", login_required(gate)(awaited)),
    path("page/<name>", view),
    path("awaited", awaited),
    path("hook", csrf_exempt(view)),
    path("careful", login_required(careful)(view)),
    path("loaded", login_required(loading)(who)),
    path("loaded/awaited", login_required(awaiting)(awaited)),
    path("loaded/wrongly", login_required(awaiting)(who)),
    path("private", login_required(LoginGate(no_store=True))(view)),
    path("plain", Plain.as_view()),
    path("class", Awaited.as_view()),
]


class OtherGate(LoginMiddleware):
    gate = loading


@pytest.fixture(autouse=True)
def clock() -> Iterator[Clock]:
    clock = Clock()
    conf._stores.cache_clear()
    with override_settings(
        ROOT_URLCONF=__name__,
        COATCHECK_OPTIONS={"clock": clock},
        COATCHECK_GATE=f"{__name__}.gate",
        MIDDLEWARE=[*project.MIDDLEWARE, OURS],
    ):
        yield clock


@pytest.fixture(scope="module")
def database() -> Iterator[None]:
    with project.database():
        yield


@pytest.fixture
def ann(database: None) -> Iterator[Any]:
    from django.contrib.auth.models import User

    user = User.objects.create_user("ann", password="correct horse")
    yield user
    User.objects.all().delete()


def open_to_all() -> Any:
    """Without the middleware, as for the decorator alone."""
    return override_settings(COATCHECK_GATE=None, MIDDLEWARE=project.MIDDLEWARE)


def get(client: Any, at: str, **options: Any) -> Any:
    answer = client.get(at, secure=True, headers=PAGE, **options)
    return asyncio.run(answer) if isinstance(client, AsyncClient) else answer


class TestWhoPasses:
    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    def test_every_page_is_closed_but_what_is_public(self, twin: Any) -> None:
        """Also one that no route leads to, which is asked for before Django looks for routes."""
        answers = [
            get(twin(), at) for at in ("/", "/awaited", "/nowhere", "/open", "/static/a.css")
        ]

        assert [303, 303, 303, 200, 200] == [each.status_code for each in answers]
        assert ("/login/?next=/", "no-store", "Cookie") == tuple(
            answers[0][name] for name in ("location", "cache-control", "vary")
        )
        assert not answers[3].has_header("vary")

    @pytest.mark.parametrize("at", ["/static/account", "/static/awaited"])
    def test_a_guarded_view_is_not_public(self, at: str) -> None:
        """Below a prefix that is."""
        assert 303 == get(Client(), at).status_code

    def test_what_passes_may_be_kept_out_of_caches(self) -> None:
        """With `no_store=True`."""
        with open_to_all():
            client = Client()
            log_in(client, sessions(), "7")

            assert [False, True] == [
                get(client, at).has_header("cache-control") for at in ("/who", "/private")
            ]

    def test_a_script_is_told(self) -> None:
        """As everywhere: 401 and no redirect."""
        response = Client().get("/", secure=True)

        assert (401, 'Session realm="login"') == (
            response.status_code,
            response["www-authenticate"],
        )

    def test_the_way_back_is_the_page_as_the_browser_sees_it(self) -> None:
        """Below the script's name, and spelled so that Django reads the same."""
        client = Client(SCRIPT_NAME="/app")
        response = get(client, "/page/caf%C3%A9%3F?a=1")

        back = "/app/page/caf%25C3%25A9%253F%3Fa%3D1"
        assert f"/app/login/?next={back}" == response["location"]

    def test_a_path_that_is_encoded_is_judged_as_django_routes_it(self) -> None:
        """`/%6Fpen` is the public `/open`, and `/static/%2E%2E/page/x` is not below /static."""
        answers = [get(Client(), at) for at in ("/%6Fpen", "/static/%2E%2E/page/x")]

        assert [200, 303] == [each.status_code for each in answers]

    def test_a_view_that_is_exempt_of_csrf_is_not_open(self) -> None:
        """The one says nothing of the other."""
        client = Client(enforce_csrf_checks=True)
        assert 401 == client.post("/hook", secure=True).status_code
        log_in(client, sessions(), "7")

        assert 200 == client.post("/hook", secure=True).status_code

    def test_a_decorated_view_stays_exempt_of_csrf(self) -> None:
        """Whichever decorator is the outer one, of functions and of classes."""
        both = [login_required(gate)(csrf_exempt(view)), csrf_exempt(login_required(gate)(view))]

        assert [True] * 3 == [each.csrf_exempt for each in (*both, Awaited.as_view())]

    def test_a_path_without_a_session_has_to_be_public(self) -> None:
        """Else nobody could ever pass."""
        with override_settings(COATCHECK_SKIP=["/static/*", "/who"]):
            assert 200 == get(Client(), "/static/a.css").status_code
            with pytest.raises(ConfigurationError, match="make public= of what is in skip="):
                get(Client(), "/who")

    def test_sessions_of_django_are_none_of_ours(self) -> None:
        """The message says what is missing."""
        request = RequestFactory().get("/")
        for request.session in (None, {}):
            with pytest.raises(ConfigurationError, match="put the gate inside SessionMiddleware"):
                login_required(gate)(view)(request)

    def test_a_view_can_be_called_by_a_test(self) -> None:
        """With a session that was made by hand."""
        request = RequestFactory().get("/", secure=True)
        request.session = SessionStore()
        refused = login_required(gate)(view)(request)
        request.session["_auth_user_id"] = "7"

        assert (401, b"open") == (refused.status_code, login_required(gate)(view)(request).content)

    def test_an_asynchronous_view_too(self) -> None:
        """Where there are asynchronous sessions alone."""
        request = RequestFactory().get("/", secure=True)
        with override_settings(COATCHECK_STORE=f"{__name__}.waiting"):
            request.session = SessionStore()
            refused = asyncio.run(login_required(gate)(awaited)(request))

        assert 401 == refused.status_code


class TestUsersOfDjango:
    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    @pytest.mark.parametrize("change", ["password", "inactive", "gone"])
    def test_who_django_does_not_know_any_more_is_not_let_in(
        self, twin: Any, change: str, ann: Any
    ) -> None:
        """And their session is over in the store; `request.user` stays Django's until then."""
        client, pk = twin(), str(ann.pk)
        client.force_login(ann)
        assert b"ann" == get(client, "/awaited" if twin is AsyncClient else "/who").content
        if change == "password":
            ann.set_password("battery staple")
        ann.is_active = change != "inactive"
        ann.delete() if change == "gone" else ann.save()

        assert 303 == get(client, "/").status_code
        assert [] == sessions().list_for(pk)

    def test_a_subject_that_is_no_user_of_django_passes(self, ann: Any) -> None:
        """Django is asked of nobody whom it did not let in."""
        client = Client()
        log_in(client, sessions(), "7")

        assert b"AnonymousUser" == get(client, "/who").content

    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    def test_without_djangos_middleware_nobody_is_asked(self, twin: Any) -> None:
        """The session says who it is."""
        client, session = twin(), SessionStore()
        session["_auth_user_id"] = "7"
        session.save()
        client.cookies["__Host-sessionid"] = session.session_key
        with override_settings(MIDDLEWARE=[project.MIDDLEWARE[0], OURS]):
            assert 200 == get(client, "/").status_code

    def test_djangos_login_takes_a_level_and_a_time(self, ann: Any, clock: Clock) -> None:
        """From `current().login()` after it; who logged in too long ago is sent to the step-up."""
        client = Client()
        client.force_login(ann)
        low = get(client, "/careful")
        get(client, "/login/")
        high = get(client, "/careful")
        clock.move(61)
        old = get(client, "/plain")

        assert [303, 200, 303] == [each.status_code for each in (low, high, old)]
        assert "/confirm/?next=/plain" == old["location"]

    @pytest.mark.parametrize(
        ("twin", "at"), [(Client, "/loaded"), (AsyncClient, "/loaded/awaited")]
    )
    def test_what_the_gate_loads_is_the_user(self, twin: Any, at: str) -> None:
        """In `request.user`, and from `request.auser()`; who is not found is logged out."""
        with open_to_all():
            ann, nobody = twin(), twin()
            log_in(ann, sessions(), "7")
            log_in(nobody, sessions(), "8")

            assert (b"Ann", 303) == (get(ann, at).content, get(nobody, at).status_code)
            assert [] == sessions().list_for("8")

    def test_a_loader_may_stand_before_another_gate(self, ann: Any) -> None:
        """Its users need know nothing of Django's."""
        with override_settings(MIDDLEWARE=[*project.MIDDLEWARE, f"{__name__}.OtherGate"]):
            client = Client()
            client.force_login(ann)
            USERS[str(ann.pk)] = "Ann"
            response = get(client, "/loaded")
            del USERS[str(ann.pk)]

        assert b"Ann" == response.content

    def test_a_plain_view_takes_a_plain_loader(self) -> None:
        """Where it would have to wait for the user, it says so."""
        with open_to_all():
            client = Client()
            log_in(client, sessions(), "7")
            with pytest.raises(ConfigurationError, match="give it a plain one"):
                get(client, "/loaded/wrongly")


class TestClassesOfViews:
    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    @pytest.mark.parametrize("at", ["/plain", "/class"])
    def test_its_methods_pass_the_gate(self, twin: Any, at: str) -> None:
        """Plain and asynchronous ones alike, by Django's method_decorator on dispatch."""
        with open_to_all():
            client = twin()
            before = get(client, at).status_code
            log_in(client, sessions(), "7", level=2)

            assert (303, 200) == (before, get(client, at).status_code)


class TestOutages:
    @pytest.mark.parametrize("twin", [Client, AsyncClient])
    @pytest.mark.parametrize("guarded", ["/careful", "/"])
    def test_an_outage_is_no_missing_login(
        self, twin: Any, guarded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """503 with Retry-After, and nobody gets a mail about an error."""
        store, told, client = Flaky(), list[Any](), twin()
        monkeypatch.setattr(conf, "_stores", lambda url: (store, AsyncMemoryStore(store)))
        conf._forget(setting="COATCHECK_STORE")
        log_in(client, sessions(), "7")
        store.down = {"load"}

        def tell(request: Any, **details: Any) -> None:
            told.append(request)

        got_request_exception.connect(tell)
        kept = override_settings() if guarded == "/" else open_to_all()
        with kept:
            conf._forget(setting="COATCHECK_STORE")
            response = get(client, guarded)
        got_request_exception.disconnect(tell)

        assert (503, "5", []) == (response.status_code, response["retry-after"], told)


class TestSettings:
    def test_a_subclass_may_bring_its_gate(self) -> None:
        """Then the setting is not asked."""
        with override_settings(
            COATCHECK_GATE=None, MIDDLEWARE=[*project.MIDDLEWARE, f"{__name__}.OtherGate"]
        ):
            client = Client()
            log_in(client, sessions(), "7")

            assert (b"Ann", []) == (get(client, "/who").content, found_by_checks())

    @pytest.mark.parametrize(
        "place",
        [None, "", "gate", "tests.no.gate", f"{__name__}.no_gate", gate],
        ids=lambda place: repr(place).partition(" ")[0],
    )
    def test_what_is_no_gate_is_refused(self, place: Any) -> None:
        """By the checks, and by a server that starts without them."""
        with override_settings(COATCHECK_GATE=place):
            assert ["coatcheck.E006"] == found_by_checks()
            with pytest.raises(ConfigurationError, match="COATCHECK_GATE: expected"):
                LoginMiddleware(view)

    @pytest.mark.parametrize(
        "middleware",
        [
            project.MIDDLEWARE,
            [OURS, *project.MIDDLEWARE],
            [*project.MIDDLEWARE[:2], OURS, *project.MIDDLEWARE[2:]],
        ],
        ids=["nowhere", "before the sessions", "before the users"],
    )
    def test_a_gate_in_the_wrong_place_is_noticed(self, middleware: list[str]) -> None:
        """One that nothing applies would leave every page open."""
        with override_settings(MIDDLEWARE=middleware):
            assert ["coatcheck.E006"] == found_by_checks()

    def test_a_gate_in_its_place_is_no_news(self) -> None:
        """Nor is that there is none."""
        assert [] == found_by_checks()
        with open_to_all():
            assert [] == found_by_checks()


WITHOUT_USERS = """
import django
from django.conf import settings
from django.core.checks import run_checks

settings.configure(
    INSTALLED_APPS=["coatcheck.web.django"],
    MIDDLEWARE=["coatcheck.web.django.SessionMiddleware", "coatcheck.web.django.LoginMiddleware"],
    SESSION_ENGINE="coatcheck.web.django",
    SESSION_COOKIE_NAME="__Host-sessionid",
    SESSION_COOKIE_SECURE=True,
    COATCHECK_STORE="memory:",
)
django.setup()
print([each.id for each in run_checks()])
"""


def test_a_project_may_have_no_users() -> None:
    """The middleware and the checks need nothing of `django.contrib.auth`'s models."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_USERS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "['coatcheck.E006']" == ran.stdout.strip()


def found_by_checks() -> list[str]:
    return [each.id for each in run_checks() if each.id.startswith("coatcheck")]
