"""One-time codes, as an authenticator app computes them: TOTP (RFC 6238), by pyotp.

Nothing here knows about sessions. A real site shows the secret once, as a QR code for the app, and
the code never; this one has no app at hand. A real site also limits how often one may guess.
"""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyotp

__all__ = ["STEP", "Codes", "Token"]

STEP = 30
"""Seconds for which a code is shown (RFC 6238, 5.2)."""


@dataclass(frozen=True, slots=True)
class Token:
    """What the authenticator app of a user would show."""

    secret: str
    code: str
    seconds_left: int
    is_used: bool


class Codes:
    """The secrets of all users, made when first asked for, and which code was taken last."""

    def __init__(self, table: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._table = table
        table.execute(
            "CREATE TABLE IF NOT EXISTS codes "
            "(username TEXT PRIMARY KEY, secret TEXT, used INTEGER)"
        )

    def show(self, username: str) -> Token:
        secret, used = self._row(username)
        step, past = divmod(int(self._clock()), STEP)
        return Token(secret, pyotp.HOTP(secret).at(step), STEP - past, is_used=used >= step)

    def accept(self, username: str, code: str) -> bool:
        """Whether it is the code of now, or the one before, which may be on its way.

        Each is taken once: a code that somebody looked at while it was typed opens nothing.
        """
        secret, _ = self._row(username)
        now = int(self._clock()) // STEP
        return any(
            pyotp.HOTP(secret).verify(code, step) and self._use(username, step)
            for step in (now, now - 1)
        )

    def _use(self, username: str, step: int) -> bool:
        command = "UPDATE codes SET used = ? WHERE username = ? AND used < ?"
        return self._table.execute(command, (step, username, step)).rowcount == 1

    def _row(self, username: str) -> tuple[str, int]:
        command = "INSERT INTO codes VALUES (?, ?, 0) ON CONFLICT DO NOTHING"
        self._table.execute(command, (username, pyotp.random_base32()))
        query = "SELECT secret, used FROM codes WHERE username = ?"
        row: tuple[str, int] = self._table.execute(query, (username,)).fetchone()
        return row
