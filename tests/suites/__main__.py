"""`python -m tests.suites [NAME …]`: run the frameworks' own tests against our hooks."""

import sys
from collections.abc import Sequence

from tests.suites import Suite, django, flask, flask_login, pyramid, starlette

SUITES: dict[str, Suite] = {
    "django": django.SUITE,
    "flask": flask.SUITE,
    "flask-login": flask_login.SUITE,
    "pyramid": pyramid.SUITE,
    "starlette": starlette.SUITE,
}


def main(names: Sequence[str]) -> int:
    bad = 0
    for name in names or SUITES:
        bad += report(name, SUITES[name])
    return 1 if bad else 0


def report(name: str, suite: Suite) -> int:
    """Print what became of the suite's tests; how many are not as they should be."""
    outcome = suite.outcome()
    unexplained = sorted(test for test in outcome.failed if suite.reason(test) is None)
    stale = sorted(test for test in outcome.passed if suite.reason(test) is not None)
    print(f"{name}: {len(outcome.passed)} pass, {len(outcome.failed)} cannot")
    for test in sorted(outcome.failed - set(unexplained)):
        print(f"  {test}: {suite.reason(test)}")
    for test in unexplained:
        print(f"  {test}: FAILED without a reason")
    for test in stale:
        print(f"  {test}: PASSED, though it is listed: {suite.reason(test)}")
    empty = not outcome.passed
    if unexplained or empty:
        print(outcome.output)
    return len(unexplained) + len(stale) + empty


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
