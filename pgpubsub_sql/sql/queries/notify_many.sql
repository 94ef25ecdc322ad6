-- What notify_many() sends, in one round trip.
SELECT pgpubsub_notify_many_v1(
    %(channels)s::text[], %(payloads)s::text[]::jsonb[], %(durable)s::boolean[], %(keys)s::text[]::jsonb[]
)
