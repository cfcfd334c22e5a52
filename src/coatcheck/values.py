"""Session values to bytes and back, exactly: what you read is what you wrote, type and value.

The format is MessagePack, one value per message. What it has natively (None, bool, int, float,
str, bytes, list, dict) is written natively, by msgspec, at the speed of C. For the rest (tuple,
set, frozenset, datetime, date, time, timedelta, UUID, Decimal) there are extension types, whose
codes are listed below and never change their meaning. A container whose members are all native
scalars is handed over as it stands; only other containers are walked.

A value is supported when its type is exactly one of these: subclasses would come
back as their base, so they are refused, unless a codec for that very class is registered.

Native does not quite mean safe: MessagePack ends at 64 bits, and UTF-8 has no lone surrogates.
Such values are rare and msgspec refuses them, so we try without a look first, and only then
walk again, looking at each int and str. Both walks write the same bytes for the same value.

Encoding is canonical: equally built values give equal bytes. A dict keeps its order, a set is
sorted by its members' bytes. Decoding takes what `encode` makes; of other bytes it takes only
harmless spellings (an int written longer than needed, a set out of order) and refuses the rest.

Decisions:

- A naive datetime or time stays naive. `fold` and microseconds are kept.
- `timezone` is kept with its offset, to the microsecond, and with its name if it was given one;
  `timezone.utc` comes back as itself. A ZoneInfo is kept by its key and looked up again; one
  without a key, and any other tzinfo, is refused.
- A str may hold lone surrogates. A float may be NaN, an infinity or -0.0. A Decimal keeps
  exponent, sign and NaN payload. A UUID does not keep `is_safe`.
- No more than 64 containers inside each other, both ways; this is also how a cycle is found.
- Identity is not kept: two references to one list come back as two lists.
"""

import struct
from collections.abc import Callable, Sized
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from types import NoneType
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext

from coatcheck.errors import ConfigurationError, UnsupportedValue

__all__ = [
    "BROKEN",
    "Codec",
    "codec_of",
    "decode",
    "encode",
    "is_fixed",
    "refusal",
    "register",
    "type_name",
]

T = TypeVar("T")
_C = TypeVar("_C", bound=Sized)
_Path = tuple[Any, ...]

_dumps = Encoder().encode
_loads = Decoder().decode

_DEPTH: Final = 64
_PLAIN: Final = frozenset({NoneType, bool, int, float, str, bytes})
_SURE: Final = _PLAIN - {int, str}  # what msgspec takes whatever its value

# Extension codes. They are in stored bytes: add to them, never change them.
_INT, _TEXT, _DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL = range(1, 9)
_TUPLE, _SET, _FROZENSET, _DICT, _CODEC = range(16, 21)


class _Step(Enum):
    """A step into a value that is no subscript."""

    KEY = "<a key>"
    MEMBER = "<a member>"
    CODEC = "<its encoded form>"


class Codec(NamedTuple):
    cls: type
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class _UnreadableError(ValueError):
    """A ValueError whose message already says all there is to say."""


# What bytes that are not ours can raise on their way. Not MemoryError: that is not their fault.
BROKEN = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error)

_by_class: dict[type, Codec] = {}
_by_name: dict[str, Codec] = {}


def encode(value: object) -> bytes:
    """The one encoding of `value`.

    Raises UnsupportedValue, naming the type and where in `value` it sits, if something in it
    cannot be kept exactly, or if it is nested too deep or contains itself.
    """
    try:
        return _dumps(_pack(value, _PLAIN, ()))
    except (OverflowError, UnicodeEncodeError):
        pass  # a large int or a lone surrogate; retried out here to leave no context behind
    return _dumps(_pack(value, _SURE, ()))


def decode(data: bytes) -> Any:
    """The value that `encode` made `data` from.

    Raises ValueError if it never did, or if the value cannot be rebuilt here because its codec
    is not registered or its time zone is not known.
    """
    try:
        return _unpack(_loads(data), 0)
    except _UnreadableError:
        raise
    except BROKEN as error:
        raise _UnreadableError(
            "expected the bytes of one session value, got bytes that encode() never makes: "
            "they are damaged or not ours; drop them"
        ) from error


def is_fixed(value: object) -> bool:
    """Whether `value` cannot change in place. May say False of what cannot, never the reverse."""
    return type(value) in _PLAIN or _is_fixed(value, _DEPTH)


