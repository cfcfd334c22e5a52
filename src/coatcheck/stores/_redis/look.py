"""What in a server's settings may break a promise, seen when it is first reached."""

from collections.abc import Iterator, Sequence
from typing import Any

from coatcheck.store import Risk
from coatcheck.stores._redis.commands import Raw

__all__ = ["QUESTIONS", "risks"]

_SETTINGS = ("maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save")

QUESTIONS: list[Raw] = [
    *((b"CONFIG", b"GET", name.encode()) for name in _SETTINGS),
    (b"INFO", b"replication"),
]

_RANDOM = (
    "when memory is full it forgets live sessions, so that users are logged out at random, and of "
    "cookie sessions those that ended come back; set noeviction, and give it memory enough"
)


def risks(answers: Sequence[Any], replicas: int) -> Iterator[Risk]:
    """What the answers to `QUESTIONS` say; a question that is forbidden has no risk."""
    settings = dict(_pair(answer) for answer in answers[: len(_SETTINGS)])
    policy = settings.get("maxmemory-policy", "noeviction")
    if settings.get("maxmemory", "0") != "0" and policy != "noeviction":
        yield Risk(f"maxmemory-policy {policy}", _RANDOM)
    if settings.get("appendonly") == "no":
        yield _without_log(settings.get("save", ""))
    elif settings.get("appendfsync") == "no":
        yield Risk(
            "appendfsync no",
            "a crash of its machine undoes the last half minute: sessions that ended come back; "
            "set appendfsync everysec, or always",
        )
    if not replicas and _connected(answers[-1]):
        yield Risk(
            "replicas=0",
            "the server has replicas, and a failover undoes what these have not got yet: sessions "
            "that ended come back; give the store replicas=1",
        )


def _without_log(save: str) -> Risk:
    lost = "everything since the last snapshot" if save else "everything"
    return Risk(
        "appendonly no",
        f"a crash of the server loses {lost}: users are logged out, and sessions that ended since "
        "a snapshot come back; set appendonly yes",
    )


def _pair(answer: Any) -> tuple[str, str]:
    """A setting and its value; of an error none. By RESP 3 it is a mapping, by RESP 2 a list."""
    if isinstance(answer, dict):
        answer = [part for item in answer.items() for part in item]
    if not isinstance(answer, list) or len(answer) != 2:
        return "", ""
    name, value = (part.decode("utf-8", "replace") for part in answer)
    return name, value


def _connected(information: Any) -> bool:
    """Whether the server is a master with replicas."""
    if isinstance(information, str):
        information = information.encode()
    if not isinstance(information, bytes):
        return False
    lines = information.splitlines()
    return b"role:master" in lines and any(
        line.startswith(b"connected_slaves:") and line != b"connected_slaves:0" for line in lines
    )
