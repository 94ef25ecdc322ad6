-- What django-pgpubsub 1.3 has left in a database, and how its stored notifications move, here and back.

-- old_table --
-- Whether its table is there, and whether this role may read it.
SELECT found IS NOT NULL, coalesce(has_table_privilege(found, 'SELECT'), false)
FROM to_regclass('pgpubsub_notification') AS found

-- old_stored --
-- How many notifications it has stored under each name, and the oldest of them.
SELECT channel, count(*), min(created_at) FROM pgpubsub_notification GROUP BY channel ORDER BY channel

-- old_triggers --
-- Its triggers on tables that the search_path leads to: channel, trigger, table, and whether they store. The trigger
-- of its own table is left out.
SELECT
    coalesce(substring(prosrc FROM 'pg_notify\(''([^'']*)'''), proname::text), tgname::text,
    tgrelid::regclass::text, prosrc ~ 'INSERT INTO pgpubsub_notification'
FROM pg_trigger
JOIN pg_proc ON pg_proc.oid = tgfoid
JOIN pg_class ON pg_class.oid = tgrelid
WHERE :{is_old} AND tgparentid = 0 AND pg_table_is_visible(tgrelid) AND relname <> 'pgpubsub_notification'
ORDER BY 1, 2

-- old_functions --
-- Its trigger functions that no trigger calls, nor that of its own table, which is dropped before them.
SELECT nspname::text, proname::text
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE (:{is_old} OR starts_with(proname::text, 'pgtrigger_pgpubsub_notification_set_db_version_'))
    AND pg_function_is_visible(pg_proc.oid)
    AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = pg_proc.oid)
ORDER BY proname

-- is_old --
-- Whether pg_proc has a function that django-pgtrigger has made for django-pgpubsub.
starts_with(proname::text, 'pgtrigger_') AND prorettype = 'trigger'::regtype
    AND (prosrc ~ 'INSERT INTO pgpubsub_notification' OR prosrc ~ 'pg_notify\(''pgpubsub_' OR prosrc ~ 'notification_context_text')

-- lock_old_table --
-- Keep everybody else from the table until the transaction ends.
LOCK TABLE pgpubsub_notification IN ACCESS EXCLUSIVE MODE

-- drop_old_table --
-- The table, once it is empty; its trigger and its sequence go with it.
DROP TABLE pgpubsub_notification

-- lock_timeout --
-- How long to wait for a lock in this transaction.
SELECT set_config('lock_timeout', %(timeout)s, true)

-- backend --
-- The process id of this session.
SELECT pg_backend_pid()

-- old_sessions --
-- Sessions that use the table or wait for it, and those whose last query listened, or named it as Django does.
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
    query ~ '^LISTEN pgpubsub_[0-9a-f]{5};$' OR query ~ '"pgpubsub_notification"'
    OR pid IN (SELECT pid FROM pg_locks WHERE relation = to_regclass('pgpubsub_notification'))
)
ORDER BY pid

