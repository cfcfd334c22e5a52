"""All orders of two to three requests of one browser: none breaks law 1, 2 or 5.

A request is opened, acts, and is committed; between these anything of another request may come.
Three searches, each exhaustive over its orders:

1. Whole opens and commits, in step with the model of tests/model.py: after every order, each
   cookie ever handed out opens to what the model says, and the store holds nothing else.
2. Single calls to the store, as of several processes: whatever the order of the calls, the end is
   one that some order of whole commits has.
3. Answers that arrive in another order than they were sent, or never. Renewal has a few tests here
   and searches of its own, in tests/test_renewal.py.

What the browser is promised: an answer that minted nothing carries no cookie, so however late it
arrives it changes nothing. Of the answers that carry one, the last to be committed is good (or
deletes). So only where two answers that both carry a cookie overtake each other on the network can
a browser end with a dead token while a live one was on its way; no server can prevent that.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from types import coroutine
from typing import Any

import pytest

from coatcheck import AsyncSessions, Sessions
from coatcheck.events import CopiedCookie
from coatcheck.record import Record
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import Clock
from tests.model import Act, Opened, World
from tests.sites import Browser, Site

Steps = Generator[None, None, None]


def _writes(number: int) -> Act:
    return lambda s: s.__setitem__(f"key{number}", number)


def _switches(number: int) -> Act:
    def act(s: Any) -> None:
        s.logout()
        s.login(f"user:{number}")
        s[f"key{number}"] = number

    return act


def _enters(number: int) -> Act:
    def act(s: Any) -> None:
        s.login(f"user:{number}")
        s[f"key{number}"] = number
        s.edit("n", lambda n: n + 1, default=100)

    return act


def _leaves_a_word(number: int) -> Act:
    def act(s: Any) -> None:
        s.logout()
        s.flash(f"Goodbye {number}")

    return act


def _edits_what_is_there(s: Any) -> None:
    if "same" in s:
        s.edit("same", lambda n: n + 10)


def _appends(number: int) -> Act:
    return lambda s: s["list"].append(number) if "list" in s else None


VERBS: dict[str, Callable[[int], list[Act]]] = {
    "does nothing": lambda number: [lambda s: None],
    "reads": lambda number: [lambda s: s.get("n")],
    "writes": lambda number: [_writes(number)],
    "assigns": lambda number: [lambda s: s.__setitem__("same", number)],
    "edits": lambda number: [lambda s: s.edit("n", lambda n: n + 1, default=0)],
    "edits what is there": lambda number: [_edits_what_is_there],
    "changes in place": lambda number: [_appends(number)],
    "removes": lambda number: [lambda s: s.pop("same", None)],
    "flashes": lambda number: [lambda s: s.flash(f"message {number}")],
    "reads messages": lambda number: [lambda s: s.flashes()],
    "clears": lambda number: [lambda s: s.clear()],
    "logs in": lambda number: [lambda s: s.login("user:42")],
    "logs in as its own": lambda number: [_enters(number)],
    "logs out": lambda number: [lambda s: s.logout()],
    "logs out with a word": lambda number: [_leaves_a_word(number)],
    "switches": lambda number: [_switches(number)],
    "rotates": lambda number: [lambda s: s.rotate()],
    "saves early and late": lambda number: [
        _writes(number),
        lambda s: s.edit("n", lambda n: n + 1, default=0),
    ],
}
STARTS: dict[str, Act] = {
    "anonymous": lambda s: s.update(n=0, same=0, list=[]),
    "logged in": lambda s: (s.update(n=0, same=0, list=[]), s.login("user:42"), None)[-1],
}
PAIRS = list(combinations_with_replacement(VERBS, 2))
CORE = (
    "reads",
    "writes",
    "edits",
    "logs in",
    "logs in as its own",
    "logs out",
    "switches",
    "rotates",
)


def orders(*lengths: int) -> Iterator[tuple[int, ...]]:
    """Every order of these many steps of each request, its own steps in turn."""
    if not any(lengths):
        yield ()
    for index, left in enumerate(lengths):
        if left:
            shorter = [*lengths[:index], left - 1, *lengths[index + 1 :]]
            yield from ((index, *rest) for rest in orders(*shorter))


def test_orders_are_all_there() -> None:
    """Two requests of two steps have six orders, three have ninety."""
    assert {(0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0)} < set(orders(2, 2))
    assert (6, 90) == (len(set(orders(2, 2))), len(set(orders(2, 2, 2))))


# 1. Whole opens and commits, beside the model.


class Tab:
    """Requests that share a browser's cookie, or hold on to the one they began with."""

    def __init__(self, world: World, cookie: str | None, *, replays: bool) -> None:
        self.world, self.first, self.cookie, self.replays = world, cookie, cookie, replays

    def request(self, verb: str, number: int) -> Steps:
        """Opened by the first step, committed by each further one."""
        opened = self.begin(verb, number)
        first, *more = VERBS[verb](number)
        self.world.act(opened, first, verb)
        yield
        for act in more:
            self.receive(self.world.commit(opened))
            self.world.act(opened, act, "edits, after an early commit")
            yield
        self.receive(self.world.commit(opened))
        yield

    def begin(self, verb: str, number: int) -> Opened:
        return self.world.open(self.first if self.replays else self.cookie, f"request {number}")

    def receive(self, given: str | None) -> None:
        if given is not None:
            self.cookie = given or None


