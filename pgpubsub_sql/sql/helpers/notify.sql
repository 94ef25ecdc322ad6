-- For people who write SQL: stores a message of a durable channel, rings, and returns the message's id.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_notify(channel text, payload jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
BEGIN
    RETURN :"schema".pgpubsub_store_v1(channel, payload, NULL, NULL, NULL);
END
$pgpubsub$;
