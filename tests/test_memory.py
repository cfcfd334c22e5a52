"""The memory store: bounded, thread-safe, one shelf for sync and async, honest about processes."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError, Sessions, StoreUnavailable
from coatcheck.record import Record
from coatcheck.store import SAVED
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import HOUR, NOW, changed, ident, record


def anonymous(number: int, **fields: Any) -> Record:
    return record(ident(number), **fields)


def login(number: int, **fields: Any) -> Record:
    return record(ident(number), subject=f"user:{number}", **fields)


def filled(*records: Record, room: int = 0) -> MemoryStore:
    """A store that holds these and has no room for more."""
    store = MemoryStore(max_sessions=len(records) + room)
    for each in records:
        store.create(each, NOW)
    return store


def kept(store: MemoryStore, now: int = NOW) -> list[int]:
    return [int(each.id, 16) for each in store.page("", 1000, now)]


class TestBounded:
    def test_what_expired_goes_first(self) -> None:
        """Before any that is alive, anonymous or not."""
        store = filled(anonymous(1), login(2, expires_at=NOW + 5), anonymous(3))
        store.create(anonymous(4), NOW + 5)

        assert [1, 3, 4] == kept(store)

    def test_then_the_anonymous_one_that_was_saved_longest_ago(self) -> None:
        """A save makes it the youngest, a touch does not."""
        first, second, third = anonymous(1), anonymous(2), anonymous(3)
        store = filled(login(9), first, second, third)
        assert SAVED is store.save(changed(first), first.revision, NOW)
        assert store.touch(second.id, second.revision, NOW + 9, NOW + HOUR + 9, NOW)
        store.create(anonymous(4), NOW)
        assert [1, 3, 4, 9] == kept(store)
        store.create(login(5), NOW)

        assert [1, 4, 5, 9] == kept(store)

    def test_then_it_refuses(self) -> None:
        """Nobody is logged out for another's sake: not for a visitor, not for a login."""
        store = filled(login(1), login(2))
        for another in (anonymous(3), login(4)):
            with pytest.raises(StoreUnavailable, match="2 logins"):
                store.create(another, NOW)

        assert [1, 2] == kept(store)

    def test_a_login_that_ended_makes_room(self) -> None:
        """By a logout, or by its time."""
        store = filled(login(1), login(2, expires_at=NOW + 5))
        store.delete(ident(1), NOW)
        store.create(login(3), NOW)
        with pytest.raises(StoreUnavailable):
            store.create(login(4), NOW)
        store.create(login(4), NOW + 5)

        assert [3, 4] == kept(store)

    def test_an_anonymous_session_that_logs_in_needs_no_room(self) -> None:
        """And is safe from then on."""
        first = anonymous(1)
        store = filled(first, anonymous(2))
        store.save(changed(first, subject="user:1"), first.revision, NOW)
        store.create(anonymous(3), NOW)
        store.create(anonymous(4), NOW)

        assert [1, 4] == kept(store)

    def test_a_session_that_is_there_needs_no_room(self) -> None:
        """What expired under its id is replaced, and a save replaces itself."""
        first = login(1)
        store = filled(first, login(2, expires_at=NOW + 5))
        assert SAVED is store.save(changed(first), first.revision, NOW)
        store.create(login(2), NOW + 5)

        assert [1, 2] == kept(store)

    @pytest.mark.parametrize("most", [0, -1, 1.5, True, None, "100"])
    def test_a_bound_that_cannot_work_is_refused(self, most: Any) -> None:
        """When it is made."""
        for make in (MemoryStore, AsyncMemoryStore):
            with pytest.raises(ConfigurationError, match="max_sessions"):
                make(max_sessions=most)

    def test_a_full_site_answers_as_in_an_outage(self) -> None:
        """The visitor's session is refused; the login goes on."""
        sessions = Sessions(MemoryStore(max_sessions=1))
        owner = sessions.open(None)
        owner.login("user:42")
        cookie = sessions.commit(owner)[0].partition(";")[0]
        visitor = sessions.open(None)
        visitor["a"] = 1
        with pytest.raises(StoreUnavailable):
            sessions.commit(visitor)

        assert "user:42" == sessions.open(cookie).subject

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["create", "save", "login", "touch", "delete", "sweep", "wait"]),
                st.integers(0, 6),
            ),
            max_size=40,
        )
    )
    def test_no_life_drops_a_login_or_holds_more(self, steps: list[tuple[str, int]]) -> None:
        """Whatever is done: at most four, every live login among them, and lists agree."""
        store, now, logins = MemoryStore(max_sessions=4), NOW, dict[str, Record]()
        for verb, number in steps:
            found = store.load(ident(number), now)
            if verb == "wait":
                now += HOUR // 4
            elif verb == "sweep":
                store.sweep(number + 1, now)
            elif verb == "delete":
                store.delete(ident(number), now)
                logins.pop(ident(number), None)
            elif verb == "touch" and found is not None:
                store.touch(found.id, found.revision, now, now + HOUR, now)
            elif verb in ("save", "login") and found is not None:
                subject = f"user:{number % 2}" if verb == "login" else found.subject
                new = changed(found, subject=subject, expires_at=now + HOUR)
                assert SAVED is store.save(new, found.revision, now)
                if subject:
                    logins[found.id] = new
            elif verb == "create" and found is None:
                try:
                    store.create(record(ident(number), expires_at=now + HOUR), now)
                except StoreUnavailable:
                    assert 4 == len(store.page("", 9, now))
            page = store.page("", 9, now)
            assert len(page) <= 4
            alive = {each.id for each in logins.values() if _ends(store, each) > now}
            assert alive == {each.id for each in page if each.subject}
            by_subject = [store.by_subject(f"user:{n}", now) for n in range(2)]
            assert alive == {each.id for found in by_subject for each in found}


