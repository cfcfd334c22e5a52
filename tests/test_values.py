"""Session values to bytes and back."""

import enum
import math
import struct
import subprocess
import sys
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, localcontext
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Encoder, Ext

from coatcheck import values
from coatcheck.errors import ConfigurationError, UnsupportedValue
from coatcheck.values import decode, encode, is_fixed, register

DEEPEST = 64


def shape(value: object) -> object:
    """What two values have in common if, and only if, they are the same in type and in value."""
    kind = type(value)
    if isinstance(value, (list, tuple)):
        return kind, [shape(member) for member in value]
    if isinstance(value, dict):
        return kind, [(shape(key), shape(member)) for key, member in value.items()]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(repr(shape(member)) for member in value)
    if isinstance(value, float):
        return kind, struct.pack(">d", value)
    if isinstance(value, Decimal):
        return kind, value.as_tuple()
    if isinstance(value, (datetime, time)):
        return kind, str(value.replace(tzinfo=None)), value.fold, zone_shape(value.tzinfo)
    return kind, value


def zone_shape(zone: tzinfo | None) -> object:
    """The same of a time zone; the repr of a `timezone` shows whether it was given a name."""
    return type(zone), repr(zone), zone is UTC, getattr(zone, "key", None)


surrogates = st.text(st.characters(categories=["Cs", "L"]), max_size=4)
offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
zones: st.SearchStrategy[tzinfo | None] = st.one_of(
    st.none(),
    st.just(UTC),
    offsets.map(timezone),
    st.builds(timezone, offsets, surrogates),
    st.sampled_from(["Europe/Paris", "America/New_York", "UTC", "Etc/GMT+3"]).map(ZoneInfo),
)
folds = st.integers(0, 1)
dates = st.datetimes(timezones=st.none()).flatmap(
    lambda at: st.builds(lambda zone, fold: at.replace(tzinfo=zone, fold=fold), zones, folds)
)
times = st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold), st.times(), zones, folds
)
decimals = st.one_of(
    st.decimals(),
    st.sampled_from(["-0", "0E+7", "1E-999999", "NaN123", "-sNaN7", "-Infinity", "1.10"]).map(
        Decimal
    ),
)
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(max_size=8),
    surrogates,
    st.binary(max_size=8),
    dates,
    st.dates(),
    times,
    st.timedeltas(),
    st.uuids(),
    decimals.filter(lambda number: not number.is_snan()),
)
scalars = st.one_of(hashable_scalars, decimals)
hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=4,
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(scalars, hashables, st.sets(hashables, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
    ),
    max_leaves=8,
)


