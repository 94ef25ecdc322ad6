-- Let the server notice the death of a worker within a second even while it runs a query for it, and
-- let go of what the worker had in hand; some platforms cannot. And let it end no transaction because a
-- listener takes its time: it would be begun again and again. A channel's timeout is the limit to that.
DO $pgpubsub$
BEGIN
    PERFORM set_config(name, '0', false) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout');
    IF current_setting('client_connection_check_interval') = '0' THEN
        PERFORM set_config('client_connection_check_interval', '1s', false);
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$pgpubsub$
