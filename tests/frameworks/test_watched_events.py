"""`watch=True` behind Falcon and Sanic: a stream of events over loopback ends with its session."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import falcon.asgi
import pytest
from sanic.exceptions import RequestCancelled
from sanic.response import HTTPResponse, ResponseStream

from coatcheck import AsyncSessions, StoreUnavailable, current
from coatcheck.watching import _watchers
from coatcheck.web import sanic
from coatcheck.web.falcon import AsyncSessionMiddleware
from coatcheck.web.watched import this_task
from tests.frameworks.test_watched_sockets import Served, on_sanics_server, until, uvicorned
from tests.outside.frameworks.sanic import new_app
from tests.test_watching import PATIENCE, Site, logout, others, run, settled

EVENTS = "text/event-stream; charset=utf-8"
END = b"0\r\n\r\n"


class Talk:
    """What the handler is to say, how it is to take its end, and what it said when it left."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()
        self.left: list[str] = []
        self.last: str | None = None  # what it says where it is cancelled, else it obeys
        self.logs_in = False

    def begin(self) -> None:
        if self.logs_in:
            current().login("user:42")

    async def word(self) -> str:
        try:
            word = await self.words.get()
        except asyncio.CancelledError:
            if self.last is None:
                raise
            word = self.last
        if word == "fail":
            raise ZeroDivisionError
        return word

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """The handler; what is noted is how it ended."""
        try:
            yield
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        else:
            self.left.append("left")

    async def say(self, send: Callable[[str], Awaitable[object]]) -> None:
        async with self.heard():
            while (word := await self.word()) != "bye":
                await send(f"data: {word}\n\n")


def on_falcon(respond: Callable[..., None]) -> Callable[..., Served]:
    def served(
        sessions: AsyncSessions, talk: Talk, *, content_type: str = EVENTS, **options: Any
    ) -> Served:
        class Events:
            async def on_get(self, req: Any, resp: Any) -> None:
                talk.begin()
                respond(resp, talk, content_type)

        app: Any = falcon.asgi.App(
            middleware=[AsyncSessionMiddleware(sessions, sweep=None, **options)]
        )
        app.add_route("/events", Events())
        return uvicorned(app)

    return served


def with_sse(resp: Any, talk: Talk, _: str) -> None:
    async def events() -> AsyncIterator[Any]:
        async with talk.heard():
            while (word := await talk.word()) != "bye":
                yield falcon.asgi.SSEvent(text=word)

    resp.sse = events()


def with_stream(resp: Any, talk: Talk, content_type: str) -> None:
    async def events() -> AsyncIterator[bytes]:
        async with talk.heard():
            while (word := await talk.word()) != "bye":
                yield f"data: {word}\n\n".encode()

    resp.content_type, resp.stream = content_type, events()


def with_file(resp: Any, talk: Talk, content_type: str) -> None:
    class File:
        async def read(self, size: int) -> bytes:
            word = await talk.word()
            return b"" if word == "bye" else f"data: {word}\n\n".encode()

        async def close(self) -> None:
            talk.left.append("closed")

    resp.content_type, resp.stream = content_type, File()


def on_sanic(server: Callable[[Any], Served], handler: Callable[..., Any]) -> Callable[..., Served]:
    def served(
        sessions: AsyncSessions, talk: Talk, *, content_type: str = EVENTS, **options: Any
    ) -> Served:
        async def who(request: Any) -> HTTPResponse:
            return HTTPResponse(f"{current().subject} {this_task().cancelling()}")

        app = new_app()
        sanic.setup(app, sessions, sweep=None, **options)
        app.add_route(partial(handler, talk, content_type), "/events", name="events")
        app.add_route(who, "/who")
        return server(app)

    return served


async def by_respond(talk: Talk, content_type: str, request: Any) -> None:
    talk.begin()
    response = await request.respond(content_type=content_type)
    await talk.say(response.send)


async def by_header(talk: Talk, content_type: str, request: Any) -> None:
    response = await request.respond(headers={"Content-Type": content_type})
    await talk.say(response.send)


