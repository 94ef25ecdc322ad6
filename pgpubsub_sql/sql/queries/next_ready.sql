-- Seconds until each channel's next notification is ready, of those not ready yet at the time "after";
-- two probes of the index a channel. And the time of this statement, to be the next one's "after".
SELECT listened.channel,
    extract(epoch FROM min(next.available_at) - statement_timestamp())::float8,
    statement_timestamp()::text
FROM unnest(%(channels)s::text[]) AS listened (channel)
CROSS JOIN (VALUES (false), (true)) AS sort (alone)
CROSS JOIN LATERAL (
    SELECT available_at FROM pgpubsub_sql_notification AS notification
    WHERE notification.channel = listened.channel AND notification.alone = sort.alone
        AND available_at > coalesce(%(after)s::timestamptz, '-infinity')
    ORDER BY available_at LIMIT 1
) AS next
GROUP BY listened.channel
