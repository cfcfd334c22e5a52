"""A callback gets every event, in order, and whatever it does harms no request."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from coatcheck import AsyncSessions, ConfigurationError, Sessions, patience
from coatcheck.delivery import MOST
from coatcheck.events import Event, LoggedIn, LoggedOut, RiskyConfiguration, Swept
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from tests.forks import c_fork, forks_beside_threads, in_child
from tests.test_advising import RISK
from tests.threads import no_threads

PATIENCE = 20.0
"""Seconds after which a test gives up on something that must come."""

request_id = ContextVar("request_id", default="none")


def login(sessions: Sessions, subject: str = "user:42") -> str:
    """A whole request; the session's cookie."""
    session = sessions.open(None)
    session.login(subject)
    return sessions.commit(session)[0].partition(";")[0]


async def login_async(sessions: AsyncSessions, subject: str = "user:42") -> None:
    session = await sessions.open(None)
    session.login(subject)
    assert await sessions.commit(session)


class Blocked:
    """A callback that holds on to the first event until it is let go."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self, event: Event) -> None:
        self.begun.set()
        assert self.let_go.wait(PATIENCE)
        self.told.append(event)


def subjects(told: list[Event]) -> list[str | None]:
    return [event.subject for event in told]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "coatcheck events"]


def raising(event: Event) -> None:
    raise ZeroDivisionError


async def raising_async(event: Event) -> None:
    raise ZeroDivisionError


class TestPlain:
    def test_events_come_in_their_order_from_a_thread_of_their_own(self) -> None:
        """A daemon, which an app that ends does not wait for."""
        told: list[tuple[str | None, str, bool]] = []

        def handler(event: Event) -> None:
            thread = threading.current_thread()
            told.append((event.subject, thread.name, thread.daemon))

        with Sessions(MemoryStore(), on_event=handler) as sessions:
            for number in range(50):
                login(sessions, f"user:{number}")
            assert sessions.flush_events(PATIENCE)

        expected = [(f"user:{number}", "coatcheck events", True) for number in range(50)]
        assert expected == told

    def test_what_it_raises_is_logged_and_the_next_event_comes(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Even what would end a thread."""
        told: list[Event] = []

        def handler(event: Event) -> None:
            told.append(event)
            sys.exit("not from here")

        sessions = Sessions(MemoryStore(), on_event=handler)
        login(sessions)
        login(sessions)
        assert sessions.flush_events(PATIENCE)

        assert 2 == len(told)
        assert ["on_event raised while it handled logged_in"] * 2 == caplog.messages

    def test_one_that_blocks_for_ever_holds_up_no_request(self) -> None:
        """Nor the end of the process, for more than a second."""
        blocked = Blocked()
        sessions = Sessions(MemoryStore(), on_event=blocked)
        cookie = login(sessions)
        assert blocked.begun.wait(PATIENCE)
        session = sessions.open(cookie)
        session.logout()
        sessions.commit(session)

        assert False is sessions.flush_events(0.001)
        assert (None, []) == (sessions.open(cookie).subject, blocked.told)
        blocked.let_go.set()
        assert sessions.flush_events(PATIENCE)
        assert [LoggedIn, LoggedOut] == [type(event) for event in blocked.told][:2]

    def test_what_is_too_much_is_dropped_and_counted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The newest; the log is told of the first and the tenth, not of each."""
        blocked = Blocked()
        sessions = Sessions(MemoryStore(), on_event=blocked)
        sessions._tell(Swept(count=-1))
        assert blocked.begun.wait(PATIENCE)
        for number in range(MOST + 12):
            sessions._tell(Swept(count=number))
        blocked.let_go.set()
        assert sessions.flush_events(PATIENCE)

        assert [Swept(count=number) for number in range(-1, MOST)] == blocked.told
        dropped = [f"events_dropped count={count} waiting={MOST}" for count in (1, 10)]
        assert dropped == caplog.messages

    def test_it_runs_in_the_context_of_the_request(self) -> None:
        """So that a request id in a context variable is the right one."""
        told: list[str] = []
        sessions = Sessions(MemoryStore(), on_event=lambda event: told.append(request_id.get()))
        for number in range(3):
            token = request_id.set(f"request {number}")
            login(sessions)
            request_id.reset(token)
        assert sessions.flush_events(PATIENCE)

        assert ["request 0", "request 1", "request 2"] == told

    def test_it_may_take_longer_than_the_request_might(self) -> None:
        """The time limit of the request's store calls is not that of the callback's."""

        class Patient(MemoryStore):
            patience = 0.5

        left: list[float] = []
        with Sessions(Patient(), on_event=lambda event: left.append(patience.left(9))) as sessions:
            login(sessions)
            assert sessions.flush_events(PATIENCE)

        assert [9] == left

    def test_closing_delivers_what_waits_and_leaves_no_thread(self) -> None:
        """And what is told later begins another."""
        told: list[Event] = []
        before = threads()
        sessions = Sessions(MemoryStore(), on_event=told.append)
        for _ in range(2):
            login(sessions)
            (thread,) = [each for each in threads() if each not in before]
            sessions.close()
            thread.join(5)  # it would end by itself later
            assert not thread.is_alive()

        assert 2 == len(told)

    def test_sessions_that_are_dropped_deliver_what_waits_and_leave_no_thread(self) -> None:
        """As where an app is made anew for each of its tests, and nobody closes the last one."""
        before = threads()
        blocked = Blocked()
        sessions = Sessions(MemoryStore(), on_event=blocked)
        login(sessions)
        login(sessions)
        (thread,) = [each for each in threads() if each not in before]
        del sessions
        gc.collect()
        blocked.let_go.set()
        thread.join(5)  # it would end by itself later

        assert not thread.is_alive()
        assert 2 == len(blocked.told)

    def test_without_a_callback_there_is_no_thread(self) -> None:
        """Nor does anything wait."""
        before = threads()
        sessions = Sessions(MemoryStore())
        login(sessions)

        assert sessions.flush_events(0)
        assert set(threads()) <= set(before)

    def test_a_callback_may_flush_and_close(self) -> None:
        """It does not wait for itself."""
        flushed: list[bool] = []
        sessions = Sessions(
            MemoryStore(), on_event=lambda event: flushed.append(sessions.flush_events(0.01))
        )
        for _ in range(2):
            login(sessions)
            assert sessions.flush_events(PATIENCE)

        assert [True, True] == flushed

    def test_a_process_that_ends_delivers_what_waits(self) -> None:
        """Though nobody closed anything."""
        program = (
            "import sys\n"
            "from coatcheck import Sessions\n"
            "from coatcheck.stores.memory import MemoryStore\n"
            "tell = lambda event: sys.stdout.write(f'{event.subject}\\n')\n"
            "sessions = Sessions(MemoryStore(), on_event=tell)\n"
            "for number in range(100):\n"
            "    session = sessions.open(None)\n"
            "    session.login(f'user:{number}')\n"
            "    sessions.commit(session)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
        )

        assert [f"user:{number}" for number in range(100)] == ran.stdout.split()

    def test_a_process_that_ends_delivers_what_its_end_tells(self) -> None:
        """Python 3.12 begins no thread by then."""
        program = (
            "import atexit, sys\n"
            "from coatcheck import Sessions\n"
            "from coatcheck.stores.memory import MemoryStore\n"
            "tell = lambda event: sys.stdout.write(f'{event.subject}\\n')\n"
            "sessions = Sessions(MemoryStore(), on_event=tell)\n"
            "@atexit.register\n"
            "def end():\n"
            "    session = sessions.open(None)\n"
            "    session.login('user:42')\n"
            "    sessions.commit(session)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
        )

        assert "user:42\n" == ran.stdout

    def test_where_no_thread_is_to_be_had_whoever_waits_delivers(self) -> None:
        """Nothing is lost, and nobody is told that it was delivered before it is."""
        told: list[Event] = []
        sessions = Sessions(MemoryStore(), on_event=told.append)
        with no_threads():
            login(sessions, "user:1")
            login(sessions, "user:2")
            before = list(told)
            assert sessions.flush_events(PATIENCE)

        assert ([], ["user:1", "user:2"]) == (before, subjects(told))
        login(sessions, "user:3")
        assert sessions.flush_events(PATIENCE)
        assert 3 == len(told)

    def test_whoever_waits_delivers_no_longer_than_it_waits(self) -> None:
        """One event at a time, and what is left is the next one's."""
        told: list[Event] = []
        sessions = Sessions(MemoryStore(), on_event=told.append)
        with no_threads():
            login(sessions, "user:1")
            login(sessions, "user:2")
            assert not sessions.flush_events(0)
            assert ["user:1"] == subjects(told)
        login(sessions, "user:3")
        assert sessions.flush_events(PATIENCE)

        assert ["user:1", "user:2", "user:3"] == subjects(told)

    @forks_beside_threads
    @pytest.mark.parametrize("divide", [None, c_fork], ids=["python", "c"])
    def test_a_child_delivers_its_own_events_and_no_others(
        self, divide: Callable[[], int] | None
    ) -> None:
        """What waited in the parent is the parent's, which goes on."""
        blocked = Blocked()
        sessions = Sessions(MemoryStore(), on_event=blocked)
        login(sessions, "user:1")
        assert blocked.begun.wait(PATIENCE)
        login(sessions, "user:2")

        def act() -> list[str | None]:
            blocked.let_go = (
                threading.Event()
            )  # the thread that is not here may hold the other's lock
            blocked.let_go.set()
            sessions._tell(LoggedIn(subject="user:3"))
            assert sessions.flush_events(PATIENCE)
            return subjects(blocked.told)

        assert ["user:3"] == (in_child(act) if divide is None else in_child(act, divide))
        blocked.let_go.set()
        assert sessions.flush_events(PATIENCE)
        assert ["user:1", "user:2"] == subjects(blocked.told)

    @forks_beside_threads
    @pytest.mark.parametrize("divide", [os.fork, c_fork], ids=["python", "c"])
    def test_a_child_may_drop_what_its_parent_made(self, divide: Callable[[], int]) -> None:
        """The parent's thread is not there to be told; Python 3.13 would crash, if C forked it."""
        made = [Sessions(MemoryStore(), on_event=lambda event: None)]
        login(made[0])
        assert made[0].flush_events(PATIENCE)

        def act() -> str:
            made.clear()
            return "dropped"

        assert "dropped" == in_child(act, divide)

    @pytest.mark.parametrize("asynchronous", ["function", "object"])
    def test_an_asynchronous_one_is_refused(self, asynchronous: str) -> None:
        """Nobody would await it; the error says what to do."""

        class Asynchronous:
            async def __call__(self, event: Event) -> None: ...

        handler: Any = raising_async if asynchronous == "function" else Asynchronous()
        with pytest.raises(ConfigurationError, match="AsyncSessions"):
            Sessions(MemoryStore(), on_event=handler)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


