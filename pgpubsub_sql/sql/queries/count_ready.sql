-- How many notifications of these channels are ready; beyond 10,000 nobody needs the exact number.
SELECT count(*) FROM (
    SELECT FROM pgpubsub_sql_notification
    WHERE channel = ANY (%(channels)s) AND available_at <= statement_timestamp()
    LIMIT 10001
) AS ready
