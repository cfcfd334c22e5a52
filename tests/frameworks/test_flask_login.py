"""Flask-Login in step with the sessions, and without a cookie of its own."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import flask
import flask_login  # type: ignore[import-untyped]
import pytest
from flask import Flask
from flask_login import FlaskLoginClient, LoginManager, UserMixin, current_user

from coatcheck import ConfigurationError, Sessions, current
from coatcheck.lifetime import AAL3
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing import Clock, login
from coatcheck.web.flask import CoatcheckSessionInterface
from coatcheck.web.flask_login import connect_flask_login
from tests.test_laws import Flaky

DAY = 86_400
Act = Callable[[], object]


class User(UserMixin):  # type: ignore[misc]
    def __init__(self, identity: str) -> None:
        self.id = identity


ANN, BOB = User("ann"), User("bob")


class Site:
    """An app with Flask-Login, a view that does what a test says, and a browser."""

    def __init__(self, store: MemoryStore | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.store = store or MemoryStore()
        self.sessions = Sessions(self.store, clock=self.clock)
        self.app = Flask(__name__)
        self.app.secret_key = "secret"
        self.app.testing = True
        self.app.config.update(
            {name: options.pop(name) for name in list(options) if name.isupper()}
        )
        self.app.session_interface = CoatcheckSessionInterface(self.sessions, sweep=None)
        self.manager = LoginManager(self.app)
        self.manager.session_protection = options.pop("protection", "basic")
        self.manager.user_loader({"ann": ANN, "bob": BOB}.get)
        connect_flask_login(self.app, **{"prefix": "user:", **options})
        self.app.add_url_rule("/", view_func=self._view)
        required = flask_login.login_required(lambda: "in")
        fresh = flask_login.fresh_login_required(lambda: "fresh")
        self.app.add_url_rule("/required", "required", required)
        self.app.add_url_rule("/fresh", "fresh", fresh)
        self.act: Act = lambda: None
        self.client = self.app.test_client()

    def _view(self) -> str:
        return str(self.act())

    def visit(self, act: Act = lambda: None, **more: Any) -> Any:
        self.act = act
        return self.client.get("/", **more)

    def seen(self) -> tuple[str, str]:
        """Who it is, to Flask-Login and to the session."""

        def who() -> str:
            return f"{getattr(current_user, 'id', 'nobody')} {current().subject}"

        name, subject = self.visit(who).text.split()
        return name, subject

    def statuses(self) -> tuple[int, int]:
        """Of the page for users, and of that for users who have just logged in."""
        required, fresh = (self.client.get(path).status_code for path in ("/required", "/fresh"))
        return required, fresh

    def token(self) -> str:
        cookie = self.client.get_cookie("__Host-session")
        return cookie.value if cookie else ""


@pytest.fixture
def site() -> Site:
    return Site()


def enter(user: User = ANN, **options: Any) -> Act:
    return lambda: flask_login.login_user(user, **options)


class TestInStep:
    def test_a_login_is_one_of_the_session(self, site: Site) -> None:
        """With a fresh token, and what the session held."""
        site.visit(lambda: current().update(cart=["tea"]))
        before = site.token()
        site.visit(enter())

        assert ("ann", "user:ann") == site.seen()
        assert "['tea']" == site.visit(lambda: current()["cart"]).text
        assert before != site.token()

    def test_a_logout_ends_the_session(self, site: Site) -> None:
        """In the store, too."""
        site.visit(enter())
        site.visit(flask_login.logout_user)

        assert ("nobody", "None") == site.seen()
        assert [] == site.sessions.list_for("user:ann")

    def test_a_logout_of_nobody_keeps_the_anonymous_session(self, site: Site) -> None:
        """There is nothing to end."""
        site.visit(lambda: current().update(cart=["tea"]))
        site.visit(flask_login.logout_user)

        assert "['tea']" == site.visit(lambda: current()["cart"]).text

    def test_a_message_after_the_logout_arrives(self, site: Site) -> None:
        """It is in the session that follows."""
        site.visit(enter())

        def go() -> None:
            flask_login.logout_user()
            flask.flash("Goodbye")

        site.visit(go)
        assert "['Goodbye']" == site.visit(flask.get_flashed_messages).text

    def test_a_login_of_somebody_else_drops_the_values(self, site: Site) -> None:
        """The session's, and not who it is."""
        site.visit(enter())
        site.visit(lambda: current().update(cart=["tea"]))
        site.visit(enter(BOB))

        assert ("bob", "user:bob") == site.seen()
        assert "None" == site.visit(lambda: current().get("cart")).text
        assert (200, 200) == site.statuses()

    def test_a_login_of_somebody_else_is_as_fresh_as_it_says(self, site: Site) -> None:
        """What login_user wrote stays, where the values of the one before go."""
        site.visit(enter())
        site.visit(enter(BOB, fresh=False))

        assert (200, 401) == site.statuses()

    def test_revoked_from_elsewhere_is_logged_out(self, site: Site) -> None:
        """By the subject."""
        site.visit(enter())
        site.sessions.revoke_all("user:ann")

        assert ("nobody", "None") == site.seen()

    def test_a_login_by_the_session_is_one_of_flask_login(self, site: Site) -> None:
        """Fresh, and by any way that leads to session.login."""
        login(site.client, site.sessions, "user:ann")
        assert ("ann", "user:ann") == site.seen()
        assert (200, 200) == site.statuses()
        site.visit(lambda: current().login("user:bob"))

        assert ("bob", "user:bob") == site.seen()

    def test_a_subject_of_another_kind_is_nobody_to_flask_login(self, site: Site) -> None:
        """And stays logged in."""
        site.visit(enter())
        site.visit(lambda: current().login("admin:1"))

        assert ("nobody", "admin:1") == site.seen()

    def test_a_user_written_by_hand_is_nobody_beside_another_subject(self, site: Site) -> None:
        """The subject decides."""
        login(site.client, site.sessions, "admin:1", values={"_user_id": "ann"})

        assert ("nobody", "admin:1") == site.seen()

    @pytest.mark.parametrize("protection", ["basic", "strong"])
    def test_a_subject_of_another_kind_costs_no_write(self, protection: str) -> None:
        """Flask-Login has nobody to protect there."""
        store = Flaky()
        site = Site(store, protection=protection)
        site.visit(lambda: current().login("admin:1"))
        store.calls.clear()

        assert [("nobody", "admin:1")] * 2 == [site.seen(), site.seen()]
        assert ["load"] * 2 == store.calls

    def test_a_user_written_by_hand_is_logged_in(self, site: Site) -> None:
        """As tests do it, and FlaskLoginClient."""
        site.app.test_client_class = FlaskLoginClient
        site.client = site.app.test_client(user=ANN)

        assert ("ann", "user:ann") == site.seen()
        assert 1 == len(site.sessions.list_for("user:ann"))

    def test_without_a_prefix_the_subject_is_the_id(self) -> None:
        """As get_id() returns it."""
        site = Site(prefix="")
        site.visit(enter())

        assert ("ann", "ann") == site.seen()

    def test_an_untouched_request_stays_untouched(self) -> None:
        """Flask-Login has a look at each response's session; that is left out."""
        store = Flaky()
        site = Site(store)
        site.visit(enter())
        site.clock.move(1800)
        store.calls.clear()
        answer = site.visit()

        assert (["load"], None) == (store.calls, answer.headers.get("Vary"))


