-- How many workers listen on this database, how many of them have not read what was sent to them, so that
-- the server waits to send more, and how full its NOTIFY queue is, of 1.
SELECT
    count(*) AS workers,
    count(*) FILTER (WHERE wait_event = 'ClientWrite') AS behind,
    pg_notification_queue_usage() AS queue_usage
FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'pgpubsub_sql listen')
