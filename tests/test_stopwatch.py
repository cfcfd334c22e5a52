"""The stopwatch counts what our code takes, and no time in which the machine lets nobody run."""

import signal
import subprocess
import sys
import threading
import time

from tests.services.process import until
from tests.stopwatch import Stopwatch

HALTED = 0.5
PROGRAM = """
from tests.stopwatch import Stopwatch

with Stopwatch() as watch:
    print("begun", flush=True)
    input()
print(watch.seconds, flush=True)
"""


def _passes(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end, "the passing of time")


def test_waiting_counts() -> None:
    """As a call that waits for an answer does."""
    with Stopwatch() as watch:
        threading.Event().wait(0.2)
    assert 0.15 < watch.seconds < 0.3


def test_working_counts() -> None:
    """Also where no other thread gets its turn."""
    ended = time.thread_time() + 0.2
    with Stopwatch() as watch:
        while time.thread_time() < ended:
            """Busy."""
    assert watch.seconds > 0.15


def test_it_goes_on_until_its_end() -> None:
    """And not beyond."""
    with Stopwatch() as watch:
        first = watch.seconds
        until(lambda: watch.seconds > first, "a moment")
    last = watch.seconds
    _passes(0.03)
    assert last == watch.seconds


def test_a_halt_does_not_count() -> None:
    """The process is stopped as a busy machine would stop it."""
    program = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert "begun\n" == child.stdout.readline()
        began = time.monotonic()
        child.send_signal(signal.SIGSTOP)
        _passes(HALTED)
        child.send_signal(signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        counted = float(child.stdout.readline())
        took = time.monotonic() - began
    assert counted < took - HALTED / 2
