-- Which session has a notification in hand, and for how many seconds: the one whose transaction has
-- deleted or locked it.
SELECT
    worker.pid,
    coalesce(nullif(worker.application_name, ''), 'a session without a name') AS worker,
    extract(epoch FROM statement_timestamp() - worker.xact_start)::float8 AS seconds
FROM pgpubsub_sql_notification AS notification
JOIN pg_stat_activity AS worker ON worker.backend_xid = notification.xmax
WHERE notification.id = %(id)s AND worker.datname = current_database()
