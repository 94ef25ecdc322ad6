"""The function of a channel, put together of templates."""

from __future__ import annotations

from collections.abc import Iterator

from pgpubsub_sql.sql.templates import SQL, render
from pgpubsub_sql.sql.trigger import Trigger

_SEPARATOR = "\n    "


def function(trigger: Trigger, *, schema: str, helpers: str, partitioned: bool) -> SQL:
    """Return what creates the function of *trigger*, or replaces it."""
    shared = {"helpers": helpers, "channel": trigger.channel}
    return render(
        "triggers/function",
        schema=schema,
        function=trigger.function,
        helpers=helpers,
        timezone=trigger.timezone,
        search_path=SQL("pg_catalog, pg_temp"),
        ignored=render("triggers/ignored", **shared),
        branches=SQL(_SEPARATOR.join(_branches(trigger, helpers, partitioned))),
        ring=render("triggers/ring", **shared) if trigger.durable else SQL(""),
    )


def _branches(trigger: Trigger, helpers: str, partitioned: bool) -> Iterator[SQL]:
    """Yield what is done on each occasion that the function is called for."""
    found = [trigger.occasion(event, partitioned=partitioned) for event in trigger.triggers()]
    for occasion in dict.fromkeys(found):
        deliver = _deliver(trigger, helpers, occasion)
        yield render(f"triggers/on_{occasion}", deliver=deliver)


def _deliver(trigger: Trigger, helpers: str, occasion: str) -> SQL:
    rows = render(f"triggers/rows_{occasion}")
    deliver = "triggers/store" if trigger.durable else "triggers/send"
    return render(deliver, helpers=helpers, channel=trigger.channel, rows=rows)
