-- The one place channel functions ring through, so that how it is done can change without touching them.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_ring(channel text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
BEGIN
    PERFORM :"schema".pgpubsub_ring_v1(channel);
END
$pgpubsub$;
