"""The calls of one turn leave together, and what happens to a batch reaches whom it concerns."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from coatcheck import patience
from coatcheck.coalesce import Coalescer
from coatcheck.errors import StoreUnavailable

FOREVER = 60.0

Send = Callable[[Sequence[int]], Awaitable[Sequence[int | Exception]]]


class Echo:
    """Answers each number with itself, batch by batch, when it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, calls: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(calls))
        await self.go.wait()
        return list(calls)


def test_calls_of_one_turn_leave_together() -> None:
    """In the order of their asking, as one batch; each gets its own answer."""

    async def scenario() -> None:
        echo = Echo()
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=FOREVER)

        assert [1, 2, 3] == await asyncio.gather(*map(coalescer.ask, [1, 2, 3]))
        assert [[1, 2, 3]] == echo.batches

    asyncio.run(scenario())


def test_a_batch_is_bounded() -> None:
    """What is too much for one goes with the next."""

    async def scenario() -> None:
        echo = Echo()
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=FOREVER, most=2)
        await asyncio.gather(*map(coalescer.ask, range(5)))

        assert [[0, 1], [2, 3], [4]] == echo.batches

    asyncio.run(scenario())


def test_what_waits_for_busy_batches_leaves_together() -> None:
    """While as many as may be are under way, later turns gather in the queue."""

    async def scenario() -> None:
        echo = Echo(held=True)
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=FOREVER, at_once=1)
        asked = []
        for number in range(4):
            asked.append(coalescer.ask(number))
            await turns(3)
        assert [[0]] == echo.batches
        echo.go.set()

        assert [0, 1, 2, 3] == await asyncio.gather(*asked)
        assert [[0], [1, 2, 3]] == echo.batches

    asyncio.run(scenario())


def test_a_batch_holds_a_key_once() -> None:
    """The second call of that key, and it alone, waits for the next batch."""

    async def scenario() -> None:
        echo = Echo()
        coalescer: Coalescer[int, int] = Coalescer(
            echo, patience=FOREVER, key=lambda number: number % 10
        )
        await asyncio.gather(*map(coalescer.ask, [1, 11, 2, 21]))

        assert [[1, 2], [11], [21]] == echo.batches

    asyncio.run(scenario())


def test_a_key_is_under_way_once() -> None:
    """A call of a key that a batch has already waits for its end; others pass it."""

    async def scenario() -> None:
        echo = Echo(held=True)
        coalescer: Coalescer[int, int] = Coalescer(
            echo, patience=FOREVER, at_once=3, key=lambda number: number % 10
        )
        asked = []
        for number in (1, 11, 2):
            asked.append(coalescer.ask(number))
            await turns(3)
        assert [[1], [2]] == echo.batches
        echo.go.set()

        assert [1, 11, 2] == await asyncio.gather(*asked)
        assert [[1], [2], [11]] == echo.batches

    asyncio.run(scenario())


def test_an_answer_that_is_an_exception_is_raised_for_its_caller() -> None:
    """The others of the batch get theirs."""

    async def send(calls: Sequence[int]) -> Sequence[int | Exception]:
        return [KeyError(call) if call == 2 else call for call in calls]

    async def scenario() -> None:
        coalescer: Coalescer[int, int] = Coalescer(send, patience=FOREVER)
        one, two, three = await asyncio.gather(
            *map(coalescer.ask, [1, 2, 3]), return_exceptions=True
        )

        assert (1, 3) == (one, three)
        assert isinstance(two, KeyError)

    asyncio.run(scenario())


def test_a_batch_that_fails_fails_all_of_it_and_no_other() -> None:
    """Each caller gets an error of its own, whose cause is the one that was raised."""

    async def send(calls: Sequence[int]) -> Sequence[int | Exception]:
        if 1 in calls:
            raise StoreUnavailable("gone")
        return list(calls)

    async def scenario() -> None:
        coalescer: Coalescer[int, int] = Coalescer(send, patience=FOREVER, most=2)
        one, two, three = await asyncio.gather(
            *map(coalescer.ask, [1, 2, 3]), return_exceptions=True
        )

        assert isinstance(one, StoreUnavailable)
        assert isinstance(two, StoreUnavailable)
        assert one is not two
        assert one.__cause__ is two.__cause__
        assert 3 == three

    asyncio.run(scenario())


