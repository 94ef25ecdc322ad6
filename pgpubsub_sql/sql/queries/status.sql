-- What the commands show of channels and workers.

-- state --
-- The state of a notification: the only definition. In flight is what another session has deleted or locked
-- in a transaction that has not ended, as a worker does while it handles it. What has been handled is gone.
CASE
    WHEN xmax IN (
        SELECT backend_xid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    ) THEN 'in_flight'
    WHEN available_at IS NULL THEN 'parked'
    WHEN available_at <= statement_timestamp() THEN 'ready'
    WHEN failed_at IS NULL THEN 'delayed'
    ELSE 'retrying'
END

-- stored_lanes --
-- The channels and subscriptions that have messages: one index probe each.
WITH RECURSIVE available (channel, subscription) AS (
    (
        SELECT channel, subscription FROM pgpubsub_sql_notification
        WHERE available_at IS NOT NULL ORDER BY channel, subscription LIMIT 1
    )
    UNION ALL
    SELECT next.* FROM available CROSS JOIN LATERAL (
        SELECT channel, subscription FROM pgpubsub_sql_notification
        WHERE available_at IS NOT NULL AND (channel, subscription) > (available.channel, available.subscription)
        ORDER BY channel, subscription LIMIT 1
    ) AS next
), failed (channel, subscription) AS (
    (
        SELECT channel, subscription FROM pgpubsub_sql_notification
        WHERE (available_at IS NULL OR failed_at IS NOT NULL) ORDER BY channel, subscription LIMIT 1
    )
    UNION ALL
    SELECT next.* FROM failed CROSS JOIN LATERAL (
        SELECT channel, subscription FROM pgpubsub_sql_notification
        WHERE (available_at IS NULL OR failed_at IS NOT NULL)
            AND (channel, subscription) > (failed.channel, failed.subscription)
        ORDER BY channel, subscription LIMIT 1
    ) AS next
)
SELECT channel, subscription FROM available UNION SELECT channel, subscription FROM failed ORDER BY channel, subscription

-- status --
-- How many messages of these subscriptions are due, in flight, waiting, have failed and are parked: by an index, and no
-- more than 10,001 of each. So "state" is not asked here, which would have to read every row. In flight are those
-- that are due and held by a session, as workers hold them; and parked are those of the failed that were counted.
-- Each session that holds some comes with its number of them and the seconds of its transaction, the longest first.
-- The bounds are rows, as in take.
WITH holder AS MATERIALIZED (
    SELECT
        pid, backend_xid, coalesce(nullif(application_name, ''), 'a session without a name') AS name,
        extract(epoch FROM statement_timestamp() - xact_start)::float8 AS seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL
)
SELECT
    listed.channel,
    listed.subscription,
    due.number AS due,
    due.in_flight,
    waiting.number AS waiting,
    failed.number AS failed,
    failed.parked,
    extract(epoch FROM statement_timestamp() - due.oldest)::float8 AS oldest,
    due.holders::text AS holders
FROM unnest(%(channels)s::text[], %(subscriptions)s::text[]) AS listed (channel, subscription)
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(held.number), 0)::integer AS number,
        coalesce(sum(held.number) FILTER (WHERE pid IS NOT NULL), 0)::integer AS in_flight,
        min(held.oldest) FILTER (WHERE pid IS NULL) AS oldest,
        coalesce(
            json_agg(json_build_array(pid, name, held.number, seconds) ORDER BY seconds DESC NULLS LAST, pid)
                FILTER (WHERE pid IS NOT NULL),
            '[]'
        ) AS holders
    FROM (
        SELECT pid, name, seconds, count(*) AS number, min(available_at) AS oldest
        FROM (
            SELECT one.available_at, one.held_by FROM (VALUES (true), (false)) AS sort (is_alone)
            CROSS JOIN LATERAL (
                SELECT available_at, xmax AS held_by FROM pgpubsub_sql_notification
                WHERE (channel, subscription, alone, available_at)
                        >= (listed.channel, listed.subscription, is_alone, '-infinity'::timestamptz)
                    AND (channel, subscription, alone, available_at)
                        <= (listed.channel, listed.subscription, is_alone, statement_timestamp())
                    AND available_at IS NOT NULL
                ORDER BY channel, subscription, alone, available_at LIMIT 10001
            ) AS one
            LIMIT 10001
        ) AS first
        LEFT JOIN holder ON holder.backend_xid = first.held_by
        GROUP BY pid, name, seconds
    ) AS held
) AS due
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS number FROM (
        SELECT FROM (VALUES (true), (false)) AS sort (is_alone)
        CROSS JOIN LATERAL (
            SELECT FROM pgpubsub_sql_notification
            WHERE (channel, subscription, alone, available_at)
                    > (listed.channel, listed.subscription, is_alone, statement_timestamp())
                AND (channel, subscription, alone, available_at)
                    <= (listed.channel, listed.subscription, is_alone, 'infinity'::timestamptz)
                AND available_at IS NOT NULL
            ORDER BY channel, subscription, alone, available_at LIMIT 10001
        ) AS one
        LIMIT 10001
    ) AS first
) AS waiting
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS number, (count(*) FILTER (WHERE first.available_at IS NULL))::integer AS parked FROM (
        SELECT available_at FROM pgpubsub_sql_notification
        WHERE (channel, subscription, id) >= (listed.channel, listed.subscription, -9223372036854775808)
            AND (channel, subscription, id) <= (listed.channel, listed.subscription, 9223372036854775807)
            AND (available_at IS NULL OR failed_at IS NOT NULL)
        ORDER BY channel, subscription, id LIMIT 10001
    ) AS first
) AS failed
ORDER BY listed.channel, listed.subscription

