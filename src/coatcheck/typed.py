"""Objects with fields as plain session values, and back: dataclasses, structs, pydantic models.

They go through msgspec, or through a pydantic model's own JSON mode, and the inverse is tried at
once: what would not come back equal is refused when it is written. A model is known by its methods,
so pydantic (2.11 or newer) is never imported.
"""

import json
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from coatcheck.errors import UnsupportedValue
from coatcheck.values import BROKEN, codec_of, refusal, type_name

__all__ = ["restore", "simplify"]

T = TypeVar("T")

_KEPT: Final = (bytes, datetime, date, time, timedelta, UUID, Decimal)
_MISFITS: Final = (*BROKEN, LookupError, NameError, RuntimeError)


def simplify(obj: object) -> Any:
    """A dataclass instance, msgspec Struct or pydantic model, as plain values for a session.

    Raises UnsupportedValue for anything else, and for an object that `restore` would not bring
    back equal (where its class says what equal means).
    """
    kind = type(obj)
    if not (is_dataclass(kind) or isinstance(obj, msgspec.Struct) or _is_model(kind)):
        raise UnsupportedValue(
            "expected an instance of a dataclass, a msgspec Struct or a pydantic model, "
            f"got {type_name(kind)}: assign other values with session[key] = value"
        )
    plain = _simplify(obj)
    restored = restore(plain, kind)
    if restored != obj and kind.__eq__ is not object.__eq__:
        raise UnsupportedValue(
            f"a {type_name(kind)} would not come back equal: annotate its fields with the exact "
            "types they hold, and leave out what serializes to something else"
        )
    return plain


def restore(value: Any, type: type[T]) -> T:
    """The `type` that `simplify` made `value` from; or `value` checked to be any type of msgspec's.

    Raises UnsupportedValue if it does not fit.
    """
    try:
        return msgspec.convert(value, type, builtin_types=_KEPT, dec_hook=_restore_other)
    except _MISFITS as error:
        problem = _problem(error.__cause__ or error)
    # Raised out here, as the error would quote the value.
    raise UnsupportedValue(
        f"expected a value that fits {type!r}, got one that does not ({problem}): "
        "change the type, or write the value anew"
    )


def _simplify(obj: object) -> Any:
    try:
        return msgspec.to_builtins(obj, builtin_types=_KEPT, enc_hook=_simplify_other)
    except UnsupportedValue:
        raise
    except _MISFITS as error:
        problem = _problem(error)
    raise UnsupportedValue(
        f"expected a {type_name(type(obj))} of plain fields, got one that msgspec or pydantic "
        f"cannot simplify ({problem}): convert the field"
    )


def _is_model(kind: type) -> bool:
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate_json")


def _simplify_other(obj: Any) -> Any:
    if _is_model(type(obj)):
        return obj.model_dump(mode="json", round_trip=True, by_alias=False)
    if codec := codec_of(type(obj)):
        return codec.encode(obj)
    raise UnsupportedValue(refusal(type(obj), ()))


def _restore_other(kind: Any, value: Any) -> Any:
    if _is_model(kind):  # by JSON, as a strict model takes an enum, a set or a date no other way
        return kind.model_validate_json(json.dumps(value), by_name=True, by_alias=False)
    if codec := codec_of(kind):
        return codec.decode(value)
    raise TypeError(f"Expected `{type_name(kind)}`, got `{type_name(type(value))}`")


def _problem(error: BaseException) -> str:
    """What is wrong and where, without quoting the value as the error itself may do."""
    text = str(error)
    if text.startswith(("Expected `", "Object missing required field")):
        return text
    if errors := getattr(error, "errors", None):  # pydantic's
        return "; ".join(f"{each['type']} at {each['loc']}" for each in errors())
    _, found, place = text.rpartition(" - at ")
    return type(error).__name__ + (f" at {place}" if found else "")
