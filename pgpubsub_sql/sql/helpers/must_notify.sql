-- Whether a worker may sleep on a durable channel, so that whoever has stored a message must NOTIFY. The one place
-- that every writer asks, so that how it is decided can change without touching channel functions; see
-- docs/design/doorbell.md. It is inlined: so it names schemas and has no SET. P is the class 1346850896 ("PGPP"), held
-- until the transaction ends; S the class 1346850899 ("PGPS"), tested: lock and unlock are one expression, in which
-- PostgreSQL checks for no interrupt.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_must_notify(channel text) RETURNS boolean
LANGUAGE sql VOLATILE
AS $pgpubsub$
SELECT (
    pg_catalog.pg_try_advisory_xact_lock_shared(1346850896, :"schema".pgpubsub_bucket_v1(channel))
    AND pg_catalog.pg_try_advisory_lock(1346850899, :"schema".pgpubsub_bucket_v1(channel))
    AND pg_catalog.pg_advisory_unlock(1346850899, :"schema".pgpubsub_bucket_v1(channel))
) IS NOT TRUE
$pgpubsub$;