class TestFresh:
    def test_a_login_is_fresh(self, site: Site) -> None:
        """Unless it is said otherwise."""
        site.visit(enter())
        assert (200, 200) == site.statuses()
        site.visit(enter(fresh=False))

        assert (200, 401) == site.statuses()

    def test_a_confirmed_login_is_a_login_again(self, site: Site) -> None:
        """Fresh, with a fresh token and as the session's latest login; as long-lived as before."""
        site.visit(enter(fresh=False, remember=True))
        before = site.token()
        site.clock.move(60)
        answer = site.visit(flask_login.confirm_login)

        assert (200, 200) == site.statuses()
        assert before != site.token()
        assert f"Max-Age={30 * DAY};" in answer.headers["Set-Cookie"]
        assert str(site.clock()) == site.visit(lambda: current().login_at.timestamp()).text  # type: ignore[union-attr]

    @pytest.mark.parametrize("again", [flask_login.confirm_login, enter()])
    def test_a_login_again_keeps_how_long_it_lasts(self, site: Site, again: Act) -> None:
        """What the app's own login said of it; how sure it was is another matter."""
        site.visit(lambda: current().login("user:ann", lifetime=AAL3, level=3))
        site.visit(lambda: current_user.id)
        site.visit(again)
        (info,) = site.sessions.list_for("user:ann")

        assert (1, timedelta(minutes=15)) == (info.level, info.expires_at - info.seen_at)

    def test_a_login_again_is_still_remembered(self, site: Site) -> None:
        """Only `remember=True` says anything, as it is with Flask-Login's own cookie."""
        site.visit(enter(remember=True))
        answer = site.visit(enter())

        assert f"Max-Age={30 * DAY};" in answer.headers["Set-Cookie"]

    def test_a_remembered_login_is_fresh_for_a_day(self, site: Site) -> None:
        """As long as one that is not remembered can last."""
        site.visit(enter(remember=True))
        site.clock.move(DAY)
        assert (200, 200) == site.statuses()
        site.clock.move(1)

        assert (200, 401) == site.statuses()


