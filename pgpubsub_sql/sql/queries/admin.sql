-- What the pages of the admin show, at the same price however many messages are stored.

-- reasons --
-- The reasons of a part of what has failed.
SELECT DISTINCT reason FROM (
    SELECT reason FROM pgpubsub_sql_notification
    WHERE (available_at IS NULL OR failed_at IS NOT NULL)
    ORDER BY channel, subscription, id LIMIT %(limit)s
) AS part ORDER BY reason

-- ready_ids --
-- The messages of these subscriptions that are ready: one after the other, those that are handled alone first.
-- The loop over the subscriptions keeps their order, and ends with the limit.
SELECT next.id
FROM unnest(%(channels)s::text[], %(subscriptions)s::text[]) AS listed (channel, subscription)
CROSS JOIN LATERAL (
    SELECT one.id FROM (VALUES (true), (false)) AS sort (alone)
    CROSS JOIN LATERAL (
        SELECT id, available_at FROM pgpubsub_sql_notification AS notification
        WHERE notification.channel = listed.channel AND notification.subscription = listed.subscription
            AND notification.alone = sort.alone
            AND available_at <= statement_timestamp()
        ORDER BY available_at, id LIMIT %(limit)s
    ) AS one
    ORDER BY sort.alone DESC, one.available_at, one.id LIMIT %(limit)s
) AS next
LIMIT %(limit)s

-- waiting_ids --
-- The messages of these subscriptions that are delayed or will be retried, in the same order.
SELECT next.id
FROM unnest(%(channels)s::text[], %(subscriptions)s::text[]) AS listed (channel, subscription)
CROSS JOIN LATERAL (
    SELECT one.id FROM (VALUES (true), (false)) AS sort (alone)
    CROSS JOIN LATERAL (
        SELECT id, available_at FROM pgpubsub_sql_notification AS notification
        WHERE notification.channel = listed.channel AND notification.subscription = listed.subscription
            AND notification.alone = sort.alone
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
-- The sessions by which workers and relays listen on this database, and whether they have not read what was sent to them.
SELECT pid, application_name, extract(epoch FROM statement_timestamp() - backend_start)::float8,
    coalesce(wait_event = 'ClientWrite', false)
FROM pg_stat_activity
WHERE datname = current_database()
    AND (starts_with(application_name, 'pgpubsub_sql listen') OR starts_with(application_name, 'pgpubsub_sql relay'))
ORDER BY backend_start, pid