def _is_fixed(value: object, room: int) -> bool:
    kind = type(value)
    if kind in _PLAIN or kind in _SCALARS:
        return True
    if room and (type(value) is tuple or type(value) is frozenset):
        return all(_is_fixed(member, room - 1) for member in value)
    return False


def register(
    cls: type[T], name: str, *, encode: Callable[[T], Any], decode: Callable[[Any], T]
) -> None:
    """Keep values of exactly `cls`, in the whole process, as what `encode` makes of them.

    `encode` returns any supported value, `decode` gets it back. `name` goes into the stored
    bytes, so it must outlive them. The same class and name again replaces the codec; a new name
    for a class is used from then on, and what was stored under the old one can still be read.

    Raises ConfigurationError for a type that is supported already, and for a name in use.
    """
    if not isinstance(cls, type) or _is_builtin(cls):
        raise ConfigurationError(
            f"expected a class that sessions do not keep by themselves, got {cls!r}"
        )
    if not isinstance(name, str) or not name.isprintable() or not name:
        raise ConfigurationError("expected a codec name of printable characters, got another")
    if name in _by_name and _by_name[name].cls is not cls:
        raise ConfigurationError(
            f"the codec name {name!r} belongs to {type_name(_by_name[name].cls)}: "
            f"choose another for {type_name(cls)}"
        )
    _by_class[cls] = _by_name[name] = Codec(cls, name, encode, decode)


def codec_of(kind: type) -> Codec | None:
    """The codec registered for exactly this class."""
    return _by_class.get(kind)


# Encoding: from a value to what msgspec writes natively, extensions included. `plain` are the
# types to hand over without a look, `path` is where we are; its length is the depth.


def _pack(value: Any, plain: frozenset[type], path: _Path) -> Any:
    kind = type(value)
    if kind in plain:
        return value
    if scalar := _SCALARS.get(kind):
        return scalar(value, path)
    if len(path) >= _DEPTH:
        raise UnsupportedValue(
            f"expected at most {_DEPTH} levels of nesting, got more{_where(path)}: "
            "the value contains itself, or has to be flatter"
        )
    container = _CONTAINERS.get(kind) or _pack_registered
    return container(value, plain, path)


def _pack_list(value: list[Any], plain: frozenset[type], path: _Path) -> list[Any]:
    if plain.issuperset(map(type, value)):
        return value
    return [
        member if type(member) in plain else _pack(member, plain, (*path, index))
        for index, member in enumerate(value)
    ]


def _pack_tuple(value: tuple[Any, ...], plain: frozenset[type], path: _Path) -> Ext:
    return Ext(_TUPLE, _dumps(_pack_list(list(value), plain, path)))


def _pack_dict(value: dict[Any, Any], plain: frozenset[type], path: _Path) -> Any:
    if not plain.issuperset(map(type, value)):
        return _pack_pairs(value, plain, path)
    if plain.issuperset(map(type, value.values())):
        return value
    return {
        key: member if type(member) in plain else _pack(member, plain, (*path, key))
        for key, member in value.items()
    }


def _pack_pairs(value: dict[Any, Any], plain: frozenset[type], path: _Path) -> Any:
    keys = [_pack(key, plain, (*path, _Step.KEY)) for key in value]
    members = [_pack(member, plain, (*path, key)) for key, member in value.items()]
    pairs = list(zip(keys, members, strict=True))
    if not any(type(key) is Ext for key in keys):
        return dict(pairs)
    return Ext(_DICT, _dumps([part for pair in pairs for part in pair]))


def _pack_set(value: Any, plain: frozenset[type], path: _Path) -> Ext:
    inside = (*path, _Step.MEMBER)
    members = sorted(_dumps(_pack(member, plain, inside)) for member in value)
    code = _SET if type(value) is set else _FROZENSET
    return Ext(code, _dumps([*map(msgspec.Raw, members)]))


def _pack_registered(value: Any, plain: frozenset[type], path: _Path) -> Ext:
    codec = _by_class.get(type(value))
    if codec is None:
        raise UnsupportedValue(refusal(type(value), path))
    try:
        body = codec.encode(value)
    except Exception as error:
        raise UnsupportedValue(
            f"the codec {codec.name!r} could not encode a {type_name(codec.cls)}{_where(path)}: "
            "see the cause"
        ) from error
    return Ext(_CODEC, _dumps([codec.name, _pack(body, plain, (*path, _Step.CODEC))]))