def pause(world: World) -> Steps:
    """Time passes: the old token is mute no more, and last-seen is due."""
    world.move(200)
    yield


def started(start: str, store: MemoryStore | None = None) -> tuple[World, str | None]:
    """A browser that has been here once."""
    world = World(Site("memory", Path(), store=store))
    opened = world.open(None, "the first visit")
    world.act(opened, STARTS[start], f"becomes {start}")
    return world, world.commit(opened)


def lengths(verbs: Sequence[str]) -> list[int]:
    return [1 + len(VERBS[verb](0)) for verb in verbs]


def play(
    start: str,
    verbs: Sequence[str],
    order: Sequence[int],
    *,
    replays: bool,
    pauses: bool = False,
    store: MemoryStore | None = None,
) -> World:
    """One order of these requests, checked at its end."""
    world, cookie = started(start, store)
    tab = Tab(world, cookie, replays=replays)
    requests = [tab.request(verb, number) for number, verb in enumerate(verbs, 1)]
    if pauses:
        requests.append(pause(world))
    for index in order:
        next(requests[index])
    world.check()
    return world


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("replays", [False, True], ids=["one jar", "replayed"])
def test_no_order_of_two_requests_breaks_a_law(start: str, replays: bool) -> None:
    """Every pair of verbs, with the browser's own cookie or an old one replayed."""
    for verbs in PAIRS:
        for order in orders(*lengths(verbs)):
            play(start, verbs, order, replays=replays)


@pytest.mark.parametrize("first", VERBS)
def test_no_order_of_two_requests_and_a_pause_breaks_a_law(first: str) -> None:
    """The same where the minute of muteness ends, and last-seen falls due, at any moment."""
    for verbs in (pair for pair in PAIRS if pair[0] == first):
        for order in orders(*lengths(verbs), 1):
            play("anonymous", verbs, order, replays=True, pauses=True)


@pytest.mark.parametrize("first", CORE)
def test_no_order_of_three_requests_breaks_a_law(first: str) -> None:
    """Each triple of the verbs that can harm each other, all ninety orders of it."""
    for rest in combinations_with_replacement(CORE[CORE.index(first) :], 2):
        for order in orders(2, 2, 2):
            play("anonymous", (first, *rest), order, replays=True)


