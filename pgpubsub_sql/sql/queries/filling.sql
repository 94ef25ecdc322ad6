-- Subscriptions that begin with the history: they are filled with what was stored before they were registered.

-- filling --
-- Those that are being filled: up to which number they are, and up to which they will be; NULL if nobody knows yet. By
-- which transaction they were registered, and whether they are paused.
SELECT channel, name, filled_to, fill_until, fill_xid::text, paused_at IS NOT NULL
FROM pgpubsub_sql_subscription
WHERE filled_to IS NOT NULL ORDER BY channel, name

-- is_registration_seen --
-- Whether every statement that stores messages sees that a subscription is registered: no session has a snapshot any
-- longer that is older. Autovacuum has no role. Who may not see the sessions of a role sees their backend_xmin, and
-- their backend_type as NULL. A transaction that seems to be in the future is another server's, from which this database
-- was restored.
SELECT fill_xid >= pg_snapshot_xmax(pg_current_snapshot()) OR NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND usesysid IS NOT NULL AND backend_type IS DISTINCT FROM 'walsender'
        AND backend_xmin IS NOT NULL AND age(backend_xmin) >= age(fill_xid::xid)
)
FROM pgpubsub_sql_subscription WHERE channel = %(channel)s AND name = %(subscription)s AND filled_to IS NOT NULL

-- next_transaction --
-- An id that is above those of all transactions that have written so far: a new one. The xmax of a snapshot is only above
-- those of transactions that have ended.
SELECT pg_current_xact_id()::text

-- have_ended --
-- Whether all transactions with an id below this one have ended.
SELECT pg_snapshot_xmin(pg_current_snapshot()) >= %(before)s::xid8

-- begin_filling --
-- Note how far to fill a subscription: what it is not stored for itself is committed by now, if it is registered by this
-- transaction. What is parked is read by an index of its own.
UPDATE pgpubsub_sql_subscription SET fill_until = greatest(
    filled_to,
    (
        SELECT max(coalesce(message, id)) FROM pgpubsub_sql_notification AS notification
        WHERE notification.channel = %(channel)s AND notification.subscription <> %(subscription)s
            AND available_at IS NOT NULL
    ),
    (
        SELECT max(coalesce(message, id)) FROM pgpubsub_sql_notification AS parked
        WHERE parked.channel = %(channel)s AND parked.subscription <> %(subscription)s AND available_at IS NULL
    ),
    (
        SELECT message FROM pgpubsub_sql_handled AS kept
        WHERE kept.channel = %(channel)s ORDER BY bucket DESC, message DESC LIMIT 1
    )
)
WHERE channel = %(channel)s AND name = %(subscription)s AND filled_to IS NOT NULL AND fill_until IS NULL
    AND fill_xid = %(fill_xid)s::xid8

