"""`make mutants`: run each law's tests against a copy of the source that breaks it.

A mutant that survives, and one that no longer applies, is an error. Names given as arguments
choose some of them.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import ROOT, Mutant, load


def main(names: list[str]) -> int:
    """How many survived."""
    chosen = [mutant for mutant in load() if not names or mutant.name in names]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        verdicts = list(pool.map(_try, chosen))
    for mutant, verdict in zip(chosen, verdicts, strict=True):
        print(f"law {mutant.law:2}  {verdict:12}  {mutant.name}: {mutant.fault}")
    survived = [verdict for verdict in verdicts if verdict != "killed"]
    print(f"{len(chosen) - len(survived)} killed, {len(survived)} survived")
    return len(survived)


def _try(mutant: Mutant) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            mutant.apply(Path(folder))
        except ValueError:
            return "not applied"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *mutant.tests],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{folder}/src"},
            capture_output=True,
        )
    return {0: "SURVIVED", 1: "killed"}.get(done.returncode, "broken")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
