-- The rows of an INSERT as the options choose them.
SELECT NULL::jsonb AS old, :{new} AS new
            FROM pgpubsub_new AS new :{no_old}
            WHERE :{condition}
