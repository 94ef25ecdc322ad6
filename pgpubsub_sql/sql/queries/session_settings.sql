-- What a listener may change for those who come after it on this connection, as it is now, in the order in which
-- it can be put back: who one is decides what one may set. (The first four are not in pg_settings.)
SELECT name, coalesce(current_setting(name, true), '')
FROM unnest(ARRAY[
    'session_authorization', 'role', 'pgpubsub.notification_context', 'pgpubsub.ignore',
    'search_path', 'client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone',
    'row_security', 'session_replication_role',
    'default_transaction_isolation', 'default_transaction_read_only',
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'
]) WITH ORDINALITY AS known (name, position)
LEFT JOIN pg_settings USING (name)
CROSS JOIN (SELECT rolsuper AS is_super FROM pg_roles WHERE rolname = session_user) AS login
WHERE CASE
    WHEN name = 'session_authorization' THEN is_super
    WHEN position <= 4 THEN true
    ELSE context = 'user' OR is_super
END
ORDER BY position
