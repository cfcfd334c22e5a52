"""`watch=True` behind each framework: a stream of events over loopback ends with its session."""

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from io import BytesIO
from typing import Any

import httpx
import pytest
import quart
from aiohttp import web
from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped]
from django.http import StreamingHttpResponse  # type: ignore[import-untyped]
from django.test import override_settings  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from coatcheck import AsyncSessions, Sessions, StoreUnavailable, current
from coatcheck.watching import _watchers
from coatcheck.web import aiohttp, tornado
from coatcheck.web.quart import CoatcheckSessionInterface
from tests.frameworks.test_watched_sockets import end, until, uvicorned
from tests.outside.frameworks.django import handler_of
from tests.test_watching import PATIENCE, Fickle, Site, run, settled

Served = AbstractAsyncContextManager[int]

BEAT = b"data: beat\n\n"


class Feed:
    """What the app is to stream, and what it said when it left."""

    def __init__(self, kind: str = "text/event-stream; charset=utf-8", subject: str = "") -> None:
        self.kind = kind
        self.subject = subject  # who logs in, by the request for the stream
        self.left: list[str] = []
        self.closed = 0  # how often Tornado said that the client has gone
        self._next: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, part: Any = BEAT) -> None:
        self._next.put_nowait(part)

    async def part(self) -> bytes:
        """None is the end; what is an error is raised."""
        part = await self._next.get()
        if part is asyncio.CancelledError:
            this = asyncio.current_task()
            assert this is not None
            this.cancel()
            await asyncio.get_running_loop().create_future()
        if isinstance(part, Exception):
            raise part
        assert part is None or isinstance(part, bytes)
        return part or b""

    def goes_on(self) -> bool:
        """There is more to send, until the app has noticed that nobody is there."""
        self.put()
        return not self.left

    def log_in(self) -> None:
        if self.subject:
            current().login(self.subject)

    def leave(self, error: BaseException | None = None) -> None:
        self.left.append("ended" if error is None else type(error).__name__)


@asynccontextmanager
async def aiohttp_served(
    handler: Any, sessions: AsyncSessions, **options: Any
) -> AsyncIterator[int]:
    app, runs = web.Application(), options.pop("runs", {})
    aiohttp.setup(app, sessions, sweep=None, **options)
    app.router.add_get("/events", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **runs)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def with_aiohttp(
    sessions: AsyncSessions, feed: Feed, *, compressed: bool = False, **options: Any
) -> Served:
    async def events(request: web.Request) -> web.StreamResponse:
        feed.log_in()
        response = web.StreamResponse(headers={"Content-Type": feed.kind})
        if compressed:
            response.enable_compression()
        await response.prepare(request)
        try:
            while part := await feed.part():
                await response.write(part)
            feed.leave()
        except BaseException as error:
            feed.leave(error)
            raise
        return response

    return aiohttp_served(events, sessions, **options)


