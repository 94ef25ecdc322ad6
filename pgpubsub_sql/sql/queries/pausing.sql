-- Channels that are paused: no claim that begins after the pause was committed takes their notifications.

-- pause --
-- Pause channels, unless they are paused already.
INSERT INTO pgpubsub_sql_pause (channel) SELECT unnest(%(channels)s::text[]) ON CONFLICT DO NOTHING

-- resume --
-- Resume channels; return those that were paused.
DELETE FROM pgpubsub_sql_pause WHERE channel = ANY (%(channels)s) RETURNING channel

-- paused --
-- The channels that are paused, and for how many seconds.
SELECT channel, extract(epoch FROM statement_timestamp() - paused_at)::float8 AS seconds
FROM pgpubsub_sql_pause ORDER BY channel

-- still_in_flight --
-- The sessions that have taken notifications of these channels before a time, after which nobody did, and since when.
-- A claim that was under way at that time may still take some: it has the lock of FOR UPDATE on the table, and has taken
-- none of another channel.
SELECT worker.pid, extract(epoch FROM statement_timestamp() - worker.xact_start)::float8 AS seconds
FROM pg_stat_activity AS worker
WHERE worker.datname = current_database() AND worker.pid <> pg_backend_pid()
    AND worker.xact_start <= %(until)s::timestamptz
    AND (
        worker.backend_xid IN (
            SELECT notification.xmax FROM pgpubsub_sql_notification AS notification
            WHERE notification.channel = ANY (%(channels)s)
        )
        OR (
            worker.state = 'active' AND worker.query_start <= %(until)s::timestamptz
            AND EXISTS (
                SELECT FROM pg_locks AS held
                WHERE held.pid = worker.pid AND held.mode = 'RowShareLock'
                    AND held.relation = 'pgpubsub_sql_notification'::regclass
            )
            AND (worker.backend_xid IS NULL OR worker.backend_xid NOT IN (
                SELECT notification.xmax FROM pgpubsub_sql_notification AS notification
                WHERE notification.channel <> ALL (%(channels)s)
            ))
        )
    )
ORDER BY worker.xact_start

-- now --
-- The server's time, in its spelling.
SELECT clock_timestamp()::text