class TestNoSecondCookie:
    def test_remember_makes_the_session_live_longer(self, site: Site) -> None:
        """Its one cookie says so; no other is set."""
        answer = site.visit(enter(remember=True))
        (cookie,) = answer.headers.getlist("Set-Cookie")
        site.clock.move(29 * DAY)

        assert f"Max-Age={30 * DAY};" in cookie
        assert ("ann", "user:ann") == site.seen()
        assert "{}" == site.visit(lambda: {k: 1 for k in current() if "remember" in k}).text

    def test_a_remember_cookie_revives_nothing(self, site: Site) -> None:
        """A browser may have one of before; the signature is good."""
        with site.app.test_request_context("/"):
            value = flask_login.encode_cookie("ann")
        site.client.set_cookie("remember_token", value)
        assert ("nobody", "None") == site.seen()
        site.visit(enter(remember=True))
        site.sessions.revoke_all("user:ann")

        assert ("nobody", "None") == site.seen()

    def test_it_would_log_in_without_us(self) -> None:
        """So the test above looks at the right thing."""
        app = Flask(__name__)
        app.secret_key = "secret"
        LoginManager(app).user_loader(lambda identity: ANN)
        app.add_url_rule("/", view_func=lambda: current_user.id)
        with app.test_request_context("/"):
            value = flask_login.encode_cookie("ann")
        client = app.test_client()
        client.set_cookie("remember_token", value)

        assert "ann" == client.get("/").text

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("REMEMBER_COOKIE_DURATION", timedelta(days=7)),
            ("REMEMBER_COOKIE_DURATION", 7 * DAY),
            ("REMEMBER_COOKIE_REFRESH_EACH_REQUEST", True),
        ],
    )
    def test_a_setting_without_effect_is_warned_about(self, setting: str, value: Any) -> None:
        """How long a user is remembered is the Lifetime's."""
        with pytest.warns(RuntimeWarning, match=f"{setting}: expected .*Lifetime"):
            site = Site(**{setting: value})

        assert 1 == len(site.visit(enter(remember=True)).headers.getlist("Set-Cookie"))

    def test_a_duration_without_effect_is_warned_about(self, site: Site) -> None:
        """One that agrees is fine."""
        site.visit(enter(remember=True, duration=timedelta(days=30)))
        with pytest.warns(RuntimeWarning, match=r"login_user\(duration=…\): expected"):
            site.visit(enter(remember=True, duration=timedelta(days=7)))


class TestProtection:
    def test_another_client_is_not_fresh(self, site: Site) -> None:
        """Basic: it stays logged in."""
        site.visit(enter())
        site.client.environ_base["HTTP_USER_AGENT"] = "another"

        assert (200, 401) == site.statuses()
        assert ("ann", "user:ann") == site.seen()

    @pytest.mark.parametrize("remember", [False, True])
    def test_strong_ends_the_session(self, remember: bool) -> None:
        """For the owner, too: the cookie was copied."""
        site = Site(protection="strong")
        site.visit(enter(remember=remember))
        assert ("ann", "user:ann") == site.seen()
        site.client.environ_base["HTTP_USER_AGENT"] = "another"

        assert ("nobody", "None") == site.seen()
        assert [] == site.sessions.list_for("user:ann")

    @pytest.mark.parametrize("protection", ["basic", "strong"])
    def test_an_anonymous_session_is_left_alone(self, protection: str) -> None:
        """A visitor's cart is nothing to protect, and looking at the user writes nothing."""
        site = Site(protection=protection)
        site.visit(lambda: current().update(cart=["tea"]))
        site.seen()

        assert "{'cart': ['tea']}" == site.visit(lambda: dict(current())).text

    def test_strong_is_basic_for_a_permanent_session(self) -> None:
        """As Flask-Login has it."""

        def enter_for_long() -> None:
            flask.session.permanent = True
            flask_login.login_user(ANN)

        site = Site(protection="strong")
        site.visit(enter_for_long)
        site.client.environ_base["HTTP_USER_AGENT"] = "another"

        assert (200, 401) == site.statuses()

    def test_strong_takes_a_login_by_the_session(self) -> None:
        """It is given the mark of its client."""
        site = Site(protection="strong")
        login(site.client, site.sessions, "user:ann")

        assert [("ann", "user:ann")] * 2 == [site.seen(), site.seen()]


class TestConnecting:
    @pytest.fixture
    def app(self) -> Iterator[Flask]:
        app = Flask(__name__)
        app.session_interface = CoatcheckSessionInterface(Sessions(MemoryStore()), sweep=None)
        return app  # type: ignore[return-value]

    def test_it_needs_a_login_manager(self, app: Flask) -> None:
        """Made before."""
        with pytest.raises(ConfigurationError, match=r"LoginManager, got NoneType; call login_man"):
            connect_flask_login(app)

    def test_it_needs_our_interface(self) -> None:
        """Set before."""
        app = Flask(__name__)
        LoginManager(app)
        with pytest.raises(ConfigurationError, match="got SecureCookieSessionInterface; set"):
            connect_flask_login(app)

    def test_it_is_called_once(self, app: Flask) -> None:
        """Twice would log in twice."""
        LoginManager(app)
        connect_flask_login(app)
        with pytest.raises(ConfigurationError, match="expected one call, got a second"):
            connect_flask_login(app)

    def test_a_path_in_skip_has_no_user(self) -> None:
        """And nothing fails there."""
        app = Flask(__name__)
        sessions = Sessions(MemoryStore())
        app.session_interface = CoatcheckSessionInterface(sessions, skip=["/"], sweep=None)
        LoginManager(app).user_loader(lambda identity: ANN)
        connect_flask_login(app)
        app.add_url_rule("/", view_func=lambda: str(current_user.is_authenticated))

        assert "False" == app.test_client().get("/").text
