"""What a migration keeps of a trigger channel."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from pgpubsub_sql.sql.names import object_name

_COLUMN = re.compile(
    r"""'(?:[^']|'')*'|"(?:old|new)"\."(?P<column>(?:[^"]|"")+)"|"(?:[^"]|"")*\""""
)
"""How a compiled condition spells a column, and literals and other names, which may look so."""

EVENTS = ("insert", "update", "delete", "truncate")
LEVELS = ("statement", "row")
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
    timezone: str = "UTC"
    """The time zone in which the function runs: that of the condition."""
    ordering_key: tuple[str, ...] = ()
    """Database columns that make the ordering key."""
    ignorable: bool = True
    """Whether ``pgpubsub.ignore`` silences it."""
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
        return cls(**{"version": 1} | values | {"model": specification["model"].lower()})

    def deconstruct(self) -> dict[str, Any]:
        """Return the plain values that :meth:`of` takes."""
        return dataclasses.asdict(self)

    @property
    def function(self) -> str:
        """Name of the channel's function, which no channel can make that of a helper."""
        return object_name("pgpubsub_channel_", self.channel)

    @property
    def names_columns(self) -> bool:
        """Whether what is done depends on columns that there are."""
        return bool(self.named_columns or self.condition)

    @property
    def named_columns(self) -> frozenset[str]:
        """Database columns that the options name."""
        named = (*(self.columns or ()), *self.watch, *self.ordering_key)
        return self.condition_columns.union(named)

    def triggers(self) -> dict[str, str]:
        """Map each installed event, as ``after_insert``, to the name of its trigger."""
        events = [f"after_{event}" for event in self.after]
        events += [f"before_{event}" for event in self.before]
        return {event: object_name("pgpubsub_", self.channel, f"_{event}") for event in events}

    @property
    def condition_columns(self) -> frozenset[str]:
        """Database columns that the condition names."""
        found = (match["column"] for match in _COLUMN.finditer(self.condition))
        return frozenset(name.replace('""', '"') for name in found if name)

    def occasion(self, event: str, *, partitioned: bool) -> str:
        """Return what the function is called for when *event* occurs on such a table.

        ``"row"`` for each of its rows, or the last word of the event for all of them at once.
        """
        timing, _, kind = event.partition("_")
        by_row = timing == "before" or self.level == "row" or partitioned
        return "row" if by_row and kind != "truncate" else kind
