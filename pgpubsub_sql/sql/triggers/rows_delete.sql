-- The rows of a DELETE.
SELECT to_jsonb(o.*) AS old, NULL::jsonb AS new FROM pgpubsub_old AS o
