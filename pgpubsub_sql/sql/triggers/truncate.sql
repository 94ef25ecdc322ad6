-- BEFORE or AFTER TRUNCATE: it has no rows, so it is one message.

-- create_truncate_trigger --
CREATE OR REPLACE TRIGGER :"trigger"
:{timing} ON :{table}
FOR EACH STATEMENT EXECUTE FUNCTION :"schema".:"function"();

-- truncate --
IF TG_OP = 'TRUNCATE' THEN
    :{emptied}
    :{deliver}
END IF;

-- truncate_whole_rows --
SELECT NULL::jsonb AS old, NULL::jsonb AS new

-- emptied --
-- Whoever truncates our table together with a watched one, as flush does, wants no message to be stored. TRUNCATE has
-- then just written the catalogue's rows of both tables (or of partitions) in the same transaction.
IF TG_WHEN = 'AFTER' AND EXISTS (
    SELECT FROM pg_class AS stored, pg_class AS watched
    WHERE stored.relname = 'pgpubsub_sql_notification'
        AND stored.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :'helpers')
        AND watched.relkind = 'r'
        AND (
            watched.oid = TG_RELID
            OR watched.oid IN (SELECT relid FROM pg_partition_tree(TG_RELID))
        )
        AND watched.xmin = stored.xmin
) THEN
    RETURN NULL; -- our table was truncated, too, as by flush
END IF;
