"""What both apps do: one action of a session for each path, so that one test drives both."""

import os

from coatcheck import Session

FILE = os.environ.get("COATCHECK_TEST_FILE", "sessions.sqlite3")
"""Where the sessions are; all workers share it."""

PATIENCE = 5.0
"""Seconds that a write may wait: a busy test machine could get an honest 503 after less."""

HEADERS = [("Content-Type", "text/plain"), ("X-Worker", str(os.getpid()))]


def act(session: Session, action: str, argument: str) -> str:
    """Do it; the text of the answer."""
    match action:
        case "login":
            session.login(argument)
        case "logout":
            session.logout()
        case "put":
            session[argument] = True
        case "edit":
            session.edit(argument, lambda n: n + 1, default=0)
        case "read":
            values = sorted(f"{key}={value}" for key, value in session.items())
            return " ".join([str(session.subject), *values])
    return "done"
