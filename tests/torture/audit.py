"""The audit: what was committed against what was handled."""

from __future__ import annotations

from typing import Any

from tests.ledger import sql

LOCKED = "locked"
"""How keys begin whose writers lock them first, so that what is stored first is committed first."""

PARKED = """
    SELECT channel, (payload->>'writer')::integer AS writer, (payload->>'number')::integer AS number
    FROM pgpubsub_sql_notification WHERE available_at IS NULL"""

QUERIES = {
    # Committed, and neither handled nor, where no listener could read it, parked.
    "lost": f"""
        SELECT channel, writer, number FROM torture_written EXCEPT (
            SELECT channel, writer, number FROM torture_handled UNION ALL
            SELECT channel, writer, number FROM torture_written JOIN ({PARKED}) AS parked
            USING (channel, writer, number) WHERE NOT is_readable
        )""",
    "twice": """
        SELECT channel, writer, number FROM torture_handled
        GROUP BY channel, writer, number HAVING count(*) > 1""",
    # Handled, and never committed.
    "ghosts": """
        SELECT channel, writer, number FROM torture_handled EXCEPT
        SELECT channel, writer, number FROM torture_written WHERE is_readable""",
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
        {PARKED} EXCEPT SELECT channel, writer, number FROM torture_written WHERE NOT is_readable
        """,
    "left": """
        SELECT channel, id, attempts FROM pgpubsub_sql_notification
        WHERE available_at IS NOT NULL""",
}
"""By the name of a violation: the events of which it is true."""


def audit() -> dict[str, list[Any]]:
    """Return the events in which a promise was broken; none, if all were kept."""
    return {name: found for name, query in QUERIES.items() if (found := sql(query))}
