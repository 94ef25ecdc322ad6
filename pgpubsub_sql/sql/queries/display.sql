-- What workers have been handling for more than a second, as their supervisors show it. A row counts only while the
-- session is connected that has written it, so nobody has to tidy up after a supervisor that was killed.

-- display --
-- Replace what this session shows; delete what sessions that have gone have left.
WITH gone AS (
    DELETE FROM pgpubsub_sql_inflight
    WHERE session = pg_backend_pid() OR session NOT IN (
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND starts_with(application_name, 'pgpubsub_sql display')
    )
)
INSERT INTO pgpubsub_sql_inflight (session, host, process, channel, message, listener, since)
SELECT
    pg_backend_pid(), %(host)s, process, channel, nullif(message, 0), listener,
    clock_timestamp() - make_interval(secs => seconds)
FROM unnest(
    %(processes)s::integer[], %(channels)s::text[], %(messages)s::bigint[], %(listeners)s::text[],
    %(seconds)s::float8[]
) AS shown (process, channel, message, listener, seconds)

-- may_see_display --
-- Whether the table is there, and this role may read it.
SELECT coalesce(has_table_privilege(to_regclass('pgpubsub_sql_inflight'), 'SELECT'), false)

-- displayed --
-- What is shown, the longest first.
SELECT channel, message, listener, extract(epoch FROM clock_timestamp() - since)::float8 AS seconds, process, host
FROM pgpubsub_sql_inflight
WHERE session IN (
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND starts_with(application_name, 'pgpubsub_sql display')
)
ORDER BY since, id
