-- What the catalogue has of channels, one row a trigger: functions that the search_path leads to, known by their
-- comment or by their name, and the triggers that call them. Those of partitions are part of their parent's.
SELECT
    proname::text, function_namespace.nspname::text, obj_description(pg_proc.oid, 'pg_proc'),
    tgname::text, tgrelid::bigint, table_namespace.nspname::text, relname::text, tgenabled::text,
    obj_description(pg_trigger.oid, 'pg_trigger')
FROM pg_proc
JOIN pg_namespace AS function_namespace ON function_namespace.oid = pronamespace
LEFT JOIN pg_trigger ON tgfoid = pg_proc.oid AND tgparentid = 0
LEFT JOIN pg_class ON pg_class.oid = tgrelid
LEFT JOIN pg_namespace AS table_namespace ON table_namespace.oid = relnamespace
WHERE prorettype = 'trigger'::regtype
    AND pg_function_is_visible(pg_proc.oid)
    AND (starts_with(proname::text, 'pgpubsub_channel_') OR starts_with(obj_description(pg_proc.oid, 'pg_proc'), 'pgpubsub_sql {'))
ORDER BY proname, tgname
