-- Wakes the workers of a durable channel. It carries no data: workers then look into the table.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_ring_v1(channel text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
BEGIN
    PERFORM pg_notify(channel, '');
END
$pgpubsub$;
