"""The audit: what was committed against what was handled."""

from __future__ import annotations

from typing import Any

from tests.ledger import sql
from tests.torture.channels import (
    Changing,
    Message,
    Ordered,
    OrderedBundle,
    OrderedRows,
    Rows,
    Shared,
)
from tests.torture.stage import DECOY

LOCKED = "locked"
"""How keys begin whose writers lock them first, so that what is stored first is committed first."""

PARKED = """
    SELECT channel || coalesce(' (' || nullif(subscription, '') || ')', '') AS channel,
        (event->>'writer')::integer AS writer, (event->>'number')::integer AS number
    FROM pgpubsub_sql_notification
    CROSS JOIN LATERAL (SELECT coalesce(payload->'new', payload) AS event) AS told
    WHERE available_at IS NULL"""

ROWS = tuple(channel.postgres_name() for channel in (Rows, OrderedRows))
"""Channels on which nothing is stored that its trigger did not send."""

KEPT = tuple(one.postgres_name() for one in (Message, Ordered, OrderedBundle, Shared, Changing))
"""Channels whose history is compared with what was handled."""

HISTORY = """
    SELECT channel || coalesce(' (' || nullif(coalesce(first, subscription), '') || ')', '')
            AS channel,
        (payload->>'writer')::integer AS writer, (payload->>'number')::integer AS number
    FROM pgpubsub_sql_handled LEFT JOIN torture_name ON name = subscription
    WHERE outcome = 'handled'"""

LEDGER = f"""
    SELECT channel, writer, number FROM torture_handled
    WHERE split_part(channel, ' ', 1) IN {KEPT}"""

QUERIES = {
    # Committed, and neither handled nor, where nobody can handle it, parked.
    "lost": f"""
        SELECT channel, writer, number FROM torture_written WHERE is_certain EXCEPT (
            SELECT channel, writer, number FROM torture_handled UNION ALL
            SELECT channel, writer, number FROM torture_written JOIN ({PARKED}) AS parked
            USING (channel, writer, number) WHERE is_to_park
        )""",
    "twice": """
        SELECT channel, writer, number FROM torture_handled
        GROUP BY channel, writer, number HAVING count(*) > 1
        UNION ALL SELECT 'ephemeral', writer, number FROM torture_overheard
        GROUP BY process, writer, number HAVING count(*) > 1""",
    # Handled, and never committed; or committed, and nobody could have handled it.
    "ghosts": """
        SELECT channel, writer, number FROM torture_handled EXCEPT
        SELECT channel, writer, number FROM torture_written WHERE NOT is_to_park
        UNION
        (SELECT 'ephemeral', writer, number FROM torture_overheard EXCEPT
        SELECT 'ephemeral', writer, number FROM torture_written)""",
    # Of a key what one writer has stored is handled in its order; what several have, in that of its
    # ids, where they had to wait for one another.
    "out of order": f"""
        SELECT channel, writer, number FROM (
            SELECT *,
                lag(number) OVER (PARTITION BY channel, key, writer ORDER BY id) AS number_before,
                lag(notification) OVER (PARTITION BY channel, key ORDER BY id) AS stored_before
            FROM torture_handled WHERE key IS NOT NULL
        ) AS entry
        WHERE number < number_before OR (key ^@ '{LOCKED}' AND notification < stored_before)""",
    "parked by mistake": f"""
        SELECT * FROM ({PARKED}) AS parked
        WHERE writer IS NOT NULL OR channel IN {ROWS}
        EXCEPT SELECT channel, writer, number FROM torture_written WHERE is_to_park""",
    "left": """
        SELECT channel, id, attempts FROM pgpubsub_sql_notification
        WHERE available_at IS NOT NULL""",
    # Handled and not kept, or kept and not handled; each as often as it was.
    "another history": f"""
        ({LEDGER} EXCEPT ALL {HISTORY}) UNION ALL ({HISTORY} EXCEPT ALL {LEDGER})""",
    # Written while a listener's search_path was in force.
    "in a wrong schema": f"""
        SELECT channel, id, attempts FROM {DECOY}.pgpubsub_sql_notification UNION ALL
        SELECT channel, writer, number FROM {DECOY}.torture_handled""",
    # A listener found what an earlier message had changed.
    "left behind": "SELECT what, writer, number FROM torture_dirt",
}
"""By the name of a violation: the events of which it is true."""


def audit() -> dict[str, list[Any]]:
    """Return the events in which a promise was broken; none, if all were kept."""
    return {name: found for name, query in QUERIES.items() if (found := sql(query))}
