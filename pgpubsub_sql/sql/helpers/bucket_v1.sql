-- The bucket of a channel's advisory locks, out of 64: so no transaction takes more, however many channels it
-- writes to. It is inlined, and computed once where the channel is a constant.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_bucket_v1(channel text) RETURNS integer
LANGUAGE sql STABLE
AS $pgpubsub$
SELECT pg_catalog.hashtext(:'"schema".pgpubsub_bucket_v1' OPERATOR(pg_catalog.||) channel) OPERATOR(pg_catalog.&) 63
$pgpubsub$;
