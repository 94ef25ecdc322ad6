-- What the test kit asks.

-- sending_function --
-- The function that sends ephemeral messages: its schema, its whole definition, its body, and whether this role may
-- replace it. No row if it is not installed.
SELECT nspname::text, pg_get_functiondef(pg_proc.oid), prosrc, pg_has_role(proowner, 'USAGE'), pg_get_userbyid(proowner)::text
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE proname = 'pgpubsub_send_v1' AND pg_function_is_visible(pg_proc.oid)

-- search_path --
-- The schemas in which names without one are looked up.
SHOW search_path

-- has_captured --
-- Whether this transaction has the table of captured messages.
SELECT to_regclass('pg_temp.pgpubsub_sql_captured') IS NOT NULL

-- next_position --
-- A position that is after all messages so far, and before all that follow.
SELECT nextval(pg_get_serial_sequence('pgpubsub_sql_notification', 'id'))

-- stored_after --
-- Stored messages after a position. The copies of a message, one for each subscription, have the same.
SELECT coalesce(message, id), channel, subscription, payload::text, key, available_at::text, attempts, last_error
FROM pgpubsub_sql_notification WHERE coalesce(message, id) > %(after)s ORDER BY 1, id

-- captured_after --
-- Captured messages after a position.
SELECT id, channel, payload, raw FROM pg_temp.pgpubsub_sql_captured WHERE id > %(after)s ORDER BY id

-- ready_lanes --
-- Which of these subscriptions have messages that are ready, in this order.
SELECT asked.channel, asked.subscription
FROM unnest(%(channels)s::text[], %(subscriptions)s::text[]) WITH ORDINALITY AS asked (channel, subscription, position)
WHERE EXISTS (
    SELECT FROM pgpubsub_sql_notification AS stored
    WHERE (stored.channel, stored.subscription) = (asked.channel, asked.subscription)
        AND available_at <= statement_timestamp()
)
ORDER BY position

-- advance_to_next --
-- Let time pass until the next waiting message of these channels is ready: all their times move back by what it
-- lacks, which keeps their order. Returns how many moved.
WITH next AS (
    SELECT min(available_at) - statement_timestamp() AS lack FROM pgpubsub_sql_notification
    WHERE channel = ANY (%(channels)s) AND available_at > statement_timestamp() AND isfinite(available_at)
), moved AS (
    UPDATE pgpubsub_sql_notification SET available_at = available_at - lack, expires_at = expires_at - lack FROM next
    WHERE lack IS NOT NULL AND channel = ANY (%(channels)s) AND available_at IS NOT NULL
    RETURNING 1
)
SELECT count(*) FROM moved

-- seconds_until --
-- How far away a time is.
SELECT extract(epoch FROM %(at)s::timestamptz - clock_timestamp())::float8

-- advance --
-- Let some seconds pass for the waiting messages of these channels, or take them back.
UPDATE pgpubsub_sql_notification
SET available_at = available_at - %(seconds)s * interval '1 s', expires_at = expires_at - %(seconds)s * interval '1 s'
WHERE channel = ANY (%(channels)s) AND available_at IS NOT NULL

-- delete_stored --
-- Delete stored messages of some channels, or of all, that were stored after a position; the position of each copy.
DELETE FROM pgpubsub_sql_notification
WHERE coalesce(message, id) > %(after)s AND (%(channels)s::text[] IS NULL OR channel = ANY (%(channels)s::text[]))
RETURNING coalesce(message, id)

-- listening_workers --
-- How many workers of a name listen to this database.
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'pgpubsub_sql listen (' || %(name)s || ')'

-- referred_payload --
-- The long payload that a message refers to.
SELECT payload::text FROM pgpubsub_sql_longpayload WHERE id = %(id)s

-- forget_captured --
-- Forget captured messages that were handled or discarded.
DELETE FROM pg_temp.pgpubsub_sql_captured WHERE id = ANY (%(ids)s)
