-- After storing: FOUND tells whether the statement changed any row.
IF FOUND THEN
        PERFORM :"helpers".pgpubsub_ring(:'channel');
    END IF;
