"""Messages in the history that no worker has put there."""

from __future__ import annotations

from tests.ledger import sql

DEFAULTS = {
    "slot": "0",
    "id": "1",
    "channel": "'app.Step'",
    "subscription": "''",
    "message": "NULL::bigint",
    "key": "NULL::text",
    "payload": "'{}'::jsonb",
    "created_at": "clock_timestamp()",
    "handled_at": "clock_timestamp()",
    "kept_until": "clock_timestamp() + interval '1 day'",
    "outcome": "'handled'",
    "reason": "''",
    "attempts": "0",
    "expires_at": "NULL::timestamptz",
}
KEEP = """
INSERT INTO pgpubsub_sql_history (
    slot, batch, channel, subscription, bucket, id_bucket, handled_at, kept_until, is_unusual,
    ids, messages, keys, payloads, created, expires, attempts, outcomes, reasons
)
SELECT
    slot, (random() * 1e18)::bigint, channel, subscription, coalesce(message, id) >> 12, id >> 12,
    max(handled_at), max(kept_until), bool_or(outcome <> 'handled'), array_agg(id),
    array_agg(message), array_agg(key), array_agg(payload), array_agg(created_at),
    array_agg(expires_at), array_agg(attempts), array_agg(outcome), array_agg(reason)
FROM (SELECT {columns} {source}) AS one
GROUP BY slot, channel, subscription, coalesce(message, id) >> 12, id >> 12, id / {size}
"""


def kept_by(source: str = "", size: int = 1, **columns: str) -> str:
    """Return a statement that keeps the rows of *source*, in batches of *size*.

    *columns* are expressions, for columns of the view that do not have their default.
    """
    every = DEFAULTS | columns
    selected = ", ".join(f"{text} AS {name}" for name, text in every.items())
    return KEEP.format(columns=selected, source=source, size=size)


def keep(*values: object, source: str = "", size: int = 1, **columns: str) -> None:
    """Execute what :func:`kept_by` returns, with these *values*."""
    sql(kept_by(source, size, **columns), *values)


SCATTER = """
WITH every AS (DELETE FROM pgpubsub_sql_history RETURNING *)
INSERT INTO pgpubsub_sql_history
SELECT
    slot, (random() * 1e18)::bigint, channel, subscription, bucket, id_bucket, handled_at,
    kept_until, is_unusual, ARRAY[one.id], ARRAY[one.message], ARRAY[one.key], ARRAY[one.payload],
    ARRAY[one.created], ARRAY[one.expires], ARRAY[one.attempts], ARRAY[one.outcome],
    ARRAY[one.reason], ARRAY[one.duration]
FROM every CROSS JOIN LATERAL unnest(
    ids, messages, keys, payloads, created, expires, every.attempts, outcomes, reasons, durations
) AS one (id, message, key, payload, created, expires, attempts, outcome, reason, duration)
"""


def scatter() -> None:
    """Have each message of the history in a row of its own, so that a test can change it."""
    sql(SCATTER)
