-- Counters: what became of messages. Rows of the minute '-infinity' are the totals of all older minutes.

-- count --
-- Add to the counters of this minute. Sessions share few numbers, so that the table stays small and they seldom meet;
-- those that do meet take the rows in the same order.
INSERT INTO pgpubsub_sql_counter AS counter
    (minute, channel, subscription, listener, worker, handled, failed, parked, discarded, expired, seconds)
SELECT date_trunc('minute', statement_timestamp()), channel, subscription, listener, mod(pg_backend_pid(), 8),
    handled, failed, parked, discarded, expired, seconds
FROM unnest(
    %(channel)s::text[], %(subscription)s::text[], %(listener)s::text[], %(handled)s::bigint[], %(failed)s::bigint[],
    %(parked)s::bigint[], %(discarded)s::bigint[], %(expired)s::bigint[], %(seconds)s::float8[]
) AS added (channel, subscription, listener, handled, failed, parked, discarded, expired, seconds)
ORDER BY channel, subscription, listener
ON CONFLICT (minute, channel, subscription, listener, worker) DO UPDATE SET
    handled = counter.handled + excluded.handled,
    failed = counter.failed + excluded.failed,
    parked = counter.parked + excluded.parked,
    discarded = counter.discarded + excluded.discarded,
    expired = counter.expired + excluded.expired,
    seconds = counter.seconds + excluded.seconds

-- roll_up --
-- Move minutes that ended more than an hour ago into the totals. It is one statement, so nobody sees a sum over the
-- table go down. What another session is moving is left to it.
WITH old AS (
    DELETE FROM pgpubsub_sql_counter
    WHERE (minute, channel, subscription, listener, worker) IN (
        SELECT minute, channel, subscription, listener, worker FROM pgpubsub_sql_counter
        WHERE minute > '-infinity' AND minute < date_trunc('minute', statement_timestamp()) - interval '1 hour'
        ORDER BY minute LIMIT 10000
        FOR UPDATE SKIP LOCKED
    )
    RETURNING *
)
INSERT INTO pgpubsub_sql_counter AS counter
    (minute, channel, subscription, listener, worker, handled, failed, parked, discarded, expired, seconds)
SELECT '-infinity', channel, subscription, listener, 0,
    sum(handled), sum(failed), sum(parked), sum(discarded), sum(expired), sum(seconds)
FROM old GROUP BY channel, subscription, listener ORDER BY channel, subscription, listener
ON CONFLICT (minute, channel, subscription, listener, worker) DO UPDATE SET
    handled = counter.handled + excluded.handled,
    failed = counter.failed + excluded.failed,
    parked = counter.parked + excluded.parked,
    discarded = counter.discarded + excluded.discarded,
    expired = counter.expired + excluded.expired,
    seconds = counter.seconds + excluded.seconds

-- may_see_counters --
-- Whether the table is there, and this role may read it.
SELECT coalesce(has_table_privilege(to_regclass('pgpubsub_sql_counter'), 'SELECT'), false)

-- totals --
-- What has become of the messages of each listener since the first was counted.
SELECT channel, subscription, listener,
    sum(handled)::bigint, sum(failed)::bigint, sum(parked)::bigint, sum(discarded)::bigint, sum(expired)::bigint,
    sum(seconds)
FROM pgpubsub_sql_counter
GROUP BY channel, subscription, listener ORDER BY channel, subscription, listener

-- rates --
-- How many messages listeners of a subscription handle, and fail, a minute: on average over four minutes and the present
-- one, which is not over.
SELECT channel, subscription, sum(handled) / minutes, sum(failed + parked) / minutes
FROM (SELECT date_trunc('minute', statement_timestamp()) - interval '4 minutes' AS start) AS span
CROSS JOIN LATERAL (
    SELECT (extract(epoch FROM statement_timestamp() - start) / 60)::float8 AS minutes
) AS length
JOIN pgpubsub_sql_counter ON minute >= start
GROUP BY channel, subscription, minutes ORDER BY channel, subscription

-- minutes --
-- What listeners did in each of the last thirty minutes, of which the present one is not over: how many minutes ago,
-- and the length of the last five, in minutes.
SELECT channel, subscription, listener,
    (extract(epoch FROM date_trunc('minute', statement_timestamp()) - minute) / 60)::integer AS ago,
    sum(handled)::bigint, sum(failed + parked)::bigint, sum(seconds),
    (4 + extract(second FROM statement_timestamp()) / 60)::float8
FROM (
    SELECT * FROM pgpubsub_sql_counter
    WHERE minute >= date_trunc('minute', statement_timestamp()) - interval '29 minutes'
    ORDER BY minute DESC LIMIT 50000
) AS recent
GROUP BY channel, subscription, listener, ago ORDER BY channel, subscription, listener, ago
