"""Each listener is told of each risk once, whichever of the two comes first."""

from coatcheck.store import Risk
from coatcheck.stores._advice import Advice

FULL, LATE = Risk("full", "it forgets"), Risk("late", "it lags")


def test_who_listens_is_told_of_what_is_found() -> None:
    """When it is found, and once only."""
    advice, told = Advice(), list[Risk]()
    advice.advise(told.append)
    for risk in (FULL, LATE, FULL):
        advice.found(risk)

    assert [FULL, LATE] == told


def test_who_comes_late_is_told_of_what_was_found_before() -> None:
    """At once, and then of the rest like the others."""
    advice, early, late = Advice(), list[Risk](), list[Risk]()
    advice.advise(early.append)
    advice.found(FULL)
    advice.advise(late.append)
    assert [FULL] == late
    advice.found(LATE)

    assert [FULL, LATE] == early == late
