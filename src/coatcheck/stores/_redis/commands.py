"""What the store asks of a server: each as a command on one key, and several of them in turn."""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from coatcheck.record import Record
from coatcheck.store import Entry
from coatcheck.stores._redis import scripts
from coatcheck.stores._redis.scripts import Script
from coatcheck.stores._redis.value import Part, encode

__all__ = ["Command", "Commands", "Indexed", "Raw", "Seen", "Step", "Steps"]

Raw = tuple[bytes | str | int | float, ...]

Indexed: TypeAlias = tuple[str, float]
"""An id in an index, and its score."""

Seen = tuple[str, float, bool]
"""An id in an index, the score that it was seen with, and whether it is the subject's."""


class Command(NamedTuple):
    """A command, by the key that it concerns; where there is a script, its arguments."""

    key: bytes
    script: Script | None
    arguments: Raw

    def raw(self, whole: bool = False) -> Raw:
        """What is sent; `whole` where the server does not know the script."""
        script = self.script
        if script is None:
            return self.arguments
        if whole:
            return (b"EVAL", script.text, 1, self.key, *self.arguments)
        return (b"EVALSHA", script.sha, 1, self.key, *self.arguments)


class Step(NamedTuple):
    """Commands that may go together."""

    commands: Sequence[Command]
    durable: bool = False
    """Whether replicas are to confirm each."""
    needed: bool = True
    """Whether an outage ends all; else the answer is None, and the steps go on."""


R = TypeVar("R")

Steps: TypeAlias = Generator[Step, Any, R]
"""Steps in turn, without I/O: each is sent the answers to its commands, in order."""


class Commands:
    """The commands of a store whose keys begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()

    @property
    def channel(self) -> bytes:
        """Where the scripts tell which sessions ended."""
        return self.prefix + b"ended"

    def key(self, id: str) -> bytes:
        return self.prefix + id.encode()

    def index_key(self, subject: str) -> bytes:
        return b"%bsubject:%b" % (self.prefix, subject.encode())

    def read(self, id: str) -> Command:
        key = self.prefix + id.encode()
        return Command(key, None, (b"GET", key))

    def add(self, record: Record, until: int, now: int) -> Command:
        arguments = (now, _ttl(record, now), encode(record, until))
        return Command(self.key(record.id), scripts.CREATE, arguments)

    def replace(self, record: Record, expected: bytes, until: int, now: int) -> Command:
        arguments = (now, _ttl(record, now), expected, encode(record, until))
        return Command(self.key(record.id), scripts.SAVE, arguments)

    def prolong(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, until: int, now: int
    ) -> Command:
        return Command(self.key(id), scripts.TOUCH, (now, revision, seen_at, expires_at, until))

    def log_in(self, record: Record, expected: bytes, until: int, now: int) -> Command:
        arguments = (now, _ttl(record, now), expected, encode(record, until))
        return Command(self.key(record.id), scripts.LOG_IN, arguments)

    def remove(self, id: str, replicas: int, still: Part | None = None) -> Command:
        """Remove the value; where a part is given, only the one that has it still."""
        return Command(self.key(id), scripts.DELETE, (replicas, *(still or ())))

    def index(
        self, subject: str, id: str, until: int, now: int, opened_at: int | None = None
    ) -> Command:
        """Enter the id, unless it is a login that was opened before the subject's mark."""
        arguments = (now, bytes.fromhex(id), until)
        opened = () if opened_at is None else (opened_at,)
        return Command(self.index_key(subject), scripts.INDEX, (*arguments, *opened))

    def enter(
        self,
        record: Record,
        entry: Entry,
        score: float,
        vacant: Iterable[Indexed],
        now: int,
    ) -> Command:
        """Seat a login that was written, if it may; the answer lists the index where there is a
        limit. `score` is what the id was indexed with, and of `vacant` seats the records are gone.
        """
        opened_at, most, refuse = entry
        arguments: list[bytes | str | int] = [now, bytes.fromhex(record.id), opened_at, repr(score)]
        arguments.append(b"" if most is None else b"list")
        arguments.append(b"" if most is None or not refuse else most)
        for each, seen in vacant:
            arguments += (bytes.fromhex(each), repr(seen))
        return Command(self.index_key(record.subject or ""), scripts.ENTER, tuple(arguments))

    def mark(self, subject: str, before: int, keep: str | None, until: int, now: int) -> Command:
        kept = bytes.fromhex(keep or "")
        return Command(self.index_key(subject), scripts.FORBID, (now, before, kept, until))

    def unindex(self, subject: str, id: str) -> Command:
        key = self.index_key(subject)
        return Command(key, None, (b"ZREM", key, bytes.fromhex(id)))

    def indexed(self, subject: str, now: int) -> Command:
        """Ids and scores of those that may be alive."""
        key = self.index_key(subject)
        arguments = (b"ZRANGEBYSCORE", key, b"(%d" % now, b"+inf", b"WITHSCORES")
        return Command(key, None, arguments)

    def settle(self, subject: str, seen: Iterable[Seen]) -> Command:
        """Confirm the ids that are the subject's and remove the others, where they still have the
        score that was seen."""
        arguments: list[bytes | str] = []
        for each, score, theirs in seen:
            arguments += (bytes.fromhex(each), repr(score), b"theirs" if theirs else b"gone")
        return Command(self.index_key(subject), scripts.SETTLE, tuple(arguments))

    def scan(self, cursor: int) -> Raw:
        """The next keys of one server."""
        pattern = b"".join(b"\\%c" % c if c in b"*?[]\\^-" else b"%c" % c for c in self.prefix)
        return (b"SCAN", cursor, b"MATCH", pattern + b"?" * 32, b"COUNT", 1000)

    def ids_of(self, keys: Iterable[bytes]) -> Iterable[str]:
        """The ids among them."""
        start = len(self.prefix)
        for key in keys:
            rest = key[start:].decode("ascii", "replace")
            if len(rest) == 32 and not rest.strip("0123456789abcdef"):
                yield rest


def _ttl(record: Record, now: int) -> int:
    return max(record.expires_at - now, 1)
