-- Of what kind the columns are: the category and name of their type, of a domain's and an array's that beneath it.
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
