-- Names columns, which may have been renamed, dropped or retyped since: then rows travel whole.
-- Only what reads is tried. Around a write, each statement would take a transaction id more.
BEGIN
            :{types}
            :{attempt}
        EXCEPTION WHEN OTHERS THEN
            stale := true;
        END;
        IF stale THEN
        :{whole}
        ELSE
        :{chosen}
        END IF;
