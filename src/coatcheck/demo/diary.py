"""The diary: what happened to each user's sessions, and how a session ended.

It is `on_event` of the demo's sessions, which call it from a thread of their own; who reads it
waits by `flush_events` for what was told so far. What it holds is in the memory of this process: a
restart empties it, another process has its own, and of old things the oldest go. A site that must
know later writes its events to a log or a table.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from coatcheck import events
from coatcheck.events import Event

__all__ = ["Diary", "Entry", "ending"]

_MOST_SUBJECTS = 1000
_MOST_OF_ONE = 50
_MOST_ENDINGS = 1000

_ENDS = (
    events.CopiedCookie,
    events.Expired,
    events.LoggedOut,
    events.Revoked,
    events.Unreadable,
)
_TOLD = (*_ENDS, events.LoggedIn, events.LoginRefused, events.Renewed, events.Rotated)


@dataclass(frozen=True, slots=True)
class Entry:
    at: datetime
    event: Event


class Diary:
    """The latest events of each subject, and the last one of each session that ended."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._of: OrderedDict[str, deque[Entry]] = OrderedDict()
        self._ended: OrderedDict[str, Event] = OrderedDict()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.subject is not None and isinstance(event, _TOLD):
                self._write(event.subject, event)
            if event.session_id is not None and isinstance(event, _ENDS):
                self._ended[event.session_id] = event
                _drop_oldest(self._ended, _MOST_ENDINGS)

    def of(self, subject: str) -> list[Entry]:
        """What happened to this subject's sessions, the latest first."""
        with self._lock:
            return list(reversed(self._of.get(subject, ())))

    def end_of(self, session_id: str) -> Event | None:
        """The event that ended the session, where it is known."""
        with self._lock:
            return self._ended.get(session_id)

    def _write(self, subject: str, event: Event) -> None:
        entries = self._of.setdefault(subject, deque(maxlen=_MOST_OF_ONE))
        entries.append(Entry(datetime.fromtimestamp(self._clock(), UTC), event))
        self._of.move_to_end(subject)
        _drop_oldest(self._of, _MOST_SUBJECTS)


def ending(event: Event | None) -> str:
    """Why this browser is logged out, for whoever shows a ticket that is not good any more.

    Who shows it proves nothing, so it says no more than the kind of the end.
    """
    match event:
        case events.CopiedCookie():
            return (
                "Your ticket had been copied: an old one was shown after it had been renewed. "
                "Nobody can tell which of the two was you, so both are logged out."
            )
        case events.Revoked(reason="limit"):
            return "You logged in elsewhere, which was one session too many, so this one ended."
        case events.Revoked():
            return "This session was ended from another device."
        case events.LoggedOut():
            return "You logged out in another tab."
        case events.Expired():
            return "Your session expired."
        case _:
            return "The ticket that this browser holds is not good any more."


def _drop_oldest(kept: OrderedDict[str, deque[Entry]] | OrderedDict[str, Event], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
