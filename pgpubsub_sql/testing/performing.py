"""Performing: makes the payload of a message that nobody has sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.db.models import Model
from msgspec import Raw

from pgpubsub_sql.channels import BaseChannel, Channel, TriggerChannel, codec, model_of
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.listeners import Listener
from pgpubsub_sql.migrations_ops.declared_triggers import option_values
from pgpubsub_sql.sql import SQL, part, render
from pgpubsub_sql.worker.connections import execute

NO_ROW = -1
"""Primary key of an instance that was not saved: no row is likely to have it."""


def made_payload(
    listener: Listener,
    channel: type[BaseChannel],
    fields: Mapping[str, Any],
    *,
    op: str | None,
    context: Mapping[str, Any],
    using: str,
) -> str:
    """Return the payload of a message with these fields for *listener*.

    Raises :class:`PayloadError` if they do not fit the channel, or the listener would not get it.
    """
    if issubclass(channel, TriggerChannel):
        return _change(listener, channel, fields, op=op, context=context, using=using)
    if op is not None:
        raise PayloadError(f"{channel.postgres_name()} has no op: no trigger sends on it.")
    payload = codec(cast(type[Channel], channel)).encode(dict(fields))
    if not context:
        return payload
    sent = json.dumps({"$context": context}, cls=DjangoJSONEncoder)
    return sent if payload == "{}" else f"{sent[:-1]}, {payload[1:]}"


def _change(
    listener: Listener,
    channel: type[TriggerChannel],
    fields: Mapping[str, Any],
    *,
    op: str | None,
    context: Mapping[str, Any],
    using: str,
) -> str:
    if unknown := sorted(fields.keys() - {"old", "new"}):
        raise PayloadError(
            f"{channel.postgres_name()} has no field {unknown[0]!r}: give old, new, op and context."
        )
    old, new = fields.get("old"), fields.get("new")
    happened = op.upper() if op else _inferred(old, new)
    change = {
        "op": happened,
        "when": _timing(listener, happened),
        "old": None if old is None else Raw(_row(channel, old, using)),
        "new": None if new is None else Raw(_row(channel, new, using)),
        "context": Raw(json.dumps(dict(context), cls=DjangoJSONEncoder)),
    }
    return msgspec.json.encode(change).decode()


def _inferred(old: object, new: object) -> str:
    if old is None:
        return "TRUNCATE" if new is None else "INSERT"
    return "DELETE" if new is None else "UPDATE"


def _timing(listener: Listener, op: str) -> str:
    """Return when the trigger fires whose messages of *op* the listener gets."""
    for when in ("AFTER", "BEFORE"):
        if listener.accepts(f"{when}_{op}".lower()):
            return when
    raise PayloadError(
        f"{listener.path} does not get messages about {op}, but about "
        f"{', '.join(sorted(listener.timed_events))}. Give old, new or op accordingly."
    )


def _row(channel: type[TriggerChannel], row: Any, using: str) -> str:
    """Return a row as JSON, as PostgreSQL writes it for the trigger."""
    model = model_of(channel)
    if not isinstance(row, model):
        raise PayloadError(
            f"{channel.postgres_name()}: old and new are instances of {model._meta.label}, "
            f"not {row!r}."
        )
    columns = _columns(channel, row, using)
    listed = [part("testing/column", type=SQL(type_), name=name) for name, type_, _ in columns]
    statement = render("testing/row", columns=SQL(", ").join(listed))
    ((text,),) = execute(connections[using], statement, [value for _, _, value in columns])
    return str(text)


def _columns(channel: type[TriggerChannel], row: Model, using: str) -> list[tuple[str, str, Any]]:
    """Return name, type and value of the columns that travel and that the instance has."""
    connection: Any = connections[using]
    meta = (row._meta.concrete_model or type(row))._meta
    travelling, absent = option_values(channel)["columns"], row.get_deferred_fields()
    found = []
    for field in meta.local_concrete_fields:
        is_absent = field.attname in absent or getattr(field, "db_persist", None) is False
        if is_absent or (travelling is not None and field.column not in travelling):
            continue
        value = getattr(row, field.attname)
        if value is None and field.primary_key and field.get_internal_type().endswith("AutoField"):
            value = NO_ROW
        if hasattr(value, "resolve_expression"):
            continue  # only the database knows it
        prepared = field.get_db_prep_save(value, connection)
        found.append((str(field.column), str(field.cast_db_type(connection)), prepared))
    return found
