"""Real servers over loopback, one and several worker processes on one SQLite file."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers.running import PATIENCE, Server, running

UVICORN = ["-m", "uvicorn", "tests.servers.asgi_app:app", "--port", "0", "--log-level", "info"]
GUNICORN = ["-m", "gunicorn", "tests.servers.wsgi_app:app", "--bind", "127.0.0.1:0"]
# No worker of gunicorn's may take all fifty connections, but the two together can.
THREADS = ["--threads", "30", "--worker-connections", "30"]
COMMANDS = {
    "uvicorn": (1, UVICORN),
    "uvicorn, 2 workers": (2, [*UVICORN, "--workers", "2"]),
    "gunicorn, 2 workers": (2, [*GUNICORN, "--workers", "2", *THREADS]),
}
SEVERAL = [name for name, (workers, _) in COMMANDS.items() if workers > 1]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass
class Site:
    """A server that runs, and the file that its workers share."""

    server: Server
    port: int
    file: Path
    workers: int

    async def ask(
        self,
        path: str,
        cookie: str = "",
        wait: Callable[[], Awaitable[object]] | None = None,
    ) -> Answer:
        """One request on a connection of its own; `wait` holds its body back.

        It says `Expect: 100-continue`, so its session is being opened when `wait` is called.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n"
            head += "Expect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            assert b"100" in await reader.readuntil(b"\r\n\r\n")
            if wait is not None:
                await wait()
            writer.write(b"body")
            return _parsed(await reader.read())
        finally:
            writer.close()

    def visit(self, path: str, cookie: str = "") -> Answer:
        return asyncio.run(asyncio.wait_for(self.ask(path, cookie), PATIENCE))

    def together(self, paths: Sequence[str], cookie: str) -> list[Answer]:
        """All at once: no body comes before every request is open."""

        async def main() -> list[Answer]:
            open_all = asyncio.Barrier(len(paths))
            asking = [self.ask(path, cookie, open_all.wait) for path in paths]
            return await asyncio.wait_for(asyncio.gather(*asking), PATIENCE)

        return asyncio.run(main())

    def everywhere(self, path: str, cookie: str = "") -> set[str]:
        """What the workers answer, asked until every one of them has."""
        deadline, answers = time.monotonic() + PATIENCE, list[Answer]()
        while len({answer.header("x-worker") for answer in answers}) < self.workers:
            assert time.monotonic() < deadline, "a worker never answered"
            with suppress(ConnectionRefusedError):
                answers += self.together([path] * 8, cookie)
        return {answer.body for answer in answers}

    def login(self, subject: str) -> str:
        """A new session's cookie."""
        return cookie_of(self.visit(f"/login/{subject}"))

    def integrity(self) -> str:
        with closing(sqlite3.connect(self.file, timeout=PATIENCE)) as connection:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def _parsed(raw: bytes) -> Answer:
    head, _, body = raw.decode().partition("\r\n\r\n")
    if not head:
        raise ConnectionResetError("the server went away without an answer")
    status, *lines = head.split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return Answer(int(status.split()[1]), headers, body)


def cookie_of(answer: Answer) -> str:
    return answer.header("set-cookie").partition(";")[0]


@pytest.fixture(scope="module", params=COMMANDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Each server, started once for all tests here."""
    yield from served(str(request.param), tmp_path_factory.mktemp("server"))


@pytest.fixture(params=SEVERAL)
def workers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Each server of several workers, one for this test alone."""
    yield from served(str(request.param), tmp_path)


def served(name: str, folder: Path) -> Iterator[Site]:
    file = folder / "sessions.sqlite3"
    workers, command = COMMANDS[name]
    with running(command, folder, COATCHECK_TEST_FILE=str(file)) as server:
        site = Site(server, server.wait_for_port(), file, workers)
        site.everywhere("/read/")
        yield site


def test_log_in_move_about_log_out(site: Site) -> None:
    """A whole visit, from the first page to a dead cookie."""
    anonymous = cookie_of(site.visit("/put/tea"))
    mine = cookie_of(site.visit("/login/user:1", anonymous))
    bodies = [site.visit(path, mine).body for path in ("/put/milk", "/edit/n", "/read/")]
    leaving = site.visit("/logout/", mine)

    assert ["done", "done", "user:1 milk=True n=1 tea=True"] == bodies
    assert "Max-Age=0" in leaving.header("set-cookie")
    assert ["None", "None"] == [site.visit("/read/", cookie).body for cookie in (anonymous, mine)]


def test_fifty_concurrent_requests_that_set_fifty_keys_lose_none(site: Site) -> None:
    """All of them are open before the first of them goes on."""
    cookie = site.login("user:2")
    answers = site.together([f"/put/key{number:02}" for number in range(50)], cookie)

    assert [200] * 50 == [answer.status for answer in answers]
    expected = ["user:2", *(f"key{number:02}=True" for number in range(50))]
    assert expected == site.visit("/read/", cookie).body.split()


def test_fifty_concurrent_edits_of_one_counter_count_fifty(site: Site) -> None:
    """Across the workers that share the file."""
    cookie = site.login("user:3")
    answers = site.together(["/edit/count"] * 50, cookie)

    assert [200] * 50 == [answer.status for answer in answers]
    assert "user:3 count=50" == site.visit("/read/", cookie).body


def test_a_logout_ends_the_session_for_every_worker(workers: Site) -> None:
    """Whichever of them is asked afterwards, and whatever was under way meanwhile."""
    cookie = workers.login("user:4")
    workers.together(["/logout/", *(f"/put/key{number}" for number in range(20))], cookie)

    assert {"None"} == workers.everywhere("/read/", cookie)


def test_a_worker_killed_in_the_middle_of_writes_loses_nothing(workers: Site) -> None:
    """All that a client had its answer for is there, and the file is whole."""
    cookies = [workers.login(f"user:{number}") for number in range(8)]
    acknowledged = asyncio.run(asyncio.wait_for(_write_and_kill(workers, cookies), PATIENCE))

    for cookie, keys in zip(cookies, acknowledged, strict=True):
        stored = {pair.partition("=")[0] for pair in workers.visit("/read/", cookie).body.split()}
        assert set() == keys - stored
    assert "ok" == workers.integrity()


async def _write_and_kill(site: Site, cookies: list[str]) -> list[set[str]]:
    """Write to every session at once, kill a worker that writes; the keys that had an answer."""
    acknowledged: list[set[str]] = [set() for _ in cookies]
    killed: set[int] = set()
    failed = 0

    async def write(cookie: str, keys: set[str], number: int) -> None:
        nonlocal failed
        for key in (f"key{number}-{count}" for count in range(30)):
            try:
                answer = await site.ask(f"/put/{key}", cookie)
            except (OSError, asyncio.IncompleteReadError):
                failed += 1
                continue
            assert 200 == answer.status
            keys.add(key)
            if not killed and sum(map(len, acknowledged)) >= 100:
                worker = int(answer.header("x-worker"))
                killed.add(worker)
                os.kill(worker, signal.SIGKILL)

    # Two writers of each session, so that they also meet each other.
    writers = [
        write(cookie, keys, number)
        for cookie, keys in zip(cookies, acknowledged, strict=True)
        for number in range(2)
    ]
    await asyncio.gather(*writers)
    assert 1 == len(killed)
    assert failed < 200
    return acknowledged