async def by_response_stream(talk: Talk, content_type: str, request: Any) -> ResponseStream:
    async def events(response: Any) -> None:
        await talk.say(response.write)

    return ResponseStream(events, content_type=content_type)


EVERY = {
    "Falcon's sse": on_falcon(with_sse),
    "Falcon's stream": on_falcon(with_stream),
    "Falcon's file": on_falcon(with_file),
    "Sanic": on_sanic(on_sanics_server, by_respond),
    "Sanic, by a header": on_sanic(on_sanics_server, by_header),
    "Sanic's ResponseStream": on_sanic(on_sanics_server, by_response_stream),
    "Sanic under ASGI": on_sanic(uvicorned, by_respond),
    "Sanic's ResponseStream under ASGI": on_sanic(uvicorned, by_response_stream),
}
SANIC = ["Sanic", "Sanic's ResponseStream", "Sanic under ASGI"]
STREAMS = ["Falcon's stream", *SANIC]
DIFFERENT = ["Falcon's sse", *STREAMS]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def ask(self, path: str, cookie: str | None) -> None:
        shown = f"Cookie: {cookie}\r\n" if cookie else ""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n{shown}\r\n".encode())

    async def reads(self, text: bytes) -> bytes:
        """All up to this, and no more."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readuntil(text)

    async def reads_the_end(self) -> None:
        """Nothing but the last chunk."""
        assert END == await self.reads(END)

    async def leave(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


@asynccontextmanager
async def listening(name: str, site: Site, talk: Talk, **options: Any) -> AsyncIterator[Client]:
    """A client that has heard the first event."""
    async with EVERY[name](site.sessions, talk, **{"watch": True, **options}) as port:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        client.ask("/events", site.cookie)
        talk.words.put_nowait("hello")
        await client.reads(b"data: hello\n\n\r\n")
        try:
            yield client
        finally:
            await client.leave()
            talk.words.put_nowait("bye")


async def end(site: Site) -> None:
    await site.rounds.turn()
    await site.request(logout)
    await site.rounds.turn()


async def gone(talk: Talk) -> None:
    """The handler, and the watch."""
    await until(lambda: talk.left and not _watchers)
    await settled()
    assert [] == [name for name in others() if name.startswith("coatcheck")]


@pytest.mark.parametrize("name", EVERY)
def test_they_end_with_the_session_while_the_handler_waits(name: str) -> None:
    """The client sees the last chunk; the handler is cancelled, and what it left open is closed."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk) as client:
            await end(site)
            await client.reads_the_end()
            await gone(talk)
            assert ["closed" if name == "Falcon's file" else "CancelledError"] == talk.left

    run(scenario)


@pytest.mark.parametrize("name", ["Falcon's sse", "Sanic"])
def test_a_login_of_the_request_is_watched(name: str) -> None:
    """From its commit on."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        talk.logs_in = True
        async with listening(name, site, talk) as client:
            await site.rounds.turn()
            assert 1 == await site.sessions.revoke_all("user:42")
            await site.rounds.turn()
            await client.reads_the_end()
            await gone(talk)

    run(scenario)


@pytest.mark.parametrize("name", STREAMS)
def test_another_stream_goes_on(name: str) -> None:
    """A download is not cut."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk, content_type="text/plain") as client:
            assert {} == _watchers
            await site.request(logout)
            talk.words.put_nowait("more")
            assert b"data: more" in await client.reads(b"\n\n\r\n")

    run(scenario)


@pytest.mark.parametrize("name", ["Falcon's sse", "Falcon's stream", "Sanic"])
def test_neither_an_anonymous_one_nor_one_that_is_off_is_watched(name: str) -> None:
    """It goes on."""

    async def scenario() -> None:
        for options in ({}, {"watch": False}):
            site, talk = Site(), Talk()
            if options:
                await site.login()
            async with listening(name, site, talk, **options) as client:
                assert {} == _watchers
                await site.request(logout)
                talk.words.put_nowait("more")
                assert b"data: more" in await client.reads(b"\n\n\r\n")

    run(scenario)


