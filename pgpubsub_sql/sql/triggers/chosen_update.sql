-- The rows of an UPDATE as the options choose them. Those that are not paired count as changed.
SELECT CASE WHEN old.pgpubsub_position IS NOT NULL THEN :{old} END AS old,
                CASE WHEN new.pgpubsub_position IS NOT NULL THEN :{new} END AS new
            FROM (SELECT row_number() OVER () * channel_function.pairing AS pgpubsub_position, o.* FROM pgpubsub_old AS o) AS old
            FULL JOIN (SELECT row_number() OVER () AS pgpubsub_position, n.* FROM pgpubsub_new AS n) AS new
            ON old.pgpubsub_position = new.pgpubsub_position
            WHERE (old.pgpubsub_position IS NULL OR new.pgpubsub_position IS NULL OR :{changed})
                AND :{condition}
            ORDER BY abs(coalesce(old.pgpubsub_position, new.pgpubsub_position))
