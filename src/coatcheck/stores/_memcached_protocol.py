"""What is said to Memcached and what it answers, as bytes, without a socket.

Four commands of its text protocol are all that the store needs:

    gets <key>                             VALUE <key> <flags> <bytes> <token>, the bytes; then END
    add <key> 0 <time> <bytes>             STORED, NOT_STORED
    cas <key> 0 <time> <bytes> <token>     STORED, EXISTS, NOT_FOUND
    delete <key>                           DELETED, NOT_FOUND

Several may be sent at once, and are answered in their order. `Answers` reads whatever comes, in
whatever pieces, and takes nothing on trust: a value must be of the key that was asked for and end
where it says. An answer that is an error of one command is that one's alone. Anything else is
`Broken`: what follows could belong to anybody, so the connection must be closed.
"""

from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from coatcheck.errors import CoatcheckError, SessionTooLarge, StoreUnavailable

__all__ = [
    "DELETED",
    "EXISTS",
    "NOT_FOUND",
    "NOT_STORED",
    "STORED",
    "Answer",
    "Answers",
    "Broken",
    "Command",
    "Item",
    "add",
    "cas",
    "delete",
    "gets",
]

STORED: Final = b"STORED"
NOT_STORED: Final = b"NOT_STORED"
EXISTS: Final = b"EXISTS"
NOT_FOUND: Final = b"NOT_FOUND"
DELETED: Final = b"DELETED"

_LONGEST_LINE = 2048
_TOO_LARGE = b"SERVER_ERROR object too large"


class Broken(Exception):
    """What came is no answer of Memcached's to what was asked."""


class Item(NamedTuple):
    """A value, and the token by which `cas` knows whether it is still that one."""

    value: bytes
    token: bytes


Answer = Item | bytes | None
A = TypeVar("A", bound=Answer)


class Command(NamedTuple, Generic[A]):
    """A request, and the words that may answer it; none where it is a value that is asked for."""

    request: bytes
    key: bytes
    words: frozenset[bytes] = frozenset()

    def __repr__(self) -> str:
        return f"Command({self.key!r})"


def gets(key: bytes) -> Command[Item | None]:
    return Command(b"gets %b\r\n" % key, key)


def add(key: bytes, value: bytes, seconds: int) -> Command[bytes]:
    request = b"add %b 0 %d %d\r\n%b\r\n" % (key, seconds, len(value), value)
    return Command(request, key, _ADDED)


def cas(key: bytes, value: bytes, seconds: int, token: bytes) -> Command[bytes]:
    request = b"cas %b 0 %d %d %b\r\n%b\r\n" % (key, seconds, len(value), token, value)
    return Command(request, key, _REPLACED)


def delete(key: bytes) -> Command[bytes]:
    return Command(b"delete %b\r\n" % key, key, _DELETED)


_ADDED = frozenset((STORED, NOT_STORED))
_REPLACED = frozenset((STORED, EXISTS, NOT_FOUND))
_DELETED = frozenset((DELETED, NOT_FOUND))


class Answers:
    """The answers to some commands, out of bytes as they come."""

    def __init__(self, commands: Sequence[Command[Any]]) -> None:
        self.found: list[Answer | CoatcheckError] = []
        self._commands = commands
        self._buffer = b""

    def feed(self, data: bytes) -> bool:
        """Take what came; whether every command is answered now. Raises `Broken`."""
        if not data:
            raise Broken("the end of the connection")
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while len(self.found) < len(self._commands):
            end = self._read(self._commands[len(self.found)], buffer, at)
            if end is None:
                self._buffer = buffer[at:]
                return False
            at = end
        if at < len(buffer):
            raise Broken("more than was asked for")
        return True

    def _read(self, command: Command[Any], buffer: bytes, at: int) -> int | None:
        """Where the answer that begins there ends; None where it is not whole yet."""
        end = buffer.find(b"\r\n", at, at + _LONGEST_LINE)
        if end < 0:
            if len(buffer) - at >= _LONGEST_LINE:
                raise Broken("a line without an end")
            return None
        line = buffer[at:end]
        if line.startswith(b"VALUE ") and not command.words:
            return self._read_value(command.key, line, buffer, end + 2)
        self.found.append(_meaning(command, line))
        return end + 2

    def _read_value(self, key: bytes, line: bytes, buffer: bytes, at: int) -> int | None:
        length, token = _header(key, line)
        end = at + length + len(_TAIL)
        if len(buffer) < end:
            return None
        if buffer[end - len(_TAIL) : end] != _TAIL:
            raise Broken("a value that does not end where it says")
        self.found.append(Item(buffer[at : at + length], token))
        return end


_TAIL = b"\r\nEND\r\n"


def _header(key: bytes, line: bytes) -> tuple[int, bytes]:
    """The length and the token that a VALUE line tells."""
    words = line.split(b" ")
    if len(words) != 5 or words[1] != key or not (words[3].isdigit() and words[4].isdigit()):
        raise Broken("a value of another key, or none")
    if words[4] == b"0":
        raise Broken("a value without a token, as the server was started with -C")
    return int(words[3]), words[4]


def _meaning(command: Command[Any], line: bytes) -> Answer | CoatcheckError:
    """What a line says that is the whole answer."""
    if line in command.words:
        return line
    if line == b"END" and not command.words:
        return None
    if line.startswith(_TOO_LARGE):
        return SessionTooLarge(
            "MemcachedStore: expected a session that the server takes, got one above its item "
            "size; keep less in it, lower max_bytes, or raise the server's -I (1m by default)"
        )
    said = repr(line[:80].decode("ascii", "replace"))
    if line.startswith(b"SERVER_ERROR "):
        return StoreUnavailable(
            f"MemcachedStore: expected an answer, got {said}; look at the server's memory (-m)"
        )
    raise Broken(said if line.startswith((b"CLIENT_ERROR ", b"ERROR")) else "another answer")
