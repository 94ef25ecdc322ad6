-- Whether a worker can work here: as whom, on a standby or not, read-only or not, and what of our tables
-- row level security keeps from this role as no policy permits it. What a policy permits is its author's will.
SELECT
    current_user,
    pg_is_in_recovery(),
    current_setting('transaction_read_only')::boolean,
    (
        SELECT string_agg(format('%s on %s', needed.command, needed.name), ', ' ORDER BY needed.name DESC, needed.command)
        FROM (VALUES
            ('pgpubsub_sql_notification', 'SELECT', 'r'),
            ('pgpubsub_sql_notification', 'INSERT', 'a'),
            ('pgpubsub_sql_notification', 'UPDATE', 'w'),
            ('pgpubsub_sql_notification', 'DELETE', 'd'),
            ('pgpubsub_sql_longpayload', 'SELECT', 'r'),
            ('pgpubsub_sql_longpayload', 'DELETE', 'd')
        ) AS needed (name, command, code)
        WHERE row_security_active(to_regclass(needed.name)) AND NOT EXISTS (
            SELECT FROM pg_policy AS policy
            CROSS JOIN unnest(policy.polroles) AS permitted (role)
            WHERE policy.polrelid = to_regclass(needed.name) AND policy.polpermissive
                AND policy.polcmd IN ('*', needed.code)
                AND (permitted.role = 0 OR pg_has_role(permitted.role, 'USAGE'))
        )
    )
