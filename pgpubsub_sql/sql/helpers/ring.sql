-- Channel functions ring through this one only, so that the way to ring can change without changing them.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_ring(channel text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
BEGIN
    PERFORM :"schema".pgpubsub_ring_v1(channel);
END
$pgpubsub$;
