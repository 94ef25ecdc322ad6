"""What PostgreSQL's catalogue says is installed of channels, whoever installed it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql.forms import FunctionForm, TriggerForm, setting
from pgpubsub_sql.sql.quoting import quote_identifier
from pgpubsub_sql.sql.templates import SQL, query

TAG = "pgpubsub_sql "
"""How the comment begins that is the first line of a channel function's body; JSON follows."""

SILENT = ("D", "R")
"""What ``pg_trigger.tgenabled`` has for a trigger that does not fire for ordinary writers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstalledTrigger:
    """One trigger that calls the function of a channel."""

    name: str
    schema: str
    """Schema of its table."""
    table: str
    """Name of its table."""
    table_oid: int
    enabled: str
    """As ``pg_trigger.tgenabled`` has it."""
    form: TriggerForm

    @property
    def is_silent(self) -> bool:
        """Whether ordinary writers do not make it fire."""
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
    """Whether it is in the schema where new objects go."""
    app: str | None
    """Label of the app whose migration has installed it; None where its body is not ours."""
    channel: str | None
    """Name of the channel it belongs to."""
    form: FunctionForm
    is_public: bool
    """Whether every role may call it."""
    triggers: tuple[InstalledTrigger, ...]


def tag(*, app: str, channel: str) -> SQL:
    """Return the comment in a function's body by which it is known as ours.

    In the body, as it is dumped, restored and cloned with it; a COMMENT is not always.
    """
    found = json.dumps({"app": app, "channel": channel}, sort_keys=True)
    return SQL(TAG + found.replace("$", "\\u0024"))  # a dollar might end the body


def installed_functions(connection: BaseDatabaseWrapper) -> dict[str, InstalledFunction]:
    """Return the functions of channels that the search_path of *connection* leads to, by name."""
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


def function_form(
    arguments: str,
    result: str,
    language: str,
    is_definer: bool,
    volatility: str,
    settings: list[str],
    source: str,
) -> FunctionForm:
    """Return a function as a query on pg_proc has it."""
    return FunctionForm(
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


def _function(name: str, schema: str, is_current: bool, *form_and_public: Any) -> InstalledFunction:
    form = function_form(*form_and_public[:-1])
    said = _read_tag(form.source)
    return InstalledFunction(
        name=name,
        schema=schema,
        is_current=is_current,
        app=said.get("app"),
        channel=said.get("channel"),
        form=form,
        is_public=form_and_public[-1],
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
    form = TriggerForm(type=kinds, old_table=old_table, new_table=new_table, is_plain=is_plain)
    return InstalledTrigger(
        name=name, schema=schema, table=table, table_oid=oid, enabled=enabled, form=form
    )


def _read_tag(source: str) -> dict[str, Any]:
    """Return what the first line of a body of ours says; of somebody else's, nothing."""
    line = source.lstrip("\n").partition("\n")[0]
    if not line.startswith(f"-- {TAG}"):
        return {}
    try:
        said = json.loads(line.removeprefix(f"-- {TAG}"))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
