"""Rows as real triggers send them, and the instances that are decoded from them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.backends.postgresql.psycopg_any import NumericRange
from django.db.models import Model

from pgpubsub_sql.rows import Change, decode_change
from tests.rows.models import Everything
from tests.triggers.tables import watch

UTC = dt.UTC


def execute(sql: str, *params: Any) -> Any:
    """Execute a statement; return the first value of its first row, if it has one."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def watch_model(model: type[Model]) -> None:
    """Install a durable trigger on the table of *model*, as ``migrate`` does."""
    watch(model._meta.db_table, channel=_channel(model))


def sent(model: type[Model]) -> str:
    """Return the newest payload that the trigger on a model's table has stored."""
    return stored(_channel(model))


def stored(channel: str) -> str:
    """Return the newest payload of a channel, as a worker takes it."""
    payload = execute(
        "SELECT payload::text FROM pgpubsub_sql_notification"
        " WHERE channel = %s ORDER BY id DESC LIMIT 1",
        channel,
    )
    assert payload is not None, f"nothing was told on {channel}"
    return payload


def _channel(model: type[Model]) -> str:
    return f"rows.{model._meta.concrete_model.__name__}"


def spelled(model: type[Model]) -> str:
    """Return a payload of the only row of a table as a trigger of somebody's own may spell it:
    unlike ours, by the settings of the writer's session."""
    table = connection.ops.quote_name(model._meta.db_table)
    return execute(
        "SELECT jsonb_build_object('op', 'INSERT', 'when', 'AFTER', 'old', NULL,"
        f" 'new', to_jsonb(t), 'context', '{{}}'::jsonb)::text FROM {table} t"
    )


def payload(new: Any = None, old: Any = None, **fields: Any) -> str:
    """Return a payload of no trigger's."""
    return json.dumps({"op": "UPDATE", "when": "AFTER", "old": old, "new": new, **fields})


def with_new(row: str) -> str:
    return '{"new": ' + row + "}"


def decode(model: type[Model], raw: str | bytes) -> Change[Any]:
    return decode_change(model, raw, using="default")


def new(model: type[Model], raw: str | bytes) -> Any:
    return decode(model, raw).new


def same(left: Any, right: Any) -> bool:
    """Equal in value and in type, all the way down; NaN included, -0.0 and 0.0 told apart."""
    if type(left) is not type(right):
        return False
    match left:
        case list():
            return len(left) == len(right) and all(map(same, left, right))
        case dict():
            return list(left) == list(right) and all(map(same, left.values(), right.values()))
        case float() | Decimal() | NumericRange():
            return repr(left) == repr(right)
        case memoryview():  # the driver's do not compare
            return bytes(left) == bytes(right)
        case dt.datetime():
            return left == right and left.tzinfo is right.tzinfo
        case _:
            return bool(left == right)


def assert_same(decoded: Model, fetched: Model, *but: str) -> None:
    """What a listener sees equals what a queryset gives; the fields of *but* are deferred."""
    names = {field.attname for field in decoded._meta.concrete_fields}
    assert decoded.get_deferred_fields() == set(but)
    for name in names - set(but):
        left, right = getattr(decoded, name), getattr(fetched, name)
        assert same(left, right), f"{name}: {left!r} is not {right!r}"


def round_trip(**values: Any) -> Any:
    """Write, rewrite and delete a row; what is told each time is what a queryset gives."""
    Everything.objects.all().delete()
    Everything.objects.create(**values)
    inserted = sent(Everything)
    fetched = Everything.objects.get()
    decoded = new(Everything, inserted)
    assert_same(decoded, fetched)
    execute("UPDATE rows_everything SET id = id")
    updated = decode(Everything, sent(Everything))
    assert_same(updated.old, fetched)
    assert_same(updated.new, fetched)
    execute("DELETE FROM rows_everything")
    assert_same(decode(Everything, sent(Everything)).old, fetched)
    return decoded


@contextmanager
def session(name: str, value: str) -> Iterator[None]:
    """Change a setting of the session, as the writer's session may have it."""
    before = execute("SELECT set_config(%s, current_setting(%s), false)", name, name)
    execute("SELECT set_config(%s, %s, false)", name, value)
    try:
        yield
    finally:
        execute("SELECT set_config(%s, %s, false)", name, before)