class Beating(web.StreamResponse):
    """As aiohttp-sse has it: it writes by itself, in a task of its own."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(headers={"Content-Type": feed.kind})
        self._feed = feed
        self.beating: asyncio.Task[None]

    async def prepare(self, request: Any) -> Any:
        is_first = not self.prepared
        writer = await super().prepare(request)
        if is_first:
            self.beating = asyncio.create_task(self._beat())
        return writer

    async def _beat(self) -> None:
        try:
            while part := await self._feed.part():
                await self.write(part)
        except ConnectionResetError as error:
            self._feed.leave(error)


def with_aiohttps_subclass(sessions: AsyncSessions, feed: Feed, **options: Any) -> Served:
    async def events(request: web.Request) -> web.StreamResponse:
        response = Beating(feed)
        await response.prepare(request)
        await response.beating
        return response

    return aiohttp_served(events, sessions, **options)


def with_tornado(
    sessions: AsyncSessions, feed: Feed, *, compressed: bool = False, **options: Any
) -> Served:
    class Events(tornado.SessionMixin, RequestHandler):
        async def get(self) -> None:
            feed.log_in()
            self.set_header("Content-Type", feed.kind)
            try:
                await self.flush()
                while part := await feed.part():
                    self.write(part)
                    await self.flush()
                feed.leave()
            except BaseException as error:
                feed.leave(error)
                raise

        def on_connection_close(self) -> None:
            feed.closed += 1

    app = Application([("/events", Events)], compress_response=compressed)
    return tornado_served(app, sessions, **options)


@asynccontextmanager
async def tornado_served(
    app: Application, sessions: AsyncSessions, **options: Any
) -> AsyncIterator[int]:
    tornado.setup(app, sessions, sweep=None, **options)
    server, sockets = HTTPServer(app), bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    yield sockets[0].getsockname()[1]
    server.stop()
    await server.close_all_connections()


def with_quart(sessions: AsyncSessions, feed: Feed, **options: Any) -> Served:
    app: Any = quart.Quart(__name__)
    app.session_interface = CoatcheckSessionInterface(sessions, sweep=None, **options)

    async def events() -> Any:
        feed.log_in()

        @quart.stream_with_context
        async def parts() -> AsyncIterator[bytes]:
            try:
                while part := await feed.part():
                    yield part
                feed.leave()
            except BaseException as error:
                feed.leave(error)
                raise

        response: Any = await quart.make_response(parts(), {"Content-Type": feed.kind})
        response.timeout = None
        return response

    app.add_url_rule("/events", view_func=events)
    return uvicorned(app)


def with_django(sessions: AsyncSessions, feed: Feed, **options: Any) -> Served:
    async def events(request: Any) -> Any:
        feed.log_in()

        async def parts() -> AsyncIterator[bytes]:
            try:
                while part := await feed.part():
                    yield part
                feed.leave()
            except BaseException as error:
                feed.leave(error)
                raise

        return StreamingHttpResponse(parts(), content_type=feed.kind)

    return django_served(events, sessions, **options)


class Bodiless(ASGIHandler):  # type: ignore[misc]
    """Where a stream raises, Django leaves the temporary file of the request's body open."""

    async def read_body(self, receive: Any) -> BytesIO:
        await receive()
        return BytesIO()


@asynccontextmanager
async def django_served(view: Any, sessions: Any, **options: Any) -> AsyncIterator[int]:
    handler = handler_of(Bodiless, sessions, options.pop("inside", ()), **options)
    with override_settings(ROOT_URLCONF=(path("events", view),)):
        async with uvicorned(handler) as port:
            yield port


FRAMEWORKS: dict[str, Callable[..., Served]] = {
    "aiohttp": with_aiohttp,
    "Tornado": with_tornado,
    "Quart": with_quart,
    "Django": with_django,
}
SERVED = FRAMEWORKS | {"aiohttp, a subclass": with_aiohttps_subclass}
ENDED = {
    "aiohttp": "ClientConnectionResetError",
    "aiohttp, a subclass": "ClientConnectionResetError",
    "Tornado": "StreamClosedError",
    "Quart": "CancelledError",
    "Django": "CancelledError",
}


class Wire:
    """A stream of events, as a browser has it."""

    def __init__(self, response: httpx.Response) -> None:
        self.cookie = response.headers.get("Set-Cookie")
        self.parts = response.aiter_raw()
        self.first: bytes

    async def rest(self) -> bytes:
        """All that is to come. An end that is not clean raises."""
        async with asyncio.timeout(PATIENCE):
            return b"".join([part async for part in self.parts])


@asynccontextmanager
async def streamed(site: Site, port: int, feed: Feed) -> AsyncIterator[Wire]:
    """A stream whose first part has come."""
    feed.put()
    headers = {"Cookie": site.cookie} if site.cookie else {}
    async with (
        httpx.AsyncClient(verify=False, timeout=PATIENCE) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/events", headers=headers) as response,
    ):
        wire = Wire(response)
        wire.first = await anext(wire.parts)
        yield wire


