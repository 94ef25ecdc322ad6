-- What notify() sends on a durable channel. A delay counts from now, by this server's clock. The key is
-- spelled as jsonb spells it, here as in the triggers.
SELECT pgpubsub_store_v1(
    %(channel)s, %(payload)s::jsonb,
    coalesce(%(at)s, clock_timestamp() + %(delay)s::interval), %(expires)s, %(key)s::jsonb::text
)
