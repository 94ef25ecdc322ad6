-- Subscriptions that are paused: no claim that begins after the pause was committed takes their notifications.

-- pause --
-- Pause subscriptions, unless they are paused already: of each channel all that are registered, or those of a name. A
-- channel without any stores for the one without a name, so that is registered.
INSERT INTO pgpubsub_sql_subscription AS known (channel, name, paused_at)
SELECT listed.channel, coalesce(registered.name, ''), clock_timestamp()
FROM unnest(%(channels)s::text[]) AS listed (channel)
LEFT JOIN pgpubsub_sql_subscription AS registered ON registered.channel = listed.channel
WHERE %(subscription)s::text IS NULL OR coalesce(registered.name, '') = %(subscription)s::text
ON CONFLICT (channel, name) DO UPDATE SET paused_at = coalesce(known.paused_at, excluded.paused_at)
RETURNING channel, name

-- resume --
-- Resume subscriptions of channels, all or those of a name; return those that were paused.
UPDATE pgpubsub_sql_subscription SET paused_at = NULL
WHERE channel = ANY (%(channels)s) AND paused_at IS NOT NULL
    AND (%(subscription)s::text IS NULL OR name = %(subscription)s::text)
RETURNING channel, name

-- paused --
-- The subscriptions that are paused, and for how many seconds.
SELECT channel, name, extract(epoch FROM statement_timestamp() - paused_at)::float8 AS seconds
FROM pgpubsub_sql_subscription WHERE paused_at IS NOT NULL ORDER BY channel, name

-- still_in_flight --
-- The sessions that have taken notifications of these channels, or of one subscription of them, before a time, after which nobody did, and since when.
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
                AND notification.subscription = coalesce(%(subscription)s::text, notification.subscription)
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
                    OR notification.subscription <> coalesce(%(subscription)s::text, notification.subscription)
            ))
        )
    )
ORDER BY worker.xact_start

-- now --
-- The server's time, in its spelling.
SELECT clock_timestamp()::text
