"""The JSON Schema of messages (draft 2020-12), for those who send them from elsewhere.

It describes what ``notify()`` sends. Workers read some more: PostgreSQL's text forms, and numbers
as text. What a schema cannot say the worker alone checks: that a day is in the calendar, that
a time span fits into a ``timedelta``, and that text holds no NUL.
"""

from __future__ import annotations

import enum
import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec import inspect

DRAFT = "https://json-schema.org/draft/2020-12/schema"
ROOT = "Channels"
"""Title of the schema of all channels."""
Schema = dict[str, Any]

_DAY = "(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
_ZONE = "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_NUMBER = r"[0-9]+(\.[0-9]+)?"
_SPAN = f"-?P(?=[0-9T])({_NUMBER}D)?(T(?=[0-9])({_NUMBER}H)?({_NUMBER}M)?({_NUMBER}S)?)?"
_BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_UUID = "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_DECIMAL = r"[+-]?[0-9]+(\.[0-9]+)?([Ee][+-]?[0-9]+)?"


def _text(pattern: str, **more: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$", **more}


_BYTES = _text(_BASE64, contentEncoding="base64")
_SIMPLE: Mapping[type[inspect.Type], Schema] = {
    inspect.AnyType: {},
    inspect.RawType: {},
    inspect.NoneType: {"type": "null"},
    inspect.BoolType: {"type": "boolean"},
    inspect.DateType: _text(_DAY, format="date"),
    inspect.TimeDeltaType: _text(_SPAN, format="duration"),
    inspect.UUIDType: _text(_UUID, format="uuid"),
    inspect.DecimalType: _text(_DECIMAL),
    inspect.BytesType: _BYTES,
    inspect.ByteArrayType: _BYTES,
    inspect.MemoryViewType: _BYTES,
}
_ZONES: Mapping[bool | None, str] = {None: f"{_ZONE}?", True: _ZONE, False: ""}
_BOUNDS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}
_INTEGER_KEY = {"pattern": "^-?[0-9]+$"}


def schema_of_channels(structs: Mapping[str, type[msgspec.Struct]]) -> Schema:
    """Return the schema of an object that has a message for each channel, all of them optional.

    *structs* are the messages by the channel's name, by which ``properties`` has their schemas.
    """
    definitions = _Definitions()
    kinds = {name: inspect.type_info(struct) for name, struct in structs.items()}
    properties = {name: definitions.schema(kind) for name, kind in kinds.items()}
    return {
        "$schema": DRAFT,
        "title": ROOT,
        "description": "A message of each channel, by the channel's name in PostgreSQL.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions.found,
    }


def schema_of_channel(name: str, struct: type[msgspec.Struct]) -> Schema:
    """Return the schema of the messages of one channel."""
    definitions = _Definitions()
    root = definitions.schema(inspect.type_info(struct))
    return {"title": name, **root, "$defs": definitions.found}


