-- Durable channels: what a worker claims, and what becomes of it.

-- take --
-- Claim a batch of one subscription, starting after a position; or first, by itself, a notification that is
-- to be handled alone. If earlier claims of some were rolled back without a record, claim nothing and
-- return those, without their payloads, which may be what killed a worker. Arrays and MATERIALIZED make
-- each part run once: a LIMIT that is evaluated again under locks would claim too many. By ctid, which
-- saves a second lookup in an index. A subscription that is paused has nothing to claim, nor has one whose filling has not
-- begun; one that is being filled has nothing beyond what it is filled to. The bounds are rows, as the index has them:
-- without statistics, as after a bulk load, PostgreSQL takes "channel = …" for rare, and would sort all of its messages
-- for each claim.
WITH subscription AS MATERIALIZED (
    SELECT paused_at, filled_to, fill_until FROM pgpubsub_sql_subscription
    WHERE channel = %(channel)s AND name = %(subscription)s
), paused AS (
    SELECT FROM subscription WHERE paused_at IS NOT NULL OR (filled_to IS NOT NULL AND fill_until IS NULL)
), lone AS MATERIALIZED (
    SELECT ctid AS place, xmax AS mark FROM pgpubsub_sql_notification
    WHERE channel = %(channel)s AND subscription = %(subscription)s AND alone
        AND available_at <= statement_timestamp()
        AND NOT EXISTS (SELECT FROM paused)
        AND (key IS NULL OR NOT %(keyless)s)
        AND (:{filter})
    ORDER BY available_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), locked AS (
    SELECT place, mark, 0 AS size FROM lone
    UNION ALL
    SELECT * FROM (
        SELECT ctid AS place, xmax AS mark, :{size} AS size FROM pgpubsub_sql_notification
        WHERE NOT EXISTS (SELECT FROM paused) AND NOT EXISTS (SELECT FROM lone)
            AND (channel, subscription, alone, available_at, id)
                > (%(channel)s, %(subscription)s, false, %(after)s::timestamptz, %(after_id)s)
            AND (channel, subscription, alone, available_at)
                <= (%(channel)s, %(subscription)s, false, statement_timestamp())
            AND available_at IS NOT NULL
            AND coalesce(message, id) <= :{filled_to}
            AND (key IS NULL OR NOT %(keyless)s)
            AND (:{filter})
        ORDER BY channel, subscription, alone, available_at, id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS together
), found AS MATERIALIZED (
    :{found}
), taken AS (
    DELETE FROM pgpubsub_sql_notification
    WHERE ctid = ANY ((SELECT places FROM found WHERE given_up IS NULL)::tid[])
    RETURNING *
:{kept}
)
(SELECT :{claimed} FROM taken ORDER BY available_at, id)
UNION ALL
SELECT :{abandoned} FROM pgpubsub_sql_notification WHERE ctid = ANY ((SELECT given_up FROM found)::tid[])

-- lock_keys --
-- Lock keys of a subscription whose first notification is ready, in the order of the keys, starting after one:
-- up to a number of them, or what that many steps find. One index probe a key, however many notifications
-- wait for it. None of a subscription that is paused, or whose filling has not begun.
WITH RECURSIVE subscription AS MATERIALIZED (
    SELECT paused_at, filled_to, fill_until FROM pgpubsub_sql_subscription
    WHERE channel = %(channel)s AND name = %(subscription)s
), paused AS (
    SELECT FROM subscription WHERE paused_at IS NOT NULL OR (filled_to IS NOT NULL AND fill_until IS NULL)
), walk (key, is_locked, alone, locked, steps) AS (
    SELECT %(after)s::text, false, false, 0, 0
    WHERE NOT EXISTS (SELECT FROM paused)
    UNION ALL
    SELECT next.key, next.is_locked, next.alone, walk.locked + next.is_locked::integer, walk.steps + 1
    FROM walk CROSS JOIN LATERAL (
        SELECT first.key, first.alone, CASE
            WHEN first.available_at <= statement_timestamp()
                AND first.number <= coalesce((SELECT filled_to FROM subscription), 9223372036854775807)
            THEN pg_try_advisory_xact_lock(hashtextextended(
                concat_ws(' ', %(channel)s::text, %(subscription)s::text, first.key), first.tableoid::bigint
            ))
            ELSE false END AS is_locked
        FROM (
            SELECT key, available_at, alone, tableoid, coalesce(message, id) AS number FROM pgpubsub_sql_notification
            WHERE channel = %(channel)s AND subscription = %(subscription)s AND key > walk.key
                AND available_at IS NOT NULL
            ORDER BY key, coalesce(message, id) LIMIT 1
        ) AS first
    ) AS next
    WHERE walk.locked < %(limit)s AND walk.steps < %(steps)s
)
SELECT key, is_locked, alone FROM walk WHERE steps > 0 ORDER BY steps

-- take_ordered --
-- Claim the first notifications of each locked key, up to one that is not ready, filtered out, locked by
-- others, changed meanwhile, or whose "alone" differs from what is claimed now. If earlier claims of some
-- were rolled back without a record, claim nothing and return those, without their payloads. This is a
-- statement of its own because one that also locked the keys would not see what was put back meanwhile.
WITH subscription AS MATERIALIZED (
    SELECT filled_to FROM pgpubsub_sql_subscription WHERE channel = %(channel)s AND name = %(subscription)s
), run AS MATERIALIZED (
    SELECT first.* FROM unnest(%(keys)s::text[]) AS chosen (key)
    CROSS JOIN LATERAL (
        SELECT coalesce(message, id) AS number, key, ctid AS place,
            available_at <= statement_timestamp() AND alone = %(alone)s AND coalesce(message, id) <= :{filled_to}
                AND (:{filter}) AS is_wanted
        FROM pgpubsub_sql_notification
        WHERE channel = %(channel)s AND subscription = %(subscription)s AND key = chosen.key
            AND available_at IS NOT NULL
        ORDER BY coalesce(message, id) LIMIT %(limit)s
    ) AS first
), free AS MATERIALIZED (
    SELECT ctid AS place, xmax AS mark, :{size} AS size FROM pgpubsub_sql_notification
    WHERE ctid = ANY (ARRAY(SELECT place FROM run WHERE is_wanted))
    FOR UPDATE SKIP LOCKED
), locked AS (
    SELECT place, mark, size FROM (
        -- By place: what was changed since this statement began has another one now.
        SELECT free.place, mark, size, run.key, run.number,
            bool_and(free.place IS NOT NULL) OVER (PARTITION BY run.key ORDER BY run.number) AS is_next
        FROM run LEFT JOIN free ON free.place = run.place
    ) AS judged
    WHERE is_next
    ORDER BY key, number
), found AS MATERIALIZED (
    :{found}
), taken AS (
    DELETE FROM pgpubsub_sql_notification
    WHERE ctid = ANY ((SELECT places FROM found WHERE given_up IS NULL)::tid[])
    RETURNING *
:{kept}
)
(SELECT :{claimed} FROM taken ORDER BY coalesce(message, id))
UNION ALL
SELECT :{abandoned} FROM pgpubsub_sql_notification WHERE ctid = ANY ((SELECT given_up FROM found)::tid[])

-- claimed --
-- The columns of a claimed notification. Most have nothing unusual. Times are text, so that they can be put back
-- unchanged.
id, message, payload::text, key, created_at::text, available_at::text, :{unusual},
(SELECT is_cut FROM found), (SELECT pg_current_xact_id()::text)

-- abandoned --
-- The same of one that was not claimed.
id, message, NULL, key, created_at::text, available_at::text, :{unusual}, false, NULL

-- unusual --
-- The columns that seldom differ from their defaults, as JSON; NULL if none does.
CASE WHEN attempts <> 0 OR unreadable <> 0 OR last_error <> '' OR reason <> '' OR failed_at IS NOT NULL
        OR expires_at IS NOT NULL OR alone
    THEN json_build_object(
        'attempts', attempts, 'unreadable', unreadable, 'last_error', last_error, 'reason', reason,
        'failed_at', failed_at::text, 'expires_at', expires_at::text, 'alone', alone,
        'expired', coalesce(expires_at <= statement_timestamp(), false)
    )::text
END

-- filled_to --
-- Up to which number a subscription takes messages: all, unless it is being filled.
coalesce((SELECT filled_to FROM subscription), 9223372036854775807)

-- size --
-- About the number of bytes of a payload, without reading one that is stored apart. Compression leaves a tenth or
-- less of some; nobody knows of which.
pg_column_size(payload) * CASE WHEN pg_column_compression(payload) IS NULL THEN 1 ELSE 25 END

-- found --
-- Of the locked notifications the first ones that together have no more than so many bytes, but at least one;
-- whether some are left; and those whose claims were given up.
SELECT CASE WHEN size <= %(bytes)s THEN places ELSE places[1:(
        SELECT count(*) FROM (
            SELECT sum(one.size) OVER (ORDER BY one.number) AS size, one.number
            FROM unnest(sizes) WITH ORDINALITY AS one (size, number)
        ) AS running
        WHERE running.size <= %(bytes)s OR number = 1
    )] END AS places, size > %(bytes)s AS is_cut, given_up
FROM (
    SELECT array_agg(place) AS places, array_agg(size) AS sizes, sum(size) AS size,
        array_agg(place) FILTER (WHERE :{given_up}) AS given_up
    FROM locked
) AS every

-- given_up --
-- Whether the transaction in a row's xmax was rolled back, so that its claim was given up without a
-- record. The 64-bit id is derived from the current transaction's. An id that seems to be in the future is
-- no transaction's (it stands for several that lock the row together), and pg_xact_status() would reject it.
CASE
    WHEN mark = 0 THEN false
    WHEN ((pg_current_xact_id()::text::bigint - mark::text::bigint) & 4294967295) >= 2147483648 THEN false
    ELSE coalesce(pg_xact_status(greatest(
        pg_current_xact_id()::text::bigint - ((pg_current_xact_id()::text::bigint - mark::text::bigint) & 4294967295), 0
    )::text::xid8) = 'aborted', false)
END

-- look --
-- Seconds until each subscription's first notification after a position is ready, infinity if it has none or is
-- paused or its filling has not begun, and the time of this statement. Two index probes a subscription. A day is the
-- limit because an interval cannot be infinite.
SELECT
    channel, subscription,
    coalesce(extract(epoch FROM first.available_at - statement_timestamp())::float8, 'infinity'),
    statement_timestamp()::text
FROM unnest(%(channels)s::text[], %(subscriptions)s::text[], %(after)s::timestamptz[], %(after_ids)s::bigint[])
    AS place (channel, subscription, after, after_id)
CROSS JOIN LATERAL (
    SELECT min(greatest(
        least(available_at, statement_timestamp() + interval '1 day'), statement_timestamp() - interval '1 day'
    )) AS available_at
    FROM (
        (
            SELECT available_at FROM pgpubsub_sql_notification AS lone
            WHERE lone.channel = place.channel AND lone.subscription = place.subscription AND alone AND available_at IS NOT NULL
            ORDER BY available_at, id LIMIT 1
        )
        UNION ALL
        (
            SELECT available_at FROM pgpubsub_sql_notification AS together
            WHERE together.channel = place.channel AND together.subscription = place.subscription AND NOT alone
                AND available_at IS NOT NULL
                AND (available_at, id) > (place.after, place.after_id)
            ORDER BY available_at, id LIMIT 1
        )
    ) AS either
    WHERE (place.channel, place.subscription) NOT IN (
        SELECT channel::text, name::text FROM pgpubsub_sql_subscription
        WHERE paused_at IS NOT NULL OR (filled_to IS NOT NULL AND fill_until IS NULL)
    )
) AS first

-- next_ready --
-- Seconds until each subscription's next notification is ready, of those that were not ready at the time
-- "after"; two index probes a subscription. NULL for one that is paused; no row for one whose filling has not begun. And
-- the time of this statement, which is the next "after".
SELECT listened.channel, listened.subscription,
    extract(epoch FROM min(next.available_at) - statement_timestamp())::float8,
    statement_timestamp()::text
FROM unnest(%(channels)s::text[], %(subscriptions)s::text[]) AS listened (channel, subscription)
CROSS JOIN (VALUES (false), (true)) AS sort (alone)
CROSS JOIN LATERAL (
    SELECT available_at FROM pgpubsub_sql_notification AS notification
    WHERE notification.channel = listened.channel AND notification.subscription = listened.subscription
        AND notification.alone = sort.alone
        AND available_at > coalesce(%(after)s::timestamptz, '-infinity')
    ORDER BY available_at LIMIT 1
) AS next
WHERE (listened.channel, listened.subscription) NOT IN (
    SELECT channel::text, name::text FROM pgpubsub_sql_subscription
    WHERE paused_at IS NOT NULL OR (filled_to IS NOT NULL AND fill_until IS NULL)
)
GROUP BY listened.channel, listened.subscription
UNION ALL
SELECT paused.channel, name, NULL, statement_timestamp()::text FROM pgpubsub_sql_subscription AS paused
JOIN unnest(%(channels)s::text[], %(subscriptions)s::text[]) AS listened (channel, subscription)
    ON (paused.channel, name) = (listened.channel, listened.subscription)
WHERE paused_at IS NOT NULL

-- put_back --
-- Put back what was claimed but not handled, under its old id, unless an earlier try that was not
-- acknowledged has done so. A delay counts from now, by the server's clock, which also says when it has failed.
INSERT INTO pgpubsub_sql_notification
    (id, channel, subscription, message, payload, created_at, available_at, expires_at, attempts, unreadable, last_error,
        reason, failed_at, key, alone)
SELECT id, %(channel)s, %(subscription)s, message, payload::jsonb, created_at,
    coalesce(clock_timestamp() + delay * interval '1 s', available_at),
    expires_at, attempts, unreadable, last_error, reason,
    CASE WHEN has_failed THEN clock_timestamp() ELSE failed_at END, key, alone
FROM unnest(
    %(id)s::bigint[], %(message)s::bigint[], %(payload)s::text[], %(created_at)s::timestamptz[],
    %(available_at)s::timestamptz[], %(expires_at)s::timestamptz[], %(attempts)s::integer[],
    %(unreadable)s::integer[], %(last_error)s::text[], %(reason)s::text[], %(failed_at)s::timestamptz[],
    %(key)s::text[], %(alone)s::boolean[], %(delay)s::float8[], %(has_failed)s::boolean[]
) AS back
    (id, message, payload, created_at, available_at, expires_at, attempts, unreadable, last_error, reason, failed_at,
        key, alone, delay, has_failed)
ON CONFLICT (id) DO NOTHING

-- record_failure --
-- Record a notification's failure after its transaction was rolled back. Without effect if another worker
-- has claimed it since, unless that one only found the claim given up and could not say why. It has undone
-- a whole batch, so it is handled alone from now on.
UPDATE pgpubsub_sql_notification
SET available_at = clock_timestamp() + %(delay)s * interval '1 s', -- NULL without a delay: parked
    attempts = %(attempts)s,
    unreadable = coalesce(%(unreadable)s, unreadable),
    last_error = %(last_error)s,
    reason = %(reason)s,
    failed_at = clock_timestamp(),
    alone = true
WHERE id = %(id)s AND (attempts = %(attempts_before)s
    OR (attempts = %(attempts_before)s + 1 AND last_error = %(died)s))

-- delete_discarded --
-- Delete a notification that its listener discarded, after its transaction was rolled back.
DELETE FROM pgpubsub_sql_notification WHERE id = %(id)s AND (attempts = %(attempts_before)s
    OR (attempts = %(attempts_before)s + 1 AND last_error = %(died)s))

-- isolate --
-- After a batch was rolled back: handle each of its notifications alone, so that whatever failed fails by
-- itself next time. Skip what others have claimed meanwhile.
UPDATE pgpubsub_sql_notification AS notification SET alone = true
FROM (
    SELECT id FROM pgpubsub_sql_notification WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE SKIP LOCKED
) AS free
WHERE notification.id = free.id

-- vacuuming --
-- Whether this role may vacuum the table of messages, whether nothing has a lock that is in the way, and the size with
-- indexes. Where it cannot, VACUUM only warns, in the log of the server, and succeeds. The privilege MAINTAIN came with
-- PostgreSQL 17.
SELECT pg_has_role(relowner, 'USAGE')
    OR EXISTS (SELECT FROM pg_database WHERE datname = current_database() AND pg_has_role(datdba, 'USAGE'))
    OR CASE WHEN current_setting('server_version_num')::integer >= 170000
        THEN has_table_privilege(pg_class.oid, 'MAINTAIN') ELSE false END,
    NOT EXISTS (
        SELECT FROM pg_locks
        WHERE relation = pg_class.oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
    ),
    pg_total_relation_size(pg_class.oid)
FROM pg_class WHERE pg_class.oid = 'pgpubsub_sql_notification'::regclass

-- vacuum --
-- Without waiting for whoever has locked the table. Giving space back to the file system would lock out
-- everybody for a moment; autovacuum does that.
VACUUM (SKIP_LOCKED, TRUNCATE false, PARALLEL 0) pgpubsub_sql_notification
