-- Seconds until each channel's next notification is ready; one probe of the index a channel.
SELECT listened.channel, extract(epoch FROM next.available_at - clock_timestamp())::float8
FROM unnest(%(channels)s::text[]) AS listened (channel)
CROSS JOIN LATERAL (
    SELECT available_at FROM pgpubsub_sql_notification AS notification
    WHERE notification.channel = listened.channel AND available_at IS NOT NULL
    ORDER BY available_at LIMIT 1
) AS next
