-- The same for each row, which is chosen by what tries it. A plan that a session has made before a
-- column was retyped fails for ever, so the second attempt makes a new one.
BEGIN
            :{types}
            SELECT changed.old, changed.new INTO picked
            FROM (:{rows}) AS changed;
        EXCEPTION WHEN OTHERS THEN
            BEGIN
                :{types_again}
                EXECUTE :'again' INTO picked USING OLD, NEW, TG_OP;
            EXCEPTION WHEN OTHERS THEN
                stale := true;
            END;
        END;
        IF stale THEN
        :{whole}
        ELSE
        :{chosen}
        END IF;
