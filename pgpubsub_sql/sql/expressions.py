"""The options of a channel as expressions over the rows ``old`` and ``new``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from json import dumps
from typing import Any

from pgpubsub_sql.sql.templates import SQL, part, render
from pgpubsub_sql.sql.trigger import Trigger

_TRUE = SQL("true")


def chooses(trigger: Trigger, occasion: str) -> bool:
    """Whether the options leave out rows or columns on this occasion; never of a TRUNCATE."""
    if occasion == "truncate":
        return False
    watches = bool(trigger.watch) and occasion in ("update", "row")
    return watches or trigger.columns is not None or bool(trigger.condition)


def json(trigger: Trigger, row: str, *, paired: bool = False) -> SQL:
    """Return the columns of *row* that travel; *paired* rows have a column of ours."""
    if trigger.columns is not None:
        return part("triggers/some_columns", columns=_columns(row, trigger.columns))
    return part("triggers/all_columns_paired" if paired else "triggers/all_columns", row=row)


def changed(trigger: Trigger) -> SQL:
    """Return whether an UPDATE counts."""
    if not trigger.watch:
        return _TRUE
    old, new = (_columns(row, trigger.watch) for row in ("old", "new"))
    return part("triggers/changed", old=old, new=new)


def condition(trigger: Trigger) -> SQL:
    """Return the condition of the channel."""
    if not trigger.condition:
        return _TRUE
    return part("triggers/condition", condition=SQL(trigger.condition))


def types_visible(trigger: Trigger, row: str) -> SQL:
    """Return whether the condition still has its operators; nothing if it names no column."""
    columns = sorted(trigger.condition_columns)
    visible = (part("triggers/type_visible", row=row, column=column) for column in columns)
    return SQL(" AND ").join(visible)


def key_values(trigger: Trigger) -> SQL:
    """Return the values of the ordering key, as a JSON array."""
    if not trigger.ordering_key:
        return SQL("NULL::jsonb")
    values = (part("triggers/key_value", column=column) for column in trigger.ordering_key)
    return part("triggers/key_values", values=_listed(values))


def plan(trigger: Trigger, table: SQL) -> str:
    """Return a statement that fails if *table* lacks a column or an operator of the options."""
    return render(
        "triggers/plan",
        type=table,
        old=json(trigger, "old"),
        new=json(trigger, "new"),
        changed=changed(trigger),
        condition=condition(trigger),
    )


def some_rows(columns: Iterable[str], table: SQL) -> str:
    """Return a query for a few rows of *table*, each as JSON."""
    return render("triggers/some_rows", columns=_columns("old", columns), table=table)


def try_row(row: Mapping[str, Any], table: SQL) -> str:
    """Return a statement that fails if *table* cannot have such a row."""
    return render("triggers/try_row", type=table, row=dumps(row))


def try_condition(trigger: Trigger, row: Mapping[str, Any], table: SQL) -> str:
    """Return a statement that fails if the condition does with this row as old and new."""
    return render(
        "triggers/try_condition", condition=condition(trigger), type=table, row=dumps(row)
    )


def _columns(row: str, columns: Iterable[str]) -> SQL:
    return _listed(part("triggers/column", row=row, column=column) for column in columns)


def _listed(parts: Iterable[SQL]) -> SQL:
    return SQL(", ").join(parts)
