"""The command `coatcheck`: what it prints, and how it ends."""

import time
from pathlib import Path

import pytest

from coatcheck import KeyRing, Sessions
from coatcheck.cli import main
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.testing import record

SECRET = "s3cr3t"


def test_a_key_is_good_for_a_ring(capsys: pytest.CaptureFixture[str]) -> None:
    """And no two are alike."""
    assert [0, 0] == [main(["key"]), main(["key"])]
    keys = capsys.readouterr().out.split()

    assert 2 == len(set(keys))
    assert "KeyRing(2 keys)" == repr(KeyRing(*keys))


def test_sweep_removes_what_expired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says how many that were."""
    store = SQLiteStore(tmp_path / "s.sqlite3")
    now = int(time.time() * 1000)
    store.create(record(expires_at=now - 1), now - 10)
    store.close()

    assert 0 == main(["sweep", f"sqlite:///{tmp_path}/s.sqlite3"])
    assert "removed 1 expired session\n" == capsys.readouterr().out


def test_sweep_of_a_store_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt path makes no file."""
    assert 2 == main(["sweep", f"sqlite:///{tmp_path}/s.sqlite3"])
    assert "expected a store that is there" in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cr3t@localhost:1/0",
        "memcached://localhost:1",
        "cookie:?keys=KEYS&revocations=none",
    ],
)
def test_sweep_where_nothing_has_to_be_swept(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stores drop what expired by themselves; nothing is even reached."""
    monkeypatch.setenv("KEYS", "k" * 32)

    assert 0 == main(["sweep", url])
    assert "by itself" in capsys.readouterr().out


def test_a_store_out_of_reach_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """By the exit status, and without the password."""
    assert 1 == main(["sweep", f"postgresql://user:{SECRET}@localhost:1/database"])
    told = capsys.readouterr().err

    assert told.startswith("coatcheck: ")
    assert SECRET not in told


def test_a_url_that_cannot_be_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """And not shown."""
    assert 2 == main(["sweep", f"mysql://user:{SECRET}@localhost/database"])
    assert SECRET not in capsys.readouterr().err


def test_sweeping_disturbs_nothing(tmp_path: Path) -> None:
    """What is alive stays."""
    path = tmp_path / "s.sqlite3"
    with Sessions(SQLiteStore(path)) as sessions:
        session = sessions.open(None)
        session.login("user:42")
        (cookie,) = sessions.commit(session)
        main(["sweep", f"sqlite:///{path}"])

        assert "user:42" == sessions.open(cookie.partition(";")[0]).subject
