"""A session's values as Django uses them: two keys mean more than their values.

Assigning `_auth_user_id` is the login (that is how `django.contrib.auth` and everybody who imitates
it does it), and removing it is the logout. `_session_expiry` is what `set_expiry` keeps: the
session's own limits. A number is an idle time, so the same one again, as a middleware may set it
at each request, leaves nothing to do.
"""

from collections.abc import Iterator, MutableMapping
from datetime import datetime, timedelta
from typing import Any

from coatcheck.lifetime import LONGEST, Lifetime
from coatcheck.session import Session
from coatcheck.state import Terms

__all__ = ["Values"]

_USER, _EXPIRY = "_auth_user_id", "_session_expiry"


class Values(MutableMapping[str, Any]):
    """The session's values as Django uses them."""

    def __init__(self, session: Session, usual: Lifetime) -> None:
        self.session = session
        self._usual = usual
        if _EXPIRY in session._edits.data:
            # Read past the session, which this does not count as a use of.
            session._terms = _terms(session._edits.read(_EXPIRY), usual)

    def __getitem__(self, key: str) -> Any:
        return self.session[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == _USER:
            self.session.login(str(value))
        elif key == _EXPIRY:
            if value == self.session.get(key):
                return
            self._expire(value)
        self.session[key] = value

    def __delitem__(self, key: str) -> None:
        del self.session[key]
        if key == _USER:
            self._leave()
        elif key == _EXPIRY:
            self.session._set_terms(None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.session)

    def __len__(self) -> int:
        return len(self.session)

    def __contains__(self, key: object) -> bool:
        return key in self.session

    def clear(self) -> None:
        self.session.clear()

    def _leave(self) -> None:
        """Nobody is logged in any more; the other values go on in a session of their own."""
        rest = dict(self.session)
        self.session.logout()
        self.update(rest)  # also its own limits

    def _expire(self, value: Any) -> None:
        if _remaining(value) < 0:
            self.session.logout()
        else:
            self.session._set_terms(_terms(value, self._usual))


def _terms(expiry: Any, usual: Lifetime) -> Terms:
    """What a `set_expiry` means: 0 for as long as the browser is open, else seconds without use
    within the usual hard end, or a time that is the hard end."""
    if not expiry:
        return Terms(usual, persistent=False)
    seconds = min(max(_remaining(expiry), 1), LONGEST // 1000)
    absolute: float | None = seconds
    if isinstance(expiry, int | float):
        is_open = usual.is_open_ended(remember=False)
        absolute = None if is_open else max(seconds, usual.deadline(0, remember=False) / 1000)
    return Terms(Lifetime(idle=seconds, absolute=absolute), persistent=True)


def _remaining(expiry: Any) -> float:
    """Seconds from now on; negative for what is over."""
    if isinstance(expiry, str):
        expiry = datetime.fromisoformat(expiry)
    if isinstance(expiry, datetime):
        left: timedelta = expiry - datetime.now(expiry.tzinfo)
        return left.total_seconds()
    return float(expiry or 0)