@pytest.mark.parametrize("name", DIFFERENT)
def test_one_that_ends_by_itself_leaves_nothing(name: str) -> None:
    """Neither a task nor a watch; the client sees the same end."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk) as client:
            assert 1 == len(_watchers)
            talk.words.put_nowait("bye")
            await client.reads_the_end()
            await gone(talk)

    run(scenario)


@pytest.mark.parametrize("name", DIFFERENT)
def test_one_that_fails_leaves_nothing(name: str) -> None:
    """Its error is its own."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk):
            talk.words.put_nowait("fail")
            await gone(talk)
            assert ["closed" if name == "Falcon's file" else "ZeroDivisionError"] == talk.left

    run(scenario)


@pytest.mark.parametrize("name", ["Falcon's sse", "Sanic", "Sanic's ResponseStream"])
def test_a_client_that_leaves_ends_the_watch(name: str) -> None:
    """As soon as the framework knows: Falcon asks after each event."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk) as client:
            await client.leave()
            await settled()
            talk.words.put_nowait("more")
            await gone(talk)
            assert 1 == len(await site.sessions.list_for("user:42"))

    run(scenario)


@pytest.mark.parametrize("name", ["Falcon's stream", "Sanic under ASGI"])
def test_where_nobody_tells_that_the_client_left_the_session_ends_it(name: str) -> None:
    """Neither Falcon's streams nor Sanic under ASGI listen for it."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk) as client:
            await client.leave()
            await end(site)
            await gone(talk)

    run(scenario)


@pytest.mark.parametrize("name", ["Falcon's sse", "Sanic"])
def test_an_outage_ends_nothing(name: str) -> None:
    """It is not a logout."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk) as client:
            site.store.error = StoreUnavailable("down")
            await site.rounds.turn(2)
            talk.words.put_nowait("more")
            assert b"data: more" in await client.reads(b"\n\n\r\n")
            site.store.error = None

    run(scenario)


@pytest.mark.parametrize("name", ["Falcon's sse", "Falcon's stream"])
def test_a_generator_that_does_not_stop_is_closed(name: str) -> None:
    """What it still makes goes to nobody."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        talk.last = "still here"
        async with listening(name, site, talk) as client:
            await end(site)
            await client.reads_the_end()
            await gone(talk)
            assert ["GeneratorExit"] == talk.left

    run(scenario)


@pytest.mark.parametrize("name", SANIC)
def test_what_sanics_handler_still_sends_raises(name: str) -> None:
    """As where the client has gone."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        talk.last = "still here"
        async with listening(name, site, talk) as client:
            await end(site)
            await client.reads_the_end()
            await gone(talk)
            assert [RequestCancelled.__name__] == talk.left

    run(scenario)


@pytest.mark.parametrize("name", ["Sanic", "Sanic's ResponseStream"])
@pytest.mark.parametrize("word", ["bye", "fail"])
def test_sanics_connection_goes_on_after_them(name: str, word: str) -> None:
    """Nothing is left of them there: its task serves the next request."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening(name, site, talk) as client:
            talk.words.put_nowait(word)
            await client.reads_the_end()
            await gone(talk)
            client.ask("/who", site.cookie)
            await client.reads(b"user:42 0")

    run(scenario)


@pytest.mark.parametrize("word", ["bye", "fail"])
def test_sanics_connection_goes_on_where_the_handler_was_cancelled_in_vain(word: str) -> None:
    """Its task is as if it had not been."""

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        talk.last = word
        async with listening("Sanic", site, talk) as client:
            await end(site)
            await client.reads_the_end()
            await gone(talk)
            client.ask("/who", None)
            await client.reads(b"None 0")

    run(scenario)


def test_a_client_that_reads_nothing_does_not_hold_sanics_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last chunk cannot be written then."""
    monkeypatch.setattr("coatcheck.web.sanic.events.GOODBYE", 0.01)

    async def scenario() -> None:
        site, talk = Site(), Talk()
        await site.login()
        async with listening("Sanic", site, talk):
            for _ in range(3):
                talk.words.put_nowait("x" * 8_000_000)
            await settled()
            await end(site)
            await gone(talk)
            assert ["CancelledError"] == talk.left

    run(scenario)
