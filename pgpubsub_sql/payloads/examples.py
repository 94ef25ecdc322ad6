"""Example payloads, for people who send with SQL and do not read Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from msgspec import inspect

_SCALARS: dict[type, Any] = {
    inspect.BoolType: True,
    inspect.DictType: {},
    inspect.DateType: "2026-01-31",
    inspect.TimeDeltaType: "P1DT2H",
    inspect.UUIDType: "00000000-0000-4000-8000-000000000000",
    inspect.DecimalType: "9.99",
    inspect.BytesType: "AP8=",
    inspect.ByteArrayType: "AP8=",
    inspect.MemoryViewType: "AP8=",
}


def example(kind: Any, within: tuple[type, ...] = ()) -> Any:
    """Return a JSON value of the type *kind*; patterns are not honoured.

    Objects have their required fields only. *within* are the types of the surrounding objects,
    which are avoided, as types may be recursive.
    """
    match kind:
        case inspect.Metadata(type=inner):
            return example(inner, within)
        case inspect.UnionType(types=types):
            new = [one for one in types if getattr(one, "cls", None) not in within]
            return example(new[0], within)
        case inspect.NamedTupleType() | inspect.StructType(array_like=True):
            return list(_members(kind, within).values())
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return _members(kind, within)
        case inspect.TupleType(item_types=items):
            return [example(item, within) for item in items]
        case inspect.CollectionType(item_type=item, min_length=lowest):
            return [example(item, within) for _ in range(lowest or 0)]
    return _scalar(kind)


def _members(kind: Any, within: tuple[type, ...]) -> dict[str, Any]:
    tag = {kind.tag_field: kind.tag} if getattr(kind, "tag_field", None) else {}
    required = [field for field in kind.fields if field.required]
    return tag | {one.encode_name: example(one.type, (*within, kind.cls)) for one in required}


def _scalar(kind: Any) -> Any:
    match kind:
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.EnumType(cls=cls) | inspect.CustomType(cls=cls):
            return next(member.value for member in cast(Iterable[Any], cls))
        case inspect.StrType(min_length=lowest, max_length=highest):
            return "text".ljust(lowest or 0, "t")[:highest]
        case inspect.DateTimeType(tz=tz):
            return f"2026-01-31T10:00:00{'' if tz is False else 'Z'}"
        case inspect.TimeType(tz=tz):
            return f"10:00:00{'Z' if tz else ''}"
        case inspect.IntType():
            return int(_number(kind, 1) // 1)
        case inspect.FloatType():
            return _number(kind, 0)
    return _SCALARS.get(type(kind))


def _number(kind: inspect.IntType | inspect.FloatType, step: int) -> float:
    """Return a number within the bounds of *kind*, and *step* away from exclusive ones."""
    lowest = kind.gt + step if kind.ge is None and kind.gt is not None else kind.ge
    highest = kind.lt - step if kind.le is None and kind.lt is not None else kind.le
    if lowest is None:
        return 1 if highest is None else highest - 1
    return lowest + 1 if highest is None else (lowest + highest) / 2
