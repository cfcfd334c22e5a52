"""Dataclasses, msgspec Structs and pydantic models as session values."""

import enum
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, computed_field

from coatcheck import values
from coatcheck.errors import UnsupportedValue
from coatcheck.typed import restore, simplify
from coatcheck.values import decode, encode, register

PARIS = ZoneInfo("Europe/Paris")


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Rank(enum.IntEnum):
    FIRST = 1


class Spot(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Line:
    sku: str
    count: int = 1
    size: Size = Size.SMALL


@dataclass
class Cart:
    lines: list[Line] = field(default_factory=list)
    by_id: dict[int, Line] = field(default_factory=dict)
    by_size: dict[Size, int] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    fixed: frozenset[tuple[int, str]] = frozenset()
    pair: tuple[int, str] = (0, "")
    spot: Spot | None = None
    rank: Rank = Rank.FIRST
    kind: Literal["a", "b"] = "a"
    raw: bytes = b""
    at: datetime | None = None
    day: date | None = None
    clock: time | None = None
    span: timedelta | None = None
    key: UUID | None = None
    price: Decimal | None = None
    ratio: float = 0.0
    large: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    made: int = field(default=0, init=False)


class Item(msgspec.Struct, frozen=True, rename="camel"):
    item_name: str
    sizes: frozenset[Size] = frozenset()


class Basket(msgspec.Struct, tag="basket", omit_defaults=True):
    items: dict[int, Item] = {}
    line: Line | None = None
    at: datetime | None = None
    price: Decimal = Decimal(0)


class Packed(msgspec.Struct, array_like=True):
    a: int
    b: tuple[bytes, ...] = ()


class Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    name: str
    size: Size = Size.SMALL


class Order(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    parts: list[Part] = []
    by_id: dict[int, Part] = {}
    tags: set[str] = set()
    pair: tuple[int, str] = (0, "")
    at: datetime | None = None
    span: timedelta | None = None
    key: UUID | None = None
    price: Decimal | None = None
    line: Line | None = None
    renamed: int = Field(default=0, alias="reNamed")

    @computed_field
    def total(self) -> int:
        """The number of parts."""
        return len(self.parts)


FULL_CART = Cart(
    lines=[Line("a"), Line("b", 2, Size.LARGE)],
    by_id={7: Line("c"), -1: Line("d")},
    by_size={Size.LARGE: 3},
    tags={"x", "y"},
    fixed=frozenset({(1, "a"), (2, "b")}),
    pair=(1, "z"),
    spot=Spot(1, 2),
    raw=b"\xff\x00",
    at=datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1),
    day=date(2026, 1, 2),
    clock=time(1, 2, 3, 4),
    span=timedelta(days=-1, microseconds=5),
    key=UUID(int=3),
    price=Decimal("1.50"),
    ratio=0.1,
    large=2**80,
    extra={"n": [1, None, {"deep": "\ud800"}], "at": datetime(2026, 1, 1), "price": Decimal("1.0")},
)
FULL_ORDER = Order(
    parts=[Part(name="a"), Part(name="b", size=Size.LARGE)],
    by_id={7: Part(name="c")},
    tags={"x", "y"},
    pair=(1, "z"),
    at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    span=timedelta(days=-1, microseconds=5),
    key=UUID(int=3),
    price=Decimal("1.50"),
    line=Line("l", 3, Size.LARGE),
    reNamed=5,
)
OBJECTS = [
    Cart(),
    FULL_CART,
    Basket(),
    Basket(
        {1: Item("a", frozenset(Size))}, Line("x"), datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.0")
    ),
    Packed(1, (b"\xff", b"")),
    Order(),
    FULL_ORDER,
    RootModel[list[int]]([1, 2]),
]


def through_a_session(obj: Any) -> Any:
    return restore(decode(encode(simplify(obj))), type(obj))


class TestRoundTrip:
    """What was written as a type is read as that type."""

    @pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: type(obj).__name__)
    def test_an_object_comes_back(self, obj: Any) -> None:
        """Equal, and of the same class."""
        read = through_a_session(obj)
        assert (type(obj), obj) == (type(read), read)

    def test_what_a_dataclass_holds_comes_back_exactly(self) -> None:
        """Types that equality does not tell apart are kept as well."""
        read = through_a_session(FULL_CART)
        assert (read.at.tzinfo, read.at.fold) == (PARIS, 1)
        assert str(read.price) == "1.50"
        assert [Line, Size, Rank, Spot, set, frozenset] == [
            type(each)
            for each in (
                read.by_id[7],
                read.lines[0].size,
                read.rank,
                read.spot,
                read.tags,
                read.fixed,
            )
        ]

    def test_what_a_session_keeps_exactly_is_left_as_it_is(self) -> None:
        """A dataclass's values are those of the session, not text that stands for them."""
        plain = simplify(FULL_CART)
        names = ("raw", "at", "day", "clock", "span", "key", "price", "large")
        assert [getattr(FULL_CART, name) for name in names] == [plain[name] for name in names]

    def test_a_field_that_init_does_not_take_comes_back(self) -> None:
        """It is part of the value, whoever set it."""
        cart = Cart()
        cart.made = 9
        assert through_a_session(cart).made == 9

    @settings(max_examples=50)
    @given(
        st.builds(
            Cart,
            lines=st.lists(st.builds(Line), max_size=3),
            by_id=st.dictionaries(st.integers(), st.builds(Line), max_size=3),
            tags=st.sets(st.text(), max_size=3),
            fixed=st.frozensets(st.tuples(st.integers(), st.text()), max_size=3),
            ratio=st.floats(allow_nan=False),
            at=st.none() | st.datetimes(),
            price=st.none() | st.decimals(allow_nan=False),
            large=st.integers(-(2**99), 2**99),
        )
    )
    def test_any_dataclass_comes_back(self, cart: Cart) -> None:
        """Whatever its fields hold."""
        assert cart == through_a_session(cart)

    def test_a_codec_serves_a_field(self, codecs: None) -> None:
        """A registered type may be a field of a dataclass."""
        register(
            complex, "complex", encode=lambda c: [c.real, c.imag], decode=lambda p: complex(*p)
        )
        assert Wave(1 + 2j) == through_a_session(Wave(1 + 2j))

    def test_a_model_may_be_a_field(self) -> None:
        """Pydantic inside a dataclass is written the way it is written alone."""
        assert Parcel([FULL_ORDER]) == through_a_session(Parcel([FULL_ORDER]))

    def test_an_object_that_does_not_say_what_equal_means_is_taken_at_its_word(self) -> None:
        """Without an __eq__ there is nothing to compare, only to restore."""
        assert through_a_session(Bare(5)).n == 5

    def test_any_type_of_msgspec_can_be_read(self) -> None:
        """`read` also checks plain values against a type."""
        assert [Line("a")] == restore([{"sku": "a"}], list[Line])
        assert restore([simplify(FULL_ORDER)], list[Order]) == [FULL_ORDER]

    def test_a_default_fills_what_an_older_release_did_not_write(self) -> None:
        """A class may gain fields while sessions live."""
        assert Line("a") == restore({"sku": "a"}, Line)

    def test_pydantic_is_not_imported(self) -> None:
        """Who does not use it does not pay for it."""
        code = (
            "import sys, coatcheck.values;"
            "print([name for name in ('msgspec', 'pydantic') if name in sys.modules])"
        )
        source = str(Path(values.__file__).parents[1])
        run = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, text=True
        )
        assert run.stdout.strip() == "['msgspec']"


