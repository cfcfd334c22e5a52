"""The mutants are there for every law, and still apply; `make mutants` shows that they die."""

from pathlib import Path

import pytest

from tests.mutants import Mutant, load


def test_every_law_has_a_mutant() -> None:
    """Twelve laws, a fault or more for each."""
    assert set(range(1, 13)) == {mutant.law for mutant in load()}


@pytest.mark.parametrize("mutant", load(), ids=lambda mutant: mutant.name)
def test_it_applies(mutant: Mutant, tmp_path: Path) -> None:
    """A patch that the source outgrew would test nothing."""
    mutant.apply(tmp_path)

    assert (tmp_path / "src" / "coatcheck").is_dir()
