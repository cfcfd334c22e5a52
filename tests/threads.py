"""A process that has all the threads that it may have."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_threads"]

_MORE_THAN_THERE_IS = 1 << 62  # bytes of address space


@contextmanager
def no_threads() -> Iterator[None]:
    """No thread begins within, as each would need a stack that nobody has.

    So it is where a process or its container has a limit (`ulimit -u`, `pids.max`), and at the
    exit of Python 3.12.
    """
    usual = threading.stack_size(_MORE_THAN_THERE_IS)
    try:
        yield
    finally:
        threading.stack_size(usual)
