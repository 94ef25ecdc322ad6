"""Statements that create, alter and drop a channel's function and triggers."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from pgpubsub_sql.sql.catalogue import tag
from pgpubsub_sql.sql.channel_function import channel_function
from pgpubsub_sql.sql.comparison import FunctionDefinition, TriggerDefinition
from pgpubsub_sql.sql.quoting import quote_identifier, quote_table
from pgpubsub_sql.sql.templates import SQL, render
from pgpubsub_sql.sql.trigger import EVENTS, Trigger

_STATES = {"D": SQL("DISABLE"), "R": SQL("ENABLE REPLICA"), "A": SQL("ENABLE ALWAYS")}
"""How to set each ``pg_trigger.tgenabled`` except that of a new trigger."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExistingTrigger:
    """A trigger that the table has already."""

    by_row: bool
    """Whether it fires for each row."""
    enabled: str
    """``pg_trigger.tgenabled``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Where a trigger is installed, and for which app."""

    db_table: str
    """The model's ``db_table``, which its author may have quoted."""
    schema: str
    """Schema of the channel's function."""
    helpers: str
    """Schema of our own tables and helpers."""
    app: str
    """Label of the app whose migrations install it; the function's body names it."""
    table_oid: int = 0
    """0 if there is no such table."""
    qualified: SQL | None = None
    """The table with its schema; None if it does not exist yet, as in sqlmigrate."""
    watched: str | None = None
    """Schema of the table; None if it does not exist yet."""
    partitioned: bool = False
    """Whether the table has partitions or a parent: a statement's trigger would miss rows."""
    installed: Mapping[str, ExistingTrigger] | None = None
    """The triggers that the table has, by name; None to assume those of the migrations."""
    type_schemas: tuple[str, ...] = ()
    """Schemas of the types of the columns in the condition."""

    @property
    def table(self) -> SQL:
        """The table, quoted."""
        return SQL(quote_table(self.db_table))

    @property
    def search_path(self) -> SQL:
        """The function's search_path.

        The operators of citext and hstore are in the schema of their type. Temporary objects come
        last, so that no writer can shadow others with them.
        """
        schemas = map(quote_identifier, self.type_schemas)
        return SQL(", ".join(["pg_catalog", *schemas, "pg_temp"]))

    def is_by_row(self, trigger: Trigger, timed_event: str) -> bool:
        """Whether the trigger of *timed_event* fires for each row."""
        return trigger.occasion(timed_event, partitioned=self.partitioned) == "row"


def create(trigger: Trigger, target: Target) -> Iterator[str]:
    """Yield the statements that install *trigger*, or update what is installed."""
    yield from _create_function(trigger, target)
    yield from _create_triggers(trigger, trigger.triggers().keys(), target)


def wanted_function(trigger: Trigger, target: Target) -> FunctionDefinition:
    """Return the definition of the function that :func:`create` makes."""
    return FunctionDefinition.parse(_function(trigger, target))


def wanted_triggers(trigger: Trigger, target: Target) -> dict[str, TriggerDefinition]:
    """Return the definitions of the triggers that it makes, by name."""
    return {
        name: TriggerDefinition.of(timed_event, by_row=target.is_by_row(trigger, timed_event))
        for timed_event, name in trigger.triggers().items()
    }


def alter(old: Trigger, new: Trigger, target: Target) -> Iterator[str]:
    """Yield the statements that change *old*, or whatever is installed instead, to *new*.

    A timed event that both have keeps its trigger, so a change of the function alone does not lock
    the table.
    """
    if target.installed is None:
        target = dataclasses.replace(target, installed=_supposed(old, target))
    every = dataclasses.replace(new, after=EVENTS, before=EVENTS).triggers()
    wanted = new.triggers()
    for timed_event in sorted(every.keys() - wanted.keys()):
        if _installed(every[timed_event], target):
            yield render("triggers/drop_trigger", trigger=every[timed_event], table=target.table)
    yield from _create_function(new, target)
    yield from _create_triggers(new, {e for e in wanted if not _is_kept(e, new, target)}, target)


def drop(trigger: Trigger, *, schema: str) -> Iterator[str]:
    """Yield the statement that drops the function of *trigger*, with its triggers."""
    yield render("triggers/drop_function", schema=schema, function=trigger.function)


def _supposed(trigger: Trigger, target: Target) -> dict[str, ExistingTrigger]:
    return {
        name: ExistingTrigger(by_row=target.is_by_row(trigger, timed_event), enabled="O")
        for timed_event, name in trigger.triggers().items()
    }


def _installed(name: str, target: Target) -> ExistingTrigger | None:
    return (target.installed or {}).get(name)


def _is_kept(timed_event: str, trigger: Trigger, target: Target) -> bool:
    """Whether there is a trigger already that fires as often as the new one."""
    installed = _installed(trigger.triggers()[timed_event], target)
    return installed is not None and installed.by_row == target.is_by_row(trigger, timed_event)


def _create_function(trigger: Trigger, target: Target) -> Iterator[str]:
    yield _function(trigger, target)
    yield render("triggers/revoke_function", schema=target.schema, function=trigger.function)


def _function(trigger: Trigger, target: Target) -> str:
    return channel_function(
        trigger,
        tag=tag(app=target.app, channel=trigger.channel),
        schema=target.schema,
        helpers=target.helpers,
        watched=target.watched or target.schema,
        search_path=target.search_path,
        partitioned=target.partitioned,
    )


def _create_triggers(
    trigger: Trigger, timed_events: Collection[str], target: Target
) -> Iterator[str]:
    for timed_event, name in trigger.triggers().items():
        if timed_event in timed_events:
            yield _create_trigger(trigger, timed_event, target)
            yield from _restore(name, target)


def _create_trigger(trigger: Trigger, timed_event: str, target: Target) -> str:
    names: dict[str, str | SQL] = {
        "trigger": trigger.triggers()[timed_event],
        "table": target.table,
        "schema": target.schema,
        "function": trigger.function,
    }
    timing = SQL(timed_event.replace("_", " ").upper())
    if target.is_by_row(trigger, timed_event):
        return render("triggers/create_row_trigger", timing=timing, **names)
    if timed_event.endswith("truncate"):
        return render("triggers/create_truncate_trigger", timing=timing, **names)
    return render(f"triggers/create_{timed_event.removeprefix('after_')}_trigger", **names)


def _restore(name: str, target: Target) -> Iterator[str]:
    """Yield the statement that restores the state of a replaced trigger."""
    installed = _installed(name, target)
    if installed and installed.enabled in _STATES:
        state = _STATES[installed.enabled]
        yield render("triggers/restore_trigger", trigger=name, table=target.table, state=state)
