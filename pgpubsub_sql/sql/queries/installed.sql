-- What the catalogue has of channels, one row a trigger: functions that the search_path leads to, known by the first
-- line of their body or by their name, and the triggers that call them. Those that partitions have from their parent
-- are part of the parent's, which counts as silent if one of them is.
SELECT
    proname::text, function_namespace.nspname::text, function_namespace.nspname = current_schema(),
    pg_get_function_arguments(pg_proc.oid), pg_get_function_result(pg_proc.oid), lanname::text, prosecdef,
    provolatile::text, coalesce(proconfig, '{}'), prosrc,
    has_function_privilege('public', pg_proc.oid, 'EXECUTE'),
    pg_trigger.tgname::text, tgrelid::bigint, table_namespace.nspname::text, relname::text,
    coalesce(
        (
            SELECT min(part.tgenabled::text) FROM pg_trigger AS part
            WHERE part.tgfoid = pg_proc.oid AND part.tgname = pg_trigger.tgname
                AND part.tgparentid <> 0 AND part.tgenabled IN ('D', 'R')
        ),
        pg_trigger.tgenabled::text
    ),
    tgtype::integer, tgoldtable::text, tgnewtable::text,
    tgqual IS NULL AND tgattr = '' AND tgnargs = 0 AND tgconstraint = 0
FROM pg_proc
JOIN pg_namespace AS function_namespace ON function_namespace.oid = pronamespace
JOIN pg_language ON pg_language.oid = prolang
LEFT JOIN pg_trigger ON tgfoid = pg_proc.oid AND tgparentid = 0
LEFT JOIN pg_class ON pg_class.oid = tgrelid
LEFT JOIN pg_namespace AS table_namespace ON table_namespace.oid = relnamespace
WHERE prorettype = 'trigger'::regtype
    AND pg_function_is_visible(pg_proc.oid)
    AND (starts_with(proname::text, 'pgpubsub_channel_') OR starts_with(prosrc, E'\n-- pgpubsub_sql {'))
ORDER BY proname, tgname
