-- The table of messages that were handled: the history of channels that keep theirs.

-- create_handled --
-- It has no managed model, so flush, which would take a while for so many partitions, leaves it alone. Ids are not
-- unique: a sequence that somebody has set back would keep workers from handling anything.
CREATE TABLE IF NOT EXISTS :"schema".pgpubsub_sql_handled (
    slot smallint NOT NULL,
    id bigint NOT NULL,
    channel varchar(63) NOT NULL,
    subscription varchar(63) NOT NULL,
    message bigint NOT NULL,
    key text,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    handled_at timestamptz NOT NULL,
    kept_until timestamptz NOT NULL,
    outcome varchar(10) NOT NULL,
    reason text NOT NULL DEFAULT '',
    attempts integer NOT NULL,
    duration real,
    expires_at timestamptz
) PARTITION BY LIST (slot);

-- create_handled_indexes --
-- One B-tree, by number, for whoever goes through a channel in order, and for the corrections of a batch: a second one
-- would cost too much. By id and by time at hardly any cost; a message that was tried again has an id out of the order of
-- time, which must not spoil its range of pages.
CREATE INDEX IF NOT EXISTS pgpubsub_sql_handled_number ON :"schema".pgpubsub_sql_handled (channel, message);
CREATE INDEX IF NOT EXISTS pgpubsub_sql_handled_unusual
    ON :"schema".pgpubsub_sql_handled (handled_at) WHERE outcome <> 'handled';
CREATE INDEX IF NOT EXISTS pgpubsub_sql_handled_time ON :"schema".pgpubsub_sql_handled
    USING brin (id int8_minmax_multi_ops, handled_at, kept_until) WITH (autosummarize = on);

-- create_slots --
-- The partitions, one for each slot, as far as they are missing: only if a channel keeps something, for each takes
-- some room in the catalogue. None has a key, so publications need to be told what identifies a row.
DO $pgpubsub$
DECLARE
    part text;
BEGIN
    FOR slot IN 0 .. :{last} LOOP
        part := format('%I.%I', :'schema', 'pgpubsub_sql_handled_' || slot);
        IF to_regclass(part) IS NULL THEN
            EXECUTE format('CREATE TABLE %s PARTITION OF %I.pgpubsub_sql_handled FOR VALUES IN (%s)',
                part, :'schema', slot);
            EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', part);
        ELSIF NOT (SELECT relispartition FROM pg_class WHERE oid = part::regclass) THEN
            EXECUTE format('ALTER TABLE %I.pgpubsub_sql_handled ATTACH PARTITION %s FOR VALUES IN (%s)',
                :'schema', part, slot);
        END IF;
    END LOOP;
END
$pgpubsub$;

-- drop_handled --
DROP TABLE IF EXISTS :"schema".pgpubsub_sql_handled;
