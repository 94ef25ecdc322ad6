-- Takes a batch of one channel, beginning after a position; or first, by itself, one that is to be alone.
-- Where some were given up by whoever took them before, it takes none, and returns those, without their
-- payloads, which may be what killed a worker. Times as text: they are to go back as they came. Arrays and MATERIALIZED, as each part runs once: a LIMIT that
-- is evaluated again under locks would take too many. By ctid, which needs no second look at an index.
WITH lone AS MATERIALIZED (
    SELECT ctid AS place, xmax AS mark FROM pgpubsub_sql_notification
    WHERE channel = %(channel)s AND alone AND available_at <= statement_timestamp()
        AND (key IS NULL OR NOT %(keyless)s)
        AND (:{filter})
    ORDER BY available_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), together AS MATERIALIZED (
    SELECT ctid AS place, xmax AS mark FROM pgpubsub_sql_notification
    WHERE NOT EXISTS (SELECT FROM lone)
        AND channel = %(channel)s AND NOT alone AND available_at <= statement_timestamp()
        AND (available_at, id) > (%(after)s::timestamptz, %(after_id)s)
        AND (key IS NULL OR NOT %(keyless)s)
        AND (:{filter})
    ORDER BY available_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), given_up AS MATERIALIZED (
    SELECT place FROM (SELECT place, mark FROM lone UNION ALL SELECT place, mark FROM together) AS locked
    WHERE :{given_up}
), taken AS (
    DELETE FROM pgpubsub_sql_notification
    WHERE ctid = ANY (
        CASE WHEN NOT EXISTS (SELECT FROM given_up)
            THEN ARRAY(SELECT place FROM lone UNION ALL SELECT place FROM together)
        END
    )
    RETURNING *
)
(
    SELECT id, channel, payload::text, created_at::text, available_at::text, expires_at::text, attempts, unreadable,
        last_error, key, alone, coalesce(expires_at <= statement_timestamp(), false), pg_current_xact_id()::text
    FROM taken ORDER BY available_at, id
)
UNION ALL
SELECT id, channel, NULL, created_at::text, available_at::text, expires_at::text, attempts, unreadable,
    last_error, key, alone, false, pg_current_xact_id()::text
FROM pgpubsub_sql_notification WHERE ctid = ANY (ARRAY(SELECT place FROM given_up))
