-- Takes of each of some locked keys what comes first, up to what is not ready, not wanted, in other hands,
-- changed meanwhile, or to be alone where these are not (or not, where this is). Where some were given up by
-- whoever took them before, it takes none, and returns those, without their payloads. A statement of its
-- own: one that locked keys as well would not see what was put back meanwhile.
WITH run AS MATERIALIZED (
    SELECT first.* FROM unnest(%(keys)s::text[]) AS chosen (key)
    CROSS JOIN LATERAL (
        SELECT id, key, ctid AS place,
            available_at <= statement_timestamp() AND alone = %(alone)s AND (:{filter}) AS is_wanted
        FROM pgpubsub_sql_notification
        WHERE channel = %(channel)s AND key = chosen.key AND available_at IS NOT NULL
        ORDER BY id LIMIT %(limit)s
    ) AS first
), free AS MATERIALIZED (
    SELECT ctid AS place, xmax AS mark FROM pgpubsub_sql_notification
    WHERE ctid = ANY (ARRAY(SELECT place FROM run WHERE is_wanted))
    FOR UPDATE SKIP LOCKED
), locked AS MATERIALIZED (
    SELECT judged.place, mark FROM (
        -- By place: what was changed since this statement began has another one now.
        SELECT free.place, mark, bool_and(free.place IS NOT NULL) OVER (PARTITION BY run.key ORDER BY run.id) AS is_next
        FROM run LEFT JOIN free ON free.place = run.place
    ) AS judged
    WHERE is_next
), given_up AS MATERIALIZED (
    SELECT place FROM locked WHERE :{given_up}
), taken AS (
    DELETE FROM pgpubsub_sql_notification
    WHERE ctid = ANY (ARRAY(SELECT place FROM locked WHERE NOT EXISTS (SELECT FROM given_up)))
    RETURNING *
)
(
    SELECT id, channel, payload::text, created_at::text, available_at::text, expires_at::text, attempts, unreadable,
        last_error, key, alone, coalesce(expires_at <= statement_timestamp(), false), pg_current_xact_id()::text
    FROM taken ORDER BY id
)
UNION ALL
SELECT id, channel, NULL, created_at::text, available_at::text, expires_at::text, attempts, unreadable,
    last_error, key, alone, false, pg_current_xact_id()::text
FROM pgpubsub_sql_notification WHERE ctid = ANY (ARRAY(SELECT place FROM given_up))
