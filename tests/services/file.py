"""A folder of files, which needs no server."""

from pathlib import Path

__all__ = ["dump", "url"]

_NAME = "sessions"


def url(folder: Path) -> str:
    """The URL of the sessions in that folder."""
    return f"file:///{folder / _NAME}?timeout=10"


def dump(folder: Path) -> bytes:
    """The name and the bytes of every file, which is all that a thief would get."""
    sessions = folder / _NAME
    files = sorted(path for path in sessions.rglob("*") if path.is_file())
    return b"\n".join(
        b"\n".join([str(path.relative_to(sessions)).encode(), path.read_bytes()]) for path in files
    )
