"""The benchmarks run: each row once, with tiny counts. What they measure is not judged here."""

import asyncio
import json
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from benchmarks import codec, http, in_process, records, scale, services, stores
from benchmarks.__main__ import main
from benchmarks.frameworks import http as http_frameworks
from benchmarks.frameworks import in_process as in_frameworks
from benchmarks.frameworks import pairs
from benchmarks.frameworks.rows import ALONE, FRAMEWORKS, row
from benchmarks.frameworks.rows import SCENARIOS as ASKED
from benchmarks.libraries import BARE, LIBRARIES, SCENARIOS, STARLETTE, Library, make, sign_in
from benchmarks.rounds import Effort, Figure, figure, interleaved, minus
from benchmarks.sample import VALUES, Message, receive, request
from benchmarks.table import BYTES, MICROSECONDS, PER_SECOND, SECONDS, Section, markdown
from benchmarks.targets import TARGETS, outcomes

WITH_SESSIONS = [name for name in LIBRARIES if name != BARE]
ONCE = Effort(rounds=1, count=2)


def test_the_session_is_the_one_that_the_targets_speak_of() -> None:
    """7 keys, 404 bytes as JSON."""
    assert (7, 404) == (len(VALUES), len(json.dumps(VALUES)))


@pytest.mark.parametrize("name", WITH_SESSIONS)
def test_a_row_really_uses_the_session(name: str, tmp_path: Path) -> None:
    """What one request writes, the next one reads; without a cookie there is nothing."""
    library = make(name, tmp_path)

    async def visit() -> tuple[object, object, object]:
        cookie = await sign_in(library)
        before = await _seen(library, cookie)
        cookie = await _written(library, cookie)
        after = await _seen(library, cookie)
        nobody = await _seen(library, None)
        if library.close is not None:
            await library.close()
        return before, after, nobody

    before, after, nobody = asyncio.run(visit())

    assert (VALUES["visits"], None) == (before, nobody)
    assert isinstance(after, int)
    assert after != before


async def _seen(library: Library, cookie: str | None) -> object:
    """What an app that looks at the session finds in it."""
    seen: list[object] = []

    def look(session: Any) -> str:
        seen.append(session.get("visits"))
        return ""

    await library.wrap(library.using(look))(request(cookie), receive, _drop)
    return seen[0]


async def _written(library: Library, cookie: str) -> str:
    """The cookie that a browser holds after a request that wrote."""
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    await library.app("write")(request(cookie), receive, keep)
    cookies = [value for key, value in sent[0]["headers"] if key.lower() == b"set-cookie"]
    return cookies[0].partition(b";")[0].decode() if cookies else cookie


async def _drop(message: Message) -> None:
    pass


def test_in_process(tmp_path: Path) -> None:
    """Every library has a figure in every scenario."""
    section = in_process.measure(ONCE, lambda name: True, tmp_path)

    assert {(n, s) for n in WITH_SESSIONS for s in SCENARIOS} == set(section.figures)


def test_codec() -> None:
    """Making and opening, signed and sealed; the sealed cookie opens to what it was made of."""
    section = codec.measure(ONCE)

    rows = (STARLETTE, codec.ONE_VALUE, codec.MANY_BROWSERS, codec.ALL_VALUES)
    assert {(row, way) for row in rows for way in (codec.MAKE, codec.OPEN)} == set(section.figures)
    assert VALUES.keys() == codec.Sealed().open_all().keys()


def test_http() -> None:
    """Every library's server answers."""
    section = http.measure(Effort(rounds=1, seconds=0.05), lambda name: True)

    assert all(section.figures[name, http.RATE].median > 0 for name in LIBRARIES)


@pytest.mark.parametrize("name", [name for name, each in FRAMEWORKS.items() if not each.alone])
def test_frameworks(name: str, tmp_path: Path) -> None:
    """Every row has a session and a figure in every scenario; every pair is compared."""
    section = in_frameworks.measure(ONCE, lambda each: each.startswith(f"{name}: "), tmp_path)

    bare, *rows = [row(name, each) for each in FRAMEWORKS[name].rows()]
    assert {(bare, ALONE), *product(rows, ASKED)} == set(section.figures)
    assert len(FRAMEWORKS[name].pairs) * len(ASKED) == len(pairs.outcomes([section]))


