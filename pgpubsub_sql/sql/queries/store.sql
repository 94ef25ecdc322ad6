-- What notify() sends on a durable channel. A delay counts from now, by this server's clock.
SELECT pgpubsub_store_v1(
    %(channel)s, %(payload)s::jsonb,
    coalesce(%(at)s, clock_timestamp() + %(delay)s::interval), %(expires)s, %(key)s::jsonb
)
