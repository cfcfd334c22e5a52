"""A record and its entry in the index, read, written and removed together.

Whoever writes holds the lock of the record's branch, whose descriptor is `folder`.
"""

from coatcheck.record import Record
from coatcheck.stores._file import records, subjects
from coatcheck.stores._file.folder import below

__all__ = ["load", "place", "put", "read", "remove"]


def load(root: int, id: str, now: int) -> Record | None:
    """The live record of that id. It takes no lock."""
    with below(root, id[:2]) as folder:
        found = read(folder, id)
    return found if found is not None and found.expires_at > now else None


def read(folder: int | None, id: str) -> Record | None:
    """The record, alive or not."""
    return None if folder is None else records.read(folder, id)


def put(
    root: int, folder: int | None, record: Record, found: Record | None, *, durable: bool
) -> None:
    """Enter the record in the index, and write it in the place of the one found there."""
    subjects.add(root, record, durable=durable)
    place(root, folder, record, found, durable=durable)


def place(
    root: int, folder: int | None, record: Record, found: Record | None, *, durable: bool
) -> None:
    """Write the record, which is in the index already, in the place of the one found there."""
    assert folder is not None
    records.replace(folder, record, durable=durable)
    if found is not None and found.subject != record.subject:
        subjects.discard(root, found)


def remove(root: int, folder: int | None, record: Record) -> None:
    """Remove the record that was found there. Removing nothing is fine."""
    assert folder is not None
    records.remove(folder, record.id)
    subjects.discard(root, record)
