"""What the frameworks' own tests are given of ours is there; `make suites` runs them."""

import re
from importlib import import_module
from pathlib import Path

import pytest

IMPORT = re.compile(r"from (coatcheck[\w.]*) import ([\w, ]+)")
FOUND = sorted(
    {
        (module, name.split(" as ")[0].strip())
        for file in (Path(__file__).parent / "suites").glob("*.py")
        for module, names in IMPORT.findall(file.read_text())
        for name in names.split(",")
    }
)


@pytest.mark.parametrize(("module", "name"), FOUND)
def test_an_import_finds_its_name(module: str, name: str) -> None:
    """Most stand in text that another project's tests are patched with, where no check looks."""
    assert hasattr(import_module(module), name)


def test_there_are_some() -> None:
    """Else the pattern above finds nothing any more."""
    assert ("coatcheck.web.pyramid.hook", "_Hook") in FOUND
