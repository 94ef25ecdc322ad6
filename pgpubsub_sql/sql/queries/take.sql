-- Takes a batch of one channel. MATERIALIZED: a re-evaluated LIMIT under locks would take too many.
WITH taken AS MATERIALIZED (
    SELECT id FROM pgpubsub_sql_notification
    WHERE channel = %(channel)s AND available_at <= statement_timestamp()
    ORDER BY available_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM pgpubsub_sql_notification AS notification
USING taken WHERE notification.id = taken.id
RETURNING notification.id, notification.channel, notification.payload::text, notification.created_at,
    notification.available_at, notification.expires_at, notification.attempts,
    notification.last_error, notification.key