def test_a_framework_whose_rows_need_a_process_each(tmp_path: Path) -> None:
    """Django's settings are global; its rows are compared all the same."""
    section = in_frameworks.measure(ONCE, "Django: database, SQLite".__eq__, tmp_path)

    expected = ["Django: bare", "Django: database, SQLite", "Django: coatcheck, SQLite"]
    assert expected == section.rows()
    assert len(ASKED) == len(pairs.outcomes([section]))


@pytest.mark.parametrize("name", ["Bottle", "Starlette", "aiohttp", "Tornado", "Sanic"])
def test_http_frameworks(name: str, tmp_path: Path) -> None:
    """Each kind of server answers reads and writes; a row brings what it is compared with."""
    effort, mine = Effort(rounds=1, seconds=0.4), row(name, "coatcheck, cookie")

    section = http_frameworks.measure(effort, mine.__eq__, tmp_path)

    compared = [each for each, ours in FRAMEWORKS[name].pairs if ours == "coatcheck, cookie"]
    assert {row(name, BARE), mine, *(row(name, each) for each in compared)} == {*section.rows()}
    assert all(each.median > 0 for each in section.figures.values())


def test_pairs_are_judged_by_ratio() -> None:
    """Within 5 % is a tie; what is below a hundredth of a bare request counts as that."""
    figures = {
        ("Quart: bare", ALONE): 100.0,
        ("Quart: signed cookie", "read"): 21.0,
        ("Quart: coatcheck, cookie", "read"): 20.0,
        ("Quart: signed cookie", "write"): 19.0,
        ("Quart: coatcheck, cookie", "write"): 20.0,
        ("Quart: signed cookie", "untouched"): 22.0,
        ("Quart: coatcheck, cookie", "untouched"): 20.0,
        ("Quart: signed cookie", "anonymous"): -0.1,
        ("Quart: coatcheck, cookie", "anonymous"): 0.9,
    }
    section = Section(
        in_frameworks.NAME,
        dict.fromkeys((ALONE, *ASKED), MICROSECONDS),
        {key: Figure(each, each, each) for key, each in figures.items()},
        note="",
    )

    found = {each.column: each.verdict for each in pairs.outcomes([section])}

    expected = {"read": "tie", "write": "behind", "untouched": "ahead", "anonymous": "tie"}
    assert expected == found
    assert "| Quart: signed cookie | coatcheck, cookie | 1.05\N{MULTIPLICATION SIGN} tie | " in (
        pairs.report(pairs.outcomes([section]))
    )


@pytest.mark.parametrize("name", stores.KINDS)
def test_stores(name: str, tmp_path: Path) -> None:
    """Every store loads and saves in each of three ways, and so does the driver beside it."""
    section = stores.measure(ONCE, lambda kind: kind == name, tmp_path)

    contestants = 1 if stores.KINDS[name].driver is None else 2
    assert contestants * 6 == len(section.figures)
    assert all(each.median > 0 for each in section.figures.values())
    assert all(section.ratio(row, stores.LOADS) for row in section.against)


def test_postgres_keeps_what_it_gets() -> None:
    """A save that is measured is on the disk."""
    with services.postgres() as url, psycopg.connect(url) as connection:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        settings = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in names]

    assert [("on",)] * 3 == settings


def test_redis_keeps_what_it_gets() -> None:
    """It writes an append-only file, synced once a second."""
    with services.redis() as url, redis.Redis.from_url(url) as client:
        settings = client.config_get("append*")

    assert {"appendonly": "yes", "appendfsync": "everysec"}.items() <= settings.items()


@pytest.mark.parametrize("name", scale.KINDS)
def test_scale(name: str, tmp_path: Path) -> None:
    """Every store is filled, loaded from and swept; size and sweep have figures."""
    effort = Effort(rounds=1, count=2, sessions=1000)

    section = scale.measure(effort, lambda kind: kind == name, tmp_path)

    large, sweeping = f"{name}, 1,000", f"{name}, 1,000, sweeping half"
    assert [f"{name}, 10", large, sweeping] == section.rows()
    assert section.figures[large, scale.BYTES_EACH].median > len(records.PAYLOAD)
    assert section.figures[sweeping, scale.SWEEP].median > 0
    assert section.ratio(sweeping, scale.SLOWEST) is not None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints Markdown that names machine and versions, and writes the same figures as JSON."""
    file = tmp_path / "figures.json"

    main(["--quick", "--rounds", "2", "--only", "codec", "--json", str(file)])

    printed, data = capsys.readouterr().out, json.loads(file.read_text())
    assert "--only codec" in printed
    assert "| Starlette, signed cookie |" in printed
    assert "starlette" in data["versions"]
    assert {codec.NAME} == data["sections"].keys()
    assert 4 == len(data["targets"])


def test_a_pattern_that_means_nothing_is_refused() -> None:
    """A typing mistake does not end in an empty report."""
    with pytest.raises(SystemExit):
        main(["--only", "no such row"])


def test_a_section_that_takes_minutes_is_measured_only_when_it_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A row's name alone does not start it, its section's does."""
    tiny = ["--quick", "--rounds", "1", "--sessions", "400"]

    main([*tiny, "--only", "postgresql"])
    by_row = capsys.readouterr().out
    main([*tiny, "--only", "scale: postgresql"])
    by_both = capsys.readouterr().out

    assert (True, False) == ("### Stores" in by_row, "### Scale" in by_row)
    assert (False, True) == ("### Stores" in by_both, "| PostgreSQL, 400 |" in by_both)


