"""Values in PostgreSQL's text form, as casts to text and ``to_jsonb()`` write them.

To understand another text form, add a reader to :data:`_READERS`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from pgpubsub_sql.sql import read_interval


def _read_interval(text: str) -> datetime.timedelta:
    years, months, rest = read_interval(text)
    if years or months:
        raise ValueError("years and months have no fixed length")
    return rest


def _read_timestamp(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    offset = moment.utcoffset()
    # Offsets before standard time have seconds, which msgspec would round away.
    return moment.astimezone(datetime.UTC) if offset and offset.seconds % 60 else moment


def _read_bytea(text: str) -> bytes | str:
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text


def _read_boolean(text: str) -> bool | str:
    return {"t": True, "f": False}.get(text, text)


_READERS: Mapping[type[inspect.Type], Callable[[str], Any]] = {
    inspect.BoolType: _read_boolean,
    inspect.BytesType: _read_bytea,
    inspect.ByteArrayType: _read_bytea,
    inspect.MemoryViewType: _read_bytea,
    inspect.DateTimeType: _read_timestamp,
    inspect.TimeType: datetime.time.fromisoformat,
    inspect.TimeDeltaType: _read_interval,
}
"""Readers of text for the types that msgspec does not read in PostgreSQL's text form."""
_ANY_TEXT = (inspect.AnyType, inspect.StrType, inspect.EnumType, inspect.LiteralType)
"""Types that take text as it is."""


def verbatim(number: str) -> msgspec.Raw:
    """Return *number* digit by digit, for ``json.loads()``."""
    return msgspec.Raw(number.encode())


def read_text(value: Any, kind: inspect.Type) -> Any:
    """Read PostgreSQL's text forms anywhere in a JSON tree; leave text that fits no type."""
    kinds = tuple(_alternatives(kind))
    if isinstance(value, str):
        return _read_string(value, kinds)
    if isinstance(value, list):
        return _read_list(value, kinds)
    if isinstance(value, dict):
        return _read_object(value, kinds)
    return value


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _alternatives(member)
    else:
        yield kind


def _read_string(text: str, kinds: tuple[inspect.Type, ...]) -> Any:
    if any(isinstance(kind, _ANY_TEXT) for kind in kinds):
        return text
    for kind in kinds:
        if reader := _READERS.get(type(kind)):
            try:
                return reader(text)
            except (ValueError, OverflowError):
                return text  # the decoder refuses it next, and its error names the path
    return text


def _read_list(items: list[Any], kinds: tuple[inspect.Type, ...]) -> list[Any]:
    for kind in kinds:
        match kind:
            case inspect.CollectionType():
                return [read_text(item, kind.item_type) for item in items]
            case inspect.TupleType() if len(items) == len(kind.item_types):
                return list(map(read_text, items, kind.item_types))
            case inspect.NamedTupleType() if len(items) <= len(kind.fields):
                return list(map(read_text, items, (field.type for field in kind.fields)))
            case inspect.StructType(array_like=True) if kind.tag in (None, *items[:1]):
                tag = [inspect.AnyType()] if kind.tag else []
                types = tag + [field.type for field in kind.fields]
                return [*map(read_text, items, types), *items[len(types) :]]
    return items


def _read_object(value: dict[str, Any], kinds: tuple[inspect.Type, ...]) -> dict[Any, Any]:
    for kind in kinds:
        match kind:
            case inspect.DictType():
                return {
                    read_text(key, kind.key_type): read_text(item, kind.value_type)
                    for key, item in value.items()
                }
            case inspect.StructType() if kind.tag_field and value.get(kind.tag_field) != kind.tag:
                continue
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                types = {field.encode_name: field.type for field in kind.fields}
                return {
                    key: read_text(item, types[key]) if key in types else item
                    for key, item in value.items()
                }
    return value
