"""What can happen to a server and to the way there, and how to arrange it (tests/test_faults.py).

A `Rig` is a server of its own behind a proxy, with what differs from server to server. A fault is a
context manager over a rig: inside it the fault lasts, after it everything is well again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.services.process import Service
from tests.services.proxy import Proxy

__all__ = ["OUTAGES", "UNWRITABLE", "Fault", "Rig"]

Fault = Callable[["Rig"], AbstractContextManager[None]]


class Rig(ABC):
    """A server that a test may break, behind a proxy that may break too."""

    name: str
    keeps = True
    """Whether the server still has what it acknowledged when it was stopped and started again."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self.port = port
        self.proxy = Proxy(port)
        self.proxy.__enter__()

    @abstractmethod
    def url(self, folder: Path, port: int) -> str:
        """A store's URL with a namespace of the folder's own, through that port."""

    def client_url(self, folder: Path) -> str:
        """The way through the proxy."""
        return self.url(folder, self.proxy.port)

    def wrong_password(self) -> AbstractContextManager[None]:
        """The server's password is another now, and whoever was in is out."""
        raise AssertionError("this server has no passwords")

    def full(self) -> AbstractContextManager[None]:
        """The server has no room for anything new."""
        raise AssertionError("this server is never full")

    def read_only(self) -> AbstractContextManager[None]:
        """The server lets itself be read alone, as one that another took the lead from."""
        raise AssertionError("this server is always writable")

    @abstractmethod
    def forget(self) -> None:
        """The server is there again, with nothing in it."""

    def close(self) -> None:
        self.proxy.__exit__(None, None, None)
        self.service.stop()


@contextmanager
def stopped(rig: Rig) -> Iterator[None]:
    rig.service.stop()
    yield
    rig.service.start()


@contextmanager
def killed(rig: Rig) -> Iterator[None]:
    rig.service.kill()
    yield
    rig.service.start()


@contextmanager
def frozen(rig: Rig) -> Iterator[None]:
    rig.service.freeze()
    yield
    rig.service.thaw()


@contextmanager
def silent(rig: Rig) -> Iterator[None]:
    """As when a firewall drops every packet: connections stay, nothing comes."""
    rig.proxy.silent = True
    yield
    rig.proxy.heal()


@contextmanager
def too_slow(rig: Rig) -> Iterator[None]:
    rig.proxy.delay = 3.0
    yield
    rig.proxy.heal()


@contextmanager
def dribbling(rig: Rig) -> Iterator[None]:
    """Each byte comes well within the time-out, and the answer never."""
    rig.proxy.dribble, rig.proxy.delay = True, 0.3
    yield
    rig.proxy.heal()


@contextmanager
def reset(rig: Rig) -> Iterator[None]:
    """Connections are reset in the middle of an answer."""
    rig.proxy.reset_after = 2
    yield
    rig.proxy.heal()


@contextmanager
def cut_short(rig: Rig) -> Iterator[None]:
    """Answers end in the middle, as if they were over."""
    rig.proxy.cut_after = 2
    yield
    rig.proxy.heal()


@contextmanager
def refusing(rig: Rig) -> Iterator[None]:
    """Every connection is reset, and so is every new one."""
    rig.proxy.refuse = True
    rig.proxy.cut_all()
    yield
    rig.proxy.heal()


OUTAGES: dict[str, Fault] = {
    "stopped": stopped,
    "killed": killed,
    "frozen": frozen,
    "silent": silent,
    "too slow": too_slow,
    "dribbling": dribbling,
    "reset": reset,
    "cut short": cut_short,
    "refusing": refusing,
    "wrong password": lambda rig: rig.wrong_password(),
}
"""Faults in which nothing can be read or written."""

UNWRITABLE: dict[str, Fault] = {
    "full": lambda rig: rig.full(),
    "read-only": lambda rig: rig.read_only(),
}
"""Faults in which reading works."""
