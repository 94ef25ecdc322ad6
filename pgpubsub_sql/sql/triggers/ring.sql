-- After storing: FOUND tells whether the statement changed any row.
IF FOUND THEN
        PERFORM :"schema".pgpubsub_ring(:'channel');
    END IF;
