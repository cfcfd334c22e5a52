"""Children of a fork, which act and answer; what the stores that live in files are tested with."""

import _thread
import ctypes
import faulthandler
import json
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

__all__ = [
    "acknowledged",
    "all_at_once",
    "answer",
    "c_fork",
    "fork",
    "forks_beside_threads",
    "in_child",
]

# Python 3.12 and later warn of any fork beside threads, which is what some of these are about.
forks_beside_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


_PATIENCE = 40.0
_TRIES = 3
_HANGS = 5.0  # seconds without a word


def c_fork() -> int:
    """As a program in C forks, such as uWSGI: without Python's hooks.

    Where another thread happens to wait for the interpreter's lock at this moment, the child
    waits for that thread sooner or later, whatever runs there: glibc's condition variables wait
    for earlier waiters to leave, and this one is not in the child. So each child hands the lock
    to and fro first; one that hangs says nothing, and another one is made.
    """
    for _ in range(5):
        reading, writing = os.pipe()
        child: int = ctypes.PyDLL(None).fork()
        if not child:
            _hand_to_and_fro()
            os.write(writing, b".")
        os.close(writing)
        is_alive = not child or select.select([reading], [], [], _HANGS)[0]
        os.close(reading)
        if is_alive:
            return child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    raise AssertionError("expected a child that runs, got five that hang")


def _hand_to_and_fro() -> None:
    """The interpreter's lock, to another thread and back: each wait is for a forced switch."""
    is_done = False

    def keep_busy() -> None:
        while not is_done:
            pass

    _thread.start_new_thread(keep_busy, ())
    for _ in range(10):
        time.sleep(0)
    is_done = True


def fork(act: Callable[[], object], divide: Callable[[], int] = os.fork) -> tuple[int, int]:
    """Act in a child, which writes its answer as JSON; its process id, and where to read."""
    reading, writing = os.pipe()
    child = divide()
    if child:
        os.close(writing)
        return child, reading
    if divide is c_fork:  # a fork of this child would wait for the thread that this begins
        faulthandler.dump_traceback_later(_PATIENCE - 10, exit=True, file=writing)
    try:
        os.write(writing, json.dumps(act()).encode())
    except BaseException as error:  # noqa: BLE001 - the parent shall see it
        os.write(writing, json.dumps(repr(error)).encode())
    finally:
        os._exit(0)


class Hung(AssertionError):
    """The child gave no answer; the message says where its threads were."""


def answer(child: int, reading: int) -> Any:
    """What the child said. One that hangs is killed, and fails the test and not the whole run."""
    said, deadline = b"", time.monotonic() + _PATIENCE
    with open(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            more = pipe.read(65_536)
            said += more
            if not more:
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                assert said, f"expected an answer of a child, got its end with {code}"
                return _read(said)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise Hung(f"expected an answer of a child within {_PATIENCE} s, got {said!r}")


def _read(said: bytes) -> Any:
    try:
        return json.loads(said)
    except ValueError:
        raise Hung(f"expected an answer of a child, got\n{said.decode()}") from None


def in_child(act: Callable[[], object], divide: Callable[[], int] = os.fork) -> Any:
    """Act in a child. One that C forked may hang for reasons of Python's own: a thread that is not
    there had a lock, such as that of the list of all threads. Then another one is made."""
    for _ in range(_TRIES - 1 if divide is c_fork else 0):
        with suppress(Hung):
            return answer(*fork(act, divide))
    return answer(*fork(act, divide))


def all_at_once(count: int, act: Callable[[int], object]) -> list[Any]:
    """The answers of that many children, which wait for each other before they act."""
    reading, writing = os.pipe()

    def start_together(number: int) -> object:
        os.close(writing)
        os.read(reading, 1)
        return act(number)

    children = [fork(partial(start_together, number)) for number in range(count)]
    os.close(writing)
    answers = [answer(*child) for child in children]
    os.close(reading)
    return answers


def acknowledged(act: Callable[[int], object], enough: int) -> set[int]:
    """The numbers that a child said were done before it was killed in the middle of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            act(writing)
        finally:
            os._exit(1)
    os.close(writing)
    said = b""
    with open(reading, "rb", buffering=0) as pipe:
        while said.count(b"\n") < enough:
            said += pipe.read(4096)
        os.kill(child, signal.SIGKILL)
        while more := pipe.read(4096):
            said += more
    assert -signal.SIGKILL == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {int(line) for line in said.split(b"\n")[:-1]}
