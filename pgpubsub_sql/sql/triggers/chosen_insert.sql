-- The rows of an INSERT as the options choose them. The join makes an old row of nothing but NULL.
SELECT NULL::jsonb AS old, :{new} AS new
            FROM pgpubsub_new AS new LEFT JOIN pgpubsub_new AS old ON false
            WHERE :{condition}