@pytest.mark.parametrize("name", SERVED)
def test_a_stream_ends_when_its_session_does(name: str) -> None:
    """The client sees a clean end, and the app what it would see if the client had gone."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with SERVED[name](site.sessions, feed, watch=True) as port:
            async with streamed(site, port, feed) as wire:
                await end(site)
                assert b"" == await wire.rest()
                feed.put()
                await until(lambda: feed.left and not _watchers)
            assert [ENDED[name]] == feed.left

    run(scenario)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_is_watched_as_it_was_committed(name: str) -> None:
    """Somebody logs in by the request for the stream."""

    async def scenario() -> None:
        site, feed = Site(), Feed(subject="user:42")
        async with (
            FRAMEWORKS[name](site.sessions, feed, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            assert wire.cookie
            await site.rounds.turn()
            assert 1 == await site.sessions.revoke_all("user:42")
            await site.rounds.turn()
            assert b"" == await wire.rest()
            feed.put()
            await until(lambda: feed.left and not _watchers)

    run(scenario)


OTHERS = {
    "another type": (Feed("text/plain"), True, {"watch": True}),
    "off by default": (Feed(), True, {}),
    "anonymous": (Feed(), False, {"watch": True}),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_others_go_on(name: str, other: str) -> None:
    """A download is not cut; nobody looks after what is not watched."""

    async def scenario() -> None:
        site, (feed, is_logged_in, options) = Site(), OTHERS[other]
        feed = Feed(feed.kind)
        if is_logged_in:
            await site.login()
        async with (
            FRAMEWORKS[name](site.sessions, feed, **options) as port,
            streamed(site, port, feed) as wire,
        ):
            assert {} == _watchers
            if is_logged_in:
                await site.sessions.revoke_all("user:42")
            feed.put()
            assert BEAT == await anext(wire.parts)
            feed.put(None)
            assert (b"", ["ended"]) == (await wire.rest(), feed.left)

    run(scenario)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_outage_ends_nothing(name: str) -> None:
    """And the stream ends by itself, after which nothing is left of the watch."""

    async def scenario() -> None:
        site, feed = Site(Fickle()), Feed()
        await site.login()
        async with (
            FRAMEWORKS[name](site.sessions, feed, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            site.store.error = StoreUnavailable("down")
            await site.rounds.turn()
            feed.put()
            assert BEAT == await anext(wire.parts)
            feed.put(None)
            assert b"" == await wire.rest()
            await until(lambda: not _watchers)
            assert ["ended"] == feed.left

    run(scenario)


@pytest.mark.parametrize("way", ["left", "raised", "was cancelled"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_nothing_is_left_of_the_watch(name: str, way: str) -> None:
    """Whether the client left, or the app failed."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with FRAMEWORKS[name](site.sessions, feed, watch=True) as port:
            async with streamed(site, port, feed):
                assert 1 == len(_watchers)
                if way == "raised":
                    feed.put(ValueError())
                    await until(lambda: feed.left and not _watchers)
                elif way == "was cancelled":  # an older Tornado finishes nothing then
                    feed.put(asyncio.CancelledError)
                    await until(lambda: feed.left)
            await until(lambda: not feed.goes_on() and not _watchers)
            await settled()  # httpx closes its generators in tasks
            assert 1 == len(await site.sessions.list_for("user:42"))

    run(scenario)


