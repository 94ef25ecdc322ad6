-- Stores what came by NOTIFY on a durable channel, in the order in which it came.
INSERT INTO pgpubsub_sql_notification (channel, payload, key)
SELECT %(channel)s::text, message,
    (SELECT pgpubsub_key_v1(jsonb_agg(value ORDER BY place))
        FROM unnest(%(key)s::text[]) WITH ORDINALITY AS part (name, place)
        CROSS JOIN LATERAL coalesce(fields -> name, 'null') AS value)
FROM unnest(%(payloads)s::text[]) WITH ORDINALITY AS stray (payload, position)
CROSS JOIN LATERAL CAST(payload AS jsonb) AS message
CROSS JOIN LATERAL coalesce(
    CASE WHEN %(rows)s THEN coalesce(nullif(message -> 'new', 'null'), message -> 'old') ELSE message -> 'kwargs' END,
    message
) AS fields
ORDER BY position
