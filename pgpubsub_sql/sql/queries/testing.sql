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
-- Stored messages after a position.
SELECT id, channel, payload::text, key, available_at::text, attempts, last_error
FROM pgpubsub_sql_notification WHERE id > %(after)s ORDER BY id

-- captured_after --
-- Captured messages after a position.
SELECT id, channel, payload, raw FROM pg_temp.pgpubsub_sql_captured WHERE id > %(after)s ORDER BY id

-- forget_captured --
-- Forget captured messages that were handled or discarded.
DELETE FROM pg_temp.pgpubsub_sql_captured WHERE id = ANY (%(ids)s)