class TestRoundTrip:
    """What you read is what you wrote."""

    @settings(max_examples=300)
    @given(anything)
    def test_any_value_comes_back_the_same_in_type_and_value(self, value: Any) -> None:
        """Every supported value, nested in any way, survives exactly."""
        assert shape(value) == shape(decode(encode(value)))

    @settings(max_examples=200)
    @given(anything)
    def test_encoding_what_was_decoded_gives_the_same_bytes(self, value: Any) -> None:
        """A value that was merely read is never taken for changed."""
        data = encode(value)
        assert data == encode(decode(data))

    @pytest.mark.parametrize(
        "value",
        [
            2**63 - 1,
            2**63,
            2**64 - 1,
            2**64,
            -(2**63),
            -(2**63) - 1,
            10**5000,
            -(10**5000),
            math.nan,
            math.inf,
            -math.inf,
            -0.0,
            5e-324,
            "",
            "a\0b",
            "\ud800",
            "\ud83d\ude00",
            "\U0001f600",
            b"\xff\0",
            {"\udfff": ["\ud800", {"\ud801": 2**70}]},
            {
                None: 1,
                1: 2,
                1.5: 3,
                b"k": 4,
                "k": 5,
                (1, "a"): 6,
                frozenset({1}): 7,
                UUID(int=1): 8,
            },
            {True: 1, 0: 2},
            {2**70: "large", "\ud800": 1, 1: 1},
            [1, True, 1.0, (1,), [1], {1}, frozenset({1})],
            [[], (), {}, set(), frozenset(), "", b"", None],
            datetime.min,
            datetime.max,
            datetime(2026, 10, 25, 2, 30, 0, 123456, ZoneInfo("Europe/Paris"), fold=1),
            time(2, 30, fold=1),
            time.max,
            timedelta.min,
            timedelta.max,
            timedelta(microseconds=-1),
            Decimal("1E+5"),
            Decimal("1.500"),
            Decimal("-0E-3"),
            Decimal("-NaN42"),
            Decimal("sNaN"),
            UUID(int=2**128 - 1),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_an_edge_of_its_type_comes_back(self, value: Any) -> None:
        """The values at which other formats lose something survive."""
        assert shape(value) == shape(decode(encode(value)))

    @pytest.mark.parametrize(
        "zone",
        [
            None,
            UTC,
            timezone(timedelta(0), "UTC"),
            timezone(timedelta(hours=2)),
            timezone(timedelta(hours=2), "CEST"),
            timezone(timedelta(hours=2), "UTC+02:00"),
            timezone(timedelta(seconds=-1, microseconds=1), "\ud800"),
            ZoneInfo("UTC"),
            ZoneInfo("Asia/Kolkata"),
        ],
        ids=repr,
    )
    def test_a_time_zone_comes_back(self, zone: tzinfo | None) -> None:
        """Offset, name, key and the lack of each are kept; UTC comes back as the singleton."""
        written = [datetime(2026, 1, 2, 3, 4, 5, 6, zone), time(3, tzinfo=zone)]
        assert shape(written) == shape(decode(encode(written)))

    def test_the_order_of_a_dict_is_kept(self) -> None:
        """A dict comes back in the order of its insertions, whichever form it is stored in."""
        written = {"b": 1, "a": {(2,): 1, (1,): 2}}
        assert list(decode(encode(written))) == ["b", "a"]
        assert list(decode(encode(written))["a"]) == [(2,), (1,)]

    def test_whether_a_uuid_is_safe_is_not_kept(self) -> None:
        """`is_safe` is about how a UUID was made, and is dropped on purpose."""
        written = UUID(int=5, is_safe=SafeUUID.safe)
        assert (written, SafeUUID.unknown) == (
            decode(encode(written)),
            decode(encode(written)).is_safe,
        )

    def test_nan_members_of_a_set_all_come_back(self) -> None:
        """Two NaN are two members, before and after."""
        assert len(decode(encode({float("nan"), float("nan")}))) == 2

    def test_a_decoded_value_is_new(self) -> None:
        """What is decoded shares nothing with what was encoded."""
        written: list[Any] = [[1], {"a": {2}}]
        read = decode(encode(written))
        read[0].append(2)
        read[1]["a"].add(3)
        assert [[1], {"a": {2}}] == written


class TestCanonical:
    """Equally built values give equal bytes."""

    def test_a_set_is_encoded_the_same_in_processes_that_order_it_differently(self) -> None:
        """Hash seeds, which change the order of sets, leave the bytes alone."""
        code = (
            "from coatcheck.values import encode;"
            "s = {'a', 'b', 'c', 'd', 'e', b'x', 1, (2, 'z')};"
            "print(list(s)); print(encode([s, frozenset(s)]).hex())"
        )
        source = str(Path(values.__file__).parents[1])
        runs = [
            subprocess.run(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": source},
                capture_output=True,
                check=True,
                text=True,
            ).stdout.splitlines()
            for seed in ("1", "2", "3")
        ]
        assert len({order for order, _ in runs}) > 1
        assert len({encoded for _, encoded in runs}) == 1

    def test_a_set_is_sorted_by_the_bytes_of_its_members(self) -> None:
        """The order of members is that of their encodings."""
        assert encode({"a", None, 3, 2, 1}) == b"\xc7\x07\x11\x95\x01\x02\x03\xa1a\xc0"

    @settings(max_examples=100)
    @given(st.lists(hashables, max_size=6))
    def test_the_order_in_which_a_set_was_filled_does_not_matter(self, members: list[Any]) -> None:
        """Two ways of building one set give one encoding."""
        built, rebuilt = set(members), set[Any]()
        for member in sorted(built, key=lambda each: encode(each)):
            rebuilt.add(member)
        assert encode(built) == encode(rebuilt)

    def test_a_neighbour_that_is_not_native_does_not_change_the_bytes(self) -> None:
        """Walking a value with care writes what handing it over writes."""
        plain = [1, -5, 2**64 - 1, -(2**63), "é", {"k": 1.5, 7: None}]
        assert encode(plain) == encode([plain, 2**64])[1 : 1 + len(encode(plain))]

    @pytest.mark.parametrize(
        ("one", "other"),
        [(1, True), (1, 1.0), (0.0, -0.0), ("a", b"a"), ([], ()), (set(), frozenset()), ({}, [])],
    )
    def test_equal_or_empty_values_of_two_types_stay_distinct(self, one: Any, other: Any) -> None:
        """Types that Python calls equal, or that look alike when empty, have their own bytes."""
        assert encode(one) != encode(other)

    def test_the_decimal_context_of_the_thread_does_not_matter(self) -> None:
        """A context that writes a small `e`, or has little precision, changes nothing."""
        expected = encode(Decimal("1.23456789E+30"))
        with localcontext(Context(prec=2, capitals=0, traps=[])):
            assert expected == encode(Decimal("1.23456789E+30"))
            assert shape(Decimal("1.23456789E+30")) == shape(decode(expected))

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (2**64, "c70901010000000000000000"),
            ("\ud800", "c70302eda080"),
            (datetime(2026, 1, 2, 3, 4, 5, 6), "c70c0307ea010203040500000006" + "00"),
            (datetime(2026, 1, 2, tzinfo=UTC), "c70e0307ea0102" + "00" * 8 + "9100"),
            (date(2026, 1, 2), "d60407ea0102"),
            (time(1, fold=1, tzinfo=ZoneInfo("UTC")), "c70d0501000000000000" + "01c403555443"),
            (timedelta(days=-1, seconds=2), "c70c06ffffffff0000000200000000"),
            (UUID(int=1), "d807" + "00" * 15 + "01"),
            (Decimal("-1.50"), "c70508" + b"-1.50".hex()),
            ((1, "a"), "d610" + "9201a161"),
            ({2, 1}, "c70311" + "920102"),
            (frozenset({1}), "d51291" + "01"),
            ({(): 1}, "c70513" + "92d41090" + "01"),
        ],
        ids=ascii,
    )
    def test_the_format_stays_what_it_was(self, value: Any, expected: str) -> None:
        """Stored bytes outlive releases, so these never change."""
        assert expected == encode(value).hex()


