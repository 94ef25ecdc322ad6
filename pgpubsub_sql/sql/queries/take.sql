-- Takes a batch of one channel, beginning after a position. An array, as it is made once: a LIMIT that is
-- evaluated again under locks would take too many. By ctid, which needs no second look at an index.
WITH taken AS (
    DELETE FROM pgpubsub_sql_notification
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM pgpubsub_sql_notification
        WHERE channel = %(channel)s AND available_at <= statement_timestamp()
            AND (available_at, id) > (%(after)s::timestamptz, %(after_id)s)
            AND (key IS NULL OR NOT %(keyless)s)
            AND (:{filter})
        ORDER BY available_at, id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING *
)
SELECT id, channel, payload::text, created_at, available_at, expires_at, attempts, last_error, key, alone,
    coalesce(expires_at <= statement_timestamp(), false), pg_current_xact_id()::text
FROM taken ORDER BY available_at, id
