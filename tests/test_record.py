"""Records as bytes: what was written is what is read, and anything else is refused by its name."""

import os
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import record as records
from coatcheck.events import Unreadable as Dropped
from coatcheck.record import Assurance, Body, Head, NewerFormat, Record, Unreadable
from coatcheck.sealing import NONCE, Plain, Seal
from coatcheck.session import Client
from coatcheck.testing import changed
from tests.sites import Site

TIMES = st.integers(0, 2**62)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RECORDS = st.builds(
    Record,
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.binary(max_size=20),
    st.none() | TEXT,
    st.none() | TIMES,
    TIMES,
    TIMES,
    st.binary(max_size=100),
)
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    bytes: st.binary(max_size=16),
    bytes | None: st.none() | st.binary(max_size=16),
    int: TIMES,
    int | None: st.none() | TIMES,
    bool: st.booleans(),
    bool | None: st.none() | st.booleans(),
    str | None: st.none() | TEXT,
    Assurance | None: st.none()
    | st.builds(Assurance, TIMES, st.lists(TEXT, max_size=3).map(tuple), TIMES),
}
HEADS = st.builds(Head, **{name: KINDS[kind] for name, kind in get_type_hints(Head).items()})
BODIES = st.builds(
    Body,
    st.dictionaries(TEXT, st.binary(max_size=20), max_size=4),
    st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=4),
)
RECORD = Record("0" * 32, b"\x00\x00\x00\x01revision", "user:42", 1, 2, 3, b"\x01payload")
SMALLEST: dict[Any, Any] = {bytes: b"0123456789abcdef", int: 1, bool: False}
FIELDS: dict[str, Any] = {n: SMALLEST.get(kind) for n, kind in get_type_hints(Head).items()}
HEAD = msgspec.structs.replace(
    Head(**FIELDS),
    address="203.0.113.9",
    agent="Agent",
)

READERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (records.load, records.dump(RECORD)),
    (records.read_payload, records.write_payload(HEAD)),
]

READING = pytest.mark.parametrize(("read", "good"), READERS, ids=["load", "read_payload"])


def verdict(read: Callable[[bytes], object], data: bytes) -> str:
    """What comes of reading this: any error but the two that are promised goes through."""
    try:
        read(data)
    except (NewerFormat, Unreadable) as error:
        return type(error).__name__
    return "read"


@given(RECORDS)
def test_a_record_is_what_was_dumped(record: Record) -> None:
    """Every field, to the byte."""
    assert record == records.load(records.dump(record))


@given(HEADS)
def test_a_head_is_what_was_written(head: Head) -> None:
    """Every field, to the byte."""
    assert head == records.read_payload(records.write_payload(head))