def test_a_cancelled_caller_cancels_nobody_else() -> None:
    """Its answer is dropped; the others get theirs."""

    async def scenario() -> None:
        echo = Echo(held=True)
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=FOREVER)
        one, two = (asyncio.ensure_future(coalescer.ask(number)) for number in (1, 2))
        await turns(3)
        one.cancel()
        echo.go.set()

        assert 2 == await two
        assert one.cancelled()

    asyncio.run(scenario())


def test_who_was_cancelled_before_its_batch_left_is_left_out() -> None:
    """It is never sent."""

    async def scenario() -> None:
        echo = Echo()
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=FOREVER)
        one, two = coalescer.ask(1), coalescer.ask(2)
        one.cancel()
        await two

        assert [[2]] == echo.batches

    asyncio.run(scenario())


def test_nobody_waits_beyond_the_patience() -> None:
    """Neither under way nor in the queue; and who gave up in the queue is never sent."""

    async def scenario() -> None:
        echo = Echo(held=True)
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=0.02, at_once=1)
        one = coalescer.ask(1)
        await turns(3)
        two = coalescer.ask(2)
        answers = await asyncio.gather(one, two, return_exceptions=True)
        assert [StoreUnavailable] * 2 == [type(each) for each in answers]
        coalescer.patience = FOREVER
        three = coalescer.ask(3)
        echo.go.set()

        assert 3 == await three
        assert [[1], [3]] == echo.batches

    asyncio.run(scenario())


def test_a_request_waits_no_longer_than_it_has_left() -> None:
    """Its own limit counts where it is the shorter one, and it has none of the others'."""

    async def scenario() -> None:
        echo = Echo(held=True)
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=FOREVER)
        with patience.limit(0.02):
            hurried = coalescer.ask(1)
        patient = coalescer.ask(2)
        with pytest.raises(StoreUnavailable):
            await hurried
        echo.go.set()

        assert 2 == await patient

    asyncio.run(scenario())


def test_a_request_whose_time_is_up_asks_nothing() -> None:
    """It is refused at once."""

    async def scenario() -> None:
        echo = Echo()
        coalescer: Coalescer[int, int] = Coalescer(echo, patience=FOREVER)
        with patience.limit(0.0), pytest.raises(StoreUnavailable):
            await coalescer.ask(1)
        await turns(3)

        assert [] == echo.batches

    asyncio.run(scenario())


def test_a_batch_runs_under_nobodys_limit() -> None:
    """The first caller's time does not bound what others wait for."""
    seen: list[float] = []

    async def send(calls: Sequence[int]) -> Sequence[int | Exception]:
        seen.append(patience.left(99.0))
        return list(calls)

    async def scenario() -> None:
        coalescer: Coalescer[int, int] = Coalescer(send, patience=FOREVER)
        with patience.limit(30.0):
            await coalescer.ask(1)

    asyncio.run(scenario())
    assert [99.0] == seen


def test_each_event_loop_has_its_own_queue() -> None:
    """One loop after another is served, also after one that ended with calls under way."""
    batches: list[list[int]] = []

    async def send(calls: Sequence[int]) -> Sequence[int | Exception]:
        batches.append(list(calls))
        if 1 in calls:
            await asyncio.Event().wait()
        return list(calls)

    coalescer: Coalescer[int, int] = Coalescer(send, patience=FOREVER)

    async def leave() -> None:
        coalescer.ask(1)
        await turns(3)

    async def ask() -> int:
        return await coalescer.ask(2)

    asyncio.run(leave())
    assert 2 == asyncio.run(ask())
    assert [[1], [2]] == batches


def test_no_timer_outlives_the_calls_of_its_turn() -> None:
    """What was answered is not kept alive until the time would have been up."""

    async def scenario() -> None:
        coalescer: Coalescer[int, int] = Coalescer(Echo(), patience=FOREVER)
        await asyncio.gather(*map(coalescer.ask, range(3)))
        loop = asyncio.get_running_loop()

        assert [] == [t for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]

    asyncio.run(scenario())


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
