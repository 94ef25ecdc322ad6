"""The function of a channel, put together of templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pgpubsub_sql.sql import choosing
from pgpubsub_sql.sql.quoting import quote_identifier
from pgpubsub_sql.sql.templates import SQL, part, render
from pgpubsub_sql.sql.trigger import Trigger

_NOTHING = SQL("")


def function(
    trigger: Trigger,
    *,
    tag: SQL,
    schema: str,
    helpers: str,
    watched: str,
    search_path: SQL,
    partitioned: bool,
) -> str:
    """Return what creates the function of *trigger* on a table in the schema *watched*."""
    moves = schema == helpers  # else the names in it have nothing to do with where it is
    shared = {"helpers": helpers, "channel": trigger.channel}
    return render(
        "triggers/function",
        tag=tag,
        schema=schema,
        function=trigger.function,
        helpers=helpers,
        timezone=trigger.timezone,
        search_path=search_path,
        moved_variables=part("triggers/moved_variables") if moves else _NOTHING,
        moved=_moved(trigger, helpers, watched, partitioned) if moves else _NOTHING,
        variables=part("triggers/variables") if choosing.chooses(trigger, "row") else _NOTHING,
        ignored=part("triggers/ignored", **shared) if trigger.ignorable else _NOTHING,
        branches=SQL("\n    ").join(_branches(trigger, helpers, partitioned)),
        ring=part("triggers/ring", **shared) if trigger.durable else _NOTHING,
    )


def _occasions(trigger: Trigger, partitioned: bool) -> Iterable[str]:
    """Return what the function is called for."""
    found = (trigger.occasion(event, partitioned=partitioned) for event in trigger.triggers())
    return dict.fromkeys(found)


def _moved(trigger: Trigger, home: str, watched: str, partitioned: bool) -> SQL:
    """Return what is done in another schema than *home*, for which the function was made."""
    key = choosing.key_parts(trigger)
    branches = (
        part(
            f"triggers/on_{occasion}",
            deliver=part("triggers/collect", key=key, rows=_whole(occasion)),
        )
        for occasion in _occasions(trigger, partitioned)
    )
    return part(
        "triggers/moved",
        home=home,
        watched=f"{quote_identifier(watched)}.",
        channel=trigger.channel,
        branches=SQL("\n            ").join(branches),
        ignorable=SQL(str(trigger.ignorable).lower()),
    )


def _branches(trigger: Trigger, helpers: str, partitioned: bool) -> Iterator[SQL]:
    """Yield what is done on each occasion that the function is called for."""
    for occasion in _occasions(trigger, partitioned):
        if not choosing.chooses(trigger, occasion):
            deliver = _deliver(trigger, helpers, _whole(occasion))
        elif occasion == "row":
            deliver = _guarded_row(trigger, helpers)
        else:
            deliver = _guarded(trigger, helpers, occasion)
        if occasion == "truncate" and trigger.durable:
            emptied = part("triggers/emptied", helpers=helpers)
            deliver = SQL("\n        ").join([emptied, deliver])
        yield part(f"triggers/on_{occasion}", deliver=deliver)


def _guarded(trigger: Trigger, helpers: str, occasion: str) -> SQL:
    rows = _chosen(trigger, occasion)
    return part(
        "triggers/guarded",
        types=_types(trigger, occasion),
        attempt=SQL("\n            ").join(_attempts(trigger, occasion, rows)),
        whole=_deliver(trigger, helpers, _whole(occasion), stale=True),
        chosen=_deliver(trigger, helpers, rows),
    )


def _types(trigger: Trigger, occasion: str) -> SQL:
    """Return what finds that the operators of the condition are not those that it means."""
    if not trigger.condition_columns:
        return _NOTHING
    if occasion == "row":
        return part("triggers/row_types", visible=choosing.visible(trigger, "new"))
    table = SQL("pgpubsub_old" if occasion == "delete" else "pgpubsub_new")
    return part("triggers/try_types", visible=choosing.visible(trigger, "changed"), table=table)


def _types_again(trigger: Trigger) -> SQL:
    if not trigger.condition_columns:
        return _NOTHING
    visible, source = choosing.visible(trigger, "new"), part("triggers/given_rows")
    types = render("triggers/types_again", visible=visible, source=source)
    return part("triggers/row_types_again", types=types)


def _attempts(trigger: Trigger, occasion: str, rows: SQL) -> Iterator[SQL]:
    """Yield what fails where *rows* cannot be had."""
    yield part("triggers/try_rows" if trigger.condition else "triggers/try_plan", rows=rows)
    row = {"insert": "new", "delete": "old"}.get(occasion)
    if row and trigger.columns is not None:
        table = SQL(f"pgpubsub_{row}")
        json = choosing.json(trigger, row)
        yield part("triggers/try_columns", json=json, table=table, row=row)


def _guarded_row(trigger: Trigger, helpers: str) -> SQL:
    return part(
        "triggers/guarded_row",
        types=_types(trigger, "row"),
        types_again=_types_again(trigger),
        rows=_chosen(trigger, "row", source=_NOTHING),
        again=_chosen(trigger, "row", source=part("triggers/given_rows")),
        whole=_deliver(trigger, helpers, _whole("row"), stale=True),
        chosen=_deliver(trigger, helpers, part("triggers/rows_picked")),
    )


def _whole(occasion: str) -> SQL:
    return part(f"triggers/rows_{occasion}")


def _chosen(trigger: Trigger, occasion: str, **values: SQL) -> SQL:
    """Return the query for what the options choose."""
    if occasion == "insert":
        values["no_old"] = choosing.no_row(trigger, "old")
    else:
        values["old"] = choosing.json(trigger, "old", occasion)
    if occasion == "delete":
        values["no_new"] = choosing.no_row(trigger, "new")
    else:
        values["new"] = choosing.json(trigger, "new", occasion)
    if occasion in ("update", "row"):
        values["changed"] = choosing.changed(trigger)
    condition = choosing.condition(trigger)
    return part(f"triggers/chosen_{occasion}", condition=condition, **values)


def _deliver(trigger: Trigger, helpers: str, rows: SQL, *, stale: bool = False) -> SQL:
    """Return the statement that stores or sends *rows*."""
    values: dict[str, str | SQL] = {
        "helpers": helpers,
        "channel": trigger.channel,
        "mark": part("triggers/stale") if stale else _NOTHING,
        "rows": rows,
    }
    if trigger.durable:
        return part("triggers/store", key=choosing.key(trigger, helpers), **values)
    return part("triggers/send", **values)
