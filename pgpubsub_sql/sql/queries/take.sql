-- Takes a batch of one channel. MATERIALIZED: a re-evaluated LIMIT under locks would take too many.
WITH chosen AS MATERIALIZED (
    SELECT id FROM pgpubsub_sql_notification
    WHERE channel = %(channel)s AND available_at <= statement_timestamp()
    ORDER BY available_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM pgpubsub_sql_notification AS notification
    USING chosen WHERE notification.id = chosen.id
    RETURNING notification.*
)
SELECT id, channel, payload::text, created_at, available_at, expires_at, attempts, last_error, key
FROM taken ORDER BY available_at, id
