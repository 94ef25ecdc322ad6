-- Locks keys of a channel of which the first notification is ready, in the order of keys beginning after
-- one; a number of them, or what that many steps find. One probe of the index a key, however many wait.
WITH RECURSIVE walk (key, is_locked, alone, locked, steps) AS (
    SELECT %(after)s::text, false, false, 0, 0
    UNION ALL
    SELECT next.key, next.is_locked, next.alone, walk.locked + next.is_locked::integer, walk.steps + 1
    FROM walk CROSS JOIN LATERAL (
        SELECT first.key, first.alone, CASE WHEN first.available_at <= statement_timestamp()
            THEN pg_try_advisory_xact_lock(hashtextextended(%(channel)s || ' ' || first.key, first.tableoid::bigint))
            ELSE false END AS is_locked
        FROM (
            SELECT key, available_at, alone, tableoid FROM pgpubsub_sql_notification
            WHERE channel = %(channel)s AND key > walk.key AND available_at IS NOT NULL
            ORDER BY key, id LIMIT 1
        ) AS first
    ) AS next
    WHERE walk.locked < %(limit)s AND walk.steps < %(steps)s
)
SELECT key, is_locked, alone FROM walk WHERE steps > 0 ORDER BY steps