-- adopt --
-- Move the oldest notifications of one old name, skipping what is in flight in one of its workers, for each subscription.
-- They keep their order and their times: old ids are integers, so these are negative, and come before every id of ours.
-- A further copy of each has an id that is smaller by 2^32. What it stored as
-- a JSON string is parsed; as_text keeps the string where that fails. The result is the number of those moved.
WITH picked AS MATERIALIZED (
    SELECT id AS picked_id FROM pgpubsub_notification WHERE channel = %(old)s::text
    ORDER BY id LIMIT %(limit)s::bigint FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM pgpubsub_notification USING picked WHERE id = picked_id RETURNING id, payload, created_at
), parsed AS (
    SELECT
        id::bigint - 2147483648 AS id, coalesce(created_at, 'epoch') AS sent_at,
        CASE
            WHEN jsonb_typeof(payload) <> 'string' THEN payload
            WHEN %(as_text)s::boolean THEN jsonb_build_object('$raw', payload #>> '{}')
            ELSE (payload #>> '{}')::jsonb
        END AS body
    FROM gone
), message AS (
    SELECT id, sent_at, CASE
        WHEN jsonb_typeof(body) <> 'object' THEN jsonb_build_object('$raw', body::text)
        WHEN body ? '$raw' THEN body
        WHEN %(has_rows)s::boolean THEN body || jsonb_build_object('op', op, 'when', coalesce(%(timings)s::jsonb ->> op, 'AFTER'))
        WHEN jsonb_typeof(body -> 'kwargs') = 'object' THEN body -> 'kwargs'
        ELSE body
    END AS payload
    FROM parsed CROSS JOIN LATERAL (
        SELECT CASE
            WHEN coalesce(body -> 'old', 'null') = 'null' THEN 'INSERT'
            WHEN coalesce(body -> 'new', 'null') = 'null' THEN 'DELETE'
            ELSE 'UPDATE'
        END AS op
    ) AS inferred
), stored AS (
    INSERT INTO pgpubsub_sql_notification (
        id, channel, subscription, message, payload, created_at, available_at, key, reason, last_error, failed_at
    )
    SELECT
        id - (place - 1) * 4294967296, %(new)s::text, name, id, payload, sent_at, CASE WHEN %(reason)s::text = '' THEN sent_at END,
        pgpubsub_key_v1((
            SELECT jsonb_agg(coalesce(CASE
                WHEN NOT %(has_rows)s::boolean THEN payload
                WHEN coalesce(payload -> 'new', 'null') = 'null' THEN payload -> 'old'
                ELSE payload -> 'new'
            END -> field, 'null') ORDER BY position)
            FROM unnest(%(key)s::text[]) WITH ORDINALITY AS ordering (field, position)
        )),
        %(reason)s::text, %(error)s::text, CASE WHEN %(reason)s::text <> '' THEN clock_timestamp() END
    FROM message CROSS JOIN unnest(coalesce(
        (SELECT array_agg(name::text) FROM pgpubsub_sql_subscription WHERE channel = %(new)s::text), '{""}'
    )) WITH ORDINALITY AS copy (name, place)
    WHERE NOT %(discard)s::boolean
)
SELECT count(*) FROM gone

-- count_stored --
-- How many messages of these channels are stored here.
SELECT channel, count(*) FROM pgpubsub_sql_notification WHERE channel = ANY (%(channels)s::text[]) GROUP BY channel ORDER BY channel

-- pick_to_give_back --
-- The oldest messages of a channel that are in flight in no worker, each with its old id or a new one of the old table, and
-- with the time that it was sent.
SELECT id, CASE
    WHEN id BETWEEN -2147483648 AND -1 THEN id + 2147483648  -- below are copies for further subscriptions
    ELSE nextval(pg_get_serial_sequence('pgpubsub_notification', 'id'))
END, created_at::text
FROM (
    SELECT id, created_at FROM pgpubsub_sql_notification WHERE channel = %(channel)s::text AND (reason = %(reason)s::text) = %(unheard)s::boolean
    ORDER BY id LIMIT %(limit)s::bigint FOR UPDATE SKIP LOCKED
) AS picked
ORDER BY id

-- give_back --
-- Move these messages to the old table, in the form that its workers read. Messages that were never handled there go
-- back as they were: under the other name, as a JSON string.
WITH gone AS (
    DELETE FROM pgpubsub_sql_notification
    USING unnest(%(ids)s::bigint[], %(old_ids)s::bigint[]) AS picked (picked_id, old_id)
    WHERE id = picked_id RETURNING old_id, payload
), message AS (
    SELECT old_id, CASE
        WHEN payload ? '$raw' THEN payload -> '$raw'
        WHEN %(has_rows)s::boolean THEN (payload - ARRAY['op', 'when', '$stale']) || jsonb_build_object('app', %(app)s::text, 'model', %(model)s::text)
        ELSE jsonb_build_object('kwargs', payload - '$context')
    END AS payload
    FROM gone
)
INSERT INTO pgpubsub_notification (id, channel, payload)
SELECT old_id, %(old)s::text, CASE
    WHEN %(unheard)s::boolean AND jsonb_typeof(payload) <> 'string' THEN to_jsonb(payload::text) ELSE payload
END
FROM message

-- restore_times --
-- Its trigger has just set them to now, and its workers go by them.
UPDATE pgpubsub_notification SET created_at = sent_at
FROM unnest(%(old_ids)s::bigint[], %(times)s::timestamptz[]) AS sent (old_id, sent_at) WHERE id = old_id
