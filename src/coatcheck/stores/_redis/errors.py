"""What redis-py raises and servers refuse, as `StoreUnavailable` with a remedy.

Servers begin an error with a word in capitals; redis-py makes classes of some and drops the word.
"""

from collections.abc import Iterable

from redis import exceptions

from coatcheck.errors import StoreUnavailable

__all__ = ["NotSent", "leads_no_more", "unavailable", "unconfirmed"]

_LONGEST = 200

_BY_WORD = {
    "OOM": "its memory is full: raise maxmemory, or take other data elsewhere",
    "READONLY": "it is a replica: name its master, or the Sentinels that know it",
    "LOADING": "it is still reading its data: wait until it has",
    "MASTERDOWN": "its master is down: look at that",
    "NOAUTH": "it wants a password: give user and password",
    "WRONGPASS": "check the user and the password, here and there",
    "NOPERM": "let its user call GET, SET, DEL, EVAL, EVALSHA, ZADD, ZREM, ZSCORE, ZRANGE, "
    "ZRANGEBYSCORE, ZREMRANGEBYSCORE, PTTL, PEXPIRE, SCAN and WAIT on this prefix, and PUBLISH and "
    "SUBSCRIBE on channels of it",
    "MISCONF": "it cannot write its snapshot: look at its disk",
    "CLUSTERDOWN": "wait for the failover, or look at its nodes",
    "TRYAGAIN": "it is moving slots: try again",
    "MOVED": "it is a Cluster: use a redis+cluster:// URL or a RedisCluster client",
    "BUSY": "a script of somebody's keeps it busy: SCRIPT KILL ends that",
    "NOREPLICAS": "too few replicas are connected: look at them, or lower min-replicas-to-write",
    "unknown": "it does not know a command: give protocol=2, or let it have EVAL, HELLO and AUTH",
    "WRONGTYPE": "another program uses keys of this name: give prefix= of its own",
}
_BY_CLASS: list[tuple[type[Exception], str]] = [
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.AskError, "MOVED"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.AuthenticationError, "WRONGPASS"),
]
_LEAVE = (
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.BusyLoadingError,
    exceptions.AuthenticationError,
)
_QUOTES = "with args beginning with"
_NO_ANSWER = "look at the server and the network, or raise timeout or connect_timeout"
_UNKNOWN = "look at the server and its log"


class NotSent(Exception):
    """Nothing was sent, since there was no connection; the cause says why."""


def unavailable(error: Exception) -> StoreUnavailable:
    """The error for one of the driver's or the server's; it never shows a password."""
    if isinstance(error, NotSent) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    error = _without_quotes(error)
    text = str(error)[:_LONGEST] or _wordless(error)
    by_class = next((word for kind, word in _BY_CLASS if isinstance(error, kind)), None)
    word = by_class or text.split(" ")[0]
    unknown = _UNKNOWN if isinstance(error, exceptions.ResponseError) else _NO_ANSWER
    remedy = _BY_WORD.get(word, unknown)
    said = f"{word} {text}" if by_class and not text.startswith(word) else text
    made = StoreUnavailable(f"RedisStore: expected the server to answer, got {said!r}; {remedy}")
    made.__cause__ = error
    return made


def _without_quotes(error: Exception) -> Exception:
    """Itself; or of one that quotes what was sent, a password perhaps, the words before that."""
    each: BaseException | None = error
    while each is not None:
        if _QUOTES in str(each):
            return type(error)(str(error).partition(_QUOTES)[0].rstrip(", "))
        each = each.__cause__ or each.__context__
    return error


def leads_no_more(answers: Iterable[object]) -> bool:
    """Whether one of them says that a server is not, or not yet, to be asked on that connection."""
    return any(isinstance(each, Exception) and _leads_no_more(each) for each in answers)


def _leads_no_more(refusal: Exception) -> bool:
    # Redis 6.2 puts the word of what a script was refused behind words of its own.
    said = str(refusal)
    return isinstance(refusal, _LEAVE) or any(word in said for word in ("READONLY", "UNBLOCKED"))


def unconfirmed(expected: int, got: object) -> StoreUnavailable:
    """The error for a write that the master has, and too few of its replicas."""
    return StoreUnavailable(
        f"RedisStore: expected {expected} replicas to confirm the end, the login or the mark, got "
        f"{got}; the master has it, but a failover now would undo it: look at the replicas, or "
        "lower replicas="
    )


def _wordless(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
