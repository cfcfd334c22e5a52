"""`current()`: this request's session, from anywhere below the middleware."""

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from coatcheck import Session, Sessions, context, current
from coatcheck.context import bind, follow, unbind
from coatcheck.stores.memory import MemoryStore


def a_session() -> Session:
    return Sessions(MemoryStore()).open(None)


@pytest.fixture
def bound() -> Iterator[dict[str | None, Session]]:
    """A request with a session and one more by name."""
    sessions: dict[str | None, Session] = {None: a_session(), "prefs": a_session()}
    token = bind(sessions)
    yield sessions
    unbind(token)


def test_the_requests_session_is_at_hand(bound: dict[str | None, Session]) -> None:
    """The very one, by name too."""
    assert current() is bound[None]
    assert current("prefs") is bound["prefs"]


def test_outside_a_request_it_raises() -> None:
    """With where to call it."""
    with pytest.raises(LookupError, match=r"current\(\): expected a request.*SessionMiddleware"):
        current()


def test_a_name_that_was_not_given_raises(bound: dict[str | None, Session]) -> None:
    """With the names that were."""
    with pytest.raises(LookupError, match=r"expected one of \['prefs'\], got 'cart'.*named="):
        current("cart")


def test_a_session_without_named_ones_has_none() -> None:
    """The error says so."""
    token = bind({None: a_session()})
    with pytest.raises(LookupError, match=r"expected one of \[\]"):
        current("prefs")
    unbind(token)


def test_after_the_request_it_is_gone() -> None:
    """And what was bound around it is back."""
    outer, inner = a_session(), a_session()
    first = bind({None: outer})
    second = bind({None: inner})
    assert current() is inner
    unbind(second)
    assert current() is outer
    unbind(first)
    with pytest.raises(LookupError):
        current()


def test_tasks_see_their_own() -> None:
    """Requests that overlap on one loop do not meet."""

    async def request() -> bool:
        session = a_session()
        token = bind({None: session})
        await asyncio.sleep(0)
        mine = current() is session
        unbind(token)
        return mine

    async def run() -> list[bool]:
        return await asyncio.gather(*(request() for _ in range(10)))

    assert [True] * 10 == asyncio.run(run())


def test_a_task_of_a_request_sees_its_session(bound: dict[str | None, Session]) -> None:
    """As does a thread that was given the context, as frameworks do."""

    async def run() -> Session:
        return await asyncio.create_task(child())

    async def child() -> Session:
        return current()

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        threaded = pool.submit(context.run, current).result()

    assert bound[None] is context.run(asyncio.run, run()) is threaded


def test_a_thread_of_its_own_sees_none(bound: dict[str | None, Session]) -> None:
    """Nothing leaks between threads."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(LookupError):
        pool.submit(current).result()


def test_a_frameworks_own_context_comes_first(
    bound: dict[str | None, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is the inner one; outside of it, what was bound is there again."""
    inner: list[dict[str | None, Session]] = [{None: a_session()}]
    monkeypatch.setattr(context, "_followed", [])
    follow(lambda: inner[0] if inner else None)
    assert current() is inner[0][None]
    inner.clear()

    assert current() is bound[None]
