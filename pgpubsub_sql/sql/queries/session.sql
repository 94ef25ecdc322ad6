-- A worker's session: its settings, its transactions, and what messages leave behind in them.

-- prepare_session --
-- Make the server notice within a second that a worker has died, even while it runs a query, so that
-- it releases what the worker had in flight; some platforms cannot. Switch off the timeouts that would
-- end an idle session, or a transaction because a listener is slow: it would be started again and
-- again. The channel's own timeout is the limit. Older servers lack some of these settings.
DO $pgpubsub$
BEGIN
    PERFORM set_config(name, '0', :'local')
    FROM (VALUES ('idle_session_timeout'), ('idle_in_transaction_session_timeout'), ('transaction_timeout')) AS off (name)
    WHERE current_setting(name, true) IS NOT NULL;
    IF current_setting('client_connection_check_interval') = '0' THEN
        PERFORM set_config('client_connection_check_interval', '1s', :'local');
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$pgpubsub$

-- session_settings --
-- The settings that a listener may change for later users of this connection, as they are now, in the
-- order in which they can be restored: the role decides what may be set. (pg_settings lacks the first four.)
SELECT name, coalesce(current_setting(name, true), '')
FROM unnest(ARRAY[
    'session_authorization', 'role', 'pgpubsub.notification_context', 'pgpubsub.ignore',
    'search_path', 'client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone',
    'row_security', 'session_replication_role',
    'default_transaction_isolation', 'default_transaction_read_only',
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'
]) WITH ORDINALITY AS known (name, position)
LEFT JOIN pg_settings USING (name)
CROSS JOIN (SELECT rolsuper AS is_super FROM pg_roles WHERE rolname = session_user) AS login
WHERE CASE
    WHEN name = 'session_authorization' THEN is_super
    WHEN position <= 4 THEN true
    ELSE context = 'user' OR is_super
END
ORDER BY position

-- session_state --
-- The backend's pid, the isolation level of a transaction that asks for none, and when the server last
-- recovered from a crash, which resets its statistics.
SELECT pg_backend_pid(), current_setting('transaction_isolation'),
    (SELECT coalesce(extract(epoch FROM stats_reset)::text, '') FROM pg_stat_bgwriter)

-- read_committed --
-- A batch skips what others have locked and sees what they commit, whatever the database's default is.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED

-- plan --
-- Make a function of a statement, which is then parsed and planned once a session. The plan does not depend on what
-- the table looks like at that time: the settings leave PostgreSQL nothing but to search messages by an index, in its
-- order. It ends with the session, and its names are looked up by the session's search_path, as a statement's are.
CREATE OR REPLACE FUNCTION pg_temp.:"function"(:{types}) RETURNS SETOF record
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET jit = off
AS $pgpubsub$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    :{statement};
END
$pgpubsub$

-- commit_without_waiting --
-- Let this transaction wait neither for the disk nor for a standby: what it makes ends with the session.
SET LOCAL synchronous_commit = off

-- call_plan --
-- Execute such a statement.
SELECT * FROM pg_temp.:"function"(:{values}) AS found (:{columns})

-- current_state --
-- The current transaction's id, as a listener may have ended the transaction in which the batch was taken,
-- and some settings, in the order of their names here.
SELECT pg_current_xact_id_if_assigned()::text, ARRAY(
    SELECT coalesce(current_setting(name, true), '')
    FROM unnest(%(names)s::text[]) WITH ORDINALITY AS known (name, position)
    ORDER BY position
)

-- transaction_status --
-- The outcome of a transaction that a listener has ended.
SELECT pg_xact_status(%(transaction)s::xid8)

-- end_transaction --
-- The outcome of a transaction whose connection is lost. A backend that is still in it is terminated, so
-- that the outcome is decided soon; one that waits for a standby has committed already. After a crash
-- the outcome is unknown: an id that had not reached the log is given to another transaction, which must
-- not be mistaken for this one.
SELECT coalesce(pg_xact_status(%(transaction)s::xid8), 'unknown'), (
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE backend_xid = %(transaction)s::xid8::xid AND pid <> pg_backend_pid()
)
FROM pg_stat_bgwriter WHERE coalesce(extract(epoch FROM stats_reset)::text, '') = %(recovered_at)s

-- savepoint --
-- Begin a message: what it does from here on can be undone on its own.
SAVEPOINT pgpubsub

-- settle --
-- End a message that has queried, in one round trip. A message that violates a deferred constraint, such
-- as Django's foreign keys, must fail on its own, and its settings must not reach the next one. Nothing is
-- to be restored if it cannot have changed any.
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
:{immediate}
:{restore}
RELEASE SAVEPOINT pgpubsub

-- undo --
-- Undo a message and release its savepoint, in one round trip.
ROLLBACK TO SAVEPOINT pgpubsub;
RELEASE SAVEPOINT pgpubsub

-- immediate_constraints --
-- Deferrable constraints that are initially immediate. Those of partitions follow their parent's.
SELECT DISTINCT nspname::text, conname::text
FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace
WHERE condeferrable AND NOT condeferred AND conparentid = 0
    AND NOT starts_with(nspname, 'pg_temp') AND has_schema_privilege(pg_namespace.oid, 'USAGE')
ORDER BY nspname::text, conname::text

-- restore_constraints --
-- Make initially immediate constraints immediate again for the next message. One that was dropped
-- meanwhile does not matter.
DO $pgpubsub$
BEGIN
    SET CONSTRAINTS :{constraints} IMMEDIATE;
EXCEPTION WHEN undefined_object THEN
    NULL;
END
$pgpubsub$

-- restore_search_path --
-- Restore search_path, schema by schema; set_config() would take it as a whole, and twice the time.
SET :{scope} search_path = :{schemas}

-- restore_setting --
-- Restore a setting. SET is the quickest way.
SET :{scope} :"name" = :'value'
