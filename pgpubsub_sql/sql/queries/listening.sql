-- What a worker hears: doorbells, messages of ephemeral channels, raw NOTIFYs on durable ones.

-- listen --
-- LISTEN takes no parameters.
LISTEN :"channel"

-- elect --
-- Whether this session is the one that stores raw NOTIFYs on a durable channel. It remains so until it
-- ends; others get false meanwhile.
SELECT pg_try_advisory_lock('pgpubsub_sql_notification'::regclass::oid::integer, hashtext(%(channel)s))

-- store_raw_notifies --
-- Store raw NOTIFYs on a durable channel, for each of its subscriptions, in the order in which they arrived.
INSERT INTO pgpubsub_sql_notification (channel, subscription, message, payload, key)
SELECT %(channel)s::text, coalesce(subscription.name, ''), message.number, message.payload, message.key
FROM (
    SELECT body AS payload, key, nextval('pgpubsub_sql_notification_id_seq') AS number
    FROM (
        SELECT body,
            (SELECT pgpubsub_key_v1(jsonb_agg(value ORDER BY place))
                FROM unnest(%(key)s::text[]) WITH ORDINALITY AS part (name, place)
                CROSS JOIN LATERAL coalesce(fields -> name, 'null') AS value) AS key
        FROM unnest(%(payloads)s::text[]) WITH ORDINALITY AS stray (payload, position)
        CROSS JOIN LATERAL CAST(payload AS jsonb) AS body
        CROSS JOIN LATERAL coalesce(
            CASE WHEN %(rows)s THEN coalesce(nullif(body -> 'new', 'null'), body -> 'old') ELSE body -> 'kwargs' END,
            body
        ) AS fields
        ORDER BY position
    ) AS sorted
) AS message
LEFT JOIN pgpubsub_sql_subscription AS subscription ON subscription.channel = %(channel)s::text

-- secrets --
-- The secrets that signatures are checked with: one row, or several after a restore of data.
SELECT secret FROM pgpubsub_sql_secret

-- long_payloads --
-- Messages of ephemeral channels that were too long for their NOTIFYs: the first, and others up to a megabyte
-- as it is stored.
SELECT id, payload::text FROM (
    SELECT id, payload, sum(pg_column_size(payload)) OVER (ORDER BY position) - pg_column_size(payload) AS before
    FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS wanted (id, position)
    JOIN pgpubsub_sql_longpayload USING (id)
) AS found WHERE before < 1000000

-- delete_long_payloads --
-- Delete long payloads that every listener has had the time to read.
DELETE FROM pgpubsub_sql_longpayload WHERE expires_at < clock_timestamp()

-- buckets --
-- The bucket of locks of each channel.
SELECT channel, pgpubsub_bucket_v1(channel) FROM unnest(%(channels)s::text[]) AS channel

-- announce_sleep --
-- Take lock S of buckets; those whose lock a writer is testing just now are left out.
SELECT bucket FROM unnest(%(buckets)s::integer[]) AS bucket
WHERE pg_try_advisory_lock_shared(1346850899, bucket)

-- announce_awake --
-- Release lock S of buckets.
SELECT pg_advisory_unlock_shared(1346850899, bucket) FROM unnest(%(buckets)s::integer[]) AS bucket

-- writers_have_ended --
-- The buckets whose lock P nobody holds: every writer that may not have notified has committed or rolled back.
SELECT bucket FROM unnest(%(buckets)s::integer[]) AS bucket
WHERE CASE WHEN pg_try_advisory_lock(1346850896, bucket) THEN pg_advisory_unlock(1346850896, bucket) END

-- wait_for_writers --
-- Wait until nobody holds lock P of a bucket, or until the timeout. The block catches the error, which would otherwise
-- appear in the server's log.
DO $pgpubsub$
BEGIN
    SET LOCAL lock_timeout = :'milliseconds';
    PERFORM pg_advisory_lock(1346850896, :'bucket');
    PERFORM pg_advisory_unlock(1346850896, :'bucket');
EXCEPTION WHEN lock_not_available THEN
    NULL;
END
$pgpubsub$