@pytest.mark.parametrize("name", ["aiohttp", "Tornado"])
def test_a_client_without_chunks_sees_the_end_as_well(name: str) -> None:
    """To HTTP/1.0, as many a proxy speaks it, the connection's end is that of the response."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with FRAMEWORKS[name](site.sessions, feed, watch=True) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            feed.put()
            writer.write(f"GET /events HTTP/1.0\r\nCookie: {site.cookie}\r\n\r\n".encode())
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            assert BEAT == await reader.readexactly(len(BEAT))
            await end(site)
            async with asyncio.timeout(PATIENCE):
                assert b"" == await reader.read()
            writer.close()
            feed.put()
            await until(lambda: feed.left and not _watchers)

    run(scenario)


@pytest.mark.parametrize("name", ["aiohttp", "Tornado"])
def test_what_is_compressed_is_whole(name: str) -> None:
    """What is being compressed, which aiohttp does in a thread, and the compression's own end."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        much = random.Random(0).randbytes(2_000_000)  # which takes a moment
        async with (
            FRAMEWORKS[name](site.sessions, feed, compressed=True, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            feed.put(much)
            await settled()
            await end(site)
            read = zlib.decompressobj(wbits=47)
            came = read.decompress(wire.first + await wire.rest())
            assert (len(BEAT + much), True) == (len(came), read.eof)
            feed.put()
            await until(lambda: feed.left and not _watchers)
            assert [ENDED[name]] == feed.left

    run(scenario)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_is_on_its_way_arrives(name: str) -> None:
    """The client reads slowly, so that the app waits for it, and goes on when it has read."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        much = b"x" * 20_000_000
        async with (
            FRAMEWORKS[name](site.sessions, feed, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            feed.put(much)
            feed.put(b"more")
            first = await anext(wire.parts)
            await end(site)
            assert len(much) == len(first + await wire.rest())
            await until(lambda: feed.left and not _watchers)

    run(scenario)


def test_a_body_that_aiohttp_generates_ends_too() -> None:
    """It goes out when the handler is done, and is closed when it is collected."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()

        async def parts() -> AsyncIterator[bytes]:
            while part := await feed.part():
                yield part

        async def events(request: web.Request) -> web.StreamResponse:
            return web.Response(body=parts(), headers={"Content-Type": feed.kind})

        async with (
            aiohttp_served(events, site.sessions, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            await end(site)
            assert b"" == await wire.rest()
            assert 1 == len(_watchers)
            feed.put()
            await until(lambda: not _watchers)

    run(scenario)


def test_aiohttp_cancels_the_handler_where_it_does_so_for_a_client_that_left() -> None:
    """`handler_cancellation=True`: the handler need not write to learn of it."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with (
            with_aiohttp(
                site.sessions, feed, watch=True, runs={"handler_cancellation": True}
            ) as port,
            streamed(site, port, feed) as wire,
        ):
            await end(site)
            assert b"" == await wire.rest()
            await until(lambda: feed.left and not _watchers)
            assert ["CancelledError"] == feed.left

    run(scenario)


def test_aiohttp_keeps_the_connection_of_a_response_that_was_whole() -> None:
    """The handler has work left when the session ends."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()

        async def events(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": feed.kind})
            await response.prepare(request)
            await response.write_eof()
            await feed.part()
            return response

        async with (
            aiohttp_served(events, site.sessions, watch=True) as port,
            two_requests(site, port) as (reader, _),
        ):
            assert b"200 OK" in await reader.readuntil(b"\r\n0\r\n\r\n")
            await end(site)
            feed.put()
            assert b"HTTP/1.1 404" == await reader.readexactly(12)
            await until(lambda: not _watchers)

    run(scenario)


@asynccontextmanager
async def two_requests(
    site: Site, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """For events and for what is not there, one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head(site, "events") + head(site, "missing"))
    async with asyncio.timeout(PATIENCE):
        yield reader, writer
    writer.close()


def head(site: Site, path: str) -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: site\r\nCookie: {site.cookie}\r\n\r\n".encode()


def test_tornado_says_so_by_on_connection_close() -> None:
    """Once. The handler need not write to learn of it."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with with_tornado(site.sessions, feed, watch=True) as port:
            async with streamed(site, port, feed) as wire:
                await end(site)
                assert (b"", 1) == (await wire.rest(), feed.closed)
            feed.put()
            await until(lambda: feed.left and not _watchers)
            assert 1 == feed.closed

    run(scenario)


def test_tornado_watches_nothing_for_a_client_that_left() -> None:
    """Though the handler has not noticed."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with with_tornado(site.sessions, feed, watch=True) as port:
            async with streamed(site, port, feed):
                assert 1 == len(_watchers)
            await until(lambda: not _watchers)
            assert ([], 1) == (feed.left, feed.closed)
            feed.put()
            await until(lambda: feed.left)

    run(scenario)


def test_tornado_serves_the_next_request_of_the_connection() -> None:
    """While the handler of the stream is still there, and writes and finishes."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with (
            with_tornado(site.sessions, feed, watch=True) as port,
            two_requests(site, port) as (reader, writer),
        ):
            feed.put()
            assert BEAT in await reader.readuntil(BEAT)
            await end(site)
            assert b"\r\n0\r\n\r\nHTTP/1.1 404" == await reader.readuntil(b"404")
            feed.put()
            await until(lambda: feed.left and not _watchers)
            assert b"404" in await reader.readuntil(b"</html>")
            writer.write(head(site, "missing"))
            assert b"HTTP/1.1 404" == await reader.readexactly(12)

    run(scenario)


def test_tornado_finishes_once() -> None:
    """The handler does so in the very moment in which the session ends."""

    async def scenario() -> None:
        site = Site()
        await site.login()

        class Events(tornado.SessionMixin, RequestHandler):
            async def get(self) -> None:
                self.set_header("Content-Type", "text/event-stream")
                await self.flush()
                connection: Any = self.request.connection
                connection._guard.over.set_result("ended")
                self.finish()

        async with (
            tornado_served(Application([("/events", Events)]), site.sessions, watch=True) as port,
            two_requests(site, port) as (reader, writer),
        ):
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            assert b"0\r\n\r\nHTTP/1.1 404" == await reader.readuntil(b"404")
            await until(lambda: not _watchers)
            assert b"404" in await reader.readuntil(b"</html>")
            writer.write(head(site, "missing"))
            assert b"HTTP/1.1 404" == await reader.readexactly(12)

    run(scenario)


def test_quart_sends_nothing_of_a_generator_that_goes_on() -> None:
    """It takes no notice of being cancelled."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()

        async def stubborn() -> bytes:
            with suppress(asyncio.CancelledError):
                return await Feed.part(feed)
            del vars(feed)["part"]  # it is so once
            return BEAT

        vars(feed)["part"] = stubborn
        async with (
            with_quart(site.sessions, feed, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            await end(site)
            assert b"" == await wire.rest()
            await until(lambda: feed.left and not _watchers)
            assert ["GeneratorExit"] == feed.left

    run(scenario)


def test_a_time_limit_of_the_apps_is_no_end_of_quarts_session() -> None:
    """The client sees that the response is not whole."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        async with (
            with_quart(site.sessions, feed, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            feed.put(TimeoutError())
            with pytest.raises(httpx.RemoteProtocolError):
                await wire.rest()
            await until(lambda: not _watchers)

    run(scenario)


class Synchronous:
    """A middleware of Django's that knows nothing of coroutines."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self._get_response(request)


@pytest.mark.parametrize("where", ["around", "inside"])
def test_a_synchronous_middleware_of_djangos_makes_no_difference(where: str) -> None:
    """Inside, it makes ours synchronous; around it, ours runs in a task of its own."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()
        pair: Any = Sessions(site.store.memory, clock=site.clock), site.sessions
        others: dict[str, Any] = {where: [f"{__name__}.Synchronous"]}
        async with with_django(pair, feed, watch=True, **others) as port:
            async with streamed(site, port, feed) as wire:
                feed.put()
                assert BEAT == await anext(wire.parts)
                await end(site)
                assert b"" == await wire.rest()
                await until(lambda: feed.left and not _watchers)
            assert ["CancelledError"] == feed.left

    run(scenario)


def test_djangos_response_is_closed_as_ever() -> None:
    """And with it what it iterated, by the close() that Django calls."""

    async def scenario() -> None:
        site, feed = Site(), Feed()
        await site.login()

        class Parts:
            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> bytes:
                return await feed.part()

            def close(self) -> None:
                assert current().subject
                feed.leave()

        async def events(request: Any) -> Any:
            return StreamingHttpResponse(Parts(), content_type=feed.kind)

        async with (
            django_served(events, site.sessions, watch=True) as port,
            streamed(site, port, feed) as wire,
        ):
            await end(site)
            assert b"" == await wire.rest()
            await until(lambda: feed.left and not _watchers)
            assert ["ended"] == feed.left

    run(scenario)
