-- Puts back what was taken but not done, each under its old id, unless a try that was not acknowledged has
-- done so. A delay counts from now, by this clock.
INSERT INTO pgpubsub_sql_notification
    (id, channel, payload, created_at, available_at, expires_at, attempts, unreadable, last_error, key, alone)
SELECT id, channel, payload::jsonb, created_at,
    coalesce(clock_timestamp() + delay * interval '1 s', available_at),
    expires_at, attempts, unreadable, last_error, key, alone
FROM unnest(
    %(id)s::bigint[], %(channel)s::text[], %(payload)s::text[], %(created_at)s::timestamptz[],
    %(available_at)s::timestamptz[], %(expires_at)s::timestamptz[], %(attempts)s::integer[],
    %(unreadable)s::integer[], %(last_error)s::text[], %(key)s::text[], %(alone)s::boolean[], %(delay)s::float8[]
) AS back
    (id, channel, payload, created_at, available_at, expires_at, attempts, unreadable, last_error, key, alone, delay)
ON CONFLICT (id) DO NOTHING
