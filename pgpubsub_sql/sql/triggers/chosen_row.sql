-- The row that a trigger FOR EACH ROW is called for, if the options choose it.
SELECT CASE WHEN TG_OP <> 'INSERT' THEN :{old} END AS old,
                CASE WHEN TG_OP <> 'DELETE' THEN :{new} END AS new
            :{source}
            WHERE (TG_OP <> 'UPDATE' OR :{changed})
                AND :{condition}