def _pack_int(value: int, path: _Path) -> Any:
    if -(1 << 63) <= value < 1 << 64:
        return value
    return Ext(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _pack_str(value: str, path: _Path) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return Ext(_TEXT, _text_bytes(value))
    return value


def _text_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


_DAY: Final = struct.Struct(">HBB")
_CLOCK: Final = struct.Struct(">BBBIB")
_SPAN: Final = struct.Struct(">iii")
_MICROSECOND: Final = timedelta(microseconds=1)
# str(Decimal) would follow the thread's own context, which may write a small `e`.
_DECIMALS: Final = Context(capitals=1, traps=[InvalidOperation])


def _pack_datetime(value: datetime, path: _Path) -> Ext:
    zone = _zone_bytes(value.tzinfo, path)
    return Ext(_DATETIME, _day_bytes(value) + _clock_bytes(value) + zone)


def _pack_time(value: time, path: _Path) -> Ext:
    return Ext(_TIME, _clock_bytes(value) + _zone_bytes(value.tzinfo, path))


def _day_bytes(value: date) -> bytes:
    return _DAY.pack(value.year, value.month, value.day)


def _clock_bytes(value: datetime | time) -> bytes:
    return _CLOCK.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)


def _span_bytes(value: timedelta) -> bytes:
    return _SPAN.pack(value.days, value.seconds, value.microseconds)


