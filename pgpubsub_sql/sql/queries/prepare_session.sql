-- Let the server notice the death of a worker within a second even while it runs a query for it, and
-- let go of what the worker had in hand; some platforms cannot. And let it end neither a session because
-- nothing is to be done, nor a transaction because a listener takes its time: it would be begun again and
-- again. A channel's timeout is the limit to that. Older servers lack some of these settings.
DO $pgpubsub$
BEGIN
    PERFORM set_config(name, '0', :'local')
    FROM (VALUES ('idle_session_timeout'), ('idle_in_transaction_session_timeout'), ('transaction_timeout')) AS off (name)
    WHERE current_setting(name, true) IS NOT NULL;
    IF current_setting('client_connection_check_interval') = '0' THEN
        PERFORM set_config('client_connection_check_interval', '1s', :'local');
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$pgpubsub$
