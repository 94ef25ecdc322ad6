-- AFTER DELETE, once a statement: all of its rows are in one transition table.

-- create_delete_trigger --
CREATE OR REPLACE TRIGGER :"trigger"
AFTER DELETE ON :{table}
REFERENCING OLD TABLE AS pgpubsub_old
FOR EACH STATEMENT EXECUTE FUNCTION :"schema".:"function"();

-- delete --
-- Every row, with all of its columns.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'DELETE' THEN
    :{deliver}
END IF;

-- delete_whole_rows --
SELECT to_jsonb(o.*) AS old, NULL::jsonb AS new
FROM pgpubsub_old AS o

-- delete_chosen --
-- The rows and columns that the options choose, or every row, whole, if they no longer fit the table: see insert.sql.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'DELETE' THEN
    BEGIN
        -- An error here would otherwise fail the write.
        :{check_operators}
        PERFORM :{tried} FROM (
            :{rows}
        ) AS changed LIMIT :{tried_rows};
        PERFORM :{tried_columns} FROM pgpubsub_old AS old LIMIT 1;
    EXCEPTION WHEN OTHERS THEN
        stale := true;
    END;
    IF stale THEN
        :{deliver_stale}
    ELSE
        :{deliver}
    END IF;
END IF;

-- delete_rows --
-- The join on false makes new a row of NULLs, for a condition that reads it.
SELECT
    :{old} AS old,
    NULL::jsonb AS new
FROM pgpubsub_old AS old
LEFT JOIN pgpubsub_old AS new ON :{no_new}
WHERE :{condition}
