"""Logins that Redis admits or refuses: seats, marks, and what comes between the steps.

The steps are the same for both kinds of store (`_redis.admission`), so one kind is enough here;
what others do in between is done by hand, with the store's own commands.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck.errors import StoreUnavailable
from coatcheck.record import Record
from coatcheck.store import FORBIDDEN, FULL, GONE, Entered, Entry
from coatcheck.stores import async_from_url, from_url
from coatcheck.stores._redis.admission import Admission
from coatcheck.stores._redis.commands import Command, Commands, Step
from coatcheck.stores._redis.scripts import (
    DELETE,
    ENTER,
    INDEX,
    LOG_IN,
    MARKED,
    NO_SEAT,
    SEATED,
)
from coatcheck.stores._redis.value import indexed_until
from coatcheck.testing.clock import NOW
from coatcheck.testing.contract import changed, ident, login, record
from tests.services import redis as services
from tests.services.proxy import Proxy

HOUR, MINUTE = 3_600_000, 60_000
ANY, ONE = Entry(NOW), Entry(NOW, most=1, refuse=True)
SUBJECT = "user:1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    opened: Any = from_url(services.url(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(services.prefix(tmp_path))


@pytest.fixture
def score(commands: Commands) -> Callable[[int], float | None]:
    """The score of that number's id in the subject's index."""

    def of(number: int) -> float | None:
        found = ask("ZSCORE", commands.index_key(SUBJECT), bytes.fromhex(ident(number)))
        return None if found is None else float(found)

    return of


def ask(*words: Any) -> Any:
    return services.single().ask(*words)


def do(command: Command) -> Any:
    """One step by itself, past the store."""
    return ask(*command.raw(whole=True))


def begin(commands: Commands, record: Record, expected: bytes = b"") -> float:
    """The steps of a login but for the last; the score that its id was indexed with."""
    until = indexed_until(record.seen_at, record.expires_at)
    seen = do(commands.index(record.subject or "", record.id, until, NOW, NOW))
    assert do(commands.log_in(record, expected, until, NOW)) == 1
    return float(seen)


def follow(steps: Any, look: Callable[[Step], None]) -> Any:
    """Carry the steps of a login out by hand; each is looked at before it is done."""
    answers = None
    while True:
        try:
            step = steps.send(answers)
        except StopIteration as done:
            return done.value
        look(step)
        answers = [do(each) for each in step.commands]


# Together.


@pytest.mark.parametrize("refuse", [False, True])
def test_twenty_logins_at_once_leave_three_in_a_cluster(tmp_path: Path, refuse: bool) -> None:
    """Through three clients that know nothing of each other, whatever the subject has in it."""
    entry, subject = Entry(NOW, 3, refuse), "{user}:\x7f}1*"
    logins = [login(n, login_at=NOW + n, subject=subject) for n in range(1, 21)]

    async def scenario() -> tuple[list[Any], list[Record]]:
        stores: list[Any] = [async_from_url(services.cluster_url(tmp_path)) for _ in range(3)]
        calls = [stores[n % 3].admit(each, b"", entry, NOW) for n, each in enumerate(logins)]
        answers = await asyncio.gather(*calls)
        left = await stores[0].by_subject(subject, NOW)
        for each in stores:
            await each.close()
        return answers, left

    answers, left = asyncio.run(scenario())
    admitted = {each.id for each, answer in zip(logins, answers, strict=True) if answer is not FULL}
    newest = {ident(18), ident(19), ident(20)}

    assert (admitted if refuse else newest) == {each.id for each in left}
    assert newest <= admitted if not refuse else len(admitted) == 3


@pytest.mark.parametrize(
    ("entry", "trips"), [(ANY, 3), (Entry(NOW, 5), 3), (Entry(NOW, 5, refuse=True), 3), (ONE, 6)]
)
def test_a_login_is_three_round_trips(tmp_path: Path, entry: Entry, trips: int) -> None:
    """Also with a limit, while it has room; one that is refused looks who is there, and goes."""
    options, asked = services.url(tmp_path).partition("?")[2], list[bytes]()
    with Proxy(services.single().port) as proxy:
        store: Any = from_url(f"redis://{services.HOST}:{proxy.port}?{options}")
        store.admit(login(1), b"", ANY, NOW)
        store.by_subject(SUBJECT, NOW)
        store.admit(login(2, subject="warm up"), b"", ONE, NOW)
        store.admit(login(3, subject="warm up"), b"", ONE, NOW)
        proxy.on_request = asked.append
        store.admit(login(4), b"", entry, NOW)
        store.close()

    assert trips == len(asked)


# Seats.


def test_a_crash_before_the_seat_leaves_nothing_that_counts(store: Any, commands: Commands) -> None:
    """Neither an id without a record, nor a record that never was seated."""
    do(commands.index(SUBJECT, ident(1), NOW + HOUR, NOW, NOW))
    begin(commands, login(2))

    assert Entered() == store.admit(login(3), b"", ONE, NOW)
    assert FULL is store.admit(login(4), b"", ONE, NOW)


def test_a_login_that_is_on_its_way_stays_in_the_index(
    store: Any, commands: Commands, score: Callable[[int], float | None]
) -> None:
    """Its seat of an earlier login is vacant, and goes to another; but no list may miss it."""
    first = login(1)
    store.admit(first, b"", ANY, NOW)
    second = changed(first, subject="user:2")
    store.save(second, first.revision, NOW)
    third = changed(second, subject=SUBJECT, login_at=NOW + 1)
    until = indexed_until(third.seen_at, third.expires_at)
    seen = float(do(commands.index(SUBJECT, third.id, until, NOW, NOW)))
    assert Entered() == store.admit(login(2), b"", ONE, NOW)
    do(commands.log_in(third, second.revision, until, NOW))

    assert {third.id, ident(2)} == {each.id for each in store.by_subject(SUBJECT, NOW)}
    assert NO_SEAT == do(commands.enter(third, ONE, seen, [], NOW))[0]


def test_a_seat_that_was_taken_meanwhile_counts(
    commands: Commands, score: Callable[[int], float | None]
) -> None:
    """Though it was vacant when somebody looked: its score is another."""
    first, other = login(1), login(2)
    do(commands.enter(first, ANY, begin(commands, first), [], NOW))
    vacant = (first.id, score(1) or 0.0)
    again = begin(commands, changed(first, login_at=NOW + 1), first.revision)
    do(commands.enter(first, ANY, again, [], NOW))
    seen = begin(commands, other)

    assert NO_SEAT == do(commands.enter(other, ONE, seen, [vacant], NOW))[0]
    assert SEATED == do(commands.enter(other, ONE, seen, [(first.id, score(1) or 0.0)], NOW))[0]


def test_a_seat_outlasts_what_is_done_to_its_score(
    store: Any, commands: Commands, score: Callable[[int], float | None]
) -> None:
    """Taking it confirms the id; prolonging makes it pending, and a reader confirms it again."""
    first, flags = login(1), list[float]()
    store.admit(first, b"", ANY, NOW)
    flags.append((score(1) or 0.0) % 1)
    store.touch(first.id, first.revision, NOW, NOW + 9 * HOUR, NOW)
    flags.append((score(1) or 0.0) % 1)
    store.by_subject(SUBJECT, NOW)
    flags.append((score(1) or 0.0) % 1)

    assert [0.25, 0.75, 0.25] == flags


def test_a_seat_that_comes_late_confirms_nothing(
    commands: Commands, score: Callable[[int], float | None]
) -> None:
    """The index was written again meanwhile: another record of the id may be on its way."""
    seen = begin(commands, login(1))
    do(commands.index(SUBJECT, ident(1), NOW + HOUR, NOW))
    do(commands.enter(login(1), ANY, seen, [], NOW))

    assert 0.75 == (score(1) or 0.0) % 1


def test_every_seat_is_a_new_score(
    commands: Commands, score: Callable[[int], float | None]
) -> None:
    """Also one that was seated before and stays pending: who saw it vacant saw another."""
    seen = begin(commands, login(1))
    do(commands.enter(login(1), ANY, seen, [], NOW))
    do(commands.index(SUBJECT, ident(1), NOW + HOUR, NOW))
    before = score(1)
    do(commands.enter(login(1), ANY, seen, [], NOW))

    assert before != score(1)


def test_who_ended_on_the_way_takes_no_seat(store: Any, commands: Commands) -> None:
    """Nothing is put back into the index."""
    seen = begin(commands, login(1))
    store.delete(ident(1), NOW)
    do(commands.enter(login(1), ANY, seen, [], NOW))

    assert 0 == ask("EXISTS", commands.index_key(SUBJECT))


@pytest.mark.parametrize(("login_at", "stays"), [(NOW, False), (NOW + 9, True)])
def test_the_oldest_ends_unless_it_logged_in_again(
    store: Any, commands: Commands, login_at: int, stays: bool
) -> None:
    """It was saved just before its end: with another login it is the oldest no more."""
    first = login(1)
    store.admit(first, b"", ANY, NOW)
    steps = Admission(commands, 0, login(2, login_at=NOW + 1), Entry(NOW, most=1), NOW).steps(b"")

    def interfere(step: Step) -> None:
        if step.commands[0].script is DELETE:
            store.save(changed(first, login_at=login_at), first.revision, NOW)

    ended = follow(steps, interfere).ended

    assert stays is (store.load(first.id, NOW) is not None)
    assert ([] if stays else [first.id]) == ended


@pytest.mark.parametrize("entry", [ANY, ONE, Entry(NOW, most=1)])
def test_each_write_of_a_login_waits_for_replicas(
    store: Any, commands: Commands, entry: Entry
) -> None:
    """Also the ends that it brings about, of others or its own; what mends the index need not."""
    store.admit(login(1), b"", ANY, NOW)
    store.by_subject(SUBJECT, NOW)
    steps = list[Step]()
    follow(Admission(commands, 0, login(2), entry, NOW).steps(b""), steps.append)
    durable = [each.commands[0].script for each in steps if each.durable]
    others = [each.commands[0].raw()[0] for each in steps if not each.durable]

    assert [INDEX, LOG_IN, ENTER, *[DELETE] * (entry is not ANY)] == durable
    assert {b"GET", b"ZREM"} >= set(others)


def test_a_refused_login_leaves_nothing(store: Any, tmp_path: Path) -> None:
    """Neither record nor index."""
    store.admit(login(1), b"", ONE, NOW)
    assert FULL is store.admit(login(2), b"", ONE, NOW)
    store.delete(ident(1), NOW)

    assert b"" == services.dump(tmp_path)


# Marks.


def test_an_early_refusal_leaves_the_record_alone(
    store: Any, score: Callable[[int], float | None]
) -> None:
    """The anonymous session goes on, and the subject's index is not written."""
    first = record(ident(1))
    store.create(first, NOW)
    store.forbid(SUBJECT, NOW + 10, None, NOW + HOUR, NOW)
    second = changed(first, subject=SUBJECT, login_at=NOW + 20)

    assert FORBIDDEN is store.admit(second, first.revision, ANY, NOW + 20)
    assert first == store.load(first.id, NOW)
    assert score(1) is None


