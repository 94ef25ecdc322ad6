-- Constraints that can be deferred and, of themselves, are not. Those of partitions follow their parent's.
SELECT DISTINCT nspname::text, conname::text
FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace
WHERE condeferrable AND NOT condeferred AND conparentid = 0
    AND NOT starts_with(nspname, 'pg_temp') AND has_schema_privilege(pg_namespace.oid, 'USAGE')
ORDER BY nspname::text, conname::text
