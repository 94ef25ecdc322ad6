-- How many notifications of each channel are in which state, since when the oldest of those that are due
-- and free has been waiting, and which session has had some in hand for longest.
WITH notification AS (
    SELECT
        notification.channel,
        notification.available_at,
        worker.pid,
        worker.xact_start,
        CASE
            WHEN worker.pid IS NOT NULL THEN 'in_hand'
            WHEN available_at IS NULL THEN 'parked'
            WHEN available_at <= statement_timestamp() THEN 'ready'
            WHEN last_error = '' THEN 'delayed'
            ELSE 'retrying'
        END AS state
    FROM pgpubsub_sql_notification AS notification
    LEFT JOIN pg_stat_activity AS worker
        ON worker.backend_xid = notification.xmax AND worker.datname = current_database()
)
SELECT
    channel,
    count(*) FILTER (WHERE state = 'ready') AS ready,
    count(*) FILTER (WHERE state = 'in_hand') AS in_hand,
    count(*) FILTER (WHERE state = 'delayed') AS delayed,
    count(*) FILTER (WHERE state = 'retrying') AS retrying,
    count(*) FILTER (WHERE state = 'parked') AS parked,
    extract(epoch FROM statement_timestamp() - min(available_at) FILTER (WHERE state = 'ready'))::float8
        AS oldest,
    extract(epoch FROM statement_timestamp() - min(xact_start))::float8 AS in_hand_for,
    (array_agg(pid ORDER BY xact_start) FILTER (WHERE state = 'in_hand'))[1] AS in_hand_of
FROM notification
GROUP BY channel ORDER BY channel
