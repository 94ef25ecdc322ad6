-- Let the server notice the death of a worker within a second even while it runs a query for it, and
-- let go of what the worker had in hand. Some platforms cannot. What is set already is respected.
DO $pgpubsub$
BEGIN
    IF current_setting('client_connection_check_interval') = '0' THEN
        PERFORM set_config('client_connection_check_interval', '1s', false);
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$pgpubsub$
