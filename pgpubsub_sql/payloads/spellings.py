"""PostgreSQL's spellings, as casts to text and ``to_jsonb()`` write them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from pgpubsub_sql.sql import read_interval


def _interval(text: str) -> datetime.timedelta:
    years, months, rest = read_interval(text)
    if years or months:
        raise ValueError("years and months have no fixed length")
    return rest


def _timestamp(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    offset = moment.utcoffset()
    # Before standard time offsets had seconds, which msgspec would round away.
    return moment.astimezone(datetime.UTC) if offset and offset.seconds % 60 else moment


def _bytea(text: str) -> bytes | str:
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text


def _boolean(text: str) -> bool | str:
    return {"t": True, "f": False}.get(text, text)


_READERS: Mapping[type[inspect.Type], Callable[[str], Any]] = {
    inspect.BoolType: _boolean,
    inspect.BytesType: _bytea,
    inspect.ByteArrayType: _bytea,
    inspect.MemoryViewType: _bytea,
    inspect.DateTimeType: _timestamp,
    inspect.TimeType: datetime.time.fromisoformat,
    inspect.TimeDeltaType: _interval,
}
_ANY_TEXT = (inspect.AnyType, inspect.StrType, inspect.EnumType, inspect.LiteralType)


def verbatim(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


def respell(value: Any, kind: inspect.Type) -> Any:
    """Replace PostgreSQL's spellings anywhere in a JSON tree; what fits nowhere stays as it is."""
    kinds = tuple(_alternatives(kind))
    if isinstance(value, str):
        return _respell_text(value, kinds)
    if isinstance(value, list):
        return _respell_list(value, kinds)
    if isinstance(value, dict):
        return _respell_object(value, kinds)
    return value


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _alternatives(member)
    else:
        yield kind


def _respell_text(text: str, kinds: tuple[inspect.Type, ...]) -> Any:
    if any(isinstance(kind, _ANY_TEXT) for kind in kinds):
        return text
    for kind in kinds:
        if reader := _READERS.get(type(kind)):
            try:
                return reader(text)
            except (ValueError, OverflowError):
                return text  # the decoder refuses it next, and knows the path to name
    return text


def _respell_list(items: list[Any], kinds: tuple[inspect.Type, ...]) -> list[Any]:
    for kind in kinds:
        match kind:
            case inspect.CollectionType():
                return [respell(item, kind.item_type) for item in items]
            case inspect.TupleType() if len(items) == len(kind.item_types):
                return list(map(respell, items, kind.item_types))
            case inspect.NamedTupleType() if len(items) <= len(kind.fields):
                return list(map(respell, items, (field.type for field in kind.fields)))
            case inspect.StructType(array_like=True) if kind.tag in (None, *items[:1]):
                tag = [inspect.AnyType()] if kind.tag else []
                types = tag + [field.type for field in kind.fields]
                return [*map(respell, items, types), *items[len(types) :]]
    return items


def _respell_object(value: dict[str, Any], kinds: tuple[inspect.Type, ...]) -> dict[Any, Any]:
    for kind in kinds:
        match kind:
            case inspect.DictType():
                return {
                    respell(key, kind.key_type): respell(item, kind.value_type)
                    for key, item in value.items()
                }
            case inspect.StructType() if kind.tag_field and value.get(kind.tag_field) != kind.tag:
                continue
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                types = {field.encode_name: field.type for field in kind.fields}
                return {
                    key: respell(item, types[key]) if key in types else item
                    for key, item in value.items()
                }
    return value
