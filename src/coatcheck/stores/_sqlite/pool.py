"""The connections that read one SQLite file."""

import sqlite3
from collections import deque
from contextlib import suppress

__all__ = ["MOST_IDLE", "Pool"]

MOST_IDLE = 16


class Pool:
    """Connections for reading. Deques and sets change in one step, so it needs no lock.

    `all` outlives the pool: after `close` it still tells which of them are in use.
    """

    def __init__(self, everything: set[sqlite3.Connection]) -> None:
        self.all = everything
        self.idle: deque[sqlite3.Connection] = deque()
        self.most = MOST_IDLE

    def trim(self) -> None:
        with suppress(IndexError):
            while len(self.idle) > self.most:
                connection = self.idle.pop()
                connection.close()
                self.all.discard(connection)

    def close(self) -> None:
        """Close what is idle now, and what is in use as soon as it comes back."""
        self.most = 0
        self.trim()
