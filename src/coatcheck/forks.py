"""What begins anew in the child of a fork.

Python runs its hooks where Python forks. Programs in C, such as uWSGI, may fork without them; so
whoever takes something that a parent may have left (a lock, a connection) calls `notice` before.
"""

import os
import threading
from collections.abc import Callable

__all__ = ["in_child", "notice"]


class _Births:
    def __init__(self) -> None:
        self.acts: list[Callable[[], object]] = []
        self.start()

    def start(self) -> None:
        self.process = os.getpid()
        self.lock = threading.RLock()
        self.under_way = False

    def be_born(self) -> None:
        self.start()
        for act in self.acts:
            act()

    def catch_up(self) -> None:
        with self.lock:
            if self.process == os.getpid() or self.under_way:  # the latter within an act
                return
            self.under_way = True
            for act in self.acts:
                act()
            self.process, self.under_way = os.getpid(), False


_births = _Births()


def in_child(act: Callable[[], object]) -> None:
    """Have it called in each child, for good."""
    _births.acts.append(act)


def notice() -> None:
    """In a child that was born without hooks, do now what they would have done."""
    if _births.process != os.getpid():
        _births.catch_up()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_births.be_born)
