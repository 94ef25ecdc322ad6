-- Stores what came by NOTIFY on a durable channel, in the order in which it came. What it has for a key is
-- spelled as jsonb spells it, as where it is sent as it should be.
INSERT INTO pgpubsub_sql_notification (channel, payload, key)
SELECT %(channel)s::text, message,
    (SELECT CASE WHEN bool_or(value <> 'null') THEN jsonb_agg(value ORDER BY place)::text END
        FROM unnest(%(key)s::text[]) WITH ORDINALITY AS part (name, place)
        CROSS JOIN LATERAL coalesce(fields -> name, 'null') AS value)
FROM unnest(%(payloads)s::text[]) WITH ORDINALITY AS stray (payload, position)
CROSS JOIN LATERAL CAST(payload AS jsonb) AS message
CROSS JOIN LATERAL coalesce(
    CASE WHEN %(rows)s THEN coalesce(nullif(message -> 'new', 'null'), message -> 'old') ELSE message -> 'kwargs' END,
    message
) AS fields
ORDER BY position
