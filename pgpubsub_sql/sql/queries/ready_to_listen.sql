-- Where this connection works, whether our migrations have run there, and as whom; and what would open a schema
-- that has our tables, if there is one that is closed to this role: the search_path passes it by.
SELECT current_schema(), to_regclass('pgpubsub_sql_notification') IS NOT NULL, current_user, (
    SELECT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, current_user)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'pgpubsub_sql_notification' AND NOT has_schema_privilege(pg_namespace.oid, 'USAGE')
    ORDER BY nspname LIMIT 1
)