class Colour(enum.IntEnum):
    RED = 7_654_321


class Word(str):
    __slots__ = ()


class Amount(float):
    pass


class Shade(enum.Enum):
    DARK = "hunter2"


class Stamp(datetime):
    pass


class Wild(tzinfo):
    def utcoffset(self, when: datetime | None, /) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, when: datetime | None, /) -> str:
        return "hunter2"

    def dst(self, when: datetime | None, /) -> None:
        return None


Point = namedtuple("Point", "x y")


def keyless() -> ZoneInfo:
    file = files("tzdata").joinpath("zoneinfo", "Europe", "Paris")
    return ZoneInfo.from_file(BytesIO(file.read_bytes()))


REFUSED = {
    "object": object(),
    "IntEnum": Colour.RED,
    "Enum": Shade.DARK,
    "str": Word("hunter2"),
    "float": Amount(1.5),
    "datetime": Stamp(2026, 1, 1),
    "namedtuple": Point(1, 2),
    "OrderedDict": OrderedDict(a=1),
    "defaultdict": defaultdict(list),
    "Counter": Counter("hunter2"),
    "bytearray": bytearray(b"hunter2"),
    "memoryview": memoryview(b"hunter2"),
    "range": range(3),
    "complex": 1j,
    "class": int,
    "iterator": iter([]),
    "NotImplemented": NotImplemented,
    "Ext": Ext(1, b"\x05"),
}