def test_a_mark_that_comes_late_is_seen_at_the_seat(store: Any, commands: Commands) -> None:
    """It was set after the id was indexed."""
    seen = begin(commands, login(1))
    store.forbid(SUBJECT, NOW + 10, None, NOW + HOUR, NOW)

    assert [MARKED, []] == do(commands.enter(login(1), ANY, seen, [], NOW))


def test_a_mark_lasts(store: Any, commands: Commands) -> None:
    """As long as it shall, whatever else the index had or gets."""
    store.admit(login(1), b"", ANY, NOW)
    store.forbid(SUBJECT, NOW + 10, None, NOW + 99 * HOUR, NOW)
    store.delete(ident(1), NOW)
    later = login(2, seen_at=NOW + 9 * HOUR, expires_at=NOW + 10 * HOUR)
    store.admit(later, b"", Entry(NOW + 9 * HOUR), NOW + 9 * HOUR)
    store.delete(ident(2), NOW + 9 * HOUR)

    assert ask("PTTL", commands.index_key(SUBJECT)) > 98 * HOUR
    assert FORBIDDEN is store.admit(login(3), b"", ANY, NOW)


def test_a_mark_shortens_nothing(store: Any, commands: Commands) -> None:
    """The index lasts as long as its sessions may live."""
    store.admit(login(1, expires_at=NOW + 9 * HOUR), b"", ANY, NOW)
    store.forbid(SUBJECT, NOW + 10, None, NOW + HOUR, NOW)

    assert ask("PTTL", commands.index_key(SUBJECT)) > 8 * HOUR


