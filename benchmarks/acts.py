"""What an app does with a session, whatever library it is of; each gives the response's text."""

from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

from benchmarks.sample import BODY, VALUES

__all__ = ["OK", "Act", "fill", "look", "read", "seen", "write"]

Act: TypeAlias = Callable[[Any], str]

OK = BODY.decode("ascii")
_numbers = count(1)


def read(session: Any) -> str:
    session["visits"]
    return OK


def look(session: Any) -> str:
    """A read that finds nothing where there is no session."""
    session.get("visits")
    return OK


def write(session: Any) -> str:
    """A number that changes with each request."""
    session["visits"] = next(_numbers)
    return OK


def fill(session: Any) -> str:
    """Put the sample into the session, and log in where there is a login."""
    session.update(VALUES)
    if hasattr(session, "login"):
        session.login("user:4217")
    return OK


def seen(session: Any) -> str:
    """What the session holds, for a test to see."""
    return str(session.get("visits"))
