-- Once a row: in BEFORE triggers, which have no transition tables; on partitioned tables and partitions; and if the
-- channel's level is "row".

-- create_row_trigger --
CREATE OR REPLACE TRIGGER :"trigger"
:{timing} ON :{table}
FOR EACH ROW EXECUTE FUNCTION :"schema".:"function"();

-- row --
-- The row, with all of its columns. OLD is NULL in an INSERT, NEW in a DELETE.
IF TG_LEVEL = 'ROW' THEN
    :{deliver}
END IF;

-- row_whole_rows --
SELECT to_jsonb(OLD) AS old, to_jsonb(NEW) AS new

-- row_chosen --
-- The row, if the options choose it, with the columns that they choose; or the row, whole, if they no longer fit the
-- table: see insert.sql. A plan that the session made before a column was retyped fails for ever, so EXECUTE, which
-- plans anew, tries again.
IF TG_LEVEL = 'ROW' THEN
    BEGIN
        -- An error here would otherwise fail the write.
        stale := NOT (:{types_visible});
        SELECT changed.old, changed.new INTO picked
        FROM (
            :{rows}
        ) AS changed;
    EXCEPTION WHEN OTHERS THEN
        BEGIN
            -- Again, without a plan that was made before a column was retyped.
            :{check_operators_again}
            EXECUTE
                :'rows_again'
                INTO picked USING OLD, NEW, TG_OP;
        EXCEPTION WHEN OTHERS THEN
            stale := true;
        END;
    END;
    IF stale THEN
        :{deliver_stale}
    ELSE
        :{deliver}
    END IF;
END IF;

-- row_picked --
SELECT picked.old, picked.new
WHERE coalesce(picked.old, picked.new) IS NOT NULL

-- row_rows --
SELECT
    CASE WHEN TG_OP <> 'INSERT' THEN
        :{old}
    END AS old,
    CASE WHEN TG_OP <> 'DELETE' THEN
        :{new}
    END AS new
:{source}
WHERE
    (
        TG_OP <> 'UPDATE'
        OR :{changed}
    )
    AND :{condition}

-- check_operators_again --
EXECUTE
    :'query'
    INTO stale USING OLD, NEW, TG_OP;

-- operators_query --
SELECT NOT (:{types_visible})
:{source}

-- executed --
-- The parameters of EXECUTE, named like the function's variables that are used otherwise.
FROM (SELECT ($1).*) AS old, (SELECT ($2).*) AS new, (SELECT $3 AS TG_OP) AS called
