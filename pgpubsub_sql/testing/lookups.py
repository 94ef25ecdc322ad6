"""Lookups: what a test expects of a message's values, written as Django's query sets write it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db.models import Model

from pgpubsub_sql.errors import brief

MISSING = object()
"""What a lookup finds where there is nothing."""

Values = Callable[[str], Any]
"""Returns a value by its name, or :data:`MISSING`."""


OPERATORS: Mapping[str, Callable[[Any, Any], object]] = {
    "exact": lambda value, expected: is_equal(value, expected),
    "contains": operator.contains,
    "icontains": lambda value, part: part.lower() in value.lower(),
    "startswith": lambda value, part: value.startswith(part),
    "endswith": lambda value, part: value.endswith(part),
    "in": lambda value, options: any(is_equal(value, option) for option in options),
    "isnull": lambda value, expected: (value is None) == expected,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
"""What may follow a name, after two underscores."""


def differences(values: Values, lookups: Mapping[str, Any]) -> list[str]:
    """Return what differs from *lookups*, in words; nothing if all of them hold."""
    return [
        found for path, expected in lookups.items() for found in _differs(values, path, expected)
    ]


def is_equal(value: Any, expected: Any) -> bool:
    """Return whether a value is as expected; a callable is asked.

    Model instances are equal if all fields are that travelled. None that did not is loaded.
    """
    if callable(expected) and not isinstance(expected, type):
        return bool(expected(value))
    if isinstance(value, Model) and isinstance(expected, Model):
        return type(value) is type(expected) and not different_fields(value, expected)
    return bool(value == expected)


def different_fields(value: Model, expected: Model) -> list[str]:
    """Return the names of fields that travelled with *value* and differ from *expected*."""
    absent = _absent(value) | _absent(expected)
    names = [field.attname for field in value._meta.concrete_fields]
    return [
        name
        for name in names
        if name not in absent and getattr(value, name) != getattr(expected, name)
    ]


def show(value: Any) -> str:
    """Return *value* as a failure message shows it; of an instance, the fields that travelled."""
    if not isinstance(value, Model):
        return brief(repr(value))
    absent = _absent(value)
    fields = (f.attname for f in value._meta.concrete_fields if f.attname not in absent)
    shown = ", ".join(f"{name}={getattr(value, name)!r}" for name in fields)
    return brief(f"{type(value).__name__}({shown})")


def _absent(instance: Model) -> set[str]:
    """Return the names of fields without a value: deferred ones, and those that an INSERT fills."""
    unknown = {name for name, v in vars(instance).items() if hasattr(v, "resolve_expression")}
    return instance.get_deferred_fields() | unknown


def _differs(values: Values, path: str, expected: Any) -> Iterator[str]:
    names, compare = _split(path)
    value: Any = values(names[0])
    for name in names[1:]:
        value = MISSING if value is MISSING else _member(value, name)
    if value is MISSING:
        yield f"there is no {'__'.join(names)}"
    elif not _holds(compare, value, expected):
        yield f"{'__'.join(names)} is {show(value)}" + _details(compare, value, expected)


def _split(path: str) -> tuple[list[str], str]:
    """Return the names in *path*, and the operator that follows them."""
    names = path.split("__")
    if len(names) > 1 and names[-1] in OPERATORS:
        return names[:-1], names[-1]
    return names, "exact"


def _holds(compare: str, value: Any, expected: Any) -> bool:
    try:
        return bool(OPERATORS[compare](value, expected))
    except (TypeError, AttributeError):  # such as None < 1, which SQL would not call true either
        return False


def _details(compare: str, value: Any, expected: Any) -> str:
    """Return what else to say of a value that differs: which fields of a model instance do."""
    if compare == "exact" and isinstance(value, Model) and isinstance(expected, Model):
        return (
            f"; other than expected: {', '.join(different_fields(value, expected)) or 'the model'}"
        )
    return ""


def _member(value: Any, name: str) -> Any:
    """Return an element of a mapping or a list, or an attribute; no deferred field is loaded."""
    if isinstance(value, Mapping):
        return value.get(name, MISSING)
    if isinstance(value, (list, tuple)) and name.isdecimal():
        return value[int(name)] if int(name) < len(value) else MISSING
    return _attribute(value, name) if isinstance(value, Model) else getattr(value, name, MISSING)


def _attribute(instance: Model, name: str) -> Any:
    """Return an attribute of *instance*, unless that would load a field that did not travel.

    Raises :class:`FieldError` if there is none.
    """
    if name in instance.get_deferred_fields():
        return MISSING
    with suppress(FieldDoesNotExist):
        found = instance._meta.get_field(name)
        if getattr(found, "attname", name) in instance.get_deferred_fields():
            return MISSING
    try:
        return getattr(instance, name)
    except AttributeError:
        label = instance._meta.label
        raise FieldError(f"{label} has no field or attribute {name!r} to compare.") from None
