-- What the pages of the admin show, at the same price however many messages are stored.

-- reasons --
-- The reasons of a part of what has failed.
SELECT DISTINCT reason FROM (
    SELECT reason FROM pgpubsub_sql_notification
    WHERE (available_at IS NULL OR failed_at IS NOT NULL)
    ORDER BY channel, id LIMIT %(limit)s
) AS part ORDER BY reason

-- ready_ids --
-- The messages of these channels that are ready: channel by channel, those that are handled alone first.
-- The loop over the channels keeps their order, and ends with the limit.
SELECT next.id
FROM unnest(%(channels)s::text[]) AS listed (channel)
CROSS JOIN LATERAL (
    SELECT one.id FROM (VALUES (true), (false)) AS sort (alone)
    CROSS JOIN LATERAL (
        SELECT id, available_at FROM pgpubsub_sql_notification AS notification
        WHERE notification.channel = listed.channel AND notification.alone = sort.alone
            AND available_at <= statement_timestamp()
        ORDER BY available_at, id LIMIT %(limit)s
    ) AS one
    ORDER BY sort.alone DESC, one.available_at, one.id LIMIT %(limit)s
) AS next
LIMIT %(limit)s

-- waiting_ids --
-- The messages of these channels that are delayed or will be retried, in the same order.
SELECT next.id
FROM unnest(%(channels)s::text[]) AS listed (channel)
CROSS JOIN LATERAL (
    SELECT one.id FROM (VALUES (true), (false)) AS sort (alone)
    CROSS JOIN LATERAL (
        SELECT id, available_at FROM pgpubsub_sql_notification AS notification
        WHERE notification.channel = listed.channel AND notification.alone = sort.alone
            AND available_at > statement_timestamp()
        ORDER BY available_at, id LIMIT %(limit)s
    ) AS one
    ORDER BY sort.alone DESC, one.available_at, one.id LIMIT %(limit)s
) AS next
LIMIT %(limit)s

-- server_time --
-- The clock that failed_at is written by.
SELECT clock_timestamp()

-- limit_statements --
-- Until the end of the transaction.
SELECT set_config('statement_timeout', %(milliseconds)s, true)

-- has_table --
-- Whether the search_path leads to our table.
SELECT to_regclass('pgpubsub_sql_notification') IS NOT NULL

-- listening --
-- The sessions by which workers listen on this database, and whether they have not read what was sent to them.
SELECT pid, application_name, extract(epoch FROM statement_timestamp() - backend_start)::float8,
    coalesce(wait_event = 'ClientWrite', false)
FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'pgpubsub_sql listen')
ORDER BY backend_start, pid

-- table_care --
-- How full the NOTIFY queue is, of 1; and the dead and the live rows of our table, as far as its statistics know.
SELECT pg_notification_queue_usage(), pg_stat_get_dead_tuples(oid), pg_stat_get_live_tuples(oid)
FROM to_regclass('pgpubsub_sql_notification') AS oid

-- oldest_transaction --
-- The transaction of this database that has been open for longest, which keeps vacuum from removing dead rows: of a
-- session, or prepared for a two-phase commit, and then without a session.
SELECT pid, name, seconds
FROM (
    SELECT pid, coalesce(application_name, '') AS name,
        extract(epoch FROM statement_timestamp() - xact_start)::float8 AS seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    UNION ALL
    SELECT NULL, gid, extract(epoch FROM statement_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE database = current_database()
) AS open
WHERE seconds IS NOT NULL
ORDER BY seconds DESC LIMIT 1
