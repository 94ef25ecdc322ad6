-- AFTER INSERT, once a statement: all of its rows are in one transition table.

-- create_insert_trigger --
CREATE OR REPLACE TRIGGER :"trigger"
AFTER INSERT ON :{table}
REFERENCING NEW TABLE AS pgpubsub_new
FOR EACH STATEMENT EXECUTE FUNCTION :"schema".:"function"();

-- insert --
-- Every row, with all of its columns.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'INSERT' THEN
    :{deliver}
END IF;

-- insert_whole_rows --
SELECT NULL::jsonb AS old, to_jsonb(n.*) AS new
FROM pgpubsub_new AS n

-- insert_chosen --
-- The rows and columns that the options choose. The options name columns that may have been renamed, dropped or
-- retyped since, so everything that reads is tried first, and if it fails, every row is sent whole. Writes are not
-- tried: in such a block each would take one more transaction id.
-- The query is run if there is a condition, which may fail for some values only: count(*) … LIMIT ALL. Otherwise it is
-- only planned: 1 … LIMIT 0. One row's columns are read, because a column that has become virtual fails only then.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'INSERT' THEN
    BEGIN
        -- An error here would otherwise fail the write.
        :{check_operators}
        PERFORM :{tried} FROM (
            :{rows}
        ) AS changed LIMIT :{tried_rows};
        PERFORM :{tried_columns} FROM pgpubsub_new AS new LIMIT 1;
    EXCEPTION WHEN OTHERS THEN
        stale := true;
    END;
    IF stale THEN
        :{deliver_stale}
    ELSE
        :{deliver}
    END IF;
END IF;

-- insert_rows --
-- The join on false makes old a row of NULLs, for a condition that reads it.
SELECT
    NULL::jsonb AS old,
    :{new} AS new
FROM pgpubsub_new AS new
LEFT JOIN pgpubsub_new AS old ON :{no_old}
WHERE :{condition}
