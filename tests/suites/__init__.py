"""What frameworks test of their own sessions, run against ours.

A framework's source distribution is fetched from the package index, in the version that is
installed, and its tests of sessions run with our hook in the place of its own. Those that cannot
pass are listed with the reason: they test what a cookie says inside, or ask for what a law forbids.
A listed test that passes is reported too, so that the list stays true.

`python -m tests.suites` runs them all, `python -m tests.suites starlette` one. It is no part of
`make test`: it depends on the package index and on other people's files.
"""

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.servers.running import ROOT

__all__ = ["Outcome", "Suite", "replace_in"]

FETCHED = ROOT / ".suites"


@dataclass(frozen=True)
class Outcome:
    """What became of a suite's tests, by their names."""

    passed: set[str]
    failed: set[str]
    output: str


@dataclass(frozen=True)
class Suite:
    """One framework's tests. `explained` says, for the start of a test's name, why it cannot pass.

    A test's name is `module::Class::test[parameters]`, the module without its folders.
    """

    distribution: str
    plug_in: Callable[[Path], None]
    """Puts our hook into the unpacked folder."""
    tests: Sequence[str]
    """What pytest is to run there, and its options."""
    explained: Mapping[str, str] = field(default_factory=dict)
    run: "Callable[[Suite, Path], Outcome] | None" = None
    """How, where it is not by pytest."""

    def prepare(self) -> Path:
        """The unpacked source, with our hook in its place."""
        folder = unpacked(self.distribution)
        self.plug_in(folder)
        return folder

    def outcome(self) -> Outcome:
        folder = self.prepare()
        return self.run(self, folder) if self.run is not None else with_pytest(self, folder)

    def reason(self, test: str) -> str | None:
        found = [why for start, why in self.explained.items() if test.startswith(start)]
        return found[0] if found else None


def unpacked(distribution: str) -> Path:
    """The source of the installed version, fetched once and unpacked anew."""
    name = f"{distribution}-{version(distribution)}"
    archives = FETCHED / "archives" / name
    if not list(archives.glob("*.tar.gz")):
        options = ["--quiet", "--no-deps", "--no-binary", distribution]
        wanted = f"{distribution}=={version(distribution)}"
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(archives)]
        subprocess.run([*command, wanted], check=True)
    (archive,) = archives.glob("*.tar.gz")
    folder = FETCHED / name
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def with_pytest(suite: Suite, folder: Path) -> Outcome:
    report = folder / "report.xml"
    options = ["-p", "no:cacheprovider", "--junitxml", str(report), "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *suite.tests],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    passed, failed = set[str](), set[str]()
    for case in ET.parse(report).iter("testcase"):
        where = case.get("classname", "").rpartition("tests.")[2].split(".")
        name = "::".join([*where[-2:], case.get("name", "")])
        bad = case.find("failure") is not None or case.find("error") is not None
        if case.find("skipped") is None:
            (failed if bad else passed).add(name)
    return Outcome(passed, failed, done.stdout + done.stderr)


def replace_in(file: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = file.read_text("utf-8")
    assert old in text, f"{file}: expected {old!r}, the file has changed; look how it is now"
    file.write_text(text.replace(old, new), "utf-8")
