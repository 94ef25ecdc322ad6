"""The triggers that the code declares.

Listeners say which events are wanted, and channels how. Channels name fields; a specification names
database columns. To add an option, read it in a function of :data:`_READERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.options import Options

from pgpubsub_sql.channels import TriggerChannel, app_label, dotted_path, model_of
from pgpubsub_sql.errors import ConditionError, OptionError
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.recorded_triggers import Triggers
from pgpubsub_sql.sql import DOLLAR_TAG, is_our_table
from pgpubsub_sql.sql.conditions import compile_condition
from pgpubsub_sql.sql.trigger import EVENTS, LEVELS, Trigger

Columns = tuple[str, ...]


def declared_triggers() -> Triggers:
    """Return the triggers that this project's listeners need, by app label and channel.

    A channel that is received has none: its messages come from other databases.
    """
    return {
        (app_label(channel), channel.postgres_name()): trigger
        for channel in registry.channels()
        if issubclass(channel, TriggerChannel)
        and channel.received_from is None
        and (trigger := specify(channel)).triggers()
    }


def specify(channel: type[TriggerChannel]) -> Trigger:
    """Return the specification of *channel*, with the events of all its listeners.

    Raises :class:`OptionError` for an option that does not fit the model.
    """
    model = model_of(channel)
    wanted = {one for listener in registry.listeners_of(channel) for one in listener.timed_events}
    return Trigger(
        channel=channel.postgres_name(),
        model=(model._meta.concrete_model or model)._meta.label_lower,  # not a proxy's
        after=tuple(event for event in EVENTS if f"after_{event}" in wanted),
        before=tuple(event for event in EVENTS if f"before_{event}" in wanted),
        durable=channel.lock_notifications,
        **option_values(channel),
    )


def table_owner(model: type[Model]) -> tuple[str, str]:
    """Return app and name of the model whose operations create the table of *model*.

    The table of a ManyToManyField comes and goes with the model that declares the field.
    """
    creator: Any = model._meta.auto_created or model
    return creator._meta.app_label, creator._meta.model_name


def option_values(channel: type[TriggerChannel]) -> dict[str, Any]:
    """Return the options of *channel* as fields of its specification.

    Raises :class:`OptionError` for an option that does not fit the model.
    """
    return {name: value for read in _READERS for name, value in read(channel).items()}


def option_problems(channel: type[TriggerChannel]) -> list[str]:
    """Return what is wrong with the options of *channel*."""
    found = []
    for read in _READERS:
        try:
            read(channel)
        except OptionError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _model(channel: type[TriggerChannel]) -> dict[str, Any]:
    """Refuse a model of ours: each stored message would store another, without end."""
    options = _fields_of(channel)
    if is_our_table(options.db_table):
        raise _wrong(
            channel,
            f"model is {options.label}, whose table is pgpubsub_sql's own: a message about a "
            "stored message would be stored, and so on without end. Watch the tables that "
            "messages are about, or use the signals of pgpubsub_sql.",
        )
    return {}


def _level(channel: type[TriggerChannel]) -> dict[str, Any]:
    if channel.level not in LEVELS:
        raise _wrong(channel, f"level is {channel.level!r}: choose one of {', '.join(LEVELS)}.")
    return {"level": channel.level}


def _columns(channel: type[TriggerChannel]) -> dict[str, Any]:
    """Return the columns that travel.

    The primary key, links to parents, the ordering key and the dimensions of an image always do.
    """
    if channel.columns is not None and channel.exclude:
        raise _wrong(channel, "columns and exclude contradict each other: keep one of them.")
    if channel.columns is None and not channel.exclude:
        return {"columns": None}
    fields = _fields_of(channel)
    always = {*_identifying(fields), *_named(channel, "ordering_key")}
    if channel.columns is not None:
        named = {*always, *_named(channel, "columns")}
        return {"columns": _sorted({*named, *_dimensions(fields, named)})}
    return {"columns": _sorted(_columns_but_excluded(channel, always))}


def _columns_but_excluded(channel: type[TriggerChannel], always: set[str]) -> set[str]:
    fields, excluded = _fields_of(channel), {*_named(channel, "exclude")}
    if needed := sorted(excluded & always):
        raise _wrong(
            channel,
            f"exclude names the column {needed[0]!r}, but the primary key and the ordering key "
            "always travel. Remove it from exclude.",
        )
    present = {str(f.column) for f in fields.local_concrete_fields if not _is_virtual(f)}
    left = present - excluded
    if needed := sorted(excluded & {*_dimensions(fields, left)}):
        raise _wrong(
            channel,
            f"exclude names the column {needed[0]!r}, a dimension of an image that travels. "
            "Exclude the image as well, or neither.",
        )
    return left


def _watch(channel: type[TriggerChannel]) -> dict[str, Any]:
    return {"watch": _sorted({*_named(channel, "watch")})}


def _condition(channel: type[TriggerChannel]) -> dict[str, Any]:
    if channel.condition is None:
        return {"condition": ""}
    try:
        compiled = compile_condition(model_of(channel), channel.condition)
    except ConditionError as error:
        raise _wrong(channel, f"condition cannot become SQL. {error}") from error
    return {"condition": str(compiled.sql), "timezone": compiled.timezone}


def _ordering_key(channel: type[TriggerChannel]) -> dict[str, Any]:
    return {"ordering_key": _named(channel, "ordering_key")}


def _ignorable(channel: type[TriggerChannel]) -> dict[str, Any]:
    if not isinstance(channel.ignorable, bool):
        raise _wrong(channel, f"ignorable is {channel.ignorable!r}: give True or False.")
    return {"ignorable": channel.ignorable}


_READERS = (_model, _level, _columns, _watch, _condition, _ordering_key, _ignorable)
"""Each reads one option as fields of the specification, or raises :class:`OptionError`."""


def _fields_of(channel: type[TriggerChannel]) -> Options[Any]:
    model = model_of(channel)
    return (model._meta.concrete_model or model)._meta  # a proxy has no fields of its own


def _identifying(fields: Options[Any]) -> Iterator[str]:
    """Yield the columns that identify a row: the primary key and links to parents."""
    keys: list[Any] = [*fields.pk_fields, *fields.parents.values()]
    yield from (field.column for field in keys if field in fields.local_concrete_fields)


def _dimensions(fields: Options[Any], columns: set[str]) -> Iterator[str]:
    """Yield the columns that an ImageField among *columns* reads when an instance is made.

    If they did not travel, they could not be read for a row that is deleted.
    """
    by_name: dict[str, Any] = {field.name: field for field in fields.local_concrete_fields}
    for field in fields.local_concrete_fields:
        if field.column in columns:
            names = (getattr(field, f"{side}_field", None) for side in ("width", "height"))
            yield from (by_name[name].column for name in names if name in by_name)


def _named(channel: type[TriggerChannel], option: str) -> Columns:
    """Return the columns of the fields that *option* names, in its order."""
    value = getattr(channel, option)
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (tuple, list, set, frozenset)):
        raise _wrong(channel, f"{option} is {value!r}: give a tuple of field names.")
    found = [column for name in names for column in _columns_of(channel, option, name)]
    return tuple(dict.fromkeys(found))


def _columns_of(channel: type[TriggerChannel], option: str, name: object) -> Iterator[str]:
    fields = _fields_of(channel)
    if not isinstance(name, str):
        raise _wrong(channel, f"{option} holds {name!r}: give field names, as strings.")
    named: list[Any]
    if fields.pk is not None and name in ("pk", fields.pk.name):
        named = list(fields.pk_fields)
    else:
        by_name = {alias: f for f in fields.concrete_fields for alias in (f.name, f.attname)}
        if name not in by_name:
            raise _wrong(channel, f"{option} names {name!r}, {_no_column(fields, name)}")
        named = [by_name[name]]
    for field in named:
        _check_field(channel, option, field)
        yield field.column


def _check_field(channel: type[TriggerChannel], option: str, field: Any) -> None:
    """Refuse a field of another table, or one that has no value when triggers run."""
    fields = _fields_of(channel)
    if field not in fields.local_concrete_fields:
        reason = (
            f"which is in the table of the parent model {field.model._meta.label}, and a trigger "
            "sees only the row that changed. Watch that model in a channel of its own."
        )
    elif _is_virtual(field):
        reason = (
            "which PostgreSQL computes when it is read, so no trigger sees its value. Leave it "
            "out, or name the fields that it is computed from."
        )
    elif DOLLAR_TAG in field.column:
        reason = (
            f"whose column contains {DOLLAR_TAG}, which no function can hold. Rename the column."
        )
    else:
        return
    raise _wrong(channel, f"{option} names {field.name!r}, {reason}")


def _no_column(fields: Options[Any], name: str) -> str:
    """Return why *name* is not a column, and what to write instead."""
    try:
        fields.get_field(name)
    except FieldDoesNotExist:
        names = [field.name for field in fields.local_concrete_fields]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Its fields: {', '.join(names)}."
        return f"but {fields.label} has no such field. {hint}"
    return f"which is not a column of {fields.label}. Watch the model that has it instead."


def _is_virtual(field: Any) -> bool:
    return getattr(field, "db_persist", None) is False


def _sorted(columns: set[str]) -> Columns:
    """Return *columns* in an order that reordering fields or options does not change."""
    return tuple(sorted(columns))


def _wrong(channel: type[TriggerChannel], problem: str) -> OptionError:
    return OptionError(f"{dotted_path(channel)}: {problem}")