@pytest.mark.parametrize("third", VERBS)
def test_no_order_of_a_login_a_logout_and_a_third_breaks_a_law(third: str) -> None:
    """The two that end a token, and any request beside them, in one jar."""
    verbs = ("logs in", "logs out", third)
    for order in orders(*lengths(verbs)):
        play("anonymous", verbs, order, replays=False)


class Upserting(MemoryStore):
    """A planted fault: a save creates."""

    def save(self, record: Record, expected: bytes, now: int) -> Any:
        if self.load(record.id, now) is None:
            self.create(record, now)
        return super().save(record, expected, now)


class LastWins(MemoryStore):
    """A planted fault: the revision is not compared."""

    def save(self, record: Record, expected: bytes, now: int) -> Any:
        found = self.load(record.id, now)
        return super().save(record, found.revision if found else expected, now)


class Undying(MemoryStore):
    """A planted fault: a delete is forgotten."""

    def delete(self, id: str, now: int) -> bool:
        return self.load(id, now) is not None


@pytest.mark.parametrize(
    ("fault", "verbs"),
    [
        (Upserting, ("logs out", "writes")),
        (LastWins, ("writes", "writes")),
        (LastWins, ("logs in", "writes")),
        (Undying, ("logs out", "reads")),
    ],
)
def test_the_search_finds_a_planted_break(fault: type[MemoryStore], verbs: tuple[str, str]) -> None:
    """A store that breaks its contract is found, and the trace can be read."""

    def search() -> None:
        for order in orders(2, 2):
            play("anonymous", verbs, order, replays=True, store=fault())

    with pytest.raises(AssertionError, match=r"(?s)expected .*, after\n.*request 1: open with"):
        search()


# 2. Single calls to the store, as of several processes.


@coroutine
def _step() -> Generator[None, None, None]:
    """Let the search choose who goes on."""
    yield


class Stepping(AsyncMemoryStore):
    """The memory store, where another process may come in before each call."""

    async def load(self, id: str, now: int) -> Record | None:
        await _step()
        return await super().load(id, now)

    async def create(self, record: Record, now: int) -> None:
        await _step()
        await super().create(record, now)

    async def save(self, record: Record, expected: bytes, now: int) -> Any:
        await _step()
        return await super().save(record, expected, now)

    async def touch(self, *arguments: Any) -> bool:
        await _step()
        return await super().touch(*arguments)

    async def delete(self, id: str, now: int) -> bool:
        await _step()
        return await super().delete(id, now)


class Process(AsyncSessions):
    """One worker process: it takes turns with nobody else, and waits without sleeping."""

    def __init__(self, store: AsyncMemoryStore, clock: Clock) -> None:
        super().__init__(store, clock=clock)
        self._pause = lambda seconds: _step()


Outcome = tuple[object, ...]


def outcome(sessions: Sessions, cookies: Sequence[str | None], records: int) -> Outcome:
    """How it ended, in a form that two runs can share."""

    def opens(cookie: str) -> object:
        session = sessions.open(cookie)
        return session.subject, repr(dict(session)), repr(session.flashes())

    return (*((opens(cookie) if cookie else cookie) for cookie in cookies), records)


def of_whole_commits(start: str, verbs: Sequence[str]) -> set[Outcome]:
    """Every outcome that some order of whole opens and commits has."""
    return {_whole(start, verbs, order) for order in orders(*lengths(verbs))}


def _whole(start: str, verbs: Sequence[str], order: Sequence[int]) -> Outcome:
    world, cookie = started(start)
    given: dict[int, str | None] = {}

    def request(number: int, verb: str) -> Steps:
        opened = world.open(cookie)
        for act in VERBS[verb](number):
            world.act(opened, act)
            yield
            given[number] = world.commit(opened)
        yield

    requests = [request(number, verb) for number, verb in enumerate(verbs, 1)]
    for index in order:
        next(requests[index])
    cookies = [cookie, *(given[number] for number, _ in enumerate(verbs, 1))]
    return outcome(world.site.sessions, cookies, len(world.site.records()))


