"""The records that stores are measured with: sessions of one size, each of a subject of its own."""

import os
import time
from itertools import count

from coatcheck.record import Record
from coatcheck.token import mint

__all__ = ["FAR", "NOW", "PAYLOAD", "SOON", "made"]

PAYLOAD = b"p" * 560
"""What a session of 404 bytes of JSON comes to."""

NOW = int(time.time() * 1000)
"""Every verb's `now`: that of the run's beginning."""

SOON, FAR = NOW + 3_600_000, NOW + 86_400_000
_subjects = count(1)


def made(expires_at: int = FAR) -> Record:
    """A session that is logged in."""
    subject = f"user:{next(_subjects)}"
    return Record(mint().id, os.urandom(12), subject, NOW, NOW, expires_at, PAYLOAD)
