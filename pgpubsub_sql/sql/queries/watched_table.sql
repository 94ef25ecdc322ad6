-- A watched table by its parts, and the owners of what of it can be given partitions.
SELECT nspname::text, relname::text, array(
    SELECT DISTINCT pg_get_userbyid(member.relowner)::text
    FROM pg_partition_tree(pg_class.oid) AS tree JOIN pg_class AS member ON member.oid = tree.relid
    WHERE member.relkind = 'p' ORDER BY 1
)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass(%(table)s)
