"""A small disk that can be full. Only root can make one; who is not, tests without it."""

import atexit
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from tests.services.process import temporary_folder

__all__ = ["Disk", "can_mount"]

_SIZE = 16 * 1024 * 1024  # room for the tables of all tests that share a server


class Disk:
    """A file system of 16 MB in memory, mounted at that folder, which the user owns."""

    def __init__(self, folder: Path, user: str | None = None) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder))
        atexit.register(self.close)
        if user is not None:
            shutil.chown(folder, user)

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Inside there is no room for another byte."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield
        filler.unlink()

    def close(self) -> None:
        if os.path.ismount(self.folder):
            _run("umount", "--lazy", str(self.folder))


@cache
def can_mount() -> bool:
    """Whether this user can make one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    try:
        Disk(temporary_folder("disk")).close()
    except subprocess.CalledProcessError:
        return False
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
