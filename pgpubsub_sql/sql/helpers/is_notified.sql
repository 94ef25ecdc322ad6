-- Which channels notify: written by `migrate` and `pgpubsub install`, from what is declared then.

-- is_notified --
-- Whether writers notify workers of the messages of a durable channel; if not, workers poll. It is inlined; so it
-- names schemas and has no SET. It names none of ours, because it is also called after its schema was renamed.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_is_notified(channel text) RETURNS boolean
LANGUAGE sql STABLE
AS $pgpubsub$
SELECT :{decision}
$pgpubsub$;

-- all_but --
channel OPERATOR(pg_catalog.<>) ALL (ARRAY[:{names}]::pg_catalog.text[])

-- only --
channel OPERATOR(pg_catalog.=) ANY (ARRAY[:{names}]::pg_catalog.text[])
