-- What a table of ours is called now: its index has kept its name.
SELECT tables.relname::text
FROM pg_class AS indexes
JOIN pg_namespace ON pg_namespace.oid = indexes.relnamespace
JOIN pg_index ON indexrelid = indexes.oid
JOIN pg_class AS tables ON tables.oid = indrelid
WHERE nspname = %(schema)s AND indexes.relname = ANY (%(indexes)s::text[])
LIMIT 1
