"""What a migration keeps of a trigger channel, and the SQL that makes it so."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
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
        """Return *specification* as a Trigger; lists, as a hand-written migration may have, are tuples."""
        if isinstance(specification, cls):
            return specification
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in dict(specification).items()
            }
        )

    def deconstruct(self) -> dict[str, Any]:
        """Return the plain values that :meth:`of` takes."""
        return dataclasses.asdict(self)

    @property
    def fingerprint(self) -> str:
        """A digest of the specification, the same under every driver, process and machine."""
        canonical = json.dumps(self.deconstruct(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def function(self) -> str:
        """Name of the channel's function."""
        return shorten(f"pgpubsub_{self.channel}")

    def triggers(self) -> dict[str, str]:
        """Map each installed event, as ``after_insert``, to the name of its trigger."""
        events = [f"after_{event}" for event in self.after]
        events += [f"before_{event}" for event in self.before]
        return {event: shorten(f"pgpubsub_{self.channel}_{event}") for event in events}


def create(trigger: Trigger, *, db_table: str, schema: str, owner: str) -> Iterator[SQL]:
    """Yield what installs *trigger*, or brings what is installed up to it."""
    yield create_function(trigger, schema=schema)
    yield from _create_triggers(trigger, db_table=db_table, schema=schema)
    yield from _comments(trigger, db_table=db_table, schema=schema, owner=owner)


def drop(trigger: Trigger, *, schema: str) -> Iterator[SQL]:
    """Yield what removes the function of *trigger* and every trigger that calls it."""
    yield render("triggers/drop_function", schema=schema, function=trigger.function)


def drop_events(names: Iterable[str], *, db_table: str) -> Iterator[SQL]:
    """Yield what removes single triggers of the table, by name."""
    table = SQL(quote_table(db_table))
    for name in names:
        yield render("triggers/drop_trigger", trigger=name, table=table)


def create_function(trigger: Trigger, *, schema: str) -> SQL:
    """Return the statement that creates or replaces the channel's function."""
    deliver = "triggers/store" if trigger.durable else "triggers/send"
    branches = {
        event: render(
            deliver, schema=schema, channel=trigger.channel, rows=render(f"triggers/rows_{event}")
        )
        for event in ("insert", "update", "delete")
    }
    ring = SQL("")
    if trigger.durable:
        ring = render("triggers/ring", schema=schema, channel=trigger.channel)
    return render(
        "triggers/statement_function",
        schema=schema,
        function=trigger.function,
        ring=ring,
        **branches,
    )


def _create_triggers(trigger: Trigger, *, db_table: str, schema: str) -> Iterator[SQL]:
    for event, name in trigger.triggers().items():
        yield render(
            f"triggers/{event}",
            trigger=name,
            table=SQL(quote_table(db_table)),
            schema=schema,
            function=trigger.function,
        )


def _comments(trigger: Trigger, *, db_table: str, schema: str, owner: str) -> Iterator[SQL]:
    tag = {"channel": trigger.channel, "fingerprint": trigger.fingerprint, "owner": owner}
    comment = f"pgpubsub_sql {json.dumps(tag, sort_keys=True, ensure_ascii=False)}"
    yield render(
        "triggers/comment_function", schema=schema, function=trigger.function, comment=comment
    )
    for name in trigger.triggers().values():
        yield render(
            "triggers/comment_trigger",
            trigger=name,
            table=SQL(quote_table(db_table)),
            comment=comment,
        )