class _Definitions:
    """Schemas, and the classes that they refer to, which may be recursive."""

    def __init__(self) -> None:
        self.found: Schema = {}
        """Schemas of classes, by name."""
        self._names: dict[Any, str] = {}

    def schema(self, kind: inspect.Type) -> Schema:
        """Return the schema of a type."""
        match kind:
            case inspect.Metadata():
                return self.schema(kind.type) | (kind.extra_json_schema or {})
            case inspect.UnionType():
                return {"anyOf": [self.schema(one) for one in kind.types]}
            case inspect.NamedTupleType() | inspect.StructType(array_like=True):
                return self._reference(kind)
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                return self._reference(kind)
            case inspect.TupleType():
                return self._array(kind.item_types, len(kind.item_types), is_closed=True)
            case inspect.CollectionType():
                return self._collection(kind)
            case inspect.DictType():
                return self._mapping(kind)
        return _scalar(kind)

    def _reference(self, kind: Any) -> Schema:
        """Refer to the schema of a class, which is made the first time."""
        if kind.cls not in self._names:
            self._names[kind.cls] = name = self._new_name(kind.cls)
            self.found[name] = {}  # it may refer to itself
            self.found[name] = self._members(kind)
        return {"$ref": f"#/$defs/{self._names[kind.cls]}"}

    def _new_name(self, cls: Any) -> str:
        name = suffixed = cls.__name__
        number = 1
        while suffixed in self.found or suffixed == ROOT:
            number += 1
            suffixed = f"{name}{number}"
        return str(suffixed)

    def _members(self, kind: Any) -> Schema:
        tag = {kind.tag_field: {"const": kind.tag}} if getattr(kind, "tag_field", None) else {}
        if isinstance(kind, inspect.NamedTupleType) or getattr(kind, "array_like", False):
            required = sum(field.required for field in kind.fields) + len(tag)
            return self._array([f.type for f in kind.fields], required, first=[*tag.values()])
        return {
            "type": "object",
            "properties": tag | {field.encode_name: self._member(field) for field in kind.fields},
            "required": [*tag, *(f.encode_name for f in kind.fields if f.required)],
        }

    def _member(self, field: inspect.Field) -> Schema:
        schema = self.schema(field.type)
        if field.default is not msgspec.NODEFAULT:
            schema |= {"default": msgspec.to_builtins(field.default)}
        return schema

    def _array(
        self,
        kinds: Iterable[inspect.Type],
        required: int,
        *,
        first: Iterable[Schema] = (),
        is_closed: bool = False,
    ) -> Schema:
        items = [*first, *map(self.schema, kinds)]
        schema: Schema = {"type": "array", "minItems": required}
        schema |= {"prefixItems": items} if items else {}
        return schema | ({"items": False} if is_closed else {})

    def _collection(self, kind: inspect.CollectionType) -> Schema:
        bounds = {"minItems": kind.min_length, "maxItems": kind.max_length}
        schema: Schema = {"type": "array", "items": self.schema(kind.item_type)} | _given(bounds)
        is_set = isinstance(kind, inspect.SetType | inspect.FrozenSetType)
        return schema | ({"uniqueItems": True} if is_set else {})

    def _mapping(self, kind: inspect.DictType) -> Schema:
        bounds = {"minProperties": kind.min_length, "maxProperties": kind.max_length}
        names = self.schema(kind.key_type)
        names = _INTEGER_KEY if names.get("type") == "integer" else names
        schema: Schema = {"type": "object", "additionalProperties": self.schema(kind.value_type)}
        is_any = names in ({}, {"type": "string"})
        return schema | _given(bounds) | ({} if is_any else {"propertyNames": names})


def _scalar(kind: inspect.Type) -> Schema:
    match kind:
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case inspect.EnumType(cls=cls) | inspect.CustomType(cls=cls):
            if issubclass(cls, enum.Flag):
                every = functools.reduce(operator.or_, (one.value for one in cls))
                return {"title": cls.__name__, "type": "integer", "minimum": 0, "maximum": every}
            return {"title": cls.__name__, "enum": [one.value for one in cast(Iterable[Any], cls)]}
        case inspect.IntType() | inspect.FloatType():
            word = "integer" if isinstance(kind, inspect.IntType) else "number"
            bounds = {name: getattr(kind, bound) for bound, name in _BOUNDS.items()}
            return {"type": word} | _given(bounds)
        case inspect.StrType():
            bounds = {"minLength": kind.min_length, "maxLength": kind.max_length}
            return {"type": "string"} | _given(bounds | {"pattern": kind.pattern})
        case inspect.DateTimeType(tz=tz):
            return _text(f"{_DAY}T{_TIME}{_ZONES[tz]}", **({"format": "date-time"} if tz else {}))
        case inspect.TimeType(tz=tz):
            return _text(f"{_TIME}{_ZONES[tz]}", **({"format": "time"} if tz else {}))
    return dict(_SIMPLE[type(kind)])


def _given(bounds: Mapping[str, Any]) -> Schema:
    return {name: bound for name, bound in bounds.items() if bound is not None}
