"""The function of a channel: ``triggers/function.sql``, with a part for each occasion."""

from __future__ import annotations

from collections.abc import Iterable

from pgpubsub_sql.sql import expressions
from pgpubsub_sql.sql.quoting import quote_identifier
from pgpubsub_sql.sql.templates import NEW_LINE, NOTHING, SQL, part, render
from pgpubsub_sql.sql.trigger import Trigger

_NULL = SQL("NULL::text")

_HOLES = {
    "insert": ("new", "no_old"),
    "update": ("old", "new", "changed"),
    "delete": ("old", "no_new"),
    "row": ("old", "new", "changed"),
}
"""Holes in ``<occasion>_rows``, besides the condition."""


def channel_function(
    trigger: Trigger,
    *,
    tag: SQL,
    schema: str,
    helpers: str,
    watched: str,
    search_path: SQL,
    partitioned: bool,
) -> str:
    """Return the CREATE FUNCTION of *trigger* on a table in the schema *watched*."""
    moves = schema == helpers  # otherwise its body names another schema than its own
    chooses = expressions.chooses(trigger, "row")
    shared = {"helpers": helpers, "channel": trigger.channel}
    occasions = _occasions(trigger, partitioned)
    return render(
        "triggers/function",
        tag=tag,
        schema=schema,
        function=trigger.function,
        helpers=helpers,
        timezone=trigger.timezone,
        search_path=search_path,
        moved_variables=part("triggers/moved_variables") if moves else NOTHING,
        chosen_variables=part("triggers/chosen_variables") if chooses else NOTHING,
        moved=_moved(trigger, helpers, watched, occasions) if moves else NOTHING,
        ignored=part("triggers/ignored", **shared) if trigger.ignorable else NOTHING,
        occasions=NEW_LINE.join(_occasion(trigger, helpers, name) for name in occasions),
        ring=part("triggers/ring", **shared) if trigger.durable else NOTHING,
    )


def _occasions(trigger: Trigger, partitioned: bool) -> list[str]:
    """Return the occasions on which the function is called, each once."""
    found = (trigger.occasion(one, partitioned=partitioned) for one in trigger.triggers())
    return list(dict.fromkeys(found))


def _moved(trigger: Trigger, home: str, watched: str, occasions: Iterable[str]) -> SQL:
    """Return what the function does if it has left the schema *home*."""
    key = expressions.key_values(trigger)
    return part(
        "triggers/moved",
        home=home,
        watched=f"{quote_identifier(watched)}.",
        channel=trigger.channel,
        occasions=NEW_LINE.join(
            _whole(name, part("triggers/collect", key=key, rows=_whole_rows(name)))
            for name in occasions
        ),
        ignorable=SQL(str(trigger.ignorable).lower()),
    )


def _occasion(trigger: Trigger, helpers: str, occasion: str) -> SQL:
    """Return what the function does on an occasion."""
    whole = _whole_rows(occasion)
    if expressions.chooses(trigger, occasion):
        stale = _deliver(trigger, helpers, part("triggers/stale_context"), whole)
        values = _row_values(trigger) if occasion == "row" else _table_values(trigger, occasion)
        chosen = part("triggers/row_picked") if occasion == "row" else values["rows"]
        deliver = _deliver(trigger, helpers, SQL("context"), chosen)
        return part(f"triggers/{occasion}_chosen", deliver=deliver, deliver_stale=stale, **values)
    deliver = _deliver(trigger, helpers, SQL("context"), whole)
    if occasion == "truncate" and trigger.durable:
        return _whole(occasion, deliver, emptied=part("triggers/emptied", helpers=helpers))
    return _whole(occasion, deliver)


def _whole(occasion: str, deliver: SQL, *, emptied: SQL = NOTHING) -> SQL:
    """Return what the function does on an occasion if it delivers all rows, whole."""
    values = {"emptied": emptied} if occasion == "truncate" else {}
    return part(f"triggers/{occasion}", deliver=deliver, **values)


def _whole_rows(occasion: str) -> SQL:
    """Return the query for all rows of an occasion, whole."""
    return part(f"triggers/{occasion}_whole_rows")


def _deliver(trigger: Trigger, helpers: str, context: SQL, rows: SQL) -> SQL:
    """Return the statement that stores or sends *rows*."""
    shared: dict[str, str | SQL] = {
        "helpers": helpers,
        "channel": trigger.channel,
        "context": context,
        "rows": rows,
    }
    if not trigger.durable:
        return part("triggers/send", **shared)
    values = expressions.key_values(trigger)
    keyed = bool(trigger.ordering_key)
    key = part("triggers/key", helpers=helpers, values=values) if keyed else _NULL
    return part("triggers/store", key=key, **shared)


def _table_values(trigger: Trigger, occasion: str) -> dict[str, SQL]:
    """Return the holes of an occasion whose rows are in transition tables."""
    values = {
        "check_operators": _check_operators(trigger, occasion),
        "tried": SQL("count(*)") if trigger.condition else SQL("1"),
        "tried_rows": SQL("ALL") if trigger.condition else SQL("0"),
        "rows": _rows(trigger, occasion),
    }
    if row := {"insert": "new", "delete": "old"}.get(occasion):
        names_columns = trigger.columns is not None
        values["tried_columns"] = expressions.json(trigger, row) if names_columns else NOTHING
    return values


def _check_operators(trigger: Trigger, occasion: str) -> SQL:
    if not trigger.condition_columns:
        return NOTHING
    visible = expressions.types_visible(trigger, "changed")
    table = "pgpubsub_old" if occasion == "delete" else "pgpubsub_new"
    return part("triggers/check_operators", types_visible=visible, table=table)


def _row_values(trigger: Trigger) -> dict[str, SQL]:
    """Return the holes of an occasion FOR EACH ROW."""
    executed = part("triggers/executed")
    visible = expressions.types_visible(trigger, "new")
    query = part("triggers/operators_query", types_visible=visible, source=executed)
    again = part("triggers/check_operators_again", query=query)
    return {
        "types_visible": visible,
        "check_operators_again": again if trigger.condition_columns else NOTHING,
        "rows": _rows(trigger, "row", source=NOTHING),
        "rows_again": _rows(trigger, "row", source=executed),
    }


def _rows(trigger: Trigger, occasion: str, **source: SQL) -> SQL:
    """Return the query for the rows that the options choose."""
    values = {
        "old": expressions.json(trigger, "old", paired=occasion == "update"),
        "new": expressions.json(trigger, "new", paired=occasion == "update"),
        "no_old": _joined(trigger, "old"),
        "no_new": _joined(trigger, "new"),
        "changed": expressions.changed(trigger),
    }
    holes = {name: values[name] for name in _HOLES[occasion]}
    condition = expressions.condition(trigger)
    return part(f"triggers/{occasion}_rows", condition=condition, **holes, **source)


def _joined(trigger: Trigger, row: str) -> SQL:
    """Return the join condition of the row that does not exist; empty if nothing reads it."""
    return SQL("false") if f'"{row}".' in trigger.condition else NOTHING