async def _visit(process: Process, cookie: str, acts: Sequence[Act]) -> str | None:
    session = await process.open(cookie)
    answers: list[str] = []
    for act in acts:
        act(session)
        answers = await process.commit(session)
    if not answers:
        return None
    return "" if "; Max-Age=0" in answers[0] else answers[0].partition(";")[0]


class Run:
    """One order of the calls: the choices given, then always the first who can go on."""

    def __init__(self, start: str, verbs: Sequence[str], choices: Sequence[int]) -> None:
        clock, shelf = Clock(), MemoryStore()
        self.sessions, self.shelf = Sessions(shelf, clock=clock), shelf
        first = self.sessions.open(None)
        STARTS[start](first)
        self.cookie = self.sessions.commit(first)[0].partition(";")[0]
        store = Stepping(shelf)
        self.running: dict[int, Coroutine[Any, Any, str | None]] = {
            number: _visit(Process(store, clock), self.cookie, VERBS[verb](number))
            for number, verb in enumerate(verbs, 1)
        }
        self.given: dict[int, str | None] = {}
        self.taken: list[int] = []
        self.could: list[list[int]] = []
        self.choices = choices

    def to_its_end(self) -> Outcome:
        while self.running:
            able = sorted(self.running)
            at = len(self.taken)
            chosen = self.choices[at] if at < len(self.choices) else able[0]
            self.taken.append(chosen)
            self.could.append([each for each in able if each != chosen])
            self._step(chosen)
        now = int(Clock()() * 1000)
        cookies = [self.cookie, *(self.given[number] for number in sorted(self.given))]
        return outcome(self.sessions, cookies, len(self.shelf.page("", 99, now)))

    def _step(self, chosen: int) -> None:
        try:
            self.running[chosen].send(None)
        except StopIteration as done:
            self.given[chosen] = done.value
            del self.running[chosen]

    def untried(self) -> Iterator[list[int]]:
        """Each choice that this run was the first to meet, taken the other way."""
        for at in range(len(self.choices), len(self.taken)):
            yield from ([*self.taken[:at], other] for other in self.could[at])


async def _explore(start: str, verbs: Sequence[str]) -> int:
    """Run every order of the store's calls; how many there were."""
    allowed, waiting, count = of_whole_commits(start, verbs), [list[int]()], 0
    while waiting:
        run = Run(start, verbs, waiting.pop())
        ended = run.to_its_end()
        assert ended in allowed, f"{start}: {verbs} in the order {run.taken} of calls: {ended}"
        waiting.extend(run.untried())
        count += 1
    return count


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("verb", VERBS)
def test_every_order_of_store_calls_ends_as_whole_commits_do(start: str, verb: str) -> None:
    """Two processes, every pair of verbs: nothing comes between comparing and replacing."""
    for other in list(VERBS)[list(VERBS).index(verb) :]:
        assert asyncio.run(_explore(start, (verb, other))) > 1


@pytest.mark.parametrize(
    "verbs",
    [
        ("edits", "logs in", "logs out"),
        ("writes", "rotates", "logs in as its own"),
    ],
)
def test_three_processes_end_as_whole_commits_do(verbs: tuple[str, str, str]) -> None:
    """The same among three, for the verbs that meet most."""
    assert asyncio.run(_explore("anonymous", verbs)) > 90


# 3. Answers on their way.


def _answered(tab: Tab, verb: str, number: int, sent: list[str]) -> Steps:
    """A request whose answer arrives in a step of its own."""
    opened = tab.begin(verb, number)
    (act,) = VERBS[verb](number)
    tab.world.act(opened, act, verb)
    yield
    given = tab.world.commit(opened)
    if given is not None:
        sent.append(given)
    yield
    tab.receive(given)
    yield