def _zone_bytes(zone: tzinfo | None, path: _Path) -> bytes:
    if zone is None:
        return b""
    if type(zone) is timezone:
        # What pickle asks for: the one way to learn whether a name was given.
        offset, *names = zone.__getinitargs__()  # type: ignore[attr-defined]
        return _dumps([offset // _MICROSECOND, *map(_text_bytes, names)])
    if type(zone) is ZoneInfo and zone.key is not None:
        return _dumps(_text_bytes(zone.key))
    raise UnsupportedValue(
        f"cannot keep a time zone of type {type_name(type(zone))}{_where(path)}: "
        "use a ZoneInfo that has a key, or .astimezone(timezone.utc)"
    )


_SCALARS: Final[dict[type, Callable[[Any, _Path], Any]]] = {
    int: _pack_int,
    str: _pack_str,
    datetime: _pack_datetime,
    date: lambda value, path: Ext(_DATE, _day_bytes(value)),
    time: _pack_time,
    timedelta: lambda value, path: Ext(_TIMEDELTA, _span_bytes(value)),
    UUID: lambda value, path: Ext(_UUID, value.bytes),
    Decimal: lambda value, path: Ext(_DECIMAL, _DECIMALS.to_sci_string(value).encode()),
}
_CONTAINERS: Final[dict[type, Callable[[Any, frozenset[type], _Path], Any]]] = {
    list: _pack_list,
    tuple: _pack_tuple,
    dict: _pack_dict,
    set: _pack_set,
    frozenset: _pack_set,
}


def type_name(kind: type) -> str:
    """The type's name as messages give it."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _where(path: _Path) -> str:
    steps = "".join(f"[{_step(step)}]" for step in path[:8]) + "…" * (len(path) > 8)
    return f" at {steps}" if steps else ""


def _step(step: Any) -> str:
    """A key as text: short str and int keys as they are, of all others the type alone."""
    if type(step) is _Step:
        return str(step.value)
    if (type(step) is str and len(step) <= 64) or (type(step) is int and abs(step) < 1 << 64):
        return repr(step)
    return f"<{type_name(type(step))}>"


def refusal(kind: type, path: _Path) -> str:
    """Why a value of that type, at that place inside another, cannot be kept, and what to do."""
    base = next((base for base in kind.__mro__ if _is_builtin(base)), None)
    remedy = f"convert it with {base.__name__}(...)" if base else "convert it to a supported type"
    where = _where(path)
    return f"cannot keep a {type_name(kind)}{where}: {remedy}, or register a codec for its class"


def _is_builtin(kind: type) -> bool:
    return kind in _PLAIN or kind in _SCALARS or kind in _CONTAINERS


# Decoding, the other way round.


def _unpack(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is Ext and (scalar := _SCALAR_CODES.get(value.code)):
        return scalar(value.data)
    if depth >= _DEPTH:
        raise ValueError(f"more than {_DEPTH} levels of nesting")
    if kind is list:
        return _unpack_list(value, depth)
    if kind is dict:
        return _unpack_dict(value, depth)
    if kind is Ext and (container := _CONTAINER_CODES.get(value.code)):
        return container(_unpack_list(_loads(value.data), depth))
    raise ValueError("a MessagePack type that encode() does not use")


def _unpack_list(value: Any, depth: int) -> list[Any]:
    if type(value) is not list:
        raise ValueError("a container without members")
    for index, member in enumerate(value):
        if type(member) not in _PLAIN:
            value[index] = _unpack(member, depth + 1)
    return value


def _unpack_dict(value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    if not _PLAIN.issuperset(map(type, value)):
        raise ValueError("a map with keys that encode() does not write in a map")
    for key, member in value.items():
        if type(member) not in _PLAIN:
            value[key] = _unpack(member, depth + 1)
    return value


def _unpack_set(members: list[Any]) -> set[Any]:
    return _all_of(set(members), len(members))


def _unpack_frozenset(members: list[Any]) -> frozenset[Any]:
    return _all_of(frozenset(members), len(members))


def _unpack_pairs(flat: list[Any]) -> dict[Any, Any]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return _all_of(dict(pairs), len(flat) // 2)


def _all_of(container: _C, size: int) -> _C:
    if len(container) != size:
        raise ValueError("a member or key that is there twice")
    return container


def _unpack_registered(parts: list[Any]) -> Any:
    name, body = parts
    if type(name) is not str:
        raise ValueError("a codec without a name")
    codec = _by_name.get(name)
    if codec is None:
        raise _UnreadableError(
            f"the codec {name!r:.80} is not registered here: call register() for it at start-up"
        )
    try:
        value = codec.decode(body)
    except Exception as error:
        raise _UnreadableError(f"the codec {name!r} could not decode: see the cause") from error
    if type(value) is not codec.cls:
        raise _UnreadableError(
            f"expected {type_name(codec.cls)} from the codec {name!r}, "
            f"got {type_name(type(value))}: mend its decode function"
        )
    return value


def _unpack_datetime(data: bytes) -> datetime:
    day = date(*_DAY.unpack_from(data))
    return datetime.combine(day, _unpack_time(data[_DAY.size :]))


def _unpack_time(data: bytes) -> time:
    hour, minute, second, microsecond, fold = _CLOCK.unpack_from(data)
    zone = _zone(data[_CLOCK.size :])
    return time(hour, minute, second, microsecond, zone, fold=fold)


@lru_cache(maxsize=128)  # zones do not change, and take longer to make than the rest of a datetime
def _zone(data: bytes) -> tzinfo | None:
    if not data:
        return None
    form = _loads(data)
    if type(form) is bytes:
        return _zone_by_key(_text(form))
    offset, *names = form
    return timezone(timedelta(microseconds=offset), *map(_text, names))


def _zone_by_key(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError) as error:
        raise _UnreadableError(
            f"the time zone {key!r:.80} is not known on this machine: install the tzdata package"
        ) from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _unpack_decimal(data: bytes) -> Decimal:
    value = Decimal(data.decode(), _DECIMALS)
    if _DECIMALS.to_sci_string(value).encode() != data:
        raise ValueError("a decimal that encode() writes differently")
    return value


_SCALAR_CODES: Final[dict[int, Callable[[Any], Any]]] = {
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _TEXT: _text,
    _DATETIME: _unpack_datetime,
    _DATE: lambda data: date(*_DAY.unpack(data)),
    _TIME: _unpack_time,
    _TIMEDELTA: lambda data: timedelta(*_SPAN.unpack(data)),
    _UUID: lambda data: UUID(bytes=data),
    _DECIMAL: _unpack_decimal,
}
_CONTAINER_CODES: Final[dict[int, Callable[[list[Any]], Any]]] = {
    _TUPLE: tuple,
    _SET: _unpack_set,
    _FROZENSET: _unpack_frozenset,
    _DICT: _unpack_pairs,
    _CODEC: _unpack_registered,
}
