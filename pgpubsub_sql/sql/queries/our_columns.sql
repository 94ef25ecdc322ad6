-- The columns of some tables of a schema, and whether the tables are logged. A table that is not there has none.
SELECT
    relname::text, relpersistence = 'p', attname::text, attnum::integer, format_type(atttypid, atttypmod),
    attnotnull, attidentity <> '', pg_get_expr(adbin, adrelid)
FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE nspname = %(schema)s AND relname = ANY (%(tables)s::text[]) AND relkind IN ('r', 'p')
ORDER BY relname, attnum
