-- For notify() on an ephemeral channel: sends a message with its context.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_publish_v1(channel text, payload jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
DECLARE
    context jsonb := :"schema".pgpubsub_context_v1();
BEGIN
    IF context <> '{}' THEN
        payload := jsonb_build_object('$context', context) || payload;
    END IF;
    PERFORM :"schema".pgpubsub_send_v1(channel, payload);
END
$pgpubsub$;
