-- Where this connection works, and whether our migrations have run there.
SELECT current_schema(), to_regclass('pgpubsub_sql_notification') IS NOT NULL
