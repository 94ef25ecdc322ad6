-- Whether every role may read what messages are signed with. False where there is no such table.
SELECT coalesce(has_table_privilege('public', to_regclass(quote_ident(%(schema)s) || '.pgpubsub_sql_secret'), 'SELECT'), false)