def deliver(start: str, verbs: Sequence[str], order: Sequence[int]) -> None:
    world, cookie = started(start)
    tab, sent = Tab(world, cookie, replays=False), list[str]()
    requests = [_answered(tab, verb, number, sent) for number, verb in enumerate(verbs, 1)]
    for index in order:
        next(requests[index])
    world.check()
    last = sent[-1] if sent else cookie
    assert last is not None
    good = last == "" or not world.site.open(last).is_new
    assert good, "\n".join(["the last cookie that was sent is dead, after", *world.trace])


ANSWERED = [verb for verb in VERBS if len(VERBS[verb](0)) == 1]


@pytest.mark.parametrize("start", STARTS)
def test_the_last_cookie_that_was_sent_is_good(start: str) -> None:
    """Whenever the answers of two requests arrive, and whichever the next request shows."""
    for verbs in combinations_with_replacement(ANSWERED, 2):
        for order in orders(3, 3):
            deliver(start, verbs, order)


@pytest.mark.parametrize(
    "verbs",
    [
        ("logs in", "rotates", "writes"),
        ("logs in", "logs in as its own", "logs out"),
    ],
)
def test_the_last_cookie_of_three_is_good(verbs: tuple[str, str, str]) -> None:
    """The same for three requests, all 1680 orders of opening, committing and arriving."""
    for order in orders(3, 3, 3):
        deliver("anonymous", verbs, order)


# Renewal: honest browsers, and thieves.


def renewing(after: float) -> tuple[Site, Browser]:
    site = Site("memory", Path(), {"renew_after": after})
    browser = site.browser()
    browser.login()
    browser.visit(lambda s: s.update(n=0))
    return site, browser


def counts(session: Any) -> None:
    session.edit("n", lambda n: n + 1)


def reads(session: Any) -> None:
    session.get("n")


def test_a_slow_upload_that_began_with_the_previous_proof_replaces_nothing() -> None:
    """It was opened before anybody could tell whether the successor had arrived."""
    site, browser = renewing(600)
    straggler = browser.copy()
    site.clock.move(600)
    browser.visit(reads)
    slow = straggler.begin()
    counts(slow)
    site.clock.move(61)

    assert [] == site.commit(slow)
    assert ("user:42", 1) == (browser.begin().subject, browser.begin()["n"])


@pytest.mark.parametrize("pause", [61, 600, 3000])
def test_a_browser_that_loses_three_answers_in_a_row_stays_in(pause: float) -> None:
    """Each a while after the other, and it never learns that its token was renewed."""
    site, browser = renewing(600)
    site.clock.move(600)
    for _ in range(3):
        session = browser.begin()
        reads(session)
        assert 1 == len(site.commit(session))
        site.clock.move(pause)
    browser.visit(reads)
    site.clock.move(pause)

    assert ("user:42", []) == (browser.begin().subject, site.events_of(CopiedCookie))


@pytest.mark.parametrize("renewals", range(1, 6))
def test_a_copied_cookie_however_old_ends_the_session(renewals: int) -> None:
    """The thief comes with the first cookie of the login, after so many renewals."""
    site, owner = renewing(600)
    thief = owner.copy()
    for _ in range(renewals):
        site.clock.move(600)
        owner.visit(reads)
    site.clock.move(61)
    owner.visit(reads)
    site.clock.move(61)
    assert "user:42" == owner.begin().subject

    assert (None, None) == (thief.begin().subject, owner.begin().subject)
    assert ([], 1) == (site.records(), len(site.events_of(CopiedCookie)))


def test_a_cookie_from_before_the_login_ends_nothing() -> None:
    """Its seed is not the session's any more: whoever planted it cannot log the owner out."""
    site = Site("memory", Path(), {"renew_after": 600})
    owner = site.browser()
    owner.visit(lambda s: s.update(n=0))
    planted = owner.copy()
    owner.login()
    for _ in range(3):
        site.clock.move(600)
        owner.visit(reads)

    assert (None, "user:42") == (planted.begin().subject, owner.begin().subject)
    assert [] == site.events_of(CopiedCookie)