class TestRefusals:
    """What cannot be kept exactly is refused, with words that help and give nothing away."""

    @pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
    def test_a_value_of_another_type_is_refused(self, value: Any) -> None:
        """Subclasses of supported types included, as they would come back as their base."""
        with pytest.raises(UnsupportedValue, match=type(value).__name__):
            encode(value)

    @pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
    @pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (1, v), lambda v: {"k": {1: v}}])
    def test_a_value_of_another_type_is_refused_inside_another(self, wrap: Any, value: Any) -> None:
        """No container is a way around."""
        with pytest.raises(UnsupportedValue):
            encode(wrap(value))

    def test_a_subclass_is_refused_beside_a_value_that_is_not_native(self) -> None:
        """The walk that looks at each int and str refuses what the first one does."""
        with pytest.raises(UnsupportedValue, match=r"Word at \[1\]"):
            encode(["\ud800", Word("x")])

    @pytest.mark.parametrize(
        ("value", "place"),
        [
            ({"a": [1, 2, object()]}, " at ['a'][2]: "),
            ([{7: (0, object())}], " at [0][7][1]: "),
            ({(1, "hunter2"): object()}, " at [<tuple>]: "),
            ({b"hunter2": object()}, " at [<bytes>]: "),
            ({"hunter2" * 10: object()}, " at [<str>]: "),
            ({"a": {Word("hunter2"): 1}}, " at ['a'][<a key>]: "),
            ([{(1, Word("hunter2"))}], " at [0][<a member>][1]: "),
            (object(), "object: "),
        ],
        ids=range(8),  # the repr of an object holds its address
    )
    def test_the_message_says_where(self, value: Any, place: str) -> None:
        """The path into the value is named, with no more of a key than its text or its type."""
        with pytest.raises(UnsupportedValue) as caught:
            encode(value)
        assert place in str(caught.value)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
    def test_the_message_does_not_hold_the_value(self, value: Any) -> None:
        """Nothing of the contents is in the message, nor in an error behind it."""
        with pytest.raises(UnsupportedValue) as caught:
            encode({"secret": ["hunter2", 7_654_321, value]})
        assert "['secret'][2]" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert "7654321" not in str(caught.value)
        assert None is caught.value.__context__

    def test_the_message_says_what_to_do(self) -> None:
        """A subclass can be converted to its base; anything else can have a codec."""
        with pytest.raises(UnsupportedValue, match=r"with int\(\.\.\.\), or register a codec"):
            encode(Colour.RED)
        with pytest.raises(UnsupportedValue, match=r"to a supported type, or register a codec"):
            encode(object())

    @pytest.mark.parametrize(
        "zone", [Wild(), keyless()], ids=["own tzinfo", "ZoneInfo from a file"]
    )
    def test_a_time_zone_that_cannot_be_found_again_is_refused(self, zone: tzinfo) -> None:
        """A zone without a key, or of another type, is refused by its type and place."""
        for moment in (datetime(2026, 1, 1, tzinfo=zone), time(1, tzinfo=zone)):
            with pytest.raises(UnsupportedValue, match=rf"{type(zone).__name__} at \['at'\]: use"):
                encode({"at": moment})


def nested(levels: int, wrap: Any = lambda value: [value]) -> Any:
    value: Any = None
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS = {
    "list": lambda value: [value],
    "dict": lambda value: {"k": value},
    "tuple": lambda value: (value,),
    "frozenset": lambda value: frozenset([value]),
    "key": lambda value: {value: 1} if value is None else {"k": value},
    "UUID key": lambda value: {UUID(int=1): value},
}


