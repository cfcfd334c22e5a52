"""The store's scripts. Each touches its one key alone, so that it runs in a Cluster too.

What a verb compares and what it writes is one step that nothing comes between. Scripts answer 1
for done and 0 for absent; a value that they found instead is the answer itself, and so is one of a
newer format, which they leave alone. Lua's numbers are doubles, which milliseconds fit in exactly;
its strings compare by locale but for equality, so times are unpacked before they are compared.

The index of a subject is a sorted set of ids (as 16 bytes) by the time until which each may live.
A quarter and a half of a millisecond are flags of such a score.

A half says *pending*: written before its record, which may be on its way. A reader that meets the
record takes the half away, and the id is *confirmed*; and of a confirmed one whose record is not
there it removes the id. It says which score it saw, and a writer makes each score pending anew, so
no reader ever removes what was written meanwhile. For that no score comes twice: a writer takes a
later one than was there, by a millisecond if need be.

A quarter says *seated*: its login passed the subject's mark and limit, in `ENTER`. Seats alone are
counted where a limit refuses, so logins that are still on their way do not refuse each other. A
seat whose record is not there any more is passed over by whom it would refuse, who looked, and
says which score it saw; since taking a seat makes a new score, too, none is passed over that was
taken meanwhile.

The subject's not-before mark is a member of the same set, so that one step sees both: `mark` and
the id that it keeps, at its time as a negative score, below what lapses and what is listed. It
lasts as long as the key, whose own end is put off accordingly.
"""

import hashlib

from coatcheck.store import AHEAD
from coatcheck.stores._redis.value import HEADER

__all__ = [
    "CREATE",
    "DELETE",
    "ENTER",
    "FORBID",
    "INDEX",
    "INDEX_FIRST",
    "LOG_IN",
    "MARKED",
    "NO_SEAT",
    "SAVE",
    "SEATED",
    "SETTLE",
    "TOUCH",
    "Script",
]

INDEX_FIRST = 2
"""What a save answers where the subject's index must be written first."""

SEATED, NO_SEAT, MARKED = 1, 0, -1
"""What `ENTER` says of a login; a mark may stop it at `INDEX` already."""


class Script:
    """A script and its name in the server, which has it or is given it."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


# The value of the key where that is alive by ARGV[1], else false.
_FOUND = """
local now = tonumber(ARGV[1])
local found = redis.call('GET', KEYS[1])
local version = found and found:byte(1) or 0
if version > 1 then return found end
if version < 1 or #found < 46 or #found < 46 + found:byte(46) then found = false end
if found and struct.unpack('>I8', found, 22) <= now then found = false end
"""

# Whoever watches is told of the id, which is the end of the key. A user who may not publish, may
# all the same write.
_TELL = """
local function tell()
  redis.pcall('PUBLISH', KEYS[1]:sub(1, -33) .. 'ended', KEYS[1]:sub(-32))
end
local function tell_of_another_subject(found, value)
  if found:sub(46, 46 + found:byte(46)) ~= value:sub(46, 46 + value:byte(46)) then tell() end
end
"""

# What is found is written again, unchanged: then WAIT waits for it too, who ever wrote it first.
CREATE = Script(
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

SAVE = Script(
    _TELL
    + _FOUND
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
tell_of_another_subject(found, value)
return 1
"""
)

# A save, or a creation where no revision is expected. What an earlier call wrote is done, and
# written again for WAIT.
LOG_IN = Script(
    _TELL
    + _FOUND
    + """
local expected, value = ARGV[3], ARGV[4]
if not found and expected ~= '' then return 0 end
if found and found:sub(2, 13) == value:sub(2, 13) then
  redis.call('SET', KEYS[1], found, 'KEEPTTL')
  return 1
end
if found and found:sub(2, 13) ~= expected then return found end
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
if found then tell_of_another_subject(found, value) end
return 1
"""
)