-- fill --
-- Copy the next messages for a subscription, in their order, unless it has them, which were stored since it was
-- registered. One statement has one snapshot, so nothing is missed that is handled meanwhile. Whoever has another view of
-- how far it is filled does nothing. Copies are due since the registration, and so are taken before what was sent since;
-- a delay still counts. Of the history, a step reads the buckets that hold the next messages. Returns how many were
-- copied, up to which number, and whether that was all.
WITH subscription AS MATERIALIZED (
    SELECT created_at, filled_to, fill_until FROM pgpubsub_sql_subscription
    WHERE channel = %(channel)s AND name = %(subscription)s AND filled_to = %(filled_to)s
        AND fill_until = %(fill_until)s
    FOR NO KEY UPDATE SKIP LOCKED
), stored AS MATERIALIZED (
    -- In two parts, each of which has an index that begins with the channel.
    SELECT coalesce(message, id) AS number, id, subscription = %(subscription)s AS is_there
    FROM pgpubsub_sql_notification
    WHERE channel = %(channel)s AND available_at IS NOT NULL AND coalesce(message, id) > %(filled_to)s
        AND coalesce(message, id) <= %(fill_until)s
    UNION ALL
    SELECT coalesce(message, id), id, subscription = %(subscription)s
    FROM pgpubsub_sql_notification
    WHERE channel = %(channel)s AND available_at IS NULL AND coalesce(message, id) > %(filled_to)s
        AND coalesce(message, id) <= %(fill_until)s
), ahead AS MATERIALIZED (
    SELECT max(bucket) AS last, count(*) = %(limit)s AS is_part
    FROM (
        SELECT bucket FROM pgpubsub_sql_handled
        WHERE channel = %(channel)s AND bucket >= (CAST(%(filled_to)s AS bigint) + 1) >> 12 AND bucket <= %(fill_until)s >> 12
        ORDER BY bucket LIMIT %(limit)s
    ) AS next
), kept AS MATERIALIZED (
    -- What was discarded for this subscription since it was registered is there, as far as it is concerned.
    SELECT message AS number, payload, key, created_at, expires_at,
        subscription = %(subscription)s AND handled_at >= (SELECT created_at FROM subscription) AS is_there
    FROM pgpubsub_sql_handled
    WHERE channel = %(channel)s AND bucket >= (CAST(%(filled_to)s AS bigint) + 1) >> 12 AND bucket <= (SELECT last FROM ahead)
        AND message > %(filled_to)s AND message <= %(fill_until)s
        AND outcome <> 'expired' AND (expires_at IS NULL OR expires_at > statement_timestamp())
    ORDER BY message, is_there DESC LIMIT %(limit)s
), step AS MATERIALIZED (
    SELECT created_at, fill_until, least(
        fill_until,
        (
            SELECT number FROM (SELECT number FROM stored UNION ALL SELECT number FROM kept) AS every
            ORDER BY number OFFSET %(limit)s - 1 LIMIT 1
        ),
        CASE WHEN is_part THEN ((last + 1) << 12) - 1 END
    ) AS up_to
    FROM subscription CROSS JOIN ahead
), missing AS MATERIALIZED (
    SELECT number, min(id) AS id
    FROM (SELECT * FROM stored UNION ALL SELECT number, NULL, is_there FROM kept) AS every
    WHERE number <= (SELECT up_to FROM step)
    GROUP BY number HAVING NOT bool_or(is_there)
), copied AS (
    INSERT INTO pgpubsub_sql_notification
        (channel, subscription, message, payload, key, created_at, available_at, expires_at)
    SELECT %(channel)s, %(subscription)s, number, payload, key, source.created_at,
        greatest(available_at, step.created_at), expires_at
    FROM step CROSS JOIN (
        SELECT number, payload, key, created_at, CASE WHEN failed_at IS NULL THEN available_at END AS available_at,
            expires_at
        FROM missing JOIN pgpubsub_sql_notification USING (id)
        WHERE expires_at IS NULL OR expires_at > statement_timestamp()
        UNION ALL
        SELECT number, payload, key, created_at, NULL, expires_at
        FROM (SELECT DISTINCT ON (number) * FROM kept ORDER BY number) AS one JOIN missing USING (number)
        WHERE id IS NULL
    ) AS source
    ORDER BY number
    RETURNING 1
)
UPDATE pgpubsub_sql_subscription
SET filled_to = CASE WHEN up_to < step.fill_until THEN up_to END,
    fill_until = CASE WHEN up_to < step.fill_until THEN step.fill_until END,
    fill_xid = CASE WHEN up_to < step.fill_until THEN fill_xid END
FROM step
WHERE channel = %(channel)s AND name = %(subscription)s
RETURNING (SELECT count(*) FROM copied), up_to, up_to = step.fill_until

-- count_filled --
-- How many copies wait for their first attempt: they are due since the registration. So may others be that nobody takes
-- yet, as they are beyond what it is filled to. More than the limit do not count.
SELECT count(*) FROM (
    SELECT FROM pgpubsub_sql_notification
    WHERE channel = %(channel)s AND subscription = %(subscription)s AND NOT alone
        AND available_at <= (
            SELECT created_at FROM pgpubsub_sql_subscription
            WHERE channel = %(channel)s AND name = %(subscription)s
        )
        AND coalesce(message, id) <= %(filled_to)s
    LIMIT %(limit)s
) AS waiting

-- end_filling --
-- Have these subscriptions take what is stored for them, and leave the rest.
UPDATE pgpubsub_sql_subscription SET filled_to = NULL, fill_until = NULL, fill_xid = NULL
WHERE filled_to IS NOT NULL
    AND (channel, name) IN (SELECT * FROM unnest(%(channels)s::text[], %(subscriptions)s::text[]))