class TestDepth:
    """Nesting ends at 64 containers, in both directions."""

    @pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
    def test_64_levels_are_kept(self, wrap: Any) -> None:
        """The limit itself is fine."""
        value = nested(DEEPEST, wrap)
        assert value == decode(encode(value))

    @pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
    def test_65_levels_are_refused(self, wrap: Any) -> None:
        """One more is refused, whichever container it is."""
        with pytest.raises(UnsupportedValue, match="at most 64 levels"):
            encode(nested(DEEPEST + 1, wrap))

    def test_a_scalar_is_kept_in_the_deepest_container(self) -> None:
        """Containers count, what they hold does not."""
        value = nested(DEEPEST - 1, lambda inner: [inner or [UUID(int=1), 2**99]])
        assert value == decode(encode(value))

    def test_a_value_that_contains_itself_is_refused(self) -> None:
        """A cycle is found, in a list, in a dict and through both."""
        ring: list[Any] = [1]
        ring.append({"again": ring})
        with pytest.raises(UnsupportedValue, match="contains itself"):
            encode(ring)

    def test_the_place_of_an_endless_value_is_cut_short(self) -> None:
        """The message names the way in, not all 64 steps of it."""
        with pytest.raises(UnsupportedValue, match=r"at (\[0\]){8}…: "):
            encode(nested(DEEPEST + 1))

    @pytest.mark.parametrize("levels", [DEEPEST + 1, 500, 100_000])
    @pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1k"])
    def test_bytes_nested_deeper_are_refused(self, opening: bytes, levels: int) -> None:
        """Neither our limit nor the interpreter's shows as anything but ValueError."""
        with pytest.raises(ValueError, match="encode"):
            decode(opening * levels + b"\xc0")

    @pytest.mark.parametrize("code", [16, 17, 18, 19, 20])
    @pytest.mark.parametrize("levels", [DEEPEST + 1, 2000])
    def test_extensions_nested_deeper_are_refused(self, code: int, levels: int) -> None:
        """Nesting through extension types is counted like any other."""
        data = b"\x90"
        for _ in range(levels):
            data = b"\x91" + Encoder().encode(Ext(code, data))
        with pytest.raises(ValueError, match="encode"):
            decode(data)


