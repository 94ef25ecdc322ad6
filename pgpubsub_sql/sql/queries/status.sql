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

-- status --
-- How many notifications of each channel are in which state, for how long the oldest that is ready has been
-- waiting, and which session has had some in flight for longest.
WITH notification AS (
    SELECT channel, available_at, xmax AS held_by, :{state} AS state
    FROM pgpubsub_sql_notification
)
SELECT
    channel,
    count(*) FILTER (WHERE notification.state = 'ready') AS ready,
    count(*) FILTER (WHERE notification.state = 'in_flight') AS in_flight,
    count(*) FILTER (WHERE notification.state = 'delayed') AS delayed,
    count(*) FILTER (WHERE notification.state = 'retrying') AS retrying,
    count(*) FILTER (WHERE notification.state = 'parked') AS parked,
    extract(epoch FROM statement_timestamp() - min(available_at) FILTER (WHERE notification.state = 'ready'))::float8
        AS oldest,
    extract(epoch FROM statement_timestamp() - min(xact_start))::float8 AS in_flight_seconds,
    (array_agg(pid ORDER BY xact_start))[1] AS in_flight_pid
FROM notification
LEFT JOIN pg_stat_activity AS worker ON worker.backend_xid = held_by AND notification.state = 'in_flight'
GROUP BY channel ORDER BY channel

-- count_ready --
-- How many notifications of these channels are ready; beyond 10,000 nobody needs the exact number. The bounds are rows,
-- as in take.
SELECT count(*) FROM (
    SELECT FROM unnest(%(channels)s::text[]) AS listened (name)
    CROSS JOIN (VALUES (false), (true)) AS sort (is_alone)
    CROSS JOIN LATERAL (
        SELECT FROM pgpubsub_sql_notification
        WHERE (channel, alone, available_at) >= (name, is_alone, '-infinity'::timestamptz)
            AND (channel, alone, available_at) <= (name, is_alone, statement_timestamp())
            AND available_at IS NOT NULL
        ORDER BY channel, alone, available_at LIMIT 10001
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
-- the server waits to send more, and how full its NOTIFY queue is, of 1.
SELECT
    count(*) AS workers,
    count(*) FILTER (WHERE wait_event = 'ClientWrite') AS behind,
    pg_notification_queue_usage() AS queue_usage
FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'pgpubsub_sql listen')