@given(BODIES, st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_body_is_what_was_sealed(body: Body, id: str) -> None:
    """Values, messages, and their order."""
    seal = Seal(b"k" * 32)
    sealed = seal.seal(records.encode_body(body), id.encode(), os.urandom(NONCE))
    opened = records.open_body(sealed, seal, id)

    assert body == opened
    assert list(body.values) == list(opened.values)


def test_a_body_opens_for_its_id_alone() -> None:
    """Moved to another record, it is unreadable."""
    seal = Seal(b"k" * 32)
    data = records.encode_body(Body({"a": b"1"}, []))
    sealed = seal.seal(data, b"0" * 32, os.urandom(NONCE))
    assert {"a": b"1"} == records.open_body(sealed, seal, "0" * 32).values
    with pytest.raises(Unreadable):
        records.open_body(sealed, seal, "1" * 32)


@READING
def test_a_newer_format_is_told_apart(read: Callable[[bytes], object], good: bytes) -> None:
    """Whatever follows its first byte: it is somebody's, only not for us."""
    for version in range(2, 256):
        assert "NewerFormat" == verdict(read, bytes([version]) + good[1:])
    assert "NewerFormat" == verdict(read, b"\x02")


@READING
@pytest.mark.parametrize("damage", [b"", b"\x00", b"\x01", b"\x01\xc1", b"\x01\x90"])
def test_garbage_is_unreadable(read: Callable[[bytes], object], good: bytes, damage: bytes) -> None:
    """Empty, of no version, of no content."""
    assert "read" == verdict(read, good)
    assert "Unreadable" == verdict(read, damage)


@READING
def test_no_part_of_it_is_read(read: Callable[[bytes], object], good: bytes) -> None:
    """Nor more than it."""
    assert {"Unreadable"} == {verdict(read, good[:end]) for end in range(len(good))}
    assert "Unreadable" == verdict(read, good + b"\x00")


@READING
def test_no_flipped_bit_raises_anything_else(read: Callable[[bytes], object], good: bytes) -> None:
    """A damaged record is one of the two errors, or another record; never a stray exception."""
    number = int.from_bytes(good)
    for bit in range(len(good) * 8):
        damaged = (number ^ 1 << bit).to_bytes(len(good))
        assert verdict(read, damaged) in {"read", "Unreadable", "NewerFormat"}


@READING
@given(data=st.binary(max_size=60))
def test_no_bytes_raise_anything_else(
    read: Callable[[bytes], object], good: bytes, data: bytes
) -> None:
    """Whatever stands behind the version."""
    assert verdict(read, b"\x01" + data) in {"read", "Unreadable"}


@READING
def test_deep_nesting_is_unreadable(read: Callable[[bytes], object], good: bytes) -> None:
    """Where a newer field could stand, bytes that nest without end."""
    fields = msgspec.msgpack.decode(good[1:])
    longer = msgspec.msgpack.encode([*fields, 0])[:-1] + b"\x91" * 100_000 + b"\x01"

    assert "Unreadable" == verdict(read, b"\x01" + longer)


@READING
def test_fields_added_by_a_later_release_are_passed_over(
    read: Callable[[bytes], object], good: bytes
) -> None:
    """Fields are only ever added at the end, so both can read both."""
    fields = msgspec.msgpack.decode(good[1:])
    longer = b"\x01" + msgspec.msgpack.encode([*fields, {"new": [1, 2]}])

    assert read(good) == read(longer)


@pytest.mark.parametrize("field", range(len(get_type_hints(Head))))
def test_a_head_of_wrong_types_is_unreadable(field: int) -> None:
    """Each field is checked."""
    fields: list[Any] = list(msgspec.structs.astuple(HEAD))
    fields[field] = {"no": "such"}

    assert "Unreadable" == verdict(records.read_payload, b"\x01" + msgspec.msgpack.encode(fields))


def test_revisions_count_and_have_a_tag_of_their_own() -> None:
    """Two histories that count alike never look alike."""
    first = records.next_revision(b"", b"1" * 8)
    second = records.next_revision(first, b"2" * 8)

    assert b"\x00\x00\x00\x01" + b"1" * 8 == first
    assert b"\x00\x00\x00\x02" + b"2" * 8 == second
    assert second != records.next_revision(first, b"3" * 8)


def test_a_revision_that_counted_to_its_end_begins_again() -> None:
    """Four thousand million saves of one session do not break it."""
    last = b"\xff" * 4 + b"1" * 8

    assert b"\x00\x00\x00\x00" + b"2" * 8 == records.next_revision(last, b"2" * 8)


def test_unsealed_content_is_for_inside_a_sealed_cookie() -> None:
    """`Plain` passes bytes on; a body that does not decode is unreadable all the same."""
    assert Body({}, []) == records.open_body(b"\x92\x80\x90", Plain(), "0" * 32)
    with pytest.raises(Unreadable):
        records.open_body(b"\x92\x80", Plain(), "0" * 32)


@pytest.mark.parametrize("damaged", [b"Ag\xffnt", b"\xed\xa0\x80.."], ids=["ff", "surrogate"])
def test_a_damaged_record_never_fails_a_request(server: Site, damaged: bytes) -> None:
    """Text that is no UTF-8 any more is unreadable too, not an error of every request (law 10)."""
    owner = server.browser()
    session = server.open(None, Client("203.0.113.9", "Agent"))
    session["a"] = 1
    owner.end(session)
    record = server.records()[0]
    broken = changed(record, payload=record.payload.replace(b"Agent", damaged))
    assert broken.payload != record.payload
    server._run(server.store.save(broken, record.revision, int(server.clock() * 1000)))

    assert (True, "unknown") == (owner.begin().is_new, owner.begin().refused)
    assert [] == server.events_of(Dropped)  # its proof could not be checked, so it stays
