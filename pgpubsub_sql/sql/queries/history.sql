-- The history: what is kept of messages that are handled.

-- kept --
-- Goes on with a statement that has taken messages out of the table of notifications, and keeps them. Their order does
-- not matter. What few messages have is left out where none has it.
), kept AS (
    INSERT INTO pgpubsub_sql_history (
        slot, batch, channel, subscription, bucket, id_bucket, handled_at, kept_until, is_unusual,
        ids, messages, keys, payloads, created, expires, attempts, outcomes, reasons, durations
    )
    SELECT
        %(slot)s, %(batch)s, channel, subscription, coalesce(message, id) >> 12, id >> 12,
        statement_timestamp(), statement_timestamp() + %(keep)s, :{is_unusual},
        array_agg(id),
        CASE WHEN count(message) > 0 THEN array_agg(message) END,
        CASE WHEN count(key) > 0 THEN array_agg(key) END,
        array_agg(payload), array_agg(created_at),
        CASE WHEN count(expires_at) > 0 THEN array_agg(expires_at) END,
        array_agg(attempts), :{outcomes}, :{reasons}, :{durations}
    FROM taken
    GROUP BY channel, subscription, coalesce(message, id) >> 12, :{part}

-- correct --
-- Keep of a batch what is done with, and what only its end knows of that.
WITH batch AS (
    DELETE FROM pgpubsub_sql_history WHERE slot = %(slot)s AND batch = %(batch)s
    RETURNING *
), taken AS (
    SELECT
        batch.channel, batch.subscription, one.id, one.message, one.key, one.payload, one.created_at, one.expires_at,
        one.attempts, done.outcome, done.reason, done.duration
    FROM batch
    CROSS JOIN LATERAL unnest(
        batch.ids, batch.messages, batch.keys, batch.payloads, batch.created, batch.expires, batch.attempts
    ) AS one (id, message, key, payload, created_at, expires_at, attempts)
    JOIN unnest(%(ids)s::bigint[], %(outcomes)s::text[], %(reasons)s::text[], %(durations)s::real[])
        AS done (id, outcome, reason, duration) ON done.id = one.id
:{kept}
)
SELECT count(*) FROM taken

-- keep_discarded --
-- Delete a notification that its listener discarded, after its transaction was rolled back, as delete_discarded does,
-- and keep it.
WITH taken AS (
    DELETE FROM pgpubsub_sql_notification WHERE id = %(id)s AND (attempts = %(attempts_before)s
        OR (attempts = %(attempts_before)s + 1 AND last_error = %(died)s))
    RETURNING *
:{kept}
)
SELECT id FROM taken

-- keep_chosen --
-- Delete notifications that somebody discards, and keep them.
WITH taken AS (
    DELETE FROM pgpubsub_sql_notification WHERE id = ANY (%(ids)s) AND channel = %(channel)s
    RETURNING *
:{kept}
)
SELECT id FROM taken

-- slots --
-- The partitions of the history that hold something, and whether this role may have them emptied.
SELECT
    substring(relname from '[0-9]+$')::integer,
    coalesce(has_function_privilege(to_regprocedure('pgpubsub_forget_v1(integer)'), 'EXECUTE'), false)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = to_regclass('pgpubsub_sql_history') AND NOT inhdetachpending AND pg_relation_size(inhrelid) > 0
ORDER BY 1

-- forget_slot --
-- Empty a partition unless something in it is still to be kept.
SELECT pgpubsub_forget_v1(%(slot)s)

-- history_parts --
-- Number of the partitions of the history.
SELECT count(*)::integer FROM pg_inherits
WHERE inhparent = to_regclass('pgpubsub_sql_history') AND NOT inhdetachpending

-- lacking_subscription --
-- Those of these channels for which nothing is stored for a subscription.
SELECT name FROM unnest(%(names)s::text[]) AS chosen (name)
WHERE %(subscription)s::text NOT IN (
    SELECT subscription.name FROM pgpubsub_sql_subscription AS subscription WHERE subscription.channel = chosen.name
    UNION ALL
    SELECT '' WHERE NOT EXISTS (SELECT FROM pgpubsub_sql_subscription AS other WHERE other.channel = chosen.name)
)

-- chosen --
-- Messages of the history, in order. They are looked up once, all together: for each one, its whole batch would be read.
SELECT kept.*, chosen.number FROM (
    SELECT batch, id, channel, payload, key, created_at, expires_at FROM pgpubsub_sql_handled
    WHERE slot = ANY (%(slots)s::smallint[]) AND batch = ANY (%(batches)s::bigint[]) AND id = ANY (%(ids)s::bigint[])
    OFFSET 0
) AS kept
JOIN unnest(%(batch_of)s::bigint[], %(ids)s::bigint[], %(numbers)s::bigint[]) AS chosen (batch, id, number)
    USING (batch, id)
ORDER BY chosen.number

-- send_again --
-- Store messages of the history as new ones, in order, for each subscription of their channel or for one.
INSERT INTO pgpubsub_sql_notification (channel, subscription, message, payload, key, expires_at)
SELECT again.channel, coalesce(subscription.name, ''), again.number, again.payload, again.key, again.expires_at
FROM (
    SELECT channel, payload, key, expires_at, nextval('pgpubsub_sql_notification_id_seq') AS number
    FROM (:{chosen}) AS sorted
) AS again
LEFT JOIN pgpubsub_sql_subscription AS subscription ON subscription.channel = again.channel
WHERE %(subscription)s::text IS NULL OR coalesce(subscription.name, '') = %(subscription)s
ORDER BY again.number

-- publish_again --
-- Store messages of the history for the relay alone, with the number and the time of which their ids are computed. What
-- is kept of them says so: whoever asks for what was published means the first time.
INSERT INTO pgpubsub_sql_notification (channel, subscription, message, payload, key, created_at, expires_at, reason)
SELECT channel, %(subscription)s, number, payload, key, created_at, expires_at, %(again)s
FROM (:{chosen}) AS sorted
ORDER BY number

-- kept_channels --
-- The channels of which something is kept: one index probe each.
WITH RECURSIVE kept (channel) AS (
    (SELECT channel FROM pgpubsub_sql_handled ORDER BY channel, bucket LIMIT 1)
    UNION ALL
    SELECT next.* FROM kept CROSS JOIN LATERAL (
        SELECT channel FROM pgpubsub_sql_handled WHERE channel > kept.channel ORDER BY channel, bucket LIMIT 1
    ) AS next
)
SELECT channel FROM kept
