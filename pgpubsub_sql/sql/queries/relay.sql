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

-- positions --
-- Where this database stands in each stream.
SELECT stream, created, sequence, problem FROM pgpubsub_sql_position ORDER BY stream

-- remember --
-- Add messages to the inbox; those that are returned were not in it.
INSERT INTO pgpubsub_sql_inbox (id)
SELECT DISTINCT unnest(%(ids)s::uuid[]) AS id ORDER BY id
ON CONFLICT DO NOTHING
RETURNING id::text

-- forget --
-- Delete what arrived so long ago that the broker does not hold it any more.
DELETE FROM pgpubsub_sql_inbox WHERE id = ANY (ARRAY(
    SELECT id FROM pgpubsub_sql_inbox
    WHERE arrived_at < clock_timestamp() - %(seconds)s * interval '1 s'
    ORDER BY arrived_at LIMIT 10000
))

-- lock_outbox --
-- Publish a channel in one transaction only, so that its messages keep their order.
SELECT pg_try_advisory_xact_lock(
    'pgpubsub_sql_notification'::regclass::oid::integer, hashtext('relay ' || %(channel)s)
)

-- next_in_outbox --
-- The next messages of a channel that are to be published, in order, up to a number and a size. Nobody else may
-- change them meanwhile.
SELECT id, payload::text, key, created_at, coalesce(expires_at <= statement_timestamp(), false), current_schema
FROM (
    SELECT *, sum(pg_column_size(payload)) OVER (ORDER BY id) - pg_column_size(payload) AS before
    FROM (
        SELECT * FROM pgpubsub_sql_notification
        WHERE channel = %(channel)s AND available_at <= statement_timestamp()
        ORDER BY id LIMIT %(limit)s FOR UPDATE
    ) AS ready
) AS counted
WHERE before < %(bytes)s ORDER BY id

-- park_in_outbox --
-- Park messages that cannot be published.
UPDATE pgpubsub_sql_notification
SET available_at = NULL, last_error = %(error)s, reason = 'TooLarge', failed_at = clock_timestamp()
WHERE id = ANY (%(ids)s)

-- delete_from_outbox --
-- Delete messages that were published, or have expired.
DELETE FROM pgpubsub_sql_notification WHERE id = ANY (%(ids)s)
