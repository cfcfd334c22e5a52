"""A master that dies behind a site: Sentinels and a Cluster put another in its place.

Seen from outside, sync and async: while nobody leads, a request that uses its session gets a 503
in time and keeps its cookie; afterwards the next request works without a restart of the app, what
was answered before is there, and a session whose end was confirmed stays ended.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck import Session
from tests.outside import Answer, Browser, Site
from tests.services import redis
from tests.services.process import until
from tests.stopwatch import Stopwatch

LIMIT, SLACK = 1.5, 0.5


def put(key: str, value: Any) -> Callable[[Session], None]:
    return lambda session: session.__setitem__(key, value)


def use(session: Session) -> None:
    session.get("a")


class Watched:
    """Sentinels and their master."""

    def __init__(self, folder: Path) -> None:
        self.servers = redis.Sentinels().start()
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.servers.sentinel_ports)
        self.url = f"redis+sentinel://{hosts}/{self.servers.service_name}/0?{_prefix(folder)}"

    def master_of(self, cookie: str | None) -> redis.Redis:
        return self.servers.master()

    def close(self) -> None:
        self.servers.stop()


class Clustered:
    """Three masters, each with a replica."""

    def __init__(self, folder: Path) -> None:
        self.servers = redis.Cluster().start()
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.servers.ports)
        self.url = f"redis+cluster://{hosts}?{_prefix(folder)}"
        self._key = redis.prefix(folder)

    def master_of(self, session_id: str | None) -> redis.Redis:
        return self.servers.master_of(f"{self._key}{session_id}")

    def close(self) -> None:
        self.servers.stop()


def _prefix(folder: Path) -> str:
    return f"prefix={redis.prefix(folder)}"


@pytest.fixture(params=[Watched, Clustered])
def group(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched | Clustered]:
    made = request.param(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("framework", ["wsgi", "asgi"])
def test_a_master_that_dies_is_replaced(
    framework: str, group: Watched | Clustered, tmp_path: Path
) -> None:
    """503 and the cookie kept meanwhile; then all is there that was, and the ended stays ended."""
    with Site(framework, "memory", tmp_path, url=group.url) as site:
        owner, leaver = site.browser(), site.browser()
        for browser in (owner, leaver):
            browser.login()
            browser.visit(put("a", 1))
        thief, cookie, ids = leaver.copy(), owner.cookie, _ids(owner)
        leaver.logout()
        master = group.master_of(ids[0])
        until(lambda: _has_all(group, master), "a replica with all of it")
        master.service.kill()
        met = _timed(lambda: owner.visit(use))
        served = owner.visit(lambda session: None).status
        group.servers.wait_until_healed()

        assert (503, [], 200, cookie) == (met.status, met.cookies, served, owner.cookie)
        assert ("user:42", {"a": 1}) == owner.seen()
        assert (None, {}) == thief.seen()
        owner.visit(put("b", 2))
        assert ("user:42", {"a": 1, "b": 2}) == owner.seen()


def _ids(browser: Browser) -> list[str]:
    found: list[str] = []
    browser.visit(lambda session: found.append(str(session.id)))
    return found


def _has_all(group: Watched | Clustered, master: redis.Redis) -> bool:
    """Whether a replica has what the master has; it is asked as WAIT asks."""
    return bool(master.ask("WAIT", 1, 100))


def _timed(call: Callable[[], Answer]) -> Answer:
    with Stopwatch() as watch:
        answer = call()
    assert watch.seconds < 2 * LIMIT + SLACK
    return answer
