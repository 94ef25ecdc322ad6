-- The history: what is kept of messages that are handled.

-- kept --
-- Goes on with a statement that deletes messages, and copies them in the same breath.
), kept AS (
    INSERT INTO pgpubsub_sql_handled (
        slot, id, channel, subscription, message, key, payload, created_at, handled_at, kept_until, outcome, reason,
        attempts, expires_at
    )
    SELECT
        %(slot)s, id, channel, subscription, coalesce(message, id), key, payload, created_at, statement_timestamp(),
        statement_timestamp() + %(keep)s, :{outcome}, :{reason}, attempts, expires_at
    FROM taken

-- copies --
-- Where the copies of a batch are. OFFSET 0 has each looked up in the index: without statistics, as a partition is each
-- morning, PostgreSQL takes "channel = …" for rare, and would read all of the channel for a join.
SELECT place
FROM unnest(%(messages)s::bigint[], %(ids)s::bigint[], %(created)s::timestamptz[]) AS batch (message, id, created_at)
CROSS JOIN LATERAL (
    SELECT ctid AS place FROM pgpubsub_sql_handled AS copy
    WHERE slot = %(slot)s AND channel = %(channel)s AND copy.message = batch.message AND copy.id = batch.id
        AND copy.created_at = batch.created_at
    OFFSET 0
) AS found

-- unkeep --
-- Remove from the history what its batch puts back.
DELETE FROM pgpubsub_sql_handled WHERE slot = %(slot)s AND ctid = ANY (ARRAY(:{copies}))

-- correct_kept --
-- Write into the history what only the end of the batch knows.
UPDATE pgpubsub_sql_handled SET
    outcome = (%(outcomes)s::text[])[array_position(%(ids)s::bigint[], id)],
    reason = (%(reasons)s::text[])[array_position(%(ids)s::bigint[], id)],
    duration = (%(durations)s::real[])[array_position(%(ids)s::bigint[], id)],
    handled_at = clock_timestamp()
WHERE slot = %(slot)s AND ctid = ANY (ARRAY(:{copies}))

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
WHERE inhparent = to_regclass('pgpubsub_sql_handled') AND NOT inhdetachpending AND pg_relation_size(inhrelid) > 0
ORDER BY 1

-- forget_slot --
-- Empty a partition unless something in it is still to be kept.
SELECT pgpubsub_forget_v1(%(slot)s)

-- history_parts --
-- Number of the partitions of the history.
SELECT count(*)::integer FROM pg_inherits
WHERE inhparent = to_regclass('pgpubsub_sql_handled') AND NOT inhdetachpending

-- lacking_subscription --
-- Those of these channels for which nothing is stored for a subscription.
SELECT name FROM unnest(%(names)s::text[]) AS chosen (name)
WHERE %(subscription)s::text NOT IN (
    SELECT subscription.name FROM pgpubsub_sql_subscription AS subscription WHERE subscription.channel = chosen.name
    UNION ALL
    SELECT '' WHERE NOT EXISTS (SELECT FROM pgpubsub_sql_subscription AS other WHERE other.channel = chosen.name)
)

-- send_again --
-- Store messages of the history as new ones, in order, for each subscription of their channel or for one.
INSERT INTO pgpubsub_sql_notification (channel, subscription, message, payload, key, expires_at)
SELECT again.channel, coalesce(subscription.name, ''), again.number, again.payload, again.key, again.expires_at
FROM (
    SELECT sorted.*, nextval('pgpubsub_sql_notification_id_seq') AS number
    FROM (
        SELECT handled.channel, handled.payload, handled.key, handled.expires_at
        FROM unnest(%(slots)s::smallint[], %(ids)s::bigint[], %(numbers)s::bigint[], %(channels)s::text[])
            AS chosen (slot, id, number, channel)
        JOIN pgpubsub_sql_handled AS handled
            ON handled.slot = chosen.slot AND handled.channel = chosen.channel AND handled.message = chosen.number
                AND handled.id = chosen.id
        ORDER BY chosen.number
    ) AS sorted
) AS again
LEFT JOIN pgpubsub_sql_subscription AS subscription ON subscription.channel = again.channel
WHERE %(subscription)s::text IS NULL OR coalesce(subscription.name, '') = %(subscription)s
ORDER BY again.number

-- publish_again --
-- Store messages of the history for the relay alone, with the number and the time of which their ids are computed.
INSERT INTO pgpubsub_sql_notification (channel, subscription, message, payload, key, created_at, expires_at)
SELECT handled.channel, %(subscription)s, chosen.number, handled.payload, handled.key, handled.created_at,
    handled.expires_at
FROM unnest(%(slots)s::smallint[], %(ids)s::bigint[], %(numbers)s::bigint[], %(channels)s::text[])
    AS chosen (slot, id, number, channel)
JOIN pgpubsub_sql_handled AS handled
    ON handled.slot = chosen.slot AND handled.channel = chosen.channel AND handled.message = chosen.number
        AND handled.id = chosen.id
ORDER BY chosen.number

-- kept_channels --
-- The channels of which something is kept: one index probe each.
WITH RECURSIVE kept (channel) AS (
    (SELECT channel FROM pgpubsub_sql_handled ORDER BY channel, message LIMIT 1)
    UNION ALL
    SELECT next.* FROM kept CROSS JOIN LATERAL (
        SELECT channel FROM pgpubsub_sql_handled WHERE channel > kept.channel ORDER BY channel, message LIMIT 1
    ) AS next
)
SELECT channel FROM kept
