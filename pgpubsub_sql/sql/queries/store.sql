-- What notify() sends on a durable channel. A delay counts from now, by this server's clock, and in seconds:
-- a day may have 23 hours.
SELECT pgpubsub_store_v1(
    %(channel)s, %(payload)s::jsonb,
    coalesce(%(at)s, clock_timestamp() + %(delay)s::float8 * interval '1 s'), %(expires)s, %(key)s::jsonb
)
