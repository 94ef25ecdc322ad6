-- What PostgreSQL's catalogue says of watched tables, of channels and of what they share.

-- installed --
-- What is installed of channels, one row a trigger: functions that the search_path leads to, recognized by
-- the first line of their body or by their name, and the triggers that call them. Triggers that partitions
-- inherit are part of the parent's, which counts as silent if one of them is.
SELECT
    proname::text, function_namespace.nspname::text, function_namespace.nspname = current_schema(),
    pg_get_function_arguments(pg_proc.oid), pg_get_function_result(pg_proc.oid), lanname::text, prosecdef,
    provolatile::text, coalesce(proconfig, '{}'), prosrc,
    has_function_privilege('public', pg_proc.oid, 'EXECUTE'),
    pg_trigger.tgname::text, tgrelid::bigint, table_namespace.nspname::text, relname::text,
    coalesce(
        (
            SELECT min(part.tgenabled::text) FROM pg_trigger AS part
            WHERE part.tgfoid = pg_proc.oid AND part.tgname = pg_trigger.tgname
                AND part.tgparentid <> 0 AND part.tgenabled IN ('D', 'R')
        ),
        pg_trigger.tgenabled::text
    ),
    tgtype::integer, tgoldtable::text, tgnewtable::text,
    tgqual IS NULL AND tgattr = '' AND tgnargs = 0 AND tgconstraint = 0
FROM pg_proc
JOIN pg_namespace AS function_namespace ON function_namespace.oid = pronamespace
JOIN pg_language ON pg_language.oid = prolang
LEFT JOIN pg_trigger ON tgfoid = pg_proc.oid AND tgparentid = 0
LEFT JOIN pg_class ON pg_class.oid = tgrelid
LEFT JOIN pg_namespace AS table_namespace ON table_namespace.oid = relnamespace
WHERE prorettype = 'trigger'::regtype
    AND pg_function_is_visible(pg_proc.oid)
    AND (starts_with(proname::text, 'pgpubsub_channel_') OR starts_with(prosrc, E'\n-- pgpubsub_sql {'))
ORDER BY proname, tgname

-- find_schemas --
-- Where new objects go, where our tables are, and where a channel's function is, according to the
-- search_path. A function that serves another table than the given one is another channel's.
SELECT
    current_schema(),
    (SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = to_regclass('pgpubsub_sql_notification')),
    (SELECT nspname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE proname = %(function)s AND pronargs = 0 AND pg_function_is_visible(pg_proc.oid)
        AND NOT EXISTS (SELECT FROM pg_trigger
            WHERE tgfoid = pg_proc.oid AND tgparentid = 0 AND tgrelid <> to_regclass(%(table)s)))