def _ends(store: MemoryStore, login: Record) -> int:
    """When the login ends: a touch may have moved it."""
    found = store.load(login.id, 0)
    return found.expires_at if found is not None else login.expires_at


class TestThreads:
    def test_it_stays_whole_among_threads(self) -> None:
        """Creates, saves, deletes and walks at once, under a small bound."""
        store = MemoryStore(max_sessions=20)
        start = threading.Barrier(8)

        def work(worker: int) -> set[str]:
            logged_in = set[str]()
            start.wait()
            for number in range(200):
                new = record(ident(worker * 1000 + number))
                store.create(new, NOW)
                subject = f"user:{worker}" if number % 100 == 0 else None
                answer = store.save(changed(new, subject=subject), new.revision, NOW)
                if subject and answer is SAVED:  # another may have needed the room before
                    logged_in.add(new.id)
                store.page("", 5, NOW)
                store.by_subject(f"user:{worker}", NOW)
                if number % 3 == 0 and subject is None:
                    store.delete(new.id, NOW)
            return logged_in

        with ThreadPoolExecutor(8) as pool:
            logged_in = set[str]().union(*pool.map(work, range(8)))

        page = store.page("", 1000, NOW)
        assert len(page) <= 20
        assert logged_in == {each.id for each in page if each.subject is not None}


class TestOneShelf:
    def test_an_async_store_shares_the_others_shelf(self) -> None:
        """A site with sync and async parts has one set of sessions."""
        memory = MemoryStore()
        shared = AsyncMemoryStore(memory)
        asyncio.run(shared.create(login(1), NOW))
        memory.create(login(2), NOW)

        assert [1, 2] == kept(memory)
        assert 2 == len(asyncio.run(shared.page("", 9, NOW)))

    def test_stores_made_apart_share_nothing(self) -> None:
        """Each has a shelf of its own, by URL too."""
        stores: list[Any] = [MemoryStore(), AsyncMemoryStore().memory, from_url("memory:")]
        stores[0].create(login(1), NOW)

        assert [1, 0, 0] == [len(store.page("", 9, NOW)) for store in stores]
        assert isinstance(async_from_url("memory:"), AsyncMemoryStore)

    def test_closing_keeps_what_is_kept(self) -> None:
        """There is nothing to close."""
        store = filled(login(1))
        store.close()

        assert [1] == kept(store)


CHILD = """
import sys, warnings
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing import NOW, ident, record

def use(store, start):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(start, start + 3):
            store.create(record(ident(number)), NOW)
            store.load(ident(number), NOW)
    return [str(each.message) for each in caught]
"""

FORKED = """
import os
store = MemoryStore()
assert use(store, 1) == []
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, repr(use(store, 10)).encode())
    os._exit(0)
os.wait()
print(os.read(read, 10_000).decode())
assert use(store, 20) == []
"""

SPAWNED = """
import multiprocessing
def work(queue):
    queue.put(use(MemoryStore(), 1))
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    print(queue.get(timeout=60))
    child.join()
"""


class TestProcesses:
    @pytest.mark.parametrize("program", [FORKED, SPAWNED], ids=["forked", "spawned"])
    def test_a_worker_process_is_warned_once(self, program: str, tmp_path: Any) -> None:
        """At its first session, not at each; the parent alone is not."""
        script = tmp_path / "program.py"
        script.write_text(CHILD + program)
        ran = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(script)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert (0, 1) == (ran.returncode, ran.stdout.count("log out at random")), ran.stderr

    def test_it_says_that_it_is_not_shared(self) -> None:
        """So that servers with several workers can refuse it."""
        assert (False, False) == (MemoryStore.shared, AsyncMemoryStore.shared)
