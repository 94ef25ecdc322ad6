"""The SQL that makes a specification so: functions and triggers."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from pgpubsub_sql.sql.catalogue import tag
from pgpubsub_sql.sql.channel_function import channel_function
from pgpubsub_sql.sql.forms import FunctionForm, TriggerForm
from pgpubsub_sql.sql.quoting import quote_identifier, quote_table
from pgpubsub_sql.sql.templates import SQL, render
from pgpubsub_sql.sql.trigger import EVENTS, Trigger

_STATES = {"D": SQL("DISABLE"), "R": SQL("ENABLE REPLICA"), "A": SQL("ENABLE ALWAYS")}
"""What leads to each tgenabled of pg_trigger, but for the one that a new trigger has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Installed:
    """A trigger that the table has."""

    by_row: bool
    """Whether it fires for each row."""
    enabled: str
    """As ``pg_trigger.tgenabled`` has it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Where a trigger is installed, and for which app."""

    db_table: str
    """The table as the model has it, quoted by its author or not at all."""
    schema: str
    """Schema of the channel's function."""
    helpers: str
    """Schema of our own tables and helpers."""
    app: str
    """Label of the app whose migrations install it: whose it is, as its body says."""
    table_oid: int = 0
    """0 where there is no such table."""
    qualified: SQL | None = None
    """The table with its schema; None where it is not there yet, as sqlmigrate may find it."""
    watched: str | None = None
    """Schema of the table; None where it is not there yet."""
    partitioned: bool = False
    """Whether the table has partitions, or a parent: a statement's trigger would miss rows."""
    installed: Mapping[str, Installed] | None = None
    """The triggers that the table has, by name; None to suppose what the migrations say."""
    type_schemas: tuple[str, ...] = ()
    """Where the types of the columns live that the condition names."""

    @property
    def table(self) -> SQL:
        """The table, quoted."""
        return SQL(quote_table(self.db_table))

    @property
    def search_path(self) -> SQL:
        """Where the function looks names up, whatever the writer's session has set.

        The operators of citext and hstore are in the schema of their type. What is temporary comes
        last, so that no writer can put it in the way.
        """
        schemas = map(quote_identifier, self.type_schemas)
        return SQL(", ".join(["pg_catalog", *schemas, "pg_temp"]))

    def is_by_row(self, trigger: Trigger, event: str) -> bool:
        """Whether the trigger of *event* fires for each row."""
        return trigger.occasion(event, partitioned=self.partitioned) == "row"


def create(trigger: Trigger, site: Site) -> Iterator[str]:
    """Yield what installs *trigger*, or brings what is installed up to it."""
    yield from _create_function(trigger, site)
    yield from _create_triggers(trigger, trigger.triggers().keys(), site)


def wanted_function(trigger: Trigger, site: Site) -> FunctionForm:
    """Return what :func:`create` makes of the function."""
    return FunctionForm.parse(_function(trigger, site))


def wanted_triggers(trigger: Trigger, site: Site) -> dict[str, TriggerForm]:
    """Return what it makes of the triggers, by name."""
    return {
        name: TriggerForm.of(event, by_row=site.is_by_row(trigger, event))
        for event, name in trigger.triggers().items()
    }


def alter(old: Trigger, new: Trigger, site: Site) -> Iterator[str]:
    """Yield what brings *old*, or whatever is there instead, to *new* on the same table.

    An event that both have keeps its trigger, so that a change of the function alone locks
    nobody out of the table.
    """
    if site.installed is None:
        site = dataclasses.replace(site, installed=_supposed(old, site))
    every = dataclasses.replace(new, after=EVENTS, before=EVENTS).triggers()
    wanted = new.triggers()
    for event in sorted(every.keys() - wanted.keys()):
        if _installed(every[event], site):
            yield render("triggers/drop_trigger", trigger=every[event], table=site.table)
    yield from _create_function(new, site)
    yield from _create_triggers(new, {e for e in wanted if not _is_kept(e, new, site)}, site)


def drop(trigger: Trigger, *, schema: str) -> Iterator[str]:
    """Yield what removes the function of *trigger* and every trigger that calls it."""
    yield render("triggers/drop_function", schema=schema, function=trigger.function)


def _supposed(trigger: Trigger, site: Site) -> dict[str, Installed]:
    return {
        name: Installed(by_row=site.is_by_row(trigger, event), enabled="O")
        for event, name in trigger.triggers().items()
    }


def _installed(name: str, site: Site) -> Installed | None:
    return (site.installed or {}).get(name)


def _is_kept(event: str, trigger: Trigger, site: Site) -> bool:
    """Whether the trigger that is there fires as often as the new one would."""
    installed = _installed(trigger.triggers()[event], site)
    return installed is not None and installed.by_row == site.is_by_row(trigger, event)


def _create_function(trigger: Trigger, site: Site) -> Iterator[str]:
    yield _function(trigger, site)
    yield render("triggers/revoke_function", schema=site.schema, function=trigger.function)


def _function(trigger: Trigger, site: Site) -> str:
    return channel_function(
        trigger,
        tag=tag(app=site.app, channel=trigger.channel),
        schema=site.schema,
        helpers=site.helpers,
        watched=site.watched or site.schema,
        search_path=site.search_path,
        partitioned=site.partitioned,
    )


def _create_triggers(trigger: Trigger, events: Collection[str], site: Site) -> Iterator[str]:
    for event, name in trigger.triggers().items():
        if event in events:
            yield _create_trigger(trigger, event, site)
            yield from _restore(name, site)


def _create_trigger(trigger: Trigger, event: str, site: Site) -> str:
    names: dict[str, str | SQL] = {
        "trigger": trigger.triggers()[event],
        "table": site.table,
        "schema": site.schema,
        "function": trigger.function,
    }
    timing = SQL(event.replace("_", " ").upper())
    if site.is_by_row(trigger, event):
        return render("triggers/create_row_trigger", timing=timing, **names)
    if event.endswith("truncate"):
        return render("triggers/create_truncate_trigger", timing=timing, **names)
    return render(f"triggers/create_{event.removeprefix('after_')}_trigger", **names)


def _restore(name: str, site: Site) -> Iterator[str]:
    """Yield what leaves a trigger that was replaced as somebody had set it."""
    installed = _installed(name, site)
    if installed and installed.enabled in _STATES:
        state = _STATES[installed.enabled]
        yield render("triggers/restore_trigger", trigger=name, table=site.table, state=state)