@dataclass
class Wave:
    value: complex


@dataclass
class Parcel:
    orders: list[Order]


@dataclass(eq=False)
class Bare:
    n: int


@dataclass
class Loose:
    value: Any


@dataclass
class Ring:
    inner: "Ring | None" = None


@dataclass
class Either:
    one: Line | Cart


class Masked(BaseModel):
    secret: SecretStr


class Blob(BaseModel):
    data: bytes


class Checked(BaseModel):
    size: Size
    counts: dict[str, int] = {}


def ring() -> Ring:
    outer = Ring()
    outer.inner = outer
    return outer


@pytest.fixture
def codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs are the process's; this test has its own."""
    monkeypatch.setattr(values, "_by_class", {})
    monkeypatch.setattr(values, "_by_name", {})


class TestRefusedWhenWritten:
    """What could not be read is refused on the line that writes it."""

    @pytest.mark.parametrize("value", [5, {"a": 1}, [Line("a")], Line, None, Spot(1, 2)], ids=repr)
    def test_a_value_that_is_no_typed_object_is_refused(self, value: Any) -> None:
        """Plain values are assigned; a class is no instance."""
        with pytest.raises(UnsupportedValue, match=r"got .*: assign other values"):
            simplify(value)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Loose({"hunter2"}),
            lambda: Loose(Line("hunter2")),
            lambda: Loose(Size.LARGE),
            lambda: Masked(secret=SecretStr("hunter2")),
        ],
        ids=["set", "dataclass", "enum", "secret"],
    )
    def test_a_field_whose_type_does_not_say_what_it_holds_is_refused(
        self, make: Callable[[], Any]
    ) -> None:
        """It would come back as something else, in silence."""
        obj = make()
        with pytest.raises(UnsupportedValue, match=f"{type(obj).__name__} would not") as caught:
            simplify(obj)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Loose(object()),
            lambda: Loose(1j),
            ring,
            lambda: Line("hunter2", count="hunter2"),  # type: ignore[arg-type]
            lambda: Either(Line("hunter2")),
            lambda: Blob(data=b"hunter2\xff"),
        ],
        ids=["object", "complex", "ring", "misfit", "two classes", "bytes"],
    )
    def test_an_object_that_cannot_be_converted_is_refused(self, make: Callable[[], Any]) -> None:
        """With a message of ours, without the contents, and no other error behind it."""
        with pytest.raises(UnsupportedValue, match=r"expected|cannot keep") as caught:
            simplify(make())
        assert "hunter2" not in str(caught.value)
        assert None is caught.value.__context__


