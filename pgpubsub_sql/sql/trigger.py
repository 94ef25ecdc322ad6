"""The specification of a trigger channel, as migrations keep it, and the names of its objects."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pgpubsub_sql.sql.quoting import MAX_NAME_BYTES

_COLUMN = re.compile(
    r"""'(?:[^']|'')*'|"(?:old|new)"\."(?P<column>(?:[^"]|"")+)"|"(?:[^"]|"")*\""""
)
"""A column in a compiled condition; also literals and other names, which may look like one."""

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER_CHARACTERS = re.compile(r"[^a-z0-9_]")

EVENTS = ("insert", "update", "delete", "truncate")
LEVELS = ("statement", "row")
VERSION = 1
"""Version of the templates in ``triggers/``; raising it produces one ``AlterTrigger`` per channel.

The golden files in ``tests/triggers/golden`` cannot change without it.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trigger:
    """Plain values only, so that migrations can serialize and compare them."""

    channel: str
    """The channel's name in PostgreSQL."""
    model: str
    """Label of the model whose table is watched: ``app_label.modelname``."""
    after: tuple[str, ...] = ()
    """Events of AFTER triggers, in the order of :data:`EVENTS`."""
    before: tuple[str, ...] = ()
    """Events of BEFORE triggers, likewise."""
    level: str = "statement"
    """``"statement"`` or ``"row"``."""
    durable: bool = False
    """Whether messages are stored (``lock_notifications``) or only sent."""
    columns: tuple[str, ...] | None = None
    """Database columns to send; None for all."""
    watch: tuple[str, ...] = ()
    """Database columns; an UPDATE counts only if one of them has changed."""
    condition: str = ""
    """SQL condition over the rows ``old`` and ``new``; empty for none."""
    timezone: str = "UTC"
    """Time zone in which the function runs: that of the condition."""
    ordering_key: tuple[str, ...] = ()
    """Database columns of the ordering key."""
    ignorable: bool = True
    """Whether ``pgpubsub.ignore`` silences it."""
    version: int = VERSION
    """Version of the templates that render the function."""

    @classmethod
    def of(cls, specification: Trigger | Mapping[str, Any]) -> Trigger:
        """Return *specification*, which a person may have written, as a Trigger.

        Lists become tuples, and the model's label is lower-cased. Raises :class:`TypeError` for
        unknown and for missing keys.
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
        """Return the dictionary that :meth:`of` takes."""
        return dataclasses.asdict(self)

    @property
    def function(self) -> str:
        """Name of the channel's function. No channel's can be that of a helper."""
        return object_name("pgpubsub_channel_", self.channel)

    @property
    def names_columns(self) -> bool:
        """Whether the function depends on columns of the table."""
        return bool(self.named_columns or self.condition)

    @property
    def named_columns(self) -> frozenset[str]:
        """Database columns that the options name."""
        named = (*(self.columns or ()), *self.watch, *self.ordering_key)
        return self.condition_columns.union(named)

    def triggers(self) -> dict[str, str]:
        """Map each timed event, such as ``after_insert``, to the name of its trigger."""
        timed_events = [f"after_{event}" for event in self.after]
        timed_events += [f"before_{event}" for event in self.before]
        return {one: object_name("pgpubsub_", self.channel, f"_{one}") for one in timed_events}

    @property
    def condition_columns(self) -> frozenset[str]:
        """Database columns that the condition names."""
        found = (match["column"] for match in _COLUMN.finditer(self.condition))
        return frozenset(name.replace('""', '"') for name in found if name)

    def occasion(self, timed_event: str, *, partitioned: bool) -> str:
        """Return how the trigger of *timed_event* calls the function.

        Either ``"row"``, once for each row, or ``"insert"``, ``"update"``, ``"delete"`` or
        ``"truncate"``, once for the statement.
        """
        timing, _, event = timed_event.partition("_")
        by_row = timing == "before" or self.level == "row" or partitioned
        return "row" if by_row and event != "truncate" else event


def object_name(prefix: str, channel: str, suffix: str = "") -> str:
    """Return a lower-case name that needs no quotes for an object of *channel*.

    >>> object_name("pgpubsub_", "blog.PostChanged", "_after_insert")
    'pgpubsub_blog__post_changed_after_insert'

    If the channel's name cannot be derived from it, the name contains a digest, so that names of
    channels that differ only in case or punctuation differ.

    >>> object_name("pgpubsub_channel_", "blog.HTTPLog")
    'pgpubsub_channel_blog__httplog_01b6317d49'
    """
    plain = _plain(channel)
    limit = MAX_NAME_BYTES - len(prefix) - len(suffix)
    if len(plain) > limit or _channel(plain) != channel:
        digest = hashlib.sha256(channel.encode()).hexdigest()[:10]
        plain = f"{plain[: limit - len(digest) - 1]}_{digest}"
    return f"{prefix}{plain}{suffix}"


def _plain(channel: str) -> str:
    words = _WORD_STARTS.sub("_", channel).lower().replace(".", "__")
    return _OTHER_CHARACTERS.sub("_", words)


def _channel(plain: str) -> str:
    """Return the only channel whose name becomes *plain* without a digest."""
    label, separator, words = plain.partition("__")
    if not separator:
        return plain
    return f"{label}.{''.join(word.capitalize() for word in words.split('_'))}"
