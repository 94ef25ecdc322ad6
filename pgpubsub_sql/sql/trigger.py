"""What a migration keeps of a trigger channel, and the SQL that makes it so."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pgpubsub_sql.sql.quoting import quote_table, shorten
from pgpubsub_sql.sql.templates import SQL, render

EVENTS = ("insert", "update", "delete", "truncate")
VERSION = 1
"""Version of the channel function's template; a new one makes one ``AlterTrigger`` a channel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trigger:
    """A frozen, comparable specification: plain values only, so that it serializes itself."""

    channel: str
    """Name of the channel in PostgreSQL."""
    model: str
    """Label of the model whose table is watched, as ``app_label.modelname``."""
    after: tuple[str, ...] = ()
    """Events handled AFTER the fact, of :data:`EVENTS`, in that order."""
    before: tuple[str, ...] = ()
    """Events handled BEFORE the fact."""
    level: str = "statement"
    """``"statement"`` or ``"row"``."""
    durable: bool = False
    """Whether notifications are stored (``lock_notifications``) or only sent."""
    columns: tuple[str, ...] | None = None
    """Database columns that travel; None for all."""
    watch: tuple[str, ...] = ()
    """Database columns of which one must have changed for an UPDATE to count."""
    condition: str = ""
    """SQL over ``old`` and ``new`` that must hold; empty for none."""
    ordering_key: tuple[str, ...] = ()
    """Database columns that make the ordering key."""
    version: int = VERSION
    """Version of the template that renders the function."""

    @classmethod
    def of(cls, specification: Trigger | Mapping[str, Any]) -> Trigger:
        """Return *specification* as a Trigger, whether a machine or a person wrote it.

        Lists become tuples, and the model's label is lower-cased. Raises :class:`TypeError` for
        keys that there are not and for missing ones.
        """
        if isinstance(specification, Trigger):
            return specification
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := [name for name in specification if name not in known]:
            raise TypeError(
                f"A trigger has no {unknown[0]!r}; it has {', '.join(known)}. "
                "Was this migration written by a newer pgpubsub_sql?"
            )
        if missing := [name for name in ("channel", "model") if name not in specification]:
            raise TypeError(f"A trigger needs a {missing[0]!r}: {dict(specification)!r}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in specification.items()
        }
        return cls(**values | {"model": specification["model"].lower()})

    def deconstruct(self) -> dict[str, Any]:
        """Return the plain values that :meth:`of` takes."""
        return dataclasses.asdict(self)

    @property
    def fingerprint(self) -> str:
        """A digest of the specification, the same under every driver, process and machine.

        Without the model: renaming it changes nothing of what is installed.
        """
        specification = self.deconstruct()
        del specification["model"]
        canonical = json.dumps(specification, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def function(self) -> str:
        """Name of the channel's function, which no channel can make that of a helper."""
        return _object_name(f"pgpubsub_channel_{self.channel}")

    def triggers(self) -> dict[str, str]:
        """Map each installed event, as ``after_insert``, to the name of its trigger."""
        events = [f"after_{event}" for event in self.after]
        events += [f"before_{event}" for event in self.before]
        return {event: _object_name(f"pgpubsub_{self.channel}_{event}") for event in events}


def _object_name(name: str) -> str:
    """Return *name* at a length that PostgreSQL keeps, and unable to delimit a function's body."""
    return shorten(name.replace("$", "$0"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Where a trigger is installed, and in whose name."""

    db_table: str
    """The table as the model has it, quoted by its author or not at all."""
    schema: str
    """Schema of the channel's function."""
    helpers: str
    """Schema of our own tables and helpers."""
    owner: str
    """Written into the comments, so that only a project's own triggers are ever pruned."""

    @property
    def table(self) -> SQL:
        """The table, quoted."""
        return SQL(quote_table(self.db_table))


def create(trigger: Trigger, site: Site) -> Iterator[SQL]:
    """Yield what installs *trigger*, or brings what is installed up to it."""
    yield from _create_function(trigger, site)
    yield from _create_triggers(trigger, trigger.triggers().keys(), site)
    yield from _comment(trigger, site)


def alter(old: Trigger, new: Trigger, site: Site) -> Iterator[SQL]:
    """Yield what brings *old* to *new*, which is the same channel on the same table.

    An event that both have keeps its trigger, so that a change of the function alone locks
    nobody out of the table.
    """
    before, after = old.triggers(), new.triggers()
    kept = before.keys() & after.keys() if old.level == new.level else set()
    for event in sorted(before.keys() - after.keys()):
        yield render("triggers/drop_trigger", trigger=before[event], table=site.table)
    yield from _create_function(new, site)
    yield from _create_triggers(new, after.keys() - kept, site)
    yield from _comment(new, site)


def drop(trigger: Trigger, *, schema: str) -> Iterator[SQL]:
    """Yield what removes the function of *trigger* and every trigger that calls it."""
    yield render("triggers/drop_function", schema=schema, function=trigger.function)


def _create_function(trigger: Trigger, site: Site) -> Iterator[SQL]:
    names = {"schema": site.schema, "function": trigger.function}
    shared = {"helpers": site.helpers, "channel": trigger.channel}
    deliver = "triggers/store" if trigger.durable else "triggers/send"
    branches = {
        event: render(deliver, rows=render(f"triggers/rows_{event}"), **shared)
        for event in (*EVENTS, "each")
    }
    branches["ignored"] = render("triggers/ignored", **shared)
    branches["ring"] = render("triggers/ring", **shared) if trigger.durable else SQL("")
    yield render("triggers/function", helpers=site.helpers, **names, **branches)
    yield render("triggers/revoke_function", **names)


def _create_triggers(trigger: Trigger, events: Collection[str], site: Site) -> Iterator[SQL]:
    for event, name in trigger.triggers().items():
        if event in events:
            yield render(
                f"triggers/{event}",
                trigger=name,
                table=site.table,
                schema=site.schema,
                function=trigger.function,
            )


def _comment(trigger: Trigger, site: Site) -> Iterator[SQL]:
    tag = {"channel": trigger.channel, "fingerprint": trigger.fingerprint, "owner": site.owner}
    comment = f"pgpubsub_sql {json.dumps(tag, sort_keys=True, ensure_ascii=False)}"
    yield render(
        "triggers/comment_function",
        schema=site.schema,
        function=trigger.function,
        comment=comment,
    )
    for name in trigger.triggers().values():
        yield render("triggers/comment_trigger", trigger=name, table=site.table, comment=comment)
