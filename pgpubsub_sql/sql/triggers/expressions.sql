-- What the options of a channel say, as expressions over the rows "old" and "new". Without watch, "changed" is true;
-- without a condition, so is the condition.

-- column --
:"row".:"column"

-- all_columns --
-- The star keeps it from being a column of that name.
to_jsonb(:"row".*)

-- all_columns_paired --
-- Without the column by which old and new rows were paired.
to_jsonb(:"row".*) - 'pgpubsub_position'

-- some_columns --
-- The fastest of all ways to write this.
(SELECT to_jsonb(chosen.*) FROM (SELECT :{columns}) AS chosen)

-- changed --
-- Compares what is stored, so columns of any type will do.
ROW(:{old})::record OPERATOR(pg_catalog.*<>) ROW(:{new})::record

-- condition --
(:{condition})

-- check_operators --
-- Whether the condition still has its operators. If that of citext, for example, is not found, that of text takes its
-- place, and the condition has another meaning. The join on false is one row of NULLs, and reads no row of the table.
stale := NOT (
    SELECT :{types_visible}
    FROM (SELECT) AS one
    LEFT JOIN :"table" AS changed ON false
);

-- type_visible --
-- Whether the search_path leads to a column's type, or a domain's underlying one, and so to its operators.
-- coalesce() with NULL makes a domain its underlying type.
pg_type_is_visible(pg_typeof(coalesce(:"row".:"column", NULL)))
