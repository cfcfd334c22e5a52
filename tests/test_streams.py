"""Bodies that are made while they go out, of both kinds, by the same tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from coatcheck import Sessions, current
from coatcheck.session import Session
from coatcheck.stores.memory import MemoryStore
from coatcheck.watching import Watch
from coatcheck.web.streams import AsyncStream, Stream, WatchedStream
from tests.test_watching import Site, logout, run, settled


class Body:
    """Notes for each of its steps whether this is the current session, and may fail in one."""

    def __init__(self, session: Session, fails: str | None = None) -> None:
        self.session = session
        self.fails = fails
        self.steps: list[str] = []
        self.ends = 0

    def step(self, name: str) -> None:
        assert self.session is current()
        self.steps.append(name)
        if name == self.fails:
            raise RuntimeError(name)

    def end(self) -> None:
        self.ends += 1


class SyncBody(Body):
    def __iter__(self) -> Iterator[bytes]:
        self.step("begin")
        return self.parts()

    def parts(self) -> Iterator[bytes]:
        for name in ("one", "two"):
            self.step(name)
            yield name.encode()

    def close(self) -> None:
        self.step("close")


class AsyncBody(Body):
    def __aiter__(self) -> AsyncIterator[bytes]:
        self.step("begin")
        return self.parts()

    async def parts(self) -> AsyncIterator[bytes]:
        for name in ("one", "two"):
            await asyncio.sleep(0)
            self.step(name)
            yield name.encode()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.step("close")


class Reader:
    """Reads a stream as a server does, whose own code has no current session."""

    def __init__(self, body: Any, stream: Any) -> None:
        self.body = body
        self.stream = stream
        self.read: list[bytes] = []

    async def read_some(self, parts: int) -> None:
        if isinstance(self.stream, Stream):
            chunks = iter(self.stream)
            for _ in range(parts):
                self.note(next(chunks))
        else:
            made = aiter(self.stream)
            for _ in range(parts):
                self.note(await anext(made))

    async def read_all(self) -> None:
        if isinstance(self.stream, Stream):
            for part in self.stream:
                self.note(part)
        else:
            async for part in self.stream:
                self.note(part)

    async def close(self) -> None:
        if isinstance(self.stream, Stream):
            self.stream.close()
        else:
            await self.stream.close()

    def note(self, part: bytes) -> None:
        with pytest.raises(LookupError):
            current()
        self.read.append(part)


Make = Callable[..., Reader]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    def make(fails: str | None = None) -> Reader:
        session = Sessions(MemoryStore()).open(None)
        if request.param == "sync":
            body = SyncBody(session, fails)
            return Reader(body, Stream(body, {None: session}, body.end))
        awaited = AsyncBody(session, fails)
        return Reader(awaited, AsyncStream(awaited, {None: session}, awaited.end))

    return make


def test_each_part_has_the_current_session(make: Make) -> None:
    """And between two parts there is none."""
    reader = make()
    asyncio.run(reader.read_all())

    assert [b"one", b"two"] == reader.read
    assert ["begin", "one", "two"] == reader.body.steps


def test_closing_has_the_current_session(make: Make) -> None:
    """Also of a body that was left early."""
    reader = make()

    async def leave() -> None:
        await reader.read_some(1)
        await reader.close()

    asyncio.run(leave())
    assert ["begin", "one", "close"] == reader.body.steps


def test_it_ends_once_exhausted(make: Make) -> None:
    """Not before, and not again when it is closed."""
    reader = make()

    async def read() -> list[int]:
        await reader.read_some(2)
        ends = [reader.body.ends]
        await reader.read_all()
        ends.append(reader.body.ends)
        await reader.close()
        return [*ends, reader.body.ends]

    assert [0, 1, 1] == asyncio.run(read())


def test_it_ends_once_closed(make: Make) -> None:
    """Though nobody read it."""
    reader = make()

    async def close_twice() -> None:
        await reader.close()
        await reader.close()

    asyncio.run(close_twice())
    assert (1, []) == (reader.body.ends, reader.read)


@pytest.mark.parametrize(("fails", "read"), [("begin", []), ("one", []), ("two", [b"one"])])
def test_an_error_goes_on(make: Make, fails: str, read: list[bytes]) -> None:
    """To the server, which has no current session then; the response is not over yet."""
    reader = make(fails)

    async def read_all() -> None:
        with pytest.raises(RuntimeError, match=fails):
            await reader.read_all()
        with pytest.raises(LookupError):
            current()

    asyncio.run(read_all())
    assert (read, 0) == (reader.read, reader.body.ends)


def test_an_error_in_close_goes_on(make: Make) -> None:
    """There is no current session then either."""
    reader = make("close")

    async def close() -> None:
        with pytest.raises(RuntimeError, match="close"):
            await reader.close()
        with pytest.raises(LookupError):
            current()

    asyncio.run(close())


def test_an_error_of_the_end_goes_on(make: Make) -> None:
    """It tells what was changed too late."""
    reader = make()
    reader.stream._end = lambda: current()
    with pytest.raises(LookupError):
        asyncio.run(reader.read_all())

    assert [b"one", b"two"] == reader.read


def test_what_cannot_be_closed_needs_no_closing(make: Make) -> None:
    """A plain iterator will do."""
    reader = make()
    reader.stream._parts = object()
    asyncio.run(reader.close())

    assert 1 == reader.body.ends


class TestWatched:
    """Behind servers they are met in `tests/frameworks/test_watched_events.py`."""

    @staticmethod
    async def ended(site: Site, parts: Callable[[asyncio.Event], AsyncIterator[str]]) -> list[str]:
        """What is read of a stream whose session ends while a part is waited for."""
        session, waits, read = await site.login(), asyncio.Event(), list[str]()
        watch = Watch(site.sessions, session)
        stream = WatchedStream(watch, parts(waits), {None: session}, lambda: None)

        async def reading() -> None:
            async for part in stream:
                read.append(part)

        task = asyncio.create_task(reading())
        await waits.wait()
        await site.rounds.turn()
        await site.request(logout)
        await site.rounds.turn()
        await task
        return read

    def test_whoever_makes_a_part_is_cancelled_in_the_task_that_began_it(self) -> None:
        """So a block of theirs may last over several parts."""

        async def scenario() -> None:
            site, seen = Site(), list[Any]()

            async def parts(waits: asyncio.Event) -> AsyncIterator[str]:
                try:
                    async with asyncio.timeout(60):
                        yield "one"
                        waits.set()
                        await asyncio.Event().wait()
                finally:
                    seen.append(current() is not None)

            assert (["one"], [True]) == (await self.ended(site, parts), seen)

        run(scenario)

    @pytest.mark.parametrize("error", [KeyError, TimeoutError])
    def test_an_error_of_its_own_goes_on(self, error: type[Exception]) -> None:
        """Also one that looks like ours."""

        async def scenario() -> None:
            site = Site()
            session = await site.login()

            async def parts() -> AsyncIterator[str]:
                yield "one"
                raise error

            watch = Watch(site.sessions, session)
            stream = WatchedStream(watch, parts(), {None: session}, lambda: None)
            with pytest.raises(error):
                [part async for part in stream]
            await stream.close()

        run(scenario)

    def test_an_error_of_its_clean_up_goes_on(self) -> None:
        """Though it came because of the end."""

        async def scenario() -> None:
            async def parts(waits: asyncio.Event) -> AsyncIterator[str]:
                try:
                    yield "one"
                    waits.set()
                    await asyncio.Event().wait()
                finally:
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await self.ended(Site(), parts)

        run(scenario)

    def test_closing_it_closes_what_waits_at_its_yield(self) -> None:
        """With the session at hand; once."""

        async def scenario() -> None:
            site, seen = Site(), list[bool]()
            session = await site.login()

            async def parts() -> AsyncIterator[str]:
                try:
                    yield "one"
                finally:
                    seen.append(session is current())

            watch = Watch(site.sessions, session)
            stream = WatchedStream(watch, parts(), {None: session}, lambda: None)
            assert "one" == await anext(aiter(stream))
            await stream.close()
            await stream.close()
            assert [True] == seen

        run(scenario)

    def test_one_that_the_server_cancels_is_cancelled(self) -> None:
        """That is no end of a session; nothing of the watch is left."""

        async def scenario() -> None:
            site, waits = Site(), asyncio.Event()
            session = await site.login()

            async def parts() -> AsyncIterator[str]:
                yield "one"
                waits.set()
                await asyncio.Event().wait()

            watch = Watch(site.sessions, session)
            stream = WatchedStream(watch, parts(), {None: session}, lambda: None)

            async def reading() -> None:
                async for _ in stream:
                    """Nothing is done with it."""

            task = asyncio.create_task(reading())
            await waits.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await settled()

        run(scenario)
