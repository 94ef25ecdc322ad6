"""Fields of a channel's dataclass, problems of its definition, and its msgspec equivalent."""

from __future__ import annotations

import dataclasses
import enum
import inspect as stdlib_inspect
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from django.db.models import Model
from msgspec import inspect

_UNRESOLVED = (NameError, AttributeError, SyntaxError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """One field that travels."""

    name: str
    type: Any
    """The declared type, resolved; ``T | None`` where the default is None."""
    required: bool
    """Whether the field has no default."""

    def __str__(self) -> str:
        kind = self.type.__name__ if isinstance(self.type, type) else str(self.type)
        return f"{self.name}: {kind}" + ("" if self.required else " (optional)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """What the dataclass of a channel declares, unless it has *problems*."""

    problems: Sequence[str] = ()
    """What is wrong with its fields, and what to do: one sentence a problem."""
    fields: Mapping[str, FieldInfo] = dataclasses.field(default_factory=dict)
    struct: type[msgspec.Struct] = msgspec.Struct
    """Its msgspec equivalent, which decodes several times faster."""


def define(cls: type, name: str) -> Definition:
    """Return what *cls* declares; its channel is called *name*."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except _UNRESOLVED as error:
        return Definition(problems=[_unresolved(cls, name, error)])
    found = [
        f"{name}: {field!r} is annotated in {owner.__qualname__}, which is not a dataclass: "
        f"decorate {owner.__qualname__} with @dataclass."
        for owner, field in _undecorated(cls, hints)
    ]
    found += [
        f"{name}: field {field!r} is an InitVar, which is not stored: make it an ordinary field."
        for field, hint in hints.items()
        if isinstance(hint, dataclasses.InitVar)
    ]
    declared = _init_fields(cls)
    found += [f"{name}: {text}" for field in declared for text in _type_problems(field.name, hints)]
    if found:
        return Definition(problems=found)
    fields = {field.name: _field_info(field, hints) for field in declared}
    try:
        return Definition(fields=MappingProxyType(fields), struct=_struct_of(cls, declared, fields))
    except TypeError as error:
        return Definition(problems=[f"{name}: {error}: use field(default_factory=…)."])


def definition_problems(cls: type, name: str) -> list[str]:
    """Return what is wrong with the fields of *cls*, and what to do: one sentence a problem."""
    return list(define(cls, name).problems)


def _unresolved(cls: type, name: str, error: Exception) -> str:
    word = getattr(error, "name", None)
    fields = [
        repr(field.name)
        for field in _init_fields(cls)
        if word and re.search(rf"\b{re.escape(word)}\b", str(field.type))
    ]
    where = f"field {', '.join(fields)}" if fields else "a field"
    return (
        f"{name}: the type of {where} cannot be resolved ({error}): import the names it uses "
        f"at the top of {cls.__module__}, not only under TYPE_CHECKING or inside a function."
    )


def _undecorated(cls: type, hints: Mapping[str, Any]) -> Iterator[tuple[type, str]]:
    for owner in cls.__mro__[:-1]:
        if "__dataclass_fields__" not in vars(owner):
            for field in stdlib_inspect.get_annotations(owner):
                if not _is_class_variable(hints[field]):
                    yield owner, field


def _is_class_variable(hint: Any) -> bool:
    return hint is typing.ClassVar or typing.get_origin(hint) is typing.ClassVar


def _type_problems(field: str, hints: Mapping[str, Any]) -> Iterator[str]:
    try:
        kind = inspect.type_info(hints[field])
        msgspec.json.Decoder(hints[field])
    except _UNRESOLVED as error:
        yield f"field {field!r} cannot be decoded: {error}. Declare a type that is clear in JSON."
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
    """Yield the classes in a type that msgspec does not support itself; types may be recursive."""
    if isinstance(node, inspect.CustomType):
        # Before msgspec 0.23, enums with a metaclass of their own, such as Django's choices, are
        # among them, and decoded all the same.
        if not issubclass(node.cls, enum.Enum):
            yield node.cls
    elif isinstance(node, tuple):
        for part in node:
            yield from _custom_types(part, seen)
    elif isinstance(node, (inspect.Type, inspect.Field)) and id(node) not in seen:
        seen.add(id(node))
        yield from _custom_types(msgspec.structs.astuple(node), seen)


def _init_fields(cls: type) -> list[dataclasses.Field[Any]]:
    """Return the fields that travel: those that ``__init__()`` takes."""
    return [f for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []


def _field_info(field: dataclasses.Field[Any], hints: Mapping[str, Any]) -> FieldInfo:
    type_ = _any_length(hints[field.name])
    return FieldInfo(
        name=field.name,
        type=type_ | None if field.default is None else type_,
        required=field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING,
    )


def _any_length(hint: Any) -> Any:
    """Read ``tuple[X]`` as a tuple of any length, as django-pgpubsub did."""
    if typing.get_origin(hint) is tuple and len(arguments := typing.get_args(hint)) == 1:
        return tuple[arguments[0], ...]  # type: ignore[valid-type]
    return hint


def _struct_of(
    cls: type, declared: list[dataclasses.Field[Any]], fields: Mapping[str, FieldInfo]
) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        cls.__name__,
        [(field.name, fields[field.name].type, _msgspec_default(field)) for field in declared],
        kw_only=True,
        module=cls.__module__,
    )


def _msgspec_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return msgspec.field(default=field.default)
    if field.default_factory is not dataclasses.MISSING:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field()
