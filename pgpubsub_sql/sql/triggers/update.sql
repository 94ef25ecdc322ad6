-- AFTER UPDATE, once a statement: its rows are in two transition tables. PostgreSQL fills both in the same order,
-- whatever the statement is, so the first old row became the first new one. If their numbers differ, the positions of
-- the old rows are made negative, so that no rows are paired and all of them are sent.

-- create_update_trigger --
CREATE OR REPLACE TRIGGER :"trigger"
AFTER UPDATE ON :{table}
REFERENCING OLD TABLE AS pgpubsub_old NEW TABLE AS pgpubsub_new
FOR EACH STATEMENT EXECUTE FUNCTION :"schema".:"function"();

-- update --
-- Every row, with all of its columns.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'UPDATE' THEN
    IF (SELECT count(*) FROM pgpubsub_old) <> (SELECT count(*) FROM pgpubsub_new) THEN
        pairing := -1; -- so that no rows are paired
    END IF;
    :{deliver}
END IF;

-- update_whole_rows --
SELECT before.old, after.new
FROM (
    SELECT
        row_number() OVER () * channel_function.pairing AS position,
        to_jsonb(o.*) AS old
    FROM pgpubsub_old AS o
) AS before
FULL JOIN (
    SELECT
        row_number() OVER () AS position,
        to_jsonb(n.*) AS new
    FROM pgpubsub_new AS n
) AS after ON before.position = after.position
ORDER BY abs(coalesce(before.position, after.position))

-- update_chosen --
-- The rows and columns that the options choose, or every row, whole, if they no longer fit the table: see insert.sql.
-- No row's columns are read on trial: rows that are numbered come from a subquery, where a column that has become
-- virtual is NULL and does not fail.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'UPDATE' THEN
    IF (SELECT count(*) FROM pgpubsub_old) <> (SELECT count(*) FROM pgpubsub_new) THEN
        pairing := -1; -- so that no rows are paired
    END IF;
    BEGIN
        -- An error here would otherwise fail the write.
        :{check_operators}
        PERFORM :{tried} FROM (
            :{rows}
        ) AS changed LIMIT :{tried_rows};
    EXCEPTION WHEN OTHERS THEN
        stale := true;
    END;
    IF stale THEN
        :{deliver_stale}
    ELSE
        :{deliver}
    END IF;
END IF;

-- update_rows --
-- Rows that are not paired count as changed.
SELECT
    CASE WHEN old.pgpubsub_position IS NOT NULL THEN
        :{old}
    END AS old,
    CASE WHEN new.pgpubsub_position IS NOT NULL THEN
        :{new}
    END AS new
FROM (
    SELECT row_number() OVER () * channel_function.pairing AS pgpubsub_position, o.*
    FROM pgpubsub_old AS o
) AS old
FULL JOIN (
    SELECT row_number() OVER () AS pgpubsub_position, n.*
    FROM pgpubsub_new AS n
) AS new ON old.pgpubsub_position = new.pgpubsub_position
WHERE
    (
        old.pgpubsub_position IS NULL OR new.pgpubsub_position IS NULL
        OR :{changed}
    )
    AND :{condition}
ORDER BY abs(coalesce(old.pgpubsub_position, new.pgpubsub_position))
