"""The store's scripts. Each touches its one key alone, so that it runs in a Cluster too.

What a verb compares and what it writes is one step that nothing comes between. Scripts answer 1
for done and 0 for absent; a value that they found instead is the answer itself, and so is one of a
newer format, which they leave alone. Lua's numbers are doubles, which milliseconds fit in exactly;
its strings compare by locale but for equality, so times are unpacked before they are compared.

The index of a subject is a sorted set of ids (as 16 bytes) by the time until which each may live.
A score that ends in .5 is *pending*: written before its record, which may be on its way. A reader
that meets the record makes the score whole, *confirmed*; and of a confirmed one whose record is not
there it removes the id. It says which score it saw, and a writer makes each score pending anew, so
no reader ever removes what was written meanwhile. For that no score comes twice: a writer takes a
later one than was there, by a millisecond if need be.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from coatcheck.record import Record
from coatcheck.stores._redis.value import HEADER, encode

__all__ = ["INDEX_FIRST", "Command", "Commands", "Raw", "Seen"]

Raw = tuple[bytes | str | int | float, ...]

Seen = tuple[str, float, bool]
"""An id in an index, the score that it was seen with, and whether it is the subject's."""

INDEX_FIRST = 2
"""What a save answers where the subject's index must be written first."""


class Script:
    """A script and its name in the server, which has it or is given it."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


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


# The value of the key where that is alive by ARGV[1], else false.
_FOUND = """
local now = tonumber(ARGV[1])
local found = redis.call('GET', KEYS[1])
local version = found and found:byte(1) or 0
if version > 1 then return found end
if version < 1 or #found < 46 or #found < 46 + found:byte(46) then found = false end
if found and struct.unpack('>I8', found, 22) <= now then found = false end
"""

# What is found is written again, unchanged: then WAIT waits for it too, who ever wrote it first.
_CREATE = Script(
    _FOUND
    + """
if found then
  redis.call('SET', KEYS[1], found, 'KEEPTTL')
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
return 1
"""
)

_SAVE = Script(
    _FOUND
    + """
if not found then return 0 end
if found:sub(2, 13) ~= ARGV[3] then return found end
local value = ARGV[4]
local expires, indexed = struct.unpack('>I8I8', value, 22)
if value:byte(46) > 0 and indexed == 0 then
  local subject = 46 + value:byte(46)
  if found:sub(46, subject) ~= value:sub(46, subject) then return 2 end
  if expires > struct.unpack('>I8', found, 30) then return 2 end
  value = value:sub(1, 29) .. found:sub(30, 37) .. value:sub(38)
end
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return 1
"""
)

_TOUCH = Script(
    _FOUND
    + """
if not found or found:sub(2, 13) ~= ARGV[2] then return 0 end
local seen, expires, indexed = struct.unpack('>I8I8I8', found, 14)
seen = math.max(seen, tonumber(ARGV[3]))
expires = math.max(expires, tonumber(ARGV[4]))
indexed = math.max(indexed, tonumber(ARGV[5]))
if found:byte(46) > 0 and expires > indexed then return found end
local times = struct.pack('>I8I8I8', seen, expires, indexed)
redis.call('SET', KEYS[1], found:sub(1, 13) .. times .. found:sub(38), 'PX', expires - now)
return 1
"""
)

# Where replicas are to confirm, it writes where nothing is, too: then WAIT waits for what an
# earlier delete left unconfirmed.
_DELETE = Script(
    f"""
local found = redis.call('GET', KEYS[1])
if not found and tonumber(ARGV[1]) > 0 then redis.call('SET', KEYS[1], '') end
redis.call('DEL', KEYS[1])
return found and found:sub(1, {HEADER})
"""
)

# What lapsed goes, a minute late, since clocks disagree. The key's own end is never put off less
# than the longest-lived id needs, and never brought forward.
_INDEX = Script(
    """
local now = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 60000)
local before = redis.call('ZSCORE', KEYS[1], ARGV[2])
local score = math.max(tonumber(ARGV[3]), before and math.floor(tonumber(before)) + 1 or 0)
redis.call('ZADD', KEYS[1], score + 0.5, ARGV[2])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
local ttl = math.max(math.ceil(tonumber(last)) - now, 1)
if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
return 1
"""
)

_SETTLE = Script(
    """
for at = 1, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if score and tonumber(score) == tonumber(ARGV[at + 1]) then
    if ARGV[at + 2] == 'gone' then
      redis.call('ZREM', KEYS[1], ARGV[at])
    else
      redis.call('ZADD', KEYS[1], math.floor(tonumber(score)), ARGV[at])
    end
  end
end
return 1
"""
)


class Commands:
    """The commands of a store whose keys begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()

    def key(self, id: str) -> bytes:
        return self.prefix + id.encode()

    def index_key(self, subject: str) -> bytes:
        return b"%bsubject:%b" % (self.prefix, subject.encode())

    def read(self, id: str) -> Command:
        key = self.prefix + id.encode()
        return Command(key, None, (b"GET", key))

    def add(self, record: Record, until: int, now: int) -> Command:
        arguments = (now, _ttl(record, now), encode(record, until))
        return Command(self.key(record.id), _CREATE, arguments)

    def replace(self, record: Record, expected: bytes, until: int, now: int) -> Command:
        arguments = (now, _ttl(record, now), expected, encode(record, until))
        return Command(self.key(record.id), _SAVE, arguments)

    def prolong(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, until: int, now: int
    ) -> Command:
        return Command(self.key(id), _TOUCH, (now, revision, seen_at, expires_at, until))

    def remove(self, id: str, replicas: int) -> Command:
        return Command(self.key(id), _DELETE, (replicas,))

    def index(self, subject: str, id: str, until: int, now: int) -> Command:
        return Command(self.index_key(subject), _INDEX, (now, bytes.fromhex(id), until))

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
        return Command(self.index_key(subject), _SETTLE, tuple(arguments))

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
