"""Comparable definitions of functions and triggers, wanted or installed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

from pgpubsub_sql.sql.quoting import DOLLAR_TAG, split_identifiers

_LANGUAGE = re.compile(r"^LANGUAGE (\w+)(.*)$", re.MULTILINE)
_SETTING = re.compile(r"^SET (\w+) = (.+)$", re.MULTILINE)
_SIGNATURE = re.compile(r"\(([^)]*)\) RETURNS (\w+)")

ROW, BEFORE = 1, 2
_EVENTS = {"insert": 4, "delete": 8, "update": 16, "truncate": 32}
"""Bits of ``pg_trigger.tgtype``, from PostgreSQL's catalog/pg_trigger.h."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FunctionDefinition:
    """A function without its name and owner."""

    arguments: str
    """As ``pg_get_function_arguments()`` writes them."""
    result: str
    """Name of its return type."""
    language: str
    is_definer: bool
    """Whether it is SECURITY DEFINER."""
    volatility: str
    """``pg_proc.provolatile``."""
    settings: Mapping[str, str | tuple[str, ...]]
    """Its SET clauses; ``search_path`` schema by schema."""
    source: str
    """Its body."""

    @classmethod
    def parse(cls, statement: str) -> FunctionDefinition:
        """Return the definition in a CREATE FUNCTION statement of our templates."""
        header, _, rest = statement.partition(DOLLAR_TAG)
        language = _LANGUAGE.search(header)
        signature = _SIGNATURE.search(header)
        if language is None or signature is None:
            raise ValueError(f"Not a CREATE FUNCTION of one of our templates: {statement!r}")
        options = language[2]
        return cls(
            arguments=" ".join(signature[1].split()).replace(
                "timestamptz", "timestamp with time zone"
            ),
            result=signature[2],
            language=language[1],
            is_definer="SECURITY DEFINER" in options,
            volatility="s" if "STABLE" in options else "v",
            settings=dict(
                setting(name, _unquoted(name, value)) for name, value in _SETTING.findall(header)
            ),
            source=rest.partition(DOLLAR_TAG)[0],
        )

    def differences(self, wanted: FunctionDefinition) -> Iterator[str]:
        """Yield how it differs from *wanted*."""
        if self.arguments != wanted.arguments:
            yield "its arguments differ"
        for name in ("result", "language", "volatility"):
            if getattr(self, name) != getattr(wanted, name):
                yield f"its {name} differs"
        if self.source != wanted.source:
            yield "its body differs"
        if self.is_definer != wanted.is_definer:
            words = "SECURITY DEFINER" if wanted.is_definer else "SECURITY INVOKER"
            yield f"it is not {words}"
        for name in sorted(self.settings.keys() | wanted.settings.keys()):
            if self.settings.get(name) != wanted.settings.get(name):
                yield f"its setting {name} differs"

    def is_replaceable(self, wanted: FunctionDefinition) -> bool:
        """Whether CREATE OR REPLACE leads to *wanted*; otherwise it must be dropped first."""
        return (self.arguments, self.result) == (wanted.arguments, wanted.result)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TriggerDefinition:
    """When a trigger fires, and its transition tables."""

    type: int
    """Timing, level and events: ``pg_trigger.tgtype``."""
    old_table: str | None = None
    new_table: str | None = None
    """Names of its transition tables."""
    is_plain: bool = True
    """Whether it has no WHEN, columns or arguments, and is no constraint trigger."""

    @classmethod
    def of(cls, timed_event: str, *, by_row: bool) -> TriggerDefinition:
        """Return the definition for *timed_event*, such as ``after_insert``."""
        timing, _, event = timed_event.partition("_")
        bits = (ROW if by_row else 0) | (BEFORE if timing == "before" else 0) | _EVENTS[event]
        has_tables = not by_row and event != "truncate"
        return cls(
            type=bits,
            old_table="pgpubsub_old" if has_tables and event != "insert" else None,
            new_table="pgpubsub_new" if has_tables and event != "delete" else None,
        )

    def differences(self, wanted: TriggerDefinition) -> Iterator[str]:
        """Yield how it differs from *wanted*."""
        if (self.type ^ wanted.type) & ROW:
            each = "row" if wanted.type & ROW else "statement"
            yield f"does not fire for each {each}"
        if (self.type ^ wanted.type) & ~ROW:
            yield "fires for another event"
        if not self.is_plain:
            yield "has a condition, columns or arguments, or is a constraint trigger"
        if (self.old_table, self.new_table) != (wanted.old_table, wanted.new_table):
            yield "has other transition tables"


def setting(name: str, value: str) -> tuple[str, str | tuple[str, ...]]:
    """Return a setting with a comparable name and value, however it was written."""
    if name.lower() == "search_path":
        return "search_path", tuple(split_identifiers(value))
    return name.lower(), value


def _unquoted(name: str, value: str) -> str:
    return value if name == "search_path" else value.strip("'")
