"""Faults that a review found, each as the test that would have caught it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from coatcheck import AsyncSessions, Cookie, Session, SessionClosed, Sessions
from coatcheck.errors import ConfigurationError
from coatcheck.events import CopiedCookie
from coatcheck.gate import Admitted, LoginGate, Request, admit
from coatcheck.stores import from_url
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.asgi import SessionMiddleware
from coatcheck.web.headers import Head, merge_bytes
from tests.sites import KINDS, Site


def put(key: str, value: Any) -> Callable[[Session], None]:
    return lambda session: session.__setitem__(key, value)


def test_a_second_commit_does_not_mark_a_renewed_token_as_used(
    make_site: Callable[..., Site],
) -> None:
    """The request that minted it has no browser's word for it: a lost answer convicts nobody."""
    site = make_site(renew_after=900)
    owner = site.browser()
    owner.login()
    site.clock.move(901)
    session = owner.begin()
    session["a"] = 1
    site.commit(session)
    site.commit(session)  # the middleware's own; the answer is lost
    site.clock.move(61)

    assert "user:42" == owner.begin().subject
    assert [] == site.events_of(CopiedCookie)


class Slow(AsyncMemoryStore):
    """A store whose save takes a few turns of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.saving = asyncio.Event()
        self.go_on = asyncio.Event()

    async def save(self, record: Any, expected: bytes, now: int) -> Any:
        self.saving.set()
        await self.go_on.wait()
        return await super().save(record, expected, now)


def test_a_change_while_the_commit_awaits_its_store_raises() -> None:
    """It would be forgotten: neither in this commit nor in the next."""

    async def main() -> str:
        store = Slow()
        sessions = AsyncSessions(store)
        first = await sessions.open(None)
        first["a"] = 1
        (cookie,) = await sessions.commit(first)
        session = await sessions.open(cookie.partition(";")[0])
        session["a"] = 2
        commit = asyncio.create_task(sessions.commit(session))
        await store.saving.wait()
        with pytest.raises(SessionClosed, match="being committed"):
            session["b"] = 2
        store.go_on.set()
        await commit
        session["b"] = 3
        return str(dict(session))

    assert "{'a': 2, 'b': 3}" == asyncio.run(main())


def test_a_replaced_object_is_nobody_elses(make_site: Callable[..., Site]) -> None:
    """What an early commit replaced does not come back under another subject's login."""
    site = make_site()
    owner = site.browser()
    owner.visit(lambda session: session.update(cart=["private"], y=1))
    owner.login("user:alice")
    session = owner.begin()
    cart = session["cart"]
    owner.visit(put("cart", ["other"]))
    del session["y"]
    owner.end(session)
    session.login("user:bob")
    cart.append("late")
    owner.end(session)

    assert {} == owner.values()


def test_an_assignment_beats_the_object_it_replaced(make_site: Callable[..., Site]) -> None:
    """The later of two changes to a key counts."""
    site = make_site()
    owner = site.browser()
    owner.visit(lambda session: session.update(cart=["1"], y=1))
    session = owner.begin()
    cart = session["cart"]
    owner.visit(put("cart", ["2"]))
    session["y"] = 2
    owner.end(session)
    session["cart"] = ["final"]
    cart.append("x")
    owner.end(session)

    assert ["final"] == owner.values()["cart"]


def test_a_logout_after_a_lost_early_commit_still_ends_the_session(server: Site) -> None:
    """A logout that crosses a rotation wins, also where the request had noticed it already."""
    owner = server.browser()
    owner.login()
    leaving, rotating = owner.begin(), owner.begin()
    rotating.rotate()
    owner.end(rotating)
    rotated = owner.cookie
    leaving["x"] = 1
    server.commit(leaving)
    leaving.logout()
    server.commit(leaving)

    assert None is server.open(rotated).subject


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("cookie")])
def test_a_login_after_a_logout_mutes_the_old_cookie(
    make_site: Callable[..., Site], kind: str
) -> None:
    """A late request under it cannot overwrite the login's cookie."""
    site = make_site(kind)
    owner = site.browser()
    owner.login()
    late = owner.copy()

    def again(session: Session) -> None:
        session.logout()
        session.login("user:42")

    owner.visit(again)
    session = late.begin()
    session["late"] = True

    assert [] == late.end(session)


def test_no_cookie_is_cached_by_a_cdn() -> None:
    """Headers that would overrule `no-store` go."""
    headers = [(b"cdn-cache-control", b"max-age=600"), (b"surrogate-control", b"max-age=600")]

    assert [(b"cache-control", b"no-store"), (b"set-cookie", b"a=b")] == merge_bytes(
        headers, Head(["a=b"], False)
    )


@pytest.mark.parametrize(("preflights", "passes"), [(True, True), (False, False)])
def test_preflights_can_be_kept_out(
    make_site: Callable[..., Site], preflights: bool, passes: bool
) -> None:
    """Where a view answers OPTIONS as it answers GET."""
    headers = {"origin": "x", "access-control-request-method": "GET"}
    request = Request("OPTIONS", "/admin", "", "", headers.get)
    gate = LoginGate(preflights=preflights)

    verdict = admit(gate, request, make_site().open(None))
    assert passes is isinstance(verdict, Admitted)


@pytest.mark.parametrize("make", [Sessions, from_url], ids=["Sessions", "from_url"])
def test_no_message_shows_a_urls_password(make: Callable[[str], object]) -> None:
    """Whatever was wrong with it."""
    with pytest.raises(ConfigurationError) as caught:
        make("sqlite://user:hunter2@host/x")

    assert "hunter2" not in str(caught.value)


def test_plans_show_no_token_and_no_value(make_site: Callable[..., Site]) -> None:
    """Debuggers and error trackers print what stands on the stack."""
    from coatcheck.lifecycle import settle

    site = make_site("cookie")
    session = site.open(None)
    session["secret"] = "for nobody else"
    plan = settle(site.sessions._rules, session, 1)
    assert plan is not None
    assert plan.write is not None
    assert plan.write.cookie is not None
    value = plan.write.cookie.partition("=")[2].partition(";")[0]

    for part in (value, "for nobody"):
        assert part not in repr(plan)


def test_two_sessions_of_one_request_do_not_take_each_others_tokens() -> None:
    """One name on one store would open the one with the other's cookie."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    store = AsyncMemoryStore()
    main, prefs = (AsyncSessions(store, cookie=Cookie(c), name="site") for c in ("main", "prefs"))
    with pytest.raises(ConfigurationError, match="name="):
        SessionMiddleware(app, main, named={"prefs": prefs})

    apart = AsyncSessions(store, cookie=Cookie("prefs"))
    SessionMiddleware(app, main, named={"prefs": apart})