class TestRefusedWhenRead:
    """A value that does not fit the type it is read as."""

    @pytest.mark.parametrize(
        ("value", "kind", "problem"),
        [
            ("hunter2", Line, "Expected `object`, got `str`"),
            ({"sku": 5}, Line, "Expected `str`, got `int` - at `$.sku`"),
            ({}, Line, "Object missing required field `sku`"),
            ({"sku": "a", "size": "hunter2"}, Line, "ValidationError at `$.size`"),
            ({"lines": [{"sku": 1}]}, Cart, "at `$.lines[0].sku`"),
            ({"at": "2026-01-01T00:00:00"}, Cart, "Expected `datetime | null`, got `str`"),
            ("hunter2", int, "Expected `int`, got `str`"),
            ({"size": "hunter2"}, Checked, "enum at ('size',)"),
            ({"size": "s", "counts": {"a": "hunter2"}}, Checked, "int_parsing at ('counts', 'a')"),
            ([b"hunter2"], Checked, "TypeError"),
            ("hunter2", complex, "Expected `complex`, got `str`"),
        ],
        ids=str,
    )
    def test_the_message_says_expected_got_and_remedy(
        self, value: Any, kind: Any, problem: str
    ) -> None:
        """And where; but never what was there, nor does an error behind it."""
        with pytest.raises(UnsupportedValue) as caught:
            restore(value, kind)
        assert problem in str(caught.value)
        assert f"expected a value that fits {kind!r}" in str(caught.value)
        assert str(caught.value).endswith("change the type, or write the value anew")
        assert "hunter2" not in str(caught.value)
        assert None is caught.value.__context__

    def test_it_is_a_type_error(self) -> None:
        """So it can be caught as what it is in Python's own terms."""
        with pytest.raises(TypeError):
            restore(1, str)
