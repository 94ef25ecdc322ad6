-- What is done for a TRUNCATE.
IF TG_OP = 'TRUNCATE' THEN
        :{deliver}
    END IF;
