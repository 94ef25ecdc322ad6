-- Where the operators live that a condition on these columns means. A column that is not there, because a
-- migration is on its way back and has yet to restore it, may be of any extension's type.
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