class TestHostileBytes:
    """Bytes that encode() never makes raise ValueError, and nothing else."""

    @settings(max_examples=500)
    @given(st.binary(max_size=40))
    @example(b"")
    @example(b"\xc1")
    @example(b"\xa1\xff")
    def test_random_bytes_raise_only_value_error(self, data: bytes) -> None:
        """Noise is refused, or is by chance the encoding of something."""
        self.decodes_or_is_refused(data)

    @settings(max_examples=500)
    @given(st.integers(-128, 127), st.one_of(st.binary(max_size=20), anything.map(encode)))
    def test_random_extensions_raise_only_value_error(self, code: int, data: bytes) -> None:
        """So is noise that claims to be one of our own types."""
        self.decodes_or_is_refused(Encoder().encode(Ext(code, data)))

    @settings(max_examples=300)
    @given(
        st.sampled_from([3, 5]),
        st.binary(min_size=9, max_size=12),
        st.one_of(st.binary(), anything, st.lists(anything, max_size=3)).map(encode),
    )
    def test_random_time_zones_raise_only_value_error(
        self, code: int, fields: bytes, zone: bytes
    ) -> None:
        """A zone comes from the bytes too, and may be of any shape."""
        self.decodes_or_is_refused(
            Encoder().encode(Ext(code, bytes(12 if code == 3 else 8) + zone))
        )
        self.decodes_or_is_refused(Encoder().encode(Ext(code, fields + zone)))

    @settings(max_examples=100)
    @given(anything)
    def test_every_bit_flipped_raises_only_value_error(self, value: Any) -> None:
        """A flipped bit makes another value, or none; what it makes can be encoded."""
        data = encode(value)[:64]
        for bit in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            self.decodes_or_is_refused(bytes(flipped))

    @settings(max_examples=100)
    @given(anything)
    def test_every_truncation_is_refused(self, value: Any) -> None:
        """A beginning is never a whole."""
        data = encode(value)
        for end in range(min(len(data), 200)):
            with pytest.raises(ValueError, match="encode"):
                decode(data[:end])

    @settings(max_examples=100)
    @given(anything, st.binary(min_size=1, max_size=4))
    def test_every_extension_is_refused(self, value: Any, more: bytes) -> None:
        """Nothing may follow a value."""
        with pytest.raises(ValueError, match="encode"):
            decode(encode(value) + more)

    def decodes_or_is_refused(self, data: bytes) -> None:
        try:
            value = decode(data)
        except ValueError:
            return
        assert shape(value) == shape(decode(encode(value)))

    @pytest.mark.parametrize(
        "data",
        [
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x10",
            b"\xd6\x10\xdd\xff\xff\xff",
            b"\xc7\x05\x10\xdd\xff\xff\xff\xff",
            b"\xc7\x0b\x08" + b"1E+99999999",
            b"\xc7\x0c\x08" + b"1E+999999999",
        ],
        ids=bytes.hex,
    )
    def test_a_huge_length_allocates_nothing(self, data: bytes) -> None:
        """A length is not believed before the bytes are there."""
        tracemalloc.start()
        try:
            self.decodes_or_is_refused(data)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "data",
        [
            b"\xd6\xff\x00\x00\x00\x00",  # MessagePack's own timestamp
            b"\x81\x92\x01\x02\x03",  # an array as a key
            b"\xd4\x00\x00",  # an extension that is not ours
            Encoder().encode(Ext(16, b"\x05")),  # a tuple of a number
            Encoder().encode(Ext(16, b"\xa1a")),  # a tuple of a str
            Encoder().encode(Ext(17, b"\x92\x01\x01")),  # a set with a member twice
            Encoder().encode(Ext(17, b"\x92\x01\xc3")),  # 1 and True
            Encoder().encode(Ext(18, b"\x92\x01\x01")),
            Encoder().encode(Ext(17, b"\x91\x90")),  # a list in a set
            Encoder().encode(Ext(19, b"\x94\x01\x01\x01\x02")),  # a dict with a key twice
            Encoder().encode(Ext(19, b"\x93\x01\x01\x01")),  # a key without a value
            Encoder().encode(Ext(8, b" 1")),  # decimals as people write them
            Encoder().encode(Ext(8, b"1_0")),
            Encoder().encode(Ext(8, b"1e5")),
            Encoder().encode(Ext(8, b"one")),
            Encoder().encode(Ext(4, b"\x07\xea\x0d\x01")),  # month 13
            Encoder().encode(Ext(7, b"\x00" * 15)),
            Encoder().encode(Ext(6, b"\x7f" * 12)),
            Encoder().encode(Ext(5, bytes(8) + b"\xcb\x7f\xf8" + bytes(6))),
            Encoder().encode(Ext(5, bytes(8) + b"\x92\x00\x05")),  # a zone named by a number
            Encoder().encode(Ext(20, b"\x92\x05\x05")),  # so is a codec
            Encoder().encode(Ext(20, b"\x92\x90\x05")),
        ],
        ids=bytes.hex,
    )
    def test_a_spelling_that_is_not_ours_is_refused(self, data: bytes) -> None:
        """Each of these is well-formed MessagePack, and none is ever written by us."""
        with pytest.raises(ValueError, match="encode") as caught:
            decode(data)
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize(
        "key", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", ""]
    )
    def test_an_unknown_time_zone_is_named_with_its_remedy(self, key: str) -> None:
        """Another machine may lack the zone: say which, and what to install."""
        data = Ext(5, bytes(8) + Encoder().encode(key.encode()))
        with pytest.raises(
            ValueError, match=f"time zone '{key}' is not known .* install the tzdata"
        ):
            decode(Encoder().encode(data))

    @settings(max_examples=100)
    @given(st.text(max_size=20) | surrogates | st.from_regex(r"[A-Za-z./_+-]{0,20}"))
    @example("a" * 5000)
    @example("Europe/Paris\0")
    @example("zone.tab")
    @example(".")
    def test_any_time_zone_key_raises_only_value_error(self, key: str) -> None:
        """Looking for a zone touches files, and their errors are no business of the caller."""
        raw = Encoder().encode(key.encode("utf-8", "surrogatepass"))
        self.decodes_or_is_refused(Encoder().encode(Ext(5, bytes(8) + raw)))


