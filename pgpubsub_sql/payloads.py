"""Typed encoding and decoding of a channel's fields.

Declared once, as a dataclass; checked at both ends. What a listener receives equals what was
sent, or the sender gets a :class:`PayloadError`. What arrives is untrusted: it becomes typed
values or a :class:`PayloadError`, never another error.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import inspect as stdlib_inspect
import json
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
from django.db.models import Model
from django.utils.functional import Promise
from msgspec import inspect

from pgpubsub_sql.errors import PayloadError

_MISFITS = (msgspec.MsgspecError, TypeError, ValueError, RecursionError)
_UNRESOLVED = (NameError, AttributeError, SyntaxError, TypeError, ValueError)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SUSPECT = ("\\u0000", 'Infinity"', 'NaN"', 'inf":')  # all that equality alone lets through
_TYPES_KEPT = (bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, Decimal)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """One field that travels."""

    name: str
    type: Any
    """The declared type, resolved; ``T | None`` where the default is None."""
    required: bool
    """Whether the field has no default."""

    def __str__(self) -> str:
        spelled = self.type.__name__ if isinstance(self.type, type) else str(self.type)
        return f"{self.name}: {spelled}" + ("" if self.required else " (optional)")


class Codec:
    """Encodes and decodes the fields of one channel.

    ::

        codec = Codec(PostReads, "blog.PostReads")
        codec.encode({"model_id": 1, "date": datetime.date(2026, 1, 31)})
        codec.decode('{"model_id": 1, "date": "2026-01-31"}')

    Fields that the class takes when it is called travel; ``field(init=False)`` does not. A class
    with :func:`problems` cannot be encoded: creating its codec raises :class:`PayloadError`.
    """

    fields: Mapping[str, FieldInfo]

    def __init__(self, cls: type, name: str) -> None:
        if found := problems(cls, name):
            raise PayloadError(" ".join(found))
        hints = typing.get_type_hints(cls, include_extras=True)
        declared = _travelling(cls)
        self._name = name
        self._struct = _struct(cls, declared, hints)
        self._strict = msgspec.json.Decoder(self._struct)
        self._lax = msgspec.json.Decoder(self._struct, strict=False)
        self._kind = inspect.type_info(self._struct)
        self.fields = MappingProxyType({f.name: _field_info(f, hints) for f in declared})
        self._names = frozenset(self.fields)
        self._required = frozenset(f.name for f in self.fields.values() if f.required)

    def encode(self, values: Mapping[str, Any]) -> str:
        """Return the JSON object of all fields: *values*, and defaults for what is left out.

        A value of another type is taken where the declared type makes the same of it (a list for
        a set, ``"2026-01-31"`` for a date). Whatever would arrive changed raises PayloadError.
        """
        self._check_names(values)
        message = self._struct(**values)
        text = self._faithful(message)
        if text is None:
            for field in self.fields.values():
                self._check(field, getattr(message, field.name))
            text = _encoder.encode(message).decode()
        return text

    def decode(self, raw: str | bytes) -> dict[str, Any]:
        """Return typed keyword arguments from a JSON object.

        Unknown fields and keys that start with ``$`` are ignored. PostgreSQL's spellings and the
        predecessor's envelope ``{"kwargs": {…}}`` are understood. Raises PayloadError only.
        """
        try:
            return msgspec.structs.asdict(self._read(raw if isinstance(raw, str) else raw.decode()))
        except Exception as error:  # a field's own __post_init__ may raise anything
            raise PayloadError(f"{self._name}: {error}. {self._expected()}") from error

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the payload, for people who send it with SQL."""
        return {"title": self._name, **msgspec.json.schema(self._struct)}

    def _faithful(self, message: msgspec.Struct) -> str | None:
        """Return *message* as JSON if it surely arrives as it is."""
        try:
            text = _encoder.encode(message).decode()
            if any([mark in text for mark in _SUSPECT]):  # noqa: C419 - a generator costs more
                return None
            return text if self._strict.decode(text) == message else None
        except _MISFITS:
            return None  # encode() goes on field by field, to name the one that does not fit

    def _check_names(self, values: Mapping[str, Any]) -> None:
        for name in sorted(values.keys() - self._names):
            close = difflib.get_close_matches(name, self.fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else self._expected()
            raise PayloadError(f"{self._name} has no field {name!r}: {hint}")
        if missing := self._required - values.keys():
            listed = ", ".join(repr(name) for name in self.fields if name in missing)
            raise PayloadError(f"{self._name}: missing {listed}. {self._expected()}")

    def _check(self, field: FieldInfo, value: Any) -> None:
        """Raise PayloadError unless *value* arrives as its declared type understands it."""
        try:
            text = _encoder.encode(value).decode()
            _refuse_unstorable(text, value)
            arrived = msgspec.json.decode(text, type=field.type)
            meant = msgspec.convert(value, field.type)
            same = meant == arrived or _same(_tree(meant), _tree(arrived))
        except _MISFITS as error:
            raise PayloadError(f"{self._name}: field {field.name!r}: {error}. {field}") from error
        if not same:
            raise PayloadError(
                f"{self._name}: field {field.name!r} would arrive changed, as {arrived!r}: "
                f"declare the exact type, or send plain JSON values. {field}"
            )

    def _read(self, text: str) -> msgspec.Struct:
        if "\\u0000" in text and _NUL.search(text):
            raise ValueError("NUL (\\u0000) is no text for PostgreSQL: remove it")
        if self._required or '"kwargs"' not in text:  # else an envelope looks like all defaults
            try:
                return self._strict.decode(text)
            except msgspec.ValidationError:
                pass  # well formed, but perhaps spelled by PostgreSQL or by the predecessor
        return self._lax.decode(self._respelled(text))

    def _respelled(self, text: str) -> bytes:
        """Return the JSON *text* without envelope and in msgspec's spellings; numbers verbatim."""
        tree = json.loads(text, parse_int=_raw, parse_float=_raw, parse_constant=_raw)
        if isinstance(tree, dict) and "kwargs" not in self.fields:
            own = [key for key in tree if not key.startswith("$")]
            tree = tree["kwargs"] if own == ["kwargs"] else tree
        return msgspec.json.encode(_respell(tree, self._kind))

    def _expected(self) -> str:
        return "It takes {" + ", ".join(map(str, self.fields.values())) + "}"


def problems(cls: type, name: str) -> list[str]:
    """Return what is wrong with the definition of *cls*: sentences with channel, field, remedy."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except _UNRESOLVED as error:
        return [_unresolved(cls, name, error)]
    found = [
        f"{name}: {field!r} is annotated in {owner.__qualname__}, which is not a dataclass: "
        f"decorate {owner.__qualname__} with @dataclass."
        for owner, field in _undecorated(cls, hints)
    ]
    found += [
        f"{name}: field {field!r} is an InitVar, which is never kept: make it an ordinary field."
        for field, hint in hints.items()
        if isinstance(hint, dataclasses.InitVar)
    ]
    fields = _travelling(cls)
    found += [f"{name}: {text}" for field in fields for text in _misfits(field.name, hints)]
    return found or _defaults_refused(cls, name, hints)


def _unresolved(cls: type, name: str, error: Exception) -> str:
    word = getattr(error, "name", None)
    fields = [
        repr(field.name)
        for field in _travelling(cls)
        if word and re.search(rf"\b{re.escape(word)}\b", str(field.type))
    ]
    where = f"field {', '.join(fields)}" if fields else "a field"
    return (
        f"{name}: the type of {where} cannot be read ({error}): import what it names at the top "
        f"of {cls.__module__}, not only under TYPE_CHECKING or inside a function."
    )


def _undecorated(cls: type, hints: Mapping[str, Any]) -> Iterator[tuple[type, str]]:
    for owner in cls.__mro__[:-1]:
        if "__dataclass_fields__" not in vars(owner):
            for field in stdlib_inspect.get_annotations(owner):
                if not _is_class_variable(hints[field]):
                    yield owner, field


def _is_class_variable(hint: Any) -> bool:
    return hint is typing.ClassVar or typing.get_origin(hint) is typing.ClassVar


def _misfits(field: str, hints: Mapping[str, Any]) -> Iterator[str]:
    try:
        kind = inspect.type_info(hints[field])
        msgspec.json.Decoder(hints[field])
    except _UNRESOLVED as error:
        yield f"field {field!r} cannot be decoded: {error}. Declare a type that JSON can tell."
        return
    for custom in _custom_types(kind, set()):
        if issubclass(custom, Model):
            yield f"field {field!r} is the model {custom.__name__}: declare its primary key."
        else:
            yield (
                f"field {field!r} has the type {custom.__name__}, which has no JSON form: use "
                f"plain types, dataclasses or typing.Any."
            )


def _custom_types(node: Any, seen: set[int]) -> Iterator[type]:
    """Yield the classes within a type that msgspec leaves to hooks; types may be recursive."""
    if isinstance(node, inspect.CustomType):
        yield node.cls
    elif isinstance(node, tuple):
        for part in node:
            yield from _custom_types(part, seen)
    elif isinstance(node, (inspect.Type, inspect.Field)) and id(node) not in seen:
        seen.add(id(node))
        yield from _custom_types(msgspec.structs.astuple(node), seen)


def _defaults_refused(cls: type, name: str, hints: Mapping[str, Any]) -> list[str]:
    try:
        _struct(cls, _travelling(cls), hints)
    except TypeError as error:
        return [f"{name}: {error}: use field(default_factory=…)."]
    return []


def _travelling(cls: type) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []


def _field_info(field: dataclasses.Field[Any], hints: Mapping[str, Any]) -> FieldInfo:
    return FieldInfo(
        name=field.name,
        type=hints[field.name] | None if field.default is None else hints[field.name],
        required=field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING,
    )


def _struct(
    cls: type, fields: list[dataclasses.Field[Any]], hints: Mapping[str, Any]
) -> type[msgspec.Struct]:
    """Return the msgspec twin of a dataclass, which decodes several times faster."""
    return msgspec.defstruct(
        cls.__name__,
        [(f.name, _field_info(f, hints).type, _msgspec_default(f)) for f in fields],
        kw_only=True,
        module=cls.__module__,
    )


def _msgspec_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return msgspec.field(default=field.default)
    if field.default_factory is not dataclasses.MISSING:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field()


# Sending: what JSON and jsonb cannot carry.


def _spell_special(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # SafeString's own __str__ returns itself
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Model):
        raise TypeError(f"a model instance ({type(value).__name__}): send its primary key")
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_spell_special)


def _refuse_unstorable(text: str, value: Any) -> None:
    if _NUL.search(text):
        raise ValueError("NUL (\\u0000), which PostgreSQL's jsonb refuses: remove it")
    if not _is_finite(_tree(value)):
        raise ValueError("NaN or an infinity, which JSON cannot carry: send None or text")


def _tree(value: Any) -> Any:
    """Return *value* with its dataclasses, sets and the like as dicts and lists."""
    return msgspec.to_builtins(value, builtin_types=_TYPES_KEPT, enc_hook=_spell_special)


def _is_finite(tree: Any) -> bool:
    if isinstance(tree, Mapping):
        return all(map(_is_finite, [*tree, *tree.values()]))
    if isinstance(tree, (list, tuple)):
        return all(map(_is_finite, tree))
    if isinstance(tree, Decimal):
        return tree.is_finite()
    return not isinstance(tree, float) or math.isfinite(tree)


def _same(sent: Any, arrived: Any) -> bool:
    match sent, arrived:
        case dict(), dict():
            return sent.keys() == arrived.keys() and all(
                _same(value, arrived[key]) for key, value in sent.items()
            )
        case ((list() | tuple()), (list() | tuple())):
            return len(sent) == len(arrived) and all(map(_same, sent, arrived))
        case datetime.datetime(), datetime.datetime():
            # In the hour that clocks repeat, equal times of two zones are unequal (PEP 495).
            return sent.isoformat() == arrived.isoformat()
    return bool(sent == arrived)


# Receiving: PostgreSQL's spellings, as casts to text and to_jsonb() write them.

_INTERVAL = re.compile(
    r"(?=.)(?:(?P<days>[+-]?\d+) days?)?(?: ?(?P<sign>[+-]?)(?P<h>\d+):(?P<m>\d\d):(?P<s>[\d.]+))?"
)
_ISO_INTERVAL = re.compile(  # with a sign for each part, unlike msgspec's
    r"P(?:(?P<days>-?\d+)D)?"
    r"(?:T(?:(?P<h>-?\d+)H)?(?:(?P<m>-?\d+)M)?(?:(?P<s>-?[\d.]+)S)?)?(?P<sign>)"
)


def _interval(text: str) -> datetime.timedelta | str:
    """Read days and times; months and years have no fixed length and stay what they are."""
    match = _INTERVAL.fullmatch(text) or _ISO_INTERVAL.fullmatch(text)
    if match is None:
        return text
    time = datetime.timedelta(
        hours=int(match["h"] or 0), minutes=int(match["m"] or 0), seconds=float(match["s"] or 0)
    )
    days = datetime.timedelta(days=int(match["days"] or 0))
    return days - time if match["sign"] == "-" else days + time


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


def _raw(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


def _respell(value: Any, kind: inspect.Type) -> Any:
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
                return [_respell(item, kind.item_type) for item in items]
            case inspect.TupleType() if len(items) == len(kind.item_types):
                return list(map(_respell, items, kind.item_types))
            case inspect.NamedTupleType() if len(items) <= len(kind.fields):
                return list(map(_respell, items, (field.type for field in kind.fields)))
    return items


def _respell_object(value: dict[str, Any], kinds: tuple[inspect.Type, ...]) -> dict[Any, Any]:
    for kind in kinds:
        match kind:
            case inspect.DictType():
                return {
                    _respell(key, kind.key_type): _respell(item, kind.value_type)
                    for key, item in value.items()
                }
            case inspect.StructType() if kind.tag_field and value.get(kind.tag_field) != kind.tag:
                continue
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                types = {field.encode_name: field.type for field in kind.fields}
                return {
                    key: _respell(item, types[key]) if key in types else item
                    for key, item in value.items()
                }
    return value
