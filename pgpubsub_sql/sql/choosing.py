"""What the options of a channel say, as expressions over the rows ``old`` and ``new``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from json import dumps
from typing import Any

from pgpubsub_sql.sql.templates import SQL, part, render
from pgpubsub_sql.sql.trigger import Trigger

_TRUE = SQL("true")


def chooses(trigger: Trigger, occasion: str) -> bool:
    """Whether the options leave anything out on this occasion. A TRUNCATE is always told."""
    if occasion == "truncate":
        return False
    watches = bool(trigger.watch) and occasion in ("update", "row")
    return watches or trigger.columns is not None or bool(trigger.condition)


def json(trigger: Trigger, row: str, occasion: str = "row") -> SQL:
    """Return what travels of *row*."""
    if trigger.columns is None:
        return part(f"triggers/json_{'paired' if occasion == 'update' else 'row'}", row=row)
    return part("triggers/json_columns", columns=_columns(row, trigger.columns))


def changed(trigger: Trigger) -> SQL:
    """Return whether an UPDATE counts."""
    if not trigger.watch:
        return _TRUE
    old, new = (_columns(row, trigger.watch) for row in ("old", "new"))
    return part("triggers/changed", old=old, new=new)


def condition(trigger: Trigger) -> SQL:
    """Return what must hold."""
    if not trigger.condition:
        return _TRUE
    return part("triggers/condition", condition=SQL(trigger.condition))


def no_row(trigger: Trigger, row: str) -> SQL:
    """Return what joins a row that there is not, if the condition asks for it."""
    return part(f"triggers/no_{row}") if f'"{row}".' in trigger.condition else SQL("")


def key(trigger: Trigger, helpers: str) -> SQL:
    """Return the ordering key of a change."""
    if not trigger.ordering_key:
        return SQL("NULL")
    return part("triggers/key", helpers=helpers, parts=key_parts(trigger))


def key_parts(trigger: Trigger) -> SQL:
    """Return the values of the ordering key, as one array of JSON."""
    if not trigger.ordering_key:
        return SQL("NULL::jsonb")
    values = (part("triggers/key_value", column=column) for column in trigger.ordering_key)
    return part("triggers/key_parts", values=_listed(values))


def visible(trigger: Trigger, row: str) -> SQL:
    """Return whether the operators of the condition are those that it was installed with."""
    columns = sorted(trigger.condition_columns)
    return SQL(" AND ").join(part("triggers/visible", row=row, column=column) for column in columns)


def plan(trigger: Trigger, table: SQL) -> str:
    """Return what fails where *table* lacks a column, or a type an operator, that is named."""
    return render(
        "triggers/plan",
        type=table,
        old=json(trigger, "old"),
        new=json(trigger, "new"),
        changed=changed(trigger),
        condition=condition(trigger),
    )


def some_rows(columns: Iterable[str], table: SQL) -> str:
    """Return the query for a few rows of *table*, each as JSON."""
    return render("triggers/some_rows", columns=_columns("old", columns), table=table)


def try_row(row: Mapping[str, Any], table: SQL) -> str:
    """Return what fails where *table* cannot have such a row."""
    return render("triggers/try_row", type=table, row=dumps(row))


def try_condition(trigger: Trigger, row: Mapping[str, Any], table: SQL) -> str:
    """Return what fails where the condition does, on such a row before and after a change."""
    return render(
        "triggers/try_condition", condition=condition(trigger), type=table, row=dumps(row)
    )


def _columns(row: str, columns: Iterable[str]) -> SQL:
    return _listed(part("triggers/column", row=row, column=column) for column in columns)


def _listed(parts: Iterable[SQL]) -> SQL:
    return SQL(", ").join(parts)