def test_rounds_are_interleaved() -> None:
    """A B C, A B C: a machine that drifts hits all rows alike."""
    order: list[str] = []

    def case(name: str) -> float:
        order.append(name)
        return float(len(order))

    names = ("a", "b", "c")
    samples = interleaved({(n, ""): lambda n=n: case(n) for n in names}, 2)  # type: ignore[misc]

    assert ["a", "b", "c", "a", "b", "c"] == order
    assert [2.0, 5.0] == samples["b", ""]


def test_medians_and_differences() -> None:
    """The bare app is subtracted round by round, and an outlier moves no median."""
    assert 2.0 == figure(minus([3.0, 103.0, 4.0], [1.0, 1.0, 2.0])).median


def test_ratios_say_how_many_times_as_fast() -> None:
    """Of microseconds less is faster, of operations a second more."""
    figures = {
        ("base", "time"): Figure(10.0, 9.0, 11.0),
        ("base", "rate"): Figure(10.0, 9.0, 11.0),
        ("mine", "time"): Figure(5.0, 4.0, 6.0),
        ("mine", "rate"): Figure(5.0, 4.0, 6.0),
    }
    columns = {"time": MICROSECONDS, "rate": PER_SECOND}
    section = Section("Any", columns, figures, note="", baseline="base")

    assert (2.0, 0.5) == (section.ratio("mine", "time"), section.ratio("mine", "rate"))
    assert "| mine | 5.0 (2.00\N{MULTIPLICATION SIGN}) | 5 (0.50\N{MULTIPLICATION SIGN}) |" in (
        markdown(section)
    )


def test_a_row_is_compared_with_its_own_baseline() -> None:
    """A store's with the driver of its backend; a row that none is named for, with nothing."""
    rates = {"Redis": 60.0, "redis-py": 20.0, "files": 5.0}
    figures = {(row, "rate"): Figure(each, each, each) for row, each in rates.items()}
    against = {"Redis": "redis-py"}
    section = Section("Any", {"rate": PER_SECOND}, figures, note="", against=against)

    assert [3.0, None, None] == [section.ratio(row, "rate") for row in rates]


def test_sizes_have_no_ratio() -> None:
    """Bytes and seconds stand for themselves."""
    columns = {"size": BYTES, "sweep": SECONDS}
    figures = {(row, column): Figure(1.0, 1.0, 1.0) for row in "ab" for column in columns}
    section = Section("Any", columns, figures, note="", baseline="a")

    assert (None, None) == (section.ratio("b", "size"), section.ratio("b", "sweep"))


def test_targets_are_for_rows_that_are_there() -> None:
    """A row that was renamed would lose its target without a word."""
    rows = {stores.row(name, 64) for name in stores.KINDS}

    assert {target.row for target in TARGETS if target.section == stores.NAME} <= rows


def test_targets_are_judged_by_ratio() -> None:
    """Exactly the ratio is met, a little less is missed; what was not measured is left out."""
    target = TARGETS[0]

    def judged(mine: float) -> bool:
        figures = {
            (STARLETTE, target.column): Figure(18.0, 18.0, 18.0),
            (target.row, target.column): Figure(mine, mine, mine),
        }
        columns = {target.column: MICROSECONDS}
        section = Section(target.section, columns, figures, note="", baseline=STARLETTE)
        (outcome,) = outcomes([section])
        return outcome.is_met

    assert judged(18.0 / target.ratio - 0.01)
    assert not judged(18.0 / target.ratio + 0.01)
