-- Columns that PostgreSQL computes when they are read: to triggers they are NULL, or an internal error.
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attname = ANY(%(columns)s::text[]) AND attgenerated = 'v'
ORDER BY attname::text
