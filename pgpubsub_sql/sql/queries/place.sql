-- Where this connection works, in words: a worker and its command must agree.
SELECT format('schema %s of database %s', coalesce(current_schema()::text, '(none)'), current_database())
