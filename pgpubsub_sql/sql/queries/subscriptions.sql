-- The table of subscriptions.

-- has_subscriptions --
-- Whether the search_path leads to it, and whether it may be read.
SELECT found IS NOT NULL, coalesce(has_table_privilege(found, 'SELECT'), false)
FROM to_regclass('pgpubsub_sql_subscription') AS found

-- registered --
-- What is registered.
SELECT channel, name FROM pgpubsub_sql_subscription ORDER BY channel, name

-- registered_at --
-- When a subscription was registered, and whether it is being filled; no row if it is not registered. No other session
-- can change that meanwhile.
SELECT created_at, filled_to IS NOT NULL FROM pgpubsub_sql_subscription
WHERE channel = %(channel)s AND name = %(subscription)s FOR UPDATE

-- rename --
-- Store from now on for another name, which is not registered.
UPDATE pgpubsub_sql_subscription SET name = %(new)s
WHERE channel = %(channel)s AND name = %(subscription)s RETURNING name

-- unregister --
-- Store nothing more for a subscription; a row if it was registered.
DELETE FROM pgpubsub_sql_subscription
WHERE channel = %(channel)s AND name = %(subscription)s RETURNING name

-- register --
-- Register subscriptions, unless they are. Those that begin with the history have nothing of it yet.
INSERT INTO pgpubsub_sql_subscription (channel, name, filled_to, fill_xid)
SELECT channel, name, CASE WHEN is_filled THEN -9223372036854775808 END, CASE WHEN is_filled THEN pg_current_xact_id() END
FROM unnest(%(channels)s::text[], %(subscriptions)s::text[], %(filled)s::boolean[]) AS listed (channel, name, is_filled)
ON CONFLICT DO NOTHING