def test_a_mark_of_a_wrong_clock_gives_way(store: Any) -> None:
    """Else it would keep out the right ones for as long as it lies ahead."""
    store.forbid(SUBJECT, NOW + 2 * MINUTE, None, NOW + HOUR, NOW)
    store.forbid(SUBJECT, NOW + 10, None, NOW + HOUR, NOW)

    assert FORBIDDEN is store.admit(login(1), b"", ANY, NOW)


# Lost answers.


def test_a_save_whose_answer_was_lost_is_checked_again(store: Any, commands: Commands) -> None:
    """It was written, and is seated now."""
    first = record(ident(1))
    store.create(first, NOW)
    second = changed(first, subject=SUBJECT, login_at=NOW)
    begin(commands, second, first.revision)

    assert Entered() == store.admit(second, first.revision, ANY, NOW)
    assert FULL is store.admit(login(2), b"", ONE, NOW)


def test_a_login_of_what_ended_meanwhile_is_gone(store: Any) -> None:
    """Nothing is created where a revision was expected, and nobody is counted."""
    first = login(1)
    store.admit(first, b"", ANY, NOW)
    store.delete(first.id, NOW)

    assert GONE is store.admit(changed(first), first.revision, ANY, NOW)
    assert Entered() == store.admit(login(2), b"", ONE, NOW)


@pytest.mark.parametrize("call", ["admit", "forbid"])
def test_what_no_replica_confirms_is_an_outage(tmp_path: Path, call: str) -> None:
    """A login and a mark are as durable as an end."""
    prefix = services.prefix(tmp_path)
    port = services.single().port
    url = f"redis://{services.HOST}:{port}?prefix={prefix}&replicas=1"
    store: Any = from_url(url)
    arguments: dict[str, Any] = {
        "admit": (login(1), b"", ANY, NOW),
        "forbid": (SUBJECT, NOW, None, NOW + HOUR, NOW),
    }
    with pytest.raises(StoreUnavailable, match="replicas"):
        getattr(store, call)(*arguments[call])
    store.close()
