-- What is done once for all the rows of an INSERT.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'INSERT' THEN
        :{deliver}
    END IF;
