-- What receivers of the relay execute.

-- lock_stream --
-- Read a stream in one session only. That only spares attempts: advance_position decides.
SELECT pg_try_advisory_lock('pgpubsub_sql_position'::regclass::oid::integer, hashtext(%(stream)s))

-- unlock_stream --
-- Leave a stream to other sessions.
SELECT pg_advisory_unlock('pgpubsub_sql_position'::regclass::oid::integer, hashtext(%(stream)s))

-- position --
-- Where this database stands in a stream.
SELECT created, sequence, message_id FROM pgpubsub_sql_position WHERE stream = %(stream)s

-- add_position --
-- Begin a stream.
INSERT INTO pgpubsub_sql_position (stream, created, sequence)
VALUES (%(stream)s, %(created)s, %(sequence)s)
ON CONFLICT DO NOTHING

-- advance_position --
-- Move on in a stream, unless somebody else has. It comes first in a receiver's transaction, so whoever comes later
-- waits for its end, and finds no row.
UPDATE pgpubsub_sql_position
SET sequence = %(sequence)s, message_id = %(message_id)s, problem = '', moved_at = clock_timestamp()
WHERE stream = %(stream)s AND created = %(created)s AND sequence = %(before)s
RETURNING true

-- note_problem --
-- Note why a stream is not read any further.
UPDATE pgpubsub_sql_position SET problem = %(problem)s WHERE stream = %(stream)s AND problem <> %(problem)s

-- accept_stream --
-- Begin a stream again that is not what it was.
UPDATE pgpubsub_sql_position
SET created = %(created)s, sequence = %(sequence)s, message_id = NULL, problem = '', moved_at = clock_timestamp()
WHERE stream = %(stream)s
RETURNING true

-- forget_stream --
-- Forget where this database stands in a stream that is gone.
DELETE FROM pgpubsub_sql_position WHERE stream = %(stream)s
RETURNING true

-- positions --
-- Where this database stands in each stream, and for how many seconds.
SELECT stream, created, sequence, problem, extract(epoch FROM clock_timestamp() - moved_at)::float AS age, message_id
FROM pgpubsub_sql_position ORDER BY stream

-- remember --
-- Add messages to the inbox; those that are returned were not in it.
INSERT INTO pgpubsub_sql_inbox (id)
SELECT DISTINCT unnest(%(ids)s::uuid[]) AS id ORDER BY id
ON CONFLICT DO NOTHING
RETURNING replace(id::text, '-', '')

-- forget --
-- Delete what arrived so long ago that the broker does not hold it any more, and return the number of rows.
WITH forgotten AS (
    DELETE FROM pgpubsub_sql_inbox WHERE id = ANY (ARRAY(
        SELECT id FROM pgpubsub_sql_inbox
        WHERE arrived_at < clock_timestamp() - %(seconds)s * interval '1 s'
        ORDER BY arrived_at LIMIT %(limit)s
    ))
    RETURNING true
)
SELECT count(*) FROM forgotten

-- lock_outbox --
-- Publish a channel in one transaction only, so that its messages keep their order.
SELECT pg_try_advisory_xact_lock(
    'pgpubsub_sql_notification'::regclass::oid::integer, hashtext('relay ' || %(channel)s)
)

-- outbox_streams --
-- The streams that a channel has been published to, with the mark of those that are closed.
SELECT stream, message_id FROM pgpubsub_sql_position WHERE starts_with(stream, %(prefix)s)

-- add_outbox_streams --
-- Publish to these streams from now on.
INSERT INTO pgpubsub_sql_position (stream, created, sequence)
SELECT stream, '', 0 FROM unnest(%(streams)s::text[]) AS stream
ON CONFLICT DO NOTHING

-- close_outbox_stream --
-- Note that a stream has the mark of its end.
INSERT INTO pgpubsub_sql_position (stream, created, sequence, message_id) VALUES (%(stream)s, '', 0, %(closed)s)
ON CONFLICT (stream) DO UPDATE SET message_id = excluded.message_id

-- this_database --
-- What no other database has: the identifier that initdb gave the server, which its standbys share, and the number of
-- this database there. And its name.
SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid, datname
FROM pg_database WHERE datname = current_database()

-- next_in_outbox --
-- The next messages of a channel that are to be published, in order, up to a number and a size. Nobody else may
-- change them meanwhile. There are none while the subscription is paused. A message that is not due holds up those with
-- its key that follow. The bounds are rows, and the name of the subscription is a literal, so that the index
-- pgpubsub_sql_outbox is taken: it alone has this order.
WITH paused AS MATERIALIZED (
    SELECT FROM pgpubsub_sql_subscription
    WHERE channel = %(channel)s AND name = 'relay' AND paused_at IS NOT NULL
), held_up AS MATERIALIZED (
    SELECT key, min(coalesce(message, id)) AS number FROM pgpubsub_sql_notification
    WHERE (channel, subscription, alone, available_at) > (%(channel)s, 'relay', false, statement_timestamp())
        AND (channel, subscription, alone, available_at) <= (%(channel)s, 'relay', false, 'infinity')
        AND available_at IS NOT NULL AND key IS NOT NULL
    GROUP BY key
)
SELECT id, number, payload::text, key, (extract(epoch FROM created_at) * 1000000)::bigint,
    coalesce(expires_at <= statement_timestamp(), false), current_schema
FROM (
    SELECT *, sum(size) OVER (ORDER BY number) - size AS before
    FROM (
        SELECT *, coalesce(message, id) AS number, :{size} AS size FROM pgpubsub_sql_notification AS stored
        WHERE (channel, coalesce(message, id)) >= (%(channel)s, -9223372036854775808)
            AND (channel, coalesce(message, id)) <= (%(channel)s, 9223372036854775807)
            AND subscription = 'relay' AND available_at IS NOT NULL AND available_at <= statement_timestamp()
            AND NOT EXISTS (SELECT FROM paused)
            AND NOT EXISTS (
                SELECT FROM held_up WHERE held_up.key = stored.key AND held_up.number < coalesce(message, id)
            )
        ORDER BY channel, coalesce(message, id) LIMIT %(limit)s FOR UPDATE
    ) AS ready
) AS counted
WHERE before < %(bytes)s ORDER BY number

-- park_in_outbox --
-- Park messages that cannot be published.
UPDATE pgpubsub_sql_notification
SET available_at = NULL, last_error = %(error)s, failed_at = clock_timestamp(),
    reason = CASE WHEN reason = %(again)s THEN reason ELSE 'TooLarge' END
WHERE id = ANY (%(ids)s)

-- delete_from_outbox --
-- Delete messages that were published, or have expired, and keep those of a channel that says so. One may have expired
-- since it was published.
WITH taken AS (
    DELETE FROM pgpubsub_sql_notification WHERE id = ANY (%(ids)s)
    RETURNING *
:{kept}
)
SELECT FROM taken
