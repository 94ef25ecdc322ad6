-- What notify() and notify_many() execute, and what wakes workers.

-- store --
-- notify() on a durable channel. A delay counts from now, by the server's clock, and in seconds: a day may
-- have 23 hours.
SELECT pgpubsub_store_v1(
    %(channel)s, %(payload)s::jsonb,
    coalesce(%(at)s, clock_timestamp() + %(delay)s::float8 * interval '1 s'), %(expires)s, %(key)s::jsonb
)

-- publish --
-- notify() on an ephemeral channel.
SELECT pgpubsub_publish_v1(%(channel)s, %(payload)s::jsonb)

-- notify_many --
-- notify_many(), in one round trip.
SELECT pgpubsub_notify_many_v1(
    %(channels)s::text[], %(payloads)s::text[]::jsonb[], %(durable)s::boolean[], %(keys)s::text[]::jsonb[]
)

-- ring --
-- Wake the workers of some channels, as a sender does.
SELECT pg_notify(channel, '') FROM unnest(%(channels)s::text[]) AS rung (channel)