-- count_ready --
-- How many notifications of these subscriptions are ready; beyond 10,000 nobody needs the exact number. The bounds are
-- rows, as in take.
SELECT count(*) FROM (
    SELECT FROM unnest(%(channels)s::text[], %(subscriptions)s::text[]) AS listened (name, lane)
    CROSS JOIN (VALUES (false), (true)) AS sort (is_alone)
    CROSS JOIN LATERAL (
        SELECT FROM pgpubsub_sql_notification
        WHERE (channel, subscription, alone, available_at) >= (name, lane, is_alone, '-infinity'::timestamptz)
            AND (channel, subscription, alone, available_at) <= (name, lane, is_alone, statement_timestamp())
            AND available_at IS NOT NULL
        ORDER BY channel, subscription, alone, available_at LIMIT 10001
    ) AS one
    LIMIT 10001
) AS ready

-- in_flight --
-- Which session has a notification in flight, and for how many seconds: the one whose transaction has
-- deleted or locked it.
SELECT
    worker.pid,
    coalesce(nullif(worker.application_name, ''), 'a session without a name') AS worker,
    extract(epoch FROM statement_timestamp() - worker.xact_start)::float8 AS seconds
FROM pgpubsub_sql_notification AS notification
JOIN pg_stat_activity AS worker ON worker.backend_xid = notification.xmax
WHERE notification.id = %(id)s AND worker.datname = current_database()

-- workers --
-- How many workers listen on this database, how many of them have not read what was sent to them, so that
-- the server waits to send more; how many relays publish, and from how many of them the broker takes nothing now.
SELECT
    count(*) FILTER (WHERE NOT is_relay) AS workers,
    count(*) FILTER (WHERE NOT is_relay AND wait_event = 'ClientWrite') AS behind,
    count(*) FILTER (WHERE is_relay) AS relays,
    count(*) FILTER (WHERE starts_with(application_name, 'pgpubsub_sql relay, stuck')) AS relays_stuck
FROM pg_stat_activity CROSS JOIN LATERAL starts_with(application_name, 'pgpubsub_sql relay') AS is_relay
WHERE datname = current_database() AND (is_relay OR starts_with(application_name, 'pgpubsub_sql listen'))

-- table_care --
-- How full the NOTIFY queue is, of 1; the dead and the live rows of our table, and for how many seconds it has not been
-- vacuumed, as far as its statistics know.
SELECT
    pg_notification_queue_usage(), pg_stat_get_dead_tuples(oid), pg_stat_get_live_tuples(oid),
    extract(epoch FROM statement_timestamp() - greatest(
        pg_stat_get_last_vacuum_time(oid), pg_stat_get_last_autovacuum_time(oid)
    ))::float8
FROM to_regclass('pgpubsub_sql_notification') AS oid

-- oldest_transaction --
-- The oldest transaction of this database that keeps vacuum from removing dead rows: of a session that has a snapshot or
-- has written, or prepared for a two-phase commit, and then without a session.
SELECT pid, name, seconds
FROM (
    SELECT pid, coalesce(application_name, '') AS name,
        extract(epoch FROM statement_timestamp() - xact_start)::float8 AS seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
    UNION ALL
    SELECT NULL, gid, extract(epoch FROM statement_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE database = current_database()
) AS open
WHERE seconds IS NOT NULL
ORDER BY seconds DESC LIMIT 1

-- newest_id --
-- The id of the message that was stored last, of those that are still stored.
SELECT coalesce(max(id), 0) AS id FROM pgpubsub_sql_notification

-- sent_since --
-- Messages that were stored since then and not seen yet. Reads only: workers take them all the same.
SELECT id, channel, created_at, payload::text AS payload
FROM pgpubsub_sql_notification
WHERE id > %(since)s AND channel = ANY (%(channels)s) AND NOT id = ANY (%(seen)s::bigint[])
ORDER BY id
LIMIT 1000

-- application_of --
-- What the session is called whose server process has this id, if it still runs.
SELECT application_name FROM pg_stat_activity WHERE pid = %(pid)s
