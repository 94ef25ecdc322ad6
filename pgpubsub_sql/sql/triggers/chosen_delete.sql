-- The rows of a DELETE as the options choose them.
SELECT :{old} AS old, NULL::jsonb AS new
            FROM pgpubsub_old AS old :{no_new}
            WHERE :{condition}