class TestAsynchronous:
    def test_a_plain_function_that_blocks_does_not_block_the_loop(self) -> None:
        """Requests go on in it, and waiting for the events does not block it either."""
        blocked = Blocked()

        async def main() -> None:
            sessions = AsyncSessions(AsyncMemoryStore(), on_event=blocked)
            await login_async(sessions)
            assert blocked.begun.wait(PATIENCE)
            await login_async(sessions)
            assert False is await sessions.flush_events(0.001)
            asyncio.get_running_loop().call_soon(blocked.let_go.set)
            assert await sessions.flush_events(PATIENCE)

        run(main())
        assert 2 == len(blocked.told)

    def test_an_asynchronous_one_is_awaited_in_order(self) -> None:
        """One event after another, in the loop that told them, in the context of the request."""
        told: list[tuple[str | None, str]] = []

        async def main() -> None:
            slow = asyncio.Event()

            async def handler(event: Event) -> None:
                if not told:
                    await slow.wait()
                told.append((event.subject, request_id.get()))

            sessions = AsyncSessions(AsyncMemoryStore(), on_event=handler)
            for number in range(3):
                request_id.set(f"request {number}")
                await login_async(sessions, f"user:{number}")
            assert [] == told
            slow.set()
            await sessions.close()

        run(main())
        assert [(f"user:{number}", f"request {number}") for number in range(3)] == told

    def test_what_it_raises_is_logged_and_the_next_event_comes(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As of a plain one."""

        async def main() -> None:
            async with AsyncSessions(AsyncMemoryStore(), on_event=raising_async) as sessions:
                await login_async(sessions)
                await login_async(sessions)
                assert await sessions.flush_events(PATIENCE)

        run(main())
        assert ["on_event raised while it handled logged_in"] * 2 == caplog.messages

    def test_what_is_too_much_is_dropped_and_counted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As of a plain one."""
        told: list[Event] = []

        async def handler(event: Event) -> None:
            told.append(event)

        async def main() -> None:
            async with AsyncSessions(AsyncMemoryStore(), on_event=handler) as sessions:
                for number in range(MOST + 2):
                    sessions._tell(Swept(count=number))
                assert await sessions.flush_events(PATIENCE)

        run(main())
        assert MOST == len(told)
        assert [f"events_dropped count=1 waiting={MOST}"] == caplog.messages

    def test_it_works_in_one_loop_after_another(self) -> None:
        """What one left behind or cut off, or was told outside of any, the next delivers."""
        told: list[Event] = []
        stuck = [True]

        async def handler(event: Event) -> None:
            if stuck.pop():
                await asyncio.Event().wait()
            stuck.append(False)
            told.append(event)

        sessions = AsyncSessions(AsyncMemoryStore(), on_event=handler)

        async def first() -> None:
            await login_async(sessions, "user:1")
            await login_async(sessions, "user:2")
            assert False is await sessions.flush_events(0.001)

        async def second() -> None:
            stuck.append(False)
            assert await sessions.flush_events(PATIENCE)
            assert ["user:1", "user:2", None] == subjects(told)
            await login_async(sessions, "user:3")
            assert await sessions.flush_events(PATIENCE)

        run(first())
        sessions._warn(RISK)
        run(second())

        assert ["user:1", "user:2", None, "user:3"] == subjects(told)
        assert RiskyConfiguration is type(told[2])

    @pytest.mark.parametrize("ending", ["cancelled", "closed"])
    def test_a_loop_for_each_request_loses_no_event(self, ending: str) -> None:
        """As Django's `async_to_sync` has it; each loop is gone before the callback is done."""
        told: list[Event] = []
        over = False

        async def handler(event: Event) -> None:
            while not over:
                await asyncio.sleep(0)
            told.append(event)

        async def request(number: int) -> None:
            await login_async(sessions, f"user:{number}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async def end() -> None:
            assert await sessions.flush_events(PATIENCE)

        sessions = AsyncSessions(AsyncMemoryStore(), on_event=handler)
        for number in range(5):
            if ending == "cancelled":
                run(request(number))
            else:
                loop = asyncio.new_event_loop()
                loop.run_until_complete(request(number))
                loop.close()
        assert [] == told
        over = True
        run(end())

        assert [f"user:{number}" for number in range(5)] == subjects(told)

    def test_an_event_whose_callback_is_done_does_not_come_again(self) -> None:
        """Though the loop ends at that moment."""
        told: list[Event] = []

        async def handler(event: Event) -> None:
            told.append(event)
            (task,) = (each for each in asyncio.all_tasks() if "events" in each.get_name())
            asyncio.get_running_loop().call_soon(task.cancel)

        async def main() -> None:
            await login_async(sessions)
            assert await sessions.flush_events(PATIENCE)

        sessions = AsyncSessions(AsyncMemoryStore(), on_event=handler)
        run(main())
        run(main())

        assert 2 == len(told)

    def test_flushing_waits_for_other_loops(self) -> None:
        """In whatever thread they run."""
        told: list[Event] = []
        begun, asked = threading.Event(), threading.Event()

        async def handler(event: Event) -> None:
            begun.set()
            while not asked.is_set():
                await asyncio.sleep(0)
            told.append(event)

        async def other() -> None:
            await login_async(sessions)
            assert await sessions.flush_events(PATIENCE)

        async def main() -> None:
            assert False is await sessions.flush_events(0.001)
            asyncio.get_running_loop().call_soon(asked.set)
            assert await sessions.flush_events(PATIENCE)
            assert 1 == len(told)

        sessions = AsyncSessions(AsyncMemoryStore(), on_event=handler)
        thread = threading.Thread(target=run, args=[other()])
        thread.start()
        assert begun.wait(PATIENCE)
        run(main())
        thread.join()

    def test_one_that_waits_for_what_is_cancelled_has_failed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged, and not tried again for ever."""

        async def handler(event: Event) -> None:
            answer = asyncio.get_running_loop().create_future()
            answer.cancel()
            await answer

        async def main() -> None:
            async with AsyncSessions(AsyncMemoryStore(), on_event=handler) as sessions:
                await login_async(sessions)
                assert await sessions.flush_events(PATIENCE)

        run(main())
        assert ["on_event raised while it handled logged_in"] == caplog.messages

    def test_it_may_take_longer_than_the_request_might(self) -> None:
        """As a plain one may."""

        class Patient(AsyncMemoryStore):
            patience = 0.5

        left: list[float] = []

        async def handler(event: Event) -> None:
            left.append(patience.left(9))

        async def main() -> None:
            async with AsyncSessions(Patient(), on_event=handler) as sessions:
                await login_async(sessions)
                assert await sessions.flush_events(PATIENCE)

        run(main())
        assert [9] == left

    def test_a_loop_that_is_gone_is_not_kept(self) -> None:
        """Thousands of short ones, which ended without a word to their tasks, must not add up."""

        async def handler(event: Event) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def request() -> None:
            await login_async(sessions)
            await begun.wait()

        sessions = AsyncSessions(AsyncMemoryStore(), on_event=handler)
        for _ in range(3):
            begun = asyncio.Event()
            loop = asyncio.new_event_loop()
            loop.run_until_complete(request())
            loop.close()
        lane: Any = sessions._delivery._lane

        assert 1 >= len(lane._tasks)

    @pytest.mark.parametrize("kind", ["plain", "asynchronous"])
    def test_a_failing_one_harms_no_request(self, kind: str) -> None:
        """Not even one after another."""

        async def main() -> None:
            handler = raising if kind == "plain" else raising_async
            logging.getLogger("coatcheck").disabled = True
            async with AsyncSessions(AsyncMemoryStore(), on_event=handler) as sessions:
                for _ in range(20):
                    await login_async(sessions)
                assert 20 == len(await sessions.list_for("user:42"))

        try:
            run(main())
        finally:
            logging.getLogger("coatcheck").disabled = False
