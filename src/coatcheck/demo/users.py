"""The demo's users: a table of names and argon2id hashes, and their one-time codes.

Nothing here knows about sessions. A session's subject is `user:<username>`, and `find` is what the
login gate calls to get the user of a subject.
"""

import os
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from coatcheck.demo.codes import Codes

__all__ = ["DEMO_USERS", "DemoUser", "User", "Users", "is_username"]

_PREFIX = "user:"
_HASHERS = 4  # each takes 64 MiB for a moment, so a flood of logins must wait
_LONGEST_PASSWORD = 1024

is_username = re.compile(r"[a-z][a-z0-9-]{2,29}").fullmatch


@dataclass(frozen=True, slots=True)
class User:
    username: str
    name: str

    @property
    def subject(self) -> str:
        return _PREFIX + self.username


@dataclass(frozen=True, slots=True)
class DemoUser:
    """A user whose password is printed on the front page."""

    username: str
    name: str
    password: str


DEMO_USERS = (
    DemoUser("ada", "Ada Lovelace", "analytical-engine"),
    DemoUser("grace", "Grace Hopper", "a-moth-in-relay-70"),
    DemoUser("linus", "Linus", "just-a-hobby-1991"),
)


class Users:
    """The users in one SQLite file, or in memory."""

    def __init__(
        self,
        path: str | Path = ":memory:",
        hasher: PasswordHasher | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hasher = hasher or PasswordHasher()
        self._limiter = CapacityLimiter(_HASHERS)
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())
        self._table = _connect(path)
        self.codes = Codes(self._table, clock)
        for user in DEMO_USERS:
            if self.find(_PREFIX + user.username) is None:
                self._insert(user.username, user.name, self._hasher.hash(user.password))

    def close(self) -> None:
        self._table.close()

    def find(self, subject: str) -> User | None:
        """The user of a session's subject."""
        row = self._row(subject.removeprefix(_PREFIX))
        return User(row[0], row[1]) if row is not None else None

    async def login(self, username: str, password: str) -> User | None:
        """The user, where the password is theirs. An unknown user costs the same work."""
        row = self._row(username)
        kept = self._nobodys_hash if row is None else row[2]
        matches = await to_thread.run_sync(self._verify, kept, password, limiter=self._limiter)
        return User(row[0], row[1]) if row is not None and matches else None

    async def register(self, username: str, name: str, password: str) -> User | None:
        """A new user, or None where the username is taken."""
        made = await to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)
        return User(username, name) if self._insert(username, name, made) else None

    async def change_password(self, username: str, password: str) -> None:
        made = await to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)
        command = "UPDATE users SET hash = ? WHERE username = ?"
        self._table.execute(command, (made, username))

    def _verify(self, hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(hash, password[:_LONGEST_PASSWORD])
        except (VerificationError, InvalidHashError):
            return False

    def _row(self, username: str) -> tuple[str, str, str] | None:
        query = "SELECT username, name, hash FROM users WHERE username = ?"
        row: tuple[str, str, str] | None = self._table.execute(query, (username,)).fetchone()
        return row

    def _insert(self, username: str, name: str, hash: str) -> bool:
        command = "INSERT INTO users VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return self._table.execute(command, (username, name, hash)).rowcount == 1


def _connect(path: str | Path) -> sqlite3.Connection:
    if path != ":memory:":
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    table.execute(
        "CREATE TABLE IF NOT EXISTS users (username TEXT PRIMARY KEY, name TEXT, hash TEXT)"
    )
    return table
