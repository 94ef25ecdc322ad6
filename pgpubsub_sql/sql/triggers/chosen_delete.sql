-- The rows of a DELETE as the options choose them. The join makes a new row of nothing but NULL.
SELECT :{old} AS old, NULL::jsonb AS new
            FROM pgpubsub_old AS old LEFT JOIN pgpubsub_old AS new ON false
            WHERE :{condition}
