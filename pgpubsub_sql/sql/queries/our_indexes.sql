-- The indexes of some tables of a schema: what each is on, after the name of its table, and whether it is complete.
SELECT
    tables.relname::text, indexes.relname::text, indisprimary,
    regexp_replace(pg_get_indexdef(indexrelid), '^.*? (USING )', '\1'), indisvalid
FROM pg_index
JOIN pg_class AS tables ON tables.oid = indrelid
JOIN pg_class AS indexes ON indexes.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = tables.relnamespace
WHERE nspname = %(schema)s AND tables.relname = ANY (%(tables)s::text[])