TOUCH = Script(
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

# Where a part of the value is given, only what has it still is removed. Where replicas are to
# confirm, it writes where nothing is, too: then WAIT waits for what an earlier delete left
# unconfirmed.
DELETE = Script(
    _TELL
    + f"""
local found = redis.call('GET', KEYS[1])
if found and ARGV[3] then
  local from = tonumber(ARGV[2])
  if found:sub(from, from + #ARGV[3] - 1) ~= ARGV[3] then return 0 end
end
if not found and tonumber(ARGV[1]) > 0 then redis.call('SET', KEYS[1], '') end
redis.call('DEL', KEYS[1])
if found then tell() end
return found and found:sub(1, {HEADER})
"""
)

# Whether the subject's mark refuses the login. One that lies far ahead was set by a wrong clock.
_MARK = f"""
local function forbidden(id, opened_at, now)
  local mark = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(0', 'WITHSCORES')
  if not mark[1] or mark[1] == 'mark' .. id then return false end
  local before = -tonumber(mark[2])
  return opened_at < before and before <= now + {AHEAD}
end
"""

# What lapsed goes, a day late: it may have lapsed by a clock alone that is ahead, as by the wrong
# time zone, and what is alive must be found when that is set right. The key's own end is never put
# off less than the longest-lived id needs, and never brought forward. The answer is the score, in
# full.
INDEX = Script(
    _MARK
    + """
local now = tonumber(ARGV[1])
if ARGV[4] and forbidden(ARGV[2], tonumber(ARGV[4]), now) then return -1 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '0', now - 86400000)
local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or 0)
local score = math.max(tonumber(ARGV[3]), math.floor(before) + 1) + 0.5 + before % 0.5
redis.call('ZADD', KEYS[1], score, ARGV[2])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
local ttl = math.max(math.ceil(tonumber(last)) - now, 1)
if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
return redis.call('ZSCORE', KEYS[1], ARGV[2])
"""
)

# The id's score is confirmed where it is the one that came before the record, ARGV[4]. An id that
# is not there any more has ended meanwhile, and needs no seat.
ENTER = Script(
    _MARK
    + """
local now, id = tonumber(ARGV[1]), ARGV[2]
if forbidden(id, tonumber(ARGV[3]), now) then return {-1, {}} end
local lists, most = ARGV[5] == 'list', tonumber(ARGV[6])
local others = {}
if lists then
  others = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES')
end
if most then
  local vacant, taken = {}, 0
  for at = 7, #ARGV, 2 do vacant[ARGV[at]] = tonumber(ARGV[at + 1]) end
  for at = 1, #others, 2 do
    local other, score = others[at], tonumber(others[at + 1])
    if other ~= id and score % 0.5 > 0 and score ~= vacant[other] then taken = taken + 1 end
  end
  if taken >= most then return {0, others} end
end
local score = tonumber(redis.call('ZSCORE', KEYS[1], id) or 0)
if score > 0 then
  local pending = score == tonumber(ARGV[4]) and 0 or 0.5
  redis.call('ZADD', KEYS[1], math.floor(score) + 1 + pending + 0.25, id)
end
return {1, others}
"""
)

# Of two marks the later one stays, but for one of a wrong clock. It writes in any case: then WAIT
# waits for what another call set.
FORBID = Script(
    f"""
local now, before = tonumber(ARGV[1]), tonumber(ARGV[2])
local mark = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(0', 'WITHSCORES')
local set = -tonumber(mark[2] or 0)
if set <= before or set > now + {AHEAD} then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(0')
  redis.call('ZADD', KEYS[1], -before, 'mark' .. ARGV[3])
end
local ttl = math.max(tonumber(ARGV[4]) - now, redis.call('PTTL', KEYS[1]), 1)
redis.call('PEXPIRE', KEYS[1], ttl)
return 1
"""
)

SETTLE = Script(
    """
for at = 1, #ARGV, 3 do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or 0)
  if score == tonumber(ARGV[at + 1]) then
    if ARGV[at + 2] == 'gone' then
      redis.call('ZREM', KEYS[1], ARGV[at])
    else
      redis.call('ZADD', KEYS[1], math.floor(score) + score % 0.5, ARGV[at])
    end
  end
end
return 1
"""
)
