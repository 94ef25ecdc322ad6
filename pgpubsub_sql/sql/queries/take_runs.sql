-- Takes of each of some locked keys what comes first, up to what is not ready, not wanted or in other
-- hands. A statement of its own: one that locked as well would not see what was put back meanwhile.
WITH run AS MATERIALIZED (
    SELECT first.* FROM unnest(%(keys)s::text[]) AS locked (key)
    CROSS JOIN LATERAL (
        SELECT id, key, ctid AS place, available_at <= statement_timestamp() AND (:{filter}) AS is_wanted
        FROM pgpubsub_sql_notification
        WHERE channel = %(channel)s AND key = locked.key AND available_at IS NOT NULL
        ORDER BY id LIMIT %(limit)s
    ) AS first
), free AS MATERIALIZED (
    SELECT id, ctid AS place FROM pgpubsub_sql_notification
    WHERE ctid = ANY (ARRAY(SELECT place FROM run WHERE is_wanted))
    FOR UPDATE SKIP LOCKED
), judged AS (
    SELECT free.place, bool_and(free.id IS NOT NULL) OVER (PARTITION BY run.key ORDER BY run.id) AS is_next
    FROM run LEFT JOIN free ON free.id = run.id
), taken AS (
    DELETE FROM pgpubsub_sql_notification
    WHERE ctid = ANY (ARRAY(SELECT place FROM judged WHERE is_next))
    RETURNING *
)
SELECT id, channel, payload::text, created_at, available_at, expires_at, attempts, last_error, key, alone,
    coalesce(expires_at <= statement_timestamp(), false), pg_current_xact_id()::text
FROM taken ORDER BY id