class TestIsFixed:
    """Whether a value cannot change in place."""

    @settings(max_examples=100)
    @given(hashables)
    def test_scalars_and_what_is_made_of_them_alone_are_fixed(self, value: Any) -> None:
        """No hashable supported value can change."""
        assert is_fixed(value)

    @pytest.mark.parametrize(
        "value", [[], {}, set(), ([],), (1, ({},)), object(), bytearray(), Word("a")]
    )
    def test_what_holds_something_that_changes_is_not(self, value: Any) -> None:
        """A tuple is as fixed as its members; of other types nothing is known."""
        assert not is_fixed(value)

    def test_what_is_nested_too_deep_is_not(self) -> None:
        """A value that encode() refuses anyway does not exhaust the stack."""
        assert not is_fixed(nested(100_000, lambda inner: (inner,)))


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return type(other) is Money and self.cents == other.cents

    def __hash__(self) -> int:
        return hash(self.cents)


class Purse(Money):
    pass


def as_cents(money: Money) -> int:
    return money.cents


@pytest.fixture(autouse=True)
def _own_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs are the process's; each test starts without any."""
    monkeypatch.setattr(values, "_by_class", {})
    monkeypatch.setattr(values, "_by_name", {})


@pytest.fixture
def money() -> None:
    """A codec that most of these tests use."""
    register(Money, "money", encode=as_cents, decode=Money)


