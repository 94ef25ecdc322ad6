-- What decides how a table is watched: partitions, a parent, and the triggers it has. No row where there is no such
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
