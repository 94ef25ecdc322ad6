-- The rows of an INSERT.
SELECT NULL::jsonb AS old, to_jsonb(n.*) AS new FROM pgpubsub_new AS n
