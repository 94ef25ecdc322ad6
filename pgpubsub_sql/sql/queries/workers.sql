-- How many workers listen on this database, and how full the server's NOTIFY queue is, of 1.
SELECT count(*) AS workers, pg_notification_queue_usage() AS queue_usage
FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'pgpubsub_sql listen')
