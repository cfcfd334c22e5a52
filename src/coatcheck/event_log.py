"""Each event as one line on the logger `coatcheck`, in the way of logfmt.

    logged_in session_id=0f3c… subject=user:42

A subject, an agent or an error is text that others chose, so a value that is not plain stands in
quotes, escaped as in JSON: it can begin neither a line nor a field. The event itself is the log
record's attribute `session_event`, for formatters that write JSON.
"""

import json
import logging
import re
from collections.abc import Mapping

from coatcheck import events
from coatcheck.events import Event

__all__ = ["line", "log", "structured"]

_logger = logging.getLogger("coatcheck")
_is_plain = re.compile(r"[A-Za-z0-9_.:@/+-]+", re.ASCII).fullmatch

_LEVELS: dict[type[Event], int] = {
    events.Refused: logging.DEBUG,
    events.Skipped: logging.DEBUG,
    events.CopiedCookie: logging.WARNING,
    events.Contended: logging.WARNING,
    events.LoginRefused: logging.WARNING,
    events.Outage: logging.WARNING,
    events.Recovered: logging.WARNING,
    events.RiskyConfiguration: logging.WARNING,
    events.Unreadable: logging.WARNING,
}


def log(event: Event) -> None:
    """Write it, at its level: INFO, but for what is noise and for what somebody should look at."""
    level = _LEVELS.get(type(event), logging.INFO)
    if isinstance(event, events.Swept) and event.count == 0:
        level = logging.DEBUG  # as most rounds of a sweeper are
    if _logger.isEnabledFor(level):
        _logger.log(level, "%s", line(event), extra={"session_event": event})


def line(event: Event) -> str:
    """The event's name and its fields; those that are None are left out."""
    return structured(event.name, event.fields())


def structured(name: str, fields: Mapping[str, str | int | float]) -> str:
    """A line of the log in the way of the events'."""
    return " ".join([name, *(f"{key}={_text(value)}" for key, value in fields.items())])


def _text(value: str | int | float) -> str:
    text = str(value)
    return text if _is_plain(text) else json.dumps(text)
