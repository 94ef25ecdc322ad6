"""Functions and triggers of channels in PostgreSQL's catalogue, whoever installed them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql.comparison import FunctionDefinition, TriggerDefinition, setting
from pgpubsub_sql.sql.quoting import quote_identifier
from pgpubsub_sql.sql.templates import SQL, query

TAG = "pgpubsub_sql "
"""Beginning of the comment in the first line of a channel function's body; JSON follows."""

SILENT = ("D", "R")
"""Values of ``pg_trigger.tgenabled`` with which a trigger does not fire for ordinary writers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstalledTrigger:
    """A trigger that calls the function of a channel."""

    name: str
    schema: str
    """Schema of its table."""
    table: str
    """Name of its table."""
    table_oid: int
    enabled: str
    """``pg_trigger.tgenabled``."""
    definition: TriggerDefinition

    @property
    def is_silent(self) -> bool:
        """Whether it does not fire for ordinary writers."""
        return self.enabled in SILENT

    @property
    def quoted_table(self) -> SQL:
        """Its table, with schema."""
        return SQL(f"{quote_identifier(self.schema)}.{quote_identifier(self.table)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstalledFunction:
    """The function of a channel, and the triggers that call it."""

    name: str
    schema: str
    is_current: bool
    """Whether it is in the current schema, where new objects go."""
    app: str | None
    """Label of the app whose migration has installed it; None if its body is not ours."""
    channel: str | None
    """Name of its channel; None if its body is not ours."""
    definition: FunctionDefinition
    is_public: bool
    """Whether every role may call it."""
    triggers: tuple[InstalledTrigger, ...]


def tag(*, app: str, channel: str) -> SQL:
    """Return the comment in a function's body that marks it as ours.

    The body is dumped, restored and cloned with the function; a COMMENT is not always.
    """
    found = json.dumps({"app": app, "channel": channel}, sort_keys=True)
    return SQL(TAG + found.replace("$", "\\u0024"))  # a dollar could end the body


def installed_functions(connection: BaseDatabaseWrapper) -> dict[str, InstalledFunction]:
    """Return the functions of channels on the search_path of *connection*, by name."""
    with connection.cursor() as cursor:
        cursor.execute(query("installed"))
        rows = cursor.fetchall()
    found: dict[str, InstalledFunction] = {}
    for row in rows:
        function, trigger = row[:11], row[11:]
        one = found.get(row[0]) or _function(*function)
        triggers = (*one.triggers, _trigger(*trigger)) if trigger[0] else ()
        found[row[0]] = dataclasses.replace(one, triggers=triggers)
    return found


def function_definition(
    arguments: str,
    result: str,
    language: str,
    is_definer: bool,
    volatility: str,
    settings: list[str],
    source: str,
) -> FunctionDefinition:
    """Return the definition of a function from columns of a query on pg_proc."""
    return FunctionDefinition(
        arguments=arguments,
        result=result,
        language=language,
        is_definer=is_definer,
        volatility=volatility,
        settings=dict(setting(name, value) for name, _, value in map(_partition, settings)),
        source=source,
    )


def _partition(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _function(name: str, schema: str, is_current: bool, *columns: Any) -> InstalledFunction:
    *defining, is_public = columns
    definition = function_definition(*defining)
    tagged = _read_tag(definition.source)
    return InstalledFunction(
        name=name,
        schema=schema,
        is_current=is_current,
        app=tagged.get("app"),
        channel=tagged.get("channel"),
        definition=definition,
        is_public=is_public,
        triggers=(),
    )


def _trigger(
    name: str,
    oid: int,
    schema: str,
    table: str,
    enabled: str,
    kinds: int,
    old_table: str | None,
    new_table: str | None,
    is_plain: bool,
) -> InstalledTrigger:
    return InstalledTrigger(
        name=name,
        schema=schema,
        table=table,
        table_oid=oid,
        enabled=enabled,
        definition=TriggerDefinition(
            type=kinds, old_table=old_table, new_table=new_table, is_plain=is_plain
        ),
    )


def _read_tag(source: str) -> dict[str, Any]:
    """Return the tag in the first line of a body; empty if the body is not ours."""
    line = source.lstrip("\n").partition("\n")[0]
    if not line.startswith(f"-- {TAG}"):
        return {}
    try:
        found = json.loads(line.removeprefix(f"-- {TAG}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
