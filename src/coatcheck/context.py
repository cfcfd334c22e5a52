"""`current()`: this request's session, from anywhere below the middleware."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token

from coatcheck.session import Session

__all__ = ["bind", "current", "follow", "is_bound", "unbind"]

Bound = Mapping[str | None, Session]

_bound: ContextVar[Bound | None] = ContextVar("coatcheck", default=None)
_followed: list[Callable[[], Bound | None]] = []


def current(name: str | None = None) -> Session:
    """This request's session, or the one of that name from the middleware's `named=`.

    Raises LookupError outside a request, in a request whose path is in `skip=`, and for a name
    that the middleware was not given.
    """
    sessions = _here()
    if sessions is None:
        raise LookupError(
            "current(): expected a request with a session, got none; call it below "
            "SessionMiddleware, on a path that is not in its skip="
        )
    try:
        return sessions[name]
    except KeyError:
        known = sorted(key for key in sessions if key is not None)
        raise LookupError(
            f"current({name!r}): expected one of {known}, got {name!r}; "
            "add it to the middleware's named="
        ) from None


def _here() -> Bound | None:
    for find in _followed:
        found = find()
        if found is not None:
            return found
    return _bound.get()


def follow(find: Callable[[], Bound | None]) -> None:
    """Look here first: for a framework that has a request context of its own, and comes back to it
    where no hook of ours is told, such as in the body of a streamed response.

    `find` gives the sessions of that framework's request, or None outside of one.
    """
    _followed.append(find)


def is_bound(session: Session) -> bool:
    """Whether it is the main one of the request that is running."""
    sessions = _bound.get()
    return sessions is not None and sessions[None] is session


def bind(sessions: Bound | None) -> Token[Bound | None]:
    """Make these the current request's sessions, until `unbind`; None where it has none."""
    return _bound.set(sessions)


def unbind(token: Token[Bound | None]) -> None:
    _bound.reset(token)