-- find_table --
-- What decides how a table is watched: partitions, a parent, and its triggers. No row if there is no such
-- table yet.
SELECT
    pg_class.oid::bigint,
    nspname,
    relname,
    relkind::text,
    relkind = 'p' OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = pg_class.oid),
    array(SELECT tgname::text FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal ORDER BY tgname),
    array(SELECT tgtype & 1 = 1 FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal ORDER BY tgname),
    array(SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal ORDER BY tgname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass(%(table)s)

-- find_type_schemas --
-- The schemas with the operators of a condition on these columns. A column that is missing, because a
-- migration on its way back has yet to restore it, may be of any extension's type.
WITH RECURSIVE present AS (
    SELECT attname, atttypid FROM pg_attribute
    WHERE attrelid = to_regclass(%(table)s) AND attname = ANY(%(columns)s::text[]) AND attnum > 0 AND NOT attisdropped
), named (type) AS (
    SELECT atttypid FROM present
    UNION
    SELECT objid FROM pg_depend
    WHERE classid = 'pg_type'::regclass AND deptype = 'e'
        AND (SELECT count(*) FROM present) < cardinality(%(columns)s::text[])
    UNION
    SELECT part FROM named JOIN pg_type ON pg_type.oid = type
    CROSS JOIN LATERAL (VALUES (typelem), (typbasetype)) AS parts (part) WHERE part <> 0
)
SELECT DISTINCT nspname::text FROM named
JOIN pg_type ON pg_type.oid = type JOIN pg_namespace ON pg_namespace.oid = typnamespace
WHERE nspname <> 'pg_catalog' ORDER BY nspname::text

-- virtual_columns --
-- Columns that PostgreSQL computes when they are read: in triggers they are NULL, or an internal error.
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attname = ANY(%(columns)s::text[]) AND attgenerated = 'v'
ORDER BY attname::text

-- column_kinds --
-- The category and the name of the columns' types; of a domain or an array, those of the underlying type.
WITH RECURSIVE named (attname, type, is_array) AS (
    SELECT attname, atttypid, false FROM pg_attribute
    WHERE attrelid = to_regclass(%(table)s) AND attname = ANY(%(columns)s::text[]) AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, CASE WHEN typbasetype <> 0 THEN typbasetype ELSE typelem END, is_array OR typbasetype = 0
    FROM named JOIN pg_type ON pg_type.oid = type WHERE typbasetype <> 0 OR typcategory = 'A' AND typelem <> 0
)
SELECT
    attname::text, typcategory::text, typname::text, is_array,
    (SELECT enumlabel::text FROM pg_enum WHERE enumtypid = type ORDER BY enumsortorder LIMIT 1)
FROM named JOIN pg_type ON pg_type.oid = type
WHERE typbasetype = 0 AND (typcategory <> 'A' OR typelem = 0)

-- replicated --
-- Triggers that call these functions, on tables that a subscription fills: channel function, table, trigger,
-- whether the apply worker, which fires triggers for rows and TRUNCATE only, could fire it, and whether it is
-- enabled for that.
SELECT
    proname::text, srrelid::regclass::text, quote_ident(tgname), tgtype & 1 = 1 OR tgtype & 32 = 32, tgenabled IN ('A', 'R')
FROM pg_subscription_rel
JOIN pg_trigger ON tgrelid = srrelid
JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE proname = ANY (%(functions)s::text[]) AND pg_function_is_visible(pg_proc.oid) AND tgenabled <> 'D'
ORDER BY proname, srrelid::regclass::text, tgname

-- our_objects --
-- What a schema has of our tables, their indexes, and our functions, each as a JSON array of rows; whether every role may
-- read the table of the secret; how many partitions the history has; and the columns of its view. A missing table has no
-- columns, a missing function only NULLs.
SELECT
    (
        SELECT json_agg(json_build_array(
            relname, relpersistence = 'p', attname, attnum, format_type(atttypid, atttypmod),
            attnotnull, attidentity <> '', pg_get_expr(adbin, adrelid)
        ) ORDER BY relname, attnum)::text
        FROM pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE nspname = %(schema)s AND relname = ANY (%(tables)s::text[]) AND relkind IN ('r', 'p')
    ),
    (
        SELECT json_agg(json_build_array(
            tables.relname, indexes.relname, indisprimary,
            regexp_replace(pg_get_indexdef(indexrelid), '^.*? (USING )', '\1'), indisvalid
        ))::text
        FROM pg_index
        JOIN pg_class AS tables ON tables.oid = indrelid
        JOIN pg_class AS indexes ON indexes.oid = indexrelid
        JOIN pg_namespace ON pg_namespace.oid = tables.relnamespace
        WHERE nspname = %(schema)s AND tables.relname = ANY (%(tables)s::text[])
    ),
    (
        SELECT json_agg(json_build_array(
            pg_get_function_arguments(pg_proc.oid), pg_get_function_result(pg_proc.oid), lanname, prosecdef,
            provolatile, coalesce(proconfig, '{}'), prosrc, has_function_privilege('public', pg_proc.oid, 'EXECUTE')
        ) ORDER BY position)::text
        FROM unnest(%(signatures)s::text[]) WITH ORDINALITY AS wanted (signature, position)
        LEFT JOIN pg_proc ON pg_proc.oid = to_regprocedure(quote_ident(%(schema)s) || '.' || signature)
        LEFT JOIN pg_language ON pg_language.oid = prolang
    ),
    coalesce(
        has_table_privilege('public', to_regclass(quote_ident(%(schema)s) || '.pgpubsub_sql_secret'), 'SELECT'),
        false
    ),
    (
        SELECT count(*)::integer FROM pg_inherits
        WHERE inhparent = to_regclass(quote_ident(%(schema)s) || '.pgpubsub_sql_history') AND NOT inhdetachpending
    ),
    (
        SELECT array_agg(attname::text ORDER BY attnum)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        WHERE pg_class.oid = to_regclass(quote_ident(%(schema)s) || '.pgpubsub_sql_handled') AND relkind = 'v'
    )

-- renamed_table --
-- The present name of a table of ours that was renamed: its indexes have kept their names.
SELECT tables.relname::text
FROM pg_class AS indexes
JOIN pg_namespace ON pg_namespace.oid = indexes.relnamespace
JOIN pg_index ON indexrelid = indexes.oid
JOIN pg_class AS tables ON tables.oid = indrelid
WHERE nspname = %(schema)s AND indexes.relname = ANY (%(indexes)s::text[])
LIMIT 1
