-- The history: what is kept of messages that were handled.

-- create_history --
-- A row is a batch, or what of it has the same buckets: 4,096 consecutive numbers, and ids. The parts of messages are
-- in arrays, in the same order; an array is NULL if none of them has that. The table has no managed model, so flush,
-- which would take a while for so many partitions, leaves it alone. Nothing is unique: a sequence that somebody has set
-- back would keep workers from handling anything. Nothing is compressed: see docs/design/0016-history.md.
CREATE TABLE IF NOT EXISTS :"schema".pgpubsub_sql_history (
    slot smallint NOT NULL,
    batch bigint NOT NULL,
    channel varchar(63) NOT NULL,
    subscription varchar(63) NOT NULL,
    bucket bigint NOT NULL,
    id_bucket bigint NOT NULL,
    handled_at timestamptz NOT NULL,
    kept_until timestamptz NOT NULL,
    is_unusual boolean NOT NULL,
    ids bigint[] NOT NULL,
    messages bigint[],
    keys text[],
    payloads jsonb[] NOT NULL,
    created timestamptz[] NOT NULL,
    expires timestamptz[],
    attempts integer[] NOT NULL,
    outcomes text[],
    reasons text[],
    durations real[]
) PARTITION BY LIST (slot);
ALTER TABLE :"schema".pgpubsub_sql_history
    ALTER ids SET STORAGE EXTERNAL,
    ALTER messages SET STORAGE EXTERNAL,
    ALTER keys SET STORAGE EXTERNAL,
    ALTER payloads SET STORAGE EXTERNAL,
    ALTER created SET STORAGE EXTERNAL,
    ALTER expires SET STORAGE EXTERNAL,
    ALTER attempts SET STORAGE EXTERNAL;

-- create_history_indexes --
-- By number, which goes through a channel in order; by time; by id; and by batch, for what its end corrects.
CREATE INDEX IF NOT EXISTS pgpubsub_sql_history_number ON :"schema".pgpubsub_sql_history (channel, bucket);
CREATE INDEX IF NOT EXISTS pgpubsub_sql_history_channel ON :"schema".pgpubsub_sql_history (channel, handled_at);
CREATE INDEX IF NOT EXISTS pgpubsub_sql_history_time ON :"schema".pgpubsub_sql_history (handled_at);
CREATE INDEX IF NOT EXISTS pgpubsub_sql_history_unusual
    ON :"schema".pgpubsub_sql_history (handled_at) WHERE is_unusual;
CREATE INDEX IF NOT EXISTS pgpubsub_sql_history_id ON :"schema".pgpubsub_sql_history (id_bucket);
CREATE INDEX IF NOT EXISTS pgpubsub_sql_history_batch ON :"schema".pgpubsub_sql_history (batch);
CREATE INDEX IF NOT EXISTS pgpubsub_sql_history_kept ON :"schema".pgpubsub_sql_history
    USING brin (kept_until) WITH (autosummarize = on);

-- create_handled --
-- A row for each message. Conditions on the columns of the table are looked up in its indexes: whoever selects by
-- message, id or outcome says bucket, id_bucket or is_unusual besides.
CREATE VIEW :"schema".pgpubsub_sql_handled AS
SELECT
    history.slot, one.id, history.channel, history.subscription, coalesce(one.message, one.id) AS message, one.key,
    one.payload, one.created_at, history.handled_at, history.kept_until,
    coalesce(one.outcome, CASE WHEN one.expires_at <= history.handled_at THEN 'expired' ELSE 'handled' END) AS outcome,
    coalesce(one.reason, '') AS reason, one.attempts, one.duration, one.expires_at,
    history.batch, history.bucket, history.id_bucket, history.is_unusual
FROM :"schema".pgpubsub_sql_history AS history
CROSS JOIN LATERAL unnest(
    history.ids, history.messages, history.keys, history.payloads, history.created, history.expires, history.attempts,
    history.outcomes, history.reasons, history.durations
) AS one (id, message, key, payload, created_at, expires_at, attempts, outcome, reason, duration);

-- create_slots --
-- The partitions, one for each slot, as far as they are missing: only if a channel keeps something, for each takes
-- some room in the catalogue. None has a key, so publications need to be told what identifies a row.
DO $pgpubsub$
DECLARE
    part text;
BEGIN
    FOR slot IN 0 .. :{last} LOOP
        part := format('%I.%I', :'schema', 'pgpubsub_sql_history_' || slot);
        IF to_regclass(part) IS NULL THEN
            EXECUTE format('CREATE TABLE %s PARTITION OF %I.pgpubsub_sql_history FOR VALUES IN (%s)',
                part, :'schema', slot);
            EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', part);
        ELSIF NOT (SELECT relispartition FROM pg_class WHERE oid = part::regclass) THEN
            EXECUTE format('ALTER TABLE %I.pgpubsub_sql_history ATTACH PARTITION %s FOR VALUES IN (%s)',
                :'schema', part, slot);
        END IF;
    END LOOP;
END
$pgpubsub$;

-- drop_handled --
DROP VIEW IF EXISTS :"schema".pgpubsub_sql_handled;

-- drop_history --
DROP TABLE IF EXISTS :"schema".pgpubsub_sql_history;