@pytest.mark.usefixtures("money")
class TestCodecs:
    """Further types, by name."""

    @pytest.mark.parametrize(
        "value",
        [Money(5), [Money(2**70)], {Money(1): (Money(2),)}, {Money(1), Money(2)}],
        ids=["alone", "large", "key", "members"],
    )
    def test_a_registered_type_comes_back(self, value: Any) -> None:
        """Anywhere that a built-in type can be."""
        read = decode(encode(value))
        assert (type(value), value) == (type(read), read)

    def test_a_subclass_of_a_registered_type_is_refused(self) -> None:
        """A codec is for exactly one class."""
        with pytest.raises(UnsupportedValue, match="Purse"):
            encode(Purse(1))

    def test_a_subclass_of_a_supported_type_can_be_registered(self) -> None:
        """That is how an IntEnum is kept."""
        register(Colour, "colour", encode=int, decode=Colour)
        assert Colour.RED is decode(encode([Colour.RED]))[0]

    def test_a_codec_may_return_what_another_codec_keeps(self) -> None:
        """Codecs nest, to the same depth as anything else."""
        register(Purse, "purse", encode=lambda purse: [Money(purse.cents)], decode=first_as_purse)
        assert decode(encode(Purse(3))).cents == 3

    def test_registering_the_same_again_replaces_the_codec(self) -> None:
        """A module that is imported twice does no harm."""
        register(Money, "money", encode=lambda m: str(m.cents), decode=lambda t: Money(int(t)))
        assert encode(Money(5)) == b"\xc7\x09\x14\x92\xa5money\xa15"

    def test_what_was_stored_under_an_earlier_name_can_be_read(self) -> None:
        """A class may change its name; sessions last longer than deployments."""
        stored = encode(Money(5))
        register(Money, "money.v2", encode=as_cents, decode=Money)
        assert Money(5) == decode(stored)
        assert b"money.v2" in encode(Money(5))

    @pytest.mark.parametrize("cls", [int, bool, type(None), datetime, tuple, frozenset, Decimal])
    def test_a_supported_type_is_refused(self, cls: type) -> None:
        """What a session keeps by itself has no other form."""
        with pytest.raises(ConfigurationError, match="do not keep by themselves"):
            register(cls, "mine", encode=str, decode=cls)

    def test_a_name_of_another_type_is_refused(self) -> None:
        """One name, one type: the message says whose it is."""
        with pytest.raises(ConfigurationError, match=r"'money' belongs to .*Money: choose another"):
            register(Purse, "money", encode=as_cents, decode=Purse)

    @pytest.mark.parametrize("name", ["", "\ud800", "a\n", 5])
    def test_a_name_that_is_no_name_is_refused(self, name: Any) -> None:
        """A name is text that can be stored and shown."""
        with pytest.raises(ConfigurationError, match="codec name"):
            register(Purse, name, encode=as_cents, decode=Purse)

    def test_an_unknown_codec_is_named_with_its_remedy(self) -> None:
        """A process that forgot to register says so, rather than calling the bytes damaged."""
        data = encode([Money(5)]).replace(b"money", b"honey")
        with pytest.raises(ValueError, match=r"'honey' is not registered here: call register\(\)"):
            decode(data)

    def test_a_codec_that_fails_to_encode_is_named_with_the_place(self) -> None:
        """The codec's own error is the cause; ours says where."""
        register(Money, "money", encode=lambda m: m.cents / 0, decode=Money)
        with pytest.raises(UnsupportedValue, match=r"'money' .*Money at \['a'\]") as caught:
            encode({"a": Money(7_654_321)})
        assert ZeroDivisionError is type(caught.value.__cause__)
        assert "7654321" not in str(caught.value)

    @pytest.mark.parametrize("error", [OverflowError(), UnicodeEncodeError("utf-8", "", 0, 1, "")])
    def test_an_error_of_a_codec_is_never_taken_for_ours(self, error: Exception) -> None:
        """Not even one of the kind that makes us walk again."""

        def fail(money: Money) -> int:
            raise error

        register(Money, "money", encode=fail, decode=Money)
        with pytest.raises(UnsupportedValue, match="'money'"):
            encode(Money(1))

    def test_what_a_codec_returns_must_be_supported(self) -> None:
        """The path leads through the codec."""
        register(Money, "money", encode=lambda m: [object()], decode=Money)
        with pytest.raises(UnsupportedValue, match=r"object at \['a'\]\[<its encoded form>\]\[0\]"):
            encode({"a": Money(1)})

    def test_a_codec_that_returns_its_own_type_is_refused(self) -> None:
        """An endless codec ends at the limit of depth."""
        register(Money, "money", encode=lambda m: m, decode=lambda m: m)
        with pytest.raises(UnsupportedValue, match="at most 64 levels"):
            encode(Money(1))

    def test_a_codec_that_fails_to_decode_is_named(self) -> None:
        """Whatever it raises becomes a ValueError with that as its cause."""
        data = encode(Money(1))
        register(Money, "money", encode=as_cents, decode=lambda cents: {}[cents])
        with pytest.raises(ValueError, match="'money' could not decode") as caught:
            decode(data)
        assert KeyError is type(caught.value.__cause__)

    def test_a_codec_that_decodes_to_another_type_is_refused(self) -> None:
        """What you read is what you wrote, or an error."""
        register(Money, "money", encode=as_cents, decode=Purse)
        with pytest.raises(
            ValueError, match=r"expected .*Money from the codec 'money', got .*Purse"
        ):
            decode(encode(Money(1)))

    def test_a_registered_type_is_not_fixed(self) -> None:
        """Nothing is known about it, so it may change."""
        assert not is_fixed(Money(1))


def first_as_purse(moneys: list[Money]) -> Purse:
    return Purse(moneys[0].cents)
