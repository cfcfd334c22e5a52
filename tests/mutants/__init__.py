"""Small faults, one patch each: a law's tests must turn red under every one of them.

A patch file is a unified diff with a head:

    law: 2
    fault: a save replaces any revision
    tests: tests/test_laws.py::TestLaw2NoWriteIsLost
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One fault: which law it breaks, what it is, and the tests that must notice."""

    name: str
    law: int
    fault: str
    tests: list[str]
    patch: Path

    def apply(self, folder: Path) -> None:
        """A copy of the source with the fault in it, in `folder/src`."""
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        command = ["git", "apply", "--whitespace=nowarn", str(self.patch)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{self.patch.name} does not apply any more: {done.stderr.strip()}")


def load() -> list[Mutant]:
    """Every mutant, by law and name."""
    found = [_read(patch) for patch in sorted(FOLDER.glob("*.patch"))]
    return sorted(found, key=lambda mutant: (mutant.law, mutant.name))


def _read(patch: Path) -> Mutant:
    lines = patch.read_text().split("\n--- ", 1)[0].splitlines()
    head = dict(line.split(": ", 1) for line in lines if ": " in line)
    return Mutant(patch.stem, int(head["law"]), head["fault"], head["tests"].split(), patch)
