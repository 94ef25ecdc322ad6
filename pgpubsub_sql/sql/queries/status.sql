-- How many notifications of each channel are in which state, and since when the oldest of those ready has been waiting.
SELECT
    channel,
    count(*) FILTER (WHERE available_at <= statement_timestamp()) AS ready,
    count(*) FILTER (WHERE available_at > statement_timestamp()) AS waiting,
    count(*) FILTER (WHERE available_at IS NULL) AS parked,
    extract(epoch FROM statement_timestamp()
        - min(available_at) FILTER (WHERE available_at <= statement_timestamp()))::float8 AS oldest
FROM pgpubsub_sql_notification
GROUP BY channel ORDER BY channel
