"""Start a server as a process of its own, learn its address from what it says, and end it."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import coatcheck

ROOT = Path(__file__).parents[2]
SOURCE = Path(coatcheck.__file__).parents[1]
PATIENCE = 30.0
"""Seconds after which a server counts as never coming up, or never going down."""

_ADDRESS = re.compile(r"http://[^ :]+:(\d+)")


class Server:
    """A running server's port, and all that it has said so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: "re.Pattern[str]") -> str:
        """The first group of the next line that matches, within the time limit."""
        deadline = time.monotonic() + PATIENCE
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line is not None, "the server went down: " + "".join(self.said)
            self.said.append(line)
            if found := pattern.search(line):
                return found[1]

    def wait_for_port(self) -> int:
        return int(self.wait_for(_ADDRESS))

    def stop(self) -> None:
        """Politely, then by force; nothing of its group is left running."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                """All gone, as it should be."""
            self.process.wait(PATIENCE)
            self._reader.join(PATIENCE)
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextmanager
def running(arguments: list[str], folder: Path, **environment: str) -> Iterator[Server]:
    """`python …` in a process group of its own."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    path = os.pathsep.join([str(SOURCE), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    server = Server(process)
    try:
        yield server
    finally:
        server.stop()
