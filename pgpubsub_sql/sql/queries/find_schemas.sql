-- Where new objects go, where our tables are, and where a channel's function is: as the search_path has it.
-- A function that serves another table than the one given is another's.
SELECT
    current_schema(),
    (SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = to_regclass('pgpubsub_sql_notification')),
    (SELECT nspname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE proname = %(function)s AND pronargs = 0 AND pg_function_is_visible(pg_proc.oid)
        AND NOT EXISTS (SELECT FROM pg_trigger
            WHERE tgfoid = pg_proc.oid AND tgparentid = 0 AND tgrelid <> to_regclass(%(table)s)))
