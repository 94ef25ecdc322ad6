-- Whether a worker may be asleep on a durable channel, in which case whoever has stored a message must NOTIFY. All
-- channel functions ask it, unless their schema was renamed, so that the decision can change without touching them; see
-- docs/design/doorbell.md. It is inlined: so it names schemas and has no SET. Lock P has the first key 1346850896 ("PGPP"), and is held until the
-- transaction ends. Lock S has 1346850899 ("PGPS"), and is only tested: lock and unlock are in one expression, in
-- which PostgreSQL checks for no interrupt. Neither is touched for a channel that is polled.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_must_notify(channel text) RETURNS boolean
LANGUAGE sql VOLATILE
AS $pgpubsub$
SELECT CASE WHEN :"schema".pgpubsub_is_notified(channel) THEN (
    pg_catalog.pg_try_advisory_xact_lock_shared(1346850896, :"schema".pgpubsub_bucket_v1(channel))
    AND pg_catalog.pg_try_advisory_lock(1346850899, :"schema".pgpubsub_bucket_v1(channel))
    AND pg_catalog.pg_advisory_unlock(1346850899, :"schema".pgpubsub_bucket_v1(channel))
) IS NOT TRUE ELSE false END
$pgpubsub$;
